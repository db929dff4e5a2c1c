/* A team of processes by MPI: see cli_team.h. Nothing else includes mpi.h.
 *
 * Errors of MPI are left to MPI, whose default is to say what happened and to end every process: none is
 * left to wait for one that is gone. */
#include "ref/cli.h"
#include "ref/cli_team.h"

#include <mpi.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EVERYONE MPI_COMM_WORLD

enum { TAG_LINE = 1, TAG_LAST_WORD };

/* How a rank ended; of several, the greatest is told. */
enum { FINE, STOPPED_BY_ANOTHER, CANCELLED, FAILED };

/* The last word of a rank to every other in a time of its own work. */
typedef struct LastWord {
    int64_t end;   /* as above */
    int64_t lines; /* told to rank 0 before it */
} LastWord;

/* Numbers that sum() takes at a time: two such blocks are all the memory it needs. */
enum { BLOCK = 1 << 19 };

typedef struct Messages Messages;
struct Messages {
    llmdiff_team library;
    void *block; /* sum: [ranks][a rank's share] of real numbers, from every rank */
    /* [ranks]: which of a block is whose; and where mine goes that comes from each */
    int *count, *start, *own_count, *own_start;
    LastWord *heard, mine;       /* heard: [ranks], of which `come` are here */
    MPI_Request *receive, *send; /* [ranks]; null for myself */
    int *which;                  /* [ranks] */
    int come;
    bool stopped, spoken;
    int64_t lines_heard;
};

/* MPI waits by asking again and again, on a core that the others' threads may need. */
static void await(MPI_Request *request) {
    const struct timespec nap = {.tv_nsec = 1000000};
    for (int done = 0; MPI_Test(request, &done, MPI_STATUS_IGNORE), !done;) nanosleep(&nap, NULL);
}

static int worst_of(int status) {
    int worst;
    MPI_Request request;
    MPI_Iallreduce(&status, &worst, 1, MPI_INT, MPI_MAX, EVERYONE, &request);
    await(&request);
    return worst;
}

/* ---- the end of several ----------------------------------------------------------------------------------- */

static int end_of(int code, const llmdiff_error *err) {
    if (code == EXIT_CANCELLED) return CANCELLED;
    if (err->status == LLMDIFF_CANCELLED) return STOPPED_BY_ANOTHER;
    return code || err->status ? FAILED : FINE;
}

static void stopped_by_another(llmdiff_error *err) {
    if (err->status) return;
    cli_fail(err, "another rank failed");
    err->status = LLMDIFF_CANCELLED;
}

static int agree(Team *t, llmdiff_error *err) {
    (void)t;
    if (worst_of(end_of(0, err)) == FINE) return 0;
    stopped_by_another(err);
    return -1;
}

/* "rank 1 on host: ..." */
static void say_who(const Team *t, llmdiff_error *err) {
    char host[MPI_MAX_PROCESSOR_NAME], *message = strdup(err->message);
    int length;
    MPI_Get_processor_name(host, &length);
    if (message)
        snprintf(err->message, sizeof err->message, "rank %d on %.64s: %.8000s", t->rank, host,
                 message);
    free(message);
}

static void messages_free(Messages *m) {
    if (!m) return;
    free(m->block);
    free(m->count);
    free(m->start);
    free(m->own_count);
    free(m->own_start);
    free(m->heard);
    free(m->receive);
    free(m->send);
    free(m->which);
    free(m);
}

/* Who tells: the lowest rank of those that ended worst. */
static int close_team(Team *t, int code, llmdiff_error *err, TeamPrint print) {
    struct {
        int end, rank;
    } mine = {end_of(code, err), t->rank}, worst;
    MPI_Request request;
    MPI_Iallreduce(&mine, &worst, 1, MPI_2INT, MPI_MAXLOC, EVERYONE, &request);
    await(&request);
    if (worst.end != FINE && worst.rank != t->rank) {
        code = EXIT_OK;
    } else if (err->status) {
        if (t->rank > 0) say_who(t, err);
        print(err->message); /* before the end, after which mpirun may not listen any more */
    }
    *err = (llmdiff_error){0};
    MPI_Finalize();
    messages_free(t->messages);
    *t = (Team){.ranks = 1};
    return code;
}

static void share(Team *t, void *bytes, size_t size) {
    (void)t;
    for (size_t at = 0, n; at < size; at += n) {
        n = size - at < INT32_MAX ? size - at : INT32_MAX;
        MPI_Bcast((char *)bytes + at, (int)n, MPI_BYTE, 0, EVERYONE);
    }
}

/* ---- work of one's own ------------------------------------------------------------------------------------ */

