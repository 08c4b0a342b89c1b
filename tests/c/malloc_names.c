/* The standard names, as C, POSIX and glibc define them. Links to nothing of ours, so it also runs preloaded. */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((weak)) size_t ebb_backed(void);
__attribute__((weak)) void free_sized(void *, size_t);
__attribute__((weak)) void free_aligned_sized(void *, size_t, size_t);

static int aligned(const void *block, size_t alignment) { return (uintptr_t)block % alignment == 0; }

static int all(const unsigned char *block, size_t size, unsigned char byte) {
    for (size_t i = 0; i < size; i++)
        if (block[i] != byte) return 0;
    return 1;
}

static void zero_sizes(void) {
    char *a = malloc(hidden(0)), *b = malloc(hidden(0)), *c = calloc(hidden(0), 8), *d = realloc(NULL, hidden(0));
    CHECK(a && b && c && d);
    CHECK(a != b && b != c && c != d && a != c && a != d && b != d);
    errno = 77;
    CHECK(realloc(a, hidden(0)) == NULL && errno == 77); /* freed, as glibc does */
    free(b), free(c), free(d), free(NULL);
    CHECK(errno == 77);
}

static void too_large(void) {
    size_t half = hidden(SIZE_MAX / 2 + 1);
    errno = 0;
    CHECK(malloc(hidden(SIZE_MAX)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(malloc(half) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(half, 2) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(half, 1) == NULL && errno == ENOMEM);
    char *kept = malloc(100);
    memset(kept, 'k', 100);
    errno = 0;
    CHECK(realloc(kept, hidden(SIZE_MAX)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(reallocarray(kept, half, 2) == NULL && errno == ENOMEM);
    CHECK(all((unsigned char *)kept, 100, 'k'));
    free(kept);
    errno = 0;
    CHECK(pvalloc(hidden(SIZE_MAX - 10)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(aligned_alloc(64, hidden(SIZE_MAX - 63)) == NULL && errno == ENOMEM);
}

static void contents(void) {
    errno = 77;
    for (size_t size = 1; size < (64u << 20); size = size * 3 + 1) {
        unsigned char *block = malloc(size);
        CHECK(block && aligned(block, size < 16 ? 8 : 16));
        size_t usable = malloc_usable_size(block);
        CHECK(usable >= size);
        memset(block, 0xa5, usable);
        block = realloc(block, size * 2);
        CHECK(block && all(block, size, 0xa5));
        memset(block, 0x5a, size * 2);
        block = reallocarray(block, 1, size / 2 + 1);
        CHECK(block && all(block, size / 2 + 1, 0x5a));
        free(block);
        CHECK(errno == 77); /* free keeps it; success has no business with it either */
        block = calloc(1, size);
        CHECK(block && all(block, size, 0));
        free(block);
    }
    CHECK(malloc_usable_size(NULL) == 0);
    CHECK(errno == 77);
}

static void alignments(void) {
    for (size_t alignment = 1; alignment <= (1u << 30); alignment *= 2) {
        for (size_t size = 1; size <= 100000; size = size * 7 + 3) {
            char *a = aligned_alloc(alignment, size), *b = memalign(alignment, size);
            CHECK(a && b && aligned(a, alignment) && aligned(b, alignment));
            memset(a, 1, size), memset(b, 2, size);
            free(a), free(b);
        }
    }
    char *rounded = memalign(hidden(48), 100);
    CHECK(rounded && aligned(rounded, 64));
    char *page = valloc(100), *pages = pvalloc(5000);
    CHECK(aligned(page, 4096) && aligned(pages, 4096) && malloc_usable_size(pages) >= 8192);
    free(rounded), free(page), free(pages);
    errno = 0;
    CHECK(aligned_alloc(hidden(48), 96) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(aligned_alloc(hidden(0), 96) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(memalign(hidden(SIZE_MAX), 96) == NULL && errno == EINVAL);
}

static void memalign_of_posix(void) {
    void *const untouched = &errno;
    void *out = untouched;
    errno = 77;
    CHECK(posix_memalign(&out, hidden(0), 8) == EINVAL && out == untouched);
    CHECK(posix_memalign(&out, hidden(4), 8) == EINVAL && out == untouched);
    CHECK(posix_memalign(&out, hidden(24), 8) == EINVAL && out == untouched);
    CHECK(posix_memalign(&out, 64, hidden(SIZE_MAX - 63)) == ENOMEM && out == untouched);
    CHECK(posix_memalign(&out, 8, hidden(0)) == 0 && out && out != untouched);
    free(out);
    CHECK(posix_memalign(&out, 1 << 16, 1000) == 0 && aligned(out, 1 << 16));
    free(out);
    CHECK(errno == 77);
}

static void of_c23(void) {
    if (free_sized) free_sized(malloc(100), 100), free_sized(NULL, 0);
    if (free_aligned_sized) free_aligned_sized(aligned_alloc(256, 512), 256, 512);
}

/* Blocks made inside the C library come from here too. */
static void c_library(void) {
    char *copy = strdup("copied"), *text = NULL, *line = NULL;
    size_t room = 0;
    CHECK(asprintf(&text, "%s %d", copy, 42) == 9 && strcmp(text, "copied 42") == 0);
    FILE *stream = fmemopen(text, 9, "r");
    CHECK(getline(&line, &room, stream) == 9);
    fclose(stream);
    free(copy), free(text), free(line);
}

enum { BLOCKS = 2000, THREADS = 8 };
static void *shared[THREADS][BLOCKS];

static void *fill(void *row) {
    void **blocks = row;
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc((size_t)(i % 300) * 17 + 1);
        CHECK(blocks[i]);
        memset(blocks[i], i, (size_t)(i % 300) * 17 + 1);
    }
    return NULL;
}

static void *drain(void *row) {
    void **blocks = row;
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(all(blocks[i], (size_t)(i % 300) * 17 + 1, (unsigned char)i));
        free(blocks[i]);
    }
    return NULL;
}

static void on_threads(void *(*work)(void *)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, shared[i]) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void in_child(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        contents();
        on_threads(fill), on_threads(drain);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
    CHECK(ebb_backed || dlsym(RTLD_DEFAULT, "ebb_backed")); /* else this would test the system's malloc */
    zero_sizes();
    too_large();
    contents();
    alignments();
    memalign_of_posix();
    of_c23();
    c_library();
    on_threads(fill);
    in_child();
    on_threads(drain);
    CHECK(malloc_trim(0) == 0 || malloc_trim(0) == 0);
    puts("malloc_names: ok");
    return 0;
}
