/* A program without the library loads plugins that use it, and unloads them: again and again, also on threads that were
 * there before and on new ones, and while others walk. What a plugin allocated outlives it; its callbacks do not. */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    CHECK(found != NULL);
    return found;
}

/* Functions come as pointers to data. */
#define FUNCTION(pointer, library, name)                                                         \
    do {                                                                                         \
        void *found = symbol(library, name);                                                     \
        memcpy(&(pointer), &found, sizeof found);                                                \
    } while (0)

static const char *path;
static pthread_barrier_t barrier;

static void *load_and_unload(void *unused) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin != NULL);
    void *(*begin)(void), *(*allocate)(size_t), (*set_budget)(size_t);
    size_t (*end)(void), (*backed)(void), (*purge)(void);
    void (*release)(void *);
    FUNCTION(begin, plugin, "plugin_begin");
    FUNCTION(end, plugin, "plugin_end");
    FUNCTION(allocate, plugin, "ebb_malloc");
    FUNCTION(release, plugin, "ebb_free");
    FUNCTION(backed, plugin, "ebb_backed");
    FUNCTION(purge, plugin, "ebb_purge");
    FUNCTION(set_budget, plugin, "ebb_set_budget");
    char *kept = begin();
    purge(); /* what the last round left would do otherwise */
    set_budget(backed() + (8 << 20));
    void *large = allocate(30 << 20); /* the plugin's cache makes room */
    CHECK(large != NULL && end() < 64);
    set_budget(0);
    CHECK(dlclose(plugin) == 0);
    CHECK(strcmp(kept, "outlives the plugin") == 0);
    set_budget(backed() + (20 << 20)); /* nobody is asked any more */
    CHECK(allocate(40 << 20) == NULL);
    set_budget(0);
    release(kept), release(large);
    return unused;
}

/* Exists before anything of the library does. */
static void *early(void *unused) {
    pthread_barrier_wait(&barrier);
    load_and_unload(NULL);
    pthread_barrier_wait(&barrier);
    return unused;
}

static void *(*hammer_malloc)(size_t);
static atomic_int stop;

/* Asks for what is within the budget but can never be had: so it walks over all there is. */
static void *hammer(void *unused) {
    while (!stop) CHECK(hammer_malloc(80 << 20) == NULL);
    return unused;
}

static void load_and_unload_under_fire(void) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin != NULL);
    void *(*begin)(void);
    size_t (*end)(void), (*calls)(void);
    void (*release)(void *);
    FUNCTION(begin, plugin, "plugin_begin");
    FUNCTION(end, plugin, "plugin_end");
    FUNCTION(calls, plugin, "plugin_calls");
    FUNCTION(release, plugin, "ebb_free");
    char *kept = begin();
    size_t before = calls();
    struct timespec moment = {.tv_nsec = 10000};
    while (calls() < before + 3) nanosleep(&moment, NULL);
    end();
    CHECK(dlclose(plugin) == 0);
    CHECK(strcmp(kept, "outlives the plugin") == 0);
    release(kept);
}

/* Plugins go while threads are in their caches: for two seconds at most. */
static void under_fire(void) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* for the library, which stays */
    CHECK(plugin != NULL);
    void (*set_budget)(size_t), (*set_reports)(int);
    size_t (*backed)(void), (*purge)(void);
    void (*release)(void *);
    FUNCTION(hammer_malloc, plugin, "ebb_malloc");
    FUNCTION(release, plugin, "ebb_free");
    FUNCTION(backed, plugin, "ebb_backed");
    FUNCTION(purge, plugin, "ebb_purge");
    FUNCTION(set_budget, plugin, "ebb_set_budget");
    FUNCTION(set_reports, plugin, "ebb_set_reports");
    CHECK(dlclose(plugin) == 0);
    set_reports(0);
    purge();
    void *ballast = hammer_malloc(96 << 20);
    CHECK(ballast != NULL);
    set_budget(backed() + (32 << 20));
    pthread_t hammers[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&hammers[i], NULL, hammer, NULL) == 0);
    time_t until = time(NULL) + 2;
    for (int i = 0; i < 50 && time(NULL) < until; i++) load_and_unload_under_fire();
    stop = 1;
    for (int i = 0; i < 3; i++) CHECK(pthread_join(hammers[i], NULL) == 0);
    set_budget(0);
    release(ballast);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    path = argv[1];
    CHECK(dlsym(RTLD_DEFAULT, "ebb_malloc") == NULL);
    pthread_t old, new;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHECK(pthread_create(&old, NULL, early, NULL) == 0);
    for (int i = 0; i < 20; i++) load_and_unload(NULL);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(old, NULL) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK(pthread_create(&new, NULL, load_and_unload, NULL) == 0);
        CHECK(pthread_join(new, NULL) == 0);
    }
    under_fire();
    puts("unload: ok");
    return 0;
}
