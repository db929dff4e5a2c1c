/* The wire format of protocol buffers, as much of it as tokenizer.model needs: fields one after the
 * other, every read within its message. */
#ifndef LLMDIFF_TOKENIZER_PROTO_H
#define LLMDIFF_TOKENIZER_PROTO_H

#include "tensor/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum Wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 } Wire;

typedef struct Proto {
    const char *data;
    size_t at, end;   /* what is left of this message */
    const char *path; /* for messages */
} Proto;

typedef struct Field {
    uint64_t number;
    Wire wire;
    uint64_t value;    /* VARINT, FIXED64, FIXED32 */
    const char *bytes; /* BYTES */
    size_t length;
    size_t at; /* where the field begins in the file */
} Field;

/* The next field; *more is false at the end of the message. 0 or -1 with a message naming file and
 * byte. */
int proto_next(Proto *p, Field *f, bool *more, Error *err);
/* The message that a field holds. */
Proto proto_message(const Proto *p, const Field *f);
/* Refuses the field `name` if it is stored in another way. */
int proto_expect(const Proto *p, const Field *f, Wire wire, const char *name, Error *err);
float proto_float(const Field *f);

#endif
