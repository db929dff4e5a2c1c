/* What a tape must do exactly: record what is learned and nothing else, sum what is used twice, respect
 * views and scopes, give checkpointed segments the same bytes, keep no memory, not depend on threads;
 * and central differences of a whole network, for what no single operator shows. */
#include "tests/tape_net.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static Tensor leaf(Context *ctx, real *data, real *grad, int64_t rows, int64_t cols) {
    Tensor x = {.data = data, .ndim = 2, .dim = {rows, cols, 1, 1}};
    memset(grad, 0, (size_t)(rows * cols) * sizeof(real));
    return tape_variable(ctx, x, grad);
}

static void done(Context *ctx, Tape *tape) {
    assert_context_ok(ctx);
    assert_int_equal(tape->count, 0);
    assert_int_equal(tape->in_use, 0);
    assert_int_equal(ctx->arena.pin.in_use, 0);
    tape_free(tape);
    context_free(ctx);
}

/* ---- what is recorded --------------------------------------------------------------------------- */

static void test_constants_record_nothing(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    Net net = net_new(6, 5, 8, 1);
    for (int i = 0; i < WEIGHTS + INPUTS; i++) net.part[i].learned = false;
    Tensor loss = net_forward(&ctx, &net);
    assert_int_equal(loss.var, 0);
    assert_int_equal(tape.count, 0);
    assert_null(tape.node);
    Context plain = {.threads = 1};
    assert_same_bytes(net_forward(&plain, &net), loss);
    net.checkpoint = net.nested = true;
    assert_same_bytes(net_forward(&ctx, &net), loss);
    assert_int_equal(tape.count, 0);
    context_free(&plain);
    net_free(&net);
    done(&ctx, &tape);
}

/* With tau and the scalars learned, as in training: nothing is recorded before them, and the frozen
 * parts get no gradient; those learned get the same bytes as when all is. */
static void test_frozen_parts(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 2, .tape = &tape};
    Net all = net_new(6, 5, 8, 2), some = net_new(6, 5, 8, 2);
    net_zero(&all);
    for (int i = 0; i < WEIGHTS + INPUTS; i++) {
        some.part[i].learned = i >= TAU_Q && i <= B2;
        for (int64_t j = 0; j < some.part[i].n; j++)
            some.part[i].grad[j] = some.part[i].learned ? 0 : 77;
    }
    ArenaMark mark = scope_begin(&ctx);
    assert_true(net_forward(&ctx, &some).var != 0);
    const int64_t few = tape.count;
    tape_clear(&ctx);
    arena_release(&ctx.arena, mark);
    assert_true(net_forward(&ctx, &all).var != 0);
    assert_true(few < tape.count - 15);
    tape_clear(&ctx);
    arena_release(&ctx.arena, mark);
    assert_true(net_backward(&ctx, &all) == net_backward(&ctx, &some));
    for (int i = 0; i < WEIGHTS + INPUTS; i++) {
        const size_t bytes = (size_t)all.part[i].n * sizeof(real);
        if (some.part[i].learned) assert_memory_equal(all.part[i].grad, some.part[i].grad, bytes);
        for (int64_t j = 0; !some.part[i].learned && j < some.part[i].n; j++)
            assert_true(some.part[i].grad[j] == 77);
    }
    net_free(&all);
    net_free(&some);
    done(&ctx, &tape);
}

static void count_seen(void *self, const char *name, const real *data, int ndim,
                       const int64_t *dim) {
    (void)name, (void)data, (void)ndim, (void)dim;
    ++*(int *)self;
}

/* Looking at maps turns them round, which is not part of the computation. */
static void test_observers_record_nothing(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    Net net = net_new(6, 5, 8, 14);
    int seen = 0;
    const Observer observer = {count_seen, &seen};
    int64_t nodes[2];
    for (int look = 0; look < 2; look++) {
        ArenaMark mark = scope_begin(&ctx);
        ctx.observer = look ? &observer : NULL;
        net_forward(&ctx, &net);
        nodes[look] = tape.count;
        tape_clear(&ctx);
        arena_release(&ctx.arena, mark);
    }
    assert_int_equal(seen, 2);
    assert_int_equal(nodes[0], nodes[1]);
    net_free(&net);
    done(&ctx, &tape);
}

