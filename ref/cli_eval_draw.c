/* The pictures of llmdiff eval. Small models gain little from several threads at one picture, so that each
 * thread draws pictures of its own; a picture's bytes don't depend on who draws it. See cli_eval.h. */
#include "ref/cli_eval.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Another picture of the same prompt has a seed that no other prompt's pictures have. */
#define SEEDS_APART 1000000

typedef struct Drawing {
    Eval *e;
    bool visible, stopped;
    int64_t done, of;
    int64_t right[EVAL_SIDES], drawn[EVAL_SIDES]; /* pictures on which all statements hold */
    double since, next;
    llmdiff_error error; /* the first that ends the run */
} Drawing;

/* ---- files --------------------------------------------------------------------------------------- */

char *eval_picture_name(const Eval *e, const EvalSide *side, int64_t picture, llmdiff_error *err) {
    const char *id = e->chosen[picture / e->batch]->id;
    const size_t room = strlen(e->o->output_dir) + strlen(side->name) + strlen(id) + 40;
    char *name = malloc(room);
    if (!name) {
        cli_fail(err, "out of memory");
        return NULL;
    }
    const int n = snprintf(name, room, "%s/%s/%s", e->o->output_dir, side->name, id);
    if (picture % e->batch == 0)
        strcpy(name + n, ".png");
    else
        sprintf(name + n, "_%lld.png", (long long)(picture % e->batch) + 1);
    return name;
}

static int make_directory(const char *path, llmdiff_error *err) {
    struct stat s;
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode)))
        return 0;
    return cli_fail(err, "--output-dir: %s: can't be made: %s", path, strerror(errno));
}

static int make_directories(const Eval *e, llmdiff_error *err) {
    if (!e->o->output_dir) return 0;
    if (make_directory(e->o->output_dir, err)) return -1;
    for (int s = 0; s < e->sides && !err->status; s++) {
        char *first = eval_picture_name(e, &e->side[s], 0, err);
        if (!first) return -1;
        *strrchr(first, '/') = '\0';
        make_directory(first, err);
        free(first);
    }
    return err->status ? -1 : 0;
}

static void write_picture(const Eval *e, const EvalSide *side, int64_t picture,
                          const llmdiff_result *result, llmdiff_error *err) {
    char *name = e->o->output_dir ? eval_picture_name(e, side, picture, err) : NULL;
    if (name) llmdiff_save_png_enlarged(result, name, llmdiff_enlargement(result), err);
    free(name);
}

/* ---- one picture --------------------------------------------------------------------------------- */

/* What pictures are drawn with, for the report: but for prompt and seed the same of each. */
static void keep_record(EvalSide *side, const llmdiff_result *result, llmdiff_error *err) {
    const char *key, *value;
    size_t n = 0;
    while (llmdiff_text_at(result, n, &key, &value)) n++;
    side->record = calloc(2 * n, sizeof *side->record);
    for (size_t i = 0; side->record && llmdiff_text_at(result, i, &key, &value); i++) {
        side->record[2 * i] = strdup(key);
        side->record[2 * i + 1] = strdup(value);
        if (!side->record[2 * i] || !side->record[2 * i + 1]) cli_fail(err, "out of memory");
        side->records++;
    }
    if (!side->record) cli_fail(err, "out of memory");
}

static void give_up(EvalPicture *p, EvalState state, llmdiff_error *err) {
    if (err->status == LLMDIFF_CANCELLED || strncmp(err->message, "out of memory", 13) == 0) return;
    p->state = state;
    p->why = strdup(err->message);
    *err = (llmdiff_error){0};
    if (!p->why) cli_fail(err, "out of memory");
}

/* Only what ends the run is in err: a prompt that is refused, or a picture that is not finite, fails. */
static void draw_one(const Eval *e, EvalSide *side, int64_t picture, llmdiff_error *err) {
    const SuiteEntry *entry = e->chosen[picture / e->batch];
    EvalPicture *p = &side->picture[picture];
    llmdiff_request request = side->request;
    llmdiff_result *result = NULL;
    request.prompt = entry->prompt;
    request.seed = p->seed =
        e->seed + (uint64_t)entry->index + (uint64_t)(picture % e->batch) * SEEDS_APART;
    p->read = (WorldScene){.background = OPEN};
    if (llmdiff_check(side->pack, &request, err)) {
        give_up(p, EVAL_REFUSED, err);
    } else if (llmdiff_generate(side->pack, &request, &result, err)) {
        give_up(p, EVAL_BROKEN, err);
    } else {
        p->dropped = llmdiff_dropped_tokens(result);
        world_read(llmdiff_rgb(result), &p->read);
        write_picture(e, side, picture, result, err);
#pragma omp critical(eval_record)
        if (!side->record) keep_record(side, result, err);
    }
    llmdiff_result_free(result);
    expect_judge(&entry->expect, &p->read, &p->judgement);
}

/* ---- all of them --------------------------------------------------------------------------------- */

static void show(Drawing *d) {
    const Eval *e = d->e;
    const double now = seconds_now();
    if (!d->visible || now < d->next) return;
    d->next = now + 0.2;
    fprintf(stderr, "\r\033[Keval %lld/%lld", (long long)d->done, (long long)d->of);
    for (int s = 0; s < e->sides; s++)
        if (d->drawn[s])
            fprintf(stderr, ", %s %.0f %%", e->side[s].name,
                    100 * (double)d->right[s] / (double)d->drawn[s]);
    fputs(" of scenes right", stderr);
    print_left((now - d->since) / (double)d->done * (double)(d->of - d->done));
    fflush(stderr);
}

static void finish_one(Drawing *d, int s, int64_t picture, const llmdiff_error *err) {
    const Judgement *v = &d->e->side[s].picture[picture].judgement;
    if (err->status && !d->error.status) d->error = *err;
    if (d->error.status || cli_cancelled(NULL)) {
#pragma omp atomic write
        d->stopped = true;
    }
    d->done++;
    d->drawn[s]++;
    d->right[s] += v->statement[v->count - 1].holds; /* the last one is SAYS_SCENE */
    show(d);
}

static bool must_stop(const Drawing *d) {
    bool stopped;
#pragma omp atomic read
    stopped = d->stopped;
    return stopped;
}

int eval_draw(Eval *e, llmdiff_error *err) {
    const int64_t pictures = e->count * e->batch;
    Drawing d = {.e = e,
                 .visible = progress_wanted(e->o),
                 .of = pictures * e->sides,
                 .since = seconds_now()};
    if (make_directories(e, err)) return -1;
    for (int s = 0; s < e->sides; s++) {
        e->side[s].picture = calloc((size_t)pictures, sizeof *e->side[s].picture);
        if (!e->side[s].picture) return cli_fail(err, "out of memory");
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(e->workers)
    for (int64_t k = 0; k < d.of; k++) {
        const int s = (int)(k % e->sides);
        llmdiff_error mine = {0};
        if (must_stop(&d)) continue;
        draw_one(e, &e->side[s], k / e->sides, &mine);
#pragma omp critical(eval_finished)
        finish_one(&d, s, k / e->sides, &mine);
    }
    if (d.visible) fputs("\r\033[K", stderr);
    if (d.error.status) *err = d.error;
    if (d.stopped) cli_fail(err, "cancelled");
    return err->status ? -1 : 0;
}
