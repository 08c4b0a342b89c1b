/* Many threads come to the end of the memory for the first time, and take what is left there: of the addresses, of the budget
 * or of the nodes' budgets, as the first argument says; the second one is how many threads. Each would walk the list of
 * shrinkers, which needs some memory for that, and which it may not have any more. When all have, they exit, and try once more
 * as their last act; and as many others begin, which take what those had: as often as the third argument says. None of them
 * ends the process, or takes much more than there may be. */
#include "check.h"

#include <ebbmalloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>

enum { MOST = 10000, EXCESS = 2 << 20 };

static sem_t *begin, done, *end;
static pthread_t threads[MOST];
static pthread_key_t last_act;
static size_t most = SIZE_MAX;

static int count(void *context, const ebb_shrink_control_t *control, ebb_count_result_t *result) {
    (void)control, (void)result;
    __atomic_fetch_add((size_t *)context, 1, __ATOMIC_RELAXED);
    return EBB_COUNT_EMPTY;
}

static int scan(void *context, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
    (void)context, (void)control, (void)result;
    return EBB_SCAN_STOP;
}

/* All there is. Never freed, and untouched, since it may be tens of MiB. */
static void take(void) {
    static const size_t sizes[] = {3 << 20, 1 << 20, 64 << 10, 4000, 1000, 250, 64, 48, 32, 16};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        while (ebb_malloc(sizes[i]) != NULL) CHECK(ebb_backed() <= most);
}

static void take_again(void *unused) {
    (void)unused;
    take();
}

/* All of a wave are there until its last one is done: the next one may not have the place of one that has left. */
static void *one(void *wave) {
    CHECK(sem_wait(&begin[(size_t)wave]) == 0);
    take();
    CHECK(pthread_setspecific(last_act, &done) == 0);
    CHECK(sem_post(&done) == 0 && sem_wait(&end[(size_t)wave]) == 0);
    return NULL;
}

static void limit(const char *what) {
    struct rlimit less = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY}; /* than it has already */
    size_t budget = ebb_backed() + (4 << 20);
    if (strcmp(what, "addresses") == 0) CHECK(setrlimit(RLIMIT_AS, &less) == 0);
    if (strcmp(what, "budget") == 0) ebb_set_budget(budget), most = budget + EXCESS;
    if (strcmp(what, "nodes") == 0)
        for (unsigned node = 0; node < 64; node++) (void)ebb_set_node_budget(node, budget); /* those that there are */
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    int n = atoi(argv[2]), waves = atoi(argv[3]);
    CHECK(n > 0 && waves > 0 && n * waves <= MOST);
    size_t calls = 0;
    ebb_shrinker_t *shrinker;
    ebb_shrinker_ops_t ops = {.name = "empty", .count = count, .scan = scan, .context = &calls};
    CHECK(ebb_shrinker_register(&ops, &shrinker) == 0);
    begin = malloc((size_t)waves * sizeof *begin), end = malloc((size_t)waves * sizeof *end);
    CHECK(pthread_key_create(&last_act, take_again) == 0);
    CHECK(begin != NULL && end != NULL && sem_init(&done, 0, 0) == 0);
    ebb_set_reports(0);
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 64 << 10) == 0);
    for (int wave = 0; wave < waves; wave++) {
        CHECK(sem_init(&begin[wave], 0, 0) == 0 && sem_init(&end[wave], 0, 0) == 0);
        for (int i = 0; i < n; i++)
            CHECK(pthread_create(&threads[wave * n + i], &small, one, (void *)(size_t)wave) == 0);
    }
    limit(argv[1]);
    take();
    for (int wave = 0; wave < waves; wave++) {
        size_t before = calls;
        for (int i = 0; i < n; i++) CHECK(sem_post(&begin[wave]) == 0);
        for (int i = 0; i < n; i++) CHECK(sem_wait(&done) == 0);
        CHECK(calls > before);
        for (int i = 0; i < n; i++) CHECK(sem_post(&end[wave]) == 0);
        for (int i = 0; i < n; i++) CHECK(pthread_join(threads[wave * n + i], NULL) == 0);
    }
    CHECK(ebb_shrinker_unregister(shrinker) == 0);
    return 0;
}
