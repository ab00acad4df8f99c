/* Integer kernels for AVX-512 F, BW, VL and VPOPCNTDQ. The lanes of a register are eight output channels: a panel of
   weight words, side by side, meets one broadcast word of activations. See ternary_dot in popcount_portable.c for the
   arithmetic. */
#include "../internal.h"

#if REFVIT_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define SELECT 0xca /* truth table of a ? b : c */
#define LANES 8     /* 64-bit lanes of a register */
#define VECS 2      /* registers of channels of a panel */
#define CHANNELS ((size_t)VECS * LANES)
#define ROOM ((size_t)48) /* words of depth of a chunk's panels together: 12 KiB stay in the first-level cache */
#define ROWS 4            /* rows and channels of an int8 block: 16 accumulators of the 32 registers */
#define COLS 4

/* Words first .. first + depth of the `channels` channels from `channel` on, in panels [depth][pos, neg][CHANNELS].
   Several shallow panels make a chunk, so that a tile of rows writes long runs of out. */
struct chunk {
    size_t channel, channels, first, depth;
    __attribute__((aligned(64))) uint64_t words[ROOM * 2 * CHANNELS];
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

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

/* columns[c] = lane c of each of the rows. */
INLINE void transpose(const __m512i *rows, __m512i *columns)
{
    for (size_t odd = 0; odd < 2; odd++) {
        __m512i pairs[4];
        for (size_t i = 0; i < 4; i++)
            pairs[i] = odd ? _mm512_unpackhi_epi64(rows[2 * i], rows[2 * i + 1])
                           : _mm512_unpacklo_epi64(rows[2 * i], rows[2 * i + 1]);
        const __m512i even_low = _mm512_shuffle_i64x2(pairs[0], pairs[1], 0x88);
        const __m512i even_high = _mm512_shuffle_i64x2(pairs[2], pairs[3], 0x88);
        const __m512i odd_low = _mm512_shuffle_i64x2(pairs[0], pairs[1], 0xdd);
        const __m512i odd_high = _mm512_shuffle_i64x2(pairs[2], pairs[3], 0xdd);
        columns[odd] = _mm512_shuffle_i64x2(even_low, even_high, 0x88);
        columns[odd + 2] = _mm512_shuffle_i64x2(odd_low, odd_high, 0x88);
        columns[odd + 4] = _mm512_shuffle_i64x2(even_low, even_high, 0xdd);
        columns[odd + 6] = _mm512_shuffle_i64x2(odd_low, odd_high, 0xdd);
    }
}

/* LANES channels of one plane, from [channels][words], into a panel; those beyond `channels` are zeros. */
INLINE void fill_lanes(size_t channels, size_t words, size_t depth, const uint64_t *from, uint64_t *panel)
{
    for (size_t w = 0; w < depth; w += LANES) {
        const size_t count = smaller(depth - w, LANES);
        const __mmask8 used = (__mmask8)(0xff >> (LANES - count));
        __m512i rows[LANES], columns[LANES];
        for (size_t l = 0; l < LANES; l++)
            rows[l] = l < channels ? _mm512_maskz_loadu_epi64(used, from + l * words + w) : _mm512_setzero_si512();
        transpose(rows, columns);
        for (size_t l = 0; l < count; l++)
            _mm512_store_si512(panel + (w + l) * 2 * CHANNELS, columns[l]);
    }
}

INLINE void fill_chunk(const struct ternary_job *job, struct chunk *chunk)
{
    const size_t words = job->words, depth = chunk->depth;
    for (size_t c = 0; c < chunk->channels; c += CHANNELS) {
        uint64_t *panel = chunk->words + c * depth * 2;
        for (size_t l = 0; l < CHANNELS; l += LANES) {
            const size_t channels = chunk->channels > c + l ? chunk->channels - c - l : 0;
            const size_t from = (chunk->channel + c + l) * words + chunk->first;
            fill_lanes(channels, words, depth, job->pos + from, panel + l);
            fill_lanes(channels, words, depth, job->neg + from, panel + CHANNELS + l);
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

/* One word of one plane, x [rows]. A row's three steps are spread over three turns: side by side they would wait for
   each other, 5 % of the time. The loop over rows must unroll, for registers have no index. */
INLINE void count_word(size_t rows, enum effect effect, const uint64_t *panel, const uint64_t *x,
                       __m512i counts[][VECS])
{
    __m512i pos[VECS], neg[VECS], bits[GROUP][VECS];
    for (size_t v = 0; v < VECS; v++) {
        pos[v] = _mm512_load_si512(panel + v * LANES);
        neg[v] = _mm512_load_si512(panel + CHANNELS + v * LANES);
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
INLINE void count_plane(size_t rows, enum effect first, enum effect others, size_t depth, const uint64_t *panel,
                        const uint64_t *x, __m512i counts[][VECS])
{
    count_word(rows, first, panel, x, counts);
    for (size_t w = 1; w < depth; w++)
        count_word(rows, others, panel + w * 2 * CHANNELS, x + w * rows, counts);
}

/* out = start - counts, of which the low halves matter. */
INLINE void store_row(size_t left, const __m512i *counts, const int32_t *start, int32_t *out)
{
    const __m512i low_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i sums = _mm512_permutex2var_epi32(counts[0], low_halves, counts[1]);
    const __mmask16 used = (__mmask16)(((uint32_t)1 << left % CHANNELS) - 1);
    if (left >= CHANNELS)
        _mm512_storeu_si512(out, _mm512_sub_epi32(_mm512_loadu_si512(start), sums));
    else
        _mm512_mask_storeu_epi32(out, used, _mm512_sub_epi32(_mm512_maskz_loadu_epi32(used, start), sums));
}

/* Horner's rule from the top plane down, for the negative of the product, as the top plane alone weighs negatively. */
INLINE void ternary_tile(const struct ternary_job *job, const struct chunk *chunk, size_t i, size_t c, size_t rows)
{
    const size_t n = job->n, depth = chunk->depth, plane = job->words * rows;
    const uint64_t *panel = chunk->words + c * depth * 2;
    const uint64_t *x = job->x + i * job->words * job->bits + chunk->first * rows;
    __m512i counts[GROUP][VECS];
    count_plane(rows, SET, PLUS, depth, panel, x + (job->bits - 1) * plane, counts);
    for (size_t p = job->bits - 1; p-- > 0;)
        count_plane(rows, TWICE_MINUS, MINUS, depth, panel, x + p * plane, counts);
    int32_t *out = job->out + i * n + chunk->channel + c;
    const int32_t *start = chunk->first ? out : job->neg_counts + chunk->channel + c;
    const size_t start_stride = chunk->first ? n : 0;
    for (size_t r = 0; r < rows; r++)
        store_row(chunk->channels - c, counts[r], start + r * start_stride, out + r * n);
}

INLINE void ternary_rows(const struct ternary_job *job, const struct chunk *chunk, size_t i, size_t rows)
{
    for (size_t c = 0; c < chunk->channels; c += CHANNELS)
        ternary_tile(job, chunk, i, c, rows);
}

/* A constant number of rows lets the counts live in registers. */
INLINE void ternary_group(const struct ternary_job *job, const struct chunk *chunk, size_t i)
{
    switch (group_rows(job->m, i)) {
    case 1: ternary_rows(job, chunk, i, 1); break;
    case 2: ternary_rows(job, chunk, i, 2); break;
    case 3: ternary_rows(job, chunk, i, 3); break;
    case 4: ternary_rows(job, chunk, i, 4); break;
    case 5: ternary_rows(job, chunk, i, 5); break;
    case 6: ternary_rows(job, chunk, i, 6); break;
    case 7: ternary_rows(job, chunk, i, 7); break;
    default: ternary_rows(job, chunk, i, GROUP); break;
    }
}

TARGET void ternary_avx512(const struct ternary_job *job)
{
    const size_t depth = smaller(job->words, ROOM), width = depth ? ROOM / depth * CHANNELS : CHANNELS;
    struct chunk chunk;
    for (chunk.channel = 0; chunk.channel < job->n; chunk.channel += width) {
        chunk.channels = smaller(job->n - chunk.channel, width);
        for (chunk.first = 0; chunk.first < job->words; chunk.first += depth) {
            chunk.depth = smaller(job->words - chunk.first, depth);
            fill_chunk(job, &chunk);
            for (size_t i = 0; i < job->m; i += GROUP)
                ternary_group(job, &chunk, i);
        }
    }
}

#endif
