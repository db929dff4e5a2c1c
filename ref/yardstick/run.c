/* The models of the kit's packs, and the outputs of a case. See run.h. */
#include "ref/yardstick/run.h"
#include "ref/pack_hash.h"
#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- outputs -------------------------------------------------------------------------------------- */

void outputs_free(Outputs *out) {
    for (size_t i = 0; i < out->count; i++) {
        free((char *)(uintptr_t)out->tensor[i].name);
        free((void *)(uintptr_t)out->tensor[i].data);
    }
    free(out->tensor);
    *out = (Outputs){0};
}

int outputs_add(Outputs *out, const char *name, Dtype dtype, int ndim, const int64_t *dim,
                const void *data, Error *err) {
    StoredTensor t = {.dtype = dtype, .ndim = ndim, .bytes = dtype_size(dtype)};
    for (int i = 0; i < ndim; i++) {
        t.dim[i] = dim[i];
        t.bytes *= (size_t)dim[i];
    }
    if (out->count == out->room) {
        const size_t room = out->room ? 2 * out->room : 64;
        StoredTensor *grown = realloc(out->tensor, room * sizeof *grown);
        if (!grown) return fail(err, "out of memory keeping %s", name);
        out->tensor = grown;
        out->room = room;
    }
    char *own_name = strdup(name);
    void *own = malloc(t.bytes + 1);
    if (!own_name || !own) {
        free(own_name);
        free(own);
        return fail(err, "out of memory keeping %s", name);
    }
    memcpy(own, data, t.bytes);
    t.name = own_name;
    t.data = own;
    out->tensor[out->count++] = t;
    return 0;
}

/* ---- models --------------------------------------------------------------------------------------- */

static char *part(const Models *m, const char *name, Error *err) {
    const size_t n = strlen(m->dir) + strlen(name) + 2;
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s/%s", m->dir, name);
    else
        fail(err, "out of memory opening %s", m->dir);
    return path;
}

#define OPEN_PART(type, field, directory, load)                                                    \
    const type *models_##field(Models *m, Error *err) {                                            \
        char *path = m->field || err->set ? NULL : part(m, directory, err);                        \
        if (path) m->field = load(path, err);                                                      \
        free(path);                                                                                \
        return err->set ? NULL : m->field;                                                         \
    }
OPEN_PART(Unet, unet, "unet", unet_load)
OPEN_PART(Vae, vae, "vae", vae_load)
OPEN_PART(Schedule, schedule, "scheduler", schedule_load)
OPEN_PART(ClipText, clip, "text_encoder", clip_text_load)

/* A pack that is an LLM has no directory llm/ but is it. */
const Llm *models_llm(Models *m, Error *err) {
    char *path = m->llm || err->set ? NULL : part(m, "llm", err);
    if (path) m->llm = llm_load(is_directory(path) ? path : m->dir, err);
    free(path);
    return err->set ? NULL : m->llm;
}

const Tokenizer *models_tokenizer(Models *m, Error *err) {
    char *llm = m->tokenizer || err->set ? NULL : part(m, "llm", err);
    char *path = llm && !is_directory(llm) ? part(m, "tokenizer", err) : NULL;
    if (llm && !err->set) m->tokenizer = tokenizer_open(path ? path : llm, err);
    free(path);
    free(llm);
    return err->set ? NULL : m->tokenizer;
}

/* parameters.settings as "KEY=VALUE" texts, malloc'ed each; *n of them. NULL with a message. */
static char **assignments(const cJSON *settings, size_t *n, Error *err) {
    size_t count = 0, i = 0;
    for (const cJSON *e = settings ? settings->child : NULL; e; e = e->next) count++;
    char **set = calloc(count + 1, sizeof *set);
    for (const cJSON *e = settings ? settings->child : NULL; set && e; e = e->next, i++) {
        char *value = cJSON_PrintUnformatted(e);
        const size_t size = strlen(e->string) + (value ? strlen(value) : 0) + 2;
        set[i] = value ? malloc(size) : NULL;
        if (set[i]) snprintf(set[i], size, "%s=%s", e->string, value);
        cJSON_free(value);
        if (!set[i]) break;
    }
    *n = count;
    if (set && i == count) return set;
    for (size_t k = 0; set && k < count; k++) free(set[k]);
    free(set);
    fail(err, "out of memory reading the settings of a case");
    return NULL;
}

/* The adapter `directory` with these settings is opened unless the last one was the same. */
static void open_adapter(Models *m, const char *directory, char **set, size_t n, Error *err) {
    size_t size = strlen(directory) + 1;
    for (size_t i = 0; i < n; i++) size += strlen(set[i]) + 1;
    char *key = malloc(size);
    if (!key) {
        fail(err, "out of memory opening %s", directory);
        return;
    }
    strcpy(key, directory);
    for (size_t i = 0; i < n; i++) strcat(strcat(key, "\n"), set[i]);
    if (m->adapter && strcmp(m->adapter_key, key) == 0) {
        free(key);
        return;
    }
    const Llm *llm = models_llm(m, err);
    const Unet *unet = models_unet(m, err);
    char *path = err->set ? NULL : part(m, directory, err);
    adapter_free(m->adapter);
    free(m->adapter_key);
    m->adapter = path ? adapter_load(path, llm, unet, (const char *const *)set, n, err) : NULL;
    m->adapter_key = key;
    free(path);
}

