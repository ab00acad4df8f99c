/* Integer kernels over sizes on both sides of their blocks, on random codes and on the extreme ones. */
#include <string.h>

#include "check.h"

static const size_t rows[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 17, 25};
static const size_t channels[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65};
static const size_t lengths[] = {0,  1,   3,   4,   5,   15,  16,   17,   63,   64,
                                 65, 127, 128, 200, 255, 257, 1024, 1100, 2047, 4100};

#define PICK(from, state) from[next(state) % (sizeof from / sizeof *from)]

static size_t words_of(size_t k)
{
    return (k + 63) / 64;
}

static size_t padded(size_t k)
{
    return words_of(k) * 64;
}

/* Two's complement codes of `bits` bits. */
static void fill_codes(const struct shape *shape, int bits, uint64_t *state, size_t count, int8_t *codes)
{
    const int low = -(1 << (bits - 1)), high = -low - 1;
    for (size_t i = 0; i < count; i++)
        codes[i] = (int8_t)(shape->extreme == 1   ? low
                            : shape->extreme == 2 ? high
                                                  : low + (int)(next(state) % (uint64_t)(high - low + 1)));
}

static int8_t *ternary_codes(const struct shape *shape, uint64_t *state)
{
    int8_t *codes = guarded(shape->n * shape->k);
    for (size_t i = 0; i < shape->n * shape->k; i++)
        codes[i] = (int8_t)(shape->extreme ? 1 - (int)(i / shape->k % 2) * 2 : (int)(next(state) % 3) - 1);
    return codes;
}

static uint64_t *planes_of(const struct shape *shape, uint64_t *state)
{
    uint64_t *planes = guarded(2 * shape->n * words_of(shape->k) * sizeof *planes);
    refvit_pack_planes(REFVIT_PORTABLE, shape->n, shape->k, ternary_codes(shape, state), planes);
    return planes;
}

/* Codes [rows][k], each row padded with zeros. */
static int8_t *padded_codes(const struct shape *shape, uint64_t *state)
{
    int8_t *x = guarded(shape->m * padded(shape->k));
    memset(x, 0, shape->m * padded(shape->k));
    for (size_t i = 0; i < shape->m; i++)
        fill_codes(shape, 8, state, shape->k, x + i * padded(shape->k));
    return x;
}

static void pack_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t size = 2 * shape->n * words_of(shape->k);
    uint64_t *planes = guarded(size * sizeof *planes);
    note(record, (uint32_t)refvit_pack_planes(backend, shape->n, shape->k, ternary_codes(shape, &state), planes));
    note_words(record, size, planes);
}

static void base3_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t total = shape->n * shape->k, words = 2 * shape->n * words_of(shape->k);
    const int8_t *codes = ternary_codes(shape, &state);
    uint8_t *stream = guarded((total + 4) / 5);
    uint64_t *planes = guarded(words * sizeof *planes);
    for (size_t i = 0; i < total; i += 5) {
        unsigned byte = 0;
        for (size_t j = 5; j-- > 0;)
            byte = byte * 3 + (i + j < total ? (unsigned)(codes[i + j] + 1) : 1);
        stream[i / 5] = (uint8_t)byte;
    }
    (void)backend;
    note(record, (uint32_t)refvit_decode_base3(shape->n, shape->k, stream, planes));
    note_words(record, words, planes);
}

static void popcount_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t bits = (size_t)shape->bits, room = shape->m * words_of(shape->k) * bits;
    const uint64_t *planes = planes_of(shape, &state);
    int8_t *x = guarded(shape->m * shape->k);
    int32_t *neg_counts = guarded(shape->n * sizeof *neg_counts), *out = guarded(shape->m * shape->n * sizeof *out);
    uint64_t *work = guarded(room * sizeof *work);
    fill_codes(shape, shape->bits, &state, shape->m * shape->k, x);
    note(record, (uint32_t)refvit_check_planes(shape->n, shape->k, planes, neg_counts));
    note_ints(record, shape->n, neg_counts);
    note(record, (uint32_t)refvit_ternary_matmul(backend, shape->m, shape->n, shape->k, bits, x, planes, neg_counts,
                                                 work, room, out));
    note_ints(record, shape->m * shape->n, out);
}

static void ternary_dot_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const uint64_t *planes = planes_of(shape, &state);
    const int8_t *x = padded_codes(shape, &state);
    int32_t *init = guarded(shape->m * sizeof *init), *out = guarded(shape->m * shape->n * sizeof *out);
    uint8_t *panel = guarded(REFVIT_PANEL_COLS * padded(shape->k));
    note(record, (uint32_t)refvit_ternary_dot(backend, shape->m, shape->n, shape->k, x, planes, init, panel, out));
    note_ints(record, shape->m * shape->n, out);
}

static void int8_dot(int backend, const struct shape *shape, int by_inputs, struct record *record)
{
    uint64_t state = shape->seed;
    const int8_t *x = padded_codes(shape, &state);
    int8_t *w = guarded(shape->n * shape->k);
    int32_t *init = guarded(shape->m * sizeof *init), *out = guarded(shape->m * shape->n * sizeof *out);
    uint8_t *panel = guarded(REFVIT_PANEL_COLS * padded(shape->k));
    fill_codes(shape, 8, &state, shape->n * shape->k, w);
    note(record, (uint32_t)refvit_int8_dot(backend, 1, shape->m, shape->n, shape->k, x, w, by_inputs, init, panel,
                                           out));
    note_ints(record, shape->m * shape->n, out);
}

static void int8_dot_case(int backend, const struct shape *shape, struct record *record)
{
    int8_dot(backend, shape, 0, record);
    int8_dot(backend, shape, 1, record);
}

static void every_product(struct sha256 *sha, const struct shape *shape)
{
    on_every_backend(sha, "pack_planes", pack_case, shape);
    on_every_backend(sha, "decode_base3", base3_case, shape);
    on_every_backend(sha, "ternary_matmul", popcount_case, shape);
    on_every_backend(sha, "ternary_dot", ternary_dot_case, shape);
    on_every_backend(sha, "int8_dot", int8_dot_case, shape);
}

void check_products(struct sha256 *sha, int rounds)
{
    uint64_t state = 1;
    for (int i = 0; i < rounds; i++) {
        struct shape shape = {PICK(rows, &state), PICK(channels, &state), PICK(lengths, &state), 1 + i % 8, i / 8 % 3,
                              next(&state)};
        every_product(sha, &shape);
    }
    for (int extreme = 0; extreme < 3; extreme++) /* the largest sums there can be (N7) */
        every_product(sha, &(struct shape){2, 3, (1 << 17) - 1, 8, extreme, 5});
}
