/* A linear layer in integers: quantize its input, multiply, rescale (N4 to N8). */
#include <string.h>

#include "forward.h"

/* Zeros beyond the row, and its sum. */
static void finish_codes(struct run *run, const struct refvit_linear *layer, struct codes *codes, size_t row)
{
    int8_t *q = codes->q + row * padded(layer->k);
    memset(q + layer->k, 0, padded(layer->k) - layer->k);
    codes->sums[row] = run->dot->row_sum(padded(layer->k), q);
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
    finish_codes(run, layer, codes, row);
}

void quantize_gelu_row(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, float *x, size_t row)
{
    struct codes *codes = &scratch->codes;
    int8_t *q = codes->q + row * padded(layer->k);
    if (run->model->minmax || layer->s != 0.0f) {
        note_status(run, run->rows->gelu_values(layer->k, x, x));
        quantize_row(run, layer, x, codes, row);
        return;
    }
    codes->zp[row] = 0;
    note_status(run, run->steps->gelu_codes(layer->k, layer->act_bits, x, scratch->room, q, codes->s + row));
    finish_codes(run, layer, codes, row);
}

/* The accumulators of `rows` rows from `row` and `cols` columns from `first` -> target. */
static void finish(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t row, size_t rows,
                   size_t first, size_t cols, const struct target *target)
{
    const struct codes *codes = &scratch->codes;
    const struct finish_job job = {
        rows, cols, scratch->acc, codes->s + row, codes->zp + row, run->model->minmax ? layer->code_sums + first : NULL,
        layer->alpha + first, layer->bias ? layer->bias + first : NULL, target->add,
        target->gamma ? target->gamma + first : NULL, target->y + row * target->stride + first, target->stride};
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
PREFETCH void fetch(const void *from, size_t bytes, size_t part, size_t parts)
{
    for (size_t i = bytes * part / parts; i < bytes * (part + 1) / parts; i += DOT_ALIGN)
        __builtin_prefetch((const uint8_t *)from + i, 0, 2);
}

/* While one panel is multiplied, the weights of the next are fetched, a share with each of `parts` blocks of rows. */
PREFETCH void fetch_weights(const struct dot_weights *weights, size_t first, size_t cols, size_t part, size_t parts)
{
    const size_t row = weights->pos ? words_of(weights->k) * sizeof *weights->pos : weights->k;
    if (first >= weights->n)
        return;
    const size_t bytes = (weights->n - first < cols ? weights->n - first : cols) * row;
    if (weights->pos) {
        fetch(weights->pos + first * words_of(weights->k), bytes, part, parts);
        fetch(weights->neg + first * words_of(weights->k), bytes, part, parts);
    } else {
        fetch(weights->w + first * row, bytes, part, parts);
    }
}

static void linear_dot(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m,
                       const struct target *target)
{
    const int ternary = layer->bits == 2;
    const size_t words = words_of(layer->k);
    const struct dot_weights weights = {
        layer->n, layer->k, layer->planes, ternary ? layer->planes + layer->n * words : NULL, layer->codes, layer->k};
    const size_t blocks = (m + BLOCK_ROWS - 1) / BLOCK_ROWS;
    for (size_t i = 0; i < m; i++)
        scratch->init[i] = -(ternary ? run->dot->ternary_offset : run->dot->int8_offset) * scratch->codes.sums[i];
    for (size_t first = 0; first < layer->n; first += run->dot->cols) {
        const size_t cols = layer->n - first < run->dot->cols ? layer->n - first : run->dot->cols;
        run->dot->decode(&weights, first, cols, scratch->panel);
        for (size_t row = 0; row < m; row += BLOCK_ROWS) {
            const size_t rows = m - row < BLOCK_ROWS ? m - row : BLOCK_ROWS;
            const struct dot_job job = {rows, layer->k, cols, scratch->codes.q + row * padded(layer->k),
                                        padded(layer->k), scratch->init + row, scratch->panel, scratch->acc, cols};
            fetch_weights(&weights, first + cols, run->dot->cols, row / BLOCK_ROWS, blocks);
            (ternary ? run->dot->ternary : run->dot->int8)(&job);
            finish(run, scratch, layer, row, rows, first, cols, target);
        }
    }
}

void linear(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m, struct target target)
{
    const int dot = layer->bits == 8 || refvit_family(run->backend, m, (size_t)layer->act_bits);
    (dot ? linear_dot : linear_popcount)(run, scratch, layer, m, &target);
}