/* A Weight's gradient is left alone where there is no tape. */
static void test_no_tape(void **state) {
    (void)state;
    Context ctx = {.threads = 1};
    Net net = net_new(6, 5, 8, 3);
    for (int i = 0; i < WEIGHTS + INPUTS; i++) net.part[i].grad[0] = 77;
    assert_int_equal(net_forward(&ctx, &net).var, 0);
    assert_context_ok(&ctx);
    for (int i = 0; i < WEIGHTS + INPUTS; i++) assert_true(net.part[i].grad[0] == 77);
    net_free(&net);
    context_free(&ctx);
}

/* What the result doesn't depend on is not walked; a gradient passes from any tensor, not only a loss. */
static void test_only_what_is_reached(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    real a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8}, da[4], db[4];
    Tensor x = leaf(&ctx, a, da, 2, 2), y = leaf(&ctx, b, db, 2, 2);
    Tensor product = mul(&ctx, x, x);
    mul(&ctx, product, y);
    tape_backward(&ctx, product, (real[]){1, 10, 100, 1000});
    assert_memory_equal(da, ((real[]){2, 40, 600, 8000}), sizeof da);
    assert_memory_equal(db, ((real[]){0, 0, 0, 0}), sizeof db);
    done(&ctx, &tape);
}

static void test_constant_result(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    real a[4] = {1, 2, 3, 4}, da[4];
    leaf(&ctx, a, da, 2, 2);
    Tensor c = filled(TENSOR_NEW(&ctx, 3), 1);
    tape_backward(&ctx, c, NULL);
    for (int i = 0; i < 4; i++) assert_true(da[i] == 0);
    Tensor nobody = tape_variable(&ctx, c, NULL);
    assert_int_equal(nobody.var, 0);
    done(&ctx, &tape);
}

/* ---- sums and views ----------------------------------------------------------------------------- */

static void test_used_twice(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    real a[4] = {1, 2, 3, 4}, da[4];
    Tensor x = leaf(&ctx, a, da, 2, 2);
    tape_backward(&ctx, add(&ctx, x, x), NULL);
    assert_memory_equal(da, ((real[]){2, 2, 2, 2}), sizeof da);

    const int64_t before = x.var;
    x = leaf(&ctx, a, da, 2, 2);
    assert_true(x.var > before); /* a Tensor of the last walk isn't taken for one of this */
    tape_backward(&ctx, sub(&ctx, x, x), NULL);
    assert_memory_equal(da, ((real[]){0, 0, 0, 0}), sizeof da);

    x = leaf(&ctx, a, da, 2, 2);
    tape_backward(&ctx, concat(&ctx, x, x), (real[]){1, 2, 3, 4, 5, 6, 7, 8});
    assert_memory_equal(da, ((real[]){4, 6, 12, 14}), sizeof da);

    /* x (x + x^2): 2 x + 3 x^2 */
    x = leaf(&ctx, a, da, 2, 2);
    tape_backward(&ctx, mul(&ctx, x, add(&ctx, x, mul(&ctx, x, x))), NULL);
    assert_memory_equal(da, ((real[]){5, 16, 33, 56}), sizeof da);
    done(&ctx, &tape);
}

/* The start may itself be a leaf, in which the caller has something already. */
static void test_from_a_leaf(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    real a[4] = {1, 2, 3, 4}, da[4];
    Tensor x = leaf(&ctx, a, da, 2, 2);
    for (int i = 0; i < 4; i++) da[i] = (real)(10 * i);
    tape_backward(&ctx, x, (real[]){1, 2, 3, 4});
    assert_memory_equal(da, ((real[]){1, 12, 23, 34}), sizeof da);
    x = tape_variable(&ctx, x, da);
    tape_backward(&ctx, x, NULL);
    assert_memory_equal(da, ((real[]){2, 13, 24, 35}), sizeof da);
    done(&ctx, &tape);
}

/* Two walks add up, and so does what was there before. */
static void test_accumulates(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 2, .tape = &tape};
    Net once = net_new(6, 5, 8, 4), twice = net_new(6, 5, 8, 4);
    net_zero(&once);
    net_zero(&twice);
    net_backward(&ctx, &once);
    net_backward(&ctx, &twice);
    for (int i = 0; i < WEIGHTS + INPUTS; i++)
        assert_memory_equal(once.part[i].grad, twice.part[i].grad,
                            (size_t)once.part[i].n * sizeof(real));
    net_backward(&ctx, &twice);
    for (int i = 0; i < WEIGHTS + INPUTS; i++) {
        double largest = 0;
        for (int64_t j = 0; j < once.part[i].n; j++)
            largest = fmax(largest, fabs((double)once.part[i].grad[j]));
        assert_true(largest > 0);
        for (int64_t j = 0; j < once.part[i].n; j++) {
            const double expected = 2 * (double)once.part[i].grad[j];
            const double error = fabs((double)twice.part[i].grad[j] - expected);
            assert_true(error <= 100 * (double)REAL_EPSILON * largest);
        }
    }
    net_free(&once);
    net_free(&twice);
    done(&ctx, &tape);
}

