/* Popcount products on ARM. Four output channels are two registers: a panel of weight words, side by side, meets one
   broadcast word of activations; CNT counts the bits of bytes. See ternary_dot in portable.c for the arithmetic. */
#include <string.h>

#include "internal.h"

#if REFVIT_ARM
#include "neon.h"

#define VECS 2
#define CHANNELS ((size_t)4)
#define DEPTH ((size_t)31) /* words of a panel, whose bits a byte can count: 31 * 8 <= 255 */
#define TILE ((size_t)4)   /* rows of a tile */

/* Words first .. first + depth of the channels from `channel` on; the lanes beyond the last channel are zeros. */
struct panel {
    size_t channel, channels, first, depth;
    uint64_t nonzero[DEPTH * CHANNELS], neg[DEPTH * CHANNELS];
};

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

static void fill_panel(const struct ternary_job *job, struct panel *panel)
{
    if (panel->channels < CHANNELS) {
        memset(panel->nonzero, 0, sizeof panel->nonzero);
        memset(panel->neg, 0, sizeof panel->neg);
    }
    for (size_t c = 0; c < panel->channels; c++) {
        const size_t from = (panel->channel + c) * job->words + panel->first;
        for (size_t w = 0; w < panel->depth; w++) {
            panel->nonzero[w * CHANNELS + c] = job->pos[from + w] ^ job->neg[from + w];
            panel->neg[w * CHANNELS + c] = job->neg[from + w];
        }
    }
}

/* Popcounts of one plane, x [depth][step], for `rows` rows, of each channel. */
INLINE void count_plane(size_t rows, const struct panel *panel, const uint64_t *x, size_t step, int32x4_t *counts)
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
        counts[r] = add_pairs(vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(bytes[r * VECS]))),
                              vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(bytes[r * VECS + 1]))));
}

/* out = start - sums, of the channels there are. */
INLINE void store_row(const struct panel *panel, int32x4_t sums, const int32_t *start, int32_t *out)
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

/* Horner's rule from the top plane down, for the negative of the product, as the top plane alone weighs negatively. */
INLINE void ternary_tile(const struct ternary_job *job, const struct panel *panel, size_t i, const size_t rows)
{
    const size_t row = i % GROUP, step = group_rows(job->m, i - row), plane = job->words * step;
    const uint64_t *x = job->x + (i - row) * job->words * job->bits + panel->first * step + row;
    int32x4_t sums[TILE], counts[TILE];
    count_plane(rows, panel, x + (job->bits - 1) * plane, step, sums);
    for (size_t p = job->bits - 1; p-- > 0;) {
        count_plane(rows, panel, x + p * plane, step, counts);
        UNROLL
        for (size_t r = 0; r < rows; r++)
            sums[r] = vsubq_s32(vaddq_s32(sums[r], sums[r]), counts[r]);
    }
    for (size_t r = 0; r < rows; r++) {
        int32_t *out = job->out + (i + r) * job->n + panel->channel;
        store_row(panel, sums[r], panel->first ? out : job->neg_counts + panel->channel, out);
    }
}

/* A constant number of rows lets the counters of each height live in registers. */
TARGET static void ternary_rows(const struct ternary_job *job, const struct panel *panel, size_t i, size_t rows)
{
    switch (rows) {
    case 1: ternary_tile(job, panel, i, 1); break;
    case 2: ternary_tile(job, panel, i, 2); break;
    case 3: ternary_tile(job, panel, i, 3); break;
    default: ternary_tile(job, panel, i, TILE);
    }
}

void ternary_neon(const struct ternary_job *job)
{
    struct panel panel;
    for (panel.channel = 0; panel.channel < job->n; panel.channel += CHANNELS) {
        panel.channels = job->n - panel.channel < CHANNELS ? job->n - panel.channel : CHANNELS;
        for (panel.first = 0; panel.first < job->words; panel.first += DEPTH) {
            panel.depth = job->words - panel.first < DEPTH ? job->words - panel.first : DEPTH;
            fill_panel(job, &panel);
            for (size_t i = 0; i < job->m; i += TILE)
                ternary_rows(job, &panel, i, job->m - i < TILE ? job->m - i : TILE);
        }
    }
}

#endif
