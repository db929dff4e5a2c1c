/* Whole training runs on golden/micro: what a run leaves, what its bytes don't depend on, going on with it,
 * what the log says, validation pictures, traces. */
#include "train_run.h"

#include "ref/train/cache.h"
#include "weights/sha256.h"

/* ---- what a run leaves --------------------------------------------------------------------------------- */

static void defaults_are_these(void **state) {
    (void)state;
    llmdiff_train_options o;
    memset(&o, 1, sizeof o);
    assert_int_equal(llmdiff_train_default(&o, sizeof o), LLMDIFF_OK);
    assert_int_equal(o.size, sizeof o);
    assert_int_equal(o.resolution, 0);
    assert_int_equal(o.train_batch_size, 0);
    assert_int_equal(o.gradient_accumulation_steps, 1);
    assert_int_equal(o.max_train_steps, 1000);
    assert_true(o.learning_rate == 1e-4 && strcmp(o.lr_scheduler, "constant") == 0);
    assert_int_equal(o.lr_warmup_steps, 0);
    assert_true(o.adam_beta1 == 0.9 && o.adam_beta2 == 0.999);
    assert_true(o.adam_weight_decay == 1e-2 && o.adam_epsilon == 1e-8);
    assert_true(o.max_grad_norm == 1 && o.caption_dropout == 0.1);
    assert_true(o.snr_gamma == 0 && o.noise_offset == 0 && o.ema_decay == 0);
    assert_int_equal(o.seed, 42);
    assert_int_equal(o.max_bad_samples, 100);
    assert_int_equal(o.checkpointing_steps, 500);
    assert_int_equal(o.checkpoints_total_limit, 0);
    assert_int_equal(o.validation_steps, 500);
    assert_true(o.cache_limit == 4 && !o.gradient_checkpointing && !o.center_crop);
    assert_null(o.validation_prompt);
    assert_null(o.team);
    assert_int_equal(llmdiff_train_default(NULL, sizeof o), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_train_default(&o, 8), LLMDIFF_MISUSE);
}

/* The pack's own size, and as many pictures as 512 x 512 have room for, at most 16. */
static void size_is_the_packs(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/out");
    o.train_batch_size = 0;
    o.max_train_steps = 1;
    train_well(&o);
    Error err = {0};
    Safetensors *s = safetensors_open(path("@/out/checkpoint-1/state.safetensors"), &err);
    assert_non_null(s);
    assert_holds(safetensors_metadata(s, "options"), "\"resolution\":16,");
    assert_holds(safetensors_metadata(s, "options"), "\"train-batch-size\":16,");
    safetensors_close(s);
}

static void leaves_an_adapter(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/out");
    o.checkpointing_steps = 2;
    train_well(&o);
    static const char *const names[] = {"adapter.safetensors", "config.json",  "figure6.svg",
                                        "train.jsonl",         "checkpoint-2", "checkpoint-4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "@/out/%s", names[i]);
        if (!is_there(name)) fail_msg("%s isn't there", names[i]);
    }
    assert_false(is_there("@/out/.initial"));
    assert_false(is_there("@/out/cache"));
    assert_false(is_there("@/out/validation"));
    assert_true(same_file("@/out/adapter.safetensors", "@/out/checkpoint-4/adapter.safetensors"));
    assert_true(same_file("@/out/config.json", "@/out/checkpoint-4/config.json"));
    assert_false(same_file("@/out/adapter.safetensors", "@/out/checkpoint-2/adapter.safetensors"));
    /* it draws, and nothing warns that it was never trained */
    assert_ok(RUN("generate", "-m", MICRO, "--adapter", "@/out", "-p", "a", "--steps", "1", "-o",
                  "@/a.png"));
    size_t size;
    char *svg = contents("@/out/figure6.svg", &size);
    assert_holds(svg, "prefers-color-scheme:dark");
    assert_holds(svg, "after 4 steps");
    assert_holds(svg, "up_blocks.1.attentions.1.transformer_blocks.0.attn2\n");
    free(svg);
}

