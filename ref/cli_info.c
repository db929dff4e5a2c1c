/* llmdiff info: what is in a file; directories are cli_info_model.c's. */
#include "ref/cli.h"
#include "ref/image.h"
#include "weights/file.h"
#include "weights/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_control(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f) return true;
    return false;
}

void info_text(const char *key, const char *value) {
    cJSON *json = has_control(value) ? cJSON_CreateString(value) : NULL;
    char *quoted = json ? cJSON_PrintUnformatted(json) : NULL;
    printf("  %-26s %s\n", key, quoted ? quoted : value);
    cJSON_free(quoted);
    cJSON_Delete(json);
}

static void print_shape(int ndim, const int64_t *dim) {
    putchar('[');
    for (int i = 0; i < ndim; i++) printf("%s%lld", i ? ", " : "", (long long)dim[i]);
    putchar(']');
}

void info_tensor(const StoredTensor *t) {
    printf("  %-5s%s ", dtype_name(t->dtype), t->name);
    print_shape(t->ndim, t->dim);
    putchar('\n');
}

/* 45512345 as "45,512,345" */
static void print_grouped(int64_t n) {
    if (n >= 1000) {
        print_grouped(n / 1000);
        printf(",%03d", (int)(n % 1000));
    } else {
        printf("%d", (int)n);
    }
}

void print_parameters(int64_t count) {
    static const struct {
        double size;
        char letter;
    } unit[] = {{1e9, 'B'}, {1e6, 'M'}, {1e3, 'k'}};
    print_grouped(count);
    printf(" parameter%s", count == 1 ? "" : "s");
    for (int i = 0; i < 3; i++)
        if ((double)count >= unit[i].size) {
            printf(" (%.1f%c)", (double)count / unit[i].size, unit[i].letter);
            return;
        }
}

/* ---- files --------------------------------------------------------------------------------------- */

static int info_safetensors(const char *path, Error *err) {
    Safetensors *file = safetensors_open(path, err);
    if (!file) return -1;
    int64_t numbers = 0;
    for (size_t i = 0; i < safetensors_count(file); i++)
        numbers += stored_numel(safetensors_at(file, i));
    printf("%s: safetensors, %zu tensors, ", path, safetensors_count(file));
    print_parameters(numbers);
    putchar('\n');
    for (size_t i = 0; i < safetensors_metadata_count(file); i++) {
        const char *key, *value;
        safetensors_metadata_at(file, i, &key, &value);
        info_text(key, value);
    }
    for (size_t i = 0; i < safetensors_count(file); i++) info_tensor(safetensors_at(file, i));
    safetensors_close(file);
    return 0;
}

static int info_npy(const char *path, Error *err) {
    Npy array;
    if (npy_read(path, &array, err)) return -1;
    printf("%s: npy, %s ", path, dtype_name(array.dtype));
    print_shape(array.ndim, array.dim);
    putchar('\n');
    npy_free(&array);
    return 0;
}

static int info_png(const char *path, Error *err) {
    ImageInfo image;
    if (image_read_info(path, &image, err)) return -1;
    printf("%s: PNG, %lld x %lld, %s, %d bit\n", path, (long long)image.width,
           (long long)image.height, image.color, image.bit_depth);
    for (size_t i = 0; image.text[i]; i += 2) info_text(image.text[i], image.text[i + 1]);
    image_info_free(&image);
    return 0;
}

static int info_file(const char *path, Error *err) {
    switch (file_kind(path, err)) {
    case FILE_SAFETENSORS: return info_safetensors(path, err);
    case FILE_NPY: return info_npy(path, err);
    case FILE_PNG: return info_png(path, err);
    default: return -1;
    }
}

int run_info(const Options *o, Error *err) {
    if (!o->path) {
        fail(err, "info: of what? Give a directory or a file");
        return EXIT_USAGE;
    }
    int status =
        is_directory(o->path) ? info_directory(o->path, o->tensors, err) : info_file(o->path, err);
    return status ? EXIT_FAILED : EXIT_OK;
}
