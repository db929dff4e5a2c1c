/* What diverges by itself beside the first divergence. See yardstick.h.
 *
 * An operator or a module is given the truth's inputs, and so is every stage of a forced walk: there a
 * mismatch is nobody else's fault, and a small first one must not hide a big one. */
#include "ref/yardstick/yardstick.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Part {
    char name[OTHER_SIZE];
    double size; /* the largest error there, relative to its tensor's largest magnitude */
} Part;

static bool own_fault(const Row *row) {
    static const char forced[] = ".forced";
    const size_t n = row->group ? strlen(row->group) : 0;
    if (!n || row->verdict == ROW_MATCH || row->verdict >= ROW_MISSING) return false;
    /* a whole step inherits what its operators and modules do wrong; AdamW is given its gradients */
    if (strcmp(row->group, "train") == 0) return strncmp(row->name, "adamw/", 6) == 0;
    return strcmp(row->group, "operators") == 0 || strcmp(row->group, "modules") == 0 ||
           strcmp(row->group, "gradients") == 0 ||
           (n >= sizeof forced && strcmp(row->group + n - sizeof forced + 1, forced) == 0);
}

static bool take_off(const char **name, const char *beginning) {
    const size_t n = strlen(beginning);
    const bool there = strncmp(*name, beginning, n) == 0;
    if (there) *name += n;
    return there;
}

/* The module alone, whichever evaluation, step or prompt it was: "unet/0/cond/mid_block" is
 * "unet/mid_block", "latents/3" is "latents". Of an operator or a module the case: without "/y"; so of AdamW. */
static void part_of(const Row *row, char name[OTHER_SIZE]) {
    const char *rest = row->name;
    const bool walk = strchr(row->group, '.') != NULL, train = strcmp(row->group, "train") == 0;
    take_off(&rest, "uncond/");
    if (walk && take_off(&rest, "unet/")) {
        rest += strspn(rest, "0123456789");
        rest += *rest == '/';
        if (!take_off(&rest, "cond/")) take_off(&rest, "uncond/");
        snprintf(name, OTHER_SIZE, "unet/%s", rest);
        return;
    }
    size_t n = strlen(rest);
    const char *last = strrchr(rest, '/');
    if (!walk && last) n = train ? strcspn(rest, "/") : (size_t)(last - rest);
    if (walk && strncmp(rest, "latents/", 8) == 0) n = 7;
    if (walk && strncmp(rest, "sampler/noise.", 14) == 0) n = 13;
    snprintf(name, OTHER_SIZE, "%.*s", (int)(n < OTHER_SIZE ? n : OTHER_SIZE - 1), rest);
}

static double size_of(const Row *row) {
    return row->verdict == ROW_MISMATCH && !isnan(row->max_rel) ? row->max_rel : INFINITY;
}

/* Takes the largest of n out for the list; of equal ones the first in execution order. */
static void choose(Part *part, size_t n, Others *out) {
    for (size_t shown = 0; shown < OTHERS_MAX && shown < n; shown++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (part[i].size >= 0 && (best == n || part[i].size > part[best].size)) best = i;
        memcpy(out->name[out->shown++], part[best].name, OTHER_SIZE);
        part[best].size = -1;
    }
}

int report_others(const Report *r, Others *out, Error *err) {
    char name[OTHER_SIZE], first[OTHER_SIZE] = "";
    *out = (Others){0};
    if (r->first == r->rows) return 0;
    if (own_fault(&r->row[r->first])) part_of(&r->row[r->first], first);
    Part *part = calloc(r->rows, sizeof *part);
    if (!part) return fail(err, "out of memory");
    for (size_t i = r->first + 1; i < r->rows; i++) {
        if (!own_fault(&r->row[i])) continue;
        part_of(&r->row[i], name);
        if (strcmp(name, first) == 0) continue;
        size_t k = 0;
        while (k < out->count && strcmp(part[k].name, name) != 0) k++;
        if (k == out->count) memcpy(part[out->count++].name, name, OTHER_SIZE);
        part[k].size = fmax(part[k].size, size_of(&r->row[i]));
    }
    choose(part, out->count, out);
    free(part);
    return 0;
}
