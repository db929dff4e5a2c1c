/* The yardstick behind llmdiff.h: comparing two files, and what a report says. */
#include "ref/llmdiff_private.h"
#include "ref/yardstick/yardstick.h"
#include "weights/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_MAGIC UINT64_C(0x6c6c6d6472707431)

struct llmdiff_report {
    Report *report;
    uint64_t magic; /* not first: free() writes there */
};

static bool report_alive(const llmdiff_report *report, Error *err) {
    if (!given(report, "report", err)) return false;
    if (report->magic == REPORT_MAGIC) return true;
    fail(err, "report: expected what a comparison gave, found another pointer or one that was "
              "freed");
    return false;
}

/* A handle on the report, which is ended with it; NULL with a message. */
static llmdiff_report *wrap(Report *report, Error *err) {
    llmdiff_report *handle = report ? calloc(1, sizeof *handle) : NULL;
    if (handle) {
        *handle = (llmdiff_report){report, REPORT_MAGIC};
    } else if (report) {
        report_free(report);
        fail(err, "out of memory");
    }
    return handle;
}

/* ---- comparing ----------------------------------------------------------------------------------- */

llmdiff_status llmdiff_compare_default(llmdiff_compare_options *options, size_t size) {
    llmdiff_compare_options o = {.size = size, .rtol = -1, .atol = -1};
    if (!options || size < sizeof o) return LLMDIFF_MISUSE;
    memset(options, 0, size);
    memcpy(options, &o, sizeof o);
    return LLMDIFF_OK;
}

static bool tolerance_is_one(const char *flag, double v, Error *err) {
    if (isfinite(v)) return true; /* negative: not given */
    fail(err, "%s: expected a number, found %g", flag, v);
    return false;
}

static bool take_compare(llmdiff_compare_options *o, const llmdiff_compare_options *from,
                         Error *err) {
    *o = (llmdiff_compare_options){.rtol = -1, .atol = -1};
    return take_struct(o, sizeof *o, sizeof *o, from, "llmdiff_compare_options", err) &&
           given(o->reference, "llmdiff_compare_options.reference", err) &&
           given(o->mine, "llmdiff_compare_options.mine", err) &&
           tolerance_is_one("--rtol", o->rtol, err) && tolerance_is_one("--atol", o->atol, err) &&
           (!o->only || compare_check_only(o->only, err) == 0);
}

typedef struct Watch {
    const llmdiff_compare_options *o;
    bool cancelled;
} Watch;

static int watch(void *user, int64_t done, int64_t of) {
    Watch *w = user;
    if (w->o->progress && w->o->progress(w->o->user, done, of)) w->cancelled = true;
    return w->cancelled;
}

llmdiff_status llmdiff_compare(const llmdiff_compare_options *options, llmdiff_report **report,
                               llmdiff_error *error) {
    Error err = {0};
    llmdiff_compare_options o;
    if (report) *report = NULL;
    if (!given(report, "report", &err) || !take_compare(&o, options, &err))
        return misuse(error, &err);
    Watch w = {.o = &o};
    CompareRequest q = {.reference = o.reference,
                        .mine = o.mine,
                        .map_file = o.map_file,
                        .only = o.only,
                        .kit = o.kit,
                        .model = o.model,
                        .rtol = o.rtol,
                        .atol = o.atol,
                        .progress = watch,
                        .user = &w};
    *report = wrap(compare_files(&q, &err), &err);
    return w.cancelled ? cancelled(error, &err) : finished(error, &err);
}

/* ---- verifying ------------------------------------------------------------------------------------ */

/* The members of the first version end with `progress`. */
#define VERIFY_LEAST (offsetof(llmdiff_verify_options, progress) + sizeof(void *))
#define THREADS_MAX 1024

