/* Checkpoints that aren't gone on with: damaged, crafted, or of another run. One clear error each. */
#include "tests/checkpoint_case.h"

/* ---- damage ------------------------------------------------------------------------------------ */

static void refused(const char *path, const char *message) {
    Error err = {0};
    Checkpoint *c = checkpoint_open(scratch(path), &err);
    assert_null(c);
    assert_error(&err, message);
}

static void refused_with(const char *path, const char *part, const char *end) {
    Error err = {0};
    assert_null(checkpoint_open(scratch(path), &err));
    const size_t n = strlen(err.message), m = strlen(end);
    if (!strstr(err.message, part) || n < m || strcmp(err.message + n - m, end) != 0)
        fail_msg("expected ...%s...%s, found %s", part, end, err.message);
}

static void damaged(void **state) {
    (void)state;
    static const char *const files[] = {"adapter.safetensors", "config.json", "state.safetensors"};
    char text[512], end[256];
    save(false, 7);
    save(false, 9);
    shell("cp -r checkpoint-9 good");
    snprintf(end, sizeof end, "; the checkpoint before it is %s", scratch("checkpoint-7"));
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, "%s: is damaged: its SHA-256 is expected to be ", files[i]);
        char change[3][256];
        snprintf(change[0], sizeof change[0],
                 "printf X | dd of=checkpoint-9/%s bs=1 seek=30 conv=notrunc status=none",
                 files[i]);
        snprintf(change[1], sizeof change[1], "truncate -s -1 checkpoint-9/%s", files[i]);
        snprintf(change[2], sizeof change[2], "truncate -s 0 checkpoint-9/%s", files[i]);
        for (int k = 0; k < 3; k++) {
            shell("rm -r checkpoint-9; cp -r good checkpoint-9");
            shell(change[k]);
            refused_with("checkpoint-9", text, end);
            refused_with("checkpoint-9/", text, end);
        }
        shell("rm -r checkpoint-9; cp -r good checkpoint-9");
        snprintf(text, sizeof text, "rm checkpoint-9/%s", files[i]);
        shell(text);
        snprintf(text, sizeof text, "checkpoint-9/%s: can't be opened: No such file", files[i]);
        refused_with("checkpoint-9", text, end);
    }
    shell("rm -r checkpoint-9; cp -r good checkpoint-7/checkpoint-9");
    assert_non_null(names_in(scratch_dir));
    shell("truncate -s 1 checkpoint-7/checkpoint-9/config.json");
    refused_with("checkpoint-7/checkpoint-9", "is damaged", "; there is no checkpoint before it");
    shell("rm -r checkpoint-7");
}

static void damaged_sums(void **state) {
    (void)state;
    save(false, 7);
    shell("mv checkpoint-7 x && cp x/SHA256SUMS good");
    static const struct {
        const char *change, *message;
    } table[] = {
        {"rm x/SHA256SUMS", "x/SHA256SUMS: can't be opened: No such file or directory"},
        {">x/SHA256SUMS", "x/SHA256SUMS: expected a SHA-256 of adapter.safetensors"},
        {"head -c 20 good >x/SHA256SUMS", "x/SHA256SUMS: expected a SHA-256 of "
                                          "adapter.safetensors"},
        {"head -c 100 good >x/SHA256SUMS", "x/SHA256SUMS: expected a SHA-256 of config.json"},
        {"tr a-f A-F <good >x/SHA256SUMS",
         "x/SHA256SUMS: expected a SHA-256 of adapter.safetensors"},
        {"sed 's/config.json/config.yaml/' good >x/SHA256SUMS",
         "x/SHA256SUMS: expected the line of config.json, as sha256sum prints it"},
        {"sed 's/  state/ *state/' good >x/SHA256SUMS",
         "x/SHA256SUMS: expected the line of state.safetensors, as sha256sum prints it"},
        {"tac good >x/SHA256SUMS",
         "x/SHA256SUMS: expected the line of adapter.safetensors, as sha256sum prints it"},
        {"cat good good >x/SHA256SUMS", "x/SHA256SUMS: expected 3 lines, found more"},
        {"head -c -1 good >x/SHA256SUMS",
         "x/SHA256SUMS: expected the line of state.safetensors, as sha256sum prints it"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char message[256];
        shell(table[i].change);
        snprintf(message, sizeof message, "%s; there is no checkpoint before it", table[i].message);
        refused("x", message);
    }
    refused("nowhere", "nowhere: no such checkpoint");
    refused("good", "good: no such checkpoint");
    shell("cp good x/SHA256SUMS");
    assert_restored(scratch("x"), &shared, false, 7); /* under any name */
    shell("mv x checkpoint-8");
    refused("checkpoint-8", "checkpoint-8: expected the state of step 8, found that of step 7");
}

/* ---- states that can't be ---------------------------------------------------------------------- */

/* The state of "x" written anew: metadata `key` as `value` (NULL: left out), tensor `name` replaced by
 * `as` (of zero bytes: left out); with right checksums. */
static void rewrite(const char *key, const char *value, const char *name, const StoredTensor *as) {
    Error err = {0};
    const char *metadata[64];
    size_t n = 0, count = 0;
    Safetensors *f = safetensors_open(scratch("good/state.safetensors"), &err);
    assert_non_null(f);
    for (size_t i = 0; i < safetensors_metadata_count(f); i++) {
        safetensors_metadata_at(f, i, &metadata[n], &metadata[n + 1]);
        if (key && strcmp(metadata[n], key) == 0) {
            if (!value) continue;
            metadata[n + 1] = value;
        }
        n += 2;
    }
    metadata[n] = NULL;
    StoredTensor *t = calloc(safetensors_count(f) + 1, sizeof *t);
    assert_non_null(t);
    bool replaced = !name;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        t[count] = *safetensors_at(f, i);
        if (name && strcmp(t[count].name, name) == 0) {
            replaced = true;
            if (!as) continue;
            t[count] = *as;
        }
        count++;
    }
    if (!replaced) t[count++] = *as;
    assert_int_equal(safetensors_write(scratch("x/state.safetensors"), t, count, metadata, &err),
                     0);
    free(t);
    safetensors_close(f);
    shell("cd x && sha256sum adapter.safetensors config.json state.safetensors >SHA256SUMS");
}

