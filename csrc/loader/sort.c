/* Heapsort: unlike many a qsort it allocates nothing, and no order of its input makes it slow. */
#include "loader.h"

static void swap(uint8_t *a, uint8_t *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = a[i];
        a[i] = b[i];
        b[i] = byte;
    }
}

/* Item `root` goes down until none of its two children is larger. */
static void sink(uint8_t *items, size_t root, size_t count, size_t size, compare_function *compare)
{
    for (size_t child = 2 * root + 1; child < count; root = child, child = 2 * root + 1) {
        if (child + 1 < count && compare(items + child * size, items + (child + 1) * size) < 0)
            child++;
        if (compare(items + root * size, items + child * size) >= 0)
            return;
        swap(items + root * size, items + child * size, size);
    }
}

void sort_items(void *items, size_t count, size_t size, compare_function *compare)
{
    for (size_t root = count / 2; root-- > 0;)
        sink(items, root, count, size, compare);
    for (size_t last = count; last-- > 1;) {
        swap(items, (uint8_t *)items + last * size, size);
        sink(items, 0, last, size, compare);
    }
}
