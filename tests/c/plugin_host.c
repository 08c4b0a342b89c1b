/* A C program that loads C++ late and privately, as Python does with extension modules: `new` must still throw. */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>

int main(int argc, char **argv) {
    CHECK(argc == 2);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin != NULL);
    void *symbol = dlsym(plugin, "plugin_allocates");
    int (*allocates)(size_t);
    CHECK(symbol != NULL);
    memcpy(&allocates, &symbol, sizeof symbol);
    CHECK(allocates(100) == 0);
    CHECK(allocates(hidden((size_t)-1)) == 1);
    puts("plugin_host: ok");
    return 0;
}
