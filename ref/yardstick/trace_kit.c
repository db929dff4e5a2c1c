/* A trace as a kit of one case, so that recompute.c can run it again: what was asked for is in the
 * trace's metadata, what was drawn and computed is in its tensors. See kit.h. */
#include "ref/yardstick/kit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How parameters of a case are called in a trace. */
static const struct {
    const char *parameter, *metadata;
    bool number;
} known[] = {{"prompt", "prompt", false},
             {"negative_prompt", "negative_prompt", false},
             {"steps", "steps", true},
             {"cfg_scale", "cfg_scale", true},
             {"eta", "eta", true},
             {"width", "width", true},
             {"height", "height", true},
             {"clip_skip", "clip_skip", true},
             {"sampling_method", "sampler", false}};

static void put_in(cJSON *to, const char *key, cJSON *item, Error *err) {
    if (item && cJSON_AddItemToObject(to, key, item)) return;
    cJSON_Delete(item);
    fail(err, "out of memory");
}

/* NULL: it isn't JSON, or with a message. */
static cJSON *parsed(const char *text, Error *err) {
    errno = 0; /* malloc tells why cJSON failed; cJSON itself doesn't */
    cJSON *json = cJSON_Parse(text);
    if (!json && errno == ENOMEM) fail(err, "out of memory");
    return json;
}

/* Settings and numbers are JSON as they stand; what isn't is left out, and asked for in vain later. */
static cJSON *parameters_of(const Safetensors *trace, Error *err) {
    cJSON *all = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof known / sizeof known[0] && !err->set; i++) {
        const char *text = safetensors_metadata(trace, known[i].metadata);
        if (!text) continue;
        cJSON *item = known[i].number ? parsed(text, err) : cJSON_CreateString(text);
        if (item || !known[i].number) put_in(all, known[i].parameter, item, err);
    }
    const char *settings = safetensors_metadata(trace, "settings");
    cJSON *item = settings ? parsed(settings, err) : NULL;
    if (item) put_in(all, "settings", item, err);
    if (!all) fail(err, "out of memory");
    return all;
}

/* Every tensor is an input, should one be asked for, and an output. */
static int name_tensors(KitGroup *g, Error *err) {
    KitCase *c = g->cases;
    size_t n = tensor_file_count(g->expected);
    c->input = calloc(n + 1, sizeof *c->input);
    c->output = calloc(n + 1, sizeof *c->output);
    if (!c->input || !c->output) return fail(err, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const TensorInfo *t = tensor_file_at(g->expected, i);
        KitOutput *o = &c->output[c->outputs++];
        *o =
            (KitOutput){.name = t->name, .stored = strdup(t->name), .ndim = t->ndim, .expected = i};
        memcpy(o->dim, t->dim, sizeof o->dim);
        if (!o->stored) return fail(err, "out of memory");
        c->input[c->inputs++] = t->name;
    }
    return 0;
}

static int open_trace(Kit *kit, const char *trace, const char *model, Error *err) {
    KitGroup *g = kit->group = calloc(1, sizeof *g);
    kit->pack = calloc(1, sizeof *kit->pack);
    kit->dir = strdup(model);
    if (g) {
        kit->groups = 1;
        g->cases = calloc(1, sizeof *g->cases);
        g->count = g->cases != NULL;
    }
    if (!g || !kit->pack || !kit->dir || !g->cases) return fail(err, "out of memory");
    kit->packs = 1;
    *kit->pack = (KitPack){"model", ".", NULL};
    g->name = g->inputs_file = g->expected_file = trace;
    g->inputs = safetensors_open(trace, err);
    if (g->inputs) g->expected = tensor_file_open(trace, NULL, err);
    if (!g->expected) return -1;
    const char *who = safetensors_metadata(g->inputs, "conditioner");
    *g->cases = (KitCase){.name = "", .runs = "", .pack = "model"};
    if (who && strcmp(who, "clip") == 0) g->cases->text_encoder = "model";
    g->cases->parameters = kit->json = parameters_of(g->inputs, err);
    g->kind = safetensors_metadata(g->inputs, "steps") ? KIT_PICTURE : KIT_ALGORITHM1;
    return err->set ? -1 : name_tensors(g, err);
}

Kit *kit_of_trace(const char *trace, const char *model, Error *err) {
    Kit *kit = calloc(1, sizeof *kit);
    if (!kit) {
        fail(err, "out of memory");
        return NULL;
    }
    if (open_trace(kit, trace, model, err) == 0) return kit;
    kit_close(kit);
    return NULL;
}
