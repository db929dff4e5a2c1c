/* llmdiff encode: a prompt's text encoding c into a file. llmdiff tokenize: its tokens. */
#include "ref/cli.h"

#include <stdlib.h>
#include <string.h>

/* ---- encode -------------------------------------------------------------------------------------- */

static int encode_prompt(const Options *o, const llmdiff_pack *pack, const char *prompt,
                         llmdiff_error *err) {
    llmdiff_result *result;
    llmdiff_request r;
    llmdiff_request_default(&r, sizeof r);
    r.prompt = prompt;
    r.threads = (int)o->threads;
    r.noise_file = o->noise;
    r.force_file = o->force;
    r.trace_file = o->trace;
    r.trace_only = o->trace_only;
    r.cancel = cli_cancelled;
    if (cli_seed(o, &r.seed, err)) return EXIT_FAILED;
    if (llmdiff_encode(pack, &r, &result, err))
        return err->status == LLMDIFF_MISUSE ? EXIT_USAGE : cli_failed(err);
    if (llmdiff_save_tensors(result, o->output, NULL, err) == LLMDIFF_OK) {
        const llmdiff_tensor *c = llmdiff_activation(result, "alg1/c.0");
        printf("%s: c [%lld, %lld], seed %llu\n", o->output, (long long)c->dim[0],
               (long long)c->dim[1], (unsigned long long)r.seed);
    }
    llmdiff_result_free(result);
    return err->status ? EXIT_FAILED : EXIT_OK;
}

static int check_files(const Options *o, llmdiff_error *err) {
    CliInput in[RUN_INPUTS];
    cli_run_inputs(o, in);
    if (cli_check_trace(o, err) ||
        cli_check_apart("--trace", o->trace, "--output", o->output, err) ||
        cli_check_inputs("--trace", o->trace, in, RUN_INPUTS, err))
        return -1;
    return cli_check_inputs("--output", o->output, in, RUN_INPUTS, err);
}

int run_encode(const Options *o, llmdiff_error *err) {
    if (check_files(o, err)) return EXIT_USAGE;
    char *prompt = cli_check_settings(o, err) ? NULL : cli_prompt(o, err);
    if (!prompt) return EXIT_USAGE;
    llmdiff_options options;
    llmdiff_pack *pack = NULL;
    int code = EXIT_FAILED;
    if (!llmdiff_check_output(o->output, err) &&
        !(o->trace && llmdiff_check_output(o->trace, err)) && !cli_pack(o, ENCODE, &options, err) &&
        !llmdiff_open(&options, &pack, err))
        code = encode_prompt(o, pack, prompt, err);
    llmdiff_close(pack);
    free(prompt);
    return code;
}

/* ---- tokenize ------------------------------------------------------------------------------------ */

int run_tokenize(const Options *o, llmdiff_error *err) {
    char *prompt = cli_prompt(o, err);
    if (!prompt) return EXIT_USAGE;
    llmdiff_options options;
    llmdiff_pack *pack = NULL;
    int64_t *ids = NULL;
    size_t count = 0;
    if (!cli_pack(o, TOKENIZE, &options, err) && !llmdiff_open(&options, &pack, err))
        llmdiff_tokenize(pack, prompt, strlen(prompt), &ids, &count, err);
    for (size_t i = 0; i < count; i++) {
        const char *piece = llmdiff_piece(pack, ids[i]);
        printf("%lld\t%s\n", (long long)ids[i], piece ? piece : "");
    }
    llmdiff_free(ids);
    llmdiff_close(pack);
    free(prompt);
    return err->status ? EXIT_FAILED : EXIT_OK;
}
