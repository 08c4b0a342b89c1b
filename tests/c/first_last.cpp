// Every entry point of the library as a thread's first call and as its last: in the destructor of a thread-local object
// or of a key, after which nothing of the thread is left. Each with each, on a budget that is used up, so that calls
// reclaim. Seen to fail (a thread-local used after its destruction, and abort) without the mark of exiting threads.
#include "check.h"

#include <cstdint>
#include <deque>
#include <ebbmalloc.h>
#include <iterator>
#include <malloc.h>
#include <mutex>
#include <new>
#include <pthread.h>

// One call, and what it may use.
struct Hand {
    void (*call)(Hand &);
    void *block;               // of 3000 bytes, made elsewhere
    ebb_shrinker_t *shrinker;  // registered elsewhere
    void *left;                // what the call leaves behind
};

enum { SIZE = 3000 };

static void leave(Hand &hand, void *block, std::size_t size, std::size_t alignment = 16) {
    if (block == nullptr) return; // there was no memory
    CHECK(reinterpret_cast<std::uintptr_t>(block) % alignment == 0);
    memset(block, 1, size);
    hand.left = block;
}

static void *take(Hand &hand) {
    auto *bytes = static_cast<unsigned char *>(hand.block);
    CHECK(bytes[0] == 7 && bytes[SIZE - 1] == 7);
    hand.block = nullptr;
    return bytes;
}

// Resized, or as it was.
static void leave_moved(Hand &hand, void *old, void *moved) {
    hand.left = moved != nullptr ? moved : old;
    CHECK(*static_cast<unsigned char *>(hand.left) == 7);
}

// A cache that never has anything.
static int count(void *, const ebb_shrink_control_t *, ebb_count_result_t *) { return EBB_COUNT_EMPTY; }
static int scan(void *, ebb_shrink_control_t *, ebb_scan_result_t *) { return EBB_SCAN_STOP; }

static ebb_shrinker_t *add() {
    ebb_shrinker_ops_t ops{};
    ops.name = "brief", ops.count = count, ops.scan = scan;
    ebb_shrinker_t *shrinker = nullptr;
    int status = ebb_shrinker_register(&ops, &shrinker);
    CHECK(status == 0 || (status == ENOMEM && shrinker == nullptr));
    return shrinker;
}

using Align = std::align_val_t;