static void a_state_that_cannot_be(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *message;
    } table[] = {
        {"format", NULL,
         "x/state.safetensors: metadata format: expected \"llmdiff-checkpoint\", found none"},
        {"format", "llmdiff-trace",
         "x/state.safetensors: metadata format: expected \"llmdiff-checkpoint\", found "
         "\"llmdiff-trace\""},
        {"program", "llmdiff 0.0.9",
         "x: was written by another version: expected llmdiff 0.1.0, found llmdiff 0.0.9; its "
         "adapter can be drawn with, or trained anew: --adapter x"},
        {"program", NULL,
         "x: was written by another version: expected llmdiff 0.1.0, found none; its "
         "adapter can be drawn with, or trained anew: --adapter x"},
        {"step", NULL,
         "x/state.safetensors: metadata step: expected a whole number up to 2^53, found none"},
        {"step", "-1",
         "x/state.safetensors: metadata step: expected a whole number up to 2^53, found \"-1\""},
        {"step", "",
         "x/state.safetensors: metadata step: expected a whole number up to 2^53, found \"\""},
        {"step", "7.5",
         "x/state.safetensors: metadata step: expected a whole number up to 2^53, found \"7.5\""},
        {"step", "99999999999999999999999",
         "x/state.safetensors: metadata step: expected a whole number up to 2^53, found "
         "\"99999999999999999999999\""},
        {"samples", "9007199254740993",
         "x/state.safetensors: metadata samples: expected a whole number up to 2^53, found "
         "\"9007199254740993\""},
        {"samples", " 8",
         "x/state.safetensors: metadata samples: expected a whole number up to 2^53, found "
         "\" 8\""},
        {"seconds", "1e999",
         "x/state.safetensors: metadata seconds: expected a number, found "
         "\"1e999\""},
        {"seconds", "1s", "x/state.safetensors: metadata seconds: expected a number, found \"1s\""},
        {"seconds", "-1",
         "x/state.safetensors: metadata seconds: expected 0 or more, found "
         "\"-1\""},
        {"seconds", "nan",
         "x/state.safetensors: metadata seconds: expected 0 or more, found "
         "\"nan\""},
        {"smoothed_loss", "",
         "x/state.safetensors: metadata smoothed_loss: expected a number, found \"\""},
        {"smoothed_loss", NULL,
         "x/state.safetensors: metadata smoothed_loss: expected a number, found none"},
        {"smoothed_loss", "-inf",
         "x/state.safetensors: metadata smoothed_loss: expected a number, found \"-inf\""},
        {"pack_sha256", "ab",
         "x/state.safetensors: metadata pack_sha256: expected a SHA-256, found \"ab\""},
        {"pack_sha256", NULL,
         "x/state.safetensors: metadata pack_sha256: expected a SHA-256, found none"},
        {"options", NULL,
         "x/state.safetensors: metadata options: expected a JSON object, found none"},
        {"options", "[]", "x/state.safetensors: metadata options: expected a JSON object { }"},
        {"options",
         "{\"fixed\":", "x/state.safetensors: metadata options: not JSON (at byte 8 of 9)"},
        {"options", "{\"fixed\":{},\"free\":1}",
         "x/state.safetensors: metadata options: expected the objects \"fixed\" and \"free\""},
        {"options", "{\"free\":{}}",
         "x/state.safetensors: metadata options: expected the objects \"fixed\" and \"free\""},
        {"position", "0",
         "x/state.safetensors: metadata position: expected bytes in hexadecimal, found \"0\""},
        {"position", "0g",
         "x/state.safetensors: metadata position: expected bytes in hexadecimal, found \"0g\""},
        {"position", NULL,
         "x/state.safetensors: metadata position: expected bytes in hexadecimal, found none"},
    };
    save(true, 7);
    shell("mv checkpoint-7 good && cp -r good x");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        rewrite(table[i].key, table[i].value, NULL, NULL);
        refused("x", table[i].message);
    }
    const bool wide = sizeof(real) == 8;
    rewrite("precision", wide ? "F32" : "F64", NULL, NULL);
    refused("x", wide ? "x: was written in another precision: expected F64, which this program "
                        "computes in, found F32"
                      : "x: was written in another precision: expected F32, which this program "
                        "computes in, found F64");
    rewrite(NULL, NULL, NULL, NULL);
    assert_restored(scratch("x"), &shared, true, 7);
    shell("head -c 100 good/state.safetensors >x/state.safetensors && cd x && sha256sum "
          "adapter.safetensors config.json state.safetensors >SHA256SUMS");
    Error err = {0};
    assert_null(checkpoint_open(scratch("x"), &err));
    assert_non_null(strstr(err.message, "bytes end past the file"));
}

