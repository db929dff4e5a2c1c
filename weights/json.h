/* JSON as the files of this room need it: cJSON, with what it lets pass refused. */
#ifndef LLMDIFF_JSON_H
#define LLMDIFF_JSON_H

#include "tensor/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The object in `text` (`size` bytes, no NUL needed). NULL, with a message that begins with
 * `where`, if it is not one object, is not UTF-8, or holds a NUL character: cJSON would end a
 * string there. Duplicate keys pass: see json_duplicate. */
cJSON *json_parse_object(const char *text, size_t size, const char *where, Error *err);

/* Python's json writes Infinity, which is no JSON: outside of strings each becomes a number as long
 * and as large, 1e99999, so that -Infinity is read as one too. In place. */
void json_spell_infinity(char *text, size_t size);

/* A key that the object has twice, or NULL. cJSON keeps both and finds the first; Python keeps the
 * last: whoever reads such a file gets something else. Sets *failed when out of memory. */
const char *json_duplicate(const cJSON *object, bool *failed);

/* A whole number of 0 .. 2^53: up to there every one has its own double. False: it is not. */
bool json_count(const cJSON *item, int64_t *out);

bool utf8_valid(const char *text, size_t size);

#endif
