/* A training step when memory runs out: every allocation fails once, alone and with all that follow, and
 * the arena at every place where it is asked for more. Each time the step says that memory ran out,
 * nothing stays allocated, and the next step has the right bytes. */
#include "tests/faults.h"
#include "tests/train_case.h"

enum { BLOCK = 16 << 20 }; /* the arena's first */

typedef struct Step {
    TrainCase c;
    bool checkpoint;
    real *after; /* the parameters and all else in Parameters.memory, after a good step */
    size_t bytes;
} Step;

/* Parameters (all: glibc's regcomp leaks where it gets no memory), encoding, loss, gradients, AdamW. `after`: where the outcome goes, or NULL. */
static void run_in(Context *ctx, Step *s, real *after) {
    TrainCase *c = &s->c;
    Tape tape = {.checkpoint = s->checkpoint};
    Parameters p;
    const size_t before = ctx->arena.in_use;
    ctx->tape = &tape;
    const ParametersOptions options = {.weight_decay = 0.1};
    if (parameters_open(&p, c->pack.adapter, c->pack.unet, &options, &ctx->error) == 0) {
        train_case_run(c, ctx, &p, 0, 2);
        clip_gradients(ctx, p.learned, p.learned_count, 0.1);
        for (int64_t i = 0; i < p.learned_count && !ctx->error.set; i++)
            adamw_step(ctx, &(AdamW){1e-3, 0.9, 0.99, 1e-8}, 1, &p.learned[i]);
        if (after && !ctx->error.set) memcpy(after, p.memory, s->bytes);
        s->bytes = (size_t)(p.gradient + 3 * p.numbers - p.memory) * sizeof(real);
        parameters_close(&p);
    }
    if (!ctx->error.set) assert_int_equal(ctx->arena.in_use, before);
    assert_int_equal(tape.count, 0);
    assert_int_equal(tape.in_use, 0);
    assert_int_equal(ctx->arena.pin.in_use, 0);
    tape_free(&tape);
}

static void run(Step *s, Error *err, real *after) {
    Context ctx = {.threads = 1};
    run_in(&ctx, s, after);
    *err = ctx.error;
    context_free(&ctx);
}

static void open_step(Step *s, bool checkpoint) {
    Error err;
    *s = (Step){.checkpoint = checkpoint};
    train_case_open(&s->c, "train_plain"); /* which points into itself */
    run(s, &err, NULL);
    assert_false(err.set);
    s->after = malloc(s->bytes);
    assert_non_null(s->after);
    run(s, &err, s->after);
    assert_false(err.set);
    const Parameters loaded = {.adapter = *s->c.pack.adapter};
    Context ctx = {.threads = 1};
    const real loss = (real)train_case_run(&s->c, &ctx, &loaded, 0, 2);
    golden_check_data(s->c.golden, "train/loss", &loss, 1, (int64_t[]){1}, MODULE);
    context_free(&ctx);
}

static void close_step(Step *s) {
    Error err;
    real *again = malloc(s->bytes);
    assert_non_null(again);
    run(s, &err, again);
    assert_false(err.set);
    assert_memory_equal(again, s->after, s->bytes);
    free(again);
    free(s->after);
    train_case_close(&s->c);
}

static void assert_out_of_memory(const Error *err, const char *what, size_t k) {
    if (!err->set || !strstr(err->message, "out of memory"))
        fail_msg("%s %d failed: \"%s\"", what, (int)k, err->set ? err->message : "no error");
}

static void every_allocation(void **state) {
    Step s;
    open_step(&s, *(const bool *)*state);
    Error err;
    faults_begin(RECORD, 0);
    run(&s, &err, NULL);
    const Faults all = faults_end();
    assert_false(err.set);
    assert_int_equal(all.live, 0);
    print_message("%d allocations\n", (int)all.count);
    assert_true(all.count > 100);
    for (size_t k = 1; k <= all.count; k++)
        for (int mode = 0; mode < 2; mode++) {
            faults_begin(mode ? FAIL_FROM : FAIL_ONE, k);
            run(&s, &err, NULL);
            const Faults f = faults_end();
            assert_true(f.failed > 0);
            if (f.live) fail_msg("allocation %d failed: %d are left", (int)k, (int)f.live);
            assert_out_of_memory(&err, "allocation", k);
        }
    close_step(&s);
}

static void every_growth(void **state) {
    Step s;
    open_step(&s, *(const bool *)*state);
    real *again = malloc(s.bytes);
    int failures = 0;
    assert_non_null(again);
    for (size_t room = 0;; room += 32768) {
        Context ctx = {.threads = 1};
        assert_non_null(arena_alloc(&ctx.arena, BLOCK - room - 2 * ARENA_ALIGN));
        const ArenaMark mark = scope_begin(&ctx);
        faults_begin(FAIL_ALIGNED, 0);
        run_in(&ctx, &s, NULL);
        const Faults f = faults_end();
        const bool failed = ctx.error.set;
        assert_int_equal(failed, f.failed > 0);
        if (failed) assert_out_of_memory(&ctx.error, "growth", room);
        failures += failed;
        /* the same context, with memory */
        arena_release(&ctx.arena, mark);
        ctx.error.set = false;
        run_in(&ctx, &s, again);
        assert_context_ok(&ctx);
        assert_memory_equal(again, s.after, s.bytes);
        context_free(&ctx);
        if (!failed) break;
    }
    free(again);
    print_message("%d growths\n", failures);
    assert_true(failures > 10);
    close_step(&s);
}

static int prepare(void **state) {
    (void)state;
    faults_init();
    return 0;
}

int main(void) {
    static bool no = false, yes = true;
    if (faults_unsupported()) {
        printf("skipped: allocations that fail: %s\n[  SKIPPED ] 1 test(s).\n",
               faults_unsupported());
        return 0;
    }
    const struct CMUnitTest tests[] = {
        {"every allocation", every_allocation, NULL, NULL, &no},
        {"every allocation, checkpointed", every_allocation, NULL, NULL, &yes},
        {"every growth of the arena", every_growth, NULL, NULL, &no},
        {"every growth of the arena, checkpointed", every_growth, NULL, NULL, &yes},
    };
    return cmocka_run_group_tests_name("a training step without memory", tests, prepare, NULL);
}
