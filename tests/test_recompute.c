/* Hints by recomputing: each known mistake, made in a case of the kit, is named; what is no known
 * mistake is not. */
#include "tests/scratch.h"

#include "ref/yardstick/mistakes.h"
#include "ref/yardstick/recompute.h"
#include "ref/yardstick/run.h"

#include <math.h>

static Kit *kit;

static int open_kit(void **state) {
    (void)state;
    Error err = {0};
    kit = kit_open("golden/kit", &err);
    if (!kit) print_error("%s\n", err.message);
    return kit ? 0 : -1;
}

static int close_kit(void **state) {
    (void)state;
    kit_close(kit);
    return 0;
}

/* ---- a port with a mistake ------------------------------------------------------------------------- */

typedef struct Port {
    const Mistake *mistake;
    const char *weight; /* its name begins so; NULL: any call */
    int hits;
} Port;

static bool stands_in(void *self, Context *ctx, const OperatorCall *c, Tensor *y) {
    Port *p = self;
    if (c->op != p->mistake->op) return false;
    if (p->weight && !(c->w && c->w->name && strstr(c->w->name, p->weight))) return false;
    if (!p->mistake->make(ctx, c, p->mistake->value, y)) return false;
    p->hits++;
    return true;
}

/* The first output that the mistake takes out of tolerance, and the numbers. */
typedef struct Divergence {
    const KitGroup *group;
    const KitCase *c;
    const KitOutput *output;
    KitMode mode;
    Row row;
    double *ref, *mine; /* NULL: no divergence */
} Divergence;

static void measure_one(Divergence *d, const Outputs *out, const KitOutput *o) {
    Error err = {0};
    TensorFile *mine = tensor_file_of("port", out->tensor, out->count, &err);
    size_t at = mine ? tensor_file_find(mine, o->stored) : 0;
    if (!err.set && at < tensor_file_count(mine)) {
        Tolerance t;
        d->row = (Row){.name = o->stored, .ref = *tensor_file_at(d->group->expected, o->expected)};
        d->row.mine = *tensor_file_at(mine, at);
        d->ref = tensor_file_load(d->group->expected, o->expected, &err);
        d->mine = tensor_file_load(mine, at, &err);
        kit_tolerance(o, d->group->kind, d->mode, d->row.mine.dtype,
                      largest_of(d->ref, d->row.ref.count), &t, &err);
        measure(&d->row, d->ref, d->mine, d->row.ref.count, d->row.mine.dtype, &t);
        d->row.ref.name = d->row.mine.name = o->stored;
        d->output = o;
    }
    tensor_file_close(mine);
    if (err.set) fail_msg("%s", err.message);
    if (d->mine && d->row.verdict == ROW_MISMATCH && d->row.max_abs > 3 * d->row.allowed) return;
    free(d->ref);
    free(d->mine);
    d->ref = d->mine = NULL;
}

static Divergence diverge(KitRun *run, const KitGroup *g, const KitCase *c, Port *port) {
    const StandIn stand_in = {stands_in, port};
    Divergence d = {.group = g, .c = c, .mode = KIT_FORCED};
    Outputs out = {0};
    Error err = {0};
    run->stand_in = &stand_in;
    kit_run_case(run, g, c, KIT_FORCED, &out, &err); /* a mistake may lead to NaN, which stops it */
    for (size_t o = 0; o < c->outputs && !d.mine && port->hits; o++)
        measure_one(&d, &out, &c->output[o]);
    outputs_free(&out);
    return d;
}

static Report *ask(const Divergence *d) {
    Error err = {0};
    Report *r = calloc(1, sizeof *r);
    assert_non_null(r);
    const RecomputeQuestion q = {kit,    d->group, d->c, d->mode, d->output, &d->row,
                                 d->ref, d->mine,  NULL, 1,       NULL};
    if (hints_by_recomputing(r, &q, &err)) fail_msg("%s", err.message);
    if (getenv("LLMDIFF_SHOW_HINTS"))
        for (size_t i = 0; i < r->hints; i++)
            print_message("    %s: %s\n", d->output->stored, r->hint[i]);
    return r;
}

static bool hints_at(const Divergence *d, const char *text) {
    Report *r = ask(d);
    bool found = false;
    for (size_t i = 0; i < r->hints; i++) found = found || strstr(r->hint[i], text);
    report_free(r);
    return found;
}

static void end(Divergence *d) {
    free(d->ref);
    free(d->mine);
}

static const KitGroup *group_of(KitKind kind) {
    for (size_t g = 0; g < kit->groups; g++)
        if (kit->group[g].kind == kind) return &kit->group[g];
    fail_msg("the kit has no group of kind %d", kind);
    return NULL;
}

static void say(const Mistake *m, char *text, size_t size) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, size, m->what, m->value);
#pragma GCC diagnostic pop
}