static void part(Team *t) {
    Messages *m = t->messages;
    m->come = 0;
    m->stopped = m->spoken = false;
    m->mine = (LastWord){0};
    m->lines_heard = 0;
    for (int r = 0; r < t->ranks; r++) {
        m->heard[r] = (LastWord){0};
        m->receive[r] = m->send[r] = MPI_REQUEST_NULL;
        if (r != t->rank)
            MPI_Irecv(&m->heard[r], 2, MPI_INT64_T, r, TAG_LAST_WORD, EVERYONE, &m->receive[r]);
    }
}

static bool stopped(Team *t) {
    Messages *m = t->messages;
    int came;
    MPI_Testsome(t->ranks, m->receive, &came, m->which, MPI_STATUSES_IGNORE);
    for (int i = 0; came != MPI_UNDEFINED && i < came; i++, m->come++)
        if (m->heard[m->which[i]].end != FINE) m->stopped = true;
    return m->stopped;
}

static void speak(Team *t, int end) {
    Messages *m = t->messages;
    m->mine.end = end;
    m->spoken = true;
    for (int r = 0; r < t->ranks; r++)
        if (r != t->rank)
            MPI_Isend(&m->mine, 2, MPI_INT64_T, r, TAG_LAST_WORD, EVERYONE, &m->send[r]);
}

typedef struct Line {
    int64_t number;
    char text[8192];
} Line;

static void tell(Team *t, int64_t number, const char *text) {
    Line line = {.number = number};
    int length = snprintf(line.text, sizeof line.text, "%s", text);
    if (length >= (int)sizeof line.text) length = (int)sizeof line.text - 1;
    MPI_Send(&line, (int)offsetof(Line, text) + length + 1, MPI_BYTE, 0, TAG_LINE, EVERYONE);
    t->messages->mine.lines++;
}

static void hear(Team *t, const TeamIdle *idle) {
    MPI_Message message;
    for (int came = 1; t->rank == 0;) {
        MPI_Improbe(MPI_ANY_SOURCE, TAG_LINE, EVERYONE, &came, &message, MPI_STATUS_IGNORE);
        if (!came) return;
        Line line;
        MPI_Mrecv(&line, sizeof line, MPI_BYTE, &message, MPI_STATUS_IGNORE);
        t->messages->lines_heard++;
        idle->hear(idle->self, line.number, line.text);
    }
}

static bool heard_all(const Team *t) {
    const Messages *m = t->messages;
    int64_t told = 0;
    for (int r = 0; r < t->ranks; r++) told += m->heard[r].lines;
    return m->come == t->ranks - 1 && (t->rank > 0 || m->lines_heard == told);
}

/* Who failed speaks before it waits, so that the others stop; who is fine when all have come, as it may
 * be cancelled until then. */
static int meet(Team *t, const TeamIdle *idle, llmdiff_error *err) {
    const struct timespec nap = {.tv_nsec = 1000000};
    Messages *m = t->messages;
    MPI_Request arrival;
    int all = 0;
    MPI_Ibarrier(EVERYONE, &arrival);
    while (!all || !m->spoken || !heard_all(t)) {
        if (!all) MPI_Test(&arrival, &all, MPI_STATUS_IGNORE);
        hear(t, idle); /* which may have failed to print them */
        if (!all && !err->status && idle->cancelled(idle->self)) cli_fail(err, "cancelled");
        if (!m->spoken && (all || err->status)) speak(t, end_of(0, err));
        stopped(t);
        nanosleep(&nap, NULL);
    }
    MPI_Waitall(t->ranks, m->send, MPI_STATUSES_IGNORE);
    if (m->stopped) stopped_by_another(err);
    return err->status ? -1 : 0;
}

/* ---- sums -------------------------------------------------------------------------------------------------- */

static void add_float(float *sum, const float *x, int ranks, int n) {
    memcpy(sum, x, (size_t)n * sizeof *sum);
    for (int r = 1; r < ranks; r++)
        for (int i = 0; i < n; i++) sum[i] += x[(size_t)r * (size_t)n + (size_t)i];
}

static void add_double(double *sum, const double *x, int ranks, int n) {
    memcpy(sum, x, (size_t)n * sizeof *sum);
    for (int r = 1; r < ranks; r++)
        for (int i = 0; i < n; i++) sum[i] += x[(size_t)r * (size_t)n + (size_t)i];
}

static bool in_double(void) { return strcmp(llmdiff_precision(), "float64") == 0; }

/* Every number is added by one rank only, in the order of ranks, and handed to all: MPI_Allreduce promises
 * neither that order nor the same one twice. */
