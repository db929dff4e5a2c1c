/* System calls that change the disk: counted, and one of them fails, or the process doesn't survive it. The
 * linker puts these in between (--wrap, see the Makefile), in our own objects. */
#ifndef LLMDIFF_DISK_CALLS_H
#define LLMDIFF_DISK_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef enum CallMode { CALLS_WORK, CALL_FAILS, CALLS_FAIL_FROM, CALL_DIES } CallMode;
static CallMode call_mode;
static int calls, call_at; /* made so far; the one that fails */
static char order[64];     /* a letter for each */

static bool refuse(char letter) {
    if (calls + 1 < (int)sizeof order) order[calls] = letter;
    calls++;
    if (call_mode == CALLS_WORK || calls < call_at) return false;
    if (call_mode != CALLS_FAIL_FROM && calls > call_at) return false;
    if (call_mode == CALL_DIES) raise(SIGKILL);
    errno = ENOSPC;
    return true;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode) {
    return (flags & O_CREAT) && refuse('o') ? -1 : __real_open(path, flags, mode);
}
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode) {
    return refuse('m') ? -1 : __real_mkdir(path, mode);
}
/* Nothing here takes the power away, and waiting for the disk thousands of times takes minutes. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
    struct stat st;
    if (fstat(fd, &st)) return -1;
    return refuse(S_ISDIR(st.st_mode) ? 'd' : 'f') ? -1 : 0;
}
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to) {
    return refuse('r') ? -1 : __real_rename(from, to);
}
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path) { return refuse('u') ? -1 : __real_unlink(path); }
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);
int __wrap_rmdir(const char *path) { return refuse('x') ? -1 : __real_rmdir(path); }

int __real_remove(const char *path);
int __wrap_remove(const char *path);
int __wrap_remove(const char *path) { return refuse('u') ? -1 : __real_remove(path); }
/* A line of the log */
int __real_fflush(FILE *f);
int __wrap_fflush(FILE *f);
int __wrap_fflush(FILE *f) { return f && refuse('l') ? -1 : __real_fflush(f); }

#endif
