/* The table of mistakes, and the simple ones. See mistakes.h. */
#include "ref/yardstick/mistakes.h"

#include <math.h>
#include <string.h>

/* ---- weights --------------------------------------------------------------------------------------- */

/* w's numbers in memory, to be changed; `data` NULL: out of memory. */
static Weight own_weight(Context *ctx, const Weight *w, real **numbers) {
    int64_t n = 1;
    for (int i = 0; i < w->ndim; i++) n *= w->dim[i];
    *numbers = scratch_reals(ctx, (size_t)n);
    if (*numbers) weight_read(w, 0, n, *numbers);
    Weight own = *w;
    own.data = *numbers;
    own.dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
    return own;
}

static bool linear_no_bias(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    if (!c->b) return false;
    *y = linear(ctx, c->x, c->w, NULL);
    return true;
}

static bool linear_transposed(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    const int64_t n = c->w->dim[0];
    real *from, *to;
    if (n != c->w->dim[1] || n < 2) return false;
    own_weight(ctx, c->w, &from);
    Weight w = own_weight(ctx, c->w, &to);
    for (int64_t i = 0; from && to && i < n * n; i++) to[i] = from[i % n * n + i / n];
    *y = linear(ctx, c->x, &w, c->b);
    return true;
}

/* ---- the time embedding, which is made before its first layer is asked ------------------------------- */

static bool is_time(const OperatorCall *c) {
    return c->w->name && strstr(c->w->name, "time_embedding.linear_1.") && tensor_rows(c->x) == 1;
}

static bool time_flipped(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    if (!is_time(c)) return false;
    const int64_t half = tensor_cols(c->x) / 2;
    Tensor x = tensor_copy(ctx, c->x);
    for (int64_t i = 0; x.data && i < 2 * half; i++) x.data[i] = c->x.data[(i + half) % (2 * half)];
    *y = linear(ctx, x, c->w, c->b);
    return true;
}

/* Which t's wave that is, and where its halves are: the cosine of the slowest is near 1. */
typedef struct Wave {
    int64_t half, at_cos, at_sin;
    double shift, t; /* downscale_freq_shift */
} Wave;

static double frequency(int64_t k, int64_t half, double shift) {
    return exp(-log(10000.0) * (double)k / ((double)half - shift));
}

/* Each frequency says more exactly what t is, up to whole turns, which the slower one before it knows.
 * False: no t makes that wave. */
static bool find_t(Wave *w, const real *x) {
    const double turn = 2 * acos(-1.0);
    w->t = 0;
    for (int64_t k = w->half - 1; k >= 0; k--) {
        const double freq = frequency(k, w->half, w->shift);
        const double angle = atan2((double)x[w->at_sin + k], (double)x[w->at_cos + k]);
        w->t = (angle + turn * nearbyint((w->t * freq - angle) / turn)) / freq;
    }
    if (fabs(w->t - nearbyint(w->t)) <= 1e-5) w->t = nearbyint(w->t);
    for (int64_t k = 0; k < w->half; k++)
        if (!(fabs((double)x[w->at_sin + k] - sin(w->t * frequency(k, w->half, w->shift))) <= 1e-5))
            return false;
    return true;
}

static bool read_wave(const OperatorCall *c, Wave *w) {
    const int64_t half = tensor_cols(c->x) / 2;
    if (!is_time(c) || half < 4) return false; /* slow enough for t of 1000 */
    const bool cosine_first = (double)c->x.data[half - 1] > (double)c->x.data[2 * half - 1];
    *w = (Wave){half, cosine_first ? 0 : half, cosine_first ? half : 0, 0, 0};
    if (find_t(w, c->x.data)) return true;
    w->shift = 1;
    return find_t(w, c->x.data);
}

/* The layer's result if angle[k] were in place of t frequency(k). */
static bool time_of_angles(Context *ctx, const OperatorCall *c, const Wave *w,
                           double (*angle)(const Wave *w, int64_t k, double value), double value,
                           Tensor *y) {
    Tensor x = tensor_copy(ctx, c->x);
    for (int64_t k = 0; x.data && k < w->half; k++) {
        x.data[w->at_cos + k] = (real)cos(angle(w, k, value));
        x.data[w->at_sin + k] = (real)sin(angle(w, k, value));
    }
    *y = linear(ctx, x, c->w, c->b);
    return true;
}