/* ---- the tests ---------------------------------------------------------------------------------------- */

/* Of each mistake that shows in a case of the kit's operators or modules, the first few cases. */
static void every_mistake_is_named(void **state) {
    (void)state;
    Error err = {0};
    KitRun *run = kit_run_new(kit, 1, &err);
    int wrong = 0, never = 0;
    for (size_t m = 0; m < mistakes_count(); m++) {
        int shown = 0, named = 0;
        char text[200];
        say(mistakes_at(m), text, sizeof text);
        for (int k = 0; k < 2 && shown < 3; k++) {
            const KitGroup *g = group_of(k ? KIT_MODULES : KIT_OPERATORS);
            for (size_t c = 0; c < g->count && shown < 3; c++) {
                Port port = {.mistake = mistakes_at(m)};
                Divergence d = diverge(run, g, &g->cases[c], &port);
                if (d.mine) {
                    shown++;
                    /* eps of 0 and of 1e-12 can't be told apart. */
                    const bool no_eps =
                        mistakes_at(m)->make == mistaken_eps && mistakes_at(m)->value == 0;
                    bool found = hints_at(&d, text) ||
                                 (no_eps && hints_at(&d, "with 1e-12 for the norm's eps"));
                    named += found;
                    if (!found && getenv("LLMDIFF_SHOW_HINTS"))
                        print_message("NOT NAMED %s: %s\n", d.output->stored, text);
                }
                end(&d);
            }
        }
        if (shown && !named) {
            print_error("%s: made %d times, never named\n", text, shown);
            wrong++;
        }
        if (!shown) {
            print_message("no case shows it: %s\n", text);
            never++;
        }
    }
    kit_run_free(run);
    assert_int_equal(wrong, 0);
    assert_true(never <= 12);
}

/* In a walk, one layer's mistake: where, by the weight's name, and in which output it shows first. */
static void a_walk_names_the_layer(void **state) {
    (void)state;
    static const struct {
        const char *what, *weight, *output, *hint;
    } cases[] = {
        {"without the bias", "layers.1.self_attn.dense", "llm/s_sentence.2",
         "without the bias in model.layers.1.self_attn.dense"},
        {"without the bias", "down_blocks.1.resnets.0.conv1", "cond/down_blocks.1.resnets.0",
         "without the bias in down_blocks.1.resnets.0.conv1"},
        {"without the bias", "time_emb_proj", "cond/down_blocks.0.resnets.0",
         "without the bias in down_blocks.0.resnets.0.time_emb_proj"},
        {"with 0.001 for the norm's eps", "mid_block.resnets.1.norm2", "cond/mid_block.resnets.1",
         "with 0.001 for the norm's eps in mid_block.resnets.1.norm2"},
        {"with tanh GELU for erf GELU in the GEGLU", NULL, "cond/down_blocks.0.attentions.0",
         "with tanh GELU for erf GELU in the GEGLU"},
        {"with interleaved pairs in the rotary embedding", NULL, "llm/s_sentence.3",
         "with interleaved pairs in the rotary embedding"},
        {"with the head's width for the rotary part's in the rotary frequencies", NULL,
         "llm/s_sentence.3",
         "with the head's width for the rotary part's in the rotary frequencies"},
        {"without the scores' 1 / sqrt(d)", NULL, "llm/s_sentence.3",
         "without the scores' 1 / sqrt(d)"},
        {"with sine and cosine of the time swapped (flip_sin_to_cos)", NULL,
         "unet/0/time_embedding", "with sine and cosine of the time swapped"},
        {"at t -1", NULL, "unet/0/time_embedding", "at t -1"},
        {"with a downscale_freq_shift of 1 in the sinusoid of t", NULL, "unet/0/time_embedding",
         "with a downscale_freq_shift of 1 in the sinusoid of t in time_embedding.linear_1"},
        {"with the two weights of a sum swapped", NULL, "attn2/f",
         "with the two weights of a sum swapped"},
        {"without a final scale", NULL, "vae/decoder/conv_in", "without a final scale"},
        {"without the bias", "tau_out", "attn2/added", "without the bias in"},
    };
    Error err = {0};
    KitRun *run = kit_run_new(kit, 1, &err);
    int wrong = 0;
    const KitGroup *g = group_of(KIT_PICTURE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Port port = {.weight = cases[i].weight};
        for (size_t m = 0; m < mistakes_count(); m++) {
            char text[200];
            say(mistakes_at(m), text, sizeof text);
            if (strcmp(text, cases[i].what) != 0) continue;
            port.mistake = mistakes_at(m);
            Divergence d = diverge(run, g, &g->cases[0], &port);
            if (!d.mine) continue; /* another operator's of the same name */
            if (!strstr(d.output->stored, cases[i].output) || !hints_at(&d, cases[i].hint)) {
                print_error("%s: first seen in %s, not named there\n", cases[i].hint,
                            d.output->stored);
                wrong++;
            }
            end(&d);
            port.hits = -1;
            break;
        }
        if (port.hits >= 0) print_error("%s: never seen\n", cases[i].hint), wrong++;
    }
    kit_run_free(run);
    assert_int_equal(wrong, 0);
}