static void log_is_whole(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/out");
    LogLines l;
    o.lr_scheduler = "cosine";
    o.lr_warmup_steps = 2;
    train_well(&o);
    read_log("@/out/train.jsonl", &l);
    assert_int_equal(l.steps, 4);
    assert_string_equal(l.event[0], "start");
    assert_string_equal(l.event[l.events - 1], "end");
    assert_true(l.rate[0] == 0 && l.rate[1] == 5e-5 && l.rate[2] == 1e-4 && l.rate[3] == 5e-5);
    for (int i = 0; i < 4; i++) assert_true(l.loss[i] > 0 && l.norm[i] > 0);
    assert_true(l.loss[0] != l.loss[1]);
}

/* ---- what its bytes don't depend on ---------------------------------------------------------------------- */

static void threads_change_nothing(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/one");
    train_well(&o);
    o = training("@/two");
    o.threads = 2;
    train_well(&o);
    o = training("@/three");
    o.threads = 3;
    o.gradient_checkpointing = 1;
    train_well(&o);
    assert_same_result("@/one", "@/two", 4);
    assert_same_result("@/one", "@/three", 4);
}

static int64_t entries(const char *dir) {
    char command[256];
    snprintf(command, sizeof command, "find '%s' -name '*.safetensors' | wc -l", path(dir));
    FILE *p = popen(command, "r");
    long long n = -1;
    assert_int_equal(fscanf(p, "%lld", &n), 1);
    pclose(p);
    return n;
}

static void damage_entries(const char *dir) {
    char command[512];
    snprintf(command, sizeof command,
             "find '%s' -name '*.safetensors' | while read f; do printf x | dd of=\"$f\" bs=1 "
             "seek=$(($(stat -c %%s \"$f\") - 3)) conv=notrunc 2>/dev/null; done",
             path(dir));
    assert_int_equal(system(command), 0);
}

/* All numbers of every entry become 0, with the checksum of that. */
static void poison_entries(const char *dir) {
    char command[256], name[512];
    Error err = {0};
    snprintf(command, sizeof command, "find '%s' -name '*.safetensors'", path(dir));
    FILE *p = popen(command, "r");
    assert_non_null(p);
    while (fscanf(p, "%511s", name) == 1) {
        StoredTensor t[4];
        char hex[SHA256_HEX], names[4][32];
        Safetensors *f = safetensors_open(name, &err);
        assert_non_null(f);
        const size_t n = safetensors_count(f);
        size_t bytes = 0;
        assert_true(n <= 4);
        for (size_t i = 0; i < n; i++) bytes += safetensors_at(f, i)->bytes;
        char *zero = calloc(1, bytes);
        for (size_t i = 0; i < n; i++) {
            t[i] = *safetensors_at(f, i);
            snprintf(names[i], sizeof names[i], "%s", t[i].name);
            t[i].name = names[i];
            t[i].data = zero;
        }
        safetensors_close(f);
        sha256_bytes(zero, bytes, hex);
        assert_int_equal(
            safetensors_write(name, t, n, (const char *const[]){"sha256", hex, NULL}, &err), 0);
        free(zero);
    }
    pclose(p);
}

static llmdiff_train_options cached(const char *out, const char *dir) {
    llmdiff_train_options o = training(out);
    o.random_flip = 1;
    o.max_train_steps = 8;
    o.cache_dir = dir;
    o.cache_limit = dir ? 1 : 0;
    return o;
}

/* Cold, warm, damaged, too small; and it is read indeed. */
static void cache_changes_nothing(void **state) {
    (void)state;
    char dir[128];
    snprintf(dir, sizeof dir, "%s", path("@/cache"));
    llmdiff_train_options o = cached("@/none", NULL);
    train_well(&o);
    static const char *const out[] = {"@/cold", "@/warm", "@/damaged"};
    int64_t there = 0;
    for (int i = 0; i < 3; i++) {
        if (i == 2) damage_entries("@/cache");
        o = cached(out[i], dir);
        train_well(&o);
        assert_same_result("@/none", out[i], 8);
        if (i) assert_int_equal(entries("@/cache"), there);
        there = entries("@/cache");
    }
    /* 7 pictures, some of which have one square in them; their captions, some left out */
    if (there < 14 || there > 24) fail_msg("%d entries", (int)there);
    poison_entries("@/cache");
    o = cached("@/poisoned", dir);
    train_well(&o);
    assert_false(same_file("@/none/adapter.safetensors", "@/poisoned/adapter.safetensors"));
    o = cached("@/small", NULL);
    o.cache_limit = 25e-6; /* 25 kB */
    train_well(&o);
    assert_same_result("@/none", "@/small", 8);
    LogLines l;
    read_log("@/small/train.jsonl", &l);
    int warnings = 0;
    for (int i = 0; i < l.events; i++) warnings += strcmp(l.event[i], "warning") == 0;
    assert_int_equal(warnings, 2); /* one of them of small pictures */
    assert_true(entries("@/small/cache") >= 1);
}

