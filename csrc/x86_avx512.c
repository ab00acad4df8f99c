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
#define CHANNELS (VECS * LANES)
#define DEPTH ((size_t)48) /* words of a panel: its 12 KiB stay in the first-level cache beside the activations */
#define ROWS 4      /* rows and channels of an int8 block: 16 accumulators of the 32 registers */
#define COLS 4

/* Words first .. first + depth of the channels from `channel` on, as [depth][pos, neg][CHANNELS]. */
struct panel {
    size_t channel, first, depth;
    __attribute__((aligned(64))) uint64_t words[DEPTH * 2 * CHANNELS];
};

TARGET void pack_bits_avx512(const struct pack_job *job)
{
    for (size_t i = 0; i < job->m; i++) {
        uint64_t *out = job->out + i * job->row_stride;
        for (size_t j = 0; j < job->k; j += WORD_BITS, out += job->word_stride) {
            const size_t count = job->k - j < WORD_BITS ? job->k - j : WORD_BITS;
            const __mmask64 used = ~(uint64_t)0 >> (WORD_BITS - count);
            const __m512i v = _mm512_maskz_loadu_epi8(used, job->x + i * job->k + j);
            for (size_t p = 0; p < job->bits; p++)
                out[p * job->plane_stride] = _mm512_test_epi8_mask(v, _mm512_set1_epi8((char)(1 << p)));
        }
    }
}

/* Channels beyond the last are zeros. */
INLINE void fill_panel(const struct ternary_job *job, struct panel *panel)
{
    const size_t left = job->n - panel->channel, channels = left < CHANNELS ? left : CHANNELS;
    if (channels < CHANNELS)
        memset(panel->words, 0, panel->depth * 2 * CHANNELS * sizeof *panel->words);
    for (size_t c = 0; c < channels; c++) {
        const size_t from = (panel->channel + c) * job->words + panel->first;
        for (size_t w = 0; w < panel->depth; w++) {
            panel->words[(2 * w) * CHANNELS + c] = job->pos[from + w];
            panel->words[(2 * w + 1) * CHANNELS + c] = job->neg[from + w];
        }
    }
}

/* counts += or, for `sign` -1, -= the popcounts of one plane, x [depth][rows]. */
INLINE void count_plane(size_t rows, int sign, const struct panel *panel, const uint64_t *x, __m512i counts[][VECS])
{
    const uint64_t *words = panel->words;
    for (size_t w = 0; w < panel->depth; w++, x += rows, words += 2 * CHANNELS) {
        __m512i pos[VECS], neg[VECS];
        for (size_t v = 0; v < VECS; v++) {
            pos[v] = _mm512_load_si512(words + v * LANES);
            neg[v] = _mm512_load_si512(words + CHANNELS + v * LANES);
        }
        for (size_t r = 0; r < rows; r++) {
            const __m512i xs = _mm512_set1_epi64((int64_t)x[r]);
            for (size_t v = 0; v < VECS; v++) {
                const __m512i count = _mm512_popcnt_epi64(_mm512_ternarylogic_epi64(xs, pos[v], neg[v], SELECT));
                counts[r][v] = sign < 0 ? _mm512_sub_epi64(counts[r][v], count) : _mm512_add_epi64(counts[r][v], count);
            }
        }
    }
}

/* Horner's rule from the top plane down, for the negative of the product, as the top plane alone weighs negatively. */
INLINE void ternary_tile(const struct ternary_job *job, const struct panel *panel, size_t i, size_t rows)
{
    const size_t size = job->words * rows, left = job->n - panel->channel;
    const uint64_t *x = job->x + i * job->words * job->bits + panel->first * rows;
    __m512i counts[GROUP][VECS];
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < VECS; v++)
            counts[r][v] = _mm512_setzero_si512();
    count_plane(rows, 1, panel, x + (job->bits - 1) * size, counts);
    for (size_t p = job->bits - 1; p-- > 0;) {
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < VECS; v++)
                counts[r][v] = _mm512_add_epi64(counts[r][v], counts[r][v]);
        count_plane(rows, -1, panel, x + p * size, counts);
    }
    const __m512i low_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __mmask16 used = (__mmask16)(left < CHANNELS ? (1 << left) - 1 : 0xffff);
    for (size_t r = 0; r < rows; r++) {
        int32_t *out = job->out + (i + r) * job->n + panel->channel;
        const int32_t *start = panel->first ? out : job->neg_counts + panel->channel;
        const __m512i sum = _mm512_permutex2var_epi32(counts[r][0], low_halves, counts[r][1]);
        _mm512_mask_storeu_epi32(out, used, _mm512_sub_epi32(_mm512_maskz_loadu_epi32(used, start), sum));
    }
}

/* A constant number of rows lets the accumulators of each height live in registers. */
TARGET static void ternary_rows(const struct ternary_job *job, const struct panel *panel, size_t i, size_t rows)
{
    switch (rows) {
    case 1: ternary_tile(job, panel, i, 1); break;
    case 2: ternary_tile(job, panel, i, 2); break;
    case 3: ternary_tile(job, panel, i, 3); break;
    case 4: ternary_tile(job, panel, i, 4); break;
    case 5: ternary_tile(job, panel, i, 5); break;
    case 6: ternary_tile(job, panel, i, 6); break;
    case 7: ternary_tile(job, panel, i, 7); break;
    default: ternary_tile(job, panel, i, 8); break;
    }
}

TARGET void ternary_avx512(const struct ternary_job *job)
{
    struct panel panel;
    for (panel.channel = 0; panel.channel < job->n; panel.channel += CHANNELS) {
        panel.first = 0;
        do {
            panel.depth = job->words - panel.first < DEPTH ? job->words - panel.first : DEPTH;
            fill_panel(job, &panel);
            for (size_t i = 0; i < job->m; i += GROUP)
                ternary_rows(job, &panel, i, job->m - i < GROUP ? job->m - i : GROUP);
            panel.first += panel.depth;
        } while (panel.first < job->words);
    }
}

#endif
