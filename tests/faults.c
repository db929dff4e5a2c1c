/* See faults.h. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "tests/faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef __GLIBC__

const char *faults_unsupported(void) {
    return "the allocator is replaced by way of glibc's __libc_malloc";
}
void faults_init(void) {}
void faults_begin(FaultMode mode, size_t k) { (void)mode, (void)k; }
Faults faults_end(void) { return (Faults){0}; }
uint64_t faults_site(size_t k) { return k; }
void faults_show(size_t k) { (void)k; }
size_t faults_leaked(void) { return 0; }

#else

#    include <execinfo.h>
#    include <link.h>
#    include <stdatomic.h>

#    ifdef __SANITIZE_ADDRESS__
#        include <cjson/cJSON.h>
#        include <png.h>
#        define ENTRY(name) __wrap_##name
#        define BASE(name) __real_##name
#        define ALIGNED_BASE __real_aligned_alloc
#    else
#        define ENTRY(name) name
#        define BASE(name) __libc_##name
#        define ALIGNED_BASE __libc_memalign /* with the same arguments */
#    endif

/* The names are the linker's and glibc's: nobody else declares them. */
void *BASE(malloc)(size_t size);
void *BASE(calloc)(size_t n, size_t size);
void *BASE(realloc)(void *p, size_t size);
void *ALIGNED_BASE(size_t alignment, size_t size);
void BASE(free)(void *p);
#    ifdef __SANITIZE_ADDRESS__
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *p);
char *__wrap_strdup(const char *text);
png_structp __wrap_png_create_write_struct(png_const_charp version, png_voidp self, png_error_ptr e,
                                           png_error_ptr w);
png_structp __wrap_png_create_read_struct(png_const_charp version, png_voidp self, png_error_ptr e,
                                          png_error_ptr w);
#    endif

enum { MAX_RECORDED = 1 << 17, LIVE_SLOTS = 1 << 16, MAX_FRAMES = 48, MAX_RANGES = 16 };

/* ---- who asks ------------------------------------------------------------------------------------ */

typedef struct Range {
    uintptr_t begin, end;
} Range;

typedef struct Ranges {
    Range range[MAX_RANGES];
    int count;
} Ranges;

static Ranges exempt, /* never fails, is not numbered */
    spared;           /* can do without some of what they ask for */

static bool within(const Ranges *r, const void *address) {
    uintptr_t a = (uintptr_t)address;
    for (int i = 0; i < r->count; i++)
        if (a >= r->range[i].begin && a < r->range[i].end) return true;
    return false;
}

static int note_object(struct dl_phdr_info *info, size_t size, void *self) {
    static const char *const apart[] = {"libgomp", "libopenblas", "libgfortran", "ld-linux"};
    static const char *const modest[] = {"libc.so", "libutf8proc", "libjpeg"};
    (void)size, (void)self;
    const char *slash = strrchr(info->dlpi_name, '/'), *name = slash ? slash + 1 : info->dlpi_name;
    Ranges *to = NULL;
    for (size_t i = 0; i < sizeof apart / sizeof apart[0]; i++)
        if (strncmp(name, apart[i], strlen(apart[i])) == 0) to = &exempt;
    for (size_t i = 0; i < sizeof modest / sizeof modest[0]; i++)
        if (strncmp(name, modest[i], strlen(modest[i])) == 0) to = &spared;
    for (int i = 0; to && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_X) || to->count == MAX_RANGES) continue;
        uintptr_t begin = info->dlpi_addr + h->p_vaddr;
        to->range[to->count++] = (Range){begin, begin + h->p_memsz};
    }
    return 0;
}

/* ---- the run ------------------------------------------------------------------------------------- */

static _Thread_local bool watched; /* this thread's allocations are numbered */
static atomic_bool running;        /* some thread's are */
static atomic_size_t other;
static FaultMode mode;
static size_t target, shown;
static Faults now;
static uint64_t site[MAX_RECORDED];

/* What is allocated: open addressing by address. */
static struct Live {
    void *p; /* NULL: free; GONE: was in use, look further */
    size_t number;
} live[LIVE_SLOTS];
#    define GONE ((void *)(uintptr_t)1)

static size_t live_slot(const void *p) {
    return (size_t)((uintptr_t)p * UINT64_C(0x9E3779B97F4A7C15) >> 40) % LIVE_SLOTS;
}

static void live_add(void *p, size_t number) {
    size_t i = live_slot(p);
    for (size_t n = 0; live[i].p && live[i].p != GONE; i = (i + 1) % LIVE_SLOTS)
        if (++n == LIVE_SLOTS) abort();
    live[i] = (struct Live){p, number};
    now.live++;
}

static bool live_remove(const void *p) {
    size_t i = live_slot(p);
    for (size_t n = 0; live[i].p && n < LIVE_SLOTS; i = (i + 1) % LIVE_SLOTS, n++)
        if (live[i].p == p) {
            live[i].p = GONE;
            now.live--;
            return true;
        }
    return false;
}

