/* Reading a command line by the table of options. See cli.h. */
#include "ref/cli.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_CHARS 64

/* ---- the name that was meant --------------------------------------------------------------------- */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Letters to insert, delete, change or swap with their neighbour to turn a into b (the optimal
 * string alignment distance). Only the last three rows of the table are kept. */
static size_t edit_distance(const char *a, const char *b) {
    size_t rows[3][NAME_MAX_CHARS + 1], m = strlen(a), n = strlen(b);
    if (m > NAME_MAX_CHARS || n > NAME_MAX_CHARS) return SIZE_MAX;
    for (size_t j = 0; j <= n; j++) rows[0][j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t *now = rows[i % 3], *before = rows[(i - 1) % 3], *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= n; j++) {
            now[j] =
                least(least(before[j], now[j - 1]) + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], earlier[j - 2] + 1);
        }
    }
    return rows[m % 3][n];
}

const char *nearest_name(const char *word, const char *const *names, size_t count) {
    const char *nearest = NULL;
    size_t length = strlen(word), best = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, names[i]);
        /* "neg" means "negative-prompt" although most of it is missing. */
        if (length >= 3 && strncmp(word, names[i], length) == 0) distance = 0;
        if (distance < best) best = distance, nearest = names[i];
    }
    return best <= (length > 5 ? length / 3 : length / 2) ? nearest : NULL;
}

/* ---- finding an option --------------------------------------------------------------------------- */

/* The command's option with that long name ([length]) or that letter. */
static const Option *find_long(unsigned commands, const char *name, size_t length) {
    for (size_t i = 0; i < option_count; i++)
        if (option_table[i].commands & commands && strlen(option_table[i].name) == length &&
            strncmp(option_table[i].name, name, length) == 0)
            return &option_table[i];
    return NULL;
}

static const Option *find_letter(unsigned commands, char letter) {
    for (size_t i = 0; i < option_count; i++)
        if (option_table[i].commands & commands && letter && option_table[i].letter == letter)
            return &option_table[i];
    return NULL;
}

/* "-s", "--seed" or "--seed=3" */
static const Option *find(unsigned commands, const char *word) {
    if (word[0] != '-') return NULL;
    if (word[1] == '-') return find_long(commands, word + 2, strcspn(word + 2, "="));
    return word[1] && !word[2] ? find_letter(commands, word[1]) : NULL;
}

static const char *command_of(const Option *option) {
    for (size_t i = 0; i < command_count; i++)
        if (option->commands & command_table[i].bit) return command_table[i].name;
    return "another command";
}

static int fail_unknown(const Command *command, const char *word, llmdiff_error *err) {
    const Option *elsewhere = find(~0u, word);
    int shown = (int)strcspn(word, "=");
    if (elsewhere)
        return cli_fail(err, "%s: unknown flag %.*s; it belongs to llmdiff %s", command->name,
                        shown, word, command_of(elsewhere));
    const char *names[64];
    char name[NAME_MAX_CHARS + 1];
    size_t count = 0;
    for (size_t i = 0; i < option_count && count < 64; i++)
        if (option_table[i].commands & command->bit) names[count++] = option_table[i].name;
    snprintf(name, sizeof name, "%.*s", shown, word);
    const char *meant = nearest_name(name + strspn(name, "-"), names, count);
    if (meant)
        return cli_fail(err, "%s: unknown flag %.*s; did you mean --%s?", command->name, shown,
                        word, meant);
    return cli_fail(err, "%s: unknown flag %.*s; llmdiff %s --help lists them", command->name,
                    shown, word, command->name);
}

/* ---- values -------------------------------------------------------------------------------------- */

static int read_whole(const Option *option, const char *text, int64_t *out, llmdiff_error *err) {
    char *end;
    errno = 0;
    bool starts = text[0] == '-' ? text[1] >= '0' && text[1] <= '9'
                                 : text[0] >= '0' && text[0] <= '9'; /* strtoll skips blanks */
    long long value = strtoll(text, &end, 10);
    if (!starts || *end)
        return cli_fail(err, "--%s: expected a whole number, found \"%s\"", option->name, text);
    bool limited = option->min < option->max;
    int64_t min = limited ? option->min : INT64_MIN, max = limited ? option->max : INT64_MAX;
    if (value < min && max == INT64_MAX && limited)
        return cli_fail(err, "--%s: expected %lld or more, found %s", option->name, (long long)min,
                        text);
    if (errno == ERANGE || value < min || value > max)
        return cli_fail(err, "--%s: expected %lld to %lld, found %s", option->name, (long long)min,
                        (long long)max, text);
    *out = value;
    return 0;
}

