// A C++ library that a C program loads late and privately: see plugin_host.c.
#include <new>

// 1 when `new` threw std::bad_alloc, as it should.
extern "C" int plugin_allocates(std::size_t size) {
    try {
        ::operator delete(::operator new(size));
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}