/* Other bytes, another part, another way, another model: another key. Another shape: not this one. */
static void keys_differ(void **state) {
    (void)state;
    Context ctx = {.threads = 1};
    Error err = {0};
    char dir[128], key[CACHE_KEY];
    snprintf(dir, sizeof dir, "%s", path("@/cache"));
    const CacheOptions options = {.dir = dir, .limit = 1e6, .files = "ab  llm/x\ncd  vae/y\n"};
    Cache *c = cache_open(&options, &err);
    assert_non_null(c);
    static const char *const names[] = {"mean"};
    Tensor x = TENSOR_NEW(&ctx, 2, 3), y = TENSOR_NEW(&ctx, 2, 3), z = TENSOR_NEW(&ctx, 3, 2);
    for (int i = 0; i < 6; i++) x.data[i] = (real)i, y.data[i] = 0;
    cache_key(c, CACHE_VAE, "how", "bytes", 5, key);
    assert_false(cache_get(c, key, 1, names, &y));
    cache_put(c, key, 1, names, &x);
    assert_true(cache_get(c, key, 1, names, &y));
    assert_memory_equal(x.data, y.data, 6 * sizeof(real));
    assert_false(cache_get(c, key, 1, names, &z));
    char other[4][CACHE_KEY];
    cache_key(c, CACHE_LLM, "how", "bytes", 5, other[0]);
    cache_key(c, CACHE_VAE, "hows", "bytes", 5, other[1]);
    cache_key(c, CACHE_VAE, "how", "byte", 4, other[2]);
    cache_close(c);
    c = cache_open(&(CacheOptions){.dir = dir, .limit = 1e6, .files = "ab  llm/x\ncf  vae/y\n"},
                   &err);
    assert_non_null(c);
    cache_key(c, CACHE_VAE, "how", "bytes", 5, other[3]);
    for (int i = 0; i < 4; i++) assert_string_not_equal(key, other[i]);
    cache_close(c);
    context_free(&ctx);
}

/* Four times one picture are one time four: the loss and gradient are the mean over all. */
static void accumulation_is_a_batch(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/batch");
    o.train_batch_size = 4;
    train_well(&o);
    o = training("@/accumulated");
    o.train_batch_size = 1;
    o.gradient_accumulation_steps = 4;
    train_well(&o);
    assert_same_result("@/batch", "@/accumulated", 4); /* to 1e-12 is asked for */
    o = training("@/less");
    o.train_batch_size = 2;
    train_well(&o);
    assert_false(same_file("@/batch/adapter.safetensors", "@/less/adapter.safetensors"));
}

/* What sample 1 is drawn with, and its loss, are the same as the second of one step and as the one of the
 * second step: an index is all that counts. */