static uint64_t stack_hash(bool print) {
    void *frame[MAX_FRAMES];
    watched = false; /* backtrace may allocate */
    int n = backtrace(frame, MAX_FRAMES);
    uint64_t h = 0xCBF29CE484222325u;
    for (int i = 2; i < n; i++) h = (h ^ (uintptr_t)frame[i]) * 0x100000001B3u;
    if (print) backtrace_symbols_fd(frame, n, 2);
    watched = true;
    return h;
}

/* Numbers an allocation that `caller` asks for; true: it is to fail. */
static bool fails(const void *caller, bool aligned) {
    size_t k = ++now.count;
    if (mode == RECORD) {
        if (k >= MAX_RECORDED) abort();
        site[k] = stack_hash(false);
    }
    if (k == shown) stack_hash(true);
    bool fail = (mode == FAIL_ONE && k == target) || (mode == FAIL_FROM && k >= target) ||
                (mode == FAIL_ALIGNED && aligned);
    if (!fail) return false;
    now.failed++;
    now.failed_hard += !within(&spared, caller);
    errno = ENOMEM;
    return true;
}

/* Is this allocation one to be numbered? */
static bool counts(const void *caller) {
    if (watched) return !within(&exempt, caller);
    if (running && !within(&exempt, caller) && !within(&spared, caller)) other++;
    return false;
}

static void *made(void *p) {
    if (p) live_add(p, now.count);
    return p;
}

/* ---- malloc and its kin -------------------------------------------------------------------------- */

#    define CALLER __builtin_return_address(0)
/* For the libraries to find, too: the build hides what is not marked. */
#    define SEEN __attribute__((visibility("default")))

SEEN void *ENTRY(malloc)(size_t size) {
    if (!counts(CALLER)) return BASE(malloc)(size);
    return fails(CALLER, false) ? NULL : made(BASE(malloc)(size));
}

SEEN void *ENTRY(calloc)(size_t n, size_t size) {
    if (!counts(CALLER)) return BASE(calloc)(n, size);
    return fails(CALLER, false) ? NULL : made(BASE(calloc)(n, size));
}

SEEN void *ENTRY(realloc)(void *p, size_t size) {
    if (!counts(CALLER)) return BASE(realloc)(p, size);
    if (fails(CALLER, false)) return NULL;
    if (p) live_remove(p);
    return made(BASE(realloc)(p, size));
}

SEEN void *ENTRY(aligned_alloc)(size_t alignment, size_t size) {
    if (!counts(CALLER)) return ALIGNED_BASE(alignment, size);
    return fails(CALLER, true) ? NULL : made(ALIGNED_BASE(alignment, size));
}

SEEN void ENTRY(free)(void *p) {
    if (watched && p) live_remove(p);
    BASE(free)(p);
}

#    ifdef __SANITIZE_ADDRESS__
/* In the plain build strdup is libc's and calls our malloc. */
char *__wrap_strdup(const char *text) {
    if (!counts(CALLER)) return __real_strdup(text);
    return fails(CALLER, false) ? NULL : made(__real_strdup(text));
}

static png_voidp png_get(png_structp png, png_alloc_size_t size) {
    (void)png;
    return __wrap_malloc(size);
}

static void png_put(png_structp png, png_voidp p) {
    (void)png;
    __wrap_free(p);
}

png_structp __wrap_png_create_write_struct(png_const_charp version, png_voidp self, png_error_ptr e,
                                           png_error_ptr w) {
    return png_create_write_struct_2(version, self, e, w, NULL, png_get, png_put);
}

png_structp __wrap_png_create_read_struct(png_const_charp version, png_voidp self, png_error_ptr e,
                                          png_error_ptr w) {
    return png_create_read_struct_2(version, self, e, w, NULL, png_get, png_put);
}
#    endif

/* ---- the rest ------------------------------------------------------------------------------------ */

const char *faults_unsupported(void) { return NULL; }

void faults_init(void) {
    void *frame[2];
    backtrace(frame, 2); /* loads libgcc now, not in the middle of an allocation */
    dl_iterate_phdr(note_object, NULL);
#    ifdef __SANITIZE_ADDRESS__
    cJSON_InitHooks(&(cJSON_Hooks){__wrap_malloc, __wrap_free});
#    endif
}

void faults_begin(FaultMode how, size_t k) {
    memset(live, 0, sizeof live);
    now = (Faults){0};
    mode = how;
    target = k;
    other = 0;
    running = watched = true;
}

Faults faults_end(void) {
    running = watched = false;
    now.other = other;
    shown = 0;
    return now;
}

uint64_t faults_site(size_t k) { return site[k]; }
void faults_show(size_t k) { shown = k; }

size_t faults_leaked(void) {
    for (size_t i = 0; i < LIVE_SLOTS; i++)
        if (live[i].p && live[i].p != GONE) return live[i].number;
    return 0;
}

#endif
