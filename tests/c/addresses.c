/* The system has no more addresses, and many threads fail for the first time: each walks the list of shrinkers, which needs
 * some memory for that, and gets NULL. None of them ends the process. */
#include "check.h"

#include <ebbmalloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>

#define THREADS 100

static sem_t go, done;

static int count(void *context, const ebb_shrink_control_t *control, ebb_count_result_t *result) {
    (void)control, (void)result;
    __atomic_fetch_add((size_t *)context, 1, __ATOMIC_RELAXED);
    return EBB_COUNT_EMPTY;
}

static int scan(void *context, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
    (void)context, (void)control, (void)result;
    return EBB_SCAN_STOP;
}

/* Larger than what others may have left of a unit of address space. */
static void *fail(void *unused) {
    (void)unused;
    CHECK(sem_wait(&go) == 0);
    CHECK(ebb_malloc(3 << 20) == NULL);
    CHECK(sem_post(&done) == 0);
    return NULL;
}

int main(void) {
    size_t calls = 0;
    ebb_shrinker_t *shrinker;
    ebb_shrinker_ops_t ops = {.name = "empty", .count = count, .scan = scan, .context = &calls};
    CHECK(ebb_shrinker_register(&ops, &shrinker) == 0);
    CHECK(sem_init(&go, 0, 0) == 0 && sem_init(&done, 0, 0) == 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, fail, NULL) == 0);

    struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY}; /* less than it has already */
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    /* Never freed, and untouched, since it may be tens of MiB. */
    static const size_t sizes[] = {1 << 20, 64 << 10, 4000, 1000, 250, 64, 16};
    for (int i = 0; i < 7; i++)
        while (ebb_malloc(sizes[i]) != NULL) {}
    size_t before = calls;
    for (int i = 0; i < THREADS; i++) CHECK(sem_post(&go) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(sem_wait(&done) == 0);
    CHECK(calls > before);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(ebb_shrinker_unregister(shrinker) == 0);
    return 0;
}
