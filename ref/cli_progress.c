/* Progress: one line that is written over, on a terminal only, and the time of every stage. */
#include "ref/cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool progress_wanted(const Options *o) {
    char name[64], terminal[16];
    if (o->quiet || o->team->rank > 0) return false;
    if (isatty(STDERR_FILENO) || !o->team->calls) return isatty(STDERR_FILENO);
    /* What a rank prints goes through a pipe to mpirun, its parent, which may be at a terminal. */
    snprintf(name, sizeof name, "/proc/%lld/fd/2", (long long)getppid());
    ssize_t n = readlink(name, terminal, sizeof terminal - 1);
    terminal[n > 0 ? n : 0] = '\0';
    return strncmp(terminal, "/dev/pts/", 9) == 0 || strncmp(terminal, "/dev/tty", 8) == 0;
}

Progress progress_new(const Options *o, int64_t pictures) {
    return (Progress){.visible = progress_wanted(o), .pictures = pictures, .stage = STAGES};
}

void progress_start(Progress *p, int64_t picture) {
    p->picture = picture;
    p->stage = STAGES;
    memset(p->seconds, 0, sizeof p->seconds);
}

/* The time since the last call goes to the stage that was running. */
static void account(Progress *p, int next) {
    double now = seconds_now();
    if (p->stage < STAGES) p->seconds[p->stage] += now - p->since;
    p->since = now;
    p->stage = next;
}

static int stage_of(const char *name) {
    static const char *const names[STAGES] = {"encode", "sample", "decode"};
    for (int i = 0; i < STAGES; i++)
        if (strcmp(names[i], name) == 0) return i;
    return STAGES;
}

void print_left(double seconds) {
    int64_t s = (int64_t)(seconds + 0.5);
    if (s >= 3600)
        fprintf(stderr, ", %lld h %02lld min left", (long long)(s / 3600),
                (long long)(s / 60 % 60));
    else if (s >= 60)
        fprintf(stderr, ", %lld min %02lld s left", (long long)(s / 60), (long long)(s % 60));
    else
        fprintf(stderr, ", %lld s left", (long long)s);
}

int progress_report(void *self, const char *stage, int64_t done, int64_t of) {
    Progress *p = self;
    account(p, stage_of(stage));
    if (p->stage == STAGE_SAMPLE) p->steps = of;
    if (!p->visible) return 0;
    progress_clear(p);
    if (p->stage == STAGES) return 0;
    if (p->pictures > 1)
        fprintf(stderr, "picture %lld/%lld: ", (long long)p->picture + 1, (long long)p->pictures);
    fputs(stage, stderr);
    if (of > 1) fprintf(stderr, " %lld/%lld", (long long)done + 1, (long long)of);
    if (p->stage == STAGE_SAMPLE && done > 0)
        print_left(p->seconds[STAGE_SAMPLE] / (double)done * (double)(of - done));
    fflush(stderr);
    return 0;
}

void progress_clear(const Progress *p) {
    if (p->visible) fputs("\r\033[K", stderr);
}

void progress_print_times(const Progress *p) {
    fprintf(stderr, "encode %.2f s, sample %.2f s (%lld steps of %.3f s), decode %.2f s\n",
            p->seconds[STAGE_ENCODE], p->seconds[STAGE_SAMPLE], (long long)p->steps,
            p->steps ? p->seconds[STAGE_SAMPLE] / (double)p->steps : 0, p->seconds[STAGE_DECODE]);
}
