/* Allocations that fail on purpose.
 *
 *     faults_begin(RECORD, 0);      run();   Faults all = faults_end();    // how many there are, where
 *     faults_begin(FAIL_ONE, k);    run();   Faults f = faults_end();      // number k failed
 *
 * Between begin and end every allocation of the calling thread is numbered, from 1 on: our own and
 * those that cJSON, libpng, libjpeg, zlib, utf8proc and libc make for us. Not numbered and never failed:
 * libgomp's, which ends the process when it gets no memory; OpenBLAS's, which does the same; and the
 * dynamic loader's. libc, utf8proc and libjpeg can do without some of what they ask for (qsort's buffer, a
 * stream's, a realloc that makes smaller, a pool that might have been larger), which failed_hard therefore
 * leaves out.
 *
 * Plain build: the test program defines malloc and its kin itself, so that every library in the
 * process calls these, and the caller's address tells who asks. Under AddressSanitizer malloc is the
 * sanitizer's: our own objects are linked with --wrap, cJSON gets its hooks, libpng (and through it
 * zlib) its allocator; libjpeg's, libc's and utf8proc's stay out there. */
#ifndef LLMDIFF_FAULTS_H
#define LLMDIFF_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum FaultMode {
    RECORD,      /* nothing fails; each one's site is kept */
    FAIL_NONE,   /* nothing fails */
    FAIL_ONE,    /* number k fails */
    FAIL_FROM,   /* k and all that follow: what cleans up gets no memory either */
    FAIL_ALIGNED /* every aligned_alloc: the arena's blocks */
} FaultMode;

typedef struct Faults {
    size_t count;       /* allocations numbered */
    size_t failed;      /* of them, how many failed */
    size_t failed_hard; /* of them, those that nobody can do without */
    size_t live;        /* still allocated at the end */
    size_t other;       /* made for us by other threads, and so not numbered: 0 */
} Faults;

/* Why there can be no faults here, or NULL. */
const char *faults_unsupported(void);
/* Once, before anything else. */
void faults_init(void);
void faults_begin(FaultMode mode, size_t k);
Faults faults_end(void);
/* After RECORD: where allocation k was made, as a hash of all return addresses up to main. */
uint64_t faults_site(size_t k);
/* Prints the stack of allocation k (exe+offset: addr2line -fe) when it is made in the next run. */
void faults_show(size_t k);
/* The number of an allocation that the last run left behind, 0 if there is none. */
size_t faults_leaked(void);

#endif
