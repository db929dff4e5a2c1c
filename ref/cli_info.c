/* llmdiff info: what is in a pack or a file. llmdiff init-adapter: a fresh adapter. */
#include "ref/cli.h"

int run_info(const Options *o, llmdiff_error *err) {
    if (!o->operand[0]) {
        cli_fail(err, "info: of what? Give a directory or a file");
        return EXIT_USAGE;
    }
    char *text;
    llmdiff_status status = llmdiff_describe(o->operand[0], o->tensors, &text, err);
    if (text) fputs(text, stdout);
    llmdiff_free(text);
    return status ? EXIT_FAILED : EXIT_OK;
}

int run_init_adapter(const Options *o, llmdiff_error *err) {
    llmdiff_options pack;
    uint64_t seed;
    int64_t count;
    char size[64];
    if (!o->output) cli_fail(err, "no output: say with -o DIR where the adapter goes");
    if (err->status || cli_check_settings(o, err)) return EXIT_USAGE;
    if (cli_pack(o, INIT_ADAPTER, &pack, err)) return o->model ? EXIT_FAILED : EXIT_USAGE;
    if (cli_seed(o, &seed, err)) return EXIT_FAILED;
    if (llmdiff_init_adapter(&pack, o->output, seed, &count, err)) return cli_code(err);
    llmdiff_parameters_text(count, size);
    printf("%s: %s, seed %llu\n", o->output, size, (unsigned long long)seed);
    return EXIT_OK;
}