static void draws_follow_the_sample(void **state) {
    (void)state;
    static const char *const names[] = {"ids",         "train/latent_mean", "train/posterior_noise",
                                        "train/noise", "train/t",           "train/z_t",
                                        "alg1/eps.2"};
    char file[2][128];
    Error err = {0};
    LogLines one, two;
    for (int i = 0; i < 2; i++)
        snprintf(file[i], sizeof file[i], "%s", path(i ? "@/b.safetensors" : "@/a.safetensors"));
    llmdiff_train_options o = training("@/two");
    o.learning_rate = 0;
    o.max_train_steps = 1;
    o.trace_file = file[0];
    train_well(&o);
    o = training("@/one");
    o.learning_rate = 0;
    o.train_batch_size = 1;
    o.max_train_steps = 1;
    train_well(&o);
    o.max_train_steps = 2;
    o.trace_file = file[1];
    o.resume_from_checkpoint = "latest";
    train_well(&o);
    Safetensors *a = safetensors_open(file[0], &err), *b = safetensors_open(file[1], &err);
    assert_true(a && b);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "1/%s", names[i]);
        const StoredTensor *x = safetensors_find(a, name);
        name[0] = '0';
        const StoredTensor *y = safetensors_find(b, name), *first = safetensors_find(a, name);
        assert_true(x && y && x->bytes == y->bytes);
        if (memcmp(x->data, y->data, x->bytes) != 0) fail_msg("%s differs", names[i]);
        if (memcmp(first->data, y->data, x->bytes) == 0) fail_msg("%s is always so", names[i]);
    }
    double predicted[256], noise[256], loss, squares = 0;
    assert_int_equal(stored_numel(safetensors_find(b, "0/conv_out")), 256);
    stored_to_double(safetensors_find(b, "0/conv_out"), predicted, &err);
    stored_to_double(safetensors_find(b, "0/train/noise"), noise, &err);
    stored_to_double(safetensors_find(b, "train/loss"), &loss, &err);
    assert_false(err.set);
    for (int i = 0; i < 256; i++) squares += (predicted[i] - noise[i]) * (predicted[i] - noise[i]);
    assert_true(fabs(loss - squares / 256) <= 1e-6 * loss);
    safetensors_close(a);
    safetensors_close(b);
    read_log("@/two/train.jsonl", &two);
    read_log("@/one/train.jsonl", &one);
    const double mean = (one.loss[0] + one.loss[1]) / 2;
    assert_true(fabs(two.loss[0] - mean) <= 1e-6 * mean);
    assert_true(one.samples == 2 && two.samples == 2);
}

/* Each of these does change them. */
static void options_reach_the_step(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/plain");
    train_well(&o);
    for (int i = 0; i < 14; i++) {
        char out[64];
        snprintf(out, sizeof out, "@/o%d", i);
        o = training(out);
        if (i == 0) o.seed = 43;
        if (i == 1) o.learning_rate = 2e-4;
        if (i == 2) o.lr_scheduler = "linear";
        if (i == 3) o.lr_warmup_steps = 2;
        if (i == 4) o.adam_beta1 = 0.8;
        if (i == 5) o.adam_beta2 = 0.99;
        if (i == 6) o.adam_weight_decay = 0.5;
        if (i == 7) o.adam_epsilon = 1e-3;
        if (i == 8) o.max_grad_norm = 1e-3;
        if (i == 9) o.caption_dropout = 1;
        if (i == 10) o.snr_gamma = 0.5;
        if (i == 11) o.noise_offset = 0.1;
        if (i == 12) o.center_crop = 1;
        if (i == 13) o.random_flip = 1;
        train_well(&o);
        snprintf(out, sizeof out, "@/o%d/adapter.safetensors", i);
        if (same_file("@/plain/adapter.safetensors", out)) fail_msg("option %d does nothing", i);
    }
}

static void only_what_is_asked_for(void **state) {
    (void)state;
    Error err = {0};
    llmdiff_train_options o = training("@/out");
    o.train_only = "^phi|\\.a2$";
    train_well(&o);
    assert_ok(RUN("init-adapter", "-m", MICRO, "-o", "@/fresh", "-s", "42"));
    Safetensors *a = safetensors_open(path("@/out/adapter.safetensors"), &err),
                *b = safetensors_open(path("@/fresh/adapter.safetensors"), &err);
    assert_non_null(a);
    assert_non_null(b);
    for (size_t i = 0; i < safetensors_count(b); i++) {
        const StoredTensor *t = safetensors_at(b, i), *u = safetensors_find(a, t->name);
        double x[4096], y[4096];
        assert_non_null(u);
        assert_true(stored_numel(t) <= 4096);
        stored_to_double(t, x, &err);
        stored_to_double(u, y, &err);
        assert_false(err.set);
        const bool same = memcmp(x, y, (size_t)stored_numel(t) * sizeof *x) == 0;
        const size_t n = strlen(t->name);
        const bool learned =
            strncmp(t->name, "phi", 3) == 0 || (n > 3 && strcmp(t->name + n - 3, ".a2") == 0);
        if (same == learned) fail_msg("%s: learned: %d", t->name, !same);
    }
    safetensors_close(a);
    safetensors_close(b);
}

/* After one step, whose gradients are the same: the scalars have moved by their share of the rate, all else
 * by the whole of it. */
