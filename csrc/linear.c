/* A linear layer in integers: quantize its input, multiply, rescale (N4 to N8). */
#include <string.h>

#include "forward.h"

/* Zeros beyond the row. */
static void pad_codes(const struct refvit_linear *layer, struct codes *codes, size_t row)
{
    memset(codes->q + row * padded(layer->k) + layer->k, 0, padded(layer->k) - layer->k);
}

void quantize_row(struct run *run, const struct refvit_linear *layer, const float *x, struct codes *codes, size_t row)
{
    const int bits = layer->act_bits, high = (1 << (bits - 1)) - 1, minmax = run->model->minmax;
    int8_t *q = codes->q + row * padded(layer->k);
    float *s = codes->s + row;
    int32_t *zp = codes->zp + row;
    int status = REFVIT_OK;
    *s = layer->s;
    *zp = layer->zp;
    if (layer->s == 0.0f)
        status = minmax ? run->rows->minmax_scale(1, layer->k, bits, x, s, zp)
                        : run->rows->symmetric_scale(1, layer->k, bits, x, s);
    status |= run->rows->quantize_rows(1, layer->k, minmax ? -high - 1 : -high, high, x, s, zp, q);
    note_status(run, status);
    pad_codes(layer, codes, row);
}

void quantize_gelu(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m, float *x)
{
    const size_t k = layer->k;
    struct codes *codes = &scratch->codes;
    const int per_row = !run->model->minmax && layer->s == 0.0f;
    if (per_row)
        note_status(run, run->steps->gelu_codes(m, k, layer->act_bits, x, scratch->room, codes->q, padded(k), codes->s));
    for (size_t i = 0; i < m; i++) {
        if (per_row) {
            codes->zp[i] = 0;
            pad_codes(layer, codes, i);
        } else {
            note_status(run, run->rows->gelu_values(k, x + i * k, x + i * k));
            quantize_row(run, layer, x + i * k, codes, i);
        }
    }
}

/* The accumulators of `rows` rows from `row` and `cols` columns from `first` -> target. */
static void finish(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t row, size_t rows,
                   size_t first, size_t cols, const struct target *target)
{
    const struct codes *codes = &scratch->codes;
    const struct finish_job job = {
        rows, cols, scratch->acc, codes->s + row, codes->zp + row, run->model->minmax ? layer->code_sums + first : NULL,
        layer->alpha + first, layer->bias ? layer->bias + first : NULL, target->add,
        target->gamma ? target->gamma + first : NULL, target->amax ? target->amax + first : NULL, target->y + row * target->stride + first, target->stride};
    run->steps->finish(&job);
}

static void linear_popcount(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m,
                            const struct target *target)
{
    const size_t words = words_of(layer->k), size = layer->n * words, bits = (size_t)layer->act_bits;
    pack_activations(run->popcount, m, words * WORD_BITS, bits, scratch->codes.q, scratch->planes);
    for (size_t first = 0; first < layer->n; first += PANEL_COLS) {
        const size_t cols = layer->n - first < PANEL_COLS ? layer->n - first : PANEL_COLS;
        const uint64_t *pos = layer->planes + first * words;
        const struct ternary_job job = {m, cols, words, bits, scratch->planes, pos, pos + size, layer->neg_counts + first,
                                        scratch->acc};
        run->popcount->ternary(&job);
        finish(run, scratch, layer, 0, m, first, cols, target);
    }
}

/* Both are inlined always: gcc drops calls of a function that only prefetches. */
#define PREFETCH static inline __attribute__((always_inline))

/* A share of some bytes comes into the cache. */
PREFETCH void fetch(const void *from, size_t bytes, size_t row, size_t rows, size_t m)
{
    for (size_t i = bytes * row / m; i < bytes * (row + rows) / m; i += DOT_ALIGN)
        __builtin_prefetch((const uint8_t *)from + i, 0, 2);
}

/* While one panel is multiplied, the weights of the next are fetched, a share with `rows` of the m rows. */
PREFETCH void fetch_weights(const struct dot_weights *weights, size_t first, size_t cols, size_t row, size_t rows, size_t m)
{
    const size_t bytes_each = weights->pos ? words_of(weights->k) * sizeof *weights->pos : weights->k;
    if (first >= weights->n)
        return;
    const size_t bytes = (weights->n - first < cols ? weights->n - first : cols) * bytes_each;
    if (weights->pos) {
        fetch(weights->pos + first * words_of(weights->k), bytes, row, rows, m);
        fetch(weights->neg + first * words_of(weights->k), bytes, row, rows, m);
    } else {
        fetch(weights->w + first * bytes_each, bytes, row, rows, m);
    }
}

static void linear_dot(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m,
                       const struct target *target)
{
    const int ternary = layer->bits == 2;
    const size_t words = words_of(layer->k);
    const struct dot_weights weights = {
        layer->n, layer->k, layer->planes, ternary ? layer->planes + layer->n * words : NULL, layer->codes, layer->k};
    for (size_t i = 0; i < m; i++)
        scratch->init[i] = -(ternary ? TERNARY_OFFSET : INT8_OFFSET) *
                           run->dot->row_sum(padded(layer->k), scratch->codes.q + i * padded(layer->k));
    for (size_t first = 0; first < layer->n; first += run->dot->cols) {
        const size_t cols = layer->n - first < run->dot->cols ? layer->n - first : run->dot->cols;
        run->dot->decode(&weights, first, cols, scratch->panel);
        size_t rows;
        for (size_t row = 0; row < m; row += rows) {
            rows = even_share(m - row, BLOCK_ROWS);
            const struct dot_job job = {rows, layer->k, cols, scratch->codes.q + row * padded(layer->k),
                                        padded(layer->k), scratch->init + row, scratch->panel, scratch->acc, cols};
            fetch_weights(&weights, first + cols, run->dot->cols, row, rows, m);
            (ternary ? run->dot->ternary : run->dot->int8)(&job);
            finish(run, scratch, layer, row, rows, first, cols, target);
        }
    }
}

void linear(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m, struct target target)
{
    const int dot = layer->bits == 8 || refvit_family(run->backend, m, (size_t)layer->act_bits);
    if (m > 0)
        (dot ? linear_dot : linear_popcount)(run, scratch, layer, m, &target);
}