static void (*const calls[])(Hand &) = {
    [](Hand &hand) { leave(hand, malloc(hidden(100)), 100); },
    [](Hand &hand) { leave(hand, malloc(hidden(300000)), 300000); },
    [](Hand &hand) { leave(hand, malloc(hidden(3 << 20)), 100); }, // walks
    [](Hand &hand) { leave(hand, calloc(hidden(30), 100), 3000); },
    [](Hand &hand) { leave(hand, realloc(nullptr, hidden(70000)), 70000); },
    [](Hand &hand) { void *old = take(hand); leave_moved(hand, old, realloc(old, hidden(70000))); },
    [](Hand &hand) { void *old = take(hand); leave_moved(hand, old, reallocarray(old, 7, hidden(5))); },
    [](Hand &hand) { free(take(hand)); },
    [](Hand &) { free(nullptr); },
    [](Hand &hand) { void *out = nullptr; if (posix_memalign(&out, 256, hidden(100)) == 0) leave(hand, out, 100, 256); },
    [](Hand &hand) { leave(hand, aligned_alloc(1 << 20, hidden(100)), 100, 1 << 20); },
    [](Hand &hand) { leave(hand, memalign(64, hidden(1000)), 1000, 64); },
    [](Hand &hand) { leave(hand, valloc(hidden(10)), 10, 4096); },
    [](Hand &hand) { leave(hand, pvalloc(hidden(5000)), 8192, 4096); },
    [](Hand &hand) { CHECK(malloc_usable_size(hand.block) >= SIZE); },
    [](Hand &) { malloc_trim(0); },
    [](Hand &hand) { leave(hand, ::operator new(hidden(100), std::nothrow), 100); },
    [](Hand &hand) { leave(hand, ::operator new[](hidden(100), Align{128}, std::nothrow), 100, 128); },
    [](Hand &hand) { try { leave(hand, ::operator new(hidden(100)), 100); } catch (const std::bad_alloc &) {} },
    [](Hand &hand) { try { leave(hand, ::operator new[](hidden(100)), 100); } catch (const std::bad_alloc &) {} },
    [](Hand &hand) { try { leave(hand, ::operator new(hidden(90), Align{512}), 90, 512); } catch (const std::bad_alloc &) {} },
    [](Hand &hand) { ::operator delete(take(hand)); },
    [](Hand &hand) { ::operator delete[](take(hand)); },
    [](Hand &hand) { ::operator delete(take(hand), std::size_t{SIZE}); },
    [](Hand &hand) { ::operator delete[](take(hand), std::size_t{SIZE}, Align{8}); },
    [](Hand &hand) { leave(hand, ebb_malloc(hidden(20000)), 20000); },
    [](Hand &hand) { leave(hand, ebb_calloc(hidden(30), 100), 3000); },
    [](Hand &hand) { void *old = take(hand); leave_moved(hand, old, ebb_realloc(old, hidden(20))); },
    [](Hand &hand) { void *old = take(hand); leave_moved(hand, old, ebb_reallocarray(old, 70, hidden(500))); },
    [](Hand &hand) { ebb_free(take(hand)); },
    [](Hand &hand) { ebb_free_sized(take(hand), SIZE); },
    [](Hand &hand) { ebb_free_aligned_sized(take(hand), 16, SIZE); },
    [](Hand &hand) { leave(hand, ebb_aligned_alloc(64, hidden(100)), 100, 64); },
    [](Hand &hand) { void *out = nullptr; if (ebb_posix_memalign(&out, 64, hidden(100)) == 0) leave(hand, out, 100, 64); },
    [](Hand &hand) { leave(hand, ebb_memalign(64, hidden(100)), 100, 64); },
    [](Hand &hand) { leave(hand, ebb_valloc(hidden(10)), 10, 4096); },
    [](Hand &hand) { leave(hand, ebb_pvalloc(hidden(10)), 4096, 4096); },
    [](Hand &hand) { CHECK(ebb_malloc_usable_size(hand.block) >= SIZE); },
    [](Hand &hand) { try { leave(hand, ebb_new(hidden(100)), 100); } catch (const std::bad_alloc &) {} },
    [](Hand &hand) { try { leave(hand, ebb_new_aligned(hidden(100), 64), 100, 64); } catch (const std::bad_alloc &) {} },
    [](Hand &) { ebb_purge(); },
    [](Hand &) { ebb_reclaim(hidden(1000)); },
    [](Hand &) { ebb_shrinker_stats_t stats; stats.size = sizeof stats; ebb_get_shrinker_stats(ebb_shrinker_next(0), &stats); },
    [](Hand &hand) { CHECK(ebb_shrinker_set_seeks(hand.shrinker, 3) == 0); },
    [](Hand &) { CHECK(ebb_backed() > 0 && ebb_get_budget() > 0 && ebb_get_reserve() > 0); },
    [](Hand &) { ebb_stats_t stats; stats.size = sizeof stats; CHECK(ebb_get_stats(&stats) == 0); },
    [](Hand &) { char text[100]; CHECK(ebb_write_stats(text, sizeof text, EBB_STATS_TEXT) > 100); },
    [](Hand &hand) { CHECK(ebb_shrinker_unregister(hand.shrinker) == 0); hand.shrinker = add(); },
};

enum { CALLS = sizeof calls / sizeof *calls };

struct Plan {
    Hand first, last;
    bool by_key;
};

static pthread_key_t key;