static void test_views(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    real a[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, da[12];
    Tensor x = leaf(&ctx, a, da, 3, 4);
    /* row 2, and of it under other dimensions the second pair; row 0 */
    Tensor row = tensor_at(x, 2), pair = tensor_at(TENSOR_VIEW(row, 2, 2), 1);
    assert_int_equal(row.at, 8);
    assert_int_equal(pair.at, 10);
    Tensor y = mul(&ctx, TENSOR_VIEW(pair, 1, 2), scale(&ctx, TENSOR_VIEW(pair, 1, 2), 1));
    tape_backward(&ctx, y, NULL);
    assert_memory_equal(da, ((real[]){0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 22, 24}), sizeof da);

    x = leaf(&ctx, a, da, 3, 4);
    y = add(&ctx, tensor_at(x, 0), tensor_at(x, 1));
    tape_backward(&ctx, y, (real[]){1, 2, 3, 4});
    assert_memory_equal(da, ((real[]){1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0, 0}), sizeof da);

    /* of a result, too: and a walk may begin at a view */
    x = leaf(&ctx, a, da, 3, 4);
    y = mul(&ctx, x, x);
    tape_backward(&ctx, tensor_at(y, 1), NULL);
    assert_memory_equal(da, ((real[]){0, 0, 0, 0, 10, 12, 14, 16, 0, 0, 0, 0}), sizeof da);
    done(&ctx, &tape);
}

/* Attention that reads one variable in several places; else three copies of it, whose gradients are
 * then added. */
enum { SHARED_L = 512, SHARED_C = 64, SHARED = 2 * SHARED_L * SHARED_C };

static void shared_attention(bool whole, int64_t kv_heads, int threads, real *sum) {
    enum { L = SHARED_L, C = SHARED_C };
    static real data[SHARED], copies[3][SHARED], dy[SHARED];
    Tape tape = {0};
    Context ctx = {.threads = threads, .tape = &tape};
    uint64_t seed = 5;
    for (int i = 0; i < SHARED; i++) data[i] = (real)number(&seed), dy[i] = (real)number(&seed);
    memset(sum, 0, sizeof data);
    memset(copies, 0, sizeof copies);
    Tensor x = {.data = data, .ndim = 3, .dim = {2, L, C, 1}}, q, k, v;
    const int64_t width = C / 4 * kv_heads;
    if (whole) {
        q = k = v = tape_variable(&ctx, x, sum);
    } else {
        q = tape_variable(&ctx, x, copies[0]);
        k = tape_variable(&ctx, x, copies[1]);
        v = tape_variable(&ctx, x, copies[2]);
    }
    /* the same keys for both queries, the values each their own (grouped: the first numbers of them) */
    Tensor key = tensor_at(k, 0), each_k[2], each_v[2];
    for (int b = 0; b < 2; b++) {
        each_k[b] = key;
        each_v[b] = tensor_at(v, b);
        if (kv_heads == 4) continue;
        each_k[b] = tensor_at(TENSOR_VIEW(key, 4 / kv_heads, L, width), 0);
        each_v[b] = tensor_at(TENSOR_VIEW(each_v[b], 4 / kv_heads, L, width), 0);
    }
    tape_backward(&ctx, attention(&ctx, q, each_k, each_v, 4, kv_heads, MASK_CAUSAL), dy);
    for (int i = 0; i < SHARED && !whole; i++) sum[i] = copies[0][i] + copies[1][i] + copies[2][i];
    done(&ctx, &tape);
}

static void test_shared_keys(void **state) {
    (void)state;
    static real shared[SHARED], again[SHARED], apart[SHARED];
    for (int64_t kv_heads = 1; kv_heads <= 4; kv_heads *= 2) {
        shared_attention(true, kv_heads, 3, shared);
        shared_attention(true, kv_heads, 1, again);
        shared_attention(false, kv_heads, 3, apart);
        assert_memory_equal(shared, again, sizeof shared);
        for (int i = 0; i < SHARED; i++) assert_near(shared[i], (double)apart[i], 1000);
    }
}

/* ---- memory ------------------------------------------------------------------------------------- */

/* Scopes release what no node refers to, and what they return stays where nodes look for it. */
static void test_scopes(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    real a[4] = {1, 2, 3, 4}, da[4];
    ArenaMark outer = scope_begin(&ctx);
    Tensor x = leaf(&ctx, a, da, 2, 2);

    ArenaMark mark = scope_begin(&ctx);
    Tensor y = mul(&ctx, x, x);
    const size_t recorded = ctx.arena.in_use;
    TENSOR_NEW(&ctx, 1000);
    Tensor kept = scope_end(&ctx, mark, y);
    assert_ptr_equal(kept.data, y.data);
    assert_int_equal(kept.var, y.var);
    assert_int_equal(ctx.arena.in_use, recorded);

    /* A constant from before a node stays in place, one from after it moves down. */
    mark = scope_begin(&ctx);
    Tensor constant = filled(TENSOR_NEW(&ctx, 2, 2), 1);
    y = mul(&ctx, kept, constant);
    assert_ptr_equal(scope_end(&ctx, mark, constant).data, constant.data);
    mark = scope_begin(&ctx);
    TENSOR_NEW(&ctx, 1000);
    constant = filled(TENSOR_NEW(&ctx, 2, 2), 2);
    kept = scope_end(&ctx, mark, constant);
    assert_true(kept.data < constant.data);
    Tensor expected = filled(TENSOR_NEW(&ctx, 2, 2), 2), factor = filled(TENSOR_NEW(&ctx, 2, 2), 1);
    assert_same_bytes(kept, expected);

    tape_backward(&ctx, y, NULL); /* x^2 c */
    for (int i = 0; i < 4; i++) assert_near(da[i], 2 * (double)a[i] * (double)factor.data[i], 16);
    assert_int_equal(ctx.arena.pin.in_use, 0);
    arena_release(&ctx.arena, outer);
    assert_int_equal(ctx.arena.in_use, 0);
    done(&ctx, &tape);
}

/* In a chain no more than a gradient and the one before it are ever held. */
static void test_gradients_are_released(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    static real a[1000], da[1000];
    ArenaMark mark = scope_begin(&ctx);
    Tensor y = leaf(&ctx, a, da, 10, 100);
    for (int i = 0; i < 20; i++) y = scale(&ctx, y, 1.5);
    tape_backward(&ctx, y, NULL);
    assert_int_equal(tape.peak, 2 * sizeof a);
    assert_near(da[0], pow(1.5, 20), 1 << 16);
    arena_release(&ctx.arena, mark);
    assert_int_equal(ctx.arena.in_use, 0);
    done(&ctx, &tape);
}

static void test_no_memory_kept(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 2, .tape = &tape};
    Net net = net_new(6, 5, 8, 6);
    size_t peak = 0;
    for (int i = 0; i < 5; i++) {
        net.checkpoint = i & 1;
        net_backward(&ctx, &net);
        assert_int_equal(ctx.arena.in_use, 0);
        if (i == 1) peak = ctx.arena.peak;
    }
    assert_int_equal(ctx.arena.peak, peak);
    net_free(&net);
    done(&ctx, &tape);
}

