/* Running the program in a directory of its own, and looking at what it printed and left.
 *
 *     Result r = RUN("generate", "-m", MICRO, "-p", "a", "-o", "@/a.png");
 *     assert_int_equal(r.code, 0);
 *     assert_string_equal(r.out, "@/a.png: 16 x 16, seed 42\n");
 *
 * '@' is the test's directory, in arguments as in what was printed. Each test has a fresh one. */
#ifndef LLMDIFF_CLI_RUN_H
#define LLMDIFF_CLI_RUN_H

#include "check.h"

#include "weights/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MICRO "golden/micro"
#define MAX_ARGS 60

typedef struct Result {
    int code; /* exit code; 128 + n if signal n ended it */
    char out[32768], err[16384];
} Result;

static char work[64];    /* '@' */
static char capture[64]; /* what was printed, apart from what was written */

static int fresh_directory(void **state) {
    (void)state;
    strcpy(work, "/tmp/llmdiff-cli-XXXXXX");
    strcpy(capture, "/tmp/llmdiff-cap-XXXXXX");
    return mkdtemp(work) && mkdtemp(capture) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s' '%s'", work, capture);
    return system(command);
}

/* `from` with every `old` as `new`. */
static void replace_all(char *to, size_t size, const char *from, const char *old, const char *new) {
    size_t used = 0;
    while (*from && used + strlen(new) + 2 < size) {
        if (strncmp(from, old, strlen(old)) == 0) {
            used += (size_t)snprintf(to + used, size - used, "%s", new);
            from += strlen(old);
        } else {
            to[used++] = *from++;
        }
    }
    to[used] = '\0';
}

/* The path that "@/name" stands for; the last few results stay valid. */
static const char *path(const char *name) {
    static char text[4][4096];
    static unsigned turn;
    char *to = text[turn++ % 4];
    replace_all(to, sizeof text[0], name, "@", work);
    return to;
}

static void read_captured(const char *name, char *out, size_t size) {
    char file[128];
    Error err = {0};
    size_t n;
    snprintf(file, sizeof file, "%s/%s", capture, name);
    char *text = file_read(file, &n, &err);
    if (!text) fail_msg("%s", err.message);
    replace_all(out, size, text, work, "@");
    free(text);
}

/* So that a test may look before the program has begun. */
static void create_captured(const char *name) {
    char file[128];
    snprintf(file, sizeof file, "%s/%s", capture, name);
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    fclose(f);
}

/* Starts the program; `how` is a shell redirection of its own ("", ">&-", ">/dev/full"). */
static pid_t start(const char *how, const char *const *args) {
    char script[512], *argv[MAX_ARGS + 5] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                                             script, (char *)(uintptr_t) "sh"};
    snprintf(script, sizeof script, "exec " LLMDIFF_PROGRAM " \"$@\" >%s/out 2>%s/err %s", capture,
             capture, how);
    int n = 4;
    char *copies[MAX_ARGS];
    for (int i = 0; args[i]; i++, n++) {
        assert_true(i < MAX_ARGS);
        copies[i] = argv[n] = malloc(8192);
        replace_all(argv[n], 8192, args[i], "@", work);
    }
    argv[n] = NULL;
    create_captured("out");
    create_captured("err");
    pid_t child = fork();
    if (child == 0) { /* as from a terminal, whatever this process inherited (nohup ignores) */
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        execv("/bin/sh", argv);
        _exit(127);
    }
    for (int i = 0; args[i]; i++) free(copies[i]);
    assert_true(child > 0);
    return child;
}

static Result result_of(int status) {
    Result r;
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    read_captured("out", r.out, sizeof r.out);
    read_captured("err", r.err, sizeof r.err);
    return r;
}

static Result finish(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return result_of(status);
}

/* For a program that might not end: looks at it 100 times a second. */
static inline bool ended(pid_t child, int *status) {
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    return waitpid(child, status, WNOHANG) == child;
}

#define PATIENCE (60 * 100)

/* Sends the signal as soon as the program has printed a line on stderr, and fails the test if it
 * ended before or is there a minute later. */
static inline Result interrupt(pid_t child, int number) {
    char err[1024] = "";
    int status, looks = 0;
    while (!strchr(err, '\n')) {
        bool over = ended(child, &status), late = ++looks > PATIENCE;
        read_captured("err", err, sizeof err);
        if (late && !over) kill(child, SIGKILL), finish(child);
        if (over || late) fail_msg("%s: %s", over ? "ended by itself" : "printed nothing", err);
    }
    kill(child, number);
    for (looks = 0; !ended(child, &status); looks++) {
        if (looks < PATIENCE) continue;
        kill(child, SIGKILL);
        finish(child);
        fail_msg("signal %d did not end it", number);
    }
    return result_of(status);
}

static inline Result run(const char *how, const char *const *args) {
    return finish(start(how, args));
}

#define RUN(...) run("", (const char *[]){__VA_ARGS__, NULL})
#define RUN_WITH(how, ...) run(how, (const char *[]){__VA_ARGS__, NULL})

/* A small picture of micro, quiet; and an encoding. More options may follow. */
#define GENERATE(...)                                                                              \
    RUN("generate", "-m", MICRO, "-p", "a red circle", "-o", "@/x.png", "--steps", "2", "--quiet", \
        "--enlarge", "1", __VA_ARGS__)

static inline void assert_ok(Result r) {
    if (r.code != 0 || r.err[0]) fail_msg("exit code %d: %s", r.code, r.err);
}

/* One line, whole: "llmdiff: <message>". */
static inline void assert_error(Result r, int code, const char *message) {
    char line[16384];
    snprintf(line, sizeof line, "llmdiff: %s\n", message);
    assert_string_equal(r.err, line);
    assert_int_equal(r.code, code);
    assert_string_equal(r.out, "");
}

static inline void assert_error_holds(Result r, int code, const char *part) {
    if (strncmp(r.err, "llmdiff: ", 9) != 0 || !strstr(r.err, part))
        fail_msg("expected \"%s\", found: %s", part, r.err);
    assert_non_null(strchr(r.err, '\n'));
    assert_string_equal(strchr(r.err, '\n'), "\n");
    assert_int_equal(r.code, code);
}

static inline void assert_holds(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected \"%s\" in:\n%s", part, text);
}

/* Names in the test's directory, sorted, a blank after each. */
static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}
static inline void assert_directory(const char *expected) {
    char *names[64], all[2048] = "";
    size_t n = 0, used = 0;
    DIR *d = opendir(work);
    for (struct dirent *e; (e = readdir(d)) && n < 64;)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, n, sizeof names[0], by_name);
    for (size_t i = 0; i < n; i++) {
        used += (size_t)snprintf(all + used, sizeof all - used, "%s ", names[i]);
        free(names[i]);
    }
    assert_string_equal(all, expected);
}

static inline char *contents(const char *name, size_t *size) {
    Error err = {0};
    char *bytes = file_read(path(name), size, &err);
    if (!bytes) fail_msg("%s", err.message);
    return bytes;
}

static inline bool same_file(const char *a, const char *b) {
    size_t n, m;
    char *x = contents(a, &n), *y = contents(b, &m);
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

static inline void put(const char *name, const char *bytes, size_t size) {
    FILE *f = fopen(path(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static inline void put_text(const char *name, const char *text) { put(name, text, strlen(text)); }

#endif
