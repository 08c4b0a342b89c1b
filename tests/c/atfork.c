/* A library whose constructor comes before the allocator's, and whose fork handlers allocate: see forking.c. */
#include "check.h"

#include <pthread.h>

static void *kept;
unsigned handled;

static void handler(void) {
    free(kept);
    for (size_t size = 16; size < 5000000; size *= 7) {
        void *block = malloc(size);
        CHECK(block != NULL);
        free(block);
    }
    kept = malloc(1000);
    CHECK(kept != NULL);
    handled++;
}

__attribute__((constructor)) static void constructor(void) { CHECK(pthread_atfork(handler, handler, handler) == 0); }
