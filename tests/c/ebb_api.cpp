// ebbmalloc.h from C++: a container as a shrinker, and ebb_new, which throws.
#include "check.h"

#include <deque>
#include <ebbmalloc.h>
#include <memory>
#include <new>
#include <string>

using Cache = std::deque<std::unique_ptr<std::string>>;

int main() {
    Cache cache;
    ebb_shrinker_ops_t ops{};
    ops.name = "strings";
    ops.context = &cache;
    ops.count = [](void *context, const ebb_shrink_control_t *, ebb_count_result_t *result) {
        result->objects = static_cast<Cache *>(context)->size();
        return EBB_COUNT_OBJECTS;
    };
    ops.scan = [](void *context, ebb_shrink_control_t *control, ebb_scan_result_t *result) {
        auto *strings = static_cast<Cache *>(context);
        while (!strings->empty() && result->objects < control->to_scan) {
            result->bytes += strings->front()->capacity();
            result->objects += 1;
            strings->pop_front();
        }
        return EBB_SCAN_FREED;
    };
    ebb_shrinker_t *shrinker = nullptr;
    CHECK(ebb_shrinker_register(&ops, &shrinker) == 0);
    ebb_set_budget(ebb_backed() + (32 << 20));
    for (int i = 0; i < 50000; i++) {
        auto string = std::make_unique<std::string>(2000, 'x'); // made first: the cache is whole when this reclaims
        cache.push_back(nullptr);
        cache.back() = std::move(string);
    }
    CHECK(cache.size() < 16000);

    bool thrown = false;
    try {
        ebb_free(ebb_new(hidden(1u << 30)));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    try {
        ebb_free(ebb_new_aligned(64, hidden(48)));
    } catch (const std::bad_alloc &) {
        CHECK(thrown);
        CHECK(ebb_shrinker_unregister(shrinker) == 0);
        puts("ebb_api.cpp: ok");
        return 0;
    }
    return 1;
}