/* ---- checkpointed segments ------------------------------------------------------------------------ */

static void test_checkpoint(void **state) {
    (void)state;
    Tape tape = {0};
    Net plain = net_new(12, 10, 16, 7), segments = net_new(12, 10, 16, 7);
    size_t in_use[4];
    for (int way = 0; way < 4; way++) {
        Context ctx = {.threads = 2, .tape = &tape};
        int seen = 0;
        const Observer observer = {count_seen, &seen};
        ctx.observer = &observer;
        Net *net = way ? &segments : &plain;
        net->checkpoint = way & 1;
        net->nested = way & 2;
        net_zero(net);
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        char *prefix = aligned_alloc(page, page);
        assert_non_null(prefix);
        ctx.prefix[0] = strcpy(prefix, "cond/");
        ArenaMark mark = scope_begin(&ctx);
        Tensor loss = net_forward(&ctx, net);
        in_use[way] = ctx.arena.in_use;
        /* gone when the way back begins, as the caller's own may be: who reads it crashes */
        assert_int_equal(mprotect(prefix, page, PROT_NONE), 0);
        tape_backward(&ctx, loss, NULL);
        assert_int_equal(mprotect(prefix, page, PROT_READ | PROT_WRITE), 0);
        free(prefix);
        arena_release(&ctx.arena, mark);
        assert_context_ok(&ctx);
        assert_int_equal(seen, 2); /* two pictures, once each */
        assert_int_equal(ctx.arena.in_use, 0);
        for (int i = 0; way && i < WEIGHTS + INPUTS; i++)
            assert_memory_equal(segments.part[i].grad, plain.part[i].grad,
                                (size_t)plain.part[i].n * sizeof(real));
        context_free(&ctx);
    }
    assert_true(in_use[1] < in_use[0] / 2);
    assert_true(in_use[3] < in_use[1]);
    assert_int_equal(tape.in_use, 0);
    tape_free(&tape);
    net_free(&plain);
    net_free(&segments);
}

