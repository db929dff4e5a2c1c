/* The arena, scopes, the sticky error, and what an observer sees. */
#include "tests/test_tensor.h"

#include <stdio.h>

/* ---- arena -------------------------------------------------------------------------------------- */

static void test_arena_aligns(void **state) {
    (void)state;
    Arena a = {0};
    for (size_t bytes = 0; bytes < 300; bytes += 7)
        assert_int_equal((uintptr_t)arena_alloc(&a, bytes) % ARENA_ALIGN, 0);
    arena_free(&a);
}

static void test_arena_release_reuses(void **state) {
    (void)state;
    Arena a = {0};
    void *before = arena_alloc(&a, 100);
    ArenaMark mark = arena_mark(&a);
    size_t in_use = a.in_use;
    void *scratch = arena_alloc(&a, 1000);
    assert_ptr_not_equal(before, scratch);
    arena_release(&a, mark);
    assert_int_equal(a.in_use, in_use);
    assert_ptr_equal(arena_alloc(&a, 10), scratch);
    arena_free(&a);
}

static void test_arena_release_to_empty(void **state) {
    (void)state;
    Arena a = {0};
    ArenaMark empty = arena_mark(&a);
    void *first = arena_alloc(&a, 64);
    arena_release(&a, empty);
    assert_int_equal(a.in_use, 0);
    assert_ptr_equal(arena_alloc(&a, 64), first);
    arena_free(&a);
}

static void test_arena_keeps_across_blocks(void **state) {
    (void)state;
    Arena a = {0};
    const size_t big = (size_t)20 << 20; /* more than a first block: each allocation has its own */
    arena_alloc(&a, big);
    ArenaMark mark = arena_mark(&a);
    arena_alloc(&a, big);
    unsigned char *result = arena_alloc(&a, big);
    for (size_t i = 0; i < big; i += 4096) result[i] = (unsigned char)(i >> 12);
    unsigned char *kept = arena_release_keeping(&a, mark, result, big);
    for (size_t i = 0; i < big; i += 4096) assert_int_equal(kept[i], (unsigned char)(i >> 12));
    unsigned char *next = arena_alloc(&a, 64);
    assert_true(next >= kept + big || next + 64 <= kept);
    arena_free(&a);
}

/* A release empties every block behind the mark, so that the same allocations find the same places. */
static void test_arena_releases_all_blocks(void **state) {
    (void)state;
    enum { BLOCKS = 5 };
    Arena a = {0};
    const size_t big = (size_t)20 << 20; /* more than half of any block but the last */
    arena_alloc(&a, 64);
    ArenaMark mark = arena_mark(&a);
    void *first[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) first[i] = arena_alloc(&a, big);
    for (int run = 0; run < 2; run++) {
        arena_release(&a, mark);
        for (int i = 0; i < BLOCKS; i++) assert_ptr_equal(arena_alloc(&a, big), first[i]);
    }
    arena_free(&a);
}

static void test_arena_keeps_overlapping(void **state) {
    (void)state;
    Arena a = {0};
    ArenaMark mark = arena_mark(&a);
    arena_alloc(&a, 64);
    unsigned char *result = arena_alloc(&a, 1000);
    for (size_t i = 0; i < 1000; i++) result[i] = (unsigned char)i;
    unsigned char *kept = arena_release_keeping(&a, mark, result, 1000);
    assert_true(kept < result);
    for (size_t i = 0; i < 1000; i++) assert_int_equal(kept[i], (unsigned char)i);
    arena_free(&a);
}

static void test_arena_peak(void **state) {
    (void)state;
    Arena a = {0};
    ArenaMark mark = arena_mark(&a);
    arena_alloc(&a, 1 << 20);
    size_t peak = a.peak;
    assert_true(peak >= 1 << 20);
    arena_release(&a, mark);
    arena_alloc(&a, 64);
    assert_int_equal(a.peak, peak);
    assert_true(a.in_use < peak);
    arena_free(&a);
}

static void test_arena_refuses_overflow(void **state) {
    (void)state;
    Arena a = {0};
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX / 2 + 1));
    arena_free(&a);
}

/* ---- tensors and scopes ------------------------------------------------------------------------- */