const Adapter *models_adapter(Models *m, const KitCase *c, Error *err) {
    const cJSON *settings = cJSON_GetObjectItemCaseSensitive(c->parameters, "settings");
    size_t n = 0;
    if (err->set) return NULL;
    char **set = assignments(cJSON_IsObject(settings) ? settings : NULL, &n, err);
    if (set) open_adapter(m, c->adapter ? c->adapter : "adapter", set, n, err);
    for (size_t i = 0; set && i < n; i++) free(set[i]);
    free(set);
    return err->set ? NULL : m->adapter;
}

static void close_models(Models *m) {
    adapter_free(m->adapter);
    free(m->adapter_key);
    tokenizer_close(m->tokenizer);
    clip_text_free(m->clip);
    schedule_free(m->schedule);
    vae_free(m->vae);
    unet_free(m->unet);
    llm_free(m->llm);
    free(m->dir);
}

/* ---- a run ---------------------------------------------------------------------------------------- */

KitRun *kit_run_new(const Kit *kit, int threads, Error *err) {
    KitRun *run = calloc(1, sizeof *run);
    if (run) run->models = calloc(kit->packs + 1, sizeof *run->models);
    if (!run || !run->models) {
        fail(err, "out of memory running %s", kit->dir);
        kit_run_free(run);
        return NULL;
    }
    run->kit = kit;
    run->threads = threads;
    for (size_t i = 0; i < kit->packs; i++) run->models[i].pack = &kit->pack[i];
    return run;
}

void kit_run_free(KitRun *run) {
    if (!run) return;
    for (size_t i = 0; run->models && i < run->kit->packs; i++) close_models(&run->models[i]);
    free(run->models);
    free(run);
}

static bool has_part(const Models *m, const char *name, Error *err) {
    char *path = part(m, name, err);
    const bool there = path && is_directory(path);
    free(path);
    return there;
}

/* Opens every part that the pack has, and hashes their files. */
static int hash_pack(Models *m, PackHash *hash, Error *err) {
    Adapter *adapter = NULL;
    Pack p = {0};
    const bool alone = !has_part(m, "llm", err) && !has_part(m, "text_encoder", err);
    if (alone || has_part(m, "llm", err)) p.llm = (Llm *)(uintptr_t)models_llm(m, err);
    if (has_part(m, "unet", err)) p.unet = (Unet *)(uintptr_t)models_unet(m, err);
    if (has_part(m, "vae", err)) p.vae = (Vae *)(uintptr_t)models_vae(m, err);
    if (has_part(m, "scheduler", err)) p.schedule = (Schedule *)(uintptr_t)models_schedule(m, err);
    if (has_part(m, "text_encoder", err)) p.clip = (ClipText *)(uintptr_t)models_clip(m, err);
    char *path = part(m, "adapter", err);
    if (!err->set && is_directory(path))
        adapter = p.adapter = adapter_load(path, p.llm, p.unet, NULL, 0, err);
    free(path);
    p.tokenizer_path = alone ? strdup(m->dir) : part(m, p.clip ? "tokenizer" : "llm", err);
    if (!p.tokenizer_path) fail(err, "out of memory opening %s", m->dir);
    const int status = err->set ? -1 : pack_hash(&p, NULL, NULL, hash, err);
    free(p.tokenizer_path);
    adapter_free(adapter);
    return status;
}

/* Is it the one that the kit was made with? */
static void check_pack(Models *m, Error *err) {
    PackHash hash = {0};
    if (!is_directory(m->dir))
        fail(err, "%s: expected the pack \"%s\" that the kit was made with, found nothing", m->dir,
             m->pack->name);
    else if (m->pack->sha256 && hash_pack(m, &hash, err) == 0 &&
             strcmp(hash.sha256, m->pack->sha256) != 0)
        fail(err, "%s: expected the pack \"%s\" that the kit was made with, of hash %s, found %s",
             m->dir, m->pack->name, m->pack->sha256, hash.sha256);
    pack_hash_free(&hash);
}

/* The models of the pack of that name; NULL if `name` is, or with a message. */
static Models *models_of(KitRun *run, const char *name, Error *err) {
    for (size_t i = 0; name && i < run->kit->packs && !err->set; i++) {
        Models *m = &run->models[i];
        if (strcmp(m->pack->name, name) != 0) continue;
        if (m->dir) return m;
        m->dir = kit_path(run->kit, m->pack->path, err);
        if (m->dir) check_pack(m, err);
        return err->set ? NULL : m;
    }
    return NULL;
}

int kit_run_case(KitRun *run, const KitGroup *group, const KitCase *c, KitMode mode, Outputs *out,
                 Error *err) {
    if (err->set) return -1;
    Context ctx = {.threads = run->threads,
                   .stand_in = run->stand_in,
                   .cancelled = run->cancelled,
                   .cancelled_self = run->cancelled_self};
    const Given in = {.ctx = &ctx,
                      .kit_dir = run->kit->dir,
                      .group = group,
                      .c = c,
                      .models = models_of(run, c->pack, err),
                      .text = models_of(run, c->text_encoder, err),
                      .mode = mode,
                      .out = out,
                      .mistake = run->mistake};
    if (!err->set) {
        if (group->kind == KIT_OPERATORS)
            run_operator(&in);
        else if (group->kind == KIT_MODULES)
            run_module(&in);
        else if (group->kind == KIT_TRAIN)
            run_train(&in);
        else
            run_walk(&in, group->kind);
    }
    if (ctx.error.set)
        fail(err, "%s%s%s: %s", group->name, *c->name ? "/" : "", c->name, ctx.error.message);
    context_free(&ctx);
    return err->set ? -1 : 0;
}
