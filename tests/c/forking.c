/* Forks, also with other threads, in a program that has a library with fork handlers of its own. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

extern unsigned handled;
static volatile int stop;

static void *churn(void *unused) {
    for (size_t i = 0; !stop; i++) free(malloc(hidden(i * 7919 % 300000)));
    return unused;
}

static void forks(int count) {
    for (int i = 0; i < count; i++) {
        unsigned before = handled;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            CHECK(handled == before + 2);
            free(malloc(hidden(100000)));
            _exit(0);
        }
        CHECK(handled == before + 2);
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

int main(void) {
    forks(1);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    forks(50);
    stop = 1;
    for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    puts("forking: ok");
    return 0;
}
