/* The dot-product family: codes of weights are decoded into a panel that stays in the cache, and multiplied by rows of
   int8 activations with the dot-product instructions of the machine.

   A panel holds `cols` output channels for all of k, in groups of four successive inputs: bytes [k / 4][channel][4].
   Codes are stored plus an offset: where instructions want one factor unsigned, it makes them so. So each row of
   activations starts from -offset * (its sum) instead of 0, and the sums come out exact (N7). */
#ifndef REFVIT_DOT_H
#define REFVIT_DOT_H

#include "../internal.h"

#define INPUTS 4         /* inputs that one lane multiplies at once */
#define PANEL_COLS REFVIT_PANEL_COLS /* channels of a panel, at most */
#define DOT_ALIGN 64    /* bytes to which rows of activations and panels are padded, with zeros */
#define TERNARY_OFFSET 1
#define INT8_OFFSET 128

/* Weights [n][k] of one layer: planes pos, neg [n][words] or, where those are NULL, codes w [n][stride]. */
struct dot_weights {
    size_t n, k;
    const uint64_t *pos, *neg;
    const int8_t *w;
    size_t stride;
};

/* What will be read soon and may come into the cache meanwhile, in two places: so many bytes of each with every row. */
struct dot_ahead {
    const char *from[2];
    size_t bytes;
};

/* out [m][cols] = init [m] + x [m][k] times a panel; x has `x_stride` bytes a row, zeros beyond k. */
struct dot_job {
    size_t m, k, cols;
    const int8_t *x;
    size_t x_stride;
    const int32_t *init;
    const uint8_t *panel;
    int32_t *out;
    size_t out_stride;
    struct dot_ahead ahead;
};

struct dot_kernels {
    size_t cols; /* channels of a panel */
    int32_t ternary_offset, int8_offset; /* of the codes in it */
    /* Channels first .. first + cols of the weights -> panel. */
    void (*decode)(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel);
    /* The same of weights that lie by inputs: w [k][stride], each row holding all channels. */
    void (*decode_inputs)(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel);
    void (*ternary)(const struct dot_job *job);
    void (*int8)(const struct dot_job *job);
    /* Sum of `length` codes, a multiple of DOT_ALIGN. */
    int32_t (*row_sum)(size_t length, const int8_t *x);
};

/* Those of a usable backend; all have the same bits. */
const struct dot_kernels *dot_kernels(int backend);

extern const struct dot_kernels dot_portable;
#if REFVIT_X86
extern const struct dot_kernels dot_avx2, dot_avxvnni, dot_avx512vnni;
#endif
#if REFVIT_ARM
extern const struct dot_kernels dot_neon, dot_neondot;
#endif

/* The first share of `count` things in as few shares of at most `most` as will do, all nearly equal. */
static inline size_t even_share(size_t count, size_t most)
{
    const size_t shares = (count + most - 1) / most;
    return (count + shares - 1) / shares;
}

/* Bytes that a tile of so many rows fetches with each group of inputs, of either place ahead. */
static inline size_t ahead_step(const struct dot_job *job, size_t rows)
{
    const size_t groups = (job->k + INPUTS - 1) / INPUTS;
    return groups ? (job->ahead.bytes * rows + groups - 1) / groups : 0;
}

static inline size_t padded(size_t bytes)
{
    return (bytes + DOT_ALIGN - 1) / DOT_ALIGN * DOT_ALIGN;
}

#endif
