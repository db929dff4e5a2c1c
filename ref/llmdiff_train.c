/* A training run: what was asked for, complete and within its limits; validation pictures; what became of it.
 * See llmdiff.h; the run itself is ref/train/loop.c. */
#include "ref/llmdiff_private.h"
#include "ref/trace.h"
#include "ref/train/learning_rate.h"
#include "ref/train/loop.h"

#include <math.h>
#include <string.h>

/* The members of its first version end with `note`. */
#define TRAIN_LEAST (offsetof(llmdiff_train_options, note) + sizeof(void *))

/* ---- options ------------------------------------------------------------------------------------------ */

static llmdiff_train_options defaults(void) {
    return (llmdiff_train_options){.size = sizeof(llmdiff_train_options),
                                   .gradient_accumulation_steps = 1,
                                   .max_train_steps = 1000,
                                   .learning_rate = 1e-4,
                                   .scalar_lr_scale = 1,
                                   .lr_scheduler = "constant",
                                   .adam_beta1 = 0.9,
                                   .adam_beta2 = 0.999,
                                   .adam_weight_decay = 1e-2,
                                   .adam_epsilon = 1e-8,
                                   .max_grad_norm = 1,
                                   .caption_dropout = 0.1,
                                   .seed = 42,
                                   .max_bad_samples = 100,
                                   .checkpointing_steps = 500,
                                   .validation_steps = 500,
                                   .cache_limit = 4};
}

llmdiff_status llmdiff_train_default(llmdiff_train_options *options, size_t size) {
    if (!options || size < TRAIN_LEAST) return LLMDIFF_MISUSE;
    llmdiff_train_options all = defaults();
    all.size = size;
    memset(options, 0, size);
    memcpy(options, &all, size < sizeof all ? size : sizeof all);
    return LLMDIFF_OK;
}

static void check_wholes(const llmdiff_train_options *o, Error *err) {
    const struct {
        const char *flag;
        int64_t value, least, most;
    } whole[] = {
        {"--resolution", o->resolution, 0, 1 << 16},
        {"--train-batch-size", o->train_batch_size, 0, 1 << 20},
        {"--gradient-accumulation-steps", o->gradient_accumulation_steps, 1, 1 << 20},
        {"--max-train-steps", o->max_train_steps, 1, INT64_C(1) << 40},
        {"--lr-warmup-steps", o->lr_warmup_steps, 0, INT64_C(1) << 40},
        {"--max-bad-samples", o->max_bad_samples, 0, INT64_C(1) << 40},
        {"--checkpointing-steps", o->checkpointing_steps, 1, INT64_C(1) << 40},
        {"--checkpoints-total-limit", o->checkpoints_total_limit, 0, INT64_C(1) << 40},
        {"--validation-steps", o->validation_steps, 1, INT64_C(1) << 40},
        {"--threads", o->threads, 0, 1024},
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (whole[i].value < whole[i].least || whole[i].value > whole[i].most)
            fail(err, "%s: expected %lld to %lld, found %lld", whole[i].flag,
                 (long long)whole[i].least, (long long)whole[i].most, (long long)whole[i].value);
}

static void check_numbers(const llmdiff_train_options *o, Error *err) {
    const struct {
        const char *flag;
        double value, least, most;
        bool below; /* `most` itself is too large */
    } number[] = {
        {"--learning-rate", o->learning_rate, 0, 1e6, false},
        {"--scalar-lr-scale", o->scalar_lr_scale, 0, 1e6, false},
        {"--added-start", o->added_start, 0, 1, false},
        {"--adam-beta1", o->adam_beta1, 0, 1, true},
        {"--adam-beta2", o->adam_beta2, 0, 1, true},
        {"--adam-weight-decay", o->adam_weight_decay, 0, 1e6, false},
        {"--adam-epsilon", o->adam_epsilon, 1e-30, 1e6, false},
        {"--caption-dropout", o->caption_dropout, 0, 1, false},
        {"--snr-gamma", o->snr_gamma, 0, 1e6, false},
        {"--noise-offset", o->noise_offset, 0, 1e6, false},
        {"--ema-decay", o->ema_decay, 0, 1, true},
        {"--cache-limit", o->cache_limit, 0, 1e9, false},
    };
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        const double v = number[i].value;
        const bool good =
            v >= number[i].least && (number[i].below ? v < number[i].most : v <= number[i].most);
        if (!good)
            fail(err, "%s: expected %g to %s%g, found %g", number[i].flag, number[i].least,
                 number[i].below ? "less than " : "", number[i].most, v);
    }
    if (o->seed > UINT64_C(1) << 53)
        fail(err, "--seed: expected at most 2^53, found %llu", (unsigned long long)o->seed);
    if (!(o->max_grad_norm > 0)) /* which may be infinite: no clipping */
        fail(err, "--max-grad-norm: expected more than 0, found %g", o->max_grad_norm);
}

