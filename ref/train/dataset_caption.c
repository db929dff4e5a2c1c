/* Files, names and captions of a data set: see dataset_private.h. */
#include "ref/train/dataset_private.h"

#include "ref/train/keyed.h"
#include "weights/file.h"
#include "weights/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- names ------------------------------------------------------------------------------------------------ */

bool has_suffix(const char *name, const char *suffix) {
    size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcasecmp(name + n - m, suffix) == 0;
}

bool is_picture_name(const char *name) {
    return has_suffix(name, ".jpg") || has_suffix(name, ".jpeg") || has_suffix(name, ".png");
}

void make_utf8(char *name) {
    if (utf8_valid(name, strlen(name))) return;
    for (; *name; name++)
        if (*name & 0x80) *name = '?';
}

/* ---- files ------------------------------------------------------------------------------------------------ */

/* Whether what just failed did so for want of memory or of file descriptors. */
static bool lacks_means(int why) { return why == ENOMEM || why == EMFILE || why == ENFILE; }

Outcome read_whole(const char *path, size_t limit, unsigned char **bytes, size_t *size, Error *why,
                   Error *err) {
    errno = 0;
    int fd = file_open(path, size, why);
    if (fd < 0) {
        if (!lacks_means(errno)) return BROKEN;
        fail(err, "%s", why->message);
        return FAILED;
    }
    Outcome outcome = GOOD;
    *bytes = NULL;
    if (*size > limit) {
        fail(why, "%s: %zu bytes: expected at most %zu", path, *size, limit);
        outcome = BROKEN;
    } else if (!(*bytes = malloc(*size + 1))) {
        fail(err, "%s: out of memory (%zu bytes)", path, *size);
        outcome = FAILED;
    }
    for (size_t got = 0; outcome == GOOD && got < *size;) {
        ssize_t n = read(fd, *bytes + got, *size - got);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            fail(why, "%s: can't be read: %s", path, n ? strerror(errno) : "it became shorter");
            outcome = BROKEN;
        } else {
            got += (size_t)n;
        }
    }
    close(fd);
    if (outcome != GOOD) {
        free(*bytes);
        *bytes = NULL;
    }
    return outcome;
}

/* ---- captions --------------------------------------------------------------------------------------------- */

static Outcome copy(const char *text, size_t size, const char *where, char **caption, Error *err) {
    *caption = malloc(size + 1);
    if (!*caption) {
        fail(err, "%s: out of memory", where);
        return FAILED;
    }
    memcpy(*caption, text, size);
    (*caption)[size] = '\0';
    return GOOD;
}

Outcome caption_of_text(const unsigned char *bytes, size_t size, const char *where, char **caption,
                        Error *why, Error *err) {
    const char *text = (const char *)bytes;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, size -= 3;
    while (size && strchr(" \t\r\n", text[size - 1]) && text[size - 1]) size--;
    if (!utf8_valid(text, size))
        fail(why, "%s: not valid UTF-8", where);
    else if (memchr(text, '\0', size))
        fail(why, "%s: holds a NUL character", where);
    else
        return copy(text, size, where, caption, err);
    return BROKEN;
}

Outcome parse_json(const void *text, size_t size, const char *where, cJSON **json, Error *why,
                   Error *err) {
    errno = 0;
    *json = json_parse_object(text, size, where, why);
    if (*json) return GOOD;
    if (errno != ENOMEM) return BROKEN;
    fail(err, "%s: out of memory", where);
    return FAILED;
}

/* "text", else "caption", as cJSON finds it: in any case, the first of several. */
static const cJSON *caption_item(const cJSON *json) {
    static const char *const key[] = {"text", "caption"};
    for (int i = 0; i < 2; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key[i]);
        if (item && !cJSON_IsNull(item)) return item;
    }
    return NULL;
}

Outcome caption_of_json(const cJSON *json, const char *where, uint64_t pick, char **caption,
                        Error *why, Error *err) {
    const cJSON *item = caption_item(json);
    if (cJSON_IsArray(item) && cJSON_GetArraySize(item) > 0)
        item = cJSON_GetArrayItem(item, (int)(pick % (uint64_t)(unsigned)cJSON_GetArraySize(item)));
    if (cJSON_IsString(item))
        return copy(item->valuestring, strlen(item->valuestring), where, caption, err);
    fail(why, "%s: no caption: expected a string as \"text\" or \"caption\"", where);
    return BROKEN;
}

uint64_t caption_pick(const Dataset *d) {
    return keyed_bits(d->options.seed, DRAW_CAPTION, (uint64_t)d->index, 0);
}
