/* What the test programs share: a check that says where it failed. */
#ifndef EBB_TEST_CHECK_H
#define EBB_TEST_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                              \
    do {                                                                                         \
        if (!(what)) {                                                                           \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #what, errno);         \
            _Exit(1);                                                                            \
        }                                                                                        \
    } while (0)

/* A number the compiler knows nothing about, so that it neither warns nor leaves the call out. */
static inline size_t hidden(size_t number) {
    volatile size_t stored = number;
    return stored;
}

#endif