static void test_views(void **state) {
    (void)state;
    Context ctx = {0};
    Tensor x = filled(TENSOR_NEW(&ctx, 3, 4, 5), 1);
    assert_int_equal(tensor_numel(x), 60);
    assert_int_equal(tensor_rows(x), 12);
    assert_int_equal(tensor_cols(x), 5);
    Tensor second = tensor_at(x, 1);
    assert_int_equal(second.ndim, 2);
    assert_ptr_equal(second.data, x.data + 20);
    Tensor flat = TENSOR_VIEW(x, 6, 10);
    assert_ptr_equal(flat.data, x.data);
    assert_int_equal(tensor_cols(flat), 10);
    Tensor copy = tensor_copy(&ctx, x);
    assert_ptr_not_equal(copy.data, x.data);
    assert_same_bytes(copy, x);
    context_free(&ctx);
}

static void test_scope_keeps_result(void **state) {
    (void)state;
    Context ctx = {0};
    TENSOR_NEW(&ctx, 10);
    size_t before = ctx.arena.in_use;
    ArenaMark mark = scope_begin(&ctx);
    TENSOR_NEW(&ctx, 1000);
    Tensor y = filled(TENSOR_NEW(&ctx, 7, 11), 3);
    y = scope_end(&ctx, mark, y);
    Tensor expected = filled(TENSOR_NEW(&ctx, 7, 11), 3);
    assert_same_bytes(y, expected);
    assert_true(ctx.arena.in_use <= before + 2 * (77 * sizeof(real) + 2 * ARENA_ALIGN));
    context_free(&ctx);
}

static void test_scope_of_nothing(void **state) {
    (void)state;
    Context ctx = {0};
    ArenaMark mark = scope_begin(&ctx);
    TENSOR_NEW(&ctx, 1000);
    assert_null(scope_end(&ctx, mark, (Tensor){0}).data);
    assert_int_equal(ctx.arena.in_use, 0);
    context_free(&ctx);
}

static void test_operators_release_scratch(void **state) {
    (void)state;
    Context ctx = {.threads = 2};
    Parameter w = PARAMETER(1, 6, 4, 3, 3), n = PARAMETER(2, 4);
    w.w.dtype = DTYPE_F16; /* half of the memory is read, and must be widened in scratch */
    Tensor x = filled(TENSOR_NEW(&ctx, 1, 9, 9, 4), 3);
    Tensor rows = TENSOR_VIEW(x, 1, 81, 4), keys = tensor_at(rows, 0);
    for (int op = 0; op < 4; op++) {
        size_t before = ctx.arena.in_use;
        Tensor y = op == 0   ? conv2d(&ctx, x, &w.w, NULL, (Conv2d){1, 1, 1, 1, 1})
                   : op == 1 ? group_norm(&ctx, x, &n.w, NULL, 2, 1e-5)
                   : op == 2 ? layer_norm(&ctx, x, &n.w, NULL, 1e-5)
                             : attention(&ctx, rows, &keys, &keys, 2, 2, MASK_NONE);
        size_t bytes = (size_t)tensor_numel(y) * sizeof(real);
        assert_true(ctx.arena.in_use <= before + bytes + 2 * ARENA_ALIGN);
    }
    assert_context_ok(&ctx);
    free(w.memory);
    free(n.memory);
    context_free(&ctx);
}

/* ---- the sticky error --------------------------------------------------------------------------- */

static void test_error_first_stays(void **state) {
    (void)state;
    Error e = {0};
    assert_int_equal(fail(&e, "first %d", 1), -1);
    assert_int_equal(fail(&e, "second"), -1);
    assert_true(e.set);
    assert_string_equal(e.message, "first 1");
}

static void test_error_is_cut_to_size(void **state) {
    (void)state;
    Error e = {0};
    fail(&e, "%20000d", 1);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
}

