/* Reading the tokenizers' JSON files with messages that name file, member, expected and found. */
#ifndef LLMDIFF_TOKENIZER_JSON_FILE_H
#define LLMDIFF_TOKENIZER_JSON_FILE_H

#include "tensor/error.h"

#include <stdint.h>

#include <cjson/cJSON.h>

typedef struct Json {
    char *path; /* for messages */
    cJSON *root;
    size_t size; /* of the file, in bytes */
} Json;

/* dir/name, malloc'ed. NULL with a message: no memory. */
char *tokenizer_path(const char *dir, const char *name, Error *err);
/* The file, whose root is an object. 0 or -1 with a message. */
int json_read(Json *j, const char *dir, const char *name, Error *err);
/* The same if the file exists; else 0 and *j is {0}. */
int json_read_optional(Json *j, const char *dir, const char *name, Error *err);
void json_free(Json *j);

/* Refuses a member that is there twice: cJSON finds the first, Python the last. */
int json_once(const Json *j, const cJSON *object, const char *where, Error *err);

/* NULL if the object is NULL or has no such member. */
const cJSON *json_get(const cJSON *object, const char *name);
/* What stands there, for messages: "nothing", "3", "\"abc\"", "an array". Returns buffer. */
const char *json_found(const cJSON *item, char *buffer, size_t size);
/* "<file>: <where>: expected <expected>, found <item>"; -1. */
int json_unexpected(const Json *j, const char *where, const char *expected, const cJSON *item,
                    Error *err);
/* true or false; `missing` if there is no such member. where: for the message. */
int json_bool(const Json *j, const cJSON *object, const char *name, const char *where, bool missing,
              bool *out, Error *err);
/* A whole number 0 .. limit - 1. */
int json_id(const Json *j, const cJSON *item, const char *where, int32_t limit, int32_t *out,
            Error *err);
/* No id may be larger: every id costs more than a byte of the file, so that a vocabulary without
 * very large holes passes, and tables by id stay of the file's size. */
int32_t json_id_limit(const Json *j);

#endif
