/* llmdiff compare: two files side by side. And what is done with any report. See cli.h. */
#include "ref/cli.h"

#include <string.h>
#include <unistd.h>

/* ---- a report ------------------------------------------------------------------------------------ */

static bool to_stdout(const char *path) { return path && strcmp(path, "-") == 0; }

/* `text` is ended. */
static void save(char *text, const char *path, llmdiff_error *err) {
    if (!text) return;
    if (to_stdout(path))
        fputs(text, stdout);
    else
        llmdiff_save_text(text, path, err);
    llmdiff_free(text);
}

int cli_check_reports(const Options *o, llmdiff_error *err) {
    if (o->json && !to_stdout(o->json)) return llmdiff_check_output(o->json, err) ? -1 : 0;
    return 0;
}

static void print_table(const Options *o, const llmdiff_report *report, llmdiff_error *err) {
    char *text;
    if (llmdiff_report_text(report, o->all_rows, &text, err)) return;
    fputs(text, stdout);
    llmdiff_free(text);
}

static int show_report(const Options *o, llmdiff_report *report, llmdiff_error *err) {
    char *text = NULL;
    int code = llmdiff_report_code(report);
    if (!to_stdout(o->json)) print_table(o, report, err);
    if (!err->status && o->json && !llmdiff_report_json(report, &text, err))
        save(text, o->json, err);
    llmdiff_report_free(report);
    if (!err->status) cli_flush(err); /* here: main would take a failed one for a mismatch */
    return err->status ? LLMDIFF_CODE_MISSING : code;
}

int cli_judged(const Options *o, llmdiff_status status, llmdiff_report *report,
               llmdiff_error *err) {
    switch (status) {
    case LLMDIFF_OK: return show_report(o, report, err);
    case LLMDIFF_CANCELLED: return cli_failed(err);
    case LLMDIFF_MISUSE: return EXIT_USAGE;
    default: return LLMDIFF_CODE_MISSING; /* not judged: a mismatch would be 1 */
    }
}

/* ---- compare ------------------------------------------------------------------------------------- */

CliProgress cli_progress(const char *what) {
    return (CliProgress){what, isatty(STDERR_FILENO), seconds_now() + 1};
}

int cli_show_progress(void *user, int64_t done, int64_t of) {
    CliProgress *shown = user;
    double now = seconds_now();
    if (shown->visible && now >= shown->next) {
        fprintf(stderr, "\r\033[K%s %.0f %%", shown->what,
                of ? 100 * (double)done / (double)of : 100);
        if (done == of) fputs("\r\033[K", stderr);
        fflush(stderr);
        shown->next = done == of ? now : now + 0.5;
    }
    return cli_cancelled(NULL);
}

static int check_usage(const Options *o, llmdiff_error *err) {
    if (!o->operand[1])
        return cli_fail(err, "compare: expected two files, REF and MINE, found %s",
                        o->operand[0] ? "one" : "none");
    return cli_check_reports(o, err);
}

int run_compare(const Options *o, llmdiff_error *err) {
    llmdiff_compare_options c;
    llmdiff_report *report;
    CliProgress shown = cli_progress("compare");
    if (check_usage(o, err)) return EXIT_USAGE;
    llmdiff_compare_default(&c, sizeof c);
    c.reference = o->operand[0];
    c.mine = o->operand[1];
    c.only = o->only;
    c.rtol = o->rtol;
    c.atol = o->atol;
    c.map_file = o->map;
    c.progress = cli_show_progress;
    c.user = &shown;
    llmdiff_status status = llmdiff_compare(&c, &report, err);
    return cli_judged(o, status, report, err);
}