static void test_failed_context_computes_nothing(void **state) {
    (void)state;
    Context ctx = {0};
    fail(&ctx.error, "the cause");
    Tensor none = {0};
    Parameter w = PARAMETER(1, 4, 4);
    int64_t id = 0;
    assert_null(TENSOR_NEW(&ctx, 4).data);
    assert_null(tensor_copy(&ctx, none).data);
    assert_null(tensor_at(none, 0).data);
    assert_null(TENSOR_VIEW(none, 4).data);
    assert_null(scratch_reals(&ctx, 1));
    assert_null(linear(&ctx, none, &w.w, NULL).data);
    assert_null(conv2d(&ctx, none, &w.w, NULL, (Conv2d){1, 0, 0, 0, 0}).data);
    assert_null(layer_norm(&ctx, none, &w.w, NULL, 1e-5).data);
    assert_null(rms_norm(&ctx, none, &w.w, 1e-5).data);
    assert_null(group_norm(&ctx, none, &w.w, NULL, 1, 1e-5).data);
    assert_null(silu(&ctx, none).data);
    assert_null(gelu(&ctx, none).data);
    assert_null(gelu_new(&ctx, none).data);
    assert_null(quick_gelu(&ctx, none).data);
    assert_null(geglu(&ctx, none).data);
    assert_null(softmax(&ctx, none).data);
    assert_null(attention(&ctx, none, &none, &none, 1, 1, MASK_NONE).data);
    assert_null(rope(&ctx, none, 1, 2, 1e4, 1, 0).data);
    assert_null(embedding(&ctx, &id, 1, &w.w).data);
    assert_null(resize_nearest(&ctx, none, 2, 2).data);
    assert_null(add(&ctx, none, none).data);
    assert_null(sub(&ctx, none, none).data);
    assert_null(scale(&ctx, none, 2).data);
    assert_null(axpby(&ctx, 1, none, 1, none).data);
    assert_null(add_channels(&ctx, none, none).data);
    assert_null(concat(&ctx, none, none).data);
    assert_null(channels_last(&ctx, none).data);
    assert_null(channels_first(&ctx, none).data);
    bias_add(&ctx, none, &w.w);
    gemm_weight(&ctx, 1, 1, 1, NULL, &w.w, NULL);
    observe(&ctx, none, "x");
    observe_each(&ctx, none, "x");
    assert_string_equal(ctx.error.message, "the cause");
    assert_int_equal(ctx.arena.in_use, 0);
    free(w.memory);
    context_free(&ctx);
}

static void test_out_of_memory(void **state) {
    (void)state;
    Context ctx = {0};
    const int64_t huge = (int64_t)1 << 31;
    assert_null(TENSOR_NEW(&ctx, huge, huge).data);
    assert_true(ctx.error.set);
    assert_non_null(strstr(ctx.error.message, "out of memory"));
    assert_null(TENSOR_NEW(&ctx, 1).data); /* nor does anything work later */
    context_free(&ctx);
}

static void test_element_count_overflows(void **state) {
    (void)state;
    Context ctx = {0};
    const int64_t huge = (int64_t)1 << 40;
    assert_null(TENSOR_NEW(&ctx, huge, huge, huge).data);
    assert_non_null(strstr(ctx.error.message, "out of memory"));
    context_free(&ctx);
}

/* ---- observing ---------------------------------------------------------------------------------- */

typedef struct Seen {
    char names[512];
    int ndim;
    int64_t dim[MAX_DIMS];
    real last[64];
    int64_t n;
} Seen;

static void remember(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    Seen *s = self;
    strcat(strcat(s->names, name), ";");
    s->ndim = ndim;
    s->n = 1;
    for (int i = 0; i < ndim; i++) s->n *= s->dim[i] = dim[i];
    assert_true(s->n <= 64);
    memcpy(s->last, data, (size_t)s->n * sizeof(real));
}

static void test_observe_names(void **state) {
    (void)state;
    Seen seen = {{0}, 0, {0}, {0}, 0};
    Observer o = {remember, &seen};
    Context ctx = {.observer = &o};
    Tensor x = filled(TENSOR_NEW(&ctx, 3, 4), 1);
    observe(&ctx, x, "llm/x.%d", 24);
    assert_string_equal(seen.names, "llm/x.24;");
    assert_int_equal(seen.ndim, 2);
    assert_int_equal(seen.dim[0], 3);
    assert_memory_equal(seen.last, x.data, 12 * sizeof(real));
    context_free(&ctx);
}

static void test_observe_each_map(void **state) {
    (void)state;
    Seen seen = {{0}, 0, {0}, {0}, 0};
    Observer o = {remember, &seen};
    Context ctx = {.observer = &o, .prefix = {"cond/", "uncond/"}};
    Tensor x = filled(TENSOR_NEW(&ctx, 2, 3, 4, 5), 1);
    size_t before = ctx.arena.in_use;
    observe_each(&ctx, x, "block.%d", 7);
    assert_int_equal(ctx.arena.in_use, before);
    assert_string_equal(seen.names, "cond/block.7;uncond/block.7;");
    const int64_t shape[3] = {5, 3, 4}; /* upstream's [C, H, W] */
    assert_int_equal(seen.ndim, 3);
    assert_memory_equal(seen.dim, shape, sizeof shape);
    const real *last = x.data + 60;
    for (int c = 0; c < 5; c++)
        for (int p = 0; p < 12; p++) assert_true(seen.last[c * 12 + p] == last[p * 5 + c]);
    context_free(&ctx);
}

