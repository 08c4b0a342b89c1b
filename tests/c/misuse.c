/* Frees what must not be freed, in the way its argument says. The allocator ends the process. */
#include "check.h"

#include <stdint.h>

static void twice(size_t size) {
    void *block = malloc(size);
    CHECK(block != NULL);
    free(block);
    free(block);
}

/* Two frees with others in between; seen when both lie in the bitmap. */
static void twice_later(void) {
    enum { BLOCKS = 200000 };
    static void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) CHECK((blocks[i] = malloc(64)) != NULL);
    void *again = blocks[5];
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    for (int i = 0; i < BLOCKS; i++) free(again);
}

int main(int argc, char **argv) {
    char local[64];
    CHECK(argc == 2);
    const char *kind = argv[1];
    volatile uintptr_t offset = 65536;
    if (strcmp(kind, "twice-small") == 0) twice(100);
    if (strcmp(kind, "twice-later") == 0) twice_later();
    if (strcmp(kind, "twice-span") == 0) twice(1000000);
    if (strcmp(kind, "twice-mapped") == 0) twice(100000000);
    if (strcmp(kind, "stack") == 0) free((void *)((uintptr_t)local & ~(uintptr_t)15));
    if (strcmp(kind, "inside-span") == 0) free((char *)malloc(1000000) + offset);
    if (strcmp(kind, "inside-mapped") == 0) free((char *)malloc(100000000) + offset);
    if (strcmp(kind, "wild") == 0) free((void *)(offset * 16));
    return 0;
}
