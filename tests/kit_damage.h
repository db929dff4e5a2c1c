/* What the kit's self-sabotage does to the outputs of a correct port: one tensor's numbers, the tensors
 * of a file, or the bytes of a file. */
#ifndef LLMDIFF_KIT_DAMAGE_H
#define LLMDIFF_KIT_DAMAGE_H

#include "tests/cli_run.h"

#include "ref/yardstick/run.h"

#include <cjson/cJSON.h>
#include <math.h>

/* ---- the tensors of one file ------------------------------------------------------------------------ */

static inline Outputs tensors_of(const char *file) {
    Error err = {0};
    Outputs all = {0};
    Safetensors *s = safetensors_open(path(file), &err);
    for (size_t i = 0; s && i < safetensors_count(s); i++) {
        const StoredTensor *t = safetensors_at(s, i);
        outputs_add(&all, t->name, t->dtype, t->ndim, t->dim, t->data, &err);
    }
    safetensors_close(s);
    if (err.set) fail_msg("%s", err.message);
    return all;
}

static inline void write_tensors(const char *file, const Outputs *all) {
    Error err = {0};
    unlink(path(file)); /* a link to the undamaged one */
    if (safetensors_write(path(file), all->tensor, all->count, NULL, &err))
        fail_msg("%s", err.message);
}

