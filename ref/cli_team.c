/* The processes that share a command. Here: one alone, and whether there are more. See cli_team.h. */
#include "ref/cli_team.h"

#include "ref/cli.h"

#include <stdlib.h>

const char *team_built(void) {
#ifdef LLMDIFF_MPI
    return ", MPI";
#else
    return "";
#endif
}

/* What Open MPI, MPICH (and Intel's), and PMIx (srun) tell the processes that they start. */
static const char *told(const char *const names[3]) {
    const char *value = NULL;
    for (int i = 0; i < 3 && !value; i++) value = getenv(names[i]);
    return value;
}

int team_open(Team *t, llmdiff_error *err) {
    const char *rank = told((const char *[]){"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"});
    *t = (Team){.ranks = 1};
    if (!rank) return 0;
#ifdef LLMDIFF_MPI
    return team_open_mpi(t, err);
#else
    /* Each would do all of the work, and write the same files. */
    const char *size = told((const char *[]){"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"});
    if (!size || atoi(size) < 2) return 0;
    if (atoi(rank) == 0)
        cli_fail(err,
                 "mpirun started %d processes of a program that was built without MPI; "
                 "make MPI=1 builds one with it",
                 atoi(size));
    return -1;
#endif
}

int team_close(Team *t, int code, llmdiff_error *err, TeamPrint print) {
    return t->calls ? t->calls->close(t, code, err, print) : code;
}

int team_agree(Team *t, llmdiff_error *err) {
    if (t->calls) return t->calls->agree(t, err);
    return err->status ? -1 : 0;
}

void team_share(Team *t, void *bytes, size_t size) {
    if (t->calls) t->calls->share(t, bytes, size);
}

int team_for_library(Team *t, const llmdiff_team **library, llmdiff_error *err) {
    *library = NULL;
    return t->calls ? t->calls->library(t, library, err) : team_agree(t, err);
}

void team_part(Team *t) {
    if (t->calls) t->calls->part(t);
}

bool team_stopped(Team *t) { return t->calls && t->calls->stopped(t); }

void team_tell(Team *t, int64_t number, const char *line) {
    if (t->calls) t->calls->tell(t, number, line);
}

void team_hear(Team *t, const TeamIdle *idle) {
    if (t->calls) t->calls->hear(t, idle);
}

int team_meet(Team *t, const TeamIdle *idle, llmdiff_error *err) {
    if (t->calls) return t->calls->meet(t, idle, err);
    return err->status ? -1 : 0;
}
