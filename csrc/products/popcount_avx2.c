/* Integer kernels for AVX2. The lanes of a register are four output channels: a panel of weight words, side by side,
   meets one broadcast word of activations; popcount by a table of nibbles. See ternary_dot in popcount_portable.c for the
   arithmetic. */
#include <string.h>

#include "../internal.h"

#if REFVIT_X86
#include <immintrin.h>

#include "popcount_panel.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))

typedef __m256i counts; /* 64-bit lanes */

INLINE __m256i load(const void *from)
{
    return _mm256_loadu_si256(from);
}

/* The planes of 64 codes, from the top one down: bit p of every byte is moved to its top, where movemask reads. */
INLINE void pack_word(size_t bits, const int8_t *codes, uint64_t *out, size_t plane_stride)
{
    const __m128i unused = _mm_cvtsi32_si128((int)(MAX_BITS - bits));
    __m256i low = _mm256_sll_epi16(load(codes), unused), high = _mm256_sll_epi16(load(codes + 32), unused);
    for (size_t p = bits; p-- > 0;) {
        const uint32_t low_bits = (uint32_t)_mm256_movemask_epi8(low);
        out[p * plane_stride] = (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32 | low_bits;
        low = _mm256_add_epi8(low, low);
        high = _mm256_add_epi8(high, high);
    }
}

TARGET void pack_bits_avx2(const struct pack_job *job)
{
    const size_t k = job->k, whole = k / WORD_BITS, rest = k % WORD_BITS, bits = job->bits;
    const size_t word_stride = job->word_stride, plane_stride = job->plane_stride;
    const int8_t *x = job->x;
    for (size_t i = 0; i < job->m; i++, x += rest) {
        uint64_t *out = job->out + i * job->row_stride;
        for (size_t w = 0; w < whole; w++, x += WORD_BITS, out += word_stride)
            pack_word(bits, x, out, plane_stride);
        if (rest) {
            int8_t codes[WORD_BITS] = {0};
            memcpy(codes, x, rest);
            pack_word(bits, codes, out, plane_stride);
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

INLINE void count_plane(size_t rows, const struct panel *panel, const uint64_t *x, size_t step, counts *found)
{
    __m256i bytes[TILE];
    for (size_t r = 0; r < rows; r++)
        bytes[r] = _mm256_setzero_si256();
    for (size_t w = 0; w < panel->depth; w++, x += step) {
        const __m256i nonzero = load(panel->nonzero + w * CHANNELS), neg = load(panel->neg + w * CHANNELS);
        for (size_t r = 0; r < rows; r++) {
            const __m256i xs = _mm256_set1_epi64x((int64_t)x[r]);
            const __m256i selected = _mm256_xor_si256(neg, _mm256_and_si256(xs, nonzero));
            bytes[r] = _mm256_add_epi8(bytes[r], popcount_bytes(selected));
        }
    }
    for (size_t r = 0; r < rows; r++)
        found[r] = _mm256_sad_epu8(bytes[r], _mm256_setzero_si256());
}

INLINE counts twice_minus(counts a, counts b)
{
    return _mm256_sub_epi64(_mm256_add_epi64(a, a), b);
}

/* Of the sums the low halves matter. */
INLINE void store_row(const struct panel *panel, counts sums, const int32_t *start, int32_t *out)
{
    const __m256i low_halves = _mm256_permutevar8x32_epi32(sums, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    const __m128i lanes = _mm_setr_epi32(0, 1, 2, 3);
    const __m128i used = _mm_cmpgt_epi32(_mm_set1_epi32((int)panel->channels), lanes);
    const __m128i from = _mm_maskload_epi32(start, used);
    _mm_maskstore_epi32(out, used, _mm_sub_epi32(from, _mm256_castsi256_si128(low_halves)));
}

#include "popcount_tiles.h"

void ternary_avx2(const struct ternary_job *job)
{
    ternary_panels(job);
}

#endif