static void scalars_have_their_own_rate(void **state) {
    (void)state;
    static const double scale[] = {1, 0.25, 0};
    Safetensors *file[4];
    Error err = {0};
    char name[64];
    int scalars = 0, others = 0;
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "@/out%d", i);
        llmdiff_train_options o = training(name);
        o.max_train_steps = 1;
        o.learning_rate = 1e-2;
        o.scalar_lr_scale = scale[i];
        train_well(&o);
        snprintf(name, sizeof name, "@/out%d/adapter.safetensors", i);
        assert_non_null(file[i] = safetensors_open(path(name), &err));
    }
    assert_ok(RUN("init-adapter", "-m", MICRO, "-o", "@/fresh", "-s", "42"));
    assert_non_null(file[3] = safetensors_open(path("@/fresh/adapter.safetensors"), &err));
    for (size_t k = 0; k < safetensors_count(file[3]); k++) {
        const StoredTensor *fresh = safetensors_at(file[3], k);
        const int64_t n = stored_numel(fresh);
        double before[4096], whole[4096], part[4096];
        assert_true(n <= 4096);
        stored_to_double(fresh, before, &err);
        stored_to_double(safetensors_find(file[0], fresh->name), whole, &err);
        const char *end = strrchr(fresh->name, '.');
        end = end ? end + 1 : fresh->name;
        const bool scalar = strchr("abge", *end) && strcmp(end, "bias") != 0;
        for (int i = 1; i < 3; i++) {
            stored_to_double(safetensors_find(file[i], fresh->name), part, &err);
            for (int64_t j = 0; j < n; j++) {
                const double moved = (whole[j] - before[j]) * (scalar ? scale[i] : 1);
                if (!(fabs(part[j] - before[j] - moved) <= (scalar ? 4e-6 : 0)))
                    fail_msg("%s: %g, from %g: expected a step of %g", fresh->name, part[j],
                             before[j], moved);
                scalars += scalar && moved != 0;
                others += !scalar && moved != 0;
            }
        }
    }
    assert_false(err.set);
    assert_true(scalars >= 8 && others >= 1000);
    for (int i = 0; i < 4; i++) safetensors_close(file[i]);
}

/* The same function at first: only a1 and a2 are others, and the loss before the first update is the same. */
static void added_attention_takes_part_from_the_start(void **state) {
    (void)state;
    LogLines plain, half;
    Error err = {0};
    int scalars = 0;
    for (int i = 0; i < 2; i++) {
        llmdiff_train_options o = training(i ? "@/half" : "@/plain");
        o.max_train_steps = 1;
        o.learning_rate = 0;
        o.added_start = i ? 0.25 : 0;
        train_well(&o);
    }
    read_log("@/plain/train.jsonl", &plain);
    read_log("@/half/train.jsonl", &half);
    assert_true(fabs(plain.loss[0] - half.loss[0]) <= 1e-5 * plain.loss[0]);
    assert_true(fabs(plain.norm[0] - half.norm[0]) > 1e-3 * plain.norm[0]); /* tau's is there */
    Safetensors *a = safetensors_open(path("@/plain/adapter.safetensors"), &err),
                *b = safetensors_open(path("@/half/adapter.safetensors"), &err);
    assert_true(a && b);
    for (size_t k = 0; k < safetensors_count(a); k++) {
        const StoredTensor *t = safetensors_at(a, k);
        double x[4096], y[4096];
        stored_to_double(t, x, &err);
        stored_to_double(safetensors_find(b, t->name), y, &err);
        const char *end = strrchr(t->name, '.');
        const double is = !end                  ? NAN
                          : !strcmp(end, ".a1") ? 0.75
                          : !strcmp(end, ".a2") ? 0.25
                                                : NAN;
        if (isnan(is))
            assert_memory_equal(x, y, (size_t)stored_numel(t) * sizeof *x);
        else
            assert_true(y[0] == is);
        scalars += !isnan(is);
    }
    assert_false(err.set);
    assert_true(scalars >= 4);
    safetensors_close(a);
    safetensors_close(b);
    llmdiff_error error;
    llmdiff_train_options o = training("@/other");
    o.added_start = 0.25;
    llmdiff_pack *pack = open_training(MICRO "/adapter");
    assert_true(llmdiff_train(pack, &o, &error) != LLMDIFF_OK);
    assert_holds(error.message, "--added-start: expected a fresh adapter");
    llmdiff_close(pack);
}

