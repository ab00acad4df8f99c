/* What the files of this program share: seeded numbers, guarded memory, and the record of what a backend gave. */
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "refvit.h"
#include "loader/sha256.h"

#define BACKENDS (REFVIT_RVZBB + 1)

extern int backends; /* those usable here, bits 1 << backend */

/* The next of a sequence of numbers that is the same everywhere (splitmix64). */
uint64_t next(uint64_t *state);

/* A float of either sign, of a size from 2^low to 2^high. */
float next_float(uint64_t *state, int low, int high);

/* Memory that ends where a page begins that must not be touched; given back by release(). */
void *guarded(size_t bytes);
void release(void);

/* Results as numbers of 32 bits, whatever the order of bytes here. */
struct record {
    uint32_t *values;
    size_t count, room;
};

void note(struct record *record, uint32_t value);
void note_floats(struct record *record, size_t count, const float *values);
void note_ints(struct record *record, size_t count, const int32_t *values);
void note_codes(struct record *record, size_t count, const int8_t *values);
void note_words(struct record *record, size_t count, const uint64_t *values);

struct shape {
    size_t m, n, k;
    int bits, extreme; /* extreme: 0 random codes, 1 the lowest everywhere, 2 the highest */
    uint64_t seed;
};

typedef void kernel_case(int backend, const struct shape *shape, struct record *record);

/* Run a case on every backend and hash its record; the program ends where one has not what the portable one has. */
void on_every_backend(struct sha256 *sha, const char *name, kernel_case *run, const struct shape *shape);

void check_products(struct sha256 *sha, int rounds);
void check_rows(struct sha256 *sha, int rounds);
void check_models(struct sha256 *sha);

#endif
