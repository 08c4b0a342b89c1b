/* A failing `new` in a program that has no C++ library: one line, and abort. */
#include <ebbmalloc.h>

int main(void) {
    volatile size_t size = (size_t)-1;
    return ebb_new(size) == 0;
}
