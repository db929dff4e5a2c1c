/* Every choice that the specification leaves open, as one struct with its config keys.
 *
 * An adapter's config.json sets them, `--set KEY=VALUE` overrides one. What each means stands in
 * ref/README.md and at the line of code that reads it. */
#ifndef LLMDIFF_SETTINGS_H
#define LLMDIFF_SETTINGS_H

#include "tensor/error.h"

#include <cjson/cJSON.h>

#include <stdbool.h>
#include <stdint.h>

typedef enum InitChoice { INIT_EMBEDDING, INIT_ZEROS, INIT_NORMAL } InitChoice;
typedef enum ScoreChoice { SCORE_RESIDUAL, SCORE_DIFFERENCE } ScoreChoice;
typedef enum NormalizeChoice { NORMALIZE_NONE, NORMALIZE_RMS } NormalizeChoice;
typedef enum TauInputChoice { TAU_INPUT_PHI_C, TAU_INPUT_C } TauInputChoice;
typedef enum OutChoice { OUT_OWN, OUT_SHARED } OutChoice;

typedef struct Settings {
    /* Algorithm 1 */
    int init;                /* "init": InitChoice, what c^T is */
    bool noise;              /* "noise": whether sqrt(2 h(t)) eps_t is added */
    int score;               /* "score": ScoreChoice */
    bool word_score;         /* "word_score": false leaves s_word out */
    int normalize;           /* "normalize": NormalizeChoice, before the adapter reads c */
    int64_t first, last;     /* "blocks": [first, last], 0-based and inclusive; null: 0, -1 */
    double g_scale, h_scale; /* factors on g(t) and h(t) */
    /* Eq. 9 */
    int tau_input;         /* "tau_input": TauInputChoice, what c' is */
    int out;               /* "out": OutChoice */
    char layers[4096];     /* "layers": attn2 paths that blend, one a line; see all_layers */
    bool all_layers;       /* "layers": null */
    double a1, b1, a2, b2; /* numbers in place of the learned ones; NaN (null): as learned */
} Settings;

Settings settings_default(void);
/* Sets the key from its JSON value. `where` begins the message ("adapter/config.json", "--set").
 * 0; 1 if there is no such key; -1 with a message if the value is wrong. */
int settings_set(Settings *s, const char *key, const cJSON *value, const char *where, Error *err);
/* "KEY=VALUE" from the command line; VALUE is JSON, or a bare word for a string. 0 or -1. */
int settings_parse(Settings *s, const char *assignment, Error *err);
/* All keys with their values, in the order of the struct. NULL: out of memory. */
cJSON *settings_to_json(const Settings *s);
/* Whether the layer of that path blends (else its f is the original attention alone). */
bool settings_layer_active(const Settings *s, const char *attn2_path);

#endif