static void last_by_key(void *plan) {
    Hand &hand = static_cast<Plan *>(plan)->last;
    hand.call(hand);
}

// Makes the last call when it is destroyed.
struct Last {
    Plan *plan;
    ~Last() { if (plan != nullptr) last_by_key(plan); }
};

static thread_local Last last{nullptr};

static void *run(void *argument) {
    Plan *plan = static_cast<Plan *>(argument);
    plan->first.call(plan->first);
    if (plan->by_key) CHECK(pthread_setspecific(key, plan) == 0);
    else last.plan = plan;
    return nullptr;
}

static Hand hand(std::size_t number) {
    Hand hand{calls[number % CALLS], malloc(SIZE), add(), nullptr};
    CHECK(hand.block && hand.shrinker);
    memset(hand.block, 7, SIZE);
    return hand;
}

static void clear(const Hand &hand) {
    free(hand.block), free(hand.left);
    CHECK(ebb_shrinker_unregister(hand.shrinker) == 0);
}

// The cache that lives on what the others leave of the budget.
static std::mutex lock;
static std::deque<void *> *cache;

static int count_cache(void *, const ebb_shrink_control_t *, ebb_count_result_t *result) {
    std::unique_lock<std::mutex> held(lock, std::try_to_lock);
    if (!held) return EBB_COUNT_UNKNOWN;
    result->objects = cache->size();
    return EBB_COUNT_OBJECTS;
}

static int scan_cache(void *, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
    std::unique_lock<std::mutex> held(lock, std::try_to_lock);
    if (!held) return EBB_SCAN_STOP;
    for (; !cache->empty() && result->objects < control->to_scan; cache->pop_back()) {
        free(cache->back());
        result->objects += 1, result->bytes += 1 << 20;
    }
    return EBB_SCAN_FREED;
}

static void fill_cache() {
    while (ebb_backed() + (3 << 20) < ebb_get_budget()) {
        void *block = malloc(1 << 20);
        CHECK(block != nullptr);
        std::lock_guard<std::mutex> held(lock);
        cache->push_back(block);
    }
}

int main() {
    cache = new std::deque<void *>;
    CHECK(pthread_key_create(&key, last_by_key) == 0);
    ebb_shrinker_ops_t ops{};
    ops.name = "cache", ops.count = count_cache, ops.scan = scan_cache;
    ebb_shrinker_t *shrinker = nullptr;
    CHECK(ebb_shrinker_register(&ops, &shrinker) == 0);
    ebb_set_budget(ebb_backed() + (48 << 20));
    const std::size_t before = ebb_backed();
    for (std::size_t number = 0; number < 2 * CALLS * CALLS; number += 6) {
        Plan plans[6];
        pthread_t threads[6];
        for (std::size_t i = 0; i < 6; i++) {
            std::size_t n = (number + i) % (CALLS * CALLS);
            plans[i] = {hand(n), hand(n / CALLS), number < CALLS * CALLS};
        }
        fill_cache();
        for (std::size_t i = 0; i < 6; i++) CHECK(pthread_create(&threads[i], nullptr, run, &plans[i]) == 0);
        for (pthread_t thread : threads) CHECK(pthread_join(thread, nullptr) == 0);
        for (Plan &plan : plans) clear(plan.first), clear(plan.last);
    }
    ebb_stats_t stats;
    stats.size = sizeof stats;
    CHECK(ebb_get_stats(&stats) == 0);
    fprintf(stderr, "%zu satisfied, %zu not\n", (std::size_t)stats.satisfied, (std::size_t)stats.failed);
    CHECK(stats.satisfied > 50);
    CHECK(ebb_shrinker_unregister(shrinker) == 0);
    for (void *block : *cache) free(block);
    delete cache;
    ebb_purge();
    fprintf(stderr, "backed %zu before, %zu after\n", before, ebb_backed());
    CHECK(ebb_backed() < before + (1 << 20));
    puts("first_last: ok");
    return 0;
}