/* The angle in float32, but for `left` of the difference that makes: another library's exp. */
static bool angle_in_float(Context *ctx, const OperatorCall *c, double left, Tensor *y) {
    for (size_t m = 0; m < mistakes_count(); m++) {
        const Mistake *known = mistakes_at(m);
        if (!strstr(known->what, "angle computed in float32")) continue;
        if (!known->make(ctx, c, known->value, y)) return false;
        Tensor right = linear(ctx, c->x, c->w, c->b);
        for (int64_t i = 0; right.data && i < tensor_numel(*y); i++)
            y->data[i] += (real)(i % 2 ? left : -left) * (y->data[i] - right.data[i]);
        return true;
    }
    return false;
}

/* In a module and in walks; the more of the divergence it leaves, the less it is the cause. */
static void an_angle_in_float32_is_named(void **state) {
    (void)state;
    Error err = {0};
    KitRun *run = kit_run_new(kit, 1, &err);
    static const KitKind kinds[] = {KIT_MODULES, KIT_UNET, KIT_PICTURE};
    static const double left[] = {0, 0.12, 0.9};
    int seen[3] = {0};
    for (int k = 0; k < 3; k++)
        for (int l = 0; l < 3; l++) {
            const KitGroup *g = group_of(kinds[k]);
            const Mistake mistake = {OP_LINEAR, "", angle_in_float, left[l]};
            for (size_t c = 0; c < g->count; c++) {
                Port port = {.mistake = &mistake};
                Divergence d = diverge(run, g, &g->cases[c], &port);
                if (d.mine) {
                    assert_non_null(strstr(d.output->stored, "time_embedding"));
                    bool named = hints_at(&d, "angle computed in float32, as plain diffusers does");
                    if (named != (left[l] < 0.5))
                        fail_msg("%s, %g left: %d", d.output->stored, left[l], named);
                    seen[k]++;
                }
                end(&d);
            }
        }
    kit_run_free(run);
    /* In float our own rounding is nearly as much where t is small. */
    assert_true(seen[0] + seen[1] + seen[2] > 0);
    for (int k = 0; k < 3; k++) assert_true(seen[k] > 0 || sizeof(real) == sizeof(float));
}

/* Of another eps only the closest is said, and of two mistakes that are the same here one line. */
static void hints_do_not_contradict(void **state) {
    (void)state;
    Error err = {0};
    KitRun *run = kit_run_new(kit, 1, &err);
    const KitGroup *g = group_of(KIT_MODULES);
    int seen = 0;
    for (size_t m = 0; m < mistakes_count(); m++) {
        const Mistake *known = mistakes_at(m);
        const bool eps = strstr(known->what, "norm's eps") && known->value < 2e-6;
        if (!eps && !strstr(known->what, "root of the whole width")) continue;
        for (size_t c = 0; c < g->count; c++) {
            Port port = {.mistake = known};
            Divergence d = diverge(run, g, &g->cases[c], &port);
            if (d.mine) {
                Report *r = ask(&d);
                int same = 0;
                for (size_t i = 0; i < r->hints; i++)
                    same += strstr(r->hint[i], eps ? "eps" : "scores'") != NULL;
                if (same > 1) fail_msg("%s: %s; %s", d.output->stored, r->hint[0], r->hint[1]);
                seen += same;
                report_free(r);
            }
            end(&d);
        }
    }
    kit_run_free(run);
    assert_true(seen > 3);
}