static double angle_off(const Wave *w, int64_t k, double by) {
    return (w->t + by) * frequency(k, w->half, w->shift);
}

static bool time_off(Context *ctx, const OperatorCall *c, double by, Tensor *y) {
    Wave w;
    return read_wave(c, &w) && time_of_angles(ctx, c, &w, angle_off, by, y);
}

static double angle_shifted(const Wave *w, int64_t k, double shift) {
    return w->t * frequency(k, w->half, shift);
}

static bool time_shift(Context *ctx, const OperatorCall *c, double shift, Tensor *y) {
    Wave w;
    return read_wave(c, &w) && shift != w.shift &&
           time_of_angles(ctx, c, &w, angle_shifted, shift, y);
}

/* As get_timestep_embedding of diffusers does without being asked for more. */
static double angle_in_float(const Wave *w, int64_t k, double value) {
    (void)value;
    const float exponent = -logf(10000.0F) * (float)k / ((float)w->half - (float)w->shift);
    const float freq = expf(exponent);
    const float angle = (float)w->t * freq;
    return (double)angle;
}

static bool time_in_float(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    Wave w;
    return read_wave(c, &w) && time_of_angles(ctx, c, &w, angle_in_float, value, y);
}

/* ---- convolutions ---------------------------------------------------------------------------------- */

static bool conv_no_bias(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    if (!c->b) return false;
    *y = conv2d(ctx, c->x, c->w, NULL, c->conv);
    return true;
}

/* Kernels turned by 180 degrees (a convolution for what is a correlation), or height for width. */
static bool conv_kernel(Context *ctx, const OperatorCall *c, double turned, Tensor *y) {
    const int64_t kh = c->w->dim[2], kw = c->w->dim[3];
    real *from, *to;
    if (kh * kw < 2 || (turned == 0 && kh != kw)) return false;
    own_weight(ctx, c->w, &from);
    Weight w = own_weight(ctx, c->w, &to);
    const int64_t n = from && to ? c->w->dim[0] * c->w->dim[1] * kh * kw : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = i % (kh * kw), other = turned != 0 ? kh * kw - 1 - k : k % kh * kw + k / kh;
        to[i] = from[i - k + other];
    }
    *y = conv2d(ctx, c->x, &w, c->b, c->conv);
    return true;
}

static int64_t out_size(int64_t n, int64_t padding, int64_t kernel, int64_t stride) {
    return n + padding < kernel ? 0 : (n + padding - kernel) / stride + 1;
}

/* Zeros at the other sides; value 0: bottom and right alone, 1: top and left alone, 2: all around. */
static bool conv_padding(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    static const Conv2d sides[] = {{0, 0, 0, 1, 1}, {0, 1, 1, 0, 0}, {0, 1, 1, 1, 1}};
    Conv2d o = sides[(int)value];
    const Conv2d was = c->conv;
    const int64_t kh = c->w->dim[2], kw = c->w->dim[3];
    o.stride = was.stride;
    if (kh < 2 || memcmp(&o, &was, sizeof o) == 0 ||
        out_size(c->x.dim[1], o.top + o.bottom, kh, o.stride) !=
            out_size(c->x.dim[1], was.top + was.bottom, kh, o.stride) ||
        out_size(c->x.dim[2], o.left + o.right, kw, o.stride) !=
            out_size(c->x.dim[2], was.left + was.right, kw, o.stride))
        return false;
    *y = conv2d(ctx, c->x, c->w, c->b, o);
    return true;
}