/* Eight segments of eight multiplications: of each its input is kept, and while one is walked its own
 * results; without segments all 64. */
enum { LINKS = 8, LONG = 10000 };

static Tensor links(Context *ctx, const void *args) {
    Tensor y = *(const Tensor *)args;
    for (int i = 0; i < LINKS; i++) y = scale(ctx, y, i & 1 ? 2 : 0.5);
    return y;
}

static void test_checkpoint_saves_memory(void **state) {
    (void)state;
    static real a[LONG], da[LONG];
    for (int segments = 0; segments < 2; segments++) {
        Tape tape = {0};
        Context ctx = {.threads = 1, .tape = &tape};
        ArenaMark mark = scope_begin(&ctx);
        Tensor y = leaf(&ctx, a, da, 1, LONG);
        for (int i = 0; i < LINKS; i++)
            y = segments ? tape_checkpoint(&ctx, links, &y, sizeof y) : links(&ctx, &y);
        tape_backward(&ctx, y, NULL);
        arena_release(&ctx.arena, mark);
        for (int i = 0; i < LONG; i++) assert_true(da[i] == 1);
        const double held = (double)ctx.arena.peak / sizeof a;
        if (segments)
            assert_true(held < 2 * LINKS + 1);
        else
            assert_true(held > LINKS * LINKS);
        assert_true(tape.peak <= 3 * sizeof a);
        done(&ctx, &tape);
    }
}

typedef struct Given {
    Tensor x, other;
} Given;

static Tensor gives_back(Context *ctx, const void *args) {
    const Given *g = args;
    scale(ctx, g->x, 3); /* of no use to anyone */
    return g->other;
}

static Tensor second_row(Context *ctx, const void *args) {
    const Given *g = args;
    return tensor_at(mul(ctx, g->x, g->other), 1);
}

static void test_checkpoint_of_little(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    real a[4] = {1, 2, 3, 4}, da[4], b[4] = {5, 6, 7, 8}, db[4];
    Given g = {leaf(&ctx, a, da, 2, 2), leaf(&ctx, b, db, 2, 2)};
    Tensor y = tape_checkpoint(&ctx, gives_back, &g, sizeof g);
    assert_int_equal(tape.count, 2); /* the leaves */
    assert_int_equal(y.var, g.other.var);
    y = tape_checkpoint(&ctx, second_row, &g, sizeof g);
    assert_int_equal(tape.count, 3);
    memset(&g, 0xee, sizeof g); /* the arguments were copied */
    tape_backward(&ctx, y, (real[]){1, 10});
    assert_memory_equal(da, ((real[]){0, 0, 7, 80}), sizeof da);
    assert_memory_equal(db, ((real[]){0, 0, 3, 40}), sizeof db);
    done(&ctx, &tape);
}

/* ---- failing, cancelling -------------------------------------------------------------------------- */

static bool cancel_at(void *self) { return --*(int *)self <= 0; }

/* Cancelled at every place in turn: the tape is empty afterwards and works again. */
static void test_cancelled(void **state) {
    (void)state;
    Net net = net_new(6, 5, 8, 8), truth = net_new(6, 5, 8, 8);
    net.checkpoint = true;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    net_zero(&truth);
    net_backward(&ctx, &truth);
    int n = 1;
    for (;; n++) {
        int left = n;
        ctx.cancelled = cancel_at;
        ctx.cancelled_self = &left;
        net_backward(&ctx, &net);
        assert_int_equal(tape.count, 0);
        assert_int_equal(tape.in_use, 0);
        assert_int_equal(ctx.arena.in_use, 0);
        assert_int_equal(ctx.arena.pin.in_use, 0);
        if (!ctx.error.set) break;
        assert_non_null(strstr(ctx.error.message, "cancelled at"));
        ctx.error = (Error){0};
    }
    assert_true(n > 50);
    ctx.cancelled = NULL;
    net_zero(&net);
    net_backward(&ctx, &net);
    for (int i = 0; i < WEIGHTS + INPUTS; i++)
        assert_memory_equal(net.part[i].grad, truth.part[i].grad,
                            (size_t)net.part[i].n * sizeof(real));
    net_free(&net);
    net_free(&truth);
    done(&ctx, &tape);
}

