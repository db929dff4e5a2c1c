#include "tokenizer/open.h"
#include "tokenizer/proto.h"
#include "tokenizer/unicode.h"
#include "weights/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* tokenizer.model: google/sentencepiece, src/sentencepiece_model.proto (ModelProto). */

enum { PIECE_MAX = 1024 }; /* bytes of a piece; finding the merges takes time with their square */

typedef enum PieceType {
    NORMAL = 1,
    UNKNOWN = 2,
    CONTROL = 3,
    USER_DEFINED = 4,
    UNUSED = 5,
    BYTE = 6
} PieceType;

typedef struct ModelPiece {
    char *text;
    PieceType type;
    float score;
    int32_t id;
} ModelPiece;

typedef struct Model {
    const char *path;
    ModelPiece *piece; /* [count] by id, later by score */
    size_t count, reserve;
    uint64_t model_type;
    bool byte_fallback, whitespace_as_suffix;
    int64_t special_id[4]; /* unk, bos, eos, pad; -1: none */
    char special_piece[4][PIECE_MAX + 1];
    char normalizer[PIECE_MAX + 1];
    bool charsmap, denormalizer;
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
} Model;

static const char *const special_name[4] = {"unk", "bos", "eos", "pad"};

/* ---- Reading -------------------------------------------------------------------------------------------- */

static int read_text(const Proto *p, const Field *f, const char *name, char out[PIECE_MAX + 1],
                     Error *err) {
    if (proto_expect(p, f, BYTES, name, err)) return -1;
    if (f->length > PIECE_MAX)
        return fail(err, "%s: byte %zu: %s: expected at most %d bytes, found %zu", p->path, f->at,
                    name, PIECE_MAX, f->length);
    if (utf8_prefix(f->bytes, f->length) < f->length || memchr(f->bytes, '\0', f->length))
        return fail(err, "%s: byte %zu: %s: expected UTF-8 without NUL", p->path, f->at, name);
    memcpy(out, f->bytes, f->length);
    out[f->length] = '\0';
    return 0;
}

static int read_bool(const Proto *p, const Field *f, const char *name, bool *out, Error *err) {
    if (proto_expect(p, f, VARINT, name, err)) return -1;
    *out = f->value != 0;
    return 0;
}

static int push_piece(Model *m, const char *text, PieceType type, float score, Error *err) {
    if (m->count == m->reserve) {
        size_t reserve = m->reserve ? 2 * m->reserve : 1024;
        ModelPiece *more = realloc(m->piece, reserve * sizeof *more);
        if (!more) return fail(err, "%s: out of memory for %zu pieces", m->path, reserve);
        m->piece = more;
        m->reserve = reserve;
    }
    char *copy = malloc(strlen(text) + 1);
    if (!copy) return fail(err, "%s: out of memory", m->path);
    strcpy(copy, text);
    m->piece[m->count] = (ModelPiece){copy, type, score, (int32_t)m->count};
    m->count++;
    return 0;
}

static int read_piece(Model *m, Proto p, Error *err) {
    char text[PIECE_MAX + 1] = "", name[40];
    uint64_t type = NORMAL;
    float score = 0;
    Field f;
    snprintf(name, sizeof name, "pieces[%zu]", m->count);
    for (bool more; proto_next(&p, &f, &more, err) == 0 && more;) {
        int status = 0;
        if (f.number == 1) status = read_text(&p, &f, name, text, err);
        if (f.number == 2) {
            status = proto_expect(&p, &f, FIXED32, name, err);
            score = proto_float(&f);
        }
        if (f.number == 3) {
            status = proto_expect(&p, &f, VARINT, name, err);
            type = f.value;
        }
        if (status) return -1;
    }
    if (err->set) return -1;
    if (m->count >= INT32_MAX) return fail(err, "%s: too many pieces", m->path);
    if (!text[0]) return fail(err, "%s: %s: expected a piece, found \"\"", m->path, name);
    if (!isfinite(score))
        return fail(err, "%s: %s: \"%s\": expected a finite score, found %g", m->path, name, text,
                    (double)score);
    if (type < NORMAL || type > BYTE || type == UNUSED)
        return fail(err,
                    "%s: %s: \"%s\": expected the type NORMAL (1), UNKNOWN (2), CONTROL (3), "
                    "USER_DEFINED (4) or BYTE (6), found %llu",
                    m->path, name, text, (unsigned long long)type);
    return push_piece(m, text, (PieceType)type, score, err);
}