/* Where a padded index lies in the picture: 0 the border repeated, 1 around the edge, 2 mirrored. */
static int64_t inside(int64_t i, int64_t n, int mode) {
    if (mode == 1) return ((i % n) + n) % n;
    if (mode == 2 && i < 0) return -i;
    if (mode == 2 && i >= n) return 2 * n - 2 - i;
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

static bool conv_not_zero(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    const Conv2d o = c->conv;
    const int64_t B = c->x.dim[0], H = c->x.dim[1], W = c->x.dim[2], C = c->x.dim[3];
    const int64_t h = H + o.top + o.bottom, w = W + o.left + o.right;
    if (h * w == H * W || H < 3 || W < 3 || o.top > 2 || o.left > 2 || o.bottom > 2 || o.right > 2)
        return false;
    Tensor x = TENSOR_NEW(ctx, B, h, w, C);
    for (int64_t i = 0; x.data && i < B * h * w; i++) {
        int64_t from_row = inside(i / w % h - o.top, H, (int)value);
        int64_t from_column = inside(i % w - o.left, W, (int)value);
        memcpy(x.data + i * C, c->x.data + ((i / (w * h) * H + from_row) * W + from_column) * C,
               (size_t)C * sizeof(real));
    }
    *y = conv2d(ctx, x, c->w, c->b, (Conv2d){.stride = o.stride});
    return true;
}

/* ---- activations ------------------------------------------------------------------------------------- */

typedef enum Activation { ACT_NONE, ACT_SILU, ACT_GELU, ACT_TANH, ACT_QUICK, ACT_RELU } Activation;

static Tensor act(Context *ctx, Tensor x, Activation which) {
    switch (which) {
    case ACT_NONE: return tensor_copy(ctx, x);
    case ACT_SILU: return silu(ctx, x);
    case ACT_GELU: return gelu(ctx, x);
    case ACT_TANH: return gelu_new(ctx, x);
    case ACT_QUICK: return quick_gelu(ctx, x);
    case ACT_RELU: break;
    }
    Tensor y = tensor_copy(ctx, x);
    for (int64_t i = 0; y.data && i < tensor_numel(y); i++)
        if (y.data[i] < 0) y.data[i] = 0;
    return y;
}

static bool other_activation(Context *ctx, const OperatorCall *c, double which, Tensor *y) {
    *y = act(ctx, c->x, (Activation)which);
    return true;
}

/* The halves of x [..., 2C]. */
static Tensor half_of(Context *ctx, Tensor x, int64_t which) {
    const int64_t C = tensor_cols(x) / 2, M = tensor_rows(x);
    x.dim[x.ndim - 1] = C;
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    for (int64_t m = 0; y.data && m < M; m++)
        memcpy(y.data + m * C, x.data + (2 * m + which) * C, (size_t)C * sizeof(real));
    return y;
}

static bool other_gate(Context *ctx, const OperatorCall *c, double which, Tensor *y) {
    *y = mul(ctx, half_of(ctx, c->x, 0), act(ctx, half_of(ctx, c->x, 1), (Activation)which));
    return true;
}

static bool gate_first(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = mul(ctx, half_of(ctx, c->x, 1), gelu(ctx, half_of(ctx, c->x, 0)));
    return true;
}

/* ---- rotary embedding ---------------------------------------------------------------------------------- */

static bool rope_left_out(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = tensor_copy(ctx, c->x);
    return true;
}

static bool rope_position(Context *ctx, const OperatorCall *c, double by, Tensor *y) {
    *y = rope(ctx, c->x, c->heads, c->rotary, c->theta, c->factor, c->position + (int64_t)by);
    return true;
}

static bool rope_theta(Context *ctx, const OperatorCall *c, double theta, Tensor *y) {
    if (theta == c->theta || c->rotary < 4) return false;
    *y = rope(ctx, c->x, c->heads, c->rotary, theta, c->factor, c->position);
    return true;
}

static bool rope_factor(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    if (c->factor == 1) return false;
    *y = rope(ctx, c->x, c->heads, c->rotary, c->theta, 1, c->position);
    return true;
}

static bool rope_backwards(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = rope(ctx, c->x, c->heads, c->rotary, c->theta, -c->factor, c->position);
    return true;
}

static bool rope_whole_head(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    const int64_t d = c->x.dim[1] / c->heads;
    if (c->rotary == d || d % 2) return false;
    *y = rope(ctx, c->x, c->heads, d, c->theta, c->factor, c->position);
    return true;
}

/* ---- sums ------------------------------------------------------------------------------------------------ */

static bool only_first(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = tensor_copy(ctx, c->x);
    return true;
}

static bool only_second(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = tensor_copy(ctx, c->z);
    return true;
}

static bool minus(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = sub(ctx, c->x, c->z);
    return true;
}

static bool plus(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = add(ctx, c->x, c->z);
    return true;
}

static bool weights_swapped(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    if (c->s == c->t) return false;
    *y = axpby(ctx, c->t, c->x, c->s, c->z);
    return true;
}

/* s^value: 0 left out, -1 divided in place of multiplied, 2 twice. */
static bool power_of_scale(Context *ctx, const OperatorCall *c, double power, Tensor *y) {
    if (c->s == 1 || c->s == 0) return false;
    *y = scale(ctx, c->x, pow(c->s, power));
    return true;
}

static bool joined_other_way(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    *y = concat(ctx, c->z, c->x);
    return true;
}

/* ---- resampling -------------------------------------------------------------------------------------------- */

/* Bilinear, half-pixel centres, in place of nearest. */
static bool bilinear(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    const int64_t B = c->x.dim[0], H = c->x.dim[1], W = c->x.dim[2], C = c->x.dim[3];
    const int64_t h = c->height, w = c->width;
    *y = TENSOR_NEW(ctx, B, h, w, C);
    for (int64_t i = 0; y->data && i < B * h * w; i++) {
        const double r = fmax(((double)(i / w % h) + 0.5) * (double)H / (double)h - 0.5, 0);
        const double s = fmax(((double)(i % w) + 0.5) * (double)W / (double)w - 0.5, 0);
        const int64_t r0 = (int64_t)r, s0 = (int64_t)s;
        const int64_t r1 = r0 + 1 < H ? r0 + 1 : H - 1, s1 = s0 + 1 < W ? s0 + 1 : W - 1;
        const double fr = r - (double)r0, fs = s - (double)s0;
        const real *from = c->x.data + i / (w * h) * H * W * C;
        for (int64_t k = 0; k < C; k++) {
            double top = (1 - fs) * (double)from[(r0 * W + s0) * C + k] +
                         fs * (double)from[(r0 * W + s1) * C + k];
            double bottom = (1 - fs) * (double)from[(r1 * W + s0) * C + k] +
                            fs * (double)from[(r1 * W + s1) * C + k];
            y->data[i * C + k] = (real)((1 - fr) * top + fr * bottom);
        }
    }
    return true;
}

/* ---- the table ----------------------------------------------------------------------------------------------- */

#define EPS(op, value)                                                                             \
    { op, "with %g for the norm's eps", mistaken_eps, value }
#define NORM(op, what, which)                                                                      \
    { op, what, mistaken_norm, which }
#define ACT(op, what, which)                                                                       \
    { op, what, other_activation, which }
#define ATTENTION(what, which)                                                                     \
    { OP_ATTENTION, what, mistaken_attention, which }
#define NORMS(op)                                                                                  \
    EPS(op, 1e-5), EPS(op, 1e-6), EPS(op, 1e-12), EPS(op, 1e-8), EPS(op, 1e-3), EPS(op, 1e-2),     \
        EPS(op, 0), NORM(op, "without the norm's weight", NORM_NO_WEIGHT),                         \
        NORM(op, "with the variance divided by n - 1", NORM_UNBIASED),                             \
        NORM(op, "with eps added to the standard deviation, outside the root", NORM_EPS_OUTSIDE),  \
    {                                                                                              \
        op, "without the norm", only_first, 0                                                      \
    }

static const Mistake table[] = {
    {OP_LINEAR, "without the bias", linear_no_bias, 0},
    {OP_LINEAR, "with the weight transposed", linear_transposed, 0},
    {OP_LINEAR, "with sine and cosine of the time swapped (flip_sin_to_cos)", time_flipped, 0},
    {OP_LINEAR, "at t %+g", time_off, 1},
    {OP_LINEAR, "at t %+g", time_off, -1},
    {OP_LINEAR, "with a downscale_freq_shift of %g in the sinusoid of t", time_shift, 1},
    {OP_LINEAR, "with a downscale_freq_shift of %g in the sinusoid of t", time_shift, 0},
    {OP_LINEAR,
     "with the sinusoid's angle computed in float32, as plain diffusers does; compute it in "
     "float64 "
     "(golden/README.md):",
     time_in_float, 0},
    {OP_CONV2D, "without the bias", conv_no_bias, 0},
    {OP_CONV2D, "with zeros all around", conv_padding, 2},
    {OP_CONV2D, "with zeros at the bottom and the right alone", conv_padding, 0},
    {OP_CONV2D, "with zeros at the top and the left alone", conv_padding, 1},
    {OP_CONV2D, "with the kernels turned: a convolution for what is a correlation", conv_kernel, 1},
    {OP_CONV2D, "with the kernels' height and width swapped", conv_kernel, 0},
    {OP_CONV2D, "with the border repeated in place of zeros", conv_not_zero, 0},
    {OP_CONV2D, "padded around the edge in place of with zeros", conv_not_zero, 1},
    {OP_CONV2D, "padded with the mirrored border in place of with zeros", conv_not_zero, 2},
    NORM(OP_LAYER_NORM, "without the norm's bias", NORM_NO_BIAS),
    NORM(OP_LAYER_NORM, "without subtracting the mean: an RMSNorm", NORM_NOT_CENTRED),
    NORMS(OP_LAYER_NORM),
    NORM(OP_RMS_NORM, "with the mean subtracted: a LayerNorm", NORM_CENTRED),
    NORM(OP_RMS_NORM, "with 1 added to the norm's weight", NORM_WEIGHT_PLUS_ONE),
    NORMS(OP_RMS_NORM),
    NORM(OP_GROUP_NORM, "without the norm's bias", NORM_NO_BIAS),
    NORM(OP_GROUP_NORM, "without subtracting the mean", NORM_NOT_CENTRED),
    NORMS(OP_GROUP_NORM),
    NORM(OP_GROUP_NORM, "with half as many groups", NORM_GROUPS_HALF),
    NORM(OP_GROUP_NORM, "with twice as many groups", NORM_GROUPS_TWICE),
    NORM(OP_GROUP_NORM, "with 32 groups", NORM_GROUPS_32),
    NORM(OP_GROUP_NORM, "with one group: a layer norm of the whole map", NORM_GROUPS_ONE),
    NORM(OP_GROUP_NORM, "with a group for each channel: an instance norm", NORM_GROUPS_ALL),
    NORM(OP_GROUP_NORM, "with groups of every n-th channel in place of neighbours",
         NORM_INTERLEAVED),
    ACT(OP_SILU, "without the SiLU", ACT_NONE),
    ACT(OP_SILU, "with erf GELU for SiLU", ACT_GELU),
    ACT(OP_SILU, "with quick GELU for SiLU", ACT_QUICK),
    ACT(OP_SILU, "with ReLU for SiLU", ACT_RELU),
    ACT(OP_GELU, "with tanh GELU for erf GELU", ACT_TANH),
    ACT(OP_GELU, "with quick GELU for erf GELU", ACT_QUICK),
    ACT(OP_GELU, "with SiLU for GELU", ACT_SILU),
    ACT(OP_GELU, "with ReLU for GELU", ACT_RELU),
    ACT(OP_GELU, "without the GELU", ACT_NONE),
    ACT(OP_GELU_NEW, "with erf GELU for tanh GELU", ACT_GELU),
    ACT(OP_GELU_NEW, "with quick GELU for tanh GELU", ACT_QUICK),
    ACT(OP_GELU_NEW, "with SiLU for GELU", ACT_SILU),
    ACT(OP_GELU_NEW, "with ReLU for GELU", ACT_RELU),
    ACT(OP_GELU_NEW, "without the GELU", ACT_NONE),
    ACT(OP_QUICK_GELU, "with erf GELU for quick GELU", ACT_GELU),
    ACT(OP_QUICK_GELU, "with tanh GELU for quick GELU", ACT_TANH),
    ACT(OP_QUICK_GELU, "with SiLU for quick GELU", ACT_SILU),
    ACT(OP_QUICK_GELU, "without the quick GELU", ACT_NONE),
    {OP_GEGLU, "with tanh GELU for erf GELU in the GEGLU", other_gate, ACT_TANH},
    {OP_GEGLU, "with gate and value of the GEGLU swapped", gate_first, 0},
    {OP_GEGLU, "with quick GELU for erf GELU in the GEGLU", other_gate, ACT_QUICK},
    {OP_GEGLU, "with SiLU in the GEGLU: a SwiGLU", other_gate, ACT_SILU},
    {OP_GEGLU, "with ReLU for GELU in the GEGLU", other_gate, ACT_RELU},
    {OP_GEGLU, "without the GELU in the GEGLU", other_gate, ACT_NONE},
    ATTENTION("without the scores' 1 / sqrt(d)", ATTENTION_UNSCALED),
    ATTENTION("with the scores' 1 / sqrt(d) twice: 1 / d", ATTENTION_SCALED_TWICE),
    ATTENTION("with the root of the whole width for that of a head in the scores",
              ATTENTION_WIDTH_SCALED),
    ATTENTION(
        "with the scores' 1 / sqrt(d) twice, or the root of the whole width for that of a head "
        "(the same with d heads)",
        ATTENTION_TWICE_OR_WIDTH),
    ATTENTION("without the causal mask", ATTENTION_SEES_ALL),
    ATTENTION("with a causal mask, where there is none", ATTENTION_CAUSAL),
    ATTENTION("with a causal mask that shows the next token", ATTENTION_SEES_NEXT),
    ATTENTION("with a causal mask that hides the token itself", ATTENTION_NOT_ITSELF),
    ATTENTION("with a sliding window that is one shorter", ATTENTION_WINDOW_LESS),
    ATTENTION("with a sliding window that is one longer", ATTENTION_WINDOW_MORE),
    ATTENTION("without the sliding window", ATTENTION_NO_WINDOW),
    ATTENTION("with key heads repeated as a whole (0, 1, 0, 1) in place of each (0, 0, 1, 1)",
              ATTENTION_TILED_HEADS),
    ATTENTION("with a single head", ATTENTION_ONE_HEAD),
    ATTENTION("with half as many heads", ATTENTION_HALF_HEADS),
    ATTENTION("with twice as many heads", ATTENTION_TWICE_HEADS),
    ATTENTION("with zero for the own token's attention: its value row belongs there",
              ATTENTION_ZERO),
    ATTENTION("with the value row of the token before for the own token's", ATTENTION_VALUE_BEFORE),
    {OP_ROPE, "with interleaved pairs in the rotary embedding", mistaken_interleaved_rope, 0},
    {OP_ROPE, "with positions %+g in the rotary embedding", rope_position, 1},
    {OP_ROPE, "with positions %+g in the rotary embedding", rope_position, -1},
    {OP_ROPE, "with a rotary theta of %g", rope_theta, 10000},
    {OP_ROPE, "with a rotary theta of %g", rope_theta, 500000},
    {OP_ROPE, "with a rotary theta of %g", rope_theta, 1000000},
    {OP_ROPE, "without the rotary embedding's linear scaling", rope_factor, 0},
    {OP_ROPE, "with the rotary embedding turning backwards", rope_backwards, 0},
    {OP_ROPE, "with the rotary embedding over the whole head", rope_whole_head, 0},
    {OP_ROPE, "with the head's width for the rotary part's in the rotary frequencies",
     mistaken_rope_exponent, 0},
    {OP_ROPE, "without the rotary embedding", rope_left_out, 0},
    {OP_RESIZE_NEAREST, "with bilinear for nearest neighbour", bilinear, 0},
    {OP_ADD, "with a sum's first term alone", only_first, 0},
    {OP_ADD, "with a sum's second term alone: the residual is left out", only_second, 0},
    {OP_ADD, "with minus for plus", minus, 0},
    {OP_SUB, "with plus for minus", plus, 0},
    {OP_SUB, "without what is subtracted", only_first, 0},
    {OP_MUL, "with a product's first factor alone", only_first, 0},
    {OP_MUL, "with a product's second factor alone", only_second, 0},
    {OP_SCALE, "without a final scale", power_of_scale, 0},
    {OP_SCALE, "divided by a scale in place of multiplied", power_of_scale, -1},
    {OP_SCALE, "with a scale applied twice", power_of_scale, 2},
    {OP_AXPBY, "with the two weights of a sum swapped", weights_swapped, 0},
    {OP_AXPBY, "with the two terms added as they are", plus, 0},
    {OP_ADD_CHANNELS, "without the time embedding's term", only_first, 0},
    {OP_CONCAT, "with the two parts joined the other way round", joined_other_way, 0},
};

size_t mistakes_count(void) { return sizeof table / sizeof *table; }
const Mistake *mistakes_at(size_t i) { return &table[i]; }

double mistake_share(const Mistake *m) { return m->make == time_in_float ? 0.2 : 0; }
