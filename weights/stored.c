/* StoredTensor values as doubles, from every float type that files hold. See safetensors.h. */
#include "weights/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

bool dtype_is_float(Dtype dtype) { return dtype <= DTYPE_BF16; }

int64_t stored_numel(const StoredTensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    return n;
}

void shape_text(char *out, size_t size, int ndim, const int64_t *dim) {
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < ndim && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%" PRId64, i ? ", " : "", dim[i]);
    if (used < size) snprintf(out + used, size - used, "]");
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static double half_to_double(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double v = exponent == 0    ? ldexp(fraction, -24)
               : exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                                : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -v : v;
}

/* bfloat16 is the upper half of a float. */
static double bfloat_to_double(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float v;
    memcpy(&v, &wide, sizeof v);
    return v;
}

int stored_to_double(const StoredTensor *t, double *out, Error *err) {
    const unsigned char *p = t->data; /* memcpy throughout: the file aligns nothing */
    int64_t n = stored_numel(t);
    size_t size = dtype_size(t->dtype);
    switch (t->dtype) {
    case DTYPE_F64:
        if (n) memcpy(out, p, (size_t)n * size);
        return 0;
    case DTYPE_F32:
        for (int64_t i = 0; i < n; i++, p += size) {
            float v;
            memcpy(&v, p, size);
            out[i] = v;
        }
        return 0;
    case DTYPE_F16:
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++, p += size) {
            uint16_t bits;
            memcpy(&bits, p, size);
            out[i] = t->dtype == DTYPE_F16 ? half_to_double(bits) : bfloat_to_double(bits);
        }
        return 0;
    default:
        return fail(err, "tensor \"%s\": expected floating-point numbers, found %s", t->name,
                    dtype_name(t->dtype));
    }
}

/* Element i of an integer type. */
static int64_t whole(const StoredTensor *t, int64_t i) {
    const unsigned char *p = t->data;
    int64_t i64;
    int32_t i32;
    int16_t i16;
    switch (t->dtype) {
    case DTYPE_I64: return memcpy(&i64, p + 8 * i, 8), i64;
    case DTYPE_I32: return memcpy(&i32, p + 4 * i, 4), i32;
    case DTYPE_I16: return memcpy(&i16, p + 2 * i, 2), i16;
    case DTYPE_I8: return (int8_t)p[i];
    case DTYPE_U8: return p[i];
    default: return p[i] != 0; /* DTYPE_BOOL */
    }
}

int stored_widen(const StoredTensor *t, double *out, Error *err) {
    static const int64_t exact = INT64_C(1) << 53;
    if (dtype_is_float(t->dtype)) return stored_to_double(t, out, err);
    for (int64_t i = 0, n = stored_numel(t); i < n; i++) {
        int64_t v = whole(t, i);
        if (v > exact || v < -exact)
            return fail(err, "tensor \"%s\": expected whole numbers up to 2^53, found %lld at %lld",
                        t->name, (long long)v, (long long)i);
        out[i] = (double)v;
    }
    return 0;
}
