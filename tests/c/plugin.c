/* A plugin with a cache of its own: see unload.c. */
#define _GNU_SOURCE
#include "check.h"

#include <ebbmalloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* Never held while something is allocated: then the cache itself may be asked. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *blocks[64];
static size_t used;
static ebb_shrinker_t *shrinker;
static atomic_size_t calls;

static int count(void *context, const ebb_shrink_control_t *control, ebb_count_result_t *result) {
    (void)context, (void)control;
    calls++;
    struct timespec moment = {.tv_nsec = 50000};
    nanosleep(&moment, NULL); /* so that threads are mostly in here: it must not be unloaded meanwhile */
    if (pthread_mutex_trylock(&lock) != 0) return EBB_COUNT_UNKNOWN;
    result->objects = used;
    pthread_mutex_unlock(&lock);
    return EBB_COUNT_OBJECTS;
}

static int scan(void *context, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
    (void)context;
    if (pthread_mutex_trylock(&lock) != 0) return EBB_SCAN_STOP;
    while (used > 0 && result->objects < control->to_scan) {
        ebb_free(blocks[--used]);
        result->objects += 1, result->bytes += 1 << 20;
    }
    pthread_mutex_unlock(&lock);
    return EBB_SCAN_FREED;
}

/* Fills the cache; a block of another kind, for the host to keep. */
void *plugin_begin(void) {
    char *kept = ebb_calloc(1, 1000);
    CHECK(kept != NULL);
    strcpy(kept, "outlives the plugin");
    ebb_shrinker_ops_t ops = {.name = "plugin", .count = count, .scan = scan};
    CHECK(ebb_shrinker_register(&ops, &shrinker) == 0);
    void *block;
    /* Others may empty it meanwhile; but not for ever. */
    for (int i = 0; i < 256 && used < 64 && (block = ebb_malloc(1 << 20)) != NULL; i++) {
        pthread_mutex_lock(&lock);
        blocks[used++] = block;
        pthread_mutex_unlock(&lock);
    }
    return kept;
}

/* How often it was called. */
size_t plugin_calls(void) { return calls; }

/* How many blocks are left. Its callbacks are never called again. */
size_t plugin_end(void) {
    CHECK(ebb_shrinker_unregister(shrinker) == 0);
    size_t left = used;
    while (used > 0) ebb_free(blocks[--used]);
    return left;
}
