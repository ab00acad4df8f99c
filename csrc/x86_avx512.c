/* Integer kernels for AVX-512 F, BW, VL and VPOPCNTDQ. The lanes of a register are eight output channels: a panel of
   weight words, side by side, meets one broadcast word of activations. See ternary_dot in portable.c for the
   arithmetic. */
#include <string.h>

#include "internal.h"

#if REFVIT_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define SELECT 0xca /* truth table of a ? b : c */
#define LANES 8     /* 64-bit lanes of a register */
#define VECS 2      /* registers of channels of a panel */
#define CHANNELS ((size_t)VECS * LANES)
#define DEPTH ((size_t)48) /* words of a panel: its 12 KiB stay in the first-level cache beside the activations */
#define ROWS 4             /* rows and channels of an int8 block: 16 accumulators of the 32 registers */
#define COLS 4

/* Words first .. first + depth of up to CHANNELS channels from `channel` on; channels beyond the last are zeros. */
struct panel {
    size_t channel, channels, first, depth;
    __attribute__((aligned(64))) uint64_t pos[DEPTH * CHANNELS], neg[DEPTH * CHANNELS];
};

/* The planes of a word of codes, from the top one down. */
INLINE void pack_word(size_t bits, __m512i codes, uint64_t *out, size_t plane_stride)
{
    const __m128i unused = _mm_cvtsi32_si128((int)(MAX_BITS - bits));
    codes = _mm512_sll_epi16(codes, unused); /* the top plane to the top of each byte, where movepi8_mask reads */
    for (size_t p = bits; p-- > 0; codes = _mm512_add_epi8(codes, codes))
        out[p * plane_stride] = _mm512_movepi8_mask(codes);
}

INLINE void pack_rows(const struct pack_job *job, size_t bits)
{
    const size_t k = job->k, whole = k / WORD_BITS, rest = k % WORD_BITS;
    const size_t word_stride = job->word_stride, plane_stride = job->plane_stride;
    const int8_t *x = job->x;
    for (size_t i = 0; i < job->m; i++, x += rest) {
        uint64_t *out = job->out + i * job->row_stride;
        for (size_t w = 0; w < whole; w++, x += WORD_BITS, out += word_stride)
            pack_word(bits, _mm512_loadu_si512(x), out, plane_stride);
        if (rest)
            pack_word(bits, _mm512_maskz_loadu_epi8(((uint64_t)1 << rest) - 1, x), out, plane_stride);
    }
}

/* A constant number of bits unrolls the loop over the planes. */
TARGET void pack_bits_avx512(const struct pack_job *job)
{
    switch (job->bits) {
    case 1: pack_rows(job, 1); break;
    case 2: pack_rows(job, 2); break;
    case 3: pack_rows(job, 3); break;
    case 4: pack_rows(job, 4); break;
    case 5: pack_rows(job, 5); break;
    case 6: pack_rows(job, 6); break;
    case 7: pack_rows(job, 7); break;
    default: pack_rows(job, MAX_BITS); break;
    }
}

static void fill_panel(const struct ternary_job *job, struct panel *panel)
{
    const size_t words = job->words, channels = panel->channels, from = panel->channel * words + panel->first;
    const uint64_t *pos = job->pos + from, *neg = job->neg + from;
    if (channels < CHANNELS) {
        memset(panel->pos, 0, sizeof panel->pos);
        memset(panel->neg, 0, sizeof panel->neg);
    }
    for (size_t w = 0; w < panel->depth; w++) {
        for (size_t c = 0; c < channels; c++) {
            panel->pos[w * CHANNELS + c] = pos[c * words + w];
            panel->neg[w * CHANNELS + c] = neg[c * words + w];
        }
    }
}

/* How the popcounts of a word enter the counts. */
enum effect { SET, PLUS, MINUS, TWICE_MINUS };

INLINE __m512i enter(enum effect effect, __m512i count, __m512i change)
{
    if (effect == SET)
        return change;
    if (effect == PLUS)
        return _mm512_add_epi64(count, change);
    if (effect == TWICE_MINUS)
        count = _mm512_add_epi64(count, count);
    return _mm512_sub_epi64(count, change);
}

/* Word w of one plane, x [rows]. A row's three steps are spread over three turns: side by side they would wait for
   each other, 5 % of the time. The loop over rows must unroll, for registers have no index. */
INLINE void count_word(size_t rows, enum effect effect, const struct panel *panel, size_t w, const uint64_t *x,
                       __m512i counts[][VECS])
{
    __m512i pos[VECS], neg[VECS], bits[GROUP][VECS];
    for (size_t v = 0; v < VECS; v++) {
        pos[v] = _mm512_load_si512(panel->pos + w * CHANNELS + v * LANES);
        neg[v] = _mm512_load_si512(panel->neg + w * CHANNELS + v * LANES);
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < rows + 2; r++) {
        for (size_t v = 0; v < VECS && r >= 1 && r - 1 < rows; v++)
            bits[r - 1][v] = _mm512_popcnt_epi64(bits[r - 1][v]);
        for (size_t v = 0; v < VECS && r < rows; v++)
            bits[r][v] = _mm512_ternarylogic_epi64(_mm512_set1_epi64((int64_t)x[r]), pos[v], neg[v], SELECT);
        for (size_t v = 0; v < VECS && r >= 2; v++)
            counts[r - 2][v] = enter(effect, counts[r - 2][v], bits[r - 2][v]);
    }
}