static void check_words(const llmdiff_train_options *o, Error *err) {
    LearningRateKind kind;
    if (!o->train_data_dir || !*o->train_data_dir)
        fail(err, "no data set: give a directory with --train-data-dir");
    if (!o->output_dir || !*o->output_dir)
        fail(err, "no output: say with --output-dir where the adapter goes");
    if (given(o->lr_scheduler, "llmdiff_train_options.lr_scheduler", err))
        learning_rate_kind(o->lr_scheduler, &kind, err);
    if (o->trace_file && !has_ending(o->trace_file, ".safetensors"))
        fail(err, "--trace: expected a name that ends in .safetensors, found \"%s\"",
             o->trace_file);
    if (o->trace_only && !o->trace_file)
        fail(err, "--trace-only: expected a trace to choose for, --trace, found none");
    trace_check_only(o->trace_only, err);
    const llmdiff_team *t = o->team;
    if (t && (t->ranks < 1 || t->rank < 0 || t->rank >= t->ranks || !t->sum || !t->worst))
        fail(err, "llmdiff_team: rank %d of %d, sum and worst: expected all of them", t->rank,
             t->ranks);
}

/* What depends on the pack: its own size, and as many pictures as have the pixels of one of 512 x 512. */
static void complete(llmdiff_train_options *o, const Pack *pack, Error *err) {
    const int64_t factor = pack->vae->factor;
    if (!o->resolution) o->resolution = request_default(pack).width;
    const int64_t R = o->resolution;
    if (R % factor || R < factor)
        fail(err,
             "--resolution: expected a positive multiple of %lld, the VAE's factor, found %lld",
             (long long)factor, (long long)R);
    if (err->set || o->train_batch_size) return;
    const int64_t fits = 512 * 512 / (R * R);
    o->train_batch_size = fits < 1 ? 1 : fits > 16 ? 16 : fits;
}

static bool take_train_options(llmdiff_train_options *o, const llmdiff_train_options *from,
                               const Pack *pack, Error *err) {
    *o = defaults();
    if (!take_struct(o, sizeof *o, TRAIN_LEAST, from, "llmdiff_train_options", err)) return false;
    check_words(o, err);
    check_wholes(o, err);
    check_numbers(o, err);
    if (!err->set) complete(o, pack, err);
    return !err->set;
}

/* ---- the pack ------------------------------------------------------------------------------------------ */

static int check_pack(const Pack *pack, Error *err) {
    if (pack->vae->in_channels != 3 || !pack->vae->has_encoder)
        return fail(err,
                    "%s: can't encode a picture: expected a VAE with encoder.* and quant_conv.* "
                    "for 3 channels",
                    model_path(pack->vae->files));
    return 0;
}

/* What the first validation picture would find wrong, hours later. */
static int check_validation(const llmdiff_train_options *o, const Pack *pack, Error *err) {
    TokenIds ids;
    Request r = request_default(pack);
    if (!o->validation_prompt) return 0;
    r.width = r.height = o->resolution;
    if (request_check(&r, pack, err) ||
        tokenizer_encode(pack->tokenizer, o->validation_prompt, strlen(o->validation_prompt), true,
                         &ids, err))
        return -1;
    if ((int64_t)ids.count > pack->llm->max_positions)
        fail(err,
             "--validation-prompt: expected at most %lld tokens, the LLM's positions, found %zu",
             (long long)pack->llm->max_positions, ids.count);
    token_ids_free(&ids);
    return err->set ? -1 : 0;
}

