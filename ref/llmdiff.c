/* The library's front: statuses, opening a pack, tokens, a fresh adapter. See llmdiff.h. */
#include "ref/llmdiff_private.h"
#include "weights/file.h"

#include <stdlib.h>
#include <string.h>

const char *llmdiff_version(void) { return LLMDIFF_VERSION; }
const char *llmdiff_precision(void) { return REAL_NAME; }
void llmdiff_free(void *memory) { free(memory); }

/* ---- the border ---------------------------------------------------------------------------------- */

static llmdiff_status tell(llmdiff_error *error, llmdiff_status status, const Error *err) {
    if (!error) return status;
    error->status = status;
    snprintf(error->message, sizeof error->message, "%s", status ? err->message : "");
    return status;
}

llmdiff_status finished(llmdiff_error *error, const Error *err) {
    return tell(error, err->set ? LLMDIFF_FAILED : LLMDIFF_OK, err);
}

/* Unless what looked for the mistake had no memory for that: whoever has none says so in these words. */
llmdiff_status misuse(llmdiff_error *error, const Error *err) {
    bool no_memory = strstr(err->message, "out of memory") != NULL;
    return tell(error, no_memory ? LLMDIFF_FAILED : LLMDIFF_MISUSE, err);
}

llmdiff_status cancelled(llmdiff_error *error, const Error *err) {
    return tell(error, LLMDIFF_CANCELLED, err);
}

bool given(const void *pointer, const char *what, Error *err) {
    if (!pointer) fail(err, "%s: expected a pointer, found NULL", what);
    return pointer != NULL;
}

bool pack_alive(const llmdiff_pack *pack, Error *err) {
    if (!given(pack, "pack", err)) return false;
    if (pack->magic == PACK_MAGIC) return true;
    fail(err,
         "pack: expected what llmdiff_open gave, found another pointer or one that was closed");
    return false;
}

bool result_alive(const llmdiff_result *result, Error *err) {
    if (!given(result, "result", err)) return false;
    if (result->magic == RESULT_MAGIC) return true;
    fail(err, "result: expected what a run gave, found another pointer or one that was freed");
    return false;
}

bool take_struct(void *into, size_t known, size_t least, const void *from, const char *type,
                 Error *err) {
    if (!given(from, type, err)) return false;
    size_t size;
    memcpy(&size, from, sizeof size);
    if (size < least || size > (size_t)1 << 16) {
        fail(err, "%s.size: expected sizeof(%s), %zu, found %zu", type, type, known, size);
        return false;
    }
    for (size_t i = known; i < size; i++)
        if (((const unsigned char *)from)[i]) {
            fail(err, "%s: a member that this library (%s) does not know is in use", type,
                 LLMDIFF_VERSION);
            return false;
        }
    memcpy(into, from, size < known ? size : known);
    return true;
}

/* The members of version 0.1.0 end with `use`. */
#define OPTIONS_LEAST (offsetof(llmdiff_options, use) + sizeof(llmdiff_use))

static bool take_options(llmdiff_options *o, const llmdiff_options *from, Error *err) {
    *o = (llmdiff_options){0};
    if (!take_struct(o, sizeof *o, OPTIONS_LEAST, from, "llmdiff_options", err)) return false;
    if (o->sets && !given(o->set, "llmdiff_options.set", err)) return false;
    for (size_t i = 0; i < o->sets; i++)
        if (!given(o->set[i], "llmdiff_options.set[i]", err)) return false;
    const char *who = o->conditioner;
    if (who && strcmp(who, "llmdiff") != 0 && strcmp(who, "clip") != 0)
        fail(err, "--conditioner: expected llmdiff or clip, found \"%s\"", who);
    if (!(who && strcmp(who, "clip") == 0) && (o->text_encoder || o->tokenizer))
        fail(err,
             "--text-encoder, --tokenizer: expected with --conditioner clip, which they belong to");
    if (who && strcmp(who, "clip") == 0 && (o->sets || o->llm || o->adapter))
        fail(err,
             "--conditioner clip: expected no --llm, --adapter or --set, which belong to llmdiff");
    if ((unsigned)o->use > LLMDIFF_USE_TRAIN)
        fail(err, "llmdiff_options.use: expected 0 to 3, found %d", (int)o->use);
    if (who && strcmp(who, "clip") == 0 && o->use == LLMDIFF_USE_TRAIN)
        fail(err, "--conditioner clip: there is no adapter to train in it");
    return !err->set;
}

