/* Integer kernels for AVX-512 F, BW, VL and VPOPCNTDQ. The eight planes of one word of activations fill a register;
   a weight word is broadcast to all eight. See ternary_dot in portable.c for the arithmetic. */
#include "internal.h"

#if REFVIT_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define SELECT 0xca /* truth table of a ? b : c */
#define ROWS 4      /* rows and channels of a block: 16 accumulators of the 32 registers */
#define COLS 4

TARGET void pack_bits_avx512(const struct pack_job *job)
{
    uint64_t *out = job->out;
    for (size_t i = 0; i < job->m; i++) {
        for (size_t j = 0; j < job->k; j += WORD_BITS, out += job->word_stride) {
            const size_t count = job->k - j < WORD_BITS ? job->k - j : WORD_BITS;
            const __mmask64 used = ~(uint64_t)0 >> (WORD_BITS - count);
            const __m512i v = _mm512_maskz_loadu_epi8(used, job->x + i * job->k + j);
            for (size_t p = 0; p < job->bits; p++)
                out[p * job->plane_stride] = _mm512_test_epi8_mask(v, _mm512_set1_epi8((char)(1 << p)));
        }
    }
}

INLINE __m512i lane_weights(size_t bits)
{
    int64_t weights[MAX_BITS] = {0};
    for (size_t p = 0; p < bits; p++)
        weights[p] = plane_weight(p, bits);
    return _mm512_loadu_si512(weights);
}

INLINE void ternary_block(const struct ternary_job *job, size_t i, size_t j, size_t rows, size_t cols)
{
    const size_t words = job->words, bits = job->bits;
    const uint64_t *x = job->x + i * words * bits, *pos = job->pos + j * words, *neg = job->neg + j * words;
    const __mmask8 planes = (__mmask8)(0xff >> (MAX_BITS - bits));
    const __m512i weights = lane_weights(bits);
    __m512i counts[ROWS][COLS];
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            counts[r][c] = _mm512_setzero_si512();
    for (size_t w = 0; w < words; w++) {
        __m512i xs[ROWS];
        for (size_t r = 0; r < rows; r++)
            xs[r] = _mm512_maskz_loadu_epi64(planes, x + (r * words + w) * bits);
        for (size_t c = 0; c < cols; c++) {
            const __m512i p = _mm512_set1_epi64((int64_t)pos[c * words + w]);
            const __m512i n = _mm512_set1_epi64((int64_t)neg[c * words + w]);
            for (size_t r = 0; r < rows; r++) {
                const __m512i selected = _mm512_ternarylogic_epi64(xs[r], p, n, SELECT);
                counts[r][c] = _mm512_add_epi64(counts[r][c], _mm512_popcnt_epi64(selected));
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            const int64_t sum = _mm512_reduce_add_epi64(_mm512_mul_epi32(counts[r][c], weights));
            job->out[(i + r) * job->n + j + c] = (int32_t)sum + job->neg_counts[j + c];
        }
    }
}

TARGET void ternary_avx512(const struct ternary_job *job)
{
    const size_t m = job->m, n = job->n;
    size_t i, j;
    for (j = 0; j + COLS <= n; j += COLS) {
        for (i = 0; i + ROWS <= m; i += ROWS)
            ternary_block(job, i, j, ROWS, COLS);
        for (; i < m; i++)
            ternary_block(job, i, j, 1, COLS);
    }
    for (; j < n; j++) {
        for (i = 0; i + ROWS <= m; i += ROWS)
            ternary_block(job, i, j, ROWS, 1);
        for (; i < m; i++)
            ternary_block(job, i, j, 1, 1);
    }
}

#endif
