// Every form of operator new and delete, the standard containers and std::bad_alloc. Links to nothing of ours, so it
// also runs preloaded. Expects EBB_BUDGET=96M.
#include "check.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

static bool aligned(const void *block, std::size_t alignment) {
    return reinterpret_cast<std::uintptr_t>(block) % alignment == 0;
}

static void every_form() {
    const std::align_val_t far{4096};
    for (std::size_t size = 0; size < 200000; size = size * 3 + 1) {
        void *a = ::operator new(size), *b = ::operator new[](size);
        void *c = ::operator new(size, std::nothrow), *d = ::operator new[](size, std::nothrow);
        void *e = ::operator new(size, far), *f = ::operator new[](size, far);
        void *g = ::operator new(size, far, std::nothrow), *h = ::operator new[](size, far, std::nothrow);
        CHECK(a && b && c && d && a != b && c != d);
        CHECK(aligned(e, 4096) && aligned(f, 4096) && aligned(g, 4096) && aligned(h, 4096));
        for (void *block : {a, b, c, d, e, f, g, h}) memset(block, 0x5a, size);
        ::operator delete(a), ::operator delete[](b);
        ::operator delete(c, std::nothrow), ::operator delete[](d, std::nothrow);
        ::operator delete(e, far), ::operator delete[](f, far);
        ::operator delete(g, far, std::nothrow), ::operator delete[](h, far, std::nothrow);
        ::operator delete(::operator new(size), size), ::operator delete[](::operator new[](size), size);
        ::operator delete(::operator new(size, far), size, far);
        ::operator delete[](::operator new[](size, far), size, far);
    }
    ::operator delete(nullptr), ::operator delete[](nullptr);
}

struct alignas(256) Wide {
    char bytes[256];
};

static void containers() {
    std::map<std::string, std::vector<int>> tree;
    std::unordered_map<int, std::unique_ptr<Wide>> wide;
    for (int i = 0; i < 5000; i++) {
        tree["key number " + std::to_string(i)].assign(static_cast<std::size_t>(i % 50), i);
        wide[i] = std::make_unique<Wide>();
        CHECK(aligned(wide[i].get(), 256));
    }
    for (int i = 0; i < 5000; i += 2) tree.erase("key number " + std::to_string(i)), wide.erase(i);
    std::size_t sum = 0;
    for (auto &entry : tree) sum += entry.second.size();
    CHECK(tree.size() == 2500 && wide.size() == 2500 && sum == 62500);
}

static void threads() {
    std::vector<std::thread> all;
    std::atomic<int> sum{0};
    for (int t = 0; t < 8; t++)
        all.emplace_back([&sum] {
            std::vector<std::shared_ptr<std::string>> strings;
            for (int i = 0; i < 5000; i++) strings.push_back(std::make_shared<std::string>(static_cast<std::size_t>(i % 99), 'x'));
            sum += static_cast<int>(strings.size());
        });
    for (auto &thread : all) thread.join();
    CHECK(sum == 40000);
}

// As many blocks of 1 MiB as the budget allows.
static std::size_t exhaust(std::vector<std::unique_ptr<char[]>> &blocks) {
    try {
        for (;;) blocks.emplace_back(new char[1 << 20]), memset(blocks.back().get(), 1, 1 << 20);
    } catch (const std::bad_alloc &) {
    }
    return blocks.size();
}

static void over_budget() {
    std::vector<std::unique_ptr<char[]>> blocks;
    blocks.reserve(200);
    std::size_t first = exhaust(blocks);
    CHECK(first >= 40 && first <= 96);
    CHECK(new (std::nothrow) char[8 << 20] == nullptr);
    blocks.clear();
    CHECK(exhaust(blocks) + 4 >= first);
}

static std::unique_ptr<char[]> stash;
static int handler_calls;

static void give_stash() {
    handler_calls++;
    if (stash == nullptr) throw std::bad_alloc();
    stash.reset();
}

static void new_handlers() {
    const std::size_t large = 60 << 20;
    stash.reset(new char[large]);
    std::set_new_handler(give_stash);
    std::unique_ptr<char[]> served(new char[large]); // the handler frees the stash, and this succeeds
    CHECK(handler_calls == 1 && served && !stash);
    bool thrown = false;
    try {
        ::operator delete(::operator new(large));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown && handler_calls == 2);
    CHECK(::operator new(large, std::nothrow) == nullptr && handler_calls == 3); // its exception is caught
    CHECK(::operator new(large, std::align_val_t{64}, std::nothrow) == nullptr && handler_calls == 4);
    std::set_new_handler(nullptr);
}

static void too_large() {
    for (std::size_t size : {hidden(SIZE_MAX), hidden(SIZE_MAX / 2 + 1)}) {
        int thrown = 0;
        try {
            ::operator delete(::operator new(size));
        } catch (const std::bad_alloc &) {
            thrown++;
        }
        try {
            ::operator delete[](::operator new[](size, std::align_val_t{64}), std::align_val_t{64});
        } catch (const std::bad_alloc &) {
            thrown++;
        }
        CHECK(thrown == 2 && ::operator new[](size, std::nothrow) == nullptr);
    }
}

int main() {
    every_form();
    containers();
    threads();
    too_large();
    over_budget();
    new_handlers();
    puts("new_delete: ok");
}
