/* Man pages, printed from the tables that the help is printed from: llmdiff help --man [COMMAND].
 * `make install` keeps what this prints. See cli.h. */
#include "ref/cli.h"

#include <string.h>

/* Text as troff reads it; the lines that help is broken into are no lines here. */
static void troff(const char *text) {
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text != '\n' || text[1])
            putchar(*text == '\n' ? ' ' : *text);
    }
}

static void capitalised(const char *text) {
    putchar(text[0] - 'a' + 'A');
    troff(text + 1);
}

static void heading(const char *name) {
    fputs(".TH LLMDIFF", stdout);
    if (*name) putchar('-');
    for (; *name; name++) putchar(*name == '-' ? '-' : *name - 'a' + 'A');
    printf(" 1 \"\" \"llmdiff %s\" \"User Commands\"\n.SH NAME\n", llmdiff_version());
}

static void exit_status(const Command *command) {
    if (command && command->exit_codes) {
        fputs(".SH EXIT STATUS\n", stdout);
        troff(command->exit_codes);
        puts(".");
        return;
    }
    fputs(".SH EXIT STATUS\n"
          "0 done; 1 failed: one line on standard error says what, where, expected and found, and\n"
          "no output is left half-written; 2 wrong usage; 130 cancelled (Ctrl\\-C).\n",
          stdout);
}

static void see_also(const Command *self) {
    fputs(".SH SEE ALSO\n", stdout);
    if (self) fputs(".BR llmdiff (1),\n", stdout);
    bool first = true;
    for (size_t i = 0; i < command_count; i++) {
        if (&command_table[i] == self) continue;
        if (!first) fputs(",\n", stdout);
        first = false;
        fputs(".BR llmdiff\\-", stdout);
        troff(command_table[i].name);
        fputs(" (1)", stdout);
    }
    putchar('\n');
}

static void option(const Option *o) {
    fputs(".TP\n", stdout);
    if (o->letter) printf("\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB\\-\\-", stdout);
    troff(o->name);
    fputs("\\fR", stdout);
    if (o->value) {
        fputs(" \\fI", stdout);
        troff(o->value);
        fputs("\\fR", stdout);
    }
    fputs("\n\\&", stdout); /* a line that begins with a dot would be a request */
    troff(o->help);
    if (o->fallback && *o->fallback) {
        fputs(" (default ", stdout);
        troff(o->fallback);
        putchar(')');
    }
    putchar('\n');
}

static void command_page(const Command *command) {
    heading(command->name);
    fputs("llmdiff\\-", stdout);
    troff(command->name);
    fputs(" \\- ", stdout);
    troff(command->summary);
    fputs("\n.SH SYNOPSIS\n.B llmdiff ", stdout);
    troff(command->name);
    fputs("\n\\&", stdout);
    troff(command->usage);
    fputs("\n.SH DESCRIPTION\n", stdout);
    capitalised(command->summary);
    fputs(".\n.SH OPTIONS\n", stdout);
    const char *group = "";
    for (size_t i = 0; i < option_count; i++) {
        const Option *o = &option_table[i];
        if (!(o->commands & command->bit)) continue;
        if (strcmp(group, o->group) != 0) printf(".SS %s\n", o->group);
        group = o->group;
        option(o);
    }
    exit_status(command);
    see_also(command);
}

static void program_page(void) {
    heading("");
    fputs("llmdiff \\- pictures from a decoder\\-only LLM and Stable Diffusion\n"
          ".SH SYNOPSIS\n"
          ".B llmdiff\n"
          "\\fICOMMAND\\fR [options]\n"
          ".br\n"
          ".B llmdiff help\n"
          "[\\fICOMMAND\\fR]\n"
          ".br\n"
          ".B llmdiff \\-\\-version\n"
          ".SH DESCRIPTION\n"
          "A decoder\\-only LLM controls Stable Diffusion: Algorithm 1 and Eq. 9 of "
          "arXiv 2502.04412,\non the CPU.\n"
          ".SH COMMANDS\n",
          stdout);
    for (size_t i = 0; i < command_count; i++) {
        fputs(".TP\n\\fB", stdout);
        troff(command_table[i].name);
        fputs("\\fR\n", stdout);
        capitalised(command_table[i].summary);
        puts(".");
    }
    fputs(".SH EXAMPLES\n", stdout);
    for (const char *const *p = example_lines; *p; p++) {
        fputs(".PP\n.nf\n", stdout);
        troff(*p);
        fputs("\n.fi\n", stdout);
    }
    exit_status(NULL);
    fputs(".SH ENVIRONMENT\n"
          ".TP\n"
          "\\fBOMP_NUM_THREADS\\fR\n"
          "How many threads, where \\-\\-threads does not say. Results don't depend on it.\n"
          ".TP\n"
          "\\fBOMP_WAIT_POLICY\\fR\n"
          "The program sets it to passive, so that threads don't spin where they wait, unless it\n"
          "or GOMP_SPINCOUNT is set.\n",
          stdout);
    see_also(NULL);
}

void print_manual(const Command *command) {
    if (command)
        command_page(command);
    else
        program_page();
}
