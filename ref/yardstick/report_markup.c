/* Hostile names and numbers in XML and HTML: see report_markup.h. */
#include "ref/yardstick/report_markup.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* ---- text ---------------------------------------------------------------------------------------- */

#define REPLACEMENT 0xFFFD

/* Left-to-right marks, embeddings, overrides and isolates: they reach beyond the name. */
static bool turns_text(utf8proc_int32_t code) {
    return code == 0x061C || code == 0x200E || code == 0x200F ||
           (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

static utf8proc_int32_t harmless(utf8proc_int32_t code) {
    if (code < 0x20) return 0x2400 + code; /* "control pictures" */
    if (code == 0x7F) return 0x2421;
    if (code < 0xA0 && code > 0x7F) return REPLACEMENT;
    if (code == 0x2028 || code == 0x2029 || turns_text(code)) return REPLACEMENT;
    if ((code & 0xFFFE) == 0xFFFE || (code >= 0xFDD0 && code <= 0xFDEF)) return REPLACEMENT;
    return code;
}

/* The next character, at least one byte of it. */
static size_t next(const char *text, size_t left, utf8proc_int32_t *code) {
    utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)left, code);
    if (n > 0) return (size_t)n;
    *code = REPLACEMENT;
    return 1;
}

static void put_character(Text *out, utf8proc_int32_t code) {
    switch (code) {
    case '&': put(out, "&amp;"); return;
    case '<': put(out, "&lt;"); return;
    case '>': put(out, "&gt;"); return;
    case '"': put(out, "&quot;"); return;
    case '\'': put(out, "&#39;"); return;
    default: break;
    }
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(harmless(code), bytes);
    put(out, "%.*s", (int)n, (const char *)bytes);
}

static size_t characters(const char *text, size_t size) {
    size_t count = 0;
    utf8proc_int32_t code;
    for (size_t i = 0; i < size; count++) i += next(text + i, size - i, &code);
    return count;
}

/* All but the characters from `from` to `to`, in whose place an ellipsis stands. */
static void put_without(Text *out, const char *text, size_t from, size_t to) {
    const size_t size = strlen(text);
    utf8proc_int32_t code;
    for (size_t i = 0, k = 0; i < size; k++) {
        i += next(text + i, size - i, &code);
        if (k < from || k >= to) put_character(out, code);
        if (k == from && k < to) put(out, "\xe2\x80\xa6");
    }
}

void put_escaped(Text *out, const char *text, size_t most) {
    put_without(out, text, most, SIZE_MAX);
}

void put_escaped_name(Text *out, const char *name, size_t most) {
    const size_t count = characters(name, strlen(name));
    if (count <= most)
        put_escaped(out, name, most);
    else
        put_without(out, name, most / 3, count - (most - most / 3));
}

/* ---- numbers ------------------------------------------------------------------------------------- */

/* printf writes the decimal point of the process's locale. */
static const char *with_point(char *out) {
    for (char *p = out; *p; p++)
        if (!strchr("0123456789+-einfNa", *p)) *p = '.';
    return out;
}

static const char *not_finite(double v) { return isnan(v) ? "NaN" : v > 0 ? "inf" : "-inf"; }

const char *number_text(char out[NUMBER_SIZE], double v) {
    if (!isfinite(v)) return strcpy(out, not_finite(v));
    if (v == 0) return strcpy(out, "0");
    snprintf(out, NUMBER_SIZE, "%.2e", v);
    return with_point(out);
}

const char *value_text(char out[NUMBER_SIZE], double v, int digits) {
    if (!isfinite(v)) return strcpy(out, not_finite(v));
    snprintf(out, NUMBER_SIZE, "%.*g", digits, v);
    return with_point(out);
}

const char *length_text(char out[NUMBER_SIZE], double units) {
    const long tenths = lround(units * 10);
    snprintf(out, NUMBER_SIZE, "%ld.%ld", tenths / 10, tenths % 10);
    return out;
}

/* ---- places -------------------------------------------------------------------------------------- */

static void put_list(Text *out, int n, const int64_t *number_of) {
    put(out, "[");
    for (int i = 0; i < n; i++) put(out, "%s%lld", i ? ", " : "", (long long)number_of[i]);
    put(out, "]");
}

void put_shape(Text *out, const TensorInfo *t) { put_list(out, t->ndim, t->dim); }

void put_index(Text *out, const TensorInfo *t, int64_t flat) {
    int64_t at[STORED_MAX_DIMS];
    for (int i = t->ndim - 1; i >= 0; i--) {
        at[i] = t->dim[i] > 0 ? flat % t->dim[i] : 0;
        flat = t->dim[i] > 0 ? flat / t->dim[i] : 0;
    }
    put_list(out, t->ndim, at);
}
