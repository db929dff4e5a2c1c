/* Completion for bash, printed from the tables that the help is printed from: llmdiff help
 * --completion. See cli.h. */
#include "ref/cli.h"

#include <string.h>

static void flag(const Option *o, const char *between) {
    if (o->letter) printf("-%c%s", o->letter, between);
    printf("--%s", o->name);
}

/* What may follow a flag: files, directories, one of some words ("ddim|euler"), or nothing to offer. */
static void value(const char *name) {
    if (strncmp(name, "FILE", 4) == 0)
        fputs("_llmdiff_offer -f", stdout);
    else if (strcmp(name, "DIR") == 0)
        fputs("_llmdiff_offer -d", stdout);
    else if (strchr(name, '|')) {
        fputs("_llmdiff_offer -W '", stdout);
        for (; *name; name++) putchar(*name == '|' ? ' ' : *name);
        putchar('\'');
    } else
        putchar(':');
}

static void command_case(const Command *command) {
    printf("    %s)\n        case $before in\n", command->name);
    for (size_t i = 0; i < option_count; i++) {
        const Option *o = &option_table[i];
        if (!(o->commands & command->bit) || !o->value) continue;
        fputs("        ", stdout);
        flag(o, "|");
        fputs(") ", stdout);
        value(o->value);
        puts("; return ;;");
    }
    fputs("        esac\n        flags='", stdout);
    bool first = true;
    for (size_t i = 0; i < option_count; i++) {
        if (!(option_table[i].commands & command->bit)) continue;
        if (!first) putchar(' ');
        first = false;
        flag(&option_table[i], " ");
    }
    printf("'\n        operands=%s ;;\n", command->operands[0] ? "-f" : "");
}

void print_completion(void) {
    fputs("# bash completion for llmdiff, made by llmdiff help --completion\n"
          "_llmdiff_offer() {\n"
          "    mapfile -t COMPREPLY < <(compgen \"$@\" -- \"$word\")\n"
          "    [ \"$1\" = -W ] || compopt -o filenames 2>/dev/null\n"
          "}\n"
          "_llmdiff() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local flags= operands=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ] || { [ \"$COMP_CWORD\" -eq 2 ] && [ \"$before\" = help "
          "]; "
          "}; then\n"
          "        _llmdiff_offer -W '",
          stdout);
    for (size_t i = 0; i < command_count; i++) printf("%s ", command_table[i].name);
    fputs("help --help --version'\n"
          "        return\n"
          "    fi\n"
          "    case ${COMP_WORDS[1]} in\n",
          stdout);
    for (size_t i = 0; i < command_count; i++) command_case(&command_table[i]);
    fputs("    esac\n"
          "    case $word in\n"
          "    -*) _llmdiff_offer -W \"$flags\" ;;\n"
          "    *) [ -n \"$operands\" ] && _llmdiff_offer \"$operands\" ;;\n"
          "    esac\n"
          "    return 0\n"
          "}\n"
          "complete -F _llmdiff llmdiff llmdiff-f64\n",
          stdout);
}
