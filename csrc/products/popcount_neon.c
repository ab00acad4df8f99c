/* Popcount products on ARM. Four output channels are two registers: a panel of weight words, side by side, meets one
   broadcast word of activations; CNT counts the bits of bytes. See ternary_dot in popcount_portable.c for the arithmetic. */
#include <string.h>

#include "../internal.h"

#if REFVIT_ARM
#include "../neon.h"
#include "popcount_panel.h"

#define VECS 2 /* registers of the channels of a panel */

typedef int32x4_t counts;

/* A plane of 64 codes: the bit of each byte is moved to its place among eight, which are added up. */
INLINE uint64_t gather_bits(const uint8x16_t *codes, uint8x16_t bit)
{
    const uint8x16_t place = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const uint8x16_t a = vandq_u8(vtstq_u8(codes[0], bit), place), b = vandq_u8(vtstq_u8(codes[1], bit), place);
    const uint8x16_t c = vandq_u8(vtstq_u8(codes[2], bit), place), d = vandq_u8(vtstq_u8(codes[3], bit), place);
    const uint8x16_t sums = add_byte_pairs(add_byte_pairs(a, b), add_byte_pairs(c, d));
    return vgetq_lane_u64(vreinterpretq_u64_u8(add_byte_pairs(sums, sums)), 0);
}

INLINE void pack_word(size_t bits, const int8_t *x, uint64_t *out, size_t plane_stride)
{
    uint8x16_t codes[WORD_BITS / 16];
    UNROLL
    for (size_t i = 0; i < WORD_BITS / 16; i++)
        codes[i] = vreinterpretq_u8_s8(vld1q_s8(x + i * 16));
    for (size_t p = 0; p < bits; p++)
        out[p * plane_stride] = gather_bits(codes, vdupq_n_u8((uint8_t)(1u << p)));
}

TARGET void pack_bits_neon(const struct pack_job *job)
{
    const size_t k = job->k, whole = k / WORD_BITS, rest = k % WORD_BITS;
    for (size_t i = 0; i < job->m; i++) {
        const int8_t *x = job->x + i * k;
        uint64_t *out = job->out + i * job->row_stride;
        for (size_t w = 0; w < whole; w++, x += WORD_BITS, out += job->word_stride)
            pack_word(job->bits, x, out, job->plane_stride);
        if (rest) {
            int8_t codes[WORD_BITS] = {0};
            memcpy(codes, x, rest);
            pack_word(job->bits, codes, out, job->plane_stride);
        }
    }
}

INLINE void count_plane(size_t rows, const struct panel *panel, const uint64_t *x, size_t step, counts *found)
{
    uint8x16_t bytes[TILE * VECS];
    UNROLL
    for (size_t i = 0; i < rows * VECS; i++)
        bytes[i] = vdupq_n_u8(0);
    for (size_t w = 0; w < panel->depth; w++, x += step) {
        uint64x2_t nonzero[VECS], neg[VECS];
        UNROLL
        for (size_t v = 0; v < VECS; v++) {
            nonzero[v] = vld1q_u64(panel->nonzero + w * CHANNELS + v * 2);
            neg[v] = vld1q_u64(panel->neg + w * CHANNELS + v * 2);
        }
        UNROLL
        for (size_t i = 0; i < rows * VECS; i++) {
            const uint64x2_t xs = vdupq_n_u64(x[i / VECS]);
            const uint64x2_t selected = veorq_u64(neg[i % VECS], vandq_u64(xs, nonzero[i % VECS]));
            bytes[i] = vaddq_u8(bytes[i], vcntq_u8(vreinterpretq_u8_u64(selected)));
        }
    }
    UNROLL
    for (size_t r = 0; r < rows; r++)
        found[r] = add_pairs(vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(bytes[r * VECS]))),
                             vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(bytes[r * VECS + 1]))));
}

INLINE counts twice_minus(counts a, counts b)
{
    return vsubq_s32(vaddq_s32(a, a), b);
}

INLINE void store_row(const struct panel *panel, counts sums, const int32_t *start, int32_t *out)
{
    int32_t rest[CHANNELS] = {0};
    if (panel->channels == CHANNELS) {
        vst1q_s32(out, vsubq_s32(vld1q_s32(start), sums));
        return;
    }
    memcpy(rest, start, panel->channels * sizeof *rest);
    vst1q_s32(rest, vsubq_s32(vld1q_s32(rest), sums));
    memcpy(out, rest, panel->channels * sizeof *rest);
}

#include "popcount_tiles.h"

void ternary_neon(const struct ternary_job *job)
{
    ternary_panels(job);
}

#endif
