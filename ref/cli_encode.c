/* llmdiff encode: a prompt's text encoding c into a file. llmdiff tokenize: its tokens. */
#include "ref/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- encode -------------------------------------------------------------------------------------- */

static int write_encoding(const Options *o, Tensor c, const TokenIds *ids, const Record *record,
                          Error *err) {
    const StoredTensor tensors[] = {
        {.name = "ids",
         .dtype = DTYPE_I64,
         .ndim = 1,
         .dim = {(int64_t)ids->count},
         .data = ids->id,
         .bytes = ids->count * sizeof *ids->id},
        {.name = "alg1/c.0",
         .dtype = sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32,
         .ndim = 2,
         .dim = {c.dim[0], c.dim[1]},
         .data = c.data,
         .bytes = (size_t)tensor_numel(c) * sizeof(real)},
    };
    return safetensors_write(o->output, tensors, 2, (const char *const *)record->text, err);
}

static int encode_prompt(const Options *o, const PackPaths *paths, const Pack *pack, Context *ctx,
                         const Safetensors *draws, const char *prompt, Error *err) {
    uint64_t seed;
    TokenIds ids = {0};
    Record record = {0};
    if (cli_seed(o->seed, &seed, err)) return EXIT_FAILED;
    Noise langevin = {rng_seed(seed), draws};
    Tensor c = encode(ctx, pack, prompt, strlen(prompt), &langevin, "");
    if (ctx->error.set) {
        fail(err, "%s", ctx->error.message);
        return cli_failed(err);
    }
    if (tokenizer_encode(pack->tokenizer, prompt, strlen(prompt), true, &ids, err) == 0 &&
        record_fill(&record, o, paths, &pack->adapter->settings, prompt, seed, NULL, err) == 0)
        write_encoding(o, c, &ids, &record, err);
    record_free(&record);
    token_ids_free(&ids);
    if (err->set) return EXIT_FAILED;
    printf("%s: c [%lld, %lld], seed %llu\n", o->output, (long long)c.dim[0], (long long)c.dim[1],
           (unsigned long long)seed);
    return EXIT_OK;
}

int run_encode(const Options *o, Error *err) {
    char *prompt = cli_settings(o, &(Settings){0}, err) ? NULL : cli_prompt(o, err);
    if (!prompt) return EXIT_USAGE;
    PackPaths paths;
    Pack pack = {0};
    Context ctx = {.threads = (int)o->threads, .cancelled = cli_cancelled};
    Safetensors *draws = NULL;
    int code = EXIT_FAILED;
    if (cli_check_writable(o->output, err) == 0 && cli_pack_paths(o, ENCODE, &paths, err) == 0 &&
        pack_open(&pack, &paths, PACK_ENCODE, err) == 0 &&
        (!o->noise || (draws = safetensors_open(o->noise, err)) != NULL))
        code = encode_prompt(o, &paths, &pack, &ctx, draws, prompt, err);
    safetensors_close(draws);
    context_free(&ctx);
    pack_close(&pack);
    free(prompt);
    return code;
}

/* ---- tokenize ------------------------------------------------------------------------------------ */

static Tokenizer *open_tokenizer(const Options *o, Error *err) {
    PackPaths paths;
    if (cli_pack_paths(o, TOKENIZE, &paths, err)) return NULL;
    if (paths.llm) return tokenizer_open(paths.llm, err);
    char *path = cli_join(paths.model, "llm", err);
    Tokenizer *tokenizer = path ? tokenizer_open(path, err) : NULL;
    free(path);
    return tokenizer;
}

int run_tokenize(const Options *o, Error *err) {
    char *prompt = cli_prompt(o, err);
    if (!prompt) return EXIT_USAGE;
    TokenIds ids = {0};
    Tokenizer *tokenizer = open_tokenizer(o, err);
    if (tokenizer && tokenizer_encode(tokenizer, prompt, strlen(prompt), true, &ids, err) == 0)
        for (size_t i = 0; i < ids.count; i++) {
            const char *piece = tokenizer_piece(tokenizer, ids.id[i]);
            printf("%lld\t%s\n", (long long)ids.id[i], piece ? piece : "");
        }
    token_ids_free(&ids);
    tokenizer_close(tokenizer);
    free(prompt);
    return err->set ? EXIT_FAILED : EXIT_OK;
}
