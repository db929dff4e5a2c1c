/* A large picture in overlapping tiles (diffusers AutoencoderKL.tiled_decode and .tiled_encode). Each
 * tile goes through the network on its own, so that its group norms and its attention see nothing else,
 * and is then blended linearly into the tile above it and the tile to its left:
 *
 *     S = sample_size pixels, L = S / factor latents: a tile, before or after the network
 *     tiles begin every 3/4 of a tile; with e = 1/4 of a tile, after the network,
 *     b[y] = a[a.height - e + y] (1 - y/e) + b[y] y/e,   y < e,   and the same along rows
 *     and of each tile the first 3/4 are kept.
 *
 * Blending goes in raster order and in place: the tiles above and to the left have been blended too. */
#include "ref/vae.h"

#include <stdio.h>
#include <string.h>

typedef Tensor Network(Context *ctx, const Vae *vae, Tensor x, const char *prefix);

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows [i, i + h) and columns [j, j + w) of x [1, H, W, C] -> [1, h, w, C] */
static Tensor cut(Context *ctx, Tensor x, int64_t i, int64_t j, int64_t h, int64_t w) {
    const int64_t W = x.dim[2], C = x.dim[3];
    Tensor y = TENSOR_NEW(ctx, 1, h, w, C);
    for (int64_t row = 0; y.data && row < h; row++)
        memcpy(y.data + row * w * C, x.data + ((i + row) * W + j) * C,
               (size_t)(w * C) * sizeof(real));
    return y;
}

/* The first h rows and w columns of tile, to row i and column j of x. */
static void paste(Tensor x, Tensor tile, int64_t i, int64_t j, int64_t h, int64_t w) {
    const int64_t W = x.dim[2], C = x.dim[3];
    for (int64_t row = 0; row < h; row++)
        memcpy(x.data + ((i + row) * W + j) * C, tile.data + row * tile.dim[2] * C,
               (size_t)(w * C) * sizeof(real));
}

/* b <- a's last rows fading out while b's first fade in. `down`: b lies below a, else to its right. */
static void blend(Tensor a, Tensor b, int64_t extent, bool down) {
    const int axis = down ? 1 : 2;
    extent = least(extent, least(a.dim[axis], b.dim[axis]));
    const int64_t rows = down ? extent : b.dim[1], columns = down ? b.dim[2] : extent;
    const int64_t C = b.dim[3], below = down ? a.dim[1] - extent : 0;
    const int64_t right = down ? 0 : a.dim[2] - extent;
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < columns; x++) {
            const double share = (double)(down ? y : x) / (double)extent;
            const real *from = a.data + ((y + below) * a.dim[2] + x + right) * C;
            real *to = b.data + (y * b.dim[2] + x) * C;
            for (int64_t c = 0; c < C; c++)
                to[c] = (real)((double)from[c] * (1 - share) + (double)to[c] * share);
        }
}

/* The network over x [1, H, W, C] in tiles of `in`, each of which becomes a tile of `out`. */
static Tensor in_tiles(Context *ctx, const Vae *vae, Tensor x, int64_t in, int64_t out,
                       Network *network, const char *name) {
    const int64_t H = x.dim[1], W = x.dim[2], step = in * 3 / 4, keep = out * 3 / 4;
    const int64_t across = (W + step - 1) / step;
    ArenaMark mark = scope_begin(ctx);
    Tensor whole = {0}, *tile = arena_alloc(&ctx->arena, (size_t)(2 * across) * sizeof *tile);
    if (!tile) fail(&ctx->error, "out of memory for %lld tiles", (long long)across);
    for (int64_t row = 0; row * step < H; row++) {
        Tensor *now = tile + row % 2 * across, *above = tile + (row + 1) % 2 * across;
        for (int64_t column = 0; column < across && !ctx->error.set; column++) {
            const int64_t i = row * step, j = column * step;
            char prefix[64];
            snprintf(prefix, sizeof prefix, "%stile.%d.%d/", name, (int)row, (int)column);
            Tensor piece = cut(ctx, x, i, j, least(in, H - i), least(in, W - j));
            Tensor t = now[column] = network(ctx, vae, piece, prefix);
            if (row == 0 && column == 0)
                whole = TENSOR_NEW(ctx, 1, H * out / in, W * out / in, t.dim[3]);
            if (ctx->error.set) break;
            if (row > 0) blend(above[column], t, out / 4, true);
            if (column > 0) blend(now[column - 1], t, out / 4, false);
            paste(whole, t, row * keep, column * keep, least(keep, t.dim[1]),
                  least(keep, t.dim[2]));
        }
    }
    return scope_end(ctx, mark, ctx->error.set ? (Tensor){0} : whole);
}

/* Other sizes give a picture of another size upstream: the tiles' edges don't meet. */
static int64_t tile_latents(Context *ctx, const Vae *vae) {
    const int64_t L = vae->sample_size / vae->factor;
    if (L < 4 || L % 4 || L * vae->factor != vae->sample_size)
        fail(&ctx->error,
             "%s: tiles need a sample_size that is a multiple of 4 times the factor %lld, found "
             "%lld",
             model_path(vae->files), (long long)vae->factor, (long long)vae->sample_size);
    return L;
}

Tensor vae_decode_tiled(Context *ctx, const Vae *vae, Tensor latents) {
    if (ctx->error.set) return (Tensor){0};
    const int64_t L = tile_latents(ctx, vae);
    if (ctx->error.set) return (Tensor){0};
    if (latents.dim[1] <= L && latents.dim[2] <= L) return vae_decode(ctx, vae, latents);
    return in_tiles(ctx, vae, latents, L, vae->sample_size, vae_decode_piece, "vae/decoder/");
}

VaePosterior vae_encode_tiled(Context *ctx, const Vae *vae, Tensor image) {
    if (ctx->error.set) return (VaePosterior){0};
    const int64_t S = vae->sample_size, L = tile_latents(ctx, vae);
    if (ctx->error.set) return (VaePosterior){0};
    if (image.dim[1] <= S && image.dim[2] <= S) return vae_encode(ctx, vae, image);
    return vae_posterior(ctx, in_tiles(ctx, vae, image, S, L, vae_moments_piece, "vae/encoder/"));
}
