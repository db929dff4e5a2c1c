/* Help, printed from the tables. See cli.h. */
#include "ref/cli.h"

#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 30

static void print_option(const Option *option) {
    char left[64];
    snprintf(left, sizeof left, "  %c%c%c --%s %s", option->letter ? '-' : ' ',
             option->letter ? option->letter : ' ', option->letter ? ',' : ' ', option->name,
             option->value ? option->value : "");
    if (strlen(left) < HELP_COLUMN)
        printf("%-*s", HELP_COLUMN, left);
    else
        printf("%s\n%*s", left, HELP_COLUMN, "");
    char last = ' ';
    for (const char *p = option->help; *p; last = *p++) {
        putchar(*p);
        if (*p == '\n') printf("%*s", HELP_COLUMN, "");
    }
    if (option->fallback && *option->fallback)
        printf("%s(default %s)", last == '\n' ? "" : " ", option->fallback);
    putchar('\n');
}

void print_command_help(const Command *command) {
    printf("Usage: llmdiff %s %s\n\n", command->name, command->usage);
    printf("%c%s.\n", command->summary[0] - 'a' + 'A', command->summary + 1);
    const char *group = "";
    for (size_t i = 0; i < option_count; i++) {
        const Option *option = &option_table[i];
        if (!(option->commands & command->bit)) continue;
        if (strcmp(group, option->group) != 0) printf("\n%s\n", option->group);
        group = option->group;
        print_option(option);
    }
    if (command->exit_codes) printf("\nExit codes: %s.\n", command->exit_codes);
}

void print_usage(FILE *to) {
    fprintf(to, "Usage: llmdiff COMMAND [options]\n\n");
    for (size_t i = 0; i < command_count; i++)
        fprintf(to, "  %-14s %s\n", command_table[i].name, command_table[i].summary);
    fprintf(to, "\nllmdiff help COMMAND lists a command's options.\n");
}

const char *const example_lines[] = {
    "llmdiff generate -m weights/tiny -p \"a red circle\" -o circle.png", "llmdiff info circle.png",
    "mpirun -np 4 llmdiff generate --prompt-file prompts.txt -o out.png",
    "llmdiff compare reference.safetensors mine.npz", NULL};

void print_help(void) {
    printf("A decoder-only LLM controls Stable Diffusion: Algorithm 1 and Eq. 9 of "
           "arXiv 2502.04412.\n\n");
    print_usage(stdout);
    printf("\nFor example\n");
    for (const char *const *line = example_lines; *line; line++) printf("  %s\n", *line);
    printf("\nExit codes: 0 done, 1 failed, 2 wrong usage, 130 cancelled. compare and verify\n"
           "have their own.\n");
}