/* ---- validation pictures --------------------------------------------------------------------------------- */

typedef struct Drawing {
    const llmdiff_pack *pack;
    const llmdiff_train_options *options;
    bool stopped;
} Drawing;

static int is_cancelled(void *user) {
    Drawing *d = user;
    const llmdiff_train_options *o = d->options;
    if (!d->stopped && o->cancel && o->cancel(o->user)) d->stopped = true;
    return d->stopped;
}

/* The same picture as from a pack opened with `from` as its adapter. */
static int draw(void *self, const Adapter *adapter, const char *from, const char *png,
                bool *stopped, Error *err) {
    Drawing *d = self;
    const llmdiff_train_options *o = d->options;
    llmdiff_pack pack = *d->pack;
    llmdiff_request request;
    llmdiff_result *picture = NULL;
    llmdiff_error error;
    pack.use = LLMDIFF_USE_GENERATE;
    pack.pack.adapter = (Adapter *)(uintptr_t)adapter;
    pack.adapter = (char *)(uintptr_t)from;
    pack.settings = settings_text(&adapter->settings, err);
    llmdiff_request_for(&pack, &request, sizeof request);
    request.prompt = o->validation_prompt;
    request.width = request.height = o->resolution;
    request.seed = o->seed;
    request.threads = o->threads;
    request.user = d;
    request.cancel = is_cancelled;
    if (!err->set && llmdiff_generate(&pack, &request, &picture, &error) == LLMDIFF_OK)
        llmdiff_save_png_enlarged(picture, png, llmdiff_enlargement(picture), &error);
    if (!err->set && error.status) fail(err, "the validation picture: %s", error.message);
    llmdiff_result_free(picture);
    cJSON_free(pack.settings);
    *stopped |= d->stopped;
    return err->set ? -1 : 0;
}

/* ---- the call ------------------------------------------------------------------------------------------- */

/* Who is refused here says so to the others, who would wait for it. */
static bool another_failed(const llmdiff_train_options *options, Error *err) {
    const llmdiff_team *team = options && options->size >= TRAIN_LEAST ? options->team : NULL;
    int status = err->set;
    if (!team || !team->worst || team->worst(team->self, &status)) return false;
    if (!status || err->set) return false;
    fail(err, "another process failed");
    return true;
}

/* The paths given, for a trace. */
static void describe(const llmdiff_pack *pack, const char *about[12]) {
    const char *const path[] = {"model",    pack->model, "llm",     pack->llm, "unet",
                                pack->unet, "vae",       pack->vae, "adapter", pack->adapter};
    for (int i = 0; i < 10; i += 2)
        if (path[i + 1]) *about++ = path[i], *about++ = path[i + 1];
    *about = NULL;
}

llmdiff_status llmdiff_train(const llmdiff_pack *pack, const llmdiff_train_options *options,
                             llmdiff_error *error) {
    Error err = {0};
    llmdiff_train_options o;
    Drawing drawing = {.pack = pack, .options = &o};
    TrainJob job = {.options = &o, .draw = draw, .draw_self = &drawing};
    const bool well =
        opened_for(pack, LLMDIFF_USE_TRAIN, &err) &&
        take_train_options(&o, options, &pack->pack, &err) &&
        check_validation(&o, &pack->pack, &err) == 0 &&
        take_settings(&job.settings, (const char *const *)pack->set, pack->sets, &err);
    if (well) check_pack(&pack->pack, &err);
    if (another_failed(options, &err)) return cancelled(error, &err);
    if (!well) return misuse(error, &err);
    if (err.set) return finished(error, &err);
    const char *about[12];
    describe(pack, about);
    job.about = about;
    job.pack = &pack->pack;
    job.set = (const char *const *)pack->set;
    job.sets = pack->sets;
    const TrainOutcome outcome = train(&job, &err);
    return outcome == TRAIN_CANCELLED ? cancelled(error, &err) : finished(error, &err);
}
