/* The pack's hash: see pack_hash.h. */
#include "ref/pack_hash.h"

#include "weights/file.h"
#include "weights/sha256.h"

#include <stdlib.h>
#include <string.h>

const char *const tokenizer_files[] = {"added_tokens.json",
                                       "merges.txt",
                                       "special_tokens_map.json",
                                       "tokenizer.json",
                                       "tokenizer.model",
                                       "tokenizer_config.json",
                                       "vocab.json",
                                       NULL};

/* ---- which files --------------------------------------------------------------------------------- */

typedef struct File {
    char *name; /* "unet/config.json" */
    char *path;
} File;

typedef struct List {
    File *file; /* [count], malloc'ed */
    size_t count, room;
} List;

static void list_free(List *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->file[i].name);
        free(list->file[i].path);
    }
    free(list->file);
}

static char *join(const char *a, const char *b, Error *err) {
    const size_t room = strlen(a) + strlen(b) + 2;
    char *text = malloc(room);
    if (text)
        snprintf(text, room, "%s/%s", a, b);
    else
        fail(err, "out of memory");
    return text;
}

static void add_file(List *list, const char *part, const char *path, Error *err) {
    if (err->set) return;
    if (list->count == list->room) {
        const size_t room = 2 * list->room + 16;
        File *grown = realloc(list->file, room * sizeof *grown);
        if (!grown) {
            fail(err, "out of memory");
            return;
        }
        list->file = grown;
        list->room = room;
    }
    const char *slash = strrchr(path, '/');
    File *f = &list->file[list->count++];
    f->name = join(part, slash ? slash + 1 : path, err);
    f->path = strdup(path);
    if (!f->path) fail(err, "out of memory");
}

static void add_model(List *list, const char *part, const ModelDir *m, Error *err) {
    const char *path;
    for (size_t i = 0; (path = model_file_at(m, i)) != NULL; i++) add_file(list, part, path, err);
}

static void add_tokenizer(List *list, const char *part, const char *dir, Error *err) {
    for (int i = 0; tokenizer_files[i]; i++) {
        char *path = join(dir, tokenizer_files[i], err);
        if (path && file_exists(path)) add_file(list, part, path, err);
        free(path);
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const File *)a)->name, ((const File *)b)->name);
}

static void list_files(List *list, const Pack *p, Error *err) {
    if (p->llm) add_model(list, "llm", p->llm->files, err);
    if (p->unet) add_model(list, "unet", p->unet->files, err);
    if (p->vae) add_model(list, "vae", p->vae->files, err);
    if (p->schedule) add_file(list, "scheduler", p->schedule->path, err);
    if (p->adapter) add_model(list, "adapter", p->adapter->files, err);
    if (p->clip) add_model(list, "text_encoder", p->clip->files, err);
    add_tokenizer(list, p->clip ? "tokenizer" : "llm", p->tokenizer_path, err);
    if (!err->set) qsort(list->file, list->count, sizeof *list->file, by_name);
}

/* ---- hashing ------------------------------------------------------------------------------------- */

/* The lines of all files. malloc'ed; NULL with a message. */
static char *hash_files(const List *list, bool (*cancelled)(void *self), void *self, Error *err) {
    size_t room = 1, used = 0;
    for (size_t i = 0; i < list->count; i++) room += SHA256_HEX + 3 + strlen(list->file[i].name);
    char *text = malloc(room);
    if (!text) fail(err, "out of memory");
    for (size_t i = 0; i < list->count && !err->set; i++) {
        char hex[SHA256_HEX];
        if (sha256_file(list->file[i].path, cancelled, self, hex, err)) break;
        used += (size_t)snprintf(text + used, room - used, "%s  %s\n", hex, list->file[i].name);
    }
    if (!err->set) return text;
    free(text);
    return NULL;
}

int pack_hash(const Pack *pack, bool (*cancelled)(void *self), void *self, PackHash *out,
              Error *err) {
    List list = {0};
    *out = (PackHash){0};
    list_files(&list, pack, err);
    if (!err->set) out->files = hash_files(&list, cancelled, self, err);
    if (out->files) sha256_bytes(out->files, strlen(out->files), out->sha256);
    list_free(&list);
    return err->set ? -1 : 0;
}

void pack_hash_free(PackHash *hash) {
    free(hash->files);
    *hash = (PackHash){0};
}
