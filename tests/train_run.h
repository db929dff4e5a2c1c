/* A training run through the library, for tests: golden/micro on golden's small folder of pictures. */
#ifndef LLMDIFF_TRAIN_RUN_H
#define LLMDIFF_TRAIN_RUN_H

#include "library_run.h"

#include "weights/json.h"
#include "weights/safetensors.h"

#include <math.h>
#include <sys/stat.h>

#define PICTURES "golden/data/dataset/folder"

/* Four steps of two pictures, one thread, no cache, into @/<out>. */
static inline llmdiff_train_options training(const char *out) {
    static char dir[8][128];
    static unsigned turn;
    llmdiff_train_options o;
    assert_int_equal(llmdiff_train_default(&o, sizeof o), LLMDIFF_OK);
    o.train_data_dir = PICTURES;
    o.output_dir = dir[turn % 8];
    snprintf(dir[turn++ % 8], sizeof dir[0], "%s", path(out));
    o.train_batch_size = 2;
    o.max_train_steps = 4;
    o.threads = 1;
    o.cache_limit = 0;
    return o;
}

static inline llmdiff_pack *open_training(const char *adapter) {
    const llmdiff_options o = {
        .size = sizeof o, .model = MICRO, .adapter = adapter, .use = LLMDIFF_USE_TRAIN};
    return opened_pack(&o);
}

static inline llmdiff_status try_train(const llmdiff_train_options *o, llmdiff_error *error) {
    llmdiff_pack *pack = open_training(NULL);
    const llmdiff_status status = llmdiff_train(pack, o, error);
    llmdiff_close(pack);
    return status;
}

static inline void train_well(const llmdiff_train_options *o) {
    llmdiff_error error;
    if (try_train(o, &error)) fail_msg("%s", error.message);
}

/* Ends a run from its progress in the middle of step `at` + 1. */
static inline int stop_in_step(void *user, const llmdiff_train_progress *now) {
    return now->step == *(const int64_t *)user && now->sample == 1;
}

static inline void train_until(llmdiff_train_options o, int64_t step) {
    llmdiff_error error;
    o.user = &step;
    o.progress = stop_in_step;
    assert_int_equal(try_train(&o, &error), LLMDIFF_CANCELLED);
    assert_holds(error.message, "--resume-from-checkpoint latest");
}

/* Both have the same tensors, to the last bit. */
static inline void assert_same_tensors(const char *a, const char *b) {
    Error err = {0};
    Safetensors *x = safetensors_open(path(a), &err), *y = safetensors_open(path(b), &err);
    if (err.set) fail_msg("%s", err.message);
    assert_int_equal(safetensors_count(x), safetensors_count(y));
    for (size_t i = 0; i < safetensors_count(x); i++) {
        const StoredTensor *t = safetensors_at(x, i), *u = safetensors_find(y, t->name);
        assert_non_null(u);
        assert_int_equal(t->bytes, u->bytes);
        if (memcmp(t->data, u->data, t->bytes) != 0) fail_msg("%s: %s differs", b, t->name);
    }
    safetensors_close(x);
    safetensors_close(y);
}

/* OUT/adapter.safetensors, and m and v of the last checkpoint. */
static inline void assert_same_result(const char *a, const char *b, int step) {
    char name[2][64];
    snprintf(name[0], sizeof name[0], "%s/adapter.safetensors", a);
    snprintf(name[1], sizeof name[1], "%s/adapter.safetensors", b);
    assert_true(same_file(name[0], name[1]));
    snprintf(name[0], sizeof name[0], "%s/checkpoint-%d/state.safetensors", a, step);
    snprintf(name[1], sizeof name[1], "%s/checkpoint-%d/state.safetensors", b, step);
    assert_same_tensors(name[0], name[1]);
}

typedef struct LogLines {
    double loss[1024], rate[1024], norm[1024]; /* of step i + 1 */
    int64_t steps, samples;                    /* of the last step's line */
    int events;
    char event[512][32];
} LogLines;

/* Every line is an object; steps are 1, 2, 3, ... */
static inline void read_log(const char *name, LogLines *l) {
    size_t size;
    char *text = contents(name, &size);
    *l = (LogLines){0};
    assert_true(size > 0 && text[size - 1] == '\n');
    for (char *line = text, *end; *line; line = end + 1) {
        Error err = {0};
        end = strchr(line, '\n');
        cJSON *json = json_parse_object(line, (size_t)(end - line), name, &err);
        if (!json) fail_msg("%s", err.message);
        const cJSON *event = cJSON_GetObjectItem(json, "event"),
                    *step = cJSON_GetObjectItem(json, "step");
        assert_true(cJSON_IsNumber(step));
        if (event) {
            assert_true(l->events < 512);
            snprintf(l->event[l->events++], 32, "%s", event->valuestring);
        } else {
            assert_true(l->steps < 1024 && step->valuedouble == (double)(l->steps + 1));
            l->loss[l->steps] = cJSON_GetObjectItem(json, "loss")->valuedouble;
            l->rate[l->steps] = cJSON_GetObjectItem(json, "learning_rate")->valuedouble;
            l->norm[l->steps] = cJSON_GetObjectItem(json, "grad_norm")->valuedouble;
            assert_true(isfinite(cJSON_GetObjectItem(json, "smoothed_loss")->valuedouble));
            assert_true(cJSON_GetObjectItem(json, "seconds")->valuedouble >= 0);
            l->samples = (int64_t)cJSON_GetObjectItem(json, "samples")->valuedouble;
            l->steps++;
        }
        cJSON_Delete(json);
    }
    free(text);
}

static inline bool is_there(const char *name) {
    struct stat st;
    return stat(path(name), &st) == 0;
}

#endif
