/* Writing a trace: see trace.h. */
#include "ref/trace.h"

#include "weights/safetensors_stream.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

struct Trace {
    SafetensorsStream *stream;
    char *only; /* for messages; NULL: no pattern */
    regex_t pattern;
};

/* regcomp's and regexec's own words; without memory in those of everybody here. */
static int regex_failed(int status, const regex_t *pattern, const char *only, Error *err) {
    char why[128];
    if (status == REG_ESPACE) return fail(err, "--trace-only: out of memory");
    regerror(status, pattern, why, sizeof why);
    return fail(err, "--trace-only: expected an extended regular expression, found \"%s\": %s",
                only, why);
}

static int compile(regex_t *pattern, const char *only, Error *err) {
    int status = regcomp(pattern, only, REG_EXTENDED | REG_NOSUB);
    return status ? regex_failed(status, pattern, only, err) : 0;
}

int trace_check_only(const char *only, Error *err) {
    regex_t pattern;
    if (!only) return 0;
    if (compile(&pattern, only, err)) return -1;
    regfree(&pattern);
    return 0;
}

Trace *trace_open(const char *path, const char *only, Error *err) {
    Trace *t = calloc(1, sizeof *t);
    if (!t) {
        fail(err, "%s: out of memory", path);
        return NULL;
    }
    regex_t pattern;
    if (only && compile(&pattern, only, err) == 0) {
        t->pattern = pattern;
        t->only = strdup(only);
        if (!t->only) {
            fail(err, "%s: out of memory", path);
            regfree(&pattern);
        }
    }
    if (!err->set) t->stream = safetensors_stream_open(path, err);
    if (!err->set) return t;
    trace_discard(t);
    return NULL;
}

int trace_add(Trace *t, const StoredTensor *tensor, Error *err) {
    if (t->only) {
        int status = regexec(&t->pattern, tensor->name, 0, NULL, 0);
        if (status == REG_NOMATCH) return 0;
        if (status) return regex_failed(status, &t->pattern, t->only, err);
    }
    return safetensors_stream_add(t->stream, tensor, err);
}

int trace_close(Trace *t, const char *const *metadata, Error *err) {
    if (t->only && safetensors_stream_count(t->stream) == 0) {
        fail(err, "--trace-only: expected a name of this run to match \"%s\", found none", t->only);
    } else {
        safetensors_stream_close(t->stream, metadata, err);
        t->stream = NULL;
    }
    trace_discard(t);
    return err->set ? -1 : 0;
}

void trace_discard(Trace *t) {
    if (!t) return;
    safetensors_stream_discard(t->stream);
    if (t->only) regfree(&t->pattern);
    free(t->only);
    free(t);
}
