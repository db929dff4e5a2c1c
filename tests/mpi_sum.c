/* One rank of a check of the team's sum, run by test_mpi under mpirun: sums of numbers that rounding makes
 * depend on the order of addition must be those of the order of ranks, with the same bytes on each.
 * Prints "sums agree" on rank 0; a wrong one is a line and exit code 1. */
#include "ref/cli.h"

#include "tensor/real.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* As in cli.c, where main is. */
int cli_fail(llmdiff_error *err, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    err->status = LLMDIFF_FAILED;
    return -1;
}

/* Number i of rank r: of both signs and of magnitudes from 1e-8 to 1e8. */
static real number(int r, size_t i) {
    uint64_t x = ((uint64_t)r << 48 ^ (uint64_t)i) * 0x9E3779B97F4A7C15u;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 32;
    real scale = 1;
    for (uint64_t k = x % 9; k > 0; k--) scale *= (real)(x >> 20 & 1 ? 10 : 0.1);
    return scale * (real)((int64_t)(x >> 24 & 0xFFFFF) - 0x80000);
}

static int check_sum(Team *t, const llmdiff_team *team, size_t count) {
    llmdiff_error err = {0};
    real *numbers = malloc((count + 2) * sizeof *numbers), guard = (real)-7.5;
    if (!numbers) cli_fail(&err, "out of memory");
    if (team_agree(t, &err)) return -1;
    for (size_t i = 0; i < count; i++) numbers[1 + i] = number(t->rank, i);
    numbers[0] = numbers[1 + count] = guard;
    size_t wrong = 0, unordered = 0;
    if (team->sum(team->self, numbers + 1, count)) wrong = 1;
    for (size_t i = 0; i < count; i++) {
        real sum = number(0, i), backwards = number(t->ranks - 1, i);
        for (int r = 1; r < t->ranks; r++) sum += number(r, i);
        for (int r = t->ranks - 2; r >= 0; r--) backwards += number(r, i);
        wrong += memcmp(&numbers[1 + i], &sum, sizeof sum) != 0;
        unordered += memcmp(&sum, &backwards, sizeof sum) != 0;
    }
    wrong += numbers[0] != guard || numbers[1 + count] != guard;
    if (wrong) printf("rank %d: %zu of %zu numbers are wrong\n", t->rank, wrong, count);
    if (t->ranks > 2 && count > 1000 && !unordered)
        printf("rank %d: %zu numbers don't show the order\n", t->rank, count), wrong = 1;
    free(numbers);
    return wrong ? -1 : 0;
}

/* The largest, wherever it is. */
static int check_worst(const Team *t, const llmdiff_team *team) {
    for (int who = 0; who < t->ranks; who++) {
        int status = t->rank == who ? 5 : t->rank % 3;
        if (team->worst(team->self, &status) || status != 5) {
            printf("rank %d: the worst is %d\n", t->rank, status);
            return -1;
        }
    }
    return 0;
}

static void print(const char *message) { printf("%s\n", message); }

int main(void) {
    static const size_t counts[] = {0, 1, 2, 3, 7, 1000, 4099, (1 << 19) - 1, 1 << 19, 1500001};
    Team team;
    llmdiff_error err = {0};
    const llmdiff_team *library = NULL;
    int wrong = team_open(&team, &err) || team_for_library(&team, &library, &err) || !library;
    for (size_t i = 0; library && i < sizeof counts / sizeof *counts; i++)
        wrong |= check_sum(&team, library, counts[i]) != 0;
    if (library) wrong |= check_worst(&team, library) != 0;
    if (wrong) cli_fail(&err, "sums differ");
    if (team_agree(&team, &err) == 0 && team.rank == 0) puts("sums agree");
    return team_close(&team, wrong, &err, print);
}
