/* Popcount products on RISC-V with Zbb, which counts the bits of a word in one instruction: tiles of rows by channels,
   whose counters live in registers. See ternary_dot in popcount_portable.c for the arithmetic. */
#include "../internal.h"

#if REFVIT_RISCV

#define INLINE static inline __attribute__((always_inline))
#define ROWS ((size_t)4) /* half a GROUP */
#define CHANNELS ((size_t)2)

/* cpop; as a number, for assemblers know its name only where it may be used everywhere. */
INLINE uint64_t popcount(uint64_t v)
{
    uint64_t count;
    __asm__(".insn i 0x13, 1, %0, %1, 0x602" : "=r"(count) : "r"(v));
    return count;
}

/* Weight words of the channels of a tile. */
struct words {
    const uint64_t *pos[CHANNELS], *neg[CHANNELS];
};

/* Popcounts of one plane, x [words][step]. */
INLINE void count_plane(size_t rows, size_t channels, const struct words *weights, size_t words, const uint64_t *x,
                        size_t step, uint64_t *counts)
{
    UNROLL
    for (size_t i = 0; i < rows * channels; i++)
        counts[i] = 0;
    for (size_t w = 0; w < words; w++, x += step) {
        UNROLL
        for (size_t c = 0; c < channels; c++) {
            const uint64_t neg = weights->neg[c][w], nonzero = weights->pos[c][w] ^ neg;
            UNROLL
            for (size_t r = 0; r < rows; r++)
                counts[r * channels + c] += popcount(neg ^ (x[r] & nonzero));
        }
    }
}

INLINE void ternary_tile(const struct ternary_job *job, size_t i, size_t j, const size_t rows, const size_t channels)
{
    const size_t row = i % GROUP, step = group_rows(job->m, i - row), words = job->words;
    const uint64_t *x = job->x + (i - row) * words * job->bits + row;
    int32_t sums[ROWS * CHANNELS];
    struct words weights;
    for (size_t c = 0; c < channels; c++) {
        weights.pos[c] = job->pos + (j + c) * words;
        weights.neg[c] = job->neg + (j + c) * words;
    }
    for (size_t t = 0; t < rows * channels; t++)
        sums[t] = job->neg_counts[j + t % channels];
    for (size_t p = 0; p < job->bits; p++, x += words * step) {
        uint64_t counts[ROWS * CHANNELS];
        count_plane(rows, channels, &weights, words, x, step, counts);
        for (size_t t = 0; t < rows * channels; t++)
            sums[t] += plane_weight(p, job->bits) * (int32_t)counts[t];
    }
    for (size_t t = 0; t < rows * channels; t++)
        job->out[(i + t / channels) * job->n + j + t % channels] = sums[t];
}

/* Constant heights and widths let the counters live in registers. */
static void ternary_rows(const struct ternary_job *job, size_t i, const size_t rows)
{
    size_t j = 0;
    for (; j + CHANNELS <= job->n; j += CHANNELS)
        rows == ROWS ? ternary_tile(job, i, j, ROWS, CHANNELS) : ternary_tile(job, i, j, 1, CHANNELS);
    for (; j < job->n; j++)
        rows == ROWS ? ternary_tile(job, i, j, ROWS, 1) : ternary_tile(job, i, j, 1, 1);
}

void ternary_rvzbb(const struct ternary_job *job)
{
    size_t i = 0;
    while (i < job->m) {
        const size_t rows = group_rows(job->m, i - i % GROUP) - i % GROUP >= ROWS ? ROWS : 1;
        ternary_rows(job, i, rows);
        i += rows;
    }
}

#endif