static int read_trainer(Model *m, Proto p, Error *err) {
    Field f;
    for (bool more; proto_next(&p, &f, &more, err) == 0 && more;) {
        char name[60];
        int status = 0;
        if (f.number == 3) {
            status = proto_expect(&p, &f, VARINT, "trainer_spec.model_type", err);
            m->model_type = f.value;
        }
        if (f.number == 24)
            status = read_bool(&p, &f, "trainer_spec.treat_whitespace_as_suffix",
                               &m->whitespace_as_suffix, err);
        if (f.number == 35)
            status = read_bool(&p, &f, "trainer_spec.byte_fallback", &m->byte_fallback, err);
        if (f.number >= 40 && f.number <= 43) {
            snprintf(name, sizeof name, "trainer_spec.%s_id", special_name[f.number - 40]);
            status = proto_expect(&p, &f, VARINT, name, err);
            m->special_id[f.number - 40] = (int64_t)f.value;
        }
        if (f.number >= 45 && f.number <= 48) {
            snprintf(name, sizeof name, "trainer_spec.%s_piece", special_name[f.number - 45]);
            status = read_text(&p, &f, name, m->special_piece[f.number - 45], err);
        }
        if (status) return -1;
    }
    return err->set ? -1 : 0;
}

static int read_normalizer(Model *m, Proto p, Error *err) {
    Field f;
    for (bool more; proto_next(&p, &f, &more, err) == 0 && more;) {
        int status = 0;
        if (f.number == 1) status = read_text(&p, &f, "normalizer_spec.name", m->normalizer, err);
        if (f.number == 2) {
            status = proto_expect(&p, &f, BYTES, "normalizer_spec.precompiled_charsmap", err);
            m->charsmap = f.length > 0;
        }
        if (f.number == 3)
            status =
                read_bool(&p, &f, "normalizer_spec.add_dummy_prefix", &m->add_dummy_prefix, err);
        if (f.number == 4)
            status = read_bool(&p, &f, "normalizer_spec.remove_extra_whitespaces",
                               &m->remove_extra_whitespaces, err);
        if (f.number == 5)
            status = read_bool(&p, &f, "normalizer_spec.escape_whitespaces", &m->escape_whitespaces,
                               err);
        if (status) return -1;
    }
    return err->set ? -1 : 0;
}

static int read_denormalizer(Model *m, Proto p, Error *err) {
    Field f;
    for (bool more; proto_next(&p, &f, &more, err) == 0 && more;)
        if (f.number == 2 && f.length > 0) m->denormalizer = true;
    return err->set ? -1 : 0;
}

/* The defaults are the proto's. */
static int read_model(Model *m, const char *data, size_t size, Error *err) {
    m->model_type = 1;
    m->add_dummy_prefix = m->remove_extra_whitespaces = m->escape_whitespaces = true;
    static const char *const piece[4] = {"<unk>", "<s>", "</s>", "<pad>"};
    static const int64_t id[4] = {0, 1, 2, -1};
    for (int i = 0; i < 4; i++) {
        m->special_id[i] = id[i];
        strcpy(m->special_piece[i], piece[i]);
    }
    Proto p = {data, 0, size, m->path};
    Field f;
    for (bool more; proto_next(&p, &f, &more, err) == 0 && more;) {
        static const char *const name[] = {"pieces", "trainer_spec", "normalizer_spec"};
        const char *called = f.number == 5 ? "denormalizer_spec" : "";
        if (f.number >= 1 && f.number <= 3) called = name[f.number - 1];
        if (!called[0]) continue;
        if (proto_expect(&p, &f, BYTES, called, err)) return -1;
        Proto inner = proto_message(&p, &f);
        int status = f.number == 1   ? read_piece(m, inner, err)
                     : f.number == 2 ? read_trainer(m, inner, err)
                     : f.number == 3 ? read_normalizer(m, inner, err)
                                     : read_denormalizer(m, inner, err);
        if (status) return -1;
    }
    return err->set ? -1 : 0;
}