static inline StoredTensor *named(Outputs *all, const char *name) {
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->tensor[i].name, name) == 0) return &all->tensor[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline float bfloat16_of(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

static inline double get(const StoredTensor *t, int64_t i) {
    return t->dtype == DTYPE_F64    ? ((const double *)t->data)[i]
           : t->dtype == DTYPE_F32  ? (double)((const float *)t->data)[i]
           : t->dtype == DTYPE_BF16 ? (double)bfloat16_of(((const uint16_t *)t->data)[i])
                                    : (double)((const int64_t *)t->data)[i];
}

static inline void set(StoredTensor *t, int64_t i, double value) {
    void *data = (void *)(uintptr_t)t->data;
    if (t->dtype == DTYPE_F64)
        ((double *)data)[i] = value;
    else if (t->dtype == DTYPE_F32)
        ((float *)data)[i] = (float)value;
    else
        ((int64_t *)data)[i] = (int64_t)value;
}

static inline double *numbers_of(const StoredTensor *t) {
    const int64_t n = stored_numel(t);
    double *x = malloc((size_t)n * sizeof *x + 1);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = get(t, i);
    return x;
}

static inline void rename_tensor(StoredTensor *t, const char *name) {
    free((char *)(uintptr_t)t->name);
    t->name = strdup(name);
}

/* Another type for the same numbers. */
static inline void retype(StoredTensor *t, Dtype dtype) {
    const int64_t n = stored_numel(t);
    StoredTensor other = *t;
    other.dtype = dtype;
    other.bytes = (size_t)n * dtype_size(dtype);
    other.data = calloc(1, other.bytes + 8);
    assert_non_null(other.data);
    for (int64_t i = 0; i < n; i++) set(&other, i, get(t, i));
    free((void *)(uintptr_t)t->data);
    *t = other;
}

static inline void drop(Outputs *all, const char *name) {
    StoredTensor *t = named(all, name);
    free((char *)(uintptr_t)t->name);
    free((void *)(uintptr_t)t->data);
    *t = all->tensor[--all->count];
}

/* ---- where an element of the damaged tensor comes from, and what it becomes -------------------------- */

typedef double (*NewValue)(const double *x, const int64_t *d, int64_t i);

static inline double same_as(const double *x, int64_t i) { return x[i]; }
#define VALUE(name, expression)                                                                    \
    static inline double name(const double *x, const int64_t *d, int64_t i) {                      \
        (void)d;                                                                                   \
        (void)x;                                                                                   \
        (void)i;                                                                                   \
        return expression;                                                                         \
    }
VALUE(v_sign, -x[i])
VALUE(v_twice, 2 * x[i])
VALUE(v_vae_scale, 0.18215 * x[i])
VALUE(v_factor, 1.07 * x[i])
VALUE(v_offset, x[i] + 0.25)
VALUE(v_unit_range, x[i] / 2 + 0.5)
VALUE(v_cut, fmin(fmax(x[i], -0.3), 0.3))
VALUE(v_zero, 0)
VALUE(v_constant, 0.125)
VALUE(v_silu, x[i] / (1 + exp(-x[i])))
VALUE(v_one, i == 3 ? x[i] + 0.5 : x[i])
VALUE(v_nan, i == 10 ? NAN : x[i])
VALUE(v_all_nan, NAN)
VALUE(v_inf, i == 10 ? INFINITY : x[i])
VALUE(v_transposed, x[i % d[0] * d[1] + i / d[0]])
VALUE(v_channels_last, x[i % d[0] * d[1] * d[2] + i / d[0]])
VALUE(v_sides, x[i - i % (d[1] * d[2]) + i % d[1] * d[2] + i / d[1] % d[2]])
VALUE(v_mirrored, x[i - i % d[2] + d[2] - 1 - i % d[2]])
VALUE(v_upside_down, x[i - i % (d[1] * d[2]) + (d[1] - 1 - i / d[2] % d[1]) * d[2] + i % d[2]])
VALUE(v_halves, x[i - i % d[1] + (i + d[1] / 2) % d[1]])
VALUE(v_interleaved, x[i - i % 10 + i % 2 * 5 + i % 10 / 2])
VALUE(v_columns, x[(i / d[1] % 4 * 6 + i / d[1] / 4) * d[1] + i % d[1]])
VALUE(v_row_off, i / d[1] + 1 < d[0] ? x[i + d[1]] : x[i])
VALUE(v_row_around, x[(i + d[1]) % (d[0] * d[1])])
VALUE(v_reversed, x[(d[0] - 1 - i / d[1]) * d[1] + i % d[1]])
VALUE(v_rows_swapped, same_as(x, i / d[1] == 2 ? i + 3 * d[1] : i / d[1] == 5 ? i - 3 * d[1] : i))
VALUE(v_permuted, x[i - i % d[1] + (i * 3 + 1) % d[1]])
VALUE(v_bias, x[i] + sin(1.7 * (double)(i / (d[1] * d[2]) + 1)))
VALUE(v_weight, x[i] * (1.5 + sin(1.7 * (double)(i % d[1]))))
VALUE(v_row, i / d[1] == 4 ? x[i] + cos((double)i) : x[i])
VALUE(v_last_rows, i / d[1] >= d[0] - 2 ? 0 : x[i])
VALUE(v_border, i % d[2] % (d[2] - 1) == 0 || i / d[2] % d[1] % (d[1] - 1) == 0
                    ? x[i] + cos((double)i)
                    : x[i])
VALUE(v_noise, x[i] * (1 + 0.02 * sin(12.9898 * (double)(i * i + 1))))
VALUE(v_less, x[i] - 1)
VALUE(v_shifted_id, i ? x[i - 1] : 0)

static inline void change_values(StoredTensor *t, NewValue value) {
    const int64_t n = stored_numel(t);
    int64_t dim[4] = {1, 1, 1, 1};
    double *x = numbers_of(t);
    for (int i = 0; i < t->ndim && i < 4; i++) dim[i] = t->dim[i];
    for (int64_t i = 0; i < n; i++) set(t, i, value(x, dim, i));
    free(x);
}

/* Rounded to so many bits of the significand, the type staying as it is. */
static inline void round_to(StoredTensor *t, int bits) {
    for (int64_t i = 0; i < stored_numel(t); i++) {
        int exponent;
        double m = frexp(get(t, i), &exponent);
        set(t, i, ldexp(nearbyint(ldexp(m, bits)), exponent - bits));
    }
}

/* ---- a JSON file ------------------------------------------------------------------------------------- */

static inline cJSON *json_of(const char *file) {
    size_t size;
    char *text = contents(file, &size);
    cJSON *json = cJSON_ParseWithLength(text, size);
    free(text);
    assert_non_null(json);
    return json;
}

static inline void put_json(const char *file, cJSON *json) {
    char *text = cJSON_Print(json);
    unlink(path(file));
    put_text(file, text);
    cJSON_free(text);
    cJSON_Delete(json);
}

#endif
