/* The first latents from a file or from memory; tensors and pictures to files. See llmdiff.h. */
#include "ref/image.h"
#include "ref/llmdiff_private.h"
#include "weights/file.h"
#include "weights/npy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int file_kind(const char *path, Error *err) {
    unsigned char head[8] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) return fail(err, "%s: can't be opened: %s", path, strerror(errno));
    size_t n = fread(head, 1, sizeof head, file);
    fclose(file);
    if (n == 8 && memcmp(head, "\x89PNG\r\n\x1a\n", 8) == 0) return FILE_PNG;
    if (n >= 6 && memcmp(head, "\x93NUMPY", 6) == 0) return FILE_NPY;
    return FILE_SAFETENSORS;
}

bool has_ending(const char *path, const char *extension) {
    size_t n = strlen(path), m = strlen(extension);
    if (n <= m) return false;
    for (size_t i = 0; i < m; i++) {
        char c = path[n - m + i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (c != extension[i]) return false;
    }
    return path[n - m - 1] != '/';
}

/* ---- the first latents ------------------------------------------------------------------------------------- */

static int check_shape(const char *where, int ndim, const int64_t *dim, const int64_t want[3],
                       Error *err) {
    const int64_t *last = ndim == 4 && dim[0] == 1 ? dim + 1 : dim;
    int count = last == dim ? ndim : 3;
    if (count == 3 && memcmp(last, want, 3 * sizeof *want) == 0) return 0;
    char expected[SHAPE_TEXT], found[SHAPE_TEXT];
    shape_text(expected, sizeof expected, 3, want);
    shape_text(found, sizeof found, ndim, dim);
    return fail(err, "--init-latents %s: expected shape %s for this picture's size, found %s",
                where, expected, found);
}

static void from_npy(const char *path, const int64_t dim[3], double *out, Error *err) {
    Npy array;
    if (npy_read(path, &array, err)) return;
    if (!dtype_is_float(array.dtype))
        fail(err, "--init-latents %s: expected floating-point numbers, found %s", path,
             dtype_name(array.dtype));
    else if (check_shape(path, array.ndim, array.dim, dim, err) == 0)
        memcpy(out, array.data, (size_t)(dim[0] * dim[1] * dim[2]) * sizeof *out);
    npy_free(&array);
}

/* The tensor latents/0, as a trace has it, or the only one there is. */
static void from_safetensors(const char *path, const int64_t dim[3], double *out, Error *err) {
    Safetensors *file = safetensors_open(path, err);
    if (!file) return;
    const StoredTensor *t = safetensors_find(file, "latents/0");
    if (!t && safetensors_count(file) == 1) t = safetensors_at(file, 0);
    if (!t)
        fail(err, "--init-latents %s: expected a tensor \"latents/0\" or a single one, found %zu",
             path, safetensors_count(file));
    else if (check_shape(path, t->ndim, t->dim, dim, err) == 0)
        stored_to_double(t, out, err);
    safetensors_close(file);
}

/* F32 or F64 in memory. */
static void from_memory(const llmdiff_tensor *t, const int64_t dim[3], double *out, Error *err) {
    size_t n = (size_t)(dim[0] * dim[1] * dim[2]);
    if (check_shape("in memory", t->ndim, t->dim, dim, err)) return;
    for (size_t i = 0; i < n; i++)
        out[i] = t->dtype == LLMDIFF_F64 ? ((const double *)t->data)[i]
                                         : (double)((const float *)t->data)[i];
}

real *latents_take(const llmdiff_request *asked, const int64_t dim[3], Error *err) {
    const char *path = asked->init_latents ? "in memory" : asked->init_latents_file;
    int kind = asked->init_latents ? FILE_NPY : file_kind(path, err);
    if (kind < 0) return NULL;
    size_t n = (size_t)(dim[0] * dim[1] * dim[2]);
    double *wide = malloc(n * sizeof *wide);
    real *out = malloc(n * sizeof *out);
    if (!wide || !out)
        fail(err, "--init-latents %s: out of memory", path);
    else if (asked->init_latents)
        from_memory(asked->init_latents, dim, wide, err);
    else if (kind == FILE_NPY)
        from_npy(path, dim, wide, err);
    else
        from_safetensors(path, dim, wide, err);
    for (size_t i = 0; !err->set && i < n; i++) out[i] = (real)wide[i];
    free(wide);
    if (!err->set) return out;
    free(out);
    return NULL;
}

/* ---- writing ------------------------------------------------------------------------------------- */

StoredTensor stored_tensor(const llmdiff_tensor *t) {
    static const Dtype dtypes[] = {
        [LLMDIFF_F32] = DTYPE_F32, [LLMDIFF_F64] = DTYPE_F64, [LLMDIFF_I64] = DTYPE_I64};
    StoredTensor s = {.name = t->name, .dtype = dtypes[t->dtype], .ndim = t->ndim, .data = t->data};
    s.bytes = dtype_size(s.dtype);
    for (int i = 0; i < t->ndim; i++) {
        s.dim[i] = t->dim[i];
        s.bytes *= (size_t)t->dim[i];
    }
    return s;
}

/* The tensors of that name, malloc'ed [*count]; NULL with a message. */
static StoredTensor *chosen(const llmdiff_result *result, const char *const *names, size_t *count,
                            Error *err) {
    size_t n = 0;
    while (names ? names[n] != NULL : n < result->tensors) n++;
    StoredTensor *out = calloc(n + 1, sizeof *out);
    if (!out) fail(err, "out of memory");
    for (size_t i = 0; out && i < n; i++) {
        const llmdiff_tensor *t =
            names ? llmdiff_activation(result, names[i]) : &result->tensor[i].seen;
        if (t) out[i] = stored_tensor(t);
        if (!t && names) fail(err, "the result has no tensor \"%s\": was it kept?", names[i]);
    }
    *count = n;
    if (!err->set) return out;
    free(out);
    return NULL;
}

llmdiff_status llmdiff_save_tensors(const llmdiff_result *result, const char *path,
                                    const char *const *names, llmdiff_error *error) {
    Error err = {0};
    size_t count;
    if (!result_alive(result, &err) || !given(path, "path", &err)) return misuse(error, &err);
    bool npy = has_ending(path, ".npy");
    if (!npy && !has_ending(path, ".safetensors")) {
        fail(&err, "%s: expected a name that ends in .npy or .safetensors", path);
        return misuse(error, &err);
    }
    StoredTensor *t = chosen(result, names, &count, &err);
    if (t && npy && count != 1) fail(&err, "%s: a npy file holds one tensor, not %zu", path, count);
    if (t && npy && !err.set && t->dtype == DTYPE_I64)
        fail(&err, "%s: a npy file holds floats; %s goes into .safetensors", path, t->name);
    if (err.set) {
        free(t);
        return misuse(error, &err);
    }
    if (npy)
        npy_write(path, t->dtype, t->ndim, t->dim, t->data, &err);
    else
        safetensors_write(path, t, count, (const char *const *)result->record.text, &err);
    free(t);
    return finished(error, &err);
}

llmdiff_status llmdiff_save_png(const llmdiff_result *result, const char *path,
                                llmdiff_error *error) {
    return llmdiff_save_png_enlarged(result, path, 1, error);
}

/* The result's text and, where it is more than 1, by how much the picture is enlarged. */
static void write_picture(const llmdiff_result *result, const char *path, int64_t enlarge,
                          Error *err) {
    const Record *record = &result->record;
    const char *text[2 * RECORD_MAX + 3] = {0};
    char number[32];
    size_t n = 0;
    for (; n < 2 * record->entries; n++) text[n] = record->text[n];
    snprintf(number, sizeof number, "%lld", (long long)enlarge);
    if (enlarge > 1) {
        text[n] = IMAGE_ENLARGE_KEY;
        text[n + 1] = number;
    }
    image_write_enlarged(path, result->picture.rgb, result->picture.width, result->picture.height,
                         enlarge, text, err);
}

llmdiff_status llmdiff_save_png_enlarged(const llmdiff_result *result, const char *path,
                                         int64_t enlarge, llmdiff_error *error) {
    Error err = {0};
    if (!result_alive(result, &err) || !given(path, "path", &err)) return misuse(error, &err);
    if (!result->picture.rgb) {
        fail(&err, "the result is an encoding, not a picture");
        return misuse(error, &err);
    }
    if (enlarge < 1 || enlarge > LLMDIFF_MAX_ENLARGE) {
        fail(&err, "--enlarge: expected 1 to %d, found %lld", LLMDIFF_MAX_ENLARGE,
             (long long)enlarge);
        return misuse(error, &err);
    }
    write_picture(result, path, enlarge, &err);
    return finished(error, &err);
}

llmdiff_status llmdiff_check_output(const char *path, llmdiff_error *error) {
    Error err = {0};
    OutFile probe;
    if (!given(path, "path", &err)) return misuse(error, &err);
    if (is_directory(path))
        fail(&err, "%s: can't be written: it is a directory", path);
    else if (outfile_open(&probe, path, &err) == 0)
        outfile_discard(&probe);
    return finished(error, &err);
}
