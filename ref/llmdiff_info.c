/* llmdiff_describe: what is in a file; directories are llmdiff_info_model.c's. */
#include "ref/image.h"
#include "ref/llmdiff_private.h"
#include "weights/file.h"
#include "weights/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines --------------------------------------------------------------------------------------- */

static bool has_control(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f) return true;
    return false;
}

void info_text(Text *out, const char *key, const char *value) {
    const bool plain = !has_control(value);
    cJSON *json = plain ? NULL : cJSON_CreateString(value);
    char *quoted = json ? cJSON_PrintUnformatted(json) : NULL;
    if (plain || quoted)
        put(out, "  %-26s %s\n", key, plain ? value : quoted);
    else
        fail(out->err, "out of memory");
    cJSON_free(quoted);
    cJSON_Delete(json);
}

static void print_shape(Text *out, int ndim, const int64_t *dim) {
    char shape[SHAPE_TEXT];
    shape_text(shape, sizeof shape, ndim, dim);
    put(out, "%s\n", shape);
}

void info_tensor(Text *out, const StoredTensor *t) {
    put(out, "  %-5s%s ", dtype_name(t->dtype), t->name);
    print_shape(out, t->ndim, t->dim);
}

/* 45512345 as "45,512,345"; returns its end. */
static char *grouped(int64_t n, char *out) {
    if (n < 1000) return out + sprintf(out, "%d", (int)n);
    out = grouped(n / 1000, out);
    return out + sprintf(out, ",%03d", (int)(n % 1000));
}

void llmdiff_parameters_text(int64_t count, char *text) {
    static const struct {
        double size;
        char letter;
    } unit[] = {{1e9, 'B'}, {1e6, 'M'}, {1e3, 'k'}};
    if (!text) return;
    char *end = grouped(count < 0 ? 0 : count, text);
    end += sprintf(end, " parameter%s", count == 1 ? "" : "s");
    for (int i = 0; i < 3; i++)
        if ((double)count >= unit[i].size) {
            sprintf(end, " (%.1f%c)", (double)count / unit[i].size, unit[i].letter);
            return;
        }
}

/* ---- files --------------------------------------------------------------------------------------- */

static int info_safetensors(Text *out, const char *path, Error *err) {
    Safetensors *file = safetensors_open(path, err);
    if (!file) return -1;
    int64_t numbers = 0;
    for (size_t i = 0; i < safetensors_count(file); i++)
        numbers += stored_numel(safetensors_at(file, i));
    char size[64];
    llmdiff_parameters_text(numbers, size);
    put(out, "%s: safetensors, %zu tensors, %s\n", path, safetensors_count(file), size);
    for (size_t i = 0; i < safetensors_metadata_count(file); i++) {
        const char *key, *value;
        safetensors_metadata_at(file, i, &key, &value);
        info_text(out, key, value);
    }
    for (size_t i = 0; i < safetensors_count(file); i++) info_tensor(out, safetensors_at(file, i));
    safetensors_close(file);
    return 0;
}

static int info_npy(Text *out, const char *path, Error *err) {
    Npy array;
    if (npy_read(path, &array, err)) return -1;
    put(out, "%s: npy, %s ", path, dtype_name(array.dtype));
    print_shape(out, array.ndim, array.dim);
    npy_free(&array);
    return 0;
}

static int info_png(Text *out, const char *path, Error *err) {
    ImageInfo image;
    if (image_read_info(path, &image, err)) return -1;
    put(out, "%s: PNG, %lld x %lld, %s, %d bit\n", path, (long long)image.width,
        (long long)image.height, image.color, image.bit_depth);
    for (size_t i = 0; image.text[i]; i += 2) info_text(out, image.text[i], image.text[i + 1]);
    image_info_free(&image);
    return 0;
}

static int info_file(Text *out, const char *path, Error *err) {
    switch (file_kind(path, err)) {
    case FILE_SAFETENSORS: return info_safetensors(out, path, err);
    case FILE_NPY: return info_npy(out, path, err);
    case FILE_PNG: return info_png(out, path, err);
    default: return -1;
    }
}

/* ---- into memory ---------------------------------------------------------------------------------- */

llmdiff_status llmdiff_describe(const char *path, int tensors, char **text, llmdiff_error *error) {
    Error err = {0};
    Text out = {.err = &err};
    if (text) *text = NULL;
    if (!given(path, "path", &err) || !given(text, "text", &err)) return misuse(error, &err);
    if (is_directory(path))
        info_directory(&out, path, tensors != 0, &err);
    else
        info_file(&out, path, &err);
    *text = out.bytes;
    return finished(error, &err);
}
