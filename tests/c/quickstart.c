#include <ebbmalloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *pages[100000]; /* the cache: it only ever grows ... */
static size_t used;

static int count(void *context, const ebb_shrink_control_t *control, ebb_count_result_t *result) {
    (void)context, (void)control;
    if (pthread_mutex_trylock(&lock) != 0) return EBB_COUNT_UNKNOWN;
    result->objects = used;
    pthread_mutex_unlock(&lock);
    return EBB_COUNT_OBJECTS;
}

static int scan(void *context, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
    (void)context;
    if (pthread_mutex_trylock(&lock) != 0) return EBB_SCAN_STOP; /* never wait in here */
    while (used > 0 && result->objects < control->to_scan) {
        free(pages[--used]);
        result->objects += 1;
        result->bytes += 4096;
    }
    pthread_mutex_unlock(&lock);
    return EBB_SCAN_FREED;
}

int main(void) {
    ebb_shrinker_t *shrinker;
    ebb_shrinker_ops_t ops = {.name = "pages", .count = count, .scan = scan};
    ebb_set_budget(64 << 20);
    if (ebb_shrinker_register(&ops, &shrinker) != 0) return 1;
    for (int i = 0; i < 100000; i++) { /* ... 400 MB in 64 MB */
        void *page = malloc(4096);     /* ... and yet this never fails */
        if (page == NULL) return 1;
        pthread_mutex_lock(&lock);
        pages[used++] = page;
        pthread_mutex_unlock(&lock);
    }
    printf("%zu pages left, %zu bytes backed\n", used, ebb_backed());
    return ebb_shrinker_unregister(shrinker);
}
