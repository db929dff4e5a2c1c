/* A tape when memory runs out: every allocation fails once, alone and with all that follow, and the
 * arena at every place where it is asked for more. Each time: the context says that memory ran out,
 * nothing stays allocated, and the same tape and context then give the right gradients. */
#include "tests/faults.h"
#include "tests/tape_net.h"

#include <stdio.h>

enum { BLOCK = 16 << 20 }; /* the arena's first */

/* One forward and backward in a fresh context, of whose first block all but `room` bytes are taken. */
static void run(const Net *net, size_t room, Error *err) {
    Tape tape = {0};
    Context ctx = {.threads = 1, .tape = &tape};
    if (room < BLOCK && !arena_alloc(&ctx.arena, BLOCK - room - 2 * ARENA_ALIGN))
        fail(&ctx.error, "out of memory");
    net_backward(&ctx, net);
    *err = ctx.error;
    assert_int_equal(tape.count, 0);
    assert_int_equal(tape.in_use, 0);
    assert_int_equal(ctx.arena.pin.in_use, 0);
    tape_free(&tape);
    context_free(&ctx);
}

static void assert_right(Net *net, const Net *truth) {
    Error err = {0};
    net_zero(net);
    run(net, BLOCK, &err);
    assert_false(err.set);
    for (int i = 0; i < WEIGHTS + INPUTS; i++)
        assert_memory_equal(net->part[i].grad, truth->part[i].grad,
                            (size_t)net->part[i].n * sizeof(real));
}

static void every_allocation(void **state) {
    const bool checkpoint = *(const bool *)*state;
    Net net = net_new(6, 5, 8, 1), truth = net_new(6, 5, 8, 1);
    net.checkpoint = net.nested = checkpoint;
    Error err = {0};
    net_zero(&truth);
    run(&truth, BLOCK, &err);
    faults_begin(RECORD, 0);
    run(&net, BLOCK, &err);
    const Faults all = faults_end();
    assert_false(err.set);
    assert_int_equal(all.live, 0);
    print_message("%d allocations\n", (int)all.count);
    assert_true(all.count > 30);
    for (size_t k = 1; k <= all.count; k++)
        for (int mode = 0; mode < 2; mode++) {
            faults_begin(mode ? FAIL_FROM : FAIL_ONE, k);
            run(&net, BLOCK, &err);
            const Faults f = faults_end();
            assert_true(f.failed > 0);
            if (f.live) fail_msg("allocation %d failed: %d are left", (int)k, (int)f.live);
            if (!err.set || !strstr(err.message, "out of memory"))
                fail_msg("allocation %d failed: \"%s\"", (int)k, err.message);
        }
    assert_right(&net, &truth);
    net_free(&net);
    net_free(&truth);
}

static void every_growth(void **state) {
    const bool checkpoint = *(const bool *)*state;
    Net net = net_new(6, 5, 8, 1), truth = net_new(6, 5, 8, 1);
    net.checkpoint = net.nested = checkpoint;
    Error err = {0};
    net_zero(&truth);
    run(&truth, BLOCK, &err);
    int failures = 0;
    for (size_t room = 0;; room += 1024) {
        Tape tape = {0};
        Context ctx = {.threads = 1, .tape = &tape};
        assert_non_null(arena_alloc(&ctx.arena, BLOCK - room - 2 * ARENA_ALIGN));
        const size_t before = ctx.arena.in_use;
        faults_begin(FAIL_ALIGNED, 0);
        net_backward(&ctx, &net);
        const Faults f = faults_end();
        assert_int_equal(ctx.arena.in_use, before);
        assert_int_equal(tape.in_use, 0);
        const bool failed = ctx.error.set;
        assert_int_equal(failed, f.failed > 0);
        if (failed) assert_non_null(strstr(ctx.error.message, "out of memory"));
        failures += failed;
        /* the same context and tape, with memory */
        ctx.error.set = false;
        net_zero(&net);
        net_backward(&ctx, &net);
        assert_context_ok(&ctx);
        assert_int_equal(ctx.arena.in_use, before);
        for (int i = 0; i < WEIGHTS + INPUTS; i++)
            assert_memory_equal(net.part[i].grad, truth.part[i].grad,
                                (size_t)net.part[i].n * sizeof(real));
        tape_free(&tape);
        context_free(&ctx);
        if (!failed) break;
    }
    assert_true(failures > 20);
    net_free(&net);
    net_free(&truth);
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
    return cmocka_run_group_tests_name("the tape without memory", tests, prepare, NULL);
}
