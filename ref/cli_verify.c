/* llmdiff verify: the kit, and a port's outputs or our own. See cli.h. */
#include "ref/cli.h"

#include <string.h>
#include <unistd.h>

/* Our own outputs go neither into the kit, whose files have such names, nor where a report goes. */
static int check_output(const Options *o, llmdiff_error *err) {
    const char *const flags[] = {"--json", "--html", "--svg"},
                      *paths[] = {o->json, o->html, o->svg};
    if (cli_check_kit("--output", o->output, o->kit, err)) return -1;
    for (int i = 0; i < 3; i++)
        if (paths[i] && (same_file(paths[i], o->output) ||
                         (cli_is_tensors(paths[i]) && lies_in(paths[i], o->output))))
            return cli_fail(err, "%s: %s is among the outputs of --output: expected two files",
                            flags[i], paths[i]);
    return 0;
}

static int check_usage(const Options *o, llmdiff_error *err) {
    if (!o->kit) return cli_fail(err, "verify: by which kit? Give its directory with --kit");
    if (o->free_alone && o->forced_alone)
        return cli_fail(err, "--free and --forced: expected one of them; both is the default");
    if (o->output && check_output(o, err)) return -1;
    return cli_check_reports(o, NULL, 0, err);
}

int run_verify(const Options *o, llmdiff_error *err) {
    if (check_usage(o, err)) return EXIT_USAGE;
    CliProgress shown = cli_progress("verify");
    const llmdiff_verify_options v = {.size = sizeof v,
                                      .kit = o->kit,
                                      .port = o->port,
                                      .only = o->only,
                                      .output = o->output,
                                      .walks = o->free_alone     ? LLMDIFF_WALKS_FREE
                                               : o->forced_alone ? LLMDIFF_WALKS_FORCED
                                                                 : LLMDIFF_WALKS_BOTH,
                                      .threads = (int)o->threads,
                                      .progress = cli_show_progress,
                                      .user = &shown};
    llmdiff_report *report;
    const llmdiff_status status = llmdiff_verify(&v, &report, err);
    return cli_judged(o, status, report, err);
}