static void sum_block(Team *t, char *numbers, int n) {
    Messages *m = t->messages;
    const MPI_Datatype type = in_double() ? MPI_DOUBLE : MPI_FLOAT;
    const size_t width = in_double() ? sizeof(double) : sizeof(float);
    const int each = n / t->ranks, more = n % t->ranks;
    for (int r = 0; r < t->ranks; r++) {
        m->count[r] = each + (r < more);
        m->start[r] = r * each + (r < more ? r : more);
    }
    const int own = m->count[t->rank];
    for (int r = 0; r < t->ranks; r++) m->own_count[r] = own, m->own_start[r] = r * own;
    MPI_Alltoallv(numbers, m->count, m->start, type, m->block, m->own_count, m->own_start, type,
                  EVERYONE);
    void *sum = numbers + (size_t)m->start[t->rank] * width;
    in_double() ? add_double(sum, m->block, t->ranks, own)
                : add_float(sum, m->block, t->ranks, own);
    MPI_Allgatherv(MPI_IN_PLACE, 0, type, numbers, m->count, m->start, type, EVERYONE);
}

static int sum(void *self, void *numbers, size_t count) {
    const size_t width = in_double() ? sizeof(double) : sizeof(float);
    for (size_t at = 0; at < count; at += BLOCK)
        sum_block(self, (char *)numbers + at * width,
                  count - at < BLOCK ? (int)(count - at) : BLOCK);
    return 0;
}

static int worst(void *self, int *status) {
    (void)self;
    *status = worst_of(*status);
    return 0;
}

static int library(Team *t, const llmdiff_team **team, llmdiff_error *err) {
    Messages *m = t->messages;
    if (!m->block) m->block = malloc(((size_t)BLOCK + (size_t)t->ranks) * sizeof(double));
    if (!m->block) cli_fail(err, "out of memory");
    m->library = (llmdiff_team){t->rank, t->ranks, t, sum, worst};
    *team = t->ranks > 1 ? &m->library : NULL;
    return agree(t, err);
}

/* ---- the beginning ------------------------------------------------------------------------------------------ */

static Messages *messages_new(int ranks) {
    const size_t n = (size_t)ranks;
    Messages *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->count = calloc(n, sizeof *m->count);
    m->start = calloc(n, sizeof *m->start);
    m->own_count = calloc(n, sizeof *m->own_count);
    m->own_start = calloc(n, sizeof *m->own_start);
    m->heard = calloc(n, sizeof *m->heard);
    m->receive = calloc(n, sizeof *m->receive);
    m->send = calloc(n, sizeof *m->send);
    m->which = calloc(n, sizeof *m->which);
    if (m->count && m->start && m->own_count && m->own_start && m->heard && m->receive && m->send &&
        m->which)
        return m;
    messages_free(m);
    return NULL;
}

/* Another version or precision on another machine would add up what doesn't fit together. */
static void check_program(llmdiff_error *err) {
    char mine[64], first[64];
    snprintf(mine, sizeof mine, "llmdiff %s (%s)", llmdiff_version(), llmdiff_precision());
    memcpy(first, mine, sizeof first);
    MPI_Bcast(first, sizeof first, MPI_BYTE, 0, EVERYONE);
    if (strcmp(first, mine) != 0)
        cli_fail(err, "expected rank 0's program, %s, found %s", first, mine);
}

/* mpirun may bind each rank to a core or a socket, or let all of them have all cores. */
static void share_cores(Team *t) {
    int here;
    MPI_Comm machine;
    MPI_Comm_split_type(EVERYONE, MPI_COMM_TYPE_SHARED, t->rank, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &here);
    MPI_Comm_free(&machine);
    const long all = sysconf(_SC_NPROCESSORS_ONLN), mine = omp_get_num_procs();
    if (getenv("OMP_NUM_THREADS") || all < 1) return;
    if (mine * here > all) t->threads = all / here > 1 ? (int)(all / here) : 1;
    if (mine * here < all)
        snprintf(t->note, sizeof t->note,
                 "note: mpirun leaves each rank %ld of this machine's %ld cores; with --bind-to "
                 "none they share all",
                 mine, all);
}

int team_open_mpi(Team *t, llmdiff_error *err) {
    static const TeamCalls calls = {close_team, agree, share, library, part,
                                    stopped,    tell,  hear,  meet};
    int thread_support;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &thread_support);
    t->calls = &calls;
    MPI_Comm_rank(EVERYONE, &t->rank);
    MPI_Comm_size(EVERYONE, &t->ranks);
    t->messages = messages_new(t->ranks);
    if (!t->messages) cli_fail(err, "out of memory");
    check_program(err);
    share_cores(t);
    return agree(t, err);
}