/* The pictures' own noise, seen again and again: what can be learned is. */
static void loss_falls(void **state) {
    (void)state;
    LogLines l;
    llmdiff_train_options o = training("@/out");
    o.train_batch_size = 8;
    o.max_train_steps = 150;
    o.learning_rate = 3e-3;
    train_well(&o);
    read_log("@/out/train.jsonl", &l);
    double before = 0, after = 0;
    for (int i = 0; i < 25; i++) before += l.loss[i] / 25, after += l.loss[125 + i] / 25;
    print_message("loss %.4f, then %.4f\n", before, after);
    assert_true(after < 0.97 * before);
}

/* ---- going on ------------------------------------------------------------------------------------------- */

static llmdiff_train_options long_run(const char *out) {
    llmdiff_train_options o = training(out);
    o.max_train_steps = 10;
    o.gradient_accumulation_steps = 2;
    o.lr_scheduler = "cosine";
    o.ema_decay = 0.9;
    o.noise_offset = 0.1;
    o.checkpointing_steps = 4;
    return o;
}

/* Stopped in the middle of steps, gone on with other threads. */
static void goes_on_bit_for_bit(void **state) {
    (void)state;
    llmdiff_train_options o = long_run("@/whole");
    train_well(&o);
    o = long_run("@/parts");
    train_until(o, 3);
    assert_true(is_there("@/parts/checkpoint-3"));
    assert_false(is_there("@/parts/adapter.safetensors"));
    o.resume_from_checkpoint = "latest";
    o.threads = 3;
    train_until(o, 7);
    o.resume_from_checkpoint = "checkpoint-7";
    o.threads = 2;
    train_well(&o);
    assert_same_result("@/whole", "@/parts", 10);
    assert_true(same_file("@/whole/figure6.svg", "@/parts/figure6.svg"));
    LogLines a, b;
    read_log("@/whole/train.jsonl", &a);
    read_log("@/parts/train.jsonl", &b);
    assert_int_equal(a.steps, 10);
    assert_int_equal(b.steps, 10);
    for (int i = 0; i < 10; i++)
        assert_true(a.loss[i] == b.loss[i] && a.rate[i] == b.rate[i] && a.norm[i] == b.norm[i]);
}

/* A checkpoint is gone back to: the log's later lines go, a torn one too. */
static void log_goes_back(void **state) {
    (void)state;
    size_t size;
    LogLines l;
    llmdiff_train_options o = long_run("@/out");
    train_until(o, 6); /* checkpoints 4 and 6 */
    assert_int_equal(system(path("rm -r @/out/checkpoint-6")), 0);
    char *text = contents("@/out/train.jsonl", &size);
    char *torn = malloc(size + 32);
    assert_non_null(torn);
    memcpy(torn, text, size);
    memcpy(torn + size, "{\"step\":7,\"lo", 13);
    put("@/out/train.jsonl", torn, size + 13);
    free(torn);
    free(text);
    o.resume_from_checkpoint = "latest";
    train_well(&o);
    read_log("@/out/train.jsonl", &l);
    assert_int_equal(l.steps, 10);
    int resumed = 0;
    for (int i = 0; i < l.events; i++) resumed += strcmp(l.event[i], "resume") == 0;
    assert_int_equal(resumed, 1);
    o = long_run("@/whole");
    train_well(&o);
    assert_same_result("@/whole", "@/out", 10);
}

static void assert_untouched(const char *command, const char *before) {
    char after[16384];
    FILE *p = popen(command, "r");
    const size_t n = fread(after, 1, sizeof after - 1, p);
    after[n] = '\0';
    pclose(p);
    assert_string_equal(after, before);
}

static void finished_run_stays(void **state) {
    (void)state;
    char command[256], before[16384];
    llmdiff_train_options o = long_run("@/out");
    o.validation_prompt = "a red circle";
    o.validation_steps = 4;
    train_well(&o);
    snprintf(command, sizeof command, "cd '%s' && find . -type f -printf '%%p %%T@ %%s\\n' | sort",
             path("@/out"));
    FILE *p = popen(command, "r");
    const size_t n = fread(before, 1, sizeof before - 1, p);
    before[n] = '\0';
    pclose(p);
    assert_holds(before, "./validation/step-000010.png");
    o.resume_from_checkpoint = "latest";
    train_well(&o);
    assert_untouched(command, before);
    /* and what is missing comes back as it was */
    assert_int_equal(system(path("cp -r @/out @/copy; rm @/out/figure6.svg @/out/config.json "
                                 "@/out/validation/step-000010.png")),
                     0);
    train_well(&o);
    assert_true(same_file("@/out/figure6.svg", "@/copy/figure6.svg"));
    assert_true(same_file("@/out/config.json", "@/copy/config.json"));
    assert_true(same_file("@/out/validation/step-000010.png", "@/copy/validation/step-000010.png"));
}

