// Allocations before main and after exit: in the order of life, from before any constructor to after the last destructor,
// while a thread goes on. Expects EBB_BUDGET=64M.
#include "check.h"

#include <atomic>
#include <ebbmalloc.h>
#include <pthread.h>
#include <string>
#include <unistd.h>

enum { STAGES = 16 };
static void *kept[STAGES];
static std::size_t stages;

// One stage: what earlier ones made is whole; blocks of all kinds come and go; one stays.
static void stage(bool keep) {
    for (std::size_t i = 0; i < stages; i++) CHECK(*static_cast<std::size_t *>(kept[i]) == i);
    for (std::size_t size = 1; size < 10000000; size *= 3) {
        char *block = static_cast<char *>(malloc(hidden(size)));
        CHECK(block != nullptr);
        block[0] = block[size - 1] = 1;
        block = static_cast<char *>(realloc(block, size * 2));
        CHECK(block != nullptr && block[0] == 1 && block[size - 1] == 1);
        free(block);
        block = static_cast<char *>(calloc(hidden(size), 1));
        CHECK(block != nullptr && block[0] == 0 && block[size - 1] == 0);
        free(block);
    }
    if (!keep) return;
    auto *block = static_cast<std::size_t *>(malloc(1000));
    CHECK(block != nullptr && stages < STAGES);
    *block = stages;
    kept[stages++] = block;
}

// Before the constructors of any library, so before this one knows its environment.
static void before_all(int, char **, char **) { stage(true); }
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) = before_all;

__attribute__((constructor(101))) static void constructor() { stage(true); }

static void *on_a_thread(void *) {
    stage(false);
    return nullptr;
}

struct Static {
    std::string text;
    Static() : text(1000, 'x') {
        stage(true);
        pthread_t thread;
        CHECK(pthread_create(&thread, nullptr, on_a_thread, nullptr) == 0);
        CHECK(pthread_join(thread, nullptr) == 0);
    }
    ~Static() {
        CHECK(text == std::string(1000, 'x'));
        stage(true);
    }
};

static Static object;
static std::atomic<bool> churning{false};

// Never ends: the process does.
static void *churn(void *) {
    for (std::size_t i = 0;; i++) {
        void *block = malloc(1 + i * 7919 % 100000);
        CHECK(block != nullptr);
        free(block);
        churning = true;
    }
    return nullptr;
}

__attribute__((destructor(101))) static void after_all() {
    stage(true);
    CHECK(stages == 7 && ebb_get_budget() == 64 << 20);
    for (std::size_t i = 0; i < stages; i++) free(kept[i]);
    static const char said[] = "life: ok\n"; // not by stdio, which may be closed
    CHECK(write(STDOUT_FILENO, said, sizeof said - 1) == sizeof said - 1);
}

int main() {
    CHECK(stages == 3 && ebb_get_budget() == 64 << 20);
    CHECK(malloc(hidden(65 << 20)) == nullptr);
    stage(true);
    CHECK(atexit([] { stage(true); }) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, nullptr, churn, nullptr) == 0);
    while (!churning) usleep(100);
    exit(0);
}
