/* PNG by libpng: see image.h.
 *
 * libpng leaves a failed call by longjmp. What must survive it lives behind a pointer, in a struct
 * of the caller's frame, and no local variable of the function that calls setjmp is changed after
 * it: so nothing has to be volatile. */
#include "ref/image.h"
#include "weights/file.h"

#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

static char *copy_text(const char *text) {
    char *copy = malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

#define MAX_PIXELS (1 << 28) /* of a picture that is read: 768 MB */

typedef struct Job {
    const char *path;
    Error *err;
    png_structp png;
    png_infop info;
    FILE *stream;   /* written to; NULL: to memory */
    uint8_t *bytes; /* memory written to [size], with room for [room] */
    size_t size, room;
    png_textp chunk;    /* the texts written */
    const char *unread; /* [left]: what is left to read */
    size_t left;
    uint8_t *pixels; /* read: [height, width, 3] */
    png_bytep *row;
} Job;

/* libpng and zlib have many ways to say it ("too many text chunks" is one); malloc has this one. errno
 * is 0 before the first of their calls. */
static const char *reason(const char *message) {
    return errno == ENOMEM ? "out of memory" : message;
}

/* Instead of libpng's own, which print. */
static void on_error(png_structp png, png_const_charp message) {
    Job *job = png_get_error_ptr(png);
    fail(job->err, "%s: %s", job->path, reason(message));
    png_longjmp(png, 1);
}

/* A warning while writing means that something was left out (a text, say): that is an error. It only
 * takes effect at the end, as libpng warns from inside zlib, too, which a longjmp would leave with
 * its memory half allocated. */
static void on_write_warning(png_structp png, png_const_charp message) {
    Job *job = png_get_error_ptr(png);
    fail(job->err, "%s: %s", job->path, reason(message));
}

/* A warning while reading means that something optional is damaged: nothing that we need. Or that
 * there was no memory for it, and that is ours. */
static void on_read_warning(png_structp png, png_const_charp message) {
    if (errno == ENOMEM) on_write_warning(png, message);
}

/* ---- writing ------------------------------------------------------------------------------------- */

static void append_bytes(png_structp png, Job *job, png_const_bytep data, size_t size) {
    if (size > job->room - job->size) {
        const size_t room = 2 * (job->size + size);
        uint8_t *more = realloc(job->bytes, room);
        if (!more) png_error(png, "out of memory");
        job->bytes = more;
        job->room = room;
    }
    memcpy(job->bytes + job->size, data, size);
    job->size += size;
}

/* Errors of the stream are left to outfile_close, which knows what to say about them. */
static void write_bytes(png_structp png, png_bytep data, size_t size) {
    Job *job = png_get_io_ptr(png);
    if (job->stream)
        fwrite(data, 1, size, job->stream);
    else
        append_bytes(png, job, data, size);
}

static void flush_nothing(png_structp png) { (void)png; }

static int set_text(Job *job, const char *const *text) {
    int n = 0;
    while (text && text[2 * n]) n++;
    if (n == 0) return 0;
    job->chunk = calloc((size_t)n, sizeof *job->chunk);
    if (!job->chunk) return fail(job->err, "%s: out of memory", job->path);
    for (int i = 0; i < n; i++) {
        /* libpng's struct isn't const, but it only copies. */
        job->chunk[i].key = (png_charp)(uintptr_t)text[2 * i];
        job->chunk[i].text = (png_charp)(uintptr_t)text[2 * i + 1];
        job->chunk[i].compression = PNG_ITXT_COMPRESSION_NONE;
    }
    png_set_text(job->png, job->info, job->chunk, n);
    return 0;
}

static int write_all(Job *job, const uint8_t *rgb, uint32_t width, uint32_t height,
                     const char *const *text) {
    if (setjmp(png_jmpbuf(job->png))) return -1;
    png_set_write_fn(job->png, job, write_bytes, flush_nothing);
    png_set_IHDR(job->png, job->info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    if (set_text(job, text)) return -1;
    png_write_info(job->png, job->info);
    for (uint32_t y = 0; y < height; y++) png_write_row(job->png, rgb + (size_t)y * width * 3);
    png_write_end(job->png, NULL);
    return 0;
}

int image_write_png(const char *path, const uint8_t *rgb, int64_t width, int64_t height,
                    const char *const *text, Error *err) {
    if (width < 1 || height < 1 || width > PNG_UINT_31_MAX / 8 || height > PNG_UINT_31_MAX)
        return fail(err, "%s: a PNG can't be %lld x %lld", path, (long long)width,
                    (long long)height);
    OutFile file;
    if (outfile_open(&file, path, err)) return -1;
    Job job = {.path = path, .err = err, .stream = file.stream};
    errno = 0;
    job.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_write_warning);
    if (job.png) job.info = png_create_info_struct(job.png);
    if (job.png && job.info) {
        /* Pictures as large as the caller's memory allowed; libpng's default limit is 1,000,000. */
        png_set_user_limits(job.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
        write_all(&job, rgb, (uint32_t)width, (uint32_t)height, text);
    } else {
        fail(err, "%s: out of memory", path);
    }
    png_destroy_write_struct(&job.png, &job.info);
    free(job.chunk);
    if (!err->set) return outfile_close(&file, err);
    outfile_discard(&file);
    return -1;
}

static int write_indices(Job *job, const ImagePalette *palette, const uint8_t *index,
                         uint32_t width, uint32_t height) {
    if (setjmp(png_jmpbuf(job->png))) return -1;
    png_color color[256];
    for (int i = 0; i < palette->colors; i++)
        color[i] = (png_color){palette->rgb[i][0], palette->rgb[i][1], palette->rgb[i][2]};
    png_byte clear = 0;
    png_set_write_fn(job->png, job, write_bytes, flush_nothing);
    png_set_IHDR(job->png, job->info, width, height, 8, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    png_set_PLTE(job->png, job->info, color, palette->colors);
    if (palette->first_is_clear) png_set_tRNS(job->png, job->info, &clear, 1, NULL);
    png_write_info(job->png, job->info);
    for (uint32_t y = 0; y < height; y++) png_write_row(job->png, index + (size_t)y * width);
    png_write_end(job->png, NULL);
    return 0;
}

uint8_t *image_palette_png(const ImagePalette *palette, const uint8_t *index, int64_t width,
                           int64_t height, size_t *size, Error *err) {
    Job job = {.path = "a picture in memory", .err = err};
    errno = 0;
    job.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_write_warning);
    if (job.png) job.info = png_create_info_struct(job.png);
    if (job.png && job.info)
        write_indices(&job, palette, index, (uint32_t)width, (uint32_t)height);
    else
        fail(err, "%s: out of memory", job.path);
    png_destroy_write_struct(&job.png, &job.info);
    *size = job.size;
    if (!err->set) return job.bytes;
    free(job.bytes);
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static const char *color_name(int type) {
    switch (type) {
    case PNG_COLOR_TYPE_GRAY: return "gray";
    case PNG_COLOR_TYPE_GRAY_ALPHA: return "gray with alpha";
    case PNG_COLOR_TYPE_PALETTE: return "palette";
    case PNG_COLOR_TYPE_RGB: return "RGB";
    case PNG_COLOR_TYPE_RGB_ALPHA: return "RGB with alpha";
    default: return "unknown";
    }
}

static void read_bytes(png_structp png, png_bytep data, size_t size) {
    Job *job = png_get_io_ptr(png);
    if (size > job->left) png_error(png, "the file ends too early");
    memcpy(data, job->unread, size);
    job->unread += size;
    job->left -= size;
}

static int copy_texts(Job *job, ImageInfo *out) {
    png_textp chunk;
    int n = png_get_text(job->png, job->info, &chunk, NULL);
    out->text = calloc(2 * (size_t)n + 1, sizeof *out->text);
    bool good = out->text != NULL;
    for (int i = 0; good && i < n; i++) {
        out->text[2 * i] = copy_text(chunk[i].key);
        out->text[2 * i + 1] = copy_text(chunk[i].text ? chunk[i].text : "");
        good = out->text[2 * i] && out->text[2 * i + 1];
    }
    if (good) return 0;
    for (int i = 0; out->text && i < 2 * n; i++) free(out->text[i]);
    free(out->text);
    out->text = NULL;
    return fail(job->err, "%s: out of memory", job->path);
}

static int read_all(Job *job, ImageInfo *out) {
    if (setjmp(png_jmpbuf(job->png))) return -1;
    png_set_read_fn(job->png, job, read_bytes);
    png_read_info(job->png, job->info);
    out->width = png_get_image_width(job->png, job->info);
    out->height = png_get_image_height(job->png, job->info);
    out->bit_depth = png_get_bit_depth(job->png, job->info);
    out->color = color_name(png_get_color_type(job->png, job->info));
    return copy_texts(job, out);
}

/* All kinds of PNG as 8-bit RGB. */
static int read_pixels(Job *job, int64_t *width, int64_t *height) {
    if (setjmp(png_jmpbuf(job->png))) return -1;
    png_set_read_fn(job->png, job, read_bytes);
    png_read_info(job->png, job->info);
    *width = png_get_image_width(job->png, job->info);
    *height = png_get_image_height(job->png, job->info);
    if (*width * *height > MAX_PIXELS)
        return fail(job->err, "%s: %lld x %lld pixels are more than the %d that are read",
                    job->path, (long long)*width, (long long)*height, MAX_PIXELS);
    png_set_scale_16(job->png);
    png_set_expand(job->png);
    png_set_gray_to_rgb(job->png);
    png_set_strip_alpha(job->png);
    png_set_interlace_handling(job->png);
    png_read_update_info(job->png, job->info);
    job->pixels = malloc((size_t)(*width * *height * 3));
    job->row = malloc((size_t)*height * sizeof *job->row);
    if (!job->pixels || !job->row) return fail(job->err, "%s: out of memory", job->path);
    for (int64_t y = 0; y < *height; y++) job->row[y] = job->pixels + y * *width * 3;
    png_read_image(job->png, job->row);
    png_read_end(job->png, NULL);
    return 0;
}

/* Opens the file for one of the two readers above. What `use` makes stays in `job`. */
static int with_file(const char *path, Job *job, Error *err, int (*use)(Job *job, void *result),
                     void *result) {
    size_t size;
    char *bytes = file_read(path, &size, err);
    if (!bytes) return -1;
    *job = (Job){.path = path, .err = err, .unread = bytes, .left = size};
    errno = 0;
    job->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, job, on_error, on_read_warning);
    if (job->png) job->info = png_create_info_struct(job->png);
    if (job->png && job->info)
        use(job, result);
    else
        fail(err, "%s: out of memory", path);
    png_destroy_read_struct(&job->png, &job->info, NULL);
    free(job->row);
    free(bytes);
    return err->set ? -1 : 0;
}

static int use_info(Job *job, void *result) { return read_all(job, result); }

int image_read_info(const char *path, ImageInfo *out, Error *err) {
    *out = (ImageInfo){0};
    Job job;
    if (with_file(path, &job, err, use_info, out) == 0) return 0;
    image_info_free(out);
    return -1;
}

static int use_pixels(Job *job, void *result) {
    int64_t *size = result;
    return read_pixels(job, &size[0], &size[1]);
}

uint8_t *image_read_png(const char *path, int64_t *width, int64_t *height, Error *err) {
    Job job = {0};
    int64_t size[2] = {0};
    if (with_file(path, &job, err, use_pixels, size)) {
        free(job.pixels);
        return NULL;
    }
    *width = size[0];
    *height = size[1];
    return job.pixels;
}

/* ITU-R 601 luma in 16 fractional bits. */
void image_to_gray(uint8_t *rgb, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *p = rgb + 3 * i;
        rgb[i] = (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
    }
}

void image_info_free(ImageInfo *info) {
    for (size_t i = 0; info->text && info->text[i]; i++) free(info->text[i]);
    free(info->text);
    *info = (ImageInfo){0};
}