static void latest_of_nothing_begins(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/plain");
    train_well(&o);
    o = training("@/out");
    o.resume_from_checkpoint = "latest";
    train_well(&o);
    assert_same_result("@/plain", "@/out", 4);
}

static void old_checkpoints_go(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/out");
    o.max_train_steps = 5;
    o.checkpointing_steps = 1;
    o.checkpoints_total_limit = 2;
    train_well(&o);
    assert_false(is_there("@/out/checkpoint-3"));
    assert_true(is_there("@/out/checkpoint-4") && is_there("@/out/checkpoint-5"));
}

static void begins_with_an_adapter(void **state) {
    (void)state;
    llmdiff_error error;
    llmdiff_train_options o = training("@/out");
    llmdiff_pack *pack = open_training(MICRO "/adapter_shared");
    assert_int_equal(llmdiff_train(pack, &o, &error), LLMDIFF_OK);
    o.resume_from_checkpoint = "latest"; /* with the same adapter, or without a word of it */
    o.max_train_steps = 5;
    assert_int_equal(llmdiff_train(pack, &o, &error), LLMDIFF_OK);
    llmdiff_close(pack);
    o.max_train_steps = 6;
    train_well(&o);
    size_t size;
    char *config = contents("@/out/config.json", &size);
    assert_holds(config, "\"shared\"");
    free(config);
}

/* ---- pictures and traces on the way ----------------------------------------------------------------------- */

static void validation_is_generate(void **state) {
    (void)state;
    llmdiff_train_options o = long_run("@/out"); /* with averages */
    o.validation_prompt = "a red circle";
    o.validation_steps = 4;
    o.seed = 7;
    train_well(&o);
    static const int steps[] = {4, 8, 10};
    for (int i = 0; i < 3; i++) {
        char adapter[64], name[64];
        snprintf(adapter, sizeof adapter, "@/out/checkpoint-%d", steps[i]);
        snprintf(name, sizeof name, "@/out/validation/step-%06d.png", steps[i]);
        assert_ok(RUN("generate", "-m", MICRO, "--adapter", adapter, "-p", "a red circle", "-s",
                      "7", "-o", "@/x.png"));
        if (!same_file("@/x.png", name)) fail_msg("%s is another picture", name);
    }
    /* drawing changes nothing */
    o = long_run("@/plain");
    o.seed = 7;
    train_well(&o);
    assert_same_result("@/plain", "@/out", 10);
}

static void first_step_is_traced(void **state) {
    (void)state;
    char file[128];
    Error err = {0};
    LogLines l;
    snprintf(file, sizeof file, "%s", path("@/trace.safetensors"));
    llmdiff_train_options o = training("@/plain");
    train_well(&o);
    o = training("@/out");
    o.noise_offset = 0;
    o.trace_file = file;
    o.cache_limit = 1;
    train_well(&o);
    assert_same_result("@/plain", "@/out", 4);
    read_log("@/out/train.jsonl", &l);
    Safetensors *t = safetensors_open(file, &err);
    assert_non_null(t);
    static const char *const names[] = {"0/ids",
                                        "1/ids",
                                        "0/train/latent_mean",
                                        "1/train/latent_logvar",
                                        "0/train/delta",
                                        "1/alg1/eps.3",
                                        "0/llm/x.3",
                                        "0/train/t",
                                        "0/train/z0",
                                        "1/train/noise",
                                        "0/train/posterior_noise",
                                        "1/train/z_t",
                                        "0/alg1/c.0",
                                        "1/adapter/phi_c",
                                        "1/conv_out",
                                        "grad/g",
                                        "grad/eta",
                                        "grad/phi.weight",
                                        "adamw/phi.bias/m",
                                        "adamw/g/v"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!safetensors_find(t, names[i])) fail_msg("no %s", names[i]);
    double loss;
    assert_int_equal(stored_to_double(safetensors_find(t, "train/loss"), &loss, &err), 0);
    assert_true(fabs(loss - l.loss[0]) <= 1e-6 * loss);
    assert_non_null(safetensors_metadata(t, "pack_sha256"));
    assert_string_equal(safetensors_metadata(t, "seed"), "42");
    assert_string_equal(safetensors_metadata(t, "width"), "16");
    assert_string_equal(safetensors_metadata(t, "model"), MICRO);
    assert_holds(safetensors_metadata(t, "settings"), "\"word_score\":true");
    safetensors_close(t);
    o = training("@/part");
    o.trace_file = file;
    o.trace_only = "^grad/";
    train_well(&o);
    t = safetensors_open(file, &err);
    assert_non_null(t);
    double squares = 0;
    for (size_t i = 0; i < safetensors_count(t); i++) {
        double x[4096];
        const StoredTensor *g = safetensors_at(t, i);
        assert_true(strncmp(g->name, "grad/", 5) == 0 && stored_numel(g) <= 4096);
        assert_int_equal(stored_to_double(g, x, &err), 0);
        for (int64_t k = 0; k < stored_numel(g); k++) squares += x[k] * x[k];
    }
    assert_true(fabs(sqrt(squares) - l.norm[0]) <= 1e-6 * l.norm[0]); /* before it is clipped */
    safetensors_close(t);
}

