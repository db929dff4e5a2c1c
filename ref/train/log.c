/* Lines of train.jsonl: see log.h. */
#include "ref/train/log.h"

#include "tokenizer/unicode.h"
#include "weights/file.h"
#include "weights/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct TrainLog {
    char *path;
    FILE *file;
};

/* ---- what an earlier run has written ----------------------------------------------------------------- */

static bool belongs(const char *line, size_t size, int64_t step) {
    Error ignored = {0};
    int64_t found;
    cJSON *json = json_parse_object(line, size, "", &ignored);
    const bool good =
        json_count(cJSON_GetObjectItemCaseSensitive(json, "step"), &found) && found <= step;
    cJSON_Delete(json);
    return good;
}

/* How many bytes of the text are lines up to that step. */
static size_t kept(const char *text, size_t size, int64_t step) {
    size_t at = 0;
    for (;;) {
        const char *end = memchr(text + at, '\n', size - at);
        if (!end || !belongs(text + at, (size_t)(end - text) - at, step)) return at;
        at = (size_t)(end - text) + 1;
    }
}

static int cut(const char *path, int64_t step, Error *err) {
    size_t size;
    OutFile out;
    if (!file_exists(path)) return 0;
    char *text = file_read(path, &size, err);
    if (!text) return -1;
    const size_t keep = kept(text, size, step);
    int status = 0;
    if (keep < size) {
        status = outfile_open(&out, path, err);
        if (status == 0) {
            fwrite(text, 1, keep, out.stream);
            status = outfile_close(&out, err);
        }
    }
    free(text);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------ */

TrainLog *log_open(const char *path, int64_t step, Error *err) {
    if (cut(path, step, err)) return NULL;
    TrainLog *log = calloc(1, sizeof *log);
    if (!log || !(log->path = strdup(path))) {
        free(log);
        fail(err, "%s: out of memory", path);
        return NULL;
    }
    errno = 0;
    log->file = fopen(path, "ab");
    if (log->file) return log;
    fail(err, "%s: %s%s", path, errno == ENOMEM ? "out of memory" : "can't be written: ",
         errno == ENOMEM ? "" : strerror(errno));
    log_close(log);
    return NULL;
}

void log_close(TrainLog *log) {
    if (!log) return;
    if (log->file) fclose(log->file); /* empty: each line was flushed */
    free(log->path);
    free(log);
}

/* Ends the object. */
static int write_line(TrainLog *log, cJSON *json, bool good, Error *err) {
    char *text = good ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    if (!text) return fail(err, "%s: out of memory", log->path);
    errno = 0;
    const bool wrote = fprintf(log->file, "%s\n", text) > 0 && fflush(log->file) == 0;
    cJSON_free(text);
    if (wrote) return 0;
    return fail(err, "%s: can't be written: %s", log->path,
                errno ? strerror(errno) : "a write failed");
}

int log_step(TrainLog *log, const LoggedStep *s, Error *err) {
    const struct {
        const char *name;
        double value;
    } number[] = {
        {"step", (double)s->step},
        {"loss", s->loss},
        {"smoothed_loss", s->smoothed_loss},
        {"learning_rate", s->learning_rate},
        {"grad_norm", s->grad_norm},
        {"epoch", (double)s->epoch},
        {"samples", (double)s->samples},
        {"seconds", s->seconds},
        {"samples_per_second", s->samples_per_second},
    };
    cJSON *json = cJSON_CreateObject();
    bool good = json != NULL;
    for (size_t i = 0; good && i < sizeof number / sizeof *number; i++)
        good = cJSON_AddNumberToObject(json, number[i].name, number[i].value) != NULL;
    return write_line(log, json, good, err);
}

int log_event(TrainLog *log, const char *event, int64_t step, const char *text, Error *err) {
    cJSON *json = cJSON_CreateObject();
    char *valid = utf8_repair(text, strlen(text), &(size_t){0}); /* a file's name may be anything */
    const bool good = json && valid && cJSON_AddStringToObject(json, "event", event) &&
                      cJSON_AddNumberToObject(json, "step", (double)step) &&
                      cJSON_AddStringToObject(json, "text", valid);
    free(valid);
    return write_line(log, json, good, err);
}

int log_sync(TrainLog *log, Error *err) {
    if (fsync(fileno(log->file)) == 0) return 0;
    return fail(err, "%s: can't be written: %s", log->path, strerror(errno));
}