static void not_restored(bool averages, const char *message) {
    Error err = {0};
    Run r;
    run_open(&r, scratch("x"), NULL);
    Checkpoint *c = checkpoint_open(scratch("x"), &err);
    if (!c) fail_msg("%s", err.message);
    assert_int_equal(checkpoint_restore(c, &r.p, averages ? &r.ema : NULL, &err), -1);
    assert_error(&err, message);
    checkpoint_close(c);
    run_close(&r);
}

static void tensors_that_cannot_be(void **state) {
    (void)state;
    const bool wide = sizeof(real) == 8;
    const Dtype own = wide ? DTYPE_F64 : DTYPE_F32;
    real one[28] = {1};
    save(true, 7);
    shell("mv checkpoint-7 good && cp -r good x");
    rewrite(NULL, NULL, "m/phi.bias", NULL);
    not_restored(true, "x/state.safetensors: m/phi.bias: expected [28], found no such tensor");
    StoredTensor t = {.name = "v/phi.bias",
                      .dtype = own,
                      .ndim = 1,
                      .dim = {27},
                      .data = one,
                      .bytes = 27 * sizeof *one};
    rewrite(NULL, NULL, "v/phi.bias", &t);
    not_restored(true, wide ? "x/state.safetensors: v/phi.bias: expected F64 [28], found F64 [27]"
                            : "x/state.safetensors: v/phi.bias: expected F32 [28], found F32 [27]");
    t.dim[0] = 28;
    t.bytes = 112;
    t.dtype = DTYPE_I32;
    rewrite(NULL, NULL, "v/phi.bias", &t);
    not_restored(true, wide ? "x/state.safetensors: v/phi.bias: expected F64 [28], found I32 [28]"
                            : "x/state.safetensors: v/phi.bias: expected F32 [28], found I32 [28]");
    t.dtype = own;
    t.bytes = 28 * sizeof *one;
    one[3] = -1;
    rewrite(NULL, NULL, "v/phi.bias", &t);
    not_restored(true, "x/state.safetensors: v/phi.bias: expected numbers that are finite and not "
                       "negative, found -1 at 3");
    one[3] = NAN;
    rewrite(NULL, NULL, "v/phi.bias", &t);
    not_restored(true, "x/state.safetensors: v/phi.bias: expected numbers that are finite and not "
                       "negative, found nan at 3");
    one[3] = INFINITY;
    t.name = "raw/phi.bias";
    rewrite(NULL, NULL, "raw/phi.bias", &t);
    not_restored(true,
                 "x/state.safetensors: raw/phi.bias: expected numbers that are finite, found inf "
                 "at 3");
    one[3] = -1;
    t.name = "m/phi";
    rewrite(NULL, NULL, "m/phi", &t);
    not_restored(true, "x/state.safetensors: m/phi: belongs to no parameter that is learned here");
    t.name = "w/phi.bias";
    rewrite(NULL, NULL, "w/phi.bias", &t);
    not_restored(true,
                 "x/state.safetensors: w/phi.bias: belongs to no parameter that is learned here");
    t.name = "phi.bias";
    rewrite(NULL, NULL, "phi.bias", &t);
    not_restored(true,
                 "x/state.safetensors: phi.bias: belongs to no parameter that is learned here");
}

