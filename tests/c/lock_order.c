/* Two caches under a lock each: one waits for it in its callback, one tries it. Then each lock is held around an allocation.
 * The first is a deadlock in waiting, and there was none. */
#include "check.h"

#include <ebbmalloc.h>
#include <pthread.h>

enum { LARGE = 4 << 20 };

struct cache {
    pthread_mutex_t mutex;
    ebb_lock_class_t *locks;
    int waits;
    int calls;
};

static void lock(struct cache *cache) {
    ebb_lock_waiting(cache->locks);
    pthread_mutex_lock(&cache->mutex);
    ebb_lock_acquired(cache->locks);
}

static void unlock(struct cache *cache) {
    ebb_lock_released(cache->locks);
    pthread_mutex_unlock(&cache->mutex);
}

static int count(void *context, const ebb_shrink_control_t *control, ebb_count_result_t *result) {
    struct cache *cache = context;
    (void)control, (void)result;
    cache->calls++;
    if (cache->waits) {
        lock(cache);
    } else {
        if (pthread_mutex_trylock(&cache->mutex) != 0) return EBB_COUNT_UNKNOWN;
        ebb_lock_acquired(cache->locks);
    }
    unlock(cache);
    return EBB_COUNT_EMPTY;
}

static int scan(void *context, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
    (void)context;
    (void)control;
    (void)result;
    return EBB_SCAN_STOP;
}

static void *allocate(size_t size) { return malloc(hidden(size)); }

int main(void) {
    static struct cache bad = {.mutex = PTHREAD_MUTEX_INITIALIZER, .waits = 1};
    static struct cache good = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    CHECK(ebb_lock_class_create(NULL, &bad.locks) == EINVAL && bad.locks == NULL);
    CHECK(ebb_lock_class_create("bad blocks", &bad.locks) == 0);
    CHECK(ebb_lock_class_create("good blocks", &good.locks) == 0);

    ebb_shrinker_t *registered[2];
    struct cache *caches[2] = {&bad, &good};
    for (int i = 0; i < 2; i++) {
        const ebb_shrinker_ops_t ops = {.name = "cache", .count = count, .scan = scan, .context = caches[i]};
        CHECK(ebb_shrinker_register(&ops, &registered[i]) == 0);
    }

    /* One half: a request that does not fit calls both. */
    ebb_set_budget(ebb_backed() + 6 * LARGE);
    void *first = allocate(4 * LARGE);
    CHECK(first != NULL);
    CHECK(ebb_mode_begin(EBB_MODE_RETRY_MAY_FAIL) == 0);
    CHECK(allocate(4 * LARGE) == NULL);
    CHECK(ebb_mode_end(EBB_MODE_RETRY_MAY_FAIL) == 0);
    ebb_set_budget(0);
    CHECK(bad.calls > 0 && good.calls > 0);
    CHECK(!ebb_lock_is_inverted(bad.locks) && !ebb_lock_is_inverted(good.locks));

    /* The other, twice: there is memory enough, and nobody is called. */
    for (int i = 0; i < 4; i++) {
        struct cache *cache = caches[i % 2];
        int calls = cache->calls;
        lock(cache);
        void *block = allocate(LARGE);
        unlock(cache);
        CHECK(block != NULL && cache->calls == calls);
        free(block);
    }
    CHECK(ebb_lock_is_inverted(bad.locks) == 1);
    CHECK(ebb_lock_is_inverted(good.locks) == 0);
    for (int i = 0; i < 2; i++) CHECK(ebb_shrinker_unregister(registered[i]) == 0);
    free(first);
    return 0;
}
