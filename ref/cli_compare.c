/* llmdiff compare: two files side by side. And what is done with any report. See cli.h. */
#include "ref/cli.h"

#include <string.h>
#include <unistd.h>

/* ---- a report ------------------------------------------------------------------------------------ */

static bool to_stdout(const char *path) { return path && strcmp(path, "-") == 0; }

typedef llmdiff_status (*Telling)(const llmdiff_report *, char **, llmdiff_error *);

/* The report in another form, if that was asked for. */
static void save(const llmdiff_report *report, Telling as, const char *path, llmdiff_error *err) {
    char *text = NULL;
    if (!path || err->status || as(report, &text, err)) return;
    if (to_stdout(path))
        fputs(text, stdout);
    else
        llmdiff_save_text(text, path, err);
    llmdiff_free(text);
}

static int check_kit_and_port(const Options *o, const char *flag, const char *path,
                              llmdiff_error *err) {
    if (o->kit && cli_check_kit(flag, path, o->kit, err)) return -1;
    return o->port ? cli_check_port(flag, path, o->port, err) : 0;
}

int cli_check_reports(const Options *o, const CliInput *in, size_t n, llmdiff_error *err) {
    static const char *const flags[] = {"--json", "--html", "--svg"};
    const char *paths[] = {o->json, o->html, o->svg};
    bool taken = false;
    for (int i = 0; i < 3; i++) {
        if (!to_stdout(paths[i])) continue;
        if (taken)
            return cli_fail(err, "--json, --html, --svg: expected one of them on standard output");
        taken = true;
        paths[i] = NULL;
    }
    for (int i = 0; i < 3; i++) {
        if (!paths[i]) continue;
        for (int k = 0; k < i; k++)
            if (cli_check_apart(flags[k], paths[k], flags[i], paths[i], err)) return -1;
        if (cli_check_inputs(flags[i], paths[i], in, n, err) ||
            check_kit_and_port(o, flags[i], paths[i], err) || llmdiff_check_output(paths[i], err))
            return -1;
    }
    return 0;
}

static void print_table(const Options *o, const llmdiff_report *report, llmdiff_error *err) {
    char *text;
    if (llmdiff_report_text(report, o->all_rows, &text, err)) return;
    fputs(text, stdout);
    llmdiff_free(text);
}

static int show_report(const Options *o, llmdiff_report *report, llmdiff_error *err) {
    int code = llmdiff_report_code(report);
    if (!to_stdout(o->json) && !to_stdout(o->html) && !to_stdout(o->svg))
        print_table(o, report, err);
    save(report, llmdiff_report_json, o->json, err);
    save(report, llmdiff_report_html, o->html, err);
    save(report, llmdiff_report_svg, o->svg, err);
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
    const CliInput in[] = {
        {"the reference", o->operand[0]}, {"MINE", o->operand[1]}, {"the file of --map", o->map}};
    return cli_check_reports(o, in, sizeof in / sizeof *in, err);
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
    c.kit = o->kit;
    c.model = o->model;
    c.progress = cli_show_progress;
    c.user = &shown;
    llmdiff_status status = llmdiff_compare(&c, &report, err);
    return cli_judged(o, status, report, err);
}