static void test_observe_each_rows(void **state) {
    (void)state;
    Seen seen = {{0}, 0, {0}, {0}, 0};
    Observer o = {remember, &seen};
    Context ctx = {.observer = &o}; /* no prefixes */
    Tensor x = filled(TENSOR_NEW(&ctx, 2, 3, 4), 1);
    observe_each(&ctx, x, "attn1");
    assert_string_equal(seen.names, "attn1;attn1;");
    assert_int_equal(seen.ndim, 2);
    assert_memory_equal(seen.last, x.data + 12, 12 * sizeof(real));
    context_free(&ctx);
}

static void stops_at(real bad) {
    Seen seen = {{0}, 0, {0}, {0}, 0};
    Observer o = {remember, &seen};
    Context ctx = {.observer = &o};
    Tensor x = filled(TENSOR_NEW(&ctx, 7, 5), 1);
    observe(&ctx, x, "before");
    x.data[34] = bad;
    observe(&ctx, x, "stage.%d", 3);
    assert_true(ctx.error.set);
    assert_non_null(strstr(ctx.error.message, "stage.3"));
    assert_non_null(strstr(ctx.error.message, "not finite"));
    assert_string_equal(seen.names, "before;");
    assert_null(silu(&ctx, x).data);
    context_free(&ctx);
}

static void test_observe_stops_at_nan(void **state) {
    (void)state;
    stops_at((real)NAN);
}

static void test_observe_stops_at_infinity(void **state) {
    (void)state;
    stops_at((real)INFINITY);
    stops_at((real)-INFINITY);
}

static void test_observe_without_observer(void **state) {
    (void)state;
    Context ctx = {.prefix = {"cond/", "uncond/"}};
    Tensor x = filled(TENSOR_NEW(&ctx, 2, 2, 2, 2), 1);
    observe_each(&ctx, x, "fine");
    assert_context_ok(&ctx);
    x.data[15] = (real)NAN;
    observe_each(&ctx, x, "bad");
    assert_non_null(strstr(ctx.error.message, "uncond/bad"));
    context_free(&ctx);
}

static bool after_three(void *self) { return ++*(int *)self > 3; }

static void test_cancelled(void **state) {
    (void)state;
    int polls = 0;
    Context ctx = {.cancelled = after_three, .cancelled_self = &polls};
    Tensor x = filled(TENSOR_NEW(&ctx, 2), 1);
    for (int i = 0; i < 10; i++) observe(&ctx, x, "step.%d", i);
    assert_int_equal(polls, 4); /* none once the run has stopped */
    assert_non_null(strstr(ctx.error.message, "cancelled at step.3"));
    context_free(&ctx);
}

/* ---- forcing -------------------------------------------------------------------------------------- */

/* Puts index + 100 in place of whatever has that name. */
typedef struct Forced {
    const char *name;
    bool refuse;
    int asked;
} Forced;

static bool force_count(void *self, const char *name, real *data, int ndim, const int64_t *dim,
                        Error *err) {
    Forced *f = self;
    f->asked++;
    if (strcmp(name, f->name) != 0) return false;
    if (f->refuse) return fail(err, "%s: refused", name), false;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= dim[i];
    for (int64_t i = 0; i < n; i++) data[i] = (real)(i + 100);
    return true;
}

static void test_force_rows(void **state) {
    (void)state;
    Seen seen = {{0}, 0, {0}, {0}, 0};
    Observer o = {remember, &seen};
    Forced forced = {.name = "x.2"};
    Forcing f = {force_count, &forced};
    Context ctx = {.observer = &o, .forcing = &f};
    Tensor x = filled(TENSOR_NEW(&ctx, 3, 4), 1), before = tensor_copy(&ctx, x);
    observe(&ctx, x, "x.%d", 1);
    assert_memory_equal(x.data, before.data, 12 * sizeof(real));
    observe(&ctx, x, "x.%d", 2);
    assert_memory_equal(seen.last, before.data, 12 * sizeof(real)); /* shown as computed */
    for (int i = 0; i < 12; i++) assert_true(x.data[i] == (real)(i + 100));
    observe_scalar(&ctx, 1, "x.2");
    assert_int_equal(forced.asked, 2);
    assert_context_ok(&ctx);
    context_free(&ctx);
}

