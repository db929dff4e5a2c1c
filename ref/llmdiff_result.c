/* What came out of a run: accessors, and the activations that were kept. See llmdiff.h. */
#include "ref/llmdiff_private.h"

#include <stdlib.h>
#include <string.h>

static bool alive(const llmdiff_result *result) { return result_alive(result, &(Error){0}); }

void llmdiff_result_free(llmdiff_result *result) {
    if (!alive(result)) return;
    picture_free(&result->picture);
    for (size_t i = 0; i < result->tensors; i++) {
        free(result->tensor[i].name);
        free(result->tensor[i].data);
    }
    free(result->tensor);
    record_free(&result->record);
    *(volatile uint64_t *)&result->magic = 0; /* volatile: or the compiler leaves it out */
    free(result);
}

const uint8_t *llmdiff_rgb(const llmdiff_result *result) {
    return alive(result) ? result->picture.rgb : NULL;
}

int64_t llmdiff_width(const llmdiff_result *result) {
    return alive(result) ? result->picture.width : 0;
}

int64_t llmdiff_height(const llmdiff_result *result) {
    return alive(result) ? result->picture.height : 0;
}

int64_t llmdiff_enlargement(const llmdiff_result *result) {
    const int64_t width = llmdiff_width(result), seen = LLMDIFF_SEEN_WIDTH;
    return width && width < seen ? (seen + width - 1) / width : 1;
}

const llmdiff_tensor *llmdiff_latents(const llmdiff_result *result) {
    return alive(result) && result->latents.data ? &result->latents : NULL;
}

size_t llmdiff_peak_bytes(const llmdiff_result *result) {
    return alive(result) ? result->peak_bytes : 0;
}

int llmdiff_text_at(const llmdiff_result *result, size_t i, const char **key, const char **value) {
    if (!alive(result) || !key || !value || i >= result->record.entries) return 0;
    *key = result->record.text[2 * i];
    *value = result->record.text[2 * i + 1];
    return 1;
}

/* ---- kept activations ---------------------------------------------------------------------------- */

static size_t tensor_bytes(const llmdiff_tensor *t) {
    size_t bytes = t->dtype == LLMDIFF_F32 ? 4 : 8;
    for (int i = 0; i < t->ndim; i++) bytes *= (size_t)t->dim[i];
    return bytes;
}

/* Room for one more. */
static bool make_room(llmdiff_result *result) {
    if (result->tensors < result->room) return true;
    size_t room = result->room ? 2 * result->room : 8;
    Kept *more = realloc(result->tensor, room * sizeof *more);
    if (!more) return false;
    result->tensor = more;
    result->room = room;
    return true;
}

int result_keep(llmdiff_result *result, const llmdiff_tensor *tensor) {
    if (!make_room(result)) return -1;
    Kept kept = {.seen = *tensor};
    size_t bytes = tensor_bytes(tensor);
    kept.name = strdup(tensor->name);
    kept.data = malloc(bytes ? bytes : 1);
    if (!kept.name || !kept.data) {
        free(kept.name);
        free(kept.data);
        return -1;
    }
    memcpy(kept.data, tensor->data, bytes);
    kept.seen.name = kept.name;
    kept.seen.data = kept.data;
    result->tensor[result->tensors++] = kept;
    return 0;
}

const llmdiff_tensor *llmdiff_activation_at(const llmdiff_result *result, size_t i) {
    return alive(result) && i < result->tensors ? &result->tensor[i].seen : NULL;
}

const llmdiff_tensor *llmdiff_activation(const llmdiff_result *result, const char *name) {
    if (!alive(result) || !name) return NULL;
    for (size_t i = 0; i < result->tensors; i++)
        if (strcmp(result->tensor[i].name, name) == 0) return &result->tensor[i].seen;
    bool final = result->latents.data && strcmp(result->latents_name, name) == 0;
    return final ? &result->latents : NULL;
}

int64_t llmdiff_dropped_tokens(const llmdiff_result *result) {
    return result_alive(result, &(Error){0}) ? result->picture.dropped : 0;
}
