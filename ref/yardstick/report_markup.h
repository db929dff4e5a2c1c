/* What the two pictures of a report and its page are written with. */
#ifndef LLMDIFF_REPORT_MARKUP_H
#define LLMDIFF_REPORT_MARKUP_H

#include "ref/text.h"
#include "ref/yardstick/yardstick.h"

/* Text from a file into XML or HTML, also between double quotes: at most `most` characters of it, then
 * an ellipsis. What is no UTF-8, what XML forbids and what would turn the direction of the text shows
 * as U+FFFD, control characters as their pictures. */
void put_escaped(Text *out, const char *text, size_t most);
/* The same of a long name: what is left out is its middle, as its end tells most. */
void put_escaped_name(Text *out, const char *name, size_t most);

/* Written to `out`, returned, and the same in every locale: "1.23e-07", "0", "NaN", "-inf". */
#define NUMBER_SIZE 32
const char *number_text(char out[NUMBER_SIZE], double value); /* an error: 3 digits */
const char *value_text(char out[NUMBER_SIZE], double value, int digits);
/* A length in the picture's units, to a tenth. */
const char *length_text(char out[NUMBER_SIZE], double units);

/* "[3, 17]": element `flat` of a tensor of that shape; "[4, 16, 16]": the shape itself. */
#define SHAPE_SIZE (STORED_MAX_DIMS * 22 + 3)
void put_index(Text *out, const TensorInfo *t, int64_t flat);
void put_shape(Text *out, const TensorInfo *t);

/* report_parts.c: a row's band in the picture, "unet/0", and its stretch of that, "down" or "". With
 * groups, those are the bands. */
#define LABEL_SIZE 48
void report_place(const Row *row, char part[LABEL_SIZE], char stretch[LABEL_SIZE]);

/* report_heat.c: the worst tensor's error, the reference and mine as pictures; nothing if the report
 * holds no such tensor. */
void put_heat_maps(Text *out, const Report *r);

#endif
