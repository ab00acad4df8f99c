/* A linear layer in integers: quantize its input, multiply, rescale (N4 to N8). */
#include <string.h>

#include "forward.h"

void quantize_rows(struct run *run, const struct refvit_linear *layer, size_t rows, const float *x, struct codes *codes,
                   size_t row)
{
    const int bits = layer->act_bits, high = (1 << (bits - 1)) - 1, minmax = run->model->minmax;
    const size_t k = layer->k;
    float *s = codes->s + row;
    int32_t *zp = codes->zp + row;
    for (size_t i = 0; i < rows; i++) {
        s[i] = layer->s != 0.0f ? layer->s : codes->picture_s;
        zp[i] = layer->s != 0.0f ? layer->zp : codes->picture_zp;
    }
    int status = REFVIT_OK;
    if (layer->s == 0.0f && codes->picture_s == 0.0f)
        status = minmax ? run->rows->minmax_scale(rows, k, bits, x, s, zp)
                        : run->rows->symmetric_scale(rows, k, bits, x, s);
    for (size_t i = 0; i < rows; i++) {
        int8_t *q = codes->q + (row + i) * padded(k);
        status |= run->rows->quantize_rows(1, k, minmax ? -high - 1 : -high, high, x + i * k, s + i, zp + i, q);
        memset(q + k, 0, padded(k) - k);
    }
    note_status(run, status);
}

void quantize_gelu(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m, float *x)
{
    const size_t k = layer->k;
    struct codes *codes = &scratch->codes;
    if (run->model->minmax || layer->s != 0.0f) {
        note_status(run, run->rows->gelu_values(m * k, x, x));
        quantize_rows(run, layer, m, x, codes, 0);
        return;
    }
    note_status(run, run->steps->gelu_codes(m, k, layer->act_bits, x, scratch->room, codes->q, padded(k), codes->s));
    memset(codes->zp, 0, m * sizeof *codes->zp);
    for (size_t i = 0; i < m; i++)
        memset(codes->q + i * padded(k) + k, 0, padded(k) - k);
}

/* The accumulators of `rows` rows from `row` and `cols` columns from `first` -> target. */
static void finish(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t row, size_t rows,
                   size_t first, size_t cols, const struct target *target)
{
    const struct codes *codes = &scratch->codes;
    const struct finish_job job = {
        rows, cols, scratch->acc, codes->s + row, codes->zp + row, run->model->minmax ? layer->code_sums + first : NULL,
        layer->alpha + first, layer->bias ? layer->bias + first : NULL, target->add,
        target->gamma ? target->gamma + first : NULL, target->amax ? target->amax + first : NULL,
        target->y + row * target->stride + first, target->stride};
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

static struct dot_weights weights_of(const struct refvit_linear *layer)
{
    const uint64_t *neg = layer->bits == 2 ? layer->planes + layer->n * words_of(layer->k) : NULL;
    return (struct dot_weights){layer->n, layer->k, neg ? layer->planes : NULL, neg, layer->codes, layer->k};
}

/* The weights of the panel of a layer from channel `first` on, spread over m rows; layer NULL: nothing. */
static struct dot_ahead weights_ahead(const struct refvit_linear *layer, size_t first, size_t cols, size_t m)
{
    if (!layer)
        return (struct dot_ahead){{"", ""}, 0};
    const struct dot_weights w = weights_of(layer);
    const size_t channels = w.n - first < cols ? w.n - first : cols, words = words_of(w.k);
    const size_t bytes = w.pos ? channels * words * sizeof *w.pos : channels * w.k / 2;
    const char *from = w.pos ? (const char *)(w.pos + first * words) : (const char *)(w.w + first * w.k);
    const char *other = w.pos ? (const char *)(w.neg + first * words) : from + bytes;
    return (struct dot_ahead){{from, other}, (bytes + m - 1) / m};
}

static void linear_dot(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m,
                       const struct target *target, const struct refvit_linear *after)
{
    const struct dot_weights weights = weights_of(layer);
    const size_t stride = padded(layer->k);
    for (size_t i = 0; i < m; i++)
        scratch->init[i] = -(weights.pos ? run->dot->ternary_offset : run->dot->int8_offset) *
                           run->dot->row_sum(stride, scratch->codes.q + i * stride);
    for (size_t first = 0; first < layer->n; first += run->dot->cols) {
        const size_t cols = layer->n - first < run->dot->cols ? layer->n - first : run->dot->cols;
        const struct dot_ahead ahead = first + cols < layer->n ? weights_ahead(layer, first + cols, run->dot->cols, m)
                                                               : weights_ahead(after, 0, run->dot->cols, m);
        run->dot->decode(&weights, first, cols, scratch->panel);
        size_t rows;
        for (size_t row = 0; row < m; row += rows) {
            rows = block_rows(m - row);
            const size_t fetched = row * ahead.bytes;
            const struct dot_job job = {rows, layer->k, cols, scratch->codes.q + row * stride, stride,
                                        scratch->init + row, scratch->panel, scratch->acc, cols,
                                        {{ahead.from[0] + fetched, ahead.from[1] + fetched}, ahead.bytes}};
            (weights.pos ? run->dot->ternary : run->dot->int8)(&job);
            finish(run, scratch, layer, row, rows, first, cols, target);
        }
    }
}

void linear(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m, struct target target,
            const struct refvit_linear *after)
{
    if (m == 0)
        return;
    if (layer->bits == 8 || refvit_family(run->backend, m, (size_t)layer->act_bits))
        linear_dot(run, scratch, layer, m, &target, after);
    else
        linear_popcount(run, scratch, layer, m, &target);
}
