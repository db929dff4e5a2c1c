/* Running the program under mpirun (see cli_run.h): by make test-mpi, or make MPI=1 test.
 *
 *     Result r = RUN("-np", "2", MPI_PROGRAM, "generate", "-p", "a", "-o", "@/a.png"); */
#ifndef LLMDIFF_MPI_RUN_H
#define LLMDIFF_MPI_RUN_H

#undef LLMDIFF_PROGRAM
#define LLMDIFF_PROGRAM "mpirun --quiet --oversubscribe --bind-to none"
#include "cli_run.h"

#include <ctype.h>

#define MPI_PROGRAM LLMDIFF_MPI_PROGRAM

static inline int begin(void **state) {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMP_WAIT_POLICY", "passive", 1);
    return fresh_directory(state);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, remove_directory)

/* A plain build has no program for mpirun, or an old one. */
static inline bool skipped_without_mpi(size_t tests) {
    if (getenv("LLMDIFF_MPI")) return false;
    printf("skipped: processes under mpirun: make test-mpi runs them\n"
           "[  SKIPPED ] %zu test(s).\n",
           tests);
    return true;
}

/* Its state ('R', 'S', 'Z', ...) and its parent; 0: there is no such process. */
static inline char state_of(const char *pid, int *parent) {
    char name[300], text[512] = "", state = 0;
    snprintf(name, sizeof name, "/proc/%s/stat", pid);
    FILE *f = fopen(name, "r");
    if (!f) return 0;
    if (!fgets(text, sizeof text, f)) text[0] = '\0';
    fclose(f);
    const char *end = strrchr(text, ')'); /* "12 (name) S 1 ..." */
    return end && sscanf(end, ") %c %d", &state, parent) == 2 ? state : 0;
}

/* Over, or a zombie of whom nobody asks how it ended; that may take a moment. */
static inline bool gone(pid_t pid) {
    char text[32], state = 'R';
    int parent;
    snprintf(text, sizeof text, "%ld", (long)pid);
    for (int looks = 0; looks < 1000 && state && state != 'Z'; looks++) {
        state = state_of(text, &parent);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return !state || state == 'Z';
}

/* Processes that `parent` has started, up to `most`. */
static inline int children(pid_t parent, pid_t *child, int most) {
    int count = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d)) && count < most;) {
        int ppid = 0;
        if (isdigit((unsigned char)e->d_name[0]) && state_of(e->d_name, &ppid) && ppid == parent)
            child[count++] = (pid_t)strtol(e->d_name, NULL, 10);
    }
    if (d) closedir(d);
    return count;
}

/* What has been told to end must, and within a minute. */
static inline Result must_end(pid_t run) {
    int status;
    for (int looks = 0; !ended(run, &status); looks++) {
        if (looks < PATIENCE) continue;
        kill(run, SIGKILL);
        finish(run);
        fail_msg("it goes on");
    }
    return result_of(status);
}

#endif