/* Noise, a factor, another mistake than those known, are not named; nor is what agrees but for little. */
static void other_differences_are_not(void **state) {
    (void)state;
    static const char *const names[] = {"group_norm/map", "attention/causal",
                                        "unet.mid_block.resnets.0", "linear/tokens"};
    for (int kind = KIT_OPERATORS; kind <= KIT_MODULES; kind++) {
        const KitGroup *g = group_of((KitKind)kind);
        int asked = 0;
        for (size_t c = 0; c < g->count; c++) {
            const KitOutput *o = &g->cases[c].output[0];
            bool listed = false;
            for (size_t n = 0; n < sizeof names / sizeof *names; n++)
                listed = listed || strcmp(names[n], g->cases[c].name) == 0;
            if (!listed && c % 9) continue;
            for (int damage = 0; damage < 4; damage++) {
                Error err = {0};
                Divergence d = {.group = g, .c = &g->cases[c], .mode = KIT_FORCED, .output = o};
                Tolerance t = {.relative = 1e-6};
                d.row = (Row){.name = o->stored, .ref = *tensor_file_at(g->expected, o->expected)};
                d.ref = tensor_file_load(g->expected, o->expected, &err);
                d.mine = tensor_file_load(g->expected, o->expected, &err);
                if (err.set) fail_msg("%s", err.message);
                const double largest = largest_of(d.ref, d.row.ref.count);
                for (int64_t i = 0; i < d.row.ref.count; i++) {
                    double noise = sin(12.9898 * (double)(i + 1)) * 43758.5453;
                    noise -= floor(noise) + 0.5;
                    d.mine[i] = damage == 0   ? 1.07 * d.ref[i]
                                : damage == 1 ? d.ref[i] + noise * largest
                                : damage == 2 ? d.ref[i] + 5e-6 * noise * largest
                                              : d.ref[i] + 0.01 * d.ref[i] * d.ref[i];
                }
                d.row.mine = d.row.ref;
                measure(&d.row, d.ref, d.mine, d.row.ref.count, DTYPE_F64, &t);
                if (d.row.verdict == ROW_MISMATCH) {
                    Report *r = ask(&d);
                    if (r->hints) fail_msg("%s, damage %d: \"%s\"", o->stored, damage, r->hint[0]);
                    report_free(r);
                    asked++;
                }
                end(&d);
            }
        }
        assert_true(asked > 20);
    }
}

/* The plain forms that mistakes are made in give the operator's own result where nothing is changed. */
static void without_a_mistake_they_agree(void **state) {
    (void)state;
    Context ctx = {.threads = 1};
    Rng rng = rng_seed(7);
    Tensor x = TENSOR_NEW(&ctx, 2, 3, 5, 8), rows = TENSOR_NEW(&ctx, 1, 9, 8), y;
    rng_normal(&rng, x.data, tensor_numel(x));
    rng_normal(&rng, rows.data, tensor_numel(rows));
    const int64_t eight = 8;
    Tensor numbers = tensor_new(&ctx, 1, &eight);
    rng_normal(&rng, numbers.data, 8);
    Weight w = {.data = numbers.data,
                .dtype = sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32,
                .ndim = 1,
                .dim = {8}};
    const Operator norms[] = {OP_LAYER_NORM, OP_RMS_NORM, OP_GROUP_NORM};
    for (int i = 0; i < 3; i++) {
        OperatorCall c = {
            .op = norms[i], .x = x, .w = &w, .b = i == 1 ? NULL : &w, .groups = 4, .eps = 1e-5};
        Tensor own = i == 0   ? layer_norm(&ctx, x, &w, &w, 2e-5)
                     : i == 1 ? rms_norm(&ctx, x, &w, 2e-5)
                              : group_norm(&ctx, x, &w, &w, 4, 2e-5);
        assert_true(mistaken_eps(&ctx, &c, 2e-5, &y));
        for (int64_t k = 0; k < tensor_numel(x); k++)
            assert_true(fabs((double)(y.data[k] - own.data[k])) <= 1e-5);
    }
    Tensor k = TENSOR_VIEW(rows, 9, 8);
    OperatorCall a = {.op = OP_ATTENTION,
                      .x = rows,
                      .k = &k,
                      .v = &k,
                      .heads = 2,
                      .kv_heads = 2,
                      .mask = MASK_CAUSAL,
                      .window = 20};
    Tensor own[3] = {attention(&ctx, rows, &k, &k, 2, 2, MASK_CAUSAL),
                     attention(&ctx, rows, &k, &k, 2, 2, MASK_NONE),
                     attention(&ctx, rows, &k, &k, 2, 2, MASK_CAUSAL)};
    for (int i = 0; i < 3; i++) {
        const AttentionMistake which[] = {ATTENTION_NO_WINDOW, ATTENTION_SEES_ALL,
                                          ATTENTION_CAUSAL};
        if (i == 2) a.mask = MASK_NONE, a.window = INT64_MAX;
        assert_true(mistaken_attention(&ctx, &a, which[i], &y));
        for (int64_t j = 0; j < 72; j++)
            assert_true(fabs((double)(y.data[j] - own[i].data[j])) <= 1e-5);
    }
    assert_context_ok(&ctx);
    context_free(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_is_named),
        cmocka_unit_test(a_walk_names_the_layer),
        cmocka_unit_test(an_angle_in_float32_is_named),
        cmocka_unit_test(hints_do_not_contradict),
        cmocka_unit_test(other_differences_are_not),
        cmocka_unit_test(without_a_mistake_they_agree),
    };
    return cmocka_run_group_tests_name("recompute", tests, open_kit, close_kit);
}
