/* Prompts, what they say, and a scene of which that is true: suite.jsonl. See world.h.
 *
 *     {"id": "plain-two-0007", "split": "plain", "kind": "two",
 *      "prompt": "a small red circle to the left of a large blue square",
 *      "scene": {"background": "white", "objects": [{"shape": "circle", "color": "red", "size": "small",
 *                                                    "x": 20.25, "y": 31.5, "r": 8.75}, ...]},
 *      "expect": {"count": 2, "background": "white", "objects": [{"shape": "circle", "color": "red"}, ...],
 *                 "relations": [[0, "left of", 1]], "absent": [{"shape": "triangle"}]}}
 *
 * one object a line. All keys of "expect" but "objects" and all keys of its objects may be left out, and so
 * may "kind"; a key that is not known is an error, and so is a scene that the prompt is not true of. */
#ifndef LLMDIFF_WORLD_SUITE_H
#define LLMDIFF_WORLD_SUITE_H

#include "ref/world/statements.h"
#include "tensor/error.h"

typedef struct SuiteEntry {
    char *id, *split, *kind, *prompt;
    int64_t line;  /* in the file, from 1 on */
    int64_t index; /* of the entry in the file, from 0 on */
    WorldScene scene;
    Expect expect;
} SuiteEntry;

typedef struct Suite {
    SuiteEntry *entry;
    int64_t count;
} Suite;

/* 0, or -1 with a message that names the file, the line and the key; to be freed then, too. */
int suite_read(const char *path, Suite *suite, Error *err);
void suite_free(Suite *suite);

#endif
