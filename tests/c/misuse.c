/* Frees what must not be freed, in the way its arguments say. The allocator ends the process. What it should name is
 * written to standard output before. */
#define _GNU_SOURCE
#include "check.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

static uintptr_t address;
static size_t size_of_handler;

/* Announces a pointer, which is no block any more or never was one. The compiler does not know it. */
static void *bad(uintptr_t pointer) {
    volatile uintptr_t stored = pointer;
    printf("%#" PRIxPTR "\n", stored);
    return (void *)stored;
}

static void free_bad(uintptr_t pointer) { free(bad(pointer)); }

/* From now on on this CPU: a second free is seen at once only where the first one was made. */
static void stay(void) {
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    CHECK(sched_setaffinity(0, sizeof here, &here) == 0);
}

static void *free_it(void *block) {
    free(block);
    return NULL;
}

enum { BLOCKS = 100000 };
static void *blocks[BLOCKS];

/* Two frees with others in between; seen when both come to the bitmap. Its neighbour keeps the slab. */
static void twice_later(size_t size) {
    for (int i = 0; i < BLOCKS; i++) CHECK((blocks[i] = malloc(size)) != NULL);
    for (int i = 0; i < BLOCKS; i++)
        if (i != 6) free(blocks[i]);
    free_bad((uintptr_t)blocks[5]);
    malloc_trim(0);
}

/* The same by two threads, each into its own CPU's sheaf perhaps. */
static void twice_on_threads(size_t size) {
    for (int i = 0; i < BLOCKS; i++) CHECK((blocks[i] = malloc(size)) != NULL);
    void *again = bad((uintptr_t)blocks[5]);
    free(again);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_it, again) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    for (int i = 6; i < BLOCKS; i++) free(blocks[i]);
    malloc_trim(0);
}

/* Something inside a small object: seen when it comes to the bitmap. */
static void inside_small(size_t size) {
    void *block = malloc(size);
    CHECK(block != NULL);
    free_bad((uintptr_t)block + 16);
    malloc_trim(0);
}

/* A handler that allocates, as those that print a stack do. */
static void handler(int signal) {
    void *block = malloc(size_of_handler);
    free(block);
    _exit(block != NULL && signal == SIGABRT ? 42 : 1);
}

static void misuse(const char *kind, size_t size, size_t alignment) {
    static char data[64];
    char local[64];
    if (strcmp(kind, "wild") == 0) free_bad(size);
    void *block = alignment == 0 ? malloc(size) : aligned_alloc(alignment, size);
    CHECK(block != NULL);
    address = (uintptr_t)block;
    if (strcmp(kind, "twice") == 0) stay(), free(block), free_bad(address);
    if (strcmp(kind, "realloc-free") == 0) free(block), address += (uintptr_t)realloc(bad(address), 100);
    if (strcmp(kind, "size-free") == 0) free(block), address += malloc_usable_size(bad(address));
    if (strcmp(kind, "inside") == 0) free_bad(address + 16);
    if (strcmp(kind, "inside-page") == 0) free_bad(address + 4096);
    if (strcmp(kind, "inside-slice") == 0) free_bad(address + 65536);
    if (strcmp(kind, "before") == 0) free_bad(address - 16);
    if (strcmp(kind, "later") == 0) twice_later(size);
    if (strcmp(kind, "threads") == 0) twice_on_threads(size);
    if (strcmp(kind, "small") == 0) inside_small(size);
    if (strcmp(kind, "stack") == 0) free_bad((uintptr_t)local & ~(uintptr_t)15);
    if (strcmp(kind, "data") == 0) free_bad(((uintptr_t)data + 15) & ~(uintptr_t)15);
    if (strcmp(kind, "code") == 0) free_bad((uintptr_t)misuse & ~(uintptr_t)15);
}

int main(int argc, char **argv) {
    CHECK(argc >= 4);
    CHECK(setvbuf(stdout, NULL, _IONBF, 0) == 0); /* a buffer would take the place of what was freed */
    if (argc > 4) {
        size_of_handler = strtoull(argv[4], NULL, 0);
        CHECK(signal(SIGABRT, handler) != SIG_ERR);
    }
    misuse(argv[1], strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
    return 0;
}