/* train/noise is N(0, I) plus the offset's factor times one number for each channel. */
static void noise_offset_is_by_channel(void **state) {
    (void)state;
    char file[2][128];
    double noise[2][256], n[4], z[2][256];
    Error err = {0};
    for (int i = 0; i < 2; i++) {
        llmdiff_train_options o = training(i ? "@/offset" : "@/plain");
        snprintf(file[i], sizeof file[i], "%s",
                 path(i ? "@/offset.safetensors" : "@/p.safetensors"));
        o.trace_file = file[i];
        o.noise_offset = i * 0.25;
        train_well(&o);
        Safetensors *t = safetensors_open(file[i], &err);
        assert_non_null(t);
        stored_to_double(safetensors_find(t, "1/train/noise"), noise[i], &err);
        stored_to_double(safetensors_find(t, "1/train/z_t"), z[i], &err);
        const StoredTensor *offset = safetensors_find(t, "1/train/noise_offset");
        assert_int_equal(offset != NULL, i);
        if (i) stored_to_double(offset, n, &err);
        assert_false(err.set);
        safetensors_close(t);
    }
    for (int k = 0; k < 256; k++) {
        const double added = noise[1][k] - noise[0][k];
        if (!(fabs(added - 0.25 * n[k / 64]) < 1e-6)) fail_msg("element %d: %g", k, added);
        assert_true(z[0][k] != z[1][k]);
    }
    assert_true(n[0] != n[1] && n[1] != n[2] && n[2] != n[3]);
}

#define IN_A_DIRECTORY(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_these),
        IN_A_DIRECTORY(size_is_the_packs),
        IN_A_DIRECTORY(leaves_an_adapter),
        IN_A_DIRECTORY(log_is_whole),
        IN_A_DIRECTORY(threads_change_nothing),
        IN_A_DIRECTORY(cache_changes_nothing),
        IN_A_DIRECTORY(keys_differ),
        IN_A_DIRECTORY(accumulation_is_a_batch),
        IN_A_DIRECTORY(draws_follow_the_sample),
        IN_A_DIRECTORY(options_reach_the_step),
        IN_A_DIRECTORY(only_what_is_asked_for),
        IN_A_DIRECTORY(scalars_have_their_own_rate),
        IN_A_DIRECTORY(added_attention_takes_part_from_the_start),
        IN_A_DIRECTORY(loss_falls),
        IN_A_DIRECTORY(goes_on_bit_for_bit),
        IN_A_DIRECTORY(log_goes_back),
        IN_A_DIRECTORY(finished_run_stays),
        IN_A_DIRECTORY(latest_of_nothing_begins),
        IN_A_DIRECTORY(old_checkpoints_go),
        IN_A_DIRECTORY(begins_with_an_adapter),
        IN_A_DIRECTORY(validation_is_generate),
        IN_A_DIRECTORY(first_step_is_traced),
        IN_A_DIRECTORY(noise_offset_is_by_channel),
    };
    return cmocka_run_group_tests_name("training runs", tests, NULL, NULL);
}