static bool take_verify(llmdiff_verify_options *o, const llmdiff_verify_options *from, Error *err) {
    *o = (llmdiff_verify_options){0};
    if (!take_struct(o, sizeof *o, VERIFY_LEAST, from, "llmdiff_verify_options", err) ||
        !given(o->kit, "llmdiff_verify_options.kit", err))
        return false;
    if (o->port && o->output)
        fail(err, "--port and --output: expected one of them: what a port wrote is there already");
    if ((unsigned)o->walks > LLMDIFF_WALKS_FORCED)
        fail(err, "llmdiff_verify_options.walks: expected 0 to 2, found %d", (int)o->walks);
    if (o->threads < 0 || o->threads > THREADS_MAX)
        fail(err, "--threads: expected 0 to %d, found %d", THREADS_MAX, o->threads);
    return !err->set && (!o->only || compare_check_only(o->only, err) == 0);
}

typedef struct VerifyWatch {
    const llmdiff_verify_options *o;
    bool cancelled;
} VerifyWatch;

static int watch_verify(void *user, int64_t done, int64_t of) {
    VerifyWatch *w = user;
    if (w->o->progress && w->o->progress(w->o->user, done, of)) w->cancelled = true;
    return w->cancelled;
}

llmdiff_status llmdiff_verify(const llmdiff_verify_options *options, llmdiff_report **report,
                              llmdiff_error *error) {
    Error err = {0};
    llmdiff_verify_options o;
    if (report) *report = NULL;
    if (!given(report, "report", &err) || !take_verify(&o, options, &err))
        return misuse(error, &err);
    VerifyWatch w = {.o = &o};
    const VerifyRequest q = {.kit = o.kit,
                             .port = o.port,
                             .only = o.only,
                             .output = o.output,
                             .free_alone = o.walks == LLMDIFF_WALKS_FREE,
                             .forced_alone = o.walks == LLMDIFF_WALKS_FORCED,
                             .threads = o.threads,
                             .progress = watch_verify,
                             .user = &w};
    *report = wrap(verify(&q, &err), &err);
    return w.cancelled ? cancelled(error, &err) : finished(error, &err);
}

/* ---- what a report says --------------------------------------------------------------------------- */

void llmdiff_report_free(llmdiff_report *report) {
    if (!report_alive(report, &(Error){0})) return;
    report_free(report->report);
    *(volatile uint64_t *)&report->magic = 0; /* volatile: or the compiler leaves it out */
    free(report);
}

int llmdiff_report_code(const llmdiff_report *report) {
    return report_alive(report, &(Error){0}) ? report_code(report->report) : LLMDIFF_CODE_USAGE;
}

/* Whether there is a report and somewhere to put its text. */
static bool may_tell(const llmdiff_report *report, char **text, Error *err) {
    if (text) *text = NULL;
    return report_alive(report, err) && given(text, "text", err);
}

llmdiff_status llmdiff_report_text(const llmdiff_report *report, int all_rows, char **text,
                                   llmdiff_error *error) {
    Error err = {0};
    if (!may_tell(report, text, &err)) return misuse(error, &err);
    *text = report_text(report->report, all_rows != 0, &err);
    return finished(error, &err);
}

static llmdiff_status tell_as(char *(*as)(const Report *, Error *), const llmdiff_report *report,
                              char **text, llmdiff_error *error) {
    Error err = {0};
    if (!may_tell(report, text, &err)) return misuse(error, &err);
    *text = as(report->report, &err);
    return finished(error, &err);
}

llmdiff_status llmdiff_report_json(const llmdiff_report *report, char **text,
                                   llmdiff_error *error) {
    return tell_as(report_json, report, text, error);
}

llmdiff_status llmdiff_report_html(const llmdiff_report *report, char **text,
                                   llmdiff_error *error) {
    return tell_as(report_html, report, text, error);
}

llmdiff_status llmdiff_report_svg(const llmdiff_report *report, char **text, llmdiff_error *error) {
    return tell_as(report_svg, report, text, error);
}

llmdiff_status llmdiff_save_text(const char *text, const char *path, llmdiff_error *error) {
    Error err = {0};
    OutFile f;
    if (!given(text, "text", &err) || !given(path, "path", &err)) return misuse(error, &err);
    if (outfile_open(&f, path, &err) == 0) {
        fputs(text, f.stream);
        outfile_close(&f, &err);
    }
    return finished(error, &err);
}
