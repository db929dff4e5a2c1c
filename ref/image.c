/* PNG by libpng: see image.h.
 *
 * libpng leaves a failed call by longjmp. What must survive it lives behind a pointer, in a struct
 * of the caller's frame, and no local variable of the function that calls setjmp is changed after
 * it: so nothing has to be volatile. */
#include "ref/image_decoders.h"
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

#define MOST_FROM_A_BYTE 1032 /* deflate makes no more of one */

typedef struct Job {
    const char *path;
    Error *err;
    png_structp png;
    png_infop info;
    FILE *stream;   /* written to; NULL: to memory */
    uint8_t *bytes; /* memory written to [size], with room for [room] */
    size_t size, room;
    png_textp chunk;    /* the texts written */
    uint8_t *wide;      /* a row as it is written */
    const char *unread; /* [left]: what is left to read */
    size_t left;
    Image image; /* read */
    int orientation;
    png_bytep *row;
    bool no_memory;
} Job;

static int out_of_memory(Job *job) {
    job->no_memory = true;
    return fail(job->err, "%s: out of memory", job->path);
}

/* libpng and zlib have many ways to say it ("too many text chunks" is one); malloc has this one. errno
 * is 0 before the first of their calls. */
static void say(Job *job, const char *message) {
    if (errno == ENOMEM)
        out_of_memory(job);
    else
        fail(job->err, "%s: %s", job->path, message);
}

/* Instead of libpng's own, which print. */
static void on_error(png_structp png, png_const_charp message) {
    say(png_get_error_ptr(png), message);
    png_longjmp(png, 1);
}

/* A warning while writing means that something was left out (a text, say): that is an error. It only
 * takes effect at the end, as libpng warns from inside zlib, too, which a longjmp would leave with
 * its memory half allocated. */
