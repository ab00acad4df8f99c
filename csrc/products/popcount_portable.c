/* Integer kernels in plain C99: the reference that every other variant equals. */
#include <string.h>

#include "../internal.h"

static uint64_t load_bytes(const int8_t *x, size_t count)
{
    uint64_t v = 0;
    for (size_t j = 0; j < count; j++)
        v |= (uint64_t)(uint8_t)x[j] << (8 * j);
    return v;
}

/* Transpose an 8 x 8 matrix of bits: bit i of byte j becomes bit j of byte i. */
static uint64_t transpose_bits(uint64_t v)
{
    uint64_t t = (v ^ (v >> 7)) & 0x00aa00aa00aa00aau;
    v ^= t ^ (t << 7);
    t = (v ^ (v >> 14)) & 0x0000cccc0000ccccu;
    v ^= t ^ (t << 14);
    t = (v ^ (v >> 28)) & 0x00000000f0f0f0f0u;
    return v ^ t ^ (t << 28);
}

/* The planes of up to 64 codes, one word each, LSB first. */
static void pack_word(size_t count, size_t bits, const int8_t *x, uint64_t *planes)
{
    memset(planes, 0, bits * sizeof *planes);
    for (size_t j = 0; j < count; j += 8) {
        const uint64_t group = transpose_bits(load_bytes(x + j, count - j < 8 ? count - j : 8));
        for (size_t p = 0; p < bits; p++)
            planes[p] |= (group >> (8 * p) & 0xff) << j;
    }
}

void pack_bits_portable(const struct pack_job *job)
{
    for (size_t i = 0; i < job->m; i++) {
        uint64_t *out = job->out + i * job->row_stride;
        for (size_t j = 0; j < job->k; j += WORD_BITS, out += job->word_stride) {
            uint64_t planes[MAX_BITS];
            pack_word(job->k - j < WORD_BITS ? job->k - j : WORD_BITS, job->bits, job->x + i * job->k + j, planes);
            for (size_t p = 0; p < job->bits; p++)
                out[p * job->plane_stride] = planes[p];
        }
    }
}

static unsigned popcount(uint64_t v)
{
    v -= v >> 1 & 0x5555555555555555u;
    v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)(v * 0x0101010101010101u >> 56);
}

int check_planes(size_t n, size_t k, const uint64_t *planes, int32_t *neg_counts)
{
    const size_t words = words_of(k), used = k % WORD_BITS;
    const uint64_t padding = used ? ~(uint64_t)0 << used : 0;
    uint64_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t *pos = planes + i * words, *neg = pos + n * words;
        unsigned count = 0;
        for (size_t w = 0; w < words; w++) {
            bad |= pos[w] & neg[w];
            count += popcount(neg[w]);
        }
        bad |= words ? (pos[words - 1] | neg[words - 1]) & padding : 0;
        neg_counts[i] = (int32_t)count;
    }
    return bad ? REFVIT_BAD_PLANES : REFVIT_OK;
}

/* With x a plane of activations, popcount(x & pos) - popcount(x & neg) = popcount(x ? pos : neg) - popcount(neg), bit
   by bit, for pos and neg are disjoint: one popcount instead of two. The weights of all planes add up to -1, so the
   last term leaves + popcount(neg) once for the whole dot product. */
static int32_t ternary_dot(const uint64_t *x, size_t step, const uint64_t *pos, const uint64_t *neg, size_t words,
                           size_t bits, int32_t neg_count)
{
    int32_t acc = neg_count;
    for (size_t p = 0; p < bits; p++) {
        unsigned count = 0;
        for (size_t w = 0; w < words; w++, x += step)
            count += popcount(neg[w] ^ (*x & (pos[w] ^ neg[w])));
        acc += plane_weight(p, bits) * (int32_t)count;
    }
    return acc;
}

void ternary_portable(const struct ternary_job *job)
{
    const size_t words = job->words;
    for (size_t i = 0; i < job->m; i++) {
        const size_t row = i % GROUP, first = i - row;
        const uint64_t *x = job->x + first * words * job->bits + row;
        for (size_t j = 0; j < job->n; j++)
            job->out[i * job->n + j] = ternary_dot(x, group_rows(job->m, first), job->pos + j * words,
                                                   job->neg + j * words, words, job->bits, job->neg_counts[j]);
    }
}
