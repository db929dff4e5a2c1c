/* What a picture's stages take: Algorithm 1 over the LLM, CLIP's text encoder, one step of the U-Net by each, the
 * VAE.
 *
 *     build/f32/bench_cost PACK [--threads N] PROMPT...
 *
 * JSON: for each prompt and stage the median and the least of several runs in milliseconds, the activations' peak
 * and the weights' size in bytes. A step has both prompts of guidance. Without text_encoder/ in the pack, or a
 * conditioner that can't be opened, its stages are left out, and a line on stderr says so. */
#include "ref/pipeline.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_RUNS = 200, LEAST_RUNS = 7 };
#define SECONDS 0.4 /* of each stage */

typedef struct Bench {
    const Pack *pack;
    const char *prompt;
    int threads;
    /* of the runs before, for those after */
    Tensor c, latents;
    Prompts prompts;
} Bench;

typedef void Stage(Context *ctx, Bench *b);

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* ---- stages -------------------------------------------------------------------------------------- */

static void encoding(Context *ctx, Bench *b) {
    Noise langevin = {rng_seed(42), NULL};
    b->c = encode(ctx, b->pack, b->prompt, strlen(b->prompt), &langevin, "");
}

static void aligned(Context *ctx, Bench *b) {
    adapter_condition(ctx, b->pack->adapter, b->pack->unet, b->c, "");
}

/* CLIP's encoding and every layer's keys and values of it; there is no other way into it. */
static void conditioned(Context *ctx, Bench *b) {
    Request r = request_default(b->pack);
    r.prompt = b->prompt;
    r.prompt_length = strlen(b->prompt);
    r.cfg_scale = 1;
    b->prompts = condition(ctx, b->pack, &r);
}

static void step(Context *ctx, Bench *b) {
    predict(ctx, b->pack->unet, 0, 500, b->latents, &b->prompts);
}

static void decoded(Context *ctx, Bench *b) { vae_decode(ctx, b->pack->vae, b->latents); }

/* ---- measuring ----------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static size_t bytes_of(const ModelDir *m) {
    size_t bytes = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const StoredTensor *t = model_tensor_at(m, i);
        bytes += (size_t)stored_numel(t) * dtype_size(t->dtype);
    }
    return bytes;
}

/* Each run in the memory of `kept`, which holds what the stage reads, and is as it was afterwards. */
static void measure(cJSON *rows, const char *name, Stage *stage, size_t weights, Context *kept,
                    Bench *b, Error *err) {
    double ms[MOST_RUNS], begin = 0;
    int n = 0;
    size_t before = 0;
    for (int run = -1; n < MOST_RUNS && (n < LEAST_RUNS || now() - begin < 1e3 * SECONDS); run++) {
        const ArenaMark mark = arena_mark(&kept->arena);
        before = kept->arena.in_use;
        kept->arena.peak = before;
        const double start = now();
        if (run < 1) begin = start;
        stage(kept, b);
        if (run >= 0) ms[n++] = now() - start; /* the first one reads the weights in */
        arena_release(&kept->arena, mark);
        if (kept->error.set) {
            *err = kept->error;
            return;
        }
    }
    qsort(ms, (size_t)n, sizeof *ms, by_size);
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "stage", name);
    cJSON_AddNumberToObject(row, "ms", ms[n / 2]);
    cJSON_AddNumberToObject(row, "least_ms", ms[0]);
    cJSON_AddNumberToObject(row, "runs", n);
    cJSON_AddNumberToObject(row, "activations", (double)(kept->arena.peak - before));
    cJSON_AddNumberToObject(row, "weights", (double)weights);
    cJSON_AddItemToArray(rows, row);
}

/* All stages of one prompt by one conditioner. */
static void measure_all(cJSON *prompts, Bench *b, Error *err) {
    const Pack *pack = b->pack;
    Context ctx = {.threads = b->threads};
    TokenIds ids;
    int64_t dropped;
    if (prompt_ids(pack, b->prompt, strlen(b->prompt), &ids, &dropped, err)) return;
    cJSON *prompt = cJSON_CreateObject();
    cJSON_AddStringToObject(prompt, "conditioner", pack->clip ? "clip" : "llmdiff");
    cJSON_AddStringToObject(prompt, "prompt", b->prompt);
    cJSON_AddNumberToObject(prompt, "tokens", (double)ids.count);
    cJSON *rows = cJSON_AddArrayToObject(prompt, "rows");
    cJSON_AddItemToArray(prompts, prompt);
    token_ids_free(&ids);

    Request r = request_default(pack);
    r.prompt = b->prompt;
    r.prompt_length = strlen(b->prompt);
    if (pack->clip) {
        measure(rows, "text encoder", conditioned, bytes_of(pack->clip->files), &ctx, b, err);
    } else {
        measure(rows, "LLM, Algorithm 1", encoding, bytes_of(pack->llm->files), &ctx, b, err);
        encoding(&ctx, b);
        measure(rows, "phi, keys and values", aligned, bytes_of(pack->adapter->files), &ctx, b,
                err);
    }
    b->prompts = condition(&ctx, pack, &r);
    const Vae *vae = pack->vae;
    b->latents =
        TENSOR_NEW(&ctx, 1, r.height / vae->factor, r.width / vae->factor, vae->latent_channels);
    for (int64_t i = 0; b->latents.data && i < tensor_numel(b->latents); i++)
        b->latents.data[i] = (real)((i * 37 % 101) - 50) / 25;
    measure(rows, "U-Net, one step", step, bytes_of(pack->unet->files), &ctx, b, err);
    if (!pack->clip) measure(rows, "VAE decoder", decoded, bytes_of(vae->files), &ctx, b, err);
    if (ctx.error.set) *err = ctx.error;
    context_free(&ctx);
}

int main(int argc, char **argv) {
    const bool counted = argc > 3 && strcmp(argv[2], "--threads") == 0;
    const int first = counted ? 4 : 2;
    if (argc <= first) {
        fprintf(stderr, "usage: bench_cost PACK [--threads N] PROMPT...\n");
        return 2;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "threads", counted ? atoi(argv[3]) : 1);
    cJSON *prompts = cJSON_AddArrayToObject(root, "prompts");
    for (int clip = 0; clip < 2; clip++) {
        Error err = {0};
        Pack pack;
        const PackPaths paths = {.model = argv[1],
                                 .conditioner = clip ? CONDITIONER_CLIP : CONDITIONER_LLMDIFF};
        if (pack_open(&pack, &paths, PACK_GENERATE, &err) == 0) {
            for (int i = first; i < argc && !err.set; i++)
                measure_all(prompts,
                            &(Bench){.pack = &pack,
                                     .prompt = argv[i],
                                     .threads = counted ? atoi(argv[3]) : 1},
                            &err);
            pack_close(&pack);
        }
        if (err.set) fprintf(stderr, "bench_cost: %s\n", err.message);
    }
    char *text = cJSON_Print(root);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
    return 0;
}