/* ---- settings ------------------------------------------------------------------------------------ */

bool take_settings(Settings *settings, const char *const *set, size_t sets, Error *err) {
    *settings = settings_default();
    for (size_t i = 0; i < sets && !err->set; i++) settings_parse(settings, set[i], err);
    return !err->set;
}

llmdiff_status llmdiff_check_setting(const char *assignment, llmdiff_error *error) {
    Error err = {0};
    Settings settings = settings_default();
    if (!given(assignment, "assignment", &err) || settings_parse(&settings, assignment, &err))
        return misuse(error, &err);
    return finished(error, &err);
}

char *settings_text(const Settings *settings, Error *err) {
    cJSON *json = settings_to_json(settings);
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;
    if (!text) fail(err, "out of memory");
    cJSON_Delete(json);
    return text;
}

/* ---- notes --------------------------------------------------------------------------------------- */

static void add_note(llmdiff_pack *p, const char *before, const char *name, const char *after,
                     Error *err) {
    size_t room = strlen(before) + strlen(name) + strlen(after) + 1;
    char *text = malloc(room);
    if (!text) {
        fail(err, "out of memory");
        return;
    }
    snprintf(text, room, "%s%s%s", before, name, after);
    p->note[p->notes++] = text;
}

/* Whether the adapter's file says that it was trained for 0 steps. */
static bool never_trained(const Adapter *adapter, Error *err) {
    char *path = joined(model_path(adapter->files), "adapter.safetensors", err);
    /* a sharded adapter has no such file, and no such metadata */
    Safetensors *file = path && file_exists(path) ? safetensors_open(path, err) : NULL;
    const char *step = file ? safetensors_metadata(file, "step") : NULL;
    bool never = step && strcmp(step, "0") == 0;
    safetensors_close(file);
    free(path);
    return never;
}

static void make_notes(llmdiff_pack *p, Error *err) {
    if (p->use != LLMDIFF_USE_GENERATE) return;
    if (p->pack.adapter && never_trained(p->pack.adapter, err))
        add_note(p, "warning: ", model_path(p->pack.adapter->files),
                 " was never trained (step 0): the picture can't follow the prompt; --conditioner "
                 "clip draws with CLIP's text encoder, where the pack has one",
                 err);
}

const char *llmdiff_note(const llmdiff_pack *pack, size_t i) {
    return pack_alive(pack, &(Error){0}) && i < pack->notes ? pack->note[i] : NULL;
}

const char *llmdiff_settings(const llmdiff_pack *pack) {
    return pack_alive(pack, &(Error){0}) ? pack->settings : NULL;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static char *copy_text(const char *text, Error *err) {
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy) fail(err, "out of memory");
    return copy;
}

static PackPaths paths_of(const llmdiff_options *o) {
    return (PackPaths){.model = o->model,
                       .llm = o->llm,
                       .unet = o->unet,
                       .vae = o->vae,
                       .adapter = o->adapter,
                       .text_encoder = o->text_encoder,
                       .tokenizer = o->tokenizer,
                       .conditioner = o->conditioner && strcmp(o->conditioner, "clip") == 0
                                          ? CONDITIONER_CLIP
                                          : CONDITIONER_LLMDIFF,
                       .set = o->set,
                       .sets = o->sets};
}

static void copy_sets(llmdiff_pack *p, const llmdiff_options *o, Error *err) {
    p->set = calloc(o->sets + 1, sizeof *p->set);
    if (!p->set) fail(err, "out of memory");
    for (; !err->set && p->sets < o->sets; p->sets++)
        p->set[p->sets] = copy_text(o->set[p->sets], err);
}

static void open_pack(llmdiff_pack *p, const llmdiff_options *o, const Settings *fresh,
                      Error *err) {
    static const PackUse uses[] = {[LLMDIFF_USE_GENERATE] = PACK_GENERATE,
                                   [LLMDIFF_USE_ENCODE] = PACK_ENCODE,
                                   [LLMDIFF_USE_TOKENIZE] = PACK_TOKENIZE,
                                   [LLMDIFF_USE_TRAIN] = PACK_TRAIN};
    PackPaths paths = paths_of(o);
    p->use = o->use;
    p->model = copy_text(o->model, err);
    p->llm = copy_text(o->llm, err);
    p->unet = copy_text(o->unet, err);
    p->vae = copy_text(o->vae, err);
    p->adapter = copy_text(o->adapter, err);
    p->text_encoder = copy_text(o->text_encoder, err);
    p->tokenizer = copy_text(o->tokenizer, err);
    copy_sets(p, o, err);
    if (!err->set) pack_open(&p->pack, &paths, uses[o->use], err);
    if (!err->set && p->pack.adapter)
        p->settings = settings_text(&p->pack.adapter->settings, err);
    else if (!err->set && o->use == LLMDIFF_USE_TRAIN)
        p->settings = settings_text(fresh, err);
    if (!err->set) make_notes(p, err);
}

