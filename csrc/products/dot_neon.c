/* Dot products on ARM: 4 channels a register, four inputs a lane; by SMLAL, SMULL and SADALP or, from ARMv8.2 on, SDOT.
   Both factors are signed here, so a panel holds the codes as they are. */
#include <string.h>

#include "dot.h"

#if REFVIT_ARM
#include "../neon.h"

#define LANES 4
#define COLS 4 /* registers of channels of a panel */
#define WIDTH (COLS * LANES)
#define BYTES 16
#define GROUPS (BYTES / INPUTS) /* of a register of inputs */
#define DOT_ROWS 4
#if REFVIT_ARM64
#define ROWS 2 /* of 32 registers */
#else
#define ROWS 1 /* of 16 */
#endif
#define SHORT_STEPS 63 /* 63 * GROUPS products of at most 128 stay within 16 bits */

/* The codes of four channels, 16 inputs of each -> four groups of inputs of all channels. */
INLINE void transpose(const int8x16_t *codes, int32x4_t *groups)
{
    const int32x4x2_t a = vtrnq_s32(vreinterpretq_s32_s8(codes[0]), vreinterpretq_s32_s8(codes[1]));
    const int32x4x2_t b = vtrnq_s32(vreinterpretq_s32_s8(codes[2]), vreinterpretq_s32_s8(codes[3]));
    groups[0] = vcombine_s32(vget_low_s32(a.val[0]), vget_low_s32(b.val[0]));
    groups[1] = vcombine_s32(vget_low_s32(a.val[1]), vget_low_s32(b.val[1]));
    groups[2] = vcombine_s32(vget_high_s32(a.val[0]), vget_high_s32(b.val[0]));
    groups[3] = vcombine_s32(vget_high_s32(a.val[1]), vget_high_s32(b.val[1]));
}

/* Bit i -> byte i, all ones (-1) or zeros. */
INLINE int8x16_t spread(uint64_t bits)
{
    const uint8x16_t bit_of = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const uint8x16_t bytes = vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8)));
    return vreinterpretq_s8_u8(vtstq_u8(bytes, bit_of));
}

INLINE int8x16_t load_ternary(const struct dot_weights *weights, size_t row, size_t part)
{
    const size_t at = row * words_of(weights->k) + part / 4, shift = part % 4 * BYTES;
    return vsubq_s8(spread(weights->neg[at] >> shift), spread(weights->pos[at] >> shift));
}

/* The first n codes, then zeros. */
INLINE int8x16_t load_codes(const int8_t *from, size_t n)
{
    int8_t codes[BYTES] = {0};
    if (n >= BYTES)
        return vld1q_s8(from);
    memcpy(codes, from, n);
    return vld1q_s8(codes);
}

INLINE int8x16_t load_int8(const struct dot_weights *weights, size_t row, size_t part)
{
    const size_t start = part * BYTES, rest = start < weights->k ? weights->k - start : 0;
    return load_codes(weights->w + row * weights->stride + start, rest);
}

TARGET static void decode(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    const size_t parts = padded(weights->k) / BYTES;
    for (size_t block = 0; block < COLS; block++) {
        for (size_t part = 0; part < parts; part++) {
            int8x16_t codes[LANES];
            int32x4_t groups[GROUPS];
            UNROLL
            for (size_t i = 0; i < LANES; i++) {
                const size_t col = block * LANES + i, row = first + (col < cols ? col : cols - 1); /* or a stand-in */
                codes[i] = weights->pos ? load_ternary(weights, row, part) : load_int8(weights, row, part);
            }
            transpose(codes, groups);
            UNROLL
            for (size_t g = 0; g < GROUPS; g++)
                vst1q_u8(panel + ((part * GROUPS + g) * COLS + block) * BYTES, vreinterpretq_u8_s32(groups[g]));
        }
    }
}

/* Channels of one input; zeros beyond the last. */
INLINE int8x16_t load_input(const struct dot_weights *weights, size_t input, size_t first, size_t cols)
{
    return load_codes(weights->w + input * weights->stride + first, input < weights->k ? cols : 0);
}

/* Whole registers of inputs, as dot_tile reads them. */
TARGET static void decode_inputs(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    const size_t inputs = (weights->k + BYTES - 1) / BYTES * BYTES;
    for (size_t j = 0; j < inputs; j += INPUTS, panel += INPUTS * WIDTH) {
        int8x16x4_t group;
        UNROLL
        for (size_t i = 0; i < INPUTS; i++)
            group.val[i] = load_input(weights, j + i, first, cols);
        vst4q_s8((int8_t *)panel, group);
    }
}

