/* main: which command, its exit code, its error as one line. See cli.h. */
#include "ref/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int cli_fail(llmdiff_error *err, const char *fmt, ...) {
    if (err->status) return -1;
    err->status = LLMDIFF_FAILED;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    return -1;
}

/* ---- Ctrl-C ------------------------------------------------------------------------------------- */

/* The program's one mutable global: a signal handler has nothing else to write to. */
static volatile sig_atomic_t signal_came;

static void on_signal(int number) {
    (void)number;
    signal_came = 1;
}

int cli_cancelled(void *user) {
    (void)user;
    return signal_came != 0;
}

int cli_failed(llmdiff_error *err) {
    if (!signal_came) return EXIT_FAILED;
    *err = (llmdiff_error){0};
    cli_fail(err, "cancelled");
    return EXIT_CANCELLED;
}

int cli_code(const llmdiff_error *err) {
    return err->status == LLMDIFF_MISUSE ? EXIT_USAGE : EXIT_FAILED;
}

/* The first signal asks the run to stop at its next activation; a second one ends the program. A
 * signal that was ignored from the start (nohup) stays so. SIGUSR1 is what mpirun passes on, without
 * killing its processes a second later. */
static void catch_signals(void) {
    signal(SIGXFSZ, SIG_IGN); /* a write past the limit fails with EFBIG, and is reported */
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction before, action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
        sigemptyset(&action.sa_mask);
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

/* ---- standard streams ---------------------------------------------------------------------------- */

/* A stream that the caller closed gets its descriptor back, in the wrong direction, so that no file
 * is opened under its number and that a write to it fails instead of landing in that file. */
static void guard_standard_streams(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF)
            (void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

int cli_flush(llmdiff_error *err) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    return cli_fail(err, "stdout: can't be written: %s",
                    errno ? strerror(errno) : "a write failed");
}

/* One line, whatever a message or the file name in it holds. */
static void print_error(const char *message) {
    fputs("llmdiff: ", stderr);
    for (const char *p = message; *p; p++) {
        bool blank = *p == '\n' || *p == '\t';
        bool control = (unsigned char)*p < ' ' || *p == 0x7f;
        fputc(blank ? ' ' : control ? '?' : *p, stderr);
    }
    fputc('\n', stderr);
}

/* ---- commands ------------------------------------------------------------------------------------ */

static const Command *find_command(const char *name, llmdiff_error *err) {
    const char *names[16];
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(command_table[i].name, name) == 0) return &command_table[i];
        names[i] = command_table[i].name;
    }
    const char *meant = nearest_name(name, names, command_count);
    if (meant)
        cli_fail(err, "unknown command \"%s\"; did you mean %s?", name, meant);
    else
        cli_fail(err, "unknown command \"%s\"; llmdiff --help lists them", name);
    return NULL;
}

/* Several processes share a command of one team; the others are alone in any case. */
static int run_command(const Command *command, int argc, char **argv, llmdiff_error *err) {
    Options o;
    Team team = {.ranks = 1};
    if (command->bit & (GENERATE | TRAIN) && team_open(&team, err))
        return team_close(&team, err->status ? EXIT_FAILED : EXIT_OK, err, print_error);
    int code = EXIT_USAGE;
    options_parse(command, argc, argv, &o, err);
    CommandBit others = command->bit;
    team_share(&team, &others, sizeof others);
    if (others != command->bit)
        cli_fail(err, "mpirun: expected one command for all processes, found several");
    if (team_agree(&team, err) == 0) {
        o.team = &team;
        if (!o.help) {
            code = command->run(&o, err);
        } else {
            if (team.rank == 0) print_command_help(command);
            code = EXIT_OK;
        }
    }
    options_free(&o);
    return team_close(&team, code, err, print_error);
}

static int dispatch(int argc, char **argv, llmdiff_error *err) {
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    bool help = strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
    if (help && argc < 3) {
        print_help();
        return EXIT_OK;
    }
    if (strcmp(word, "--version") == 0) {
        printf("llmdiff %s (%s%s)\n", llmdiff_version(), llmdiff_precision(), team_built());
        return EXIT_OK;
    }
    if (help && strcmp(argv[2], "--completion") == 0) {
        print_completion();
        return EXIT_OK;
    }
    bool manual = help && strcmp(argv[2], "--man") == 0;
    if (manual && argc < 4) {
        print_manual(NULL);
        return EXIT_OK;
    }
    const Command *command = find_command(manual ? argv[3] : help ? argv[2] : word, err);
    if (!command) return EXIT_USAGE;
    if (help) {
        manual ? print_manual(command) : print_command_help(command);
        return EXIT_OK;
    }
    return run_command(command, argc - 2, argv + 2, err);
}

/* OpenMP's threads spin where they wait for each other, which on cores that other programs use too
 * makes a run tens of times slower (bench/RESULTS.md). libgomp reads its environment before main, so
 * the program starts itself once more with a policy, unless the user has set one. */
static void wait_without_spinning(char **argv) {
    char self[4096];
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0 || setenv("OMP_WAIT_POLICY", "passive", 1)) return;
    self[length] = '\0';
    /* OpenBLAS starts threads of its own when it is loaded, though none is ever used here. */
    setenv("OPENBLAS_NUM_THREADS", "1", 0);
    execv(self, argv);
}

/* OpenBLAS waits for memory for ever, even for the signal that should end it: told before it asks. */
static int check_address_space(llmdiff_error *err) {
    const rlim_t least = (rlim_t)512 << 20;
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= least)
        return 0;
    return cli_fail(err, "ulimit -v: expected at least %llu kB of address space, found %llu",
                    (unsigned long long)least / 1024, (unsigned long long)limit.rlim_cur / 1024);
}

int main(int argc, char **argv) {
    wait_without_spinning(argv);
    llmdiff_error err = {0};
    guard_standard_streams();
    catch_signals();
    int code = check_address_space(&err) ? EXIT_FAILED : dispatch(argc, argv, &err);
    if (code == EXIT_OK && cli_flush(&err)) code = EXIT_FAILED;
    if (err.status) print_error(err.message);
    return ferror(stderr) && code == EXIT_OK ? EXIT_FAILED : code;
}