static void with_and_without_averages(void **state) {
    (void)state;
    save(true, 7);
    shell("mv checkpoint-7 x");
    not_restored(false, "x: --ema-decay: it was trained with moving averages, found one without");
    shell("rm -r x");
    save(false, 7);
    shell("mv checkpoint-7 x");
    not_restored(true, "x: --ema-decay: it was trained without moving averages, found one with");
}

/* ---- another run -------------------------------------------------------------------------------- */

static char notes[1024];

static void take_note(void *self, const char *line) {
    (void)self;
    strcat(strcat(notes, line), "\n");
}

static void goes_on(const char *pack, const char *options, const char *error, const char *noted) {
    Error err = {0};
    Checkpoint *c = checkpoint_open(scratch("checkpoint-7"), &err);
    assert_non_null(c);
    *notes = '\0';
    assert_int_equal(checkpoint_check(c, pack, options, take_note, NULL, &err), error ? -1 : 0);
    if (error) assert_error(&err, error);
    assert_string_equal(notes, noted);
    if (!error) assert_int_equal(checkpoint_check(c, pack, options, NULL, NULL, &err), 0);
    checkpoint_close(c);
}

static void another_run(void **state) {
    (void)state;
    save(false, 7);
    goes_on(PACK_SUM, OPTIONS, NULL, "");
    /* the order doesn't count, nor does null for what isn't there */
    goes_on(PACK_SUM,
            "{\"free\":{\"max-train-steps\":1000,\"learning-rate\":1e-4},\"fixed\":{\"seed\":42}}",
            NULL, "");
    goes_on("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee", OPTIONS,
            "checkpoint-7: was trained with another pack: its LLM, U-Net, VAE and scheduler are "
            "expected to have the SHA-256 " PACK_SUM
            ", found 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee",
            "");
    goes_on(PACK_SUM,
            "{\"fixed\":{\"seed\":43,\"train-only\":\"^g$\"},\"free\":{\"learning-rate\":1}}",
            "checkpoint-7: --seed: expected 42, as it was trained with, found 43", "");
    goes_on(PACK_SUM,
            "{\"fixed\":{\"seed\":42,\"train-only\":\"^g$\"},\"free\":{\"learning-rate\":1}}",
            "checkpoint-7: --train-only: expected none, as it was trained with, found \"^g$\"", "");
    goes_on(PACK_SUM, "{\"fixed\":{},\"free\":{}}",
            "checkpoint-7: --seed: expected 42, as it was trained with, found none", "");
    goes_on(PACK_SUM, "{\"fixed\":{\"seed\":42,\"resolution\":16},\"free\":{}}",
            "checkpoint-7: --resolution: expected none, as it was trained with, found 16", "");
    goes_on(PACK_SUM,
            "{\"fixed\":{\"seed\":42},\"free\":{\"learning-rate\":0.0002,\"max-train-steps\":1000,"
            "\"lr-scheduler\":\"cosine\"}}",
            NULL,
            "--learning-rate: was 0.0001 up to step 7, is now 0.0002\n"
            "--lr-scheduler: was none up to step 7, is now \"cosine\"\n");
    goes_on(PACK_SUM, "{\"fixed\":{\"seed\":42},\"free\":{\"learning-rate\":0.0001}}", NULL,
            "--max-train-steps: was 1000 up to step 7, is now none\n");
    goes_on(PACK_SUM, "{}", "options: expected the objects \"fixed\" and \"free\"", "");
}

int main(void) {
#define PLAIN(test)                                                                                \
    { #test, test, NULL, clean, NULL }
    const struct CMUnitTest tests[] = {
        PLAIN(damaged),
        PLAIN(damaged_sums),
        PLAIN(a_state_that_cannot_be),
        PLAIN(tensors_that_cannot_be),
        PLAIN(with_and_without_averages),
        PLAIN(another_run),
    };
    return cmocka_run_group_tests_name("checkpoints that are refused", tests, open_shared,
                                       close_shared);
}