INLINE int8x16_t load_panel(const struct dot_job *job, size_t group, size_t col)
{
    return vreinterpretq_s8_u8(vld1q_u8(job->panel + (group * COLS + col) * BYTES));
}

/* The sums of a row, to the channels there are. */
INLINE void store(const struct dot_job *job, size_t row, const int32x4_t *sums)
{
    int32_t *out = job->out + row * job->out_stride, rest[WIDTH];
    int32_t *to = job->cols == WIDTH ? out : rest;
    UNROLL
    for (size_t c = 0; c < COLS; c++)
        vst1q_s32(to + c * LANES, sums[c]);
    if (to == rest)
        memcpy(out, rest, job->cols * sizeof *rest);
}

/* The four inputs of a group, in every lane. */
INLINE int8x16_t broadcast(const int8_t *x)
{
    int32_t word;
    memcpy(&word, x, sizeof word);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

/* acc: for each register of channels, the products of its lower and of its upper two channels. */
INLINE void ternary_step(int16x8_t *acc, const int8x16_t *w, int8x16_t x)
{
    UNROLL
    for (size_t c = 0; c < COLS; c++) {
        acc[2 * c] = vmlal_s8(acc[2 * c], vget_low_s8(w[c]), vget_low_s8(x));
        acc[2 * c + 1] = mul_add_high(acc[2 * c + 1], w[c], x);
    }
}

INLINE void int8_step(int32x4_t *acc, const int8x16_t *w, int8x16_t x)
{
    UNROLL
    for (size_t c = 0; c < COLS; c++) {
        acc[2 * c] = vpadalq_s16(acc[2 * c], vmull_s8(vget_low_s8(w[c]), vget_low_s8(x)));
        acc[2 * c + 1] = vpadalq_s16(acc[2 * c + 1], mul_high(w[c], x));
    }
}

/* Products with ternary codes are small: their sums stay in 16 bits for SHORT_STEPS steps, then are widened. */
INLINE void ternary_tile(const struct dot_job *job, size_t row, const size_t rows)
{
    const size_t groups = (job->k + INPUTS - 1) / INPUTS;
    const int8_t *x = job->x + row * job->x_stride;
    int32x4_t sums[ROWS * COLS];
    UNROLL
    for (size_t i = 0; i < rows * COLS; i++)
        sums[i] = vdupq_n_s32(job->init[row + i / COLS]);
    for (size_t start = 0; start < groups; start += SHORT_STEPS * GROUPS) {
        const size_t end = groups - start < SHORT_STEPS * GROUPS ? groups : start + SHORT_STEPS * GROUPS;
        int16x8_t acc[ROWS * COLS * 2];
        int8x16_t w[COLS];
        UNROLL
        for (size_t i = 0; i < rows * COLS * 2; i++)
            acc[i] = vdupq_n_s16(0);
        for (size_t g = start; g < end; g++) {
            UNROLL
            for (size_t c = 0; c < COLS; c++)
                w[c] = load_panel(job, g, c);
            UNROLL
            for (size_t r = 0; r < rows; r++)
                ternary_step(acc + r * COLS * 2, w, broadcast(x + r * job->x_stride + g * INPUTS));
        }
        UNROLL
        for (size_t i = 0; i < rows * COLS; i++)
            sums[i] = vaddq_s32(sums[i], add_pairs(vpaddlq_s16(acc[2 * i]), vpaddlq_s16(acc[2 * i + 1])));
    }
    for (size_t r = 0; r < rows; r++)
        store(job, row + r, sums + r * COLS);
}

INLINE void int8_tile(const struct dot_job *job, size_t row, const size_t rows)
{
    const size_t groups = (job->k + INPUTS - 1) / INPUTS;
    const int8_t *x = job->x + row * job->x_stride;
    int32x4_t acc[ROWS * COLS * 2];
    int8x16_t w[COLS];
    UNROLL
    for (size_t i = 0; i < rows * COLS * 2; i++)
        acc[i] = vdupq_n_s32(0);
    for (size_t g = 0; g < groups; g++) {
        UNROLL
        for (size_t c = 0; c < COLS; c++)
            w[c] = load_panel(job, g, c);
        UNROLL
        for (size_t r = 0; r < rows; r++)
            int8_step(acc + r * COLS * 2, w, broadcast(x + r * job->x_stride + g * INPUTS));
    }
    for (size_t r = 0; r < rows; r++) {
        int32x4_t sums[COLS];
        UNROLL
        for (size_t c = 0; c < COLS; c++)
            sums[c] = vaddq_s32(vdupq_n_s32(job->init[row + r]),
                                add_pairs(acc[(r * COLS + c) * 2], acc[(r * COLS + c) * 2 + 1]));
        store(job, row + r, sums);
    }
}

TARGET static void ternary(const struct dot_job *job)
{
    size_t row = 0;
    for (; row + ROWS <= job->m; row += ROWS)
        ternary_tile(job, row, ROWS);
    for (; row < job->m; row++)
        ternary_tile(job, row, 1);
}

TARGET static void int8(const struct dot_job *job)
{
    size_t row = 0;
    for (; row + ROWS <= job->m; row += ROWS)
        int8_tile(job, row, ROWS);
    for (; row < job->m; row++)
        int8_tile(job, row, 1);
}

TARGET static int32_t row_sum(size_t length, const int8_t *x)
{
    int32x4_t acc = vdupq_n_s32(0);
    for (size_t i = 0; i < length; i += BYTES)
        acc = vpadalq_s16(acc, vpaddlq_s8(vld1q_s8(x + i)));
    int32_t sums[LANES];
    vst1q_s32(sums, acc);
    return sums[0] + sums[1] + sums[2] + sums[3];
}

const struct dot_kernels dot_neon = {WIDTH, 0, 0, decode, decode_inputs, ternary, int8, row_sum};

#if REFVIT_ARM64

#if defined(__clang__)
#define DOT_TARGET __attribute__((target("dotprod")))
#else
#define DOT_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define DOT_INLINE DOT_TARGET static inline __attribute__((always_inline))

/* acc + the four products in each lane, x being group `lane` of its register. Not the intrinsic, as arm_neon.h of clang
   before 16 declares that only where dot products may be used everywhere. */
#define DOT_LANE(lane)                                                                                                 \
    DOT_INLINE int32x4_t dot_##lane(int32x4_t acc, int8x16_t w, int8x16_t x)                                           \
    {                                                                                                                  \
        __asm__("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(acc) : "w"(w), "w"(x));                                  \
        return acc;                                                                                                    \
    }

DOT_LANE(0)
DOT_LANE(1)
DOT_LANE(2)
DOT_LANE(3)

/* lane is a constant, once inlined. */
DOT_INLINE int32x4_t dot(int32x4_t acc, int8x16_t w, int8x16_t x, size_t lane)
{
    switch (lane) {
    case 0: return dot_0(acc, w, x);
    case 1: return dot_1(acc, w, x);
    case 2: return dot_2(acc, w, x);
    default: return dot_3(acc, w, x);
    }
}

DOT_INLINE void dot_tile(const struct dot_job *job, size_t row, const size_t rows)
{
    int32x4_t acc[DOT_ROWS * COLS];
    int8x16_t x[DOT_ROWS], w[COLS];
    UNROLL
    for (size_t i = 0; i < rows * COLS; i++)
        acc[i] = vdupq_n_s32(job->init[row + i / COLS]);
    for (size_t part = 0; part * BYTES < job->k; part++) {
        UNROLL
        for (size_t r = 0; r < rows; r++)
            x[r] = vld1q_s8(job->x + (row + r) * job->x_stride + part * BYTES);
        UNROLL
        for (size_t g = 0; g < GROUPS; g++) {
            UNROLL
            for (size_t c = 0; c < COLS; c++)
                w[c] = load_panel(job, part * GROUPS + g, c);
            UNROLL
            for (size_t i = 0; i < rows * COLS; i++)
                acc[i] = dot(acc[i], w[i % COLS], x[i / COLS], g);
        }
    }
    for (size_t r = 0; r < rows; r++)
        store(job, row + r, acc + r * COLS);
}

DOT_TARGET static void dots(const struct dot_job *job)
{
    size_t row = 0;
    for (; row + DOT_ROWS <= job->m; row += DOT_ROWS)
        dot_tile(job, row, DOT_ROWS);
    for (; row < job->m; row++)
        dot_tile(job, row, 1);
}

const struct dot_kernels dot_neondot = {WIDTH, 0, 0, decode, decode_inputs, dots, dots, row_sum};

#endif

#endif
