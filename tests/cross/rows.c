/* Float rows over lengths on both sides of their vectors: ordinary values, subnormal ones, infinities, NaN. */
#include <math.h>

#include "check.h"

static const size_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 49, 64, 65, 100, 197, 384};

/* Values of sizes that lie close together, or far apart, or are beside the smallest numbers. */
static const int ranges[][2] = {{-3, 3}, {-8, 6}, {-126, 127}, {-126, -100}};

#define SPECIALS 4

static float *fill(uint64_t *state, size_t count)
{
    static const float special[SPECIALS] = {0.0f, -0.0f, 0x1p-149f, -0x1.8p-130f};
    float *x = guarded(count * sizeof *x);
    const int *range = ranges[next(state) % 4];
    const uint64_t rare = next(state) % 4 ? 1000000 : 8;
    for (size_t i = 0; i < count; i++)
        x[i] = next(state) % rare == 0 ? special[next(state) % SPECIALS] : next_float(state, range[0], range[1]);
    if (next(state) % 8 == 0)
        x[next(state) % count] = next(state) % 2 ? INFINITY : -INFINITY;
    if (next(state) % 8 == 0)
        x[next(state) % count] = NAN;
    return x;
}

/* The status of floats and, unless there is a NaN among them, their bits: which NaN it is, no rule says. */
static void note_result(struct record *record, int status, size_t count, const float *y)
{
    note(record, (uint32_t)status);
    if (status == REFVIT_OK)
        note_floats(record, count, y);
}

static void note_coded(struct record *record, int status, size_t count, const int8_t *q)
{
    note(record, (uint32_t)status);
    if (status == REFVIT_OK)
        note_codes(record, count, q);
}

static void quantize_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t m = shape->m, k = shape->k;
    const int high = (1 << (shape->bits - 1)) - 1;
    const float *x = fill(&state, m * k);
    float *s = guarded(m * sizeof *s);
    int32_t *zp = guarded(m * sizeof *zp);
    int8_t *q = guarded(m * k);
    note(record, (uint32_t)refvit_minmax_scale(backend, m, k, shape->bits, x, s, zp));
    note_floats(record, m, s);
    note_ints(record, m, zp);
    note_coded(record, refvit_quantize_rows(backend, m, k, -high - 1, high, x, s, zp, q), m * k, q);
    note(record, (uint32_t)refvit_symmetric_scale(backend, m, k, shape->bits, x, s));
    note_floats(record, m, s);
    for (size_t i = 0; i < m; i++)
        zp[i] = 0;
    note_coded(record, refvit_quantize_rows(backend, m, k, -high, high, x, s, zp, q), m * k, q);
}

static void rescale_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t m = shape->m, k = shape->k;
    const float *s = fill(&state, m), *alpha = fill(&state, k), *bias = fill(&state, k);
    int32_t *acc = guarded(m * k * sizeof *acc);
    float *y = guarded(m * k * sizeof *y);
    for (size_t i = 0; i < m * k; i++)
        acc[i] = (int32_t)(uint32_t)next(&state);
    note_result(record, refvit_rescale(backend, m, k, acc, s, alpha, bias, y), m * k, y);
    note_result(record, refvit_rescale(backend, m, k, acc, s, alpha, NULL, y), m * k, y);
}

static void layernorm_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t m = shape->m, k = shape->k;
    const float *x = fill(&state, m * k), *weight = fill(&state, k), *bias = fill(&state, k);
    float *y = guarded(m * k * sizeof *y);
    note_result(record, refvit_layernorm(backend, m, k, x, weight, bias, 1e-6f, y), m * k, y);
}

static void softmax_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t count = shape->m * shape->k;
    const float *x = fill(&state, count);
    float *y = guarded(count * sizeof *y), *room = guarded(4 * shape->k * sizeof *room);
    int8_t *q = guarded(count);
    note_result(record, refvit_softmax(backend, shape->m, shape->k, x, y), count, y);
    note_coded(record, refvit_softmax_codes(backend, shape->m, shape->k, x, room, q), count, q);
}

static void gelu_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const size_t count = shape->m * shape->k;
    const float *x = fill(&state, count);
    float *y = guarded(count * sizeof *y), *room = guarded(4 * shape->k * sizeof *room), *s = guarded(shape->m * sizeof *s);
    int8_t *q = guarded(count);
    note_result(record, refvit_gelu(backend, count, x, y), count, y);
    note_result(record, refvit_exp(backend, count, x, y), count, y);
    note_result(record, refvit_erf(backend, count, x, y), count, y);
    const int status = refvit_gelu_codes(backend, shape->m, shape->k, shape->bits, x, room, q, s);
    note_coded(record, status, count, q);
    note_result(record, status, shape->m, s);
}

static void matmul16_case(int backend, const struct shape *shape, struct record *record)
{
    uint64_t state = shape->seed;
    const float *a = fill(&state, shape->m * shape->k), *b = fill(&state, shape->n * shape->k);
    float *y = guarded(shape->m * shape->n * sizeof *y);
    note_result(record, refvit_matmul16(backend, 1, shape->m, shape->n, shape->k, a, b, y), shape->m * shape->n, y);
}

void check_rows(struct sha256 *sha, int rounds)
{
    uint64_t state = 2;
    for (int i = 0; i < rounds; i++) {
        const size_t k = lengths[(size_t)i % (sizeof lengths / sizeof *lengths)];
        const struct shape shape = {1 + next(&state) % 4, 1 + next(&state) % 4, k, 2 + i % 7, 0, next(&state)};
        on_every_backend(sha, "quantize_rows", quantize_case, &shape);
        on_every_backend(sha, "rescale", rescale_case, &shape);
        on_every_backend(sha, "layernorm", layernorm_case, &shape);
        on_every_backend(sha, "softmax", softmax_case, &shape);
        on_every_backend(sha, "gelu", gelu_case, &shape);
        on_every_backend(sha, "matmul16", matmul16_case, &shape);
    }
}
