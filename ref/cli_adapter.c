/* llmdiff init-adapter: a fresh adapter for an LLM and a U-Net. */
#include "ref/cli.h"

#include <stdio.h>
#include <stdlib.h>

static int64_t start_adapter(const Options *o, const PackPaths *paths, const Settings *settings,
                             uint64_t seed, Error *err) {
    char *llm_path = paths->llm ? NULL : cli_join(paths->model, "llm", err);
    char *unet_path = paths->unet ? NULL : cli_join(paths->model, "unet", err);
    Llm *llm = err->set ? NULL : llm_load(paths->llm ? paths->llm : llm_path, err);
    Unet *unet = err->set ? NULL : unet_load(paths->unet ? paths->unet : unet_path, err);
    int64_t count = err->set ? -1 : adapter_init(o->output, llm, unet, settings, seed, err);
    unet_free(unet);
    llm_free(llm);
    free(unet_path);
    free(llm_path);
    return count;
}

int run_init_adapter(const Options *o, Error *err) {
    PackPaths paths;
    uint64_t seed;
    Settings settings;
    if (!o->output) fail(err, "no output: say with -o DIR where the adapter goes");
    if (err->set || cli_settings(o, &settings, err)) return EXIT_USAGE;
    if (cli_pack_paths(o, INIT_ADAPTER, &paths, err)) return o->model ? EXIT_FAILED : EXIT_USAGE;
    if (cli_seed(o->seed, &seed, err)) return EXIT_FAILED;
    int64_t count = start_adapter(o, &paths, &settings, seed, err);
    if (count < 0) return EXIT_FAILED;
    printf("%s: ", o->output);
    print_parameters(count);
    printf(", seed %llu\n", (unsigned long long)seed);
    return EXIT_OK;
}
