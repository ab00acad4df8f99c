/* Ternary codes of a file, five base-3 digits in a byte, to bit-planes (N2). */
#include "../internal.h"

#define DIGITS 5
#define BYTES 243 /* 3^5 */

/* The digits of a byte as bits, the first one lowest: where digit - 1 is +1, where it is -1. */
struct digits {
    uint8_t pos[BYTES], neg[BYTES];
};

static void fill_digits(struct digits *table)
{
    for (unsigned byte = 0; byte < BYTES; byte++) {
        unsigned rest = byte, pos = 0, neg = 0;
        for (unsigned i = 0; i < DIGITS; i++, rest /= 3) {
            pos |= (unsigned)(rest % 3 == 2) << i;
            neg |= (unsigned)(rest % 3 == 0) << i;
        }
        table->pos[byte] = (uint8_t)pos;
        table->neg[byte] = (uint8_t)neg;
    }
}

/* Where the next codes go: bits that wait until they fill a word of each plane. */
struct writer {
    uint64_t *pos, *neg, p, m;
    size_t at;
};

static inline void flush(struct writer *w)
{
    *w->pos++ = w->p;
    *w->neg++ = w->m;
}

/* The lowest `count` bits of each. */
static inline void append(struct writer *w, size_t count, uint64_t p, uint64_t m)
{
    w->p |= p << w->at;
    w->m |= m << w->at;
    w->at += count;
    if (w->at >= WORD_BITS) {
        flush(w);
        w->at -= WORD_BITS;
        w->p = p >> (count - w->at);
        w->m = m >> (count - w->at);
    }
}

static inline void end_row(struct writer *w)
{
    if (w->at > 0)
        flush(w);
    w->at = 0;
    w->p = w->m = 0;
}

int refvit_decode_base3(size_t n, size_t k, const uint8_t *stream, uint64_t *planes)
{
    const size_t total = n * k;
    struct digits table;
    struct writer writer = {planes, planes + n * words_of(k), 0, 0, 0};
    size_t column = 0;
    fill_digits(&table);
    for (size_t done = 0; done < total; done += DIGITS, stream++) {
        if (*stream >= BYTES)
            return REFVIT_BAD_PLANES;
        unsigned p = table.pos[*stream], m = table.neg[*stream];
        size_t left = total - done < DIGITS ? total - done : DIGITS;
        while (column + left >= k && left > 0) { /* the row ends here */
            const size_t count = k - column;
            append(&writer, count, p & ((1u << count) - 1), m & ((1u << count) - 1));
            end_row(&writer);
            p >>= count;
            m >>= count;
            left -= count;
            column = 0;
        }
        if (left == 0 && (p | m)) /* digits after the last code that are not 1 */
            return REFVIT_BAD_PLANES;
        append(&writer, left, p, m);
        column += left;
    }
    return REFVIT_OK;
}
