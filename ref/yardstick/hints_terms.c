/* Hints about sums whose terms the trace has: with which coefficients are they in the reference, and
 * with which in mine? Guidance, Eq. 9, Algorithm 1 and a sampler's step say so themselves. See hints.h. */
#include "ref/yardstick/hints.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TERMS_MAX 4

/* A name `head` + number + `tail` under any prefix; number -1: none there. In the terms {p} is the
 * prefix, {n} the number, {+} and {-} that number plus and minus one. */
typedef struct Sum {
    const char *head, *tail;
    bool numbered;
    const char *term[TERMS_MAX];
} Sum;

static const Sum sums[] = {
    {"unet/", "/eps", true, {"{p}unet/{n}/cond/eps", "{p}unet/{n}/uncond/eps"}},
    {"", "/f", false, {"{p}/original", "{p}/added"}},
    {"alg1/c.",
     "",
     true,
     {"{p}alg1/c.{+}", "{p}llm/s_sentence.{+}", "{p}llm/s_word.{+}", "{p}alg1/eps.{+}"}},
    {"llm/x.", "", true, {"{p}llm/x.{+}", "{p}llm/s_sentence.{+}"}},
    {"latents/", "", true, {"{p}latents/{-}", "{p}unet/{-}/eps", "{p}sampler/noise.{-}"}},
    {"unet/", "/sample", true, {"{p}latents/{n}"}},
};

/* Does the name have that form? Its prefix and number then. */
static bool matches(const Sum *s, const char *name, char *prefix, size_t size, long long *number) {
    const size_t n = strlen(name), tail = strlen(s->tail);
    if (n < tail || strcmp(name + n - tail, s->tail) != 0) return false;
    const char *at = s->numbered ? strstr(name, s->head) : name + n - tail;
    if (!at || (size_t)(at - name) >= size) return false;
    if (s->numbered) {
        char *end;
        at += strlen(s->head);
        if (!isdigit((unsigned char)*at)) return false;
        *number = strtoll(at, &end, 10);
        if (end != name + n - tail) return false;
        at -= strlen(s->head);
    }
    snprintf(prefix, size, "%.*s", (int)(at - name), name);
    return true;
}

static void fill_in(const char *form, const char *prefix, long long n, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    while (*form && used + 1 < size) {
        int more;
        if (strncmp(form, "{p}", 3) == 0)
            more = snprintf(out + used, size - used, "%s", prefix);
        else if (strncmp(form, "{n}", 3) == 0 || strncmp(form, "{+}", 3) == 0 ||
                 strncmp(form, "{-}", 3) == 0)
            more =
                snprintf(out + used, size - used, "%lld", n + (form[1] == '+') - (form[1] == '-'));
        else
            more = snprintf(out + used, size - used, "%c", *form);
        form += *form == '{' ? 3 : 1;
        used += more > 0 ? (size_t)more : 0;
    }
}

typedef struct Terms {
    int n;
    const char *name[TERMS_MAX];
    double *values[TERMS_MAX];
} Terms;

/* Those terms that the reference has, in this shape. */
static void load_terms(Hints *h, const Sum *s, const char *prefix, long long number, Terms *t) {
    const TensorFile *file = h->q->ref_file;
    for (int i = 0; i < TERMS_MAX && s->term[i] && !h->err->set; i++) {
        char name[512];
        fill_in(s->term[i], prefix, number, name, sizeof name);
        size_t at = tensor_file_find(file, name);
        if (at == tensor_file_count(file)) continue;
        const TensorInfo *info = tensor_file_at(file, at);
        if (info->ndim != h->ndim ||
            memcmp(info->dim, h->dim, (size_t)h->ndim * sizeof *h->dim) != 0)
            continue;
        t->name[t->n] = info->name;
        t->values[t->n] = tensor_file_load(file, at, h->err);
        if (t->values[t->n]) t->n++;
    }
}

/* y ~ sum k[i] term[i] by least squares (Gauss on the normal equations, of at most 4 terms). False if
 * the terms don't tell k: one of them is a multiple of others. */
static bool solve(const Hints *h, const Terms *t, const double *y, double *k) {
    double a[TERMS_MAX][TERMS_MAX + 1] = {{0}};
    for (int i = 0; i < t->n; i++) {
        for (int j = 0; j < t->n; j++)
            for (int64_t m = 0; m < h->count; m++) a[i][j] += t->values[i][m] * t->values[j][m];
        for (int64_t m = 0; m < h->count; m++) a[i][t->n] += t->values[i][m] * y[m];
    }
    for (int i = 0; i < t->n; i++) {
        const double own = a[i][i];
        for (int j = 0; j < i; j++) {
            double f = a[i][j];
            for (int m = 0; m <= t->n; m++) a[i][m] -= f * a[j][m];
        }
        if (!(a[i][i] > 1e-10 * own)) return false;
        double pivot = a[i][i];
        for (int m = 0; m <= t->n; m++) a[i][m] /= pivot;
    }
    for (int i = t->n - 1; i >= 0; i--) {
        k[i] = a[i][t->n];
        for (int j = i + 1; j < t->n; j++) k[i] -= a[i][j] * k[j];
    }
    return true;
}

