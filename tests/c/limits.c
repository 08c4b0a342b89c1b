/* When the system refuses memory: NULL and ENOMEM, not a crash; and memory freed afterwards serves again. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/resource.h>

/* As many blocks of a size as there are; they are left linked in a list. */
static size_t exhaust(size_t size, void ***list) {
    size_t blocks = 0;
    errno = 0;
    for (void **block; (block = malloc(size)) != NULL; blocks++) {
        memset(block, 1, size);
        *block = *list;
        *list = block;
    }
    CHECK(errno == ENOMEM);
    return blocks;
}

static void release(void **list) {
    while (list != NULL) {
        void **next = *list;
        free(list);
        list = next;
    }
}

int main(void) {
    struct rlimit limit = {(rlim_t)256 << 20, (rlim_t)256 << 20};
    struct rlimit now;
    CHECK(getrlimit(RLIMIT_AS, &now) == 0);
    if (now.rlim_cur == RLIM_INFINITY) CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    static const size_t sizes[] = {1 << 20, 100, 5000, 2 << 20};
    for (size_t round = 0; round < 8; round++) {
        void **list = NULL;
        size_t size = sizes[round % 4], blocks = exhaust(size, &list);
        fprintf(stderr, "%zu blocks of %zu bytes\n", blocks, size);
        CHECK(blocks * size >= (size_t)40 << 20);
        CHECK(malloc(hidden((size_t)1 << 30)) == NULL && errno == ENOMEM);
        release(list);
    }
    puts("limits: ok");
    return 0;
}
