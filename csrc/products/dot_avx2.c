/* Dot products on 256 bits: 8 channels a register, four inputs a lane; by VPMADDUBSW, VPMADDWD or AVX-VNNI. */
#include <string.h>

#include "dot.h"

#if REFVIT_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 8
#define COLS 2 /* registers of channels of a panel */
#define WIDTH (COLS * LANES)
#define BYTES 32
#define ROWS 3
#define VNNI_ROWS 6
#define SHORT_GROUPS 32 /* 32 times a pair of 2 * -128 stays within 16 bits */

INLINE void transpose(__m256i *v)
{
    __m256i t[LANES];
    UNROLL
    for (size_t i = 0; i < LANES; i += 2) {
        t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL
    for (size_t i = 0; i < LANES; i += 4) {
        v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x31);
    }
    memcpy(v, t, sizeof t);
}

/* Bit i -> byte i, all ones or zeros. */
INLINE __m256i spread(uint32_t bits)
{
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), byte_of);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit_of), bit_of);
}

INLINE __m256i load_ternary(const struct dot_weights *weights, size_t row, size_t part)
{
    const size_t at = row * words_of(weights->k) + part / 2, shift = part % 2 * BYTES;
    const __m256i pos = spread((uint32_t)(weights->pos[at] >> shift)), neg = spread((uint32_t)(weights->neg[at] >> shift));
    return _mm256_sub_epi8(_mm256_add_epi8(_mm256_set1_epi8(1), neg), pos);
}

INLINE __m256i load_int8(const struct dot_weights *weights, size_t row, size_t part)
{
    const size_t start = part * BYTES, rest = start < weights->k ? weights->k - start : 0;
    int8_t codes[BYTES] = {0};
    memcpy(codes, weights->w + row * weights->stride + start, rest < BYTES ? rest : BYTES);
    const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    return _mm256_xor_si256(v, _mm256_set1_epi8(-128));
}

TARGET static void decode(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    const size_t parts = padded(weights->k) / BYTES;
    for (size_t block = 0; block < COLS; block++) {
        for (size_t part = 0; part < parts; part++) {
            __m256i v[LANES];
            UNROLL
            for (size_t i = 0; i < LANES; i++) {
                const size_t col = block * LANES + i, row = first + (col < cols ? col : cols - 1); /* or a stand-in */
                v[i] = weights->pos ? load_ternary(weights, row, part) : load_int8(weights, row, part);
            }
            transpose(v);
            UNROLL
            for (size_t i = 0; i < LANES; i++)
                _mm256_storeu_si256((__m256i *)(void *)(panel + ((part * LANES + i) * COLS + block) * BYTES), v[i]);
        }
    }
}

/* Channels of one input, a lane each; beyond the last input, where rows of activations are zero, the last stands in. */
INLINE __m256i load_input(const struct dot_weights *weights, size_t input, size_t first, size_t cols)
{
    int64_t codes = 0;
    memcpy(&codes, weights->w + (input < weights->k ? input : weights->k - 1) * weights->stride + first, cols);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(codes));
}

TARGET static void decode_inputs(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    for (size_t j = 0; j < weights->k; j += INPUTS) {
        for (size_t start = 0; start < WIDTH; start += LANES, panel += BYTES) {
            const size_t rest = start < cols ? cols - start : 0, n = rest < LANES ? rest : LANES;
            const size_t at = first + (rest ? start : 0);
            const __m256i low = _mm256_or_si256(load_input(weights, j, at, n),
                                                _mm256_slli_epi32(load_input(weights, j + 1, at, n), 8));
            const __m256i high = _mm256_or_si256(load_input(weights, j + 2, at, n),
                                                 _mm256_slli_epi32(load_input(weights, j + 3, at, n), 8));
            const __m256i v = _mm256_or_si256(low, _mm256_slli_epi32(high, 16));
            _mm256_storeu_si256((__m256i *)(void *)panel, _mm256_xor_si256(v, _mm256_set1_epi8(-128)));
        }
    }
}

INLINE __m256i load(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

/* One group of inputs. */
INLINE int32_t group_of(const int8_t *x)
{
    int32_t word;
    memcpy(&word, x, sizeof word);
    return word;
}

/* The sums of a tile [rows][WIDTH], to the channels there are. */
INLINE void store(const struct dot_job *job, size_t row, size_t rows, int32_t *sums)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(job->out + (row + r) * job->out_stride, sums + r * WIDTH, job->cols * sizeof *sums);
}

/* Ternary codes are small: sums of pairs stay in 16 bits for SHORT_GROUPS groups, then are widened. */
INLINE void ternary_tile(const struct dot_job *job, size_t row, const size_t rows)
{
    const size_t groups = (job->k + INPUTS - 1) / INPUTS;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums[ROWS * COLS];
    UNROLL
    for (size_t i = 0; i < rows * COLS; i++)
        sums[i] = _mm256_set1_epi32(job->init[row + i / COLS]);
    for (size_t start = 0; start < groups; start += SHORT_GROUPS) {
        const size_t end = groups - start < SHORT_GROUPS ? groups : start + SHORT_GROUPS;
        __m256i acc[ROWS * COLS], w[COLS];
        UNROLL
        for (size_t i = 0; i < rows * COLS; i++)
            acc[i] = _mm256_setzero_si256();
        for (size_t g = start; g < end; g++) {
            UNROLL
            for (size_t c = 0; c < COLS; c++)
                w[c] = load(job->panel + (g * COLS + c) * BYTES);
            UNROLL
            for (size_t i = 0; i < rows * COLS; i++) {
                const __m256i xs = _mm256_set1_epi32(group_of(job->x + (row + i / COLS) * job->x_stride + g * INPUTS));
                acc[i] = _mm256_add_epi16(acc[i], _mm256_maddubs_epi16(w[i % COLS], xs));
            }
        }
        UNROLL
        for (size_t i = 0; i < rows * COLS; i++)
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(acc[i], ones));
    }
    int32_t out[ROWS * WIDTH];
    memcpy(out, sums, rows * COLS * sizeof *sums);
    store(job, row, rows, out);
}