/* ---- What is supported ------------------------------------------------------------------------------------ */

static int expect_bool(const Model *m, const char *name, bool expected, bool found, Error *err) {
    if (expected == found) return 0;
    return fail(err, "%s: %s: expected %s, found %s", m->path, name, expected ? "true" : "false",
                found ? "true" : "false");
}

static int check_kind(const Model *m, Error *err) {
    static const char *const kind[] = {"0", "UNIGRAM", "BPE", "WORD", "CHAR"};
    if (m->count == 0) return fail(err, "%s: pieces: expected some, found none", m->path);
    if (m->model_type != 2)
        return fail(err, "%s: trainer_spec.model_type: expected BPE, found %s", m->path,
                    m->model_type < 5 ? kind[m->model_type] : "an unknown one");
    if (m->charsmap)
        return fail(err,
                    "%s: normalizer_spec.precompiled_charsmap: expected none (\"identity\"), found "
                    "that of \"%s\"",
                    m->path, m->normalizer);
    if (m->denormalizer)
        return fail(err, "%s: denormalizer_spec.precompiled_charsmap: expected none, found one",
                    m->path);
    return expect_bool(m, "trainer_spec.byte_fallback", true, m->byte_fallback, err) ||
                   expect_bool(m, "trainer_spec.treat_whitespace_as_suffix", false,
                               m->whitespace_as_suffix, err) ||
                   expect_bool(m, "normalizer_spec.remove_extra_whitespaces", false,
                               m->remove_extra_whitespaces, err) ||
                   expect_bool(m, "normalizer_spec.escape_whitespaces", true, m->escape_whitespaces,
                               err)
               ? -1
               : 0;
}

/* The class takes the prefix from tokenizer_config.json alone, SentencePiece from the model. */
static int check_prefix(const Model *m, const Tokenizer *t, Error *err) {
    bool wanted = t->spm.prefix != PREFIX_NEVER;
    if (m->add_dummy_prefix == wanted) return 0;
    return fail(err,
                "%s: normalizer_spec.add_dummy_prefix: expected %s, as add_prefix_space in "
                "tokenizer_config.json has it (true if absent), found %s",
                m->path, wanted ? "true" : "false", wanted ? "false" : "true");
}

static int check_special(const Model *m, const Pieces *pieces, Error *err) {
    for (int i = 0; i < 4; i++) {
        if (m->special_id[i] < 0) continue;
        const char *piece = m->special_piece[i];
        int32_t found = pieces_find(pieces, piece, strlen(piece));
        if (found == m->special_id[i]) continue;
        if (found < 0)
            return fail(err,
                        "%s: trainer_spec.%s_id: expected -1, as \"%s\" is no piece, found %lld",
                        m->path, special_name[i], piece, (long long)m->special_id[i]);
        return fail(err, "%s: trainer_spec.%s_id: expected %d, the id of \"%s\", found %lld",
                    m->path, special_name[i], (int)found, piece, (long long)m->special_id[i]);
    }
    return 0;
}

/* ---- Merges ------------------------------------------------------------------------------------------------ */

static int by_score(const void *x, const void *y) {
    const ModelPiece *a = x, *b = y;
    if (a->score != b->score) return (a->score < b->score) - (a->score > b->score);
    return (a->id > b->id) - (a->id < b->id);
}

