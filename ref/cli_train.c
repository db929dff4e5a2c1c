/* llmdiff train: from pictures with captions to an adapter. The run itself is ref/train/loop.c; here stands
 * what is asked, and what is shown while it goes on. */
#include "ref/cli.h"

#include <math.h>

#define SHOWN_EVERY 0.1 /* seconds */

typedef struct Training {
    const Options *o;
    const llmdiff_team *team; /* NULL: alone */
    bool visible;             /* progress_wanted */
    double next;              /* when the line is written again */
    llmdiff_train_progress now;
} Training;

static void clear_line(const Training *t) {
    if (t->visible) fputs("\r\033[K", stderr);
}

static int on_progress(void *user, const llmdiff_train_progress *now) {
    Training *t = user;
    t->now = *now;
    if (!t->visible || seconds_now() < t->next) return 0;
    t->next = seconds_now() + SHOWN_EVERY;
    clear_line(t);
    fprintf(stderr, "step %lld/%lld", (long long)now->step, (long long)now->steps);
    if (now->samples > 1)
        fprintf(stderr, " (%lld/%lld)", (long long)now->sample, (long long)now->samples);
    if (!isnan(now->smoothed_loss))
        fprintf(stderr, ", loss %.4f, lr %.3g", now->smoothed_loss, now->learning_rate);
    if (now->samples_per_second > 0) {
        fprintf(stderr, ", %.3g samples/s", now->samples_per_second);
        print_left(now->seconds_left);
    }
    fflush(stderr);
    return 0;
}

static void on_note(void *user, const char *line) {
    const Training *t = user;
    if (t->o->quiet) return;
    clear_line(t);
    fprintf(stderr, "llmdiff: %s\n", line);
}

static void take_options(const Options *o, llmdiff_train_options *t) {
    llmdiff_train_default(t, sizeof *t);
    t->train_data_dir = o->train_data_dir;
    t->output_dir = o->output_dir;
    t->resume_from_checkpoint = o->resume_from;
    t->resolution = o->resolution;
    t->train_batch_size = o->train_batch_size;
    t->gradient_accumulation_steps = o->accumulation;
    t->max_train_steps = o->max_train_steps;
    t->learning_rate = o->learning_rate;
    t->scalar_lr_scale = o->scalar_lr_scale;
    t->added_start = o->added_start;
    t->lr_scheduler = o->lr_scheduler;
    t->lr_warmup_steps = o->lr_warmup_steps;
    t->adam_beta1 = o->adam_beta1;
    t->adam_beta2 = o->adam_beta2;
    t->adam_weight_decay = o->adam_weight_decay;
    t->adam_epsilon = o->adam_epsilon;
    t->max_grad_norm = o->max_grad_norm;
    t->caption_dropout = o->caption_dropout;
    t->snr_gamma = o->snr_gamma;
    t->noise_offset = o->noise_offset;
    t->center_crop = o->center_crop;
    t->random_flip = o->random_flip;
    t->train_only = o->train_only;
    t->ema_decay = o->ema_decay;
    t->seed = (uint64_t)o->seed;
    t->max_bad_samples = o->max_bad_samples;
    t->checkpointing_steps = o->checkpointing_steps;
    t->checkpoints_total_limit = o->checkpoints_limit;
    t->validation_prompt = o->validation_prompt;
    t->validation_steps = o->validation_steps;
    t->cache_dir = o->cache_dir;
    t->cache_limit = o->cache_limit;
    t->gradient_checkpointing = o->gradient_checkpointing;
    t->threads = o->threads ? (int)o->threads : o->team->threads;
    t->trace_file = o->trace;
    t->trace_only = o->trace_only;
}

static int check_names(const Options *o, llmdiff_error *err) {
    if (!o->train_data_dir)
        return cli_fail(err, "no data set: give a directory with --train-data-dir");
    if (!o->output_dir)
        return cli_fail(err, "no output: say with --output-dir where the adapter goes");
    if (cli_check_trace(o, err)) return -1;
    if (o->trace && lies_in(o->trace, o->output_dir))
        return cli_fail(err, "--trace: %s is in --output-dir, whose files are the run's own",
                        o->trace);
    return cli_check_settings(o, err);
}

static int run(Training *t, const llmdiff_pack *pack, llmdiff_error *err) {
    const Options *o = t->o;
    llmdiff_train_options options;
    take_options(o, &options);
    options.user = t;
    options.progress = on_progress;
    options.note = on_note;
    options.cancel = cli_cancelled;
    options.team = t->team;
    if (o->team->rank == 0 && o->team->note[0] && !o->threads) on_note(t, o->team->note);
    const llmdiff_status status = llmdiff_train(pack, &options, err);
    clear_line(t);
    if (status == LLMDIFF_CANCELLED) return EXIT_CANCELLED;
    if (status) return cli_code(err);
    if (o->team->rank > 0) return EXIT_OK;
    printf("%s: %lld steps", o->output_dir, (long long)t->now.step);
    if (!isnan(t->now.smoothed_loss)) printf(", smoothed loss %.4g", t->now.smoothed_loss);
    printf("\n");
    return EXIT_OK;
}

static int prepare(const Options *o, llmdiff_pack **pack, llmdiff_error *err) {
    llmdiff_options options;
    if (check_names(o, err)) return EXIT_USAGE;
    if (cli_pack(o, TRAIN, &options, err)) return o->model ? EXIT_FAILED : EXIT_USAGE;
    if (o->trace && o->team->rank == 0 && llmdiff_check_output(o->trace, err)) return EXIT_FAILED;
    return llmdiff_open(&options, pack, err) ? cli_failed(err) : EXIT_OK;
}

int run_train(const Options *o, llmdiff_error *err) {
    Training t = {.o = o, .visible = progress_wanted(o)};
    llmdiff_pack *pack = NULL;
    int code = prepare(o, &pack, err);
    if (team_for_library(o->team, &t.team, err) == 0)
        code = run(&t, pack, err);
    else if (!code)
        code = EXIT_FAILED;
    llmdiff_close(pack);
    return code;
}
