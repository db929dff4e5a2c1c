/* The processes that share one command: mpirun -np N llmdiff generate ... Without mpirun, and in a program
 * built without MPI (make MPI=1 builds it in), there is one, which waits for nobody.
 *
 *     Team team;
 *     if (team_open(&team, &err) == 0) {
 *         ... inputs, checks ...
 *         if (team_agree(&team, &err) == 0) {           // nobody begins unless all can
 *             team_part(&team);                         // to work of one's own
 *             for (k = team.rank; k < n && !failed; k += team.ranks)
 *                 ... team_stopped(&team) ... team_tell(&team, k, "a line") ...
 *             team_meet(&team, &idle, &err);
 *         }
 *     }
 *     code = team_close(&team, code, &err, print);      // by one of them
 *
 * A rank that stopped because another failed has LLMDIFF_CANCELLED in its error: it is not the one whose
 * message is printed. What MPI itself finds wrong (a rank that was killed, a broken network) ends all, with
 * MPI's message. */
#ifndef LLMDIFF_CLI_TEAM_H
#define LLMDIFF_CLI_TEAM_H

#include "ref/llmdiff.h"

#include <stdbool.h>

typedef struct Team {
    int rank, ranks; /* 0 and 1: alone */
    int threads;     /* for this rank where several share its cores; 0: as OpenMP decides */
    char note[160];  /* what should be known of how the ranks were started; or "" */
    const struct TeamCalls *calls; /* NULL: alone */
    struct Messages *messages;
} Team;

typedef void (*TeamPrint)(const char *message);

/* ", MPI" where that was built in; else "". */
const char *team_built(void);
/* Finds the others. -1 with a message; without one on ranks that leave it to another. */
int team_open(Team *t, llmdiff_error *err);
/* All end together. The exit code of this rank: of several failures one is chosen and its message printed;
 * the others exit with 0, as mpirun kills whoever still runs when one exits with another code. Alone, the
 * message stays in err. */
int team_close(Team *t, int code, llmdiff_error *err, TeamPrint print);

/* ---- all ranks call these at the same point -------------------------------------------------------- */

/* Is all well, everywhere? -1: err had a message, here or on another rank, and has one now. */
int team_agree(Team *t, llmdiff_error *err);
/* bytes [size] <- rank 0's. */
void team_share(Team *t, void *bytes, size_t size);
/* For llmdiff_train; *library NULL: alone. It lives as long as the team. 0, or -1 on all. */
int team_for_library(Team *t, const llmdiff_team **library, llmdiff_error *err);

/* ---- work of one's own ------------------------------------------------------------------------------ */

void team_part(Team *t);
/* Has another rank failed, or been cancelled? */
bool team_stopped(Team *t);
/* A line for rank 0, from any other. */
void team_tell(Team *t, int64_t number, const char *line);

/* What is done by who waits: rank 0 hears lines, in the order in which they come. */
typedef struct TeamIdle {
    void *self;
    int (*cancelled)(void *self);
    void (*hear)(void *self, int64_t number, const char *line);
} TeamIdle;

/* On rank 0: what has come by now. */
void team_hear(Team *t, const TeamIdle *idle);
/* Waits until all are here, leaving the core to others; then as team_agree. */
int team_meet(Team *t, const TeamIdle *idle, llmdiff_error *err);

/* ---- cli_team_mpi.c, which alone knows of MPI ------------------------------------------------------- */

/* Each function above for more than one rank. */
typedef struct TeamCalls {
    int (*close)(Team *t, int code, llmdiff_error *err, TeamPrint print);
    int (*agree)(Team *t, llmdiff_error *err);
    void (*share)(Team *t, void *bytes, size_t size);
    int (*library)(Team *t, const llmdiff_team **library, llmdiff_error *err);
    void (*part)(Team *t);
    bool (*stopped)(Team *t);
    void (*tell)(Team *t, int64_t number, const char *line);
    void (*hear)(Team *t, const TeamIdle *idle);
    int (*meet)(Team *t, const TeamIdle *idle, llmdiff_error *err);
} TeamCalls;

/* Where MPI was found to have started this process. */
int team_open_mpi(Team *t, llmdiff_error *err);

#endif