static void on_write_warning(png_structp png, png_const_charp message) {
    say(png_get_error_ptr(png), message);
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

/* A row of `width` pixels, each `enlarge` times. */
static void widen(const uint8_t *in, size_t width, size_t enlarge, uint8_t *out) {
    for (size_t x = 0; x < width * enlarge; x++) memcpy(out + 3 * x, in + x / enlarge * 3, 3);
}

static int write_all(Job *job, const uint8_t *rgb, uint32_t width, uint32_t height,
                     uint32_t enlarge, const char *const *text) {
    if (setjmp(png_jmpbuf(job->png))) return -1;
    png_set_write_fn(job->png, job, write_bytes, flush_nothing);
    png_set_IHDR(job->png, job->info, width * enlarge, height * enlarge, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    if (set_text(job, text)) return -1;
    png_write_info(job->png, job->info);
    for (uint32_t y = 0; y < height; y++) {
        widen(rgb + (size_t)y * width * 3, width, enlarge, job->wide);
        for (uint32_t k = 0; k < enlarge; k++) png_write_row(job->png, job->wide);
    }
    png_write_end(job->png, NULL);
    return 0;
}

int image_write_png(const char *path, const uint8_t *rgb, int64_t width, int64_t height,
                    const char *const *text, Error *err) {
    return image_write_enlarged(path, rgb, width, height, 1, text, err);
}

int image_write_enlarged(const char *path, const uint8_t *rgb, int64_t width, int64_t height,
                         int64_t enlarge, const char *const *text, Error *err) {
    if (width < 1 || height < 1 || enlarge < 1 || width > PNG_UINT_31_MAX / 8 / enlarge ||
        height > PNG_UINT_31_MAX / enlarge)
        return fail(err, "%s: a PNG can't be %lld x %lld times %lld", path, (long long)width,
                    (long long)height, (long long)enlarge);
    OutFile file;
    if (outfile_open(&file, path, err)) return -1;
    Job job = {.path = path, .err = err, .stream = file.stream};
    job.wide = malloc((size_t)(width * enlarge) * 3);
    errno = 0;
    job.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_write_warning);
    if (job.png) job.info = png_create_info_struct(job.png);
    if (job.png && job.info && job.wide) {
        /* Pictures as large as the caller's memory allowed; libpng's default limit is 1,000,000. */
        png_set_user_limits(job.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
        write_all(&job, rgb, (uint32_t)width, (uint32_t)height, (uint32_t)enlarge, text);
    } else {
        fail(err, "%s: out of memory", path);
    }
    png_destroy_write_struct(&job.png, &job.info);
    free(job.chunk);
    free(job.wide);
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
    return out_of_memory(job);
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

static int check_size(const Job *job, size_t file) {
    const Image *im = &job->image;
    if (image_check_size(job->path, im->width, im->height, job->err)) return -1;
    if (png_get_rowbytes(job->png, job->info) / MOST_FROM_A_BYTE * (size_t)im->height <= file)
        return 0;
    return fail(job->err, "%s: %lld x %lld pixels are more than %zu bytes can hold", job->path,
                (long long)im->width, (long long)im->height, file);
}

/* eXIf may also stand behind the pixels, so this comes last. */
static void read_orientation(Job *job) {
    png_uint_32 size;
    png_bytep exif;
    if (png_get_eXIf_1(job->png, job->info, &size, &exif))
        job->orientation = exif_orientation(exif, size);
}

static void read_enlargement(Job *job) {
    png_textp chunk;
    int n = png_get_text(job->png, job->info, &chunk, NULL);
    for (int i = 0; i < n; i++)
        if (strcmp(chunk[i].key, IMAGE_ENLARGE_KEY) == 0 && chunk[i].text)
            job->image.enlarged = strtol(chunk[i].text, NULL, 10);
}

/* All kinds of PNG as 8-bit RGB. Of 16 bits Pillow takes the upper 8. */
static int read_pixels(Job *job) {
    Image *im = &job->image;
    const size_t file = job->left;
    if (setjmp(png_jmpbuf(job->png))) return -1;
    png_set_read_fn(job->png, job, read_bytes);
    png_read_info(job->png, job->info);
    im->width = png_get_image_width(job->png, job->info);
    im->height = png_get_image_height(job->png, job->info);
    if (check_size(job, file)) return -1;
    png_set_strip_16(job->png);
    png_set_expand(job->png);
    png_set_gray_to_rgb(job->png);
    png_set_strip_alpha(job->png);
    png_set_interlace_handling(job->png);
    png_read_update_info(job->png, job->info);
    im->rgb = malloc((size_t)(im->width * im->height * 3));
    job->row = malloc((size_t)im->height * sizeof *job->row);
    if (!im->rgb || !job->row) return out_of_memory(job);
    for (int64_t y = 0; y < im->height; y++) job->row[y] = im->rgb + y * im->width * 3;
    png_read_image(job->png, job->row);
    png_read_end(job->png, job->info);
    read_orientation(job);
    read_enlargement(job);
    return 0;
}

/* Opens the bytes for one of the two readers above. What it makes stays in `job`. */
static int with_bytes(Job *job, const void *bytes, size_t size, ImageInfo *info) {
    job->unread = bytes;
    job->left = size;
    errno = 0;
    job->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, job, on_error, on_read_warning);
    if (job->png) job->info = png_create_info_struct(job->png);
    if (!job->png || !job->info)
        out_of_memory(job);
    else if (info)
        read_all(job, info);
    else
        read_pixels(job);
    png_destroy_read_struct(&job->png, &job->info, NULL);
    free(job->row);
    return job->err->set ? -1 : 0;
}

int image_read_info(const char *path, ImageInfo *out, Error *err) {
    *out = (ImageInfo){0};
    size_t size;
    char *bytes = file_read(path, &size, err);
    if (!bytes) return -1;
    Job job = {.path = path, .err = err};
    int status = with_bytes(&job, bytes, size, out);
    free(bytes);
    if (status) image_info_free(out);
    return status;
}

ImageStatus png_decode(const void *bytes, size_t size, const char *name, Image *out,
                       int *orientation, Error *err) {
    Job job = {.path = name, .err = err};
    if (with_bytes(&job, bytes, size, NULL)) {
        free(job.image.rgb);
        return job.no_memory ? IMAGE_NO_MEMORY : IMAGE_BROKEN;
    }
    *out = job.image;
    *orientation = job.orientation;
    return IMAGE_OK;
}

void image_info_free(ImageInfo *info) {
    for (size_t i = 0; info->text && info->text[i]; i++) free(info->text[i]);
    free(info->text);
    *info = (ImageInfo){0};
}
