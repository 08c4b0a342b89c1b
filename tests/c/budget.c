/* Allocates until memory is refused, if a budget is set: NULL, ENOMEM, and never more than the budget. A second number is
 * how much is to be kept of what is freed. */
#include "check.h"

#include <ebbmalloc.h>

int main(int argc, char **argv) {
    CHECK(argc == 2 || argc == 3);
    CHECK(argc == 2 || ebb_get_keep() == strtoull(argv[2], NULL, 10));
    size_t budget = strtoull(argv[1], NULL, 10);
    CHECK(ebb_get_budget() == budget);
    if (budget == 0) {
        void *large = malloc(hidden((size_t)200 << 20));
        CHECK(large != NULL);
        free(large);
        return 0;
    }
    void **list = NULL, **block;
    size_t bytes = 0;
    errno = 0;
    while ((block = malloc(hidden(10000))) != NULL) {
        *block = list;
        list = block;
        bytes += 10000;
        CHECK(ebb_backed() <= budget && bytes < budget);
    }
    CHECK(errno == ENOMEM && bytes > budget / 2);
    while (list != NULL) {
        block = *list;
        free(list);
        list = block;
    }
    CHECK(malloc(hidden(budget / 2)) != NULL);
    return 0;
}
