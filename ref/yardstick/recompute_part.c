/* Which part of a picture's run a tensor belongs to: one evaluation of the U-Net, or Algorithm 1 of one
 * prompt, begun from the truth's own tensors. What doesn't concern it needs no recomputing. See
 * recompute.h. */
#include "ref/yardstick/recompute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool begins(const char *name, const char *with) {
    return strncmp(name, with, strlen(with)) == 0;
}

/* False: the whole run. */
static bool choose(RecomputePart *p, const char *name) {
    long long i;
    int end = 0;
    const char *of_prompt = begins(name, "uncond/") ? name + 7 : name;
    if (sscanf(name, "unet/%lld/%n", &i, &end) == 1 && end && strcmp(name + end, "sample") != 0 &&
        strcmp(name + end, "t") != 0) {
        p->group.kind = KIT_UNET;
        cJSON_AddNumberToObject(p->parameters, "evaluation", (double)i);
        return true;
    }
    if (!begins(of_prompt, "llm/") && !begins(of_prompt, "alg1/") && !begins(of_prompt, "adapter/"))
        return false;
    p->group.kind = KIT_ALGORITHM1;
    if (of_prompt != name) cJSON_AddStringToObject(p->parameters, "names", "uncond/");
    return true;
}

void recompute_part(RecomputePart *p, const KitGroup *group, const KitCase *c, KitMode mode,
                    const char *name, Error *err) {
    Error unreadable = {0};
    *p = (RecomputePart){.group = *group, .c = *c};
    if (group->kind != KIT_PICTURE || mode != KIT_FORCED || c->text_encoder) return;
    p->parameters = cJSON_Duplicate(c->parameters, true);
    if (!p->parameters) {
        fail(err, "out of memory for hints");
        return;
    }
    if (!choose(p, name)) return;
    p->inputs = safetensors_open(tensor_file_path(group->expected), &unreadable);
    recompute_no_memory(&unreadable, err);
    if (!p->inputs) {
        p->group.kind = group->kind;
        return;
    }
    p->group.inputs = p->inputs;
    p->group.cases = &p->c;
    p->c.parameters = p->parameters;
    p->c.inputs = safetensors_count(p->inputs);
    p->c.input = p->names = calloc(p->c.inputs + 1, sizeof *p->names);
    if (!p->names) fail(err, "out of memory for hints");
    for (size_t i = 0; p->names && i < p->c.inputs; i++)
        p->names[i] = safetensors_at(p->inputs, i)->name;
}

void recompute_part_end(RecomputePart *p) {
    cJSON_Delete(p->parameters);
    free(p->names);
    safetensors_close(p->inputs);
}

void recompute_no_memory(const Error *on_the_way, Error *err) {
    if (strstr(on_the_way->message, "out of memory") ||
        strstr(on_the_way->message, "Cannot allocate memory"))
        fail(err, "%s", on_the_way->message);
}