static double residual_of(const Hints *h, const Terms *t, const double *k, const double *y) {
    double residual = 0;
    for (int64_t m = 0; m < h->count; m++) {
        double sum = 0;
        for (int i = 0; i < t->n; i++) sum += k[i] * t->values[i][m];
        double d = fabs(y[m] - sum);
        if (!(d <= h->limit)) return INFINITY;
        residual = fmax(residual, d);
    }
    return residual;
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-3 * fmax(fabs(a), fabs(b)) + 1e-9; }

/* What the coefficients say together; "" if nothing known. */
static const char *meaning(int n, const double *ref, const double *mine, char *text, size_t size,
                           const char *const *name) {
    int differ = 0, at = -1;
    for (int i = 0; i < n; i++)
        if (!near(ref[i], mine[i])) differ++, at = i;
    if (n >= 2 && differ == 2 && !near(ref[0], ref[1]) && near(ref[0], mine[1]) &&
        near(ref[1], mine[0]))
        return ": the two are swapped";
    if (n == 3 && differ == 2 && near(ref[1], mine[2]) && near(ref[2], mine[1]))
        return ": the last two are swapped";
    int squares = 0;
    for (int i = 0; i < n; i++)
        squares += !near(ref[i], mine[i]) && near(mine[i], ref[i] * fabs(ref[i]));
    if (differ > 0 && squares == differ) {
        snprintf(text, size, ": %s of the reference's there, a factor that is applied twice",
                 differ > 1 ? "the squares" : "the square");
        return text;
    }
    if (differ != 1) return "";
    if (fabs(mine[at]) <= 1e-3 * fabs(ref[at]))
        snprintf(text, size, ": %s is left out", name[at]);
    else if (near(mine[at], -ref[at]))
        snprintf(text, size, ": the sign of %s", name[at]);
    else
        snprintf(text, size, ": %s is there %.6g times", name[at], mine[at] / ref[at]);
    return text;
}

/* "7.5 unet/1/cond/eps - 6.5 unet/1/uncond/eps", or the coefficients alone. What is nothing but rounding
 * is written as 0. */
static void list(char *text, size_t size, const Terms *t, const double *k, bool names) {
    double largest = 0;
    size_t used = 0;
    for (int i = 0; i < t->n; i++) largest = fmax(largest, fabs(k[i]));
    for (int i = 0; i < t->n && used + 1 < size; i++) {
        double value = fabs(k[i]) > 1e-5 * largest ? k[i] : 0;
        const char *sign = i == 0 ? "" : value < 0 ? " - " : " + ";
        int more = names ? snprintf(text + used, size - used, "%s%.6g %s", sign,
                                    i ? fabs(value) : value, t->name[i])
                         : snprintf(text + used, size - used, "%s%.6g", i ? ", " : "", value);
        used += more > 0 ? (size_t)more : 0;
    }
}

static void ask_sum(Hints *h, const Terms *t) {
    double of_ref[TERMS_MAX], of_mine[TERMS_MAX];
    if (t->n == 0 || !solve(h, t, h->ref, of_ref) || !solve(h, t, h->mine, of_mine)) return;
    /* The reference must be that sum, or the form is not what it is made of. */
    if (!(residual_of(h, t, of_ref, h->ref) <= h->limit)) return;
    double residual = residual_of(h, t, of_mine, h->mine);
    if (!hint_evident(h, t->n, residual)) return;
    char mine[400], ref[120], because[200] = "";
    list(mine, sizeof mine, t, of_mine, true);
    list(ref, sizeof ref, t, of_ref, false);
    const char *why = meaning(t->n, of_ref, of_mine, because, sizeof because, t->name);
    hint_add(h, *why ? RANK_NAMED : RANK_TERMS, residual,
             "mine is %s; the reference has %s there%s", mine, ref, why);
}

void hint_terms(Hints *h) {
    if (hint_found(h, RANK_FACTOR)) return; /* all coefficients times that: said more simply */
    if (!h->q->ref_file || h->is_integer || h->count < 4 || !(h->lowest < h->highest)) return;
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        char prefix[300];
        long long number = 0;
        Terms t = {0};
        if (!matches(&sums[i], h->q->name_in_file, prefix, sizeof prefix, &number)) continue;
        load_terms(h, &sums[i], prefix, number, &t);
        ask_sum(h, &t);
        for (int k = 0; k < t.n; k++) free(t.values[k]);
    }
}
