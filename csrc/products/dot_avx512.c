/* Dot products by VPDPBUSD on 512 bits: 16 channels a register, four inputs a lane. */
#include <string.h>

#include "dot.h"

#if REFVIT_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 16
#define ROWS 6 /* and 4 registers of channels: 24 accumulators of the 32 registers */
#define COLS (PANEL_COLS / LANES)

/* Rows of 16 groups -> registers of 16 channels, by transposing 16 x 16 groups. */
INLINE void transpose(__m512i *v)
{
    __m512i t[LANES];
    UNROLL
    for (size_t i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL
    for (size_t i = 0; i < LANES; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL
    for (size_t i = 0; i < LANES / 2; i++) {
        const size_t j = i < 4 ? i : i + 4;
        t[j] = _mm512_shuffle_i32x4(v[j], v[j + 4], 0x88);
        t[j + 4] = _mm512_shuffle_i32x4(v[j], v[j + 4], 0xdd);
    }
    UNROLL
    for (size_t j = 0; j < 8; j++) {
        v[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        v[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
    }
}

INLINE __m512i load_ternary(const struct dot_weights *weights, size_t row, size_t word)
{
    const size_t at = row * words_of(weights->k) + word;
    const __m512i one = _mm512_set1_epi8(1);
    const __m512i not_negative = _mm512_mask_sub_epi8(one, weights->neg[at], one, one);
    return _mm512_mask_add_epi8(not_negative, weights->pos[at], not_negative, one);
}

INLINE __m512i load_int8(const struct dot_weights *weights, size_t row, size_t word)
{
    const size_t rest = weights->k - word * DOT_ALIGN;
    const __mmask64 used = rest < DOT_ALIGN ? ~(uint64_t)0 >> (DOT_ALIGN - rest) : ~(uint64_t)0;
    const int8_t *from = weights->w + row * weights->stride + word * DOT_ALIGN;
    _mm_prefetch((const char *)from + 2 * DOT_ALIGN, _MM_HINT_T0);
    return _mm512_xor_si512(_mm512_maskz_loadu_epi8(used, from), _mm512_set1_epi8(-128));
}

TARGET static void decode(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    const size_t words = words_of(weights->k), registers = (cols + LANES - 1) / LANES;
    for (size_t block = 0; block < registers; block++) {
        const size_t rows = cols - block * LANES < LANES ? cols - block * LANES : LANES;
        for (size_t word = 0; word < words; word++) {
            __m512i v[LANES];
            UNROLL
            for (size_t i = 0; i < LANES; i++) {
                const size_t row = first + block * LANES + (i < rows ? i : rows - 1); /* a channel stands in for none */
                v[i] = weights->pos ? load_ternary(weights, row, word) : load_int8(weights, row, word);
            }
            transpose(v);
            UNROLL
            for (size_t i = 0; i < LANES; i++)
                _mm512_storeu_si512(panel + ((word * LANES + i) * registers + block) * DOT_ALIGN, v[i]);
        }
    }
}

/* Channels of one input, a lane each; beyond the last input, where rows of activations are zero, the last stands in. */
INLINE __m512i load_input(const struct dot_weights *weights, size_t input, size_t first, __mmask16 used)
{
    const int8_t *from = weights->w + (input < weights->k ? input : weights->k - 1) * weights->stride + first;
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(used, from));
}

TARGET static void decode_inputs(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    for (size_t j = 0; j < weights->k; j += INPUTS) {
        for (size_t start = 0; start < cols; start += LANES, panel += DOT_ALIGN) {
            const __mmask16 used = (__mmask16)(cols - start < LANES ? 0xffff >> (LANES - (cols - start)) : 0xffff);
            const size_t at = first + start;
            const __m512i low = _mm512_or_si512(load_input(weights, j, at, used),
                                                _mm512_slli_epi32(load_input(weights, j + 1, at, used), 8));
            const __m512i high = _mm512_or_si512(load_input(weights, j + 2, at, used),
                                                 _mm512_slli_epi32(load_input(weights, j + 3, at, used), 8));
            const __m512i v = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
            _mm512_storeu_si512(panel, _mm512_xor_si512(v, _mm512_set1_epi8(-128)));
        }
    }
}

/* One group of inputs in every lane. */
INLINE __m512i broadcast(const int8_t *group)
{
    int32_t word;
    memcpy(&word, group, sizeof word);
    return _mm512_set1_epi32(word);
}

/* acc + the four products in each lane. Not the intrinsic: gcc 12 then copies every accumulator around it. */
INLINE __m512i dot(__m512i acc, __m512i w, __m512i xs)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(xs));
    return acc;
}

/* rows and cols are constants where the tile is called: its flat loops unroll, and acc lives in registers. */
INLINE void tile(const struct dot_job *job, size_t row, size_t step, const size_t rows, const size_t cols)
{
    const size_t groups = (job->k + INPUTS - 1) / INPUTS, stride = job->x_stride;
    const int8_t *x = job->x + row * stride;
    const uint8_t *panel = job->panel;
    const char *ahead[2] = {job->ahead.from[0] + row * job->ahead.bytes, job->ahead.from[1] + row * job->ahead.bytes};
    __m512i acc[ROWS * COLS], w[COLS];
    UNROLL
    for (size_t i = 0; i < rows * cols; i++)
        acc[i] = _mm512_set1_epi32(job->init[row + i / cols]);
    for (size_t g = 0; g < groups; g++, x += INPUTS, panel += cols * DOT_ALIGN) {
        _mm_prefetch(ahead[0] + g * step, _MM_HINT_T1);
        _mm_prefetch(ahead[1] + g * step, _MM_HINT_T1);
        UNROLL
        for (size_t c = 0; c < cols; c++)
            w[c] = _mm512_loadu_si512(panel + c * DOT_ALIGN);
        UNROLL
        for (size_t i = 0; i < rows * cols; i++)
            acc[i] = dot(acc[i], w[i % cols], broadcast(x + i / cols * stride));
    }
    const __mmask16 last = (__mmask16)(0xffff >> (cols * LANES - job->cols));
    int32_t *out = job->out + row * job->out_stride;
    UNROLL
    for (size_t i = 0; i < rows * cols; i++)
        _mm512_mask_storeu_epi32(out + i / cols * job->out_stride + i % cols * LANES,
                                 i % cols + 1 == cols ? last : 0xffff, acc[i]);
}

INLINE void tile_rows(const struct dot_job *job, size_t row, size_t step, size_t rows, const size_t cols)
{
    switch (rows) {
    case 1: tile(job, row, step, 1, cols); break;
    case 2: tile(job, row, step, 2, cols); break;
    case 3: tile(job, row, step, 3, cols); break;
    case 4: tile(job, row, step, 4, cols); break;
    case 5: tile(job, row, step, 5, cols); break;
    default: tile(job, row, step, ROWS, cols); break;
    }
}

TARGET static void multiply(const struct dot_job *job)
{
    const size_t step = ahead_step(job, ROWS);
    size_t rows;
    for (size_t row = 0; row < job->m; row += rows) {
        rows = even_share(job->m - row, ROWS); /* a single row would wait for its own sums */
        switch ((job->cols + LANES - 1) / LANES) {
        case 1: tile_rows(job, row, step, rows, 1); break;
        case 2: tile_rows(job, row, step, rows, 2); break;
        case 3: tile_rows(job, row, step, rows, 3); break;
        default: tile_rows(job, row, step, rows, COLS); break;
        }
    }
}

TARGET static int32_t row_sum(size_t length, const int8_t *x)
{
    __m512i acc = _mm512_setzero_si512();
    for (size_t i = 0; i < length; i += DOT_ALIGN)
        acc = dot(acc, _mm512_set1_epi8(1), _mm512_loadu_si512(x + i));
    return _mm512_reduce_add_epi32(acc);
}

const struct dot_kernels dot_avx512vnni = {
    PANEL_COLS, TERNARY_OFFSET, INT8_OFFSET, decode, decode_inputs, multiply, multiply, row_sum};

#endif
