/* llmdiff eval: what its files share. See cli.h.
 *
 *     cli_eval.c         what is asked, the run from its start to its report
 *     cli_eval_draw.c    pictures drawn and read, many at a time
 *     cli_eval_check.c   the checker's own score, from the suite's scenes
 *     cli_eval_table.c   the report as a table
 *     cli_eval_json.c    and as JSON */
#ifndef LLMDIFF_CLI_EVAL_H
#define LLMDIFF_CLI_EVAL_H

#include "ref/cli.h"
#include "ref/world/suite.h"

#define EVAL_SIDES 2

/* One picture of one prompt by one conditioner. */
typedef enum EvalState {
    EVAL_DRAWN,
    EVAL_REFUSED, /* the conditioner can't read the prompt: `why` */
    EVAL_BROKEN   /* what was computed is not finite: `why` */
} EvalState;

typedef struct EvalPicture {
    EvalState state;
    char *why; /* malloc'ed; NULL: drawn */
    uint64_t seed;
    int64_t dropped; /* tokens of the prompt that were not read */
    WorldScene read;
    Judgement judgement;
} EvalPicture;

/* A conditioner. */
typedef struct EvalSide {
    const char *name;
    llmdiff_pack *pack;
    llmdiff_request request; /* but for prompt and seed */
    EvalPicture *picture;    /* [count * batch] */
    char **record; /* key and value by turns, of what a picture was drawn with; NULL: none was */
    size_t records;
} EvalSide;

/* Of how many it holds. */
typedef struct Rate {
    int64_t passed, asked;
} Rate;

/* Statements that belong together in a report: a split, a kind in a split, or all. */
typedef struct EvalGroup {
    const char *split, *kind; /* NULL: all */
} EvalGroup;

/* The checker's score of one kind of statement. */
typedef struct CheckerScore {
    Rate right, right_worn; /* true statements on rendered pictures; on those made worse */
    Rate false_pass, false_pass_worn; /* false ones on pictures of other scenes */
    Rate chance;                      /* any, on pictures of other scenes */
} CheckerScore;

typedef struct Eval {
    const Options *o;
    Suite suite;
    const SuiteEntry **chosen; /* [count] of the suite */
    int64_t count, batch;
    int workers;
    uint64_t seed;
    EvalSide side[EVAL_SIDES];
    int sides;
    EvalGroup *
        group; /* [groups] of the suite; the splits first, in their order, with one of all at their end */
    int64_t groups, splits;                   /* splits: how many of them are no kinds */
    CheckerScore (*checker)[STATEMENT_KINDS]; /* [groups] */
} Eval;

bool eval_belongs(const EvalGroup *group, const SuiteEntry *entry);
/* Of the group's prompts and all pictures of them. */
Rate eval_rate(const Eval *e, const EvalGroup *group, const EvalSide *side, int statement);

/* ---- cli_eval_draw.c --------------------------------------------------------------------------- */

/* Every picture, written if that was asked for. 0 or -1. */
int eval_draw(Eval *e, llmdiff_error *err);
/* "DIR/llmdiff/plain-two-0007.png"; malloc'ed, NULL with a message. */
char *eval_picture_name(const Eval *e, const EvalSide *side, int64_t picture, llmdiff_error *err);

/* ---- cli_eval_check.c -------------------------------------------------------------------------- */

#define WORN_SIGMA 1.0  /* a blur, pixels */
#define WORN_NOISE 0.05 /* of 255 */
#define OTHERS_MOST 200 /* other scenes whose pictures a statement is held against */

/* Fills e->checker. 0 or -1. */
int eval_check(Eval *e, llmdiff_error *err);

/* ---- the report -------------------------------------------------------------------------------- */

void eval_print_table(const Eval *e);
/* malloc'ed; NULL with a message */
char *eval_json(const Eval *e, llmdiff_error *err);

#endif