static int read_number(const Option *option, const char *text, double *out, llmdiff_error *err) {
    char *end;
    double value = strtod(text, &end);
    if (!*text || strspn(text, "+-.0123456789eE") != strlen(text) || *end || !isfinite(value))
        return cli_fail(err, "--%s: expected a number, found \"%s\"", option->name, text);
    bool limited = option->min < option->max, open_end = option->max == INT64_MAX;
    double min = (double)option->min, max = open_end ? value : (double)option->max;
    if (limited && open_end && !(value >= min))
        return cli_fail(err, "--%s: expected %lld or more, found %s", option->name,
                        (long long)option->min, text);
    if (limited && !(value >= min && value <= max))
        return cli_fail(err, "--%s: expected %lld to %lld, found %s", option->name,
                        (long long)option->min, (long long)option->max, text);
    *out = value;
    return 0;
}

static int take_value(const Option *option, const char *text, Options *o, llmdiff_error *err) {
    void *field = (char *)o + option->offset;
    switch (option->kind) {
    case OPTION_SWITCH: *(bool *)field = true; return 0;
    case OPTION_TEXT: *(const char **)field = text; return 0;
    case OPTION_WHOLE: return read_whole(option, text, field, err);
    case OPTION_NUMBER: return read_number(option, text, field, err);
    case OPTION_SET: o->set[o->sets++] = option->constant ? option->constant : text; return 0;
    }
    return 0;
}

/* ---- the command line ---------------------------------------------------------------------------- */

/* Reads the option at argv[i] and, if it takes one, its value. Returns the words used, or -1. */
static int take_option(const Command *command, const Option *option, int argc, char **argv, int i,
                       Options *o, llmdiff_error *err) {
    const char *equals = argv[i][1] == '-' ? strchr(argv[i], '=') : NULL;
    if (!option->value) {
        if (equals)
            return cli_fail(err, "--%s takes no value, found \"%s\"", option->name, equals + 1);
        return take_value(option, NULL, o, err) ? -1 : 1;
    }
    if (equals) return take_value(option, equals + 1, o, err) ? -1 : 1;
    /* A value may begin with '-' (a seed, a prompt), but the next flag is not it. */
    if (i + 1 >= argc || find(command->bit, argv[i + 1]))
        return cli_fail(err, "%s needs a value: %s %s", argv[i], argv[i], option->value);
    return take_value(option, argv[i + 1], o, err) ? -1 : 2;
}

static int take_operand(const Command *command, const char *word, Options *o, llmdiff_error *err) {
    if (!command->operands[0])
        return cli_fail(err, "%s: unexpected argument \"%s\"%s", command->name, word,
                        command->bit & (GENERATE | ENCODE | TOKENIZE) ? "; the prompt goes with -p"
                                                                      : "");
    for (int i = 0; i < OPERANDS_MAX && command->operands[i]; i++)
        if (!o->operand[i]) {
            o->operand[i] = word;
            return 0;
        }
    if (!command->operands[1])
        return cli_fail(err, "%s: expected one %s, found \"%s\" and \"%s\"", command->name,
                        command->operands[0], o->operand[0], word);
    return cli_fail(err, "%s: expected %s and %s, found \"%s\" behind them", command->name,
                    command->operands[0], command->operands[1], word);
}

int options_parse(const Command *command, int argc, char **argv, Options *o, llmdiff_error *err) {
    *o = (Options){.rtol = -1, .atol = -1, .cfg_scale = NAN};
    o->set = malloc(((size_t)argc + 1) * sizeof *o->set);
    if (!o->set) return cli_fail(err, "out of memory");
    for (size_t i = 0; i < option_count; i++)
        if (option_table[i].commands & command->bit && option_table[i].fallback &&
            take_value(&option_table[i], option_table[i].fallback, o, err))
            return -1;

    bool only_operands = false; /* after "--" */
    for (int i = 0; i < argc && !o->help;) {
        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
            i++;
        } else if (only_operands || argv[i][0] != '-' || !argv[i][1]) {
            if (take_operand(command, argv[i++], o, err)) return -1;
        } else {
            const Option *option = find(command->bit, argv[i]);
            if (!option) return fail_unknown(command, argv[i], err);
            int used = take_option(command, option, argc, argv, i, o, err);
            if (used < 0) return -1;
            i += used;
        }
    }
    return 0;
}

void options_free(Options *o) {
    free(o->set);
    *o = (Options){0};
}