llmdiff_status llmdiff_open(const llmdiff_options *options, llmdiff_pack **pack,
                            llmdiff_error *error) {
    Error err = {0};
    llmdiff_options o;
    Settings settings;
    if (pack) *pack = NULL;
    if (!given(pack, "pack", &err) || !take_options(&o, options, &err) ||
        !take_settings(&settings, o.set, o.sets, &err))
        return misuse(error, &err);
    llmdiff_pack *p = calloc(1, sizeof *p);
    if (!p) {
        fail(&err, "out of memory");
        return finished(error, &err);
    }
    p->magic = PACK_MAGIC;
    open_pack(p, &o, &settings, &err);
    if (err.set)
        llmdiff_close(p);
    else
        *pack = p;
    return finished(error, &err);
}

void llmdiff_close(llmdiff_pack *pack) {
    if (!pack_alive(pack, &(Error){0})) return;
    pack_close(&pack->pack);
    for (size_t i = 0; i < pack->notes; i++) free(pack->note[i]);
    for (size_t i = 0; i < pack->sets; i++) free(pack->set[i]);
    free(pack->set);
    cJSON_free(pack->settings);
    free(pack->model);
    free(pack->llm);
    free(pack->unet);
    free(pack->vae);
    free(pack->adapter);
    free(pack->text_encoder);
    free(pack->tokenizer);
    *(volatile uint64_t *)&pack->magic =
        0; /* volatile: or the compiler leaves it out before free */
    free(pack);
}

/* ---- tokens -------------------------------------------------------------------------------------- */

llmdiff_status llmdiff_tokenize(const llmdiff_pack *pack, const char *text, size_t length,
                                int64_t **ids, size_t *count, llmdiff_error *error) {
    Error err = {0};
    TokenIds tokens = {0};
    if (ids) *ids = NULL;
    if (count) *count = 0;
    if (!pack_alive(pack, &err) || !given(text, "text", &err) || !given(ids, "ids", &err) ||
        !given(count, "count", &err))
        return misuse(error, &err);
    if (tokenizer_encode(pack->pack.tokenizer, text, length, true, &tokens, &err) == 0) {
        *ids = tokens.id;
        *count = tokens.count;
    }
    return finished(error, &err);
}

const char *llmdiff_piece(const llmdiff_pack *pack, int64_t id) {
    return pack_alive(pack, &(Error){0}) ? tokenizer_piece(pack->pack.tokenizer, id) : NULL;
}

/* ---- a fresh adapter ----------------------------------------------------------------------------- */

static int64_t start_adapter(const llmdiff_options *o, const char *directory,
                             const Settings *settings, uint64_t seed, Error *err) {
    char *llm_path = o->llm ? NULL : joined(o->model, "llm", err);
    char *unet_path = o->unet ? NULL : joined(o->model, "unet", err);
    Llm *llm = err->set ? NULL : llm_load(o->llm ? o->llm : llm_path, err);
    Unet *unet = err->set ? NULL : unet_load(o->unet ? o->unet : unet_path, err);
    int64_t count = err->set ? -1 : adapter_init(directory, llm, unet, settings, seed, err);
    unet_free(unet);
    llm_free(llm);
    free(unet_path);
    free(llm_path);
    return count;
}

llmdiff_status llmdiff_init_adapter(const llmdiff_options *options, const char *directory,
                                    uint64_t seed, int64_t *parameters, llmdiff_error *error) {
    Error err = {0};
    llmdiff_options o;
    Settings settings;
    if (parameters) *parameters = 0;
    if (!take_options(&o, options, &err) || !given(directory, "directory", &err) ||
        !take_settings(&settings, o.set, o.sets, &err))
        return misuse(error, &err);
    if (!o.model && !(o.llm && o.unet)) {
        fail(&err, "no model: give a pack with -m, or --llm and --unet");
        return misuse(error, &err);
    }
    int64_t count = start_adapter(&o, directory, &settings, seed, &err);
    if (parameters && !err.set) *parameters = count;
    return finished(error, &err);
}
