/* What CLIP's tokenizer does to a text before byte-level BPE. */
#ifndef LLMDIFF_TOKENIZER_CLIP_H
#define LLMDIFF_TOKENIZER_CLIP_H

#include "tensor/error.h"

#include <stddef.h>

/* NFC, runs of white space as one space, lower case: malloc'ed, NUL-terminated. text is valid UTF-8.
 * NULL with a message. */
char *clip_normalize(const char *text, size_t length, size_t *out_length, Error *err);
/* What decoding does last: "</w>" becomes a space, and white space at both ends goes. In place;
 * returns the new length. */
size_t clip_tidy(char *text, size_t length);

#endif