static void test_force_one_map_of_a_batch(void **state) {
    (void)state;
    Forced forced = {.name = "uncond/block"};
    Forcing f = {force_count, &forced};
    Context ctx = {.forcing = &f, .prefix = {"cond/", "uncond/"}}; /* nobody observes */
    Tensor x = filled(TENSOR_NEW(&ctx, 2, 3, 4, 5), 1), before = tensor_copy(&ctx, x);
    size_t in_use = ctx.arena.in_use;
    observe_each(&ctx, x, "block");
    assert_context_ok(&ctx);
    assert_int_equal(ctx.arena.in_use, in_use);
    assert_memory_equal(x.data, before.data, 60 * sizeof(real));
    for (int c = 0; c < 5; c++)
        for (int p = 0; p < 12; p++)
            assert_true(x.data[60 + p * 5 + c] == (real)(c * 12 + p + 100)); /* [C, H, W] */
    context_free(&ctx);
}

static void test_force_refuses(void **state) {
    (void)state;
    Forced forced = {.name = "x", .refuse = true};
    Forcing f = {force_count, &forced};
    Context ctx = {.forcing = &f};
    Tensor x = filled(TENSOR_NEW(&ctx, 1, 3, 4, 5), 1), before = tensor_copy(&ctx, x);
    observe_each(&ctx, x, "x");
    assert_string_equal(ctx.error.message, "x: refused");
    assert_memory_equal(x.data, before.data, 60 * sizeof(real));
    observe(&ctx, x, "x");
    assert_int_equal(forced.asked, 1);
    context_free(&ctx);
}

/* Forcing hides nothing: what was computed is checked first. */
static void test_force_after_the_check(void **state) {
    (void)state;
    Forced forced = {.name = "x"};
    Forcing f = {force_count, &forced};
    Context ctx = {.forcing = &f};
    Tensor x = filled(TENSOR_NEW(&ctx, 3, 4), 1);
    x.data[7] = (real)NAN;
    observe(&ctx, x, "x");
    assert_non_null(strstr(ctx.error.message, "x: a value is not finite"));
    assert_int_equal(forced.asked, 0);
    context_free(&ctx);
}

static void test_dtypes(void **state) {
    (void)state;
    assert_int_equal(dtype_size(DTYPE_F64), 8);
    assert_int_equal(dtype_size(DTYPE_BF16), 2);
    assert_int_equal(dtype_size(DTYPE_BOOL), 1);
    assert_string_equal(dtype_name(DTYPE_F16), "F16");
    assert_string_equal(dtype_name(DTYPE_BOOL), "BOOL");
    assert_string_equal(dtype_name(DTYPE_I64), "I64");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_aligns),
        cmocka_unit_test(test_arena_release_reuses),
        cmocka_unit_test(test_arena_release_to_empty),
        cmocka_unit_test(test_arena_keeps_across_blocks),
        cmocka_unit_test(test_arena_releases_all_blocks),
        cmocka_unit_test(test_arena_keeps_overlapping),
        cmocka_unit_test(test_arena_peak),
        cmocka_unit_test(test_arena_refuses_overflow),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_scope_keeps_result),
        cmocka_unit_test(test_scope_of_nothing),
        cmocka_unit_test(test_operators_release_scratch),
        cmocka_unit_test(test_error_first_stays),
        cmocka_unit_test(test_error_is_cut_to_size),
        cmocka_unit_test(test_failed_context_computes_nothing),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_element_count_overflows),
        cmocka_unit_test(test_observe_names),
        cmocka_unit_test(test_observe_each_map),
        cmocka_unit_test(test_observe_each_rows),
        cmocka_unit_test(test_observe_stops_at_nan),
        cmocka_unit_test(test_observe_stops_at_infinity),
        cmocka_unit_test(test_observe_without_observer),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_force_rows),
        cmocka_unit_test(test_force_one_map_of_a_batch),
        cmocka_unit_test(test_force_refuses),
        cmocka_unit_test(test_force_after_the_check),
        cmocka_unit_test(test_dtypes),
    };
    return cmocka_run_group_tests_name("tensor context", tests, NULL, NULL);
}
