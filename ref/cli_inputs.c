/* What several commands ask of their options: the seed, where the models are. See cli.h. */
#include "ref/cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- seed, paths --------------------------------------------------------------------------------- */

static int random_seed(uint64_t *seed, llmdiff_error *err) {
    uint32_t random;
    FILE *source = fopen("/dev/urandom", "rb");
    bool good = source && fread(&random, sizeof random, 1, source) == 1;
    if (source) fclose(source);
    if (!good) return cli_fail(err, "--seed: no random one to be had from /dev/urandom");
    *seed = random;
    return 0;
}

int cli_seed(const Options *o, uint64_t *seed, llmdiff_error *err) {
    *seed = (uint64_t)o->seed;
    if (o->seed < 0 && o->team->rank == 0 && !err->status) random_seed(seed, err);
    if (team_agree(o->team, err)) return -1;
    team_share(o->team, seed, sizeof *seed);
    return 0;
}

int cli_check_settings(const Options *o, llmdiff_error *err) {
    for (size_t i = 0; i < o->sets; i++)
        if (llmdiff_check_setting(o->set[i], err)) return -1;
    return 0;
}

int cli_pack(const Options *o, CommandBit command, llmdiff_options *pack, llmdiff_error *err) {
    *pack = (llmdiff_options){.size = sizeof *pack,
                              .llm = o->llm,
                              .unet = o->unet,
                              .vae = o->vae,
                              .adapter = o->adapter,
                              .set = o->set,
                              .sets = o->sets,
                              .text_encoder = o->text_encoder,
                              .tokenizer = o->tokenizer,
                              .conditioner = command == GENERATE ? o->conditioner : NULL,
                              .use = command == TOKENIZE ? LLMDIFF_USE_TOKENIZE
                                     : command == ENCODE ? LLMDIFF_USE_ENCODE
                                     : command == TRAIN  ? LLMDIFF_USE_TRAIN
                                                         : LLMDIFF_USE_GENERATE};
    bool enough = (command == ENCODE && o->llm && o->adapter) || (command == TOKENIZE && o->llm) ||
                  (command == INIT_ADAPTER && o->llm && o->unet);
    if (enough) return 0;
    struct stat found;
    pack->model = o->model;
    if (!o->model && command == TRAIN) return cli_fail(err, "no model: give a pack with -m");
    if (!o->model) return cli_fail(err, "no model: give a pack with -m, or --llm and --unet");
    bool there = stat(o->model, &found) == 0;
    if (!there || !S_ISDIR(found.st_mode))
        return cli_fail(err, "%s: expected a pack's directory, found %s: give one with -m",
                        o->model, there ? "a file" : "nothing");
    return 0;
}

/* A name that a model's tensors are read by. */
static bool is_model_file(const char *path) {
    static const char *const stems[] = {"model", "diffusion_pytorch_model", "adapter"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (int i = 0; i < 3; i++)
        if (strncmp(name, stems[i], strlen(stems[i])) == 0) return true;
    return false;
}

/* Tensors written over those that are read would be the end of the model. */
static int check_model_files(const Options *o, const char *flag, const char *path,
                             llmdiff_error *err) {
    const struct {
        const char *name, *instead;
    } part[] = {{"llm", o->llm},
                {"unet", o->unet},
                {"vae", o->vae},
                {"adapter", o->adapter},
                {"text_encoder", o->text_encoder}};
    if (!path || !has_extension(path, ".safetensors") || !is_model_file(path)) return 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        char dir[4096];
        snprintf(dir, sizeof dir, "%s/%s", o->model ? o->model : ".", part[i].name);
        if (lies_in(path, part[i].instead ? part[i].instead : dir))
            return cli_fail(err, "%s: %s is the %s's: it would be overwritten", flag, path,
                            part[i].name);
    }
    return 0;
}

int cli_check_trace(const Options *o, llmdiff_error *err) {
    if (check_model_files(o, "--trace", o->trace, err) ||
        check_model_files(o, "--save-latents", o->save_latents, err) ||
        check_model_files(o, "--output", o->output, err))
        return -1;
    if (o->trace && !has_extension(o->trace, ".safetensors"))
        return cli_fail(err, "--trace: expected a name that ends in .safetensors, found \"%s\"",
                        o->trace);
    if (o->trace_only && !o->trace)
        return cli_fail(err, "--trace-only: expected a trace to choose for, --trace, found none");
    return 0;
}

bool has_extension(const char *path, const char *extension) {
    size_t n = strlen(path), m = strlen(extension);
    if (n <= m) return false;
    for (size_t i = 0; i < m; i++) {
        char c = path[n - m + i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (c != extension[i]) return false;
    }
    return path[n - m - 1] != '/';
}
