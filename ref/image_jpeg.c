/* JPEG by libjpeg-turbo: see image.h. Baseline and progressive, Huffman and arithmetic coding, 8 bits.
 *
 * libjpeg ends the process, or prints, unless it is told otherwise: here every error, and each warning
 * that means lost pixels, leaves by longjmp with a message. As in image.c, what must survive that lives
 * in a struct behind a pointer. */
#include "ref/image_decoders.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h wants it */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#define PIXELS_IN_A_BYTE 512 /* a block of 64 takes one bit at least, where the code is Huffman's */

typedef struct Job {
    struct jpeg_decompress_struct jpeg; /* client_data is this Job */
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    jmp_buf leave;
    const char *name;
    Error *err;
    ImageStatus status; /* of a failure */
    Image image;
    uint8_t *line; /* of CMYK */
    int orientation;
} Job;

/* ---- instead of libjpeg's own ---------------------------------------------------------------------------- */

static void give_up(Job *job, const char *message) {
    fail(job->err, "%s: %s", job->name, message);
    longjmp(job->leave, 1);
}

static void on_error(j_common_ptr jpeg) {
    Job *job = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];
    if (jpeg->err->msg_code == JERR_OUT_OF_MEMORY) {
        job->status = IMAGE_NO_MEMORY;
        give_up(job, "out of memory");
    }
    jpeg->err->format_message(jpeg, message);
    give_up(job, message);
}

/* libjpeg fills in what it can't read, with gray or with what was there before. Its other warnings are
 * about bytes between segments, and versions. That a scan must refine what is there also keeps a
 * progressive picture from having scans without end. */
static void on_message(j_common_ptr jpeg, int level) {
    if (level >= 0) return; /* a trace */
    switch (jpeg->err->msg_code) {
    case JWRN_ARITH_BAD_CODE:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
    case JWRN_NOT_SEQUENTIAL: on_error(jpeg); break;
    default: break;
    }
}

static void on_output(j_common_ptr jpeg) { (void)jpeg; }

/* ---- the bytes ------------------------------------------------------------------------------------------- */

static void on_source(j_decompress_ptr jpeg) { (void)jpeg; }

static boolean on_empty(j_decompress_ptr jpeg) {
    give_up(jpeg->client_data, "the file ends too early");
    return FALSE;
}

static void on_skip(j_decompress_ptr jpeg, long n) {
    if (n <= 0) return;
    if ((size_t)n > jpeg->src->bytes_in_buffer) on_empty(jpeg);
    jpeg->src->next_input_byte += n;
    jpeg->src->bytes_in_buffer -= (size_t)n;
}

/* ---- the picture ------------------------------------------------------------------------------------------ */

/* Pillow's: ink as Adobe stores it, inverted, over black. */
static void cmyk_to_rgb(const uint8_t *in, uint8_t *out, int64_t n) {
    for (int64_t i = 0; i < n; i++, in += 4, out += 3)
        for (int c = 0; c < 3; c++) {
            const int light = in[3], ink = (255 - in[c]) * light + 128;
            const int left = light - ((ink + (ink >> 8)) >> 8);
            out[c] = (uint8_t)(left < 0 ? 0 : left);
        }
}

static void read_orientation(Job *job) {
    for (jpeg_saved_marker_ptr m = job->jpeg.marker_list; m && !job->orientation; m = m->next)
        if (m->data_length >= 6 && memcmp(m->data, "Exif\0", 6) == 0)
            job->orientation = exif_orientation(m->data, m->data_length);
}

static int start(Job *job, size_t size) {
    struct jpeg_decompress_struct *j = &job->jpeg;
    Image *im = &job->image;
    jpeg_save_markers(j, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(j, TRUE);
    im->width = j->image_width;
    im->height = j->image_height;
    if (image_check_size(job->name, im->width, im->height, job->err)) return -1;
    if (!j->arith_code && im->width * im->height / PIXELS_IN_A_BYTE > (int64_t)size)
        return fail(job->err, "%s: %lld x %lld pixels are more than %zu bytes can hold", job->name,
                    (long long)im->width, (long long)im->height, size);
    if (j->num_components != 1 && j->num_components != 3 && j->num_components != 4)
        return fail(job->err, "%s: a JPEG of %d components: expected 1, 3 or 4", job->name,
                    j->num_components);
    j->out_color_space = j->num_components == 4 ? JCS_CMYK : JCS_RGB;
    read_orientation(job);
    jpeg_start_decompress(j);
    return 0;
}

static void read_lines(Job *job) {
    struct jpeg_decompress_struct *j = &job->jpeg;
    const int64_t width = job->image.width;
    while (j->output_scanline < j->output_height) {
        uint8_t *rgb = job->image.rgb + (int64_t)j->output_scanline * width * 3;
        uint8_t *line = job->line ? job->line : rgb;
        jpeg_read_scanlines(j, &line, 1); /* never fewer: on_empty doesn't suspend */
        if (job->line) cmyk_to_rgb(line, rgb, width);
    }
    jpeg_finish_decompress(j); /* there is an end */
}

static int read_all(Job *job, size_t size) {
    if (setjmp(job->leave)) return -1;
    jpeg_create_decompress(&job->jpeg);
    job->jpeg.src = &job->source;
    if (start(job, size)) return -1;
    const size_t width = (size_t)job->image.width, height = (size_t)job->image.height;
    job->image.rgb = malloc(width * height * 3);
    if (job->jpeg.num_components == 4) job->line = malloc(width * 4);
    if (!job->image.rgb || (job->jpeg.num_components == 4 && !job->line)) {
        job->status = IMAGE_NO_MEMORY;
        return fail(job->err, "%s: out of memory", job->name);
    }
    read_lines(job);
    return 0;
}

ImageStatus jpeg_decode(const void *bytes, size_t size, const char *name, Image *out,
                        int *orientation, Error *err) {
    Job job = {.name = name, .err = err, .status = IMAGE_BROKEN};
    job.jpeg.err = jpeg_std_error(&job.errors);
    job.errors.error_exit = on_error;
    job.errors.emit_message = on_message;
    job.errors.output_message = on_output;
    job.jpeg.client_data = &job;
    job.source = (struct jpeg_source_mgr){
        bytes, size, on_source, on_empty, on_skip, jpeg_resync_to_restart, on_source};
    int status = read_all(&job, size);
    jpeg_destroy_decompress(&job.jpeg);
    free(job.line);
    if (status) {
        free(job.image.rgb);
        return job.status;
    }
    *out = job.image;
    *orientation = job.orientation;
    return IMAGE_OK;
}