/* All words of one plane, x [depth][rows]. */
INLINE void count_plane(size_t rows, enum effect first, enum effect others, const struct panel *panel,
                        const uint64_t *x, __m512i counts[][VECS])
{
    count_word(rows, first, panel, 0, x, counts);
    for (size_t w = 1; w < panel->depth; w++)
        count_word(rows, others, panel, w, x + w * rows, counts);
}

/* out = start - counts, of which the low halves matter. */
INLINE void store_row(size_t channels, const __m512i *counts, const int32_t *start, int32_t *out)
{
    const __m512i low_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i sums = _mm512_permutex2var_epi32(counts[0], low_halves, counts[1]);
    const __mmask16 used = (__mmask16)(((uint32_t)1 << channels) - 1);
    if (channels == CHANNELS)
        _mm512_storeu_si512(out, _mm512_sub_epi32(_mm512_loadu_si512(start), sums));
    else
        _mm512_mask_storeu_epi32(out, used, _mm512_sub_epi32(_mm512_maskz_loadu_epi32(used, start), sums));
}

/* Horner's rule from the top plane down, for the negative of the product, as the top plane alone weighs negatively. */
INLINE void ternary_tile(const struct ternary_job *job, const struct panel *panel, size_t i, size_t rows)
{
    const size_t n = job->n, plane = job->words * rows;
    const uint64_t *x = job->x + i * job->words * job->bits + panel->first * rows;
    __m512i counts[GROUP][VECS];
    count_plane(rows, SET, PLUS, panel, x + (job->bits - 1) * plane, counts);
    for (size_t p = job->bits - 1; p-- > 0;)
        count_plane(rows, TWICE_MINUS, MINUS, panel, x + p * plane, counts);
    int32_t *out = job->out + i * n + panel->channel;
    const int32_t *start = panel->first ? out : job->neg_counts + panel->channel;
    const size_t start_stride = panel->first ? n : 0;
    for (size_t r = 0; r < rows; r++)
        store_row(panel->channels, counts[r], start + r * start_stride, out + r * n);
}

/* A constant number of rows lets the counts live in registers. */
INLINE void ternary_group(const struct ternary_job *job, const struct panel *panel, size_t i)
{
    switch (group_rows(job->m, i)) {
    case 1: ternary_tile(job, panel, i, 1); break;
    case 2: ternary_tile(job, panel, i, 2); break;
    case 3: ternary_tile(job, panel, i, 3); break;
    case 4: ternary_tile(job, panel, i, 4); break;
    case 5: ternary_tile(job, panel, i, 5); break;
    case 6: ternary_tile(job, panel, i, 6); break;
    case 7: ternary_tile(job, panel, i, 7); break;
    default: ternary_tile(job, panel, i, GROUP); break;
    }
}

TARGET void ternary_avx512(const struct ternary_job *job)
{
    struct panel panel;
    for (panel.channel = 0; panel.channel < job->n; panel.channel += CHANNELS) {
        panel.channels = job->n - panel.channel < CHANNELS ? job->n - panel.channel : CHANNELS;
        for (panel.first = 0; panel.first < job->words; panel.first += DEPTH) {
            panel.depth = job->words - panel.first < DEPTH ? job->words - panel.first : DEPTH;
            fill_panel(job, &panel);
            for (size_t i = 0; i < job->m; i += GROUP)
                ternary_group(job, &panel, i);
        }
    }
}

/* 32 bytes, of which `used` are read, widened to 16 bits: -128 * -128 has no room in 8-bit multiply-adds. */
INLINE __m512i load_wide(const int8_t *bytes, __mmask32 used)
{
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(used, bytes));
}

INLINE void int8_block(const struct int8_job *job, size_t i, size_t j, size_t rows, size_t cols)
{
    const size_t k = job->k;
    const int8_t *x = job->x + i * k, *w = job->w + j * k;
    __m512i acc[ROWS][COLS];
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            acc[r][c] = _mm512_setzero_si512();
    for (size_t l = 0; l < k; l += 32) {
        const __mmask32 used = k - l < 32 ? ~(uint32_t)0 >> (32 - (k - l)) : ~(uint32_t)0;
        __m512i xs[ROWS];
        for (size_t r = 0; r < rows; r++)
            xs[r] = load_wide(x + r * k + l, used);
        for (size_t c = 0; c < cols; c++) {
            const __m512i ws = load_wide(w + c * k + l, used);
            for (size_t r = 0; r < rows; r++)
                acc[r][c] = _mm512_add_epi32(acc[r][c], _mm512_madd_epi16(xs[r], ws));
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            job->out[(i + r) * job->n + j + c] = _mm512_reduce_add_epi32(acc[r][c]);
}

TARGET void int8_avx512(const struct int8_job *job)
{
    const size_t m = job->m, n = job->n;
    size_t i, j;
    for (j = 0; j + COLS <= n; j += COLS) {
        for (i = 0; i + ROWS <= m; i += ROWS)
            int8_block(job, i, j, ROWS, COLS);
        for (; i < m; i++)
            int8_block(job, i, j, 1, COLS);
    }
    for (; j < n; j++) {
        for (i = 0; i + ROWS <= m; i += ROWS)
            int8_block(job, i, j, ROWS, 1);
        for (; i < m; i++)
            int8_block(job, i, j, 1, 1);
    }
}

#endif
