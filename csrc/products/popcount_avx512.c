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
#define VECS 4      /* registers of channels of a panel */
#define CHANNELS ((size_t)VECS * LANES)
#define ROOM ((size_t)48) /* words of depth of a chunk's panels together: 24 KiB stay in the first-level cache */
#define TILE ((size_t)4)  /* rows whose counts stay in registers */
#define APART 2           /* vectors between the steps of one */

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
enum effect { SET, PLUS, MINUS };

INLINE __m512i enter(enum effect effect, __m512i count, __m512i change)
{
    return effect == SET ? change : effect == PLUS ? _mm512_add_epi64(count, change) : _mm512_sub_epi64(count, change);
}

/* x ? pos : neg. The intrinsic makes copies of one broadcast, which are slower to select from than what was just
   loaded; but where nothing is added, it is the loads that take the time. */
INLINE __m512i chosen(enum effect effect, const uint64_t *x, __m512i pos, __m512i neg)
{
    __m512i bits;
    if (effect == SET)
        return _mm512_ternarylogic_epi64(_mm512_set1_epi64((int64_t)*x), pos, neg, SELECT);
    __asm__("vpbroadcastq %1, %0\n\tvpternlogq %4, %3, %2, %0"
            : "=&v"(bits)
            : "m"(*x), "v"(pos), "v"(neg), "i"(SELECT));
    return bits;
}

/* One word of one plane, x [rows]. Steps of a vector side by side would wait for each other. The loop must unroll, for
   registers have no index. */
INLINE void count_word(size_t rows, enum effect effect, const uint64_t *panel, const uint64_t *x, __m512i *counts)
{
    __m512i pos[VECS], neg[VECS], bits[TILE * VECS];
    for (size_t v = 0; v < VECS; v++) {
        pos[v] = _mm512_load_si512(panel + v * LANES);
        neg[v] = _mm512_load_si512(panel + CHANNELS + v * LANES);
    }
    UNROLL
    for (size_t i = 0; i < rows * VECS + 2 * APART; i++) {
        if (i < rows * VECS)
            bits[i] = chosen(effect, x + i / VECS, pos[i % VECS], neg[i % VECS]);
        if (i >= APART && i - APART < rows * VECS)
            bits[i - APART] = _mm512_popcnt_epi64(bits[i - APART]);
        if (i >= 2 * APART)
            counts[i - 2 * APART] = enter(effect, counts[i - 2 * APART], bits[i - 2 * APART]);
    }
}

/* The words of one plane from word `w` on, x [depth][step]. */
INLINE void count_plane(size_t rows, enum effect effect, size_t w, size_t depth, const uint64_t *panel,
                        const uint64_t *x, size_t step, __m512i *counts)
{
    for (; w < depth; w++)
        count_word(rows, effect, panel + w * 2 * CHANNELS, x + w * step, counts);
}

INLINE __mmask16 first_lanes(size_t count)
{
    return (__mmask16)(((uint32_t)1 << count) - 1);
}

INLINE __m512i load_ints(size_t count, const int32_t *from)
{
    return _mm512_maskz_loadu_epi32(first_lanes(count), from);
}

/* out [rows][n] = start - counts, of which the low halves matter, of the `left` channels there are; add: + out. */
INLINE void store_tile(size_t rows, size_t left, const __m512i *counts, const int32_t *start, int add, size_t n,
                       int32_t *out)
{
    const __m512i low_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    UNROLL
    for (size_t c = 0; c < CHANNELS; c += 2 * LANES) {
        const size_t here = left < c ? 0 : smaller(left - c, 2 * LANES);
        const __m512i from = add ? _mm512_setzero_si512() : load_ints(here, start + c);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            const __m512i *count = counts + r * VECS + c / LANES;
            __m512i sums = _mm512_sub_epi32(from, _mm512_permutex2var_epi32(count[0], low_halves, count[1]));
            sums = add ? _mm512_add_epi32(sums, load_ints(here, out + r * n + c)) : sums;
            if (here == 2 * LANES)
                _mm512_storeu_si512(out + r * n + c, sums);
            else
                _mm512_mask_storeu_epi32(out + r * n + c, first_lanes(here), sums);
        }
    }
}

/* Horner's rule from the top plane down, for the negative of the product, as the top plane alone weighs negatively. */
INLINE void ternary_tile(const struct ternary_job *job, const struct chunk *chunk, size_t i, size_t c, size_t rows)
{
    const size_t n = job->n, depth = chunk->depth, row = i % GROUP, step = group_rows(job->m, i - row);
    const uint64_t *panel = chunk->words + c * depth * 2;
    const uint64_t *x = job->x + (i - row) * job->words * job->bits + chunk->first * step + row;
    __m512i counts[TILE * VECS];
    const size_t plane = job->words * step;
    const uint64_t *top = x + (job->bits - 1) * plane;
    count_word(rows, SET, panel, top, counts);
    count_plane(rows, PLUS, 1, depth, panel, top, step, counts);
    while (top != x) {
        top -= plane;
        UNROLL
        for (size_t v = 0; v < rows * VECS; v++)
            counts[v] = _mm512_add_epi64(counts[v], counts[v]);
        count_plane(rows, MINUS, 0, depth, panel, top, step, counts);
    }
    const size_t left = chunk->channels - c;
    const int32_t *start = job->neg_counts + chunk->channel + c;
    int32_t *out = job->out + i * n + chunk->channel + c;
    if (left >= CHANNELS && chunk->first == 0)
        store_tile(rows, CHANNELS, counts, start, 0, n, out);
    else
        store_tile(rows, left, counts, start, chunk->first > 0, n, out);
}

INLINE void ternary_rows(const struct ternary_job *job, const struct chunk *chunk, size_t i, size_t rows)
{
    for (size_t c = 0; c < chunk->channels; c += CHANNELS)
        ternary_tile(job, chunk, i, c, rows);
}

/* A constant number of rows lets the counts live in registers. */
INLINE void ternary_group(const struct ternary_job *job, const struct chunk *chunk, size_t i)
{
    switch (smaller(job->m - i, TILE)) {
    case 1: ternary_rows(job, chunk, i, 1); break;
    case 2: ternary_rows(job, chunk, i, 2); break;
    case 3: ternary_rows(job, chunk, i, 3); break;
    default: ternary_rows(job, chunk, i, TILE); break;
    }
}

TARGET void ternary_avx512(const struct ternary_job *job)
{
    const size_t depth = smaller(job->words, ROOM), width = depth ? ROOM / depth * CHANNELS : CHANNELS;
    const struct ternary_job local = *job; /* as no store to out can change */
    struct chunk chunk;
    for (chunk.channel = 0; chunk.channel < job->n; chunk.channel += width) {
        chunk.channels = smaller(job->n - chunk.channel, width);
        for (chunk.first = 0; chunk.first < job->words; chunk.first += depth) {
            chunk.depth = smaller(job->words - chunk.first, depth);
            fill_chunk(job, &chunk);
            for (size_t i = 0; i < job->m; i += TILE)
                ternary_group(&local, &chunk, i);
        }
    }
}

#endif