/* A tape that is never walked. */
static void test_clear(void **state) {
    (void)state;
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    Net net = net_new(6, 5, 8, 9);
    net_zero(&net);
    ArenaMark mark = scope_begin(&ctx);
    net_forward(&ctx, &net);
    assert_true(tape.count > 0);
    tape_clear(&ctx);
    arena_release(&ctx.arena, mark);
    assert_int_equal(ctx.arena.in_use, 0);
    for (int i = 0; i < WEIGHTS + INPUTS; i++) assert_true(net.part[i].grad[0] == 0);
    net_free(&net);
    done(&ctx, &tape);
}

/* ---- threads, differences -------------------------------------------------------------------------- */

static void test_threads(void **state) {
    (void)state;
    const int threads[] = {1, 2, 3, 7};
    Net truth = net_new(37, 35, 64, 10), net = net_new(37, 35, 64, 10);
    for (int t = 0; t < 4; t++) {
        Tape tape = {0};
        Context ctx = {.threads = threads[t], .tape = &tape};
        Net *to = t ? &net : &truth;
        net_zero(to);
        net_backward(&ctx, to);
        for (int i = 0; t && i < WEIGHTS + INPUTS; i++)
            assert_memory_equal(net.part[i].grad, truth.part[i].grad,
                                (size_t)net.part[i].n * sizeof(real));
        done(&ctx, &tape);
    }
    net_free(&truth);
    net_free(&net);
}

/* (L(p + h) - L(p - h)) / 2h against dL/dp, at random places of every parameter and input. Only double
 * has the digits for it. */
static void test_central_differences(void **state) {
    (void)state;
    if (sizeof(real) < sizeof(double)) {
        print_message("skipped: central differences need the double build\n");
        skip();
    }
    Tape tape = {0};
    Net net = net_new(6, 5, 8, 11);
    Context ctx = {.threads = 2, .tape = &tape};
    net_zero(&net);
    net_backward(&ctx, &net);
    uint64_t seed = 12;
    int compared = 0;
    double worst = 0;
    for (int i = 0; i < WEIGHTS + INPUTS; i++) {
        Numbers *p = &net.part[i];
        double largest = 0;
        for (int64_t j = 0; j < p->n; j++) largest = fmax(largest, fabs((double)p->grad[j]));
        assert_true(largest > 1e-6);
        for (int k = 0; k < 10; k++) {
            const int64_t at = (int64_t)((number(&seed) + 1) / 2 * (double)p->n) % p->n;
            const real h = (real)1e-5, before = p->data[at];
            double loss[2];
            Context plain = {.threads = 2};
            for (int side = 0; side < 2; side++) {
                p->data[at] = before + (side ? h : -h);
                loss[side] = (double)net_forward(&plain, &net).data[0];
            }
            p->data[at] = before;
            context_free(&plain);
            const double slope = (loss[1] - loss[0]) / (2 * (double)h);
            const double error = fabs(slope - (double)p->grad[at]) / largest;
            if (!(error <= 1e-6))
                fail_msg("part %d, element %d: gradient %.12g, difference %.12g", i, (int)at,
                         (double)p->grad[at], slope);
            worst = fmax(worst, error);
            compared++;
        }
    }
    print_message("%d coordinates, worst difference %.2g of the largest gradient\n", compared,
                  worst);
    assert_true(compared >= 200);
    net_free(&net);
    done(&ctx, &tape);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constants_record_nothing),
        cmocka_unit_test(test_frozen_parts),
        cmocka_unit_test(test_observers_record_nothing),
        cmocka_unit_test(test_no_tape),
        cmocka_unit_test(test_only_what_is_reached),
        cmocka_unit_test(test_constant_result),
        cmocka_unit_test(test_used_twice),
        cmocka_unit_test(test_from_a_leaf),
        cmocka_unit_test(test_accumulates),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_shared_keys),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_gradients_are_released),
        cmocka_unit_test(test_no_memory_kept),
        cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_checkpoint_saves_memory),
        cmocka_unit_test(test_checkpoint_of_little),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_clear),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_central_differences),
    };
    return cmocka_run_group_tests_name("the tape", tests, NULL, NULL);
}