/* Codes of 8 bits have no room in 16: both factors are widened first, and a lane holds half of a group. */
INLINE void int8_row(const struct dot_job *job, size_t row)
{
    const size_t groups = (job->k + INPUTS - 1) / INPUTS;
    const int8_t *x = job->x + row * job->x_stride;
    __m256i acc[4];
    UNROLL
    for (size_t c = 0; c < 4; c++)
        acc[c] = _mm256_setzero_si256();
    for (size_t g = 0; g < groups; g++) {
        const __m256i xs = _mm256_cvtepi8_epi16(_mm_set1_epi32(group_of(x + g * INPUTS)));
        UNROLL
        for (size_t c = 0; c < 4; c++) {
            const uint8_t *w = job->panel + g * COLS * BYTES + c * BYTES / 2;
            const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
            acc[c] = _mm256_add_epi32(acc[c], _mm256_madd_epi16(wide, xs));
        }
    }
    int32_t halves[2 * WIDTH], out[WIDTH];
    memcpy(halves, acc, sizeof acc);
    for (size_t c = 0; c < WIDTH; c++)
        out[c] = (int32_t)((uint32_t)job->init[row] + (uint32_t)halves[2 * c] + (uint32_t)halves[2 * c + 1]);
    store(job, row, 1, out);
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
    for (size_t row = 0; row < job->m; row++)
        int8_row(job, row);
}

TARGET static int32_t row_sum(size_t length, const int8_t *x)
{
    const __m256i flip = _mm256_set1_epi8(-128); /* to unsigned bytes, which VPSADBW adds up */
    __m256i acc = _mm256_setzero_si256();
    for (size_t i = 0; i < length; i += BYTES) {
        const __m256i bytes = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)), flip);
        acc = _mm256_add_epi64(acc, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
    }
    int64_t sums[4];
    _mm256_storeu_si256((__m256i *)(void *)sums, acc);
    return (int32_t)(sums[0] + sums[1] + sums[2] + sums[3] - (int64_t)length * 128);
}

const struct dot_kernels dot_avx2 = {WIDTH, TERNARY_OFFSET, INT8_OFFSET, decode, decode_inputs, ternary, int8, row_sum};

/* acc + the four products in each lane; see dot_avx512.c for why this is not the intrinsic. */
INLINE __m256i dot(__m256i acc, __m256i w, __m256i xs)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "x"(xs));
    return acc;
}

INLINE void vnni_tile(const struct dot_job *job, size_t row, size_t step, const size_t rows)
{
    const size_t groups = (job->k + INPUTS - 1) / INPUTS;
    const int8_t *x = job->x + row * job->x_stride;
    const uint8_t *panel = job->panel;
    const char *ahead[2] = {job->ahead.from[0] + row * job->ahead.bytes, job->ahead.from[1] + row * job->ahead.bytes};
    __m256i acc[VNNI_ROWS * COLS], w[COLS];
    UNROLL
    for (size_t i = 0; i < rows * COLS; i++)
        acc[i] = _mm256_set1_epi32(job->init[row + i / COLS]);
    for (size_t g = 0; g < groups; g++, x += INPUTS, panel += COLS * BYTES) {
        _mm_prefetch(ahead[0] + g * step, _MM_HINT_T1);
        _mm_prefetch(ahead[1] + g * step, _MM_HINT_T1);
        UNROLL
        for (size_t c = 0; c < COLS; c++)
            w[c] = load(panel + c * BYTES);
        UNROLL
        for (size_t i = 0; i < rows * COLS; i++)
            acc[i] = dot(acc[i], w[i % COLS], _mm256_set1_epi32(group_of(x + i / COLS * job->x_stride)));
    }
    int32_t out[VNNI_ROWS * WIDTH];
    UNROLL
    for (size_t i = 0; i < rows * COLS; i++)
        _mm256_storeu_si256((__m256i *)(void *)(out + i * LANES), acc[i]);
    store(job, row, rows, out);
}

TARGET static void vnni(const struct dot_job *job)
{
    const size_t step = ahead_step(job, VNNI_ROWS);
    size_t row = 0;
    for (; row + VNNI_ROWS <= job->m; row += VNNI_ROWS)
        vnni_tile(job, row, step, VNNI_ROWS);
    for (; row < job->m; row++)
        vnni_tile(job, row, step, 1);
}

const struct dot_kernels dot_avxvnni = {WIDTH, TERNARY_OFFSET, INT8_OFFSET, decode, decode_inputs, vnni, vnni, row_sum};

#endif
