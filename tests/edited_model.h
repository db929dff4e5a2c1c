/* A copy of a model directory without some tensors and with another value in config.json, for what a
 * loader says about it.
 *
 *     EditedModel e = edited_model("golden/data/vae_sd", "encoder.", "scaling_factor", "-1");
 *     vae_load(e.dir, &err);
 *     assert_says(&e, &err, "@/config.json: ...");          // @: the directory
 *     edited_model_remove(&e); */
#ifndef LLMDIFF_EDITED_MODEL_H
#define LLMDIFF_EDITED_MODEL_H

#include "tests/check.h"
#include "weights/file.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct EditedModel {
    char dir[64], config[128], tensors[128];
} EditedModel;

/* drop: tensors whose name begins so are left out; key: set to the JSON `value`, or removed if that is
 * NULL. Each may be NULL: nothing. */
static inline EditedModel edited_model(const char *from, const char *drop, const char *key,
                                       const char *value) {
    static const char *const stem[] = {"model", "diffusion_pytorch_model"};
    EditedModel e = {.dir = "/tmp/llmdiff-test-XXXXXX"};
    char path[256];
    Error err = {0};
    assert_non_null(mkdtemp(e.dir));

    snprintf(path, sizeof path, "%s/config.json", from);
    size_t size;
    char *text = file_read(path, &size, &err);
    cJSON *config = cJSON_Parse(text);
    assert_non_null(config);
    free(text);
    if (key) cJSON_DeleteItemFromObjectCaseSensitive(config, key);
    if (key && value) cJSON_AddItemToObject(config, key, cJSON_Parse(value));
    text = cJSON_Print(config);
    snprintf(e.config, sizeof e.config, "%s/config.json", e.dir);
    FILE *f = fopen(e.config, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    cJSON_free(text);
    cJSON_Delete(config);

    Safetensors *s = NULL;
    for (int i = 0; i < 2 && !s; i++) {
        err = (Error){0};
        snprintf(path, sizeof path, "%s/%s.safetensors", from, stem[i]);
        snprintf(e.tensors, sizeof e.tensors, "%s/%s.safetensors", e.dir, stem[i]);
        s = safetensors_open(path, &err);
    }
    assert_non_null(s);
    StoredTensor *kept = calloc(safetensors_count(s), sizeof *kept);
    size_t n = 0;
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const StoredTensor *t = safetensors_at(s, i);
        if (!drop || strncmp(t->name, drop, strlen(drop)) != 0) kept[n++] = *t;
    }
    assert_true(!drop || n < safetensors_count(s));
    assert_int_equal(safetensors_write(e.tensors, kept, n, NULL, &err), 0);
    free(kept);
    safetensors_close(s);
    return e;
}

static inline void edited_model_remove(EditedModel *e) {
    unlink(e->config);
    unlink(e->tensors);
    assert_int_equal(rmdir(e->dir), 0);
}

/* The error's message is `expected`, in which @ stands for the directory. */
static inline void assert_says(const EditedModel *e, const Error *err, const char *expected) {
    char text[2048];
    size_t used = 0;
    for (const char *p = expected; *p; p++) {
        assert_true(used + sizeof e->dir + 1 < sizeof text);
        if (*p == '@')
            used += (size_t)sprintf(text + used, "%s", e->dir);
        else
            text[used++] = *p;
    }
    text[used] = '\0';
    assert_true(err->set);
    assert_string_equal(err->message, text);
}

#endif
