/* Threads that are cancelled while their allocation calls a cache, which sleeps: they end only after it, and the cache is as
 * good as before. The same where an allocation fails and says so, where a cache is scanned by hand or all are dropped, and where
 * slabs of an object cache are made and given back. */
#include "check.h"

#include <ebbmalloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *blocks[24];
static size_t used, scans;
static int waits; /* whether `scan` says that it is there, and waits until the thread was cancelled */
static sem_t inside, cancelled;

static int count(void *context, const ebb_shrink_control_t *control, ebb_count_result_t *result) {
    (void)context, (void)control;
    if (pthread_mutex_trylock(&lock) != 0) return EBB_COUNT_UNKNOWN;
    result->objects = used;
    pthread_mutex_unlock(&lock);
    return EBB_COUNT_OBJECTS;
}

static int scan(void *context, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
    (void)context;
    scans++;
    if (waits) {
        waits = 0;
        CHECK(sem_post(&inside) == 0 && sem_wait(&cancelled) == 0);
    }
    struct timespec moment = {.tv_nsec = 1000};
    CHECK(nanosleep(&moment, NULL) == 0); /* here it would be cancelled */
    if (pthread_mutex_trylock(&lock) != 0) return EBB_SCAN_STOP;
    while (used > 0 && result->objects < control->to_scan) {
        ebb_free(blocks[--used]);
        result->objects += 1, result->bytes += 1 << 20;
    }
    pthread_mutex_unlock(&lock);
    return EBB_SCAN_FREED;
}

static void fill(void) {
    while (used < 24) {
        void *block = ebb_malloc(1 << 20);
        CHECK(block != NULL);
        blocks[used++] = block;
    }
}

/* What a thread got, and whether its allocation returned. */
static void *block;
static int returned;

static void *allocate(void *bytes) {
    block = ebb_malloc((size_t)bytes);
    returned = 1;
    pthread_testcancel();
    CHECK(!"the thread was not cancelled");
    return NULL;
}

/* Its cancellation is due before it allocates. */
static void *allocate_cancelled(void *bytes) {
    CHECK(pthread_cancel(pthread_self()) == 0);
    return allocate(bytes);
}

/* Objects that are made and ended while the thread sleeps. */
static size_t objects;

static void make(void *context, void *object) {
    (void)context, (void)object;
    struct timespec moment = {.tv_nsec = 1000};
    CHECK(nanosleep(&moment, NULL) == 0);
    objects++;
}

static void unmake(void *context, void *object) {
    make(context, object);
    objects -= 2;
}

/* What else calls the program: the cache of that number by hand, all of them, the objects of an object cache. */
static void *call_all(void *id) {
    CHECK(pthread_cancel(pthread_self()) == 0);
    ebb_scan_result_t result;
    CHECK(ebb_shrinker_scan(*(uint64_t *)id, 0, 1, &result) == 0 && result.objects == 1);
    CHECK(ebb_drop_caches() > 0 && used == 0);
    ebb_cache_t *cache;
    ebb_cache_ops_t ops = {.name = "sleepy", .object_size = 1000, .construct = make, .destroy = unmake};
    CHECK(ebb_cache_create(&ops, &cache) == 0);
    void *object = ebb_cache_alloc(cache);
    CHECK(object && objects > 0);
    ebb_cache_free(cache, object);
    CHECK(ebb_purge() > 0 && objects == 0);
    CHECK(ebb_cache_destroy(cache) == 0);
    returned = 1;
    pthread_testcancel();
    CHECK(!"the thread was not cancelled");
    return NULL;
}

/* A thread that allocates so much is cancelled: in the cache, or before. */
static void cancel(int in_the_cache, size_t bytes) {
    pthread_t thread;
    void *result;
    returned = 0, waits = in_the_cache;
    CHECK(pthread_create(&thread, NULL, in_the_cache ? allocate : allocate_cancelled, (void *)bytes) == 0);
    if (in_the_cache) {
        CHECK(sem_wait(&inside) == 0);
        CHECK(pthread_cancel(thread) == 0 && sem_post(&cancelled) == 0);
    }
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED && returned);
}

int main(void) {
    alarm(100);
    CHECK(sem_init(&inside, 0, 0) == 0 && sem_init(&cancelled, 0, 0) == 0);
    ebb_shrinker_t *shrinker;
    ebb_shrinker_ops_t ops = {.name = "sleepy", .count = count, .scan = scan, .deadline_us = 100000000};
    CHECK(ebb_shrinker_register(&ops, &shrinker) == 0);
    ebb_purge();
    ebb_set_budget(ebb_backed() + (32 << 20));
    for (int i = 0; i < 20; i++) {
        fill();
        size_t before = scans;
        cancel(i % 2, 16 << 20);
        CHECK(block != NULL && scans > before);
        ebb_free(block);
        fill();
        before = scans;
        block = ebb_malloc(16 << 20); /* nobody is in the cache any more */
        CHECK(block != NULL && scans > before);
        ebb_free(block);
    }
    cancel(0, (size_t)1 << 30); /* fails, with a report */
    CHECK(block == NULL);
    fill();
    pthread_t thread;
    void *result;
    uint64_t id = ebb_shrinker_find("sleepy");
    returned = 0;
    CHECK(id != 0 && pthread_create(&thread, NULL, call_all, &id) == 0);
    CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED && returned);
    CHECK(ebb_shrinker_unregister(shrinker) == 0);
    while (used > 0) ebb_free(blocks[--used]);
    cancel(0, (size_t)1 << 30);
    CHECK(block == NULL);
    return 0;
}
