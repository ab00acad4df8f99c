/* Integer kernels for AVX2: four planes of a word of activations in a register, popcount by a table of nibbles.
   See ternary_dot in portable.c for the arithmetic. */
#include <string.h>

#include "internal.h"

#if REFVIT_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 4       /* 64-bit lanes of a register */
#define BYTE_WORDS 31 /* words whose bits a byte can count: 31 * 8 <= 255 */

TARGET void pack_bits_avx2(const struct pack_job *job)
{
    uint64_t *out = job->out;
    for (size_t i = 0; i < job->m; i++) {
        for (size_t j = 0; j < job->k; j += WORD_BITS, out += job->word_stride) {
            int8_t codes[WORD_BITS] = {0};
            memcpy(codes, job->x + i * job->k + j, job->k - j < WORD_BITS ? job->k - j : WORD_BITS);
            const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)codes);
            const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(codes + 32));
            for (size_t p = 0; p < job->bits; p++) { /* bit p of every byte is moved to its top, where movemask reads */
                const __m128i shift = _mm_cvtsi32_si128((int)(7 - p));
                const uint32_t low_bits = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(low, shift));
                const uint32_t high_bits = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(high, shift));
                out[p * job->plane_stride] = (uint64_t)high_bits << 32 | low_bits;
            }
        }
    }
}

/* Number of bits of each byte, 0..8. */
INLINE __m256i popcount_bytes(__m256i v)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1,
                                           2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(v, nibble));
    const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));
    return _mm256_add_epi8(low, high);
}

/* Sum over the planes `first`.. of one group of four: weight times count. `lanes` masks planes beyond `bits`. */
INLINE int64_t ternary_group(const uint64_t *x, const uint64_t *pos, const uint64_t *neg, size_t words, size_t bits,
                             __m256i lanes, __m256i weights)
{
    __m256i counts = _mm256_setzero_si256();
    for (size_t start = 0; start < words; start += BYTE_WORDS) {
        const size_t end = words - start < BYTE_WORDS ? words : start + BYTE_WORDS;
        __m256i bytes = _mm256_setzero_si256();
        for (size_t w = start; w < end; w++) {
            const __m256i xs = _mm256_maskload_epi64((const long long *)(const void *)(x + w * bits), lanes);
            const __m256i n = _mm256_set1_epi64x((int64_t)neg[w]);
            const __m256i nonzero = _mm256_set1_epi64x((int64_t)(pos[w] ^ neg[w]));
            const __m256i selected = _mm256_xor_si256(n, _mm256_and_si256(xs, nonzero));
            bytes = _mm256_add_epi8(bytes, popcount_bytes(selected));
        }
        counts = _mm256_add_epi64(counts, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
    }
    int64_t sums[LANES];
    _mm256_storeu_si256((__m256i *)(void *)sums, _mm256_mul_epi32(counts, weights));
    return sums[0] + sums[1] + sums[2] + sums[3];
}

TARGET void ternary_avx2(const struct ternary_job *job)
{
    const size_t words = job->words, bits = job->bits;
    int64_t used[MAX_BITS] = {0}, weights[MAX_BITS] = {0};
    for (size_t p = 0; p < bits; p++) {
        used[p] = -1;
        weights[p] = plane_weight(p, bits);
    }
    for (size_t i = 0; i < job->m; i++) {
        const uint64_t *x = job->x + i * words * bits;
        for (size_t j = 0; j < job->n; j++) {
            int64_t acc = job->neg_counts[j];
            for (size_t p = 0; p < bits; p += LANES)
                acc += ternary_group(x + p, job->pos + j * words, job->neg + j * words, words, bits,
                                     _mm256_loadu_si256((const __m256i *)(const void *)(used + p)),
                                     _mm256_loadu_si256((const __m256i *)(const void *)(weights + p)));
            job->out[i * job->n + j] = (int32_t)acc;
        }
    }
}

#endif
