/* Which part of the network a tensor belongs to, by its name: the bands of report_svg.c. */
#include "ref/yardstick/report_markup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first component of a name; `rest` is what follows its slash. */
static void component(const char *name, char label[LABEL_SIZE], const char **rest) {
    const size_t n = strcspn(name, "/");
    snprintf(label, LABEL_SIZE, "%.*s", (int)(n < LABEL_SIZE ? n : LABEL_SIZE - 1), name);
    *rest = name[n] ? name + n + 1 : name + n;
}

/* latents/{i} is what step i - 1 made, sampler/noise.{i} what step i took. */
static bool step_of_sampler(const char *name, char label[LABEL_SIZE]) {
    const char *digits = strncmp(name, "latents/", 8) == 0          ? name + 8
                         : strncmp(name, "sampler/noise.", 14) == 0 ? name + 14
                                                                    : NULL;
    if (!digits) return false;
    const long i = strtol(digits, NULL, 10) - (*name == 'l');
    snprintf(label, LABEL_SIZE, i < 0 ? "latents" : "unet/%ld", i);
    return true;
}

/* The LLM's blocks and Algorithm 1's steps take turns: one part. */
static const char *taking_turns(const char *first) {
    static const char *const name[] = {"ids", "llm", "alg1"};
    for (int i = 0; i < 3; i++)
        if (strcmp(first, name[i]) == 0) return "llm, alg1";
    return first;
}

static const char *stretch_of(const char *module) {
    return strncmp(module, "down_", 5) == 0  ? "down"
           : strncmp(module, "mid_", 4) == 0 ? "mid"
           : strncmp(module, "up_", 3) == 0  ? "up"
                                             : "";
}

/* "llm, alg1", "uncond adapter", "unet/0" and its stretch "down", "vae"; the names are those of the
 * specification's section 8, and others go by their first component. With and without the prompt the U-Net
 * runs side by side, so those are no parts. */
static void part_of(const char *name, char part[LABEL_SIZE], char stretch[LABEL_SIZE]) {
    char first[LABEL_SIZE], second[LABEL_SIZE];
    const char *rest;
    stretch[0] = '\0';
    if (step_of_sampler(name, part)) return;
    component(name, first, &rest);
    snprintf(part, LABEL_SIZE, "%s", strcmp(first, "image") == 0 ? "vae" : taking_turns(first));
    if (strcmp(first, "uncond") == 0) {
        component(rest, second, &rest);
        snprintf(part, LABEL_SIZE, "uncond %.30s", taking_turns(second));
    } else if (strcmp(first, "unet") == 0) {
        component(rest, second, &rest);
        snprintf(part, LABEL_SIZE, "unet/%.30s", second);
        component(rest, second, &rest); /* "cond" */
        snprintf(stretch, LABEL_SIZE, "%s", stretch_of(rest));
    }
}

void report_place(const Row *row, char part[LABEL_SIZE], char stretch[LABEL_SIZE]) {
    if (!row->group) {
        part_of(row->name, part, stretch);
        return;
    }
    char unused[LABEL_SIZE];
    snprintf(part, LABEL_SIZE, "%.40s", row->group);
    part_of(row->name, stretch, unused);
}
