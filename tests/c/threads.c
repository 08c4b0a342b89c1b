/* Threads that come and go, whose first and last act is an allocation; and forks while others allocate. */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_key_t key;

/* Runs as the thread ends: its last act is to free and to allocate once more. */
static void last(void *value) {
    free(value);
    void *block = malloc(300);
    CHECK(block != NULL);
    free(block);
}

/* Each entry point as a thread's first call. */
static void *first(void *number) {
    void *block = NULL;
    switch ((size_t)number % 7) {
    case 0: block = malloc(20); break;
    case 1: block = calloc(3, 100); break;
    case 2: block = realloc(NULL, 5000); break;
    case 3: CHECK(posix_memalign(&block, 256, 100) == 0); break;
    case 4: block = aligned_alloc(64, 640); break;
    case 5: free(NULL); block = memalign(4096, 10); break;
    case 6: CHECK(malloc_usable_size(NULL) == 0); block = malloc(3000000); break;
    }
    CHECK(block != NULL);
    block = realloc(block, 200);
    CHECK(block != NULL && pthread_setspecific(key, block) == 0);
    return NULL;
}

static void many_short_threads(void) {
    for (size_t i = 0; i < 4000; i += 8) {
        pthread_t threads[8];
        for (size_t k = 0; k < 8; k++) CHECK(pthread_create(&threads[k], NULL, first, (void *)(i + k)) == 0);
        for (size_t k = 0; k < 8; k++) CHECK(pthread_join(threads[k], NULL) == 0);
    }
}

static volatile int stop;

static void *churn(void *unused) {
    (void)unused;
    void *blocks[64] = {0};
    for (unsigned i = 0; !stop; i++) {
        free(blocks[i % 64]);
        blocks[i % 64] = malloc(16 + (i * 2654435761u) % (i % 100 == 0 ? 4000000 : 20000));
    }
    for (int i = 0; i < 64; i++) free(blocks[i]);
    return NULL;
}

static void forks(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60); /* a child that hangs is killed, and so noticed */
            for (size_t size = 16; size < 8000000; size *= 3) {
                char *block = malloc(size);
                CHECK(block != NULL);
                memset(block, 1, size);
                free(block);
            }
            pthread_t thread;
            CHECK(pthread_create(&thread, NULL, first, (void *)(size_t)i) == 0);
            CHECK(pthread_join(thread, NULL) == 0);
            malloc_trim(0);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    stop = 1;
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(void) {
    CHECK(pthread_key_create(&key, last) == 0);
    many_short_threads();
    forks();
    return 0;
}