/* Every way to make the piece of two normal ones; counts only, if b is NULL. */
static size_t add_splits(Bpe *b, const Pieces *pieces, const bool *normal, const ModelPiece *whole,
                         int32_t rank) {
    size_t length = strlen(whole->text), found = 0, at = 0;
    for (int32_t code; at < length;) {
        at += utf8_next(whole->text + at, length - at, &code);
        if (at == length) break;
        int32_t left = pieces_find(pieces, whole->text, at);
        int32_t right = pieces_find(pieces, whole->text + at, length - at);
        if (left < 0 || right < 0 || !normal[left] || !normal[right]) continue;
        found++;
        if (b) bpe_add(b, left, right, rank, whole->id);
    }
    return found;
}

/* SentencePiece joins the neighbours whose joined text is the piece of the highest score; of equal
 * scores, the leftmost. So equal scores get one rank. */
static int make_merges(Tokenizer *t, Model *m, const bool *normal, Error *err) {
    size_t merges = 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->piece[i].type == NORMAL)
            merges += add_splits(NULL, &t->pieces, normal, &m->piece[i], 0);
    if (bpe_init(&t->bpe, merges, m->path, err)) return -1;
    qsort(m->piece, m->count, sizeof *m->piece, by_score);
    int32_t rank = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (i > 0 && m->piece[i].score != m->piece[i - 1].score) rank++;
        if (m->piece[i].type == NORMAL) add_splits(&t->bpe, &t->pieces, normal, &m->piece[i], rank);
    }
    return 0;
}

static int use_merges(Tokenizer *t, Model *m, Error *err) {
    bool *normal = calloc(m->count, sizeof *normal);
    if (!normal) return fail(err, "%s: out of memory", m->path);
    for (size_t i = 0; i < m->count; i++) normal[i] = m->piece[i].type == NORMAL;
    int status = make_merges(t, m, normal, err);
    free(normal);
    return status;
}

/* ---- All of it ---------------------------------------------------------------------------------------------- */

/* After the files beside, which may name others. Must come before the pieces are sorted. */
static int use_special(Tokenizer *t, const Model *m, Error *err) {
    for (size_t i = 0; i < m->count; i++) {
        PieceType type = m->piece[i].type;
        if ((type == UNKNOWN || type == CONTROL || type == USER_DEFINED) &&
            open_added_piece(t, (int32_t)i, type != USER_DEFINED, err))
            return -1;
    }
    int64_t *const named[4] = {&t->unk, &t->bos, &t->eos, &t->pad};
    for (int i = 0; i < 4; i++)
        if (*named[i] < 0) *named[i] = m->special_id[i] < 0 ? -1 : m->special_id[i];
    return 0;
}

static int use_model(Tokenizer *t, Model *m, const char *dir, const Json *config, Error *err) {
    if (check_kind(m, err) || spm_llama_rules(t, config, err) || check_prefix(m, t, err)) return -1;
    for (size_t i = 0; i < m->count; i++)
        if (pieces_add(&t->pieces, m->piece[i].text, (int32_t)i, true, m->path, err)) return -1;
    if (check_special(m, &t->pieces, err) || spm_init(&t->spm, &t->pieces, m->path, err) ||
        open_added_files(t, dir, config, false, err) || use_special(t, m, err))
        return -1;
    return use_merges(t, m, err);
}

int open_spm_model(Tokenizer *t, const char *dir, const Json *config, Error *err) {
    t->kind = SENTENCEPIECE;
    char *path = tokenizer_path(dir, "tokenizer.model", err);
    if (!path) return -1;
    size_t size;
    char *data = file_read(path, &size, err);
    Model *m = data ? calloc(1, sizeof *m) : NULL;
    if (data && !m) fail(err, "%s: out of memory", path);
    int status = -1;
    if (m) {
        m->path = path;
        status = read_model(m, data, size, err);
        if (status == 0) status = use_model(t, m, dir, config, err);
        for (size_t i = 0; i < m->count; i++) free(m->piece[i].text);
        free(m->piece);
    }
    free(m);
    free(data);
    free(path);
    return status;
}
