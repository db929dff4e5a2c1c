#include "tokenizer/proto.h"

#include <string.h>

static const char *wire_name(uint64_t wire) {
    switch (wire) {
    case VARINT: return "a varint";
    case FIXED64: return "8 bytes";
    case BYTES: return "a string or message";
    case FIXED32: return "4 bytes";
    default: return "a group";
    }
}

/* Seven bits a byte, the low ones first; the high bit says that more follow. */
static int read_varint(Proto *p, uint64_t *value, Error *err) {
    size_t begin = p->at;
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (p->at == p->end)
            return fail(err, "%s: byte %zu: expected a whole number, found the end of its message",
                        p->path, begin);
        uint64_t byte = (unsigned char)p->data[p->at++];
        *value |= (byte & 0x7F) << shift;
        if (byte < 0x80) return 0;
    }
    return fail(err, "%s: byte %zu: expected a number of at most 10 bytes, found more", p->path,
                begin);
}

static int read_fixed(Proto *p, size_t bytes, uint64_t *value, Error *err) {
    if (p->end - p->at < bytes)
        return fail(err, "%s: byte %zu: expected %zu bytes, found %zu to the end of its message",
                    p->path, p->at, bytes, p->end - p->at);
    *value = 0;
    for (size_t i = 0; i < bytes; i++)
        *value |= (uint64_t)(unsigned char)p->data[p->at + i] << (8 * i);
    p->at += bytes;
    return 0;
}

int proto_next(Proto *p, Field *f, bool *more, Error *err) {
    *f = (Field){.at = p->at};
    *more = p->at < p->end;
    if (!*more) return 0;
    uint64_t tag, length;
    if (read_varint(p, &tag, err)) return -1;
    f->number = tag >> 3;
    f->wire = (Wire)(tag & 7);
    if (f->number == 0 || f->number > 0x1FFFFFFF)
        return fail(err, "%s: byte %zu: expected a field of number 1 to 536870911, found %llu",
                    p->path, f->at, (unsigned long long)f->number);
    switch (f->wire) {
    case VARINT: return read_varint(p, &f->value, err);
    case FIXED64: return read_fixed(p, 8, &f->value, err);
    case FIXED32: return read_fixed(p, 4, &f->value, err);
    case BYTES:
        if (read_varint(p, &length, err)) return -1;
        if (length > p->end - p->at)
            return fail(err,
                        "%s: byte %zu: field %llu: expected %llu bytes, found %zu to the end of "
                        "its message",
                        p->path, f->at, (unsigned long long)f->number, (unsigned long long)length,
                        p->end - p->at);
        f->bytes = p->data + p->at;
        f->length = (size_t)length;
        p->at += f->length;
        return 0;
    default: break;
    }
    return fail(err,
                "%s: byte %zu: field %llu: expected wire type 0, 1, 2 or 5, found %u: not a "
                "SentencePiece model",
                p->path, f->at, (unsigned long long)f->number, (unsigned)(tag & 7));
}

Proto proto_message(const Proto *p, const Field *f) {
    size_t begin = (size_t)(f->bytes - p->data);
    return (Proto){p->data, begin, begin + f->length, p->path};
}

int proto_expect(const Proto *p, const Field *f, Wire wire, const char *name, Error *err) {
    if (f->wire == wire) return 0;
    return fail(err, "%s: byte %zu: %s: expected %s, found %s", p->path, f->at, name,
                wire_name(wire), wire_name(f->wire));
}

float proto_float(const Field *f) {
    uint32_t bits = (uint32_t)f->value;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
