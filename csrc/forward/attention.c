/* Attention within a window, at 8 bits: q, k, v with a scale for each image and head, probabilities in 127ths (N10). */
#include <math.h>
#include <string.h>

#include "../rows/codes.h"
#include "forward.h"


struct head {
    size_t tokens, width, stride; /* of a window; of the head; floats from a token to the next in qkv */
    const int32_t *rows;          /* of qkv, -1 the row of padding; NULL: in order */
    const float *q, *k, *v;       /* its first column of qkv */
    float s_q, s_k, s_v;
};

void heads_amax(const struct run *run, const struct refvit_stage *stage, const float *columns, float *amax)
{
    const size_t width = stage->width / stage->heads;
    for (size_t h = 0; h < 3 * stage->heads; h++)
        amax[h] = run->steps->amax(width, columns + h * width);
}

/* The scale of part 0 (q), 1 (k) or 2 (v) of a head, over all chunks and the row of padding. */
static float head_scale(const struct run *run, const struct refvit_stage *stage, size_t head, size_t part)
{
    const size_t chunks = chunks_of(stage->tokens, pool_threads(run->pool)).count;
    float amax = 0.0f;
    for (size_t c = 0; c <= chunks; c++) {
        const float largest = run->amax[(c * 3 + part) * stage->heads + head];
        amax = largest > amax ? largest : amax;
    }
    return scale_from_amax(amax, 8);
}

/* Codes of `count` tokens from `start` on, of q, k or v. */
static void quantize(struct run *run, const struct refvit_stage *stage, const struct head *head, size_t start,
                     size_t count, const float *x, float s, int8_t *q, size_t q_stride)
{
    const struct token_job job = {
        count, head->width, head->stride, head->rows ? head->rows + start : NULL, stage->tokens,
        head->rows ? x : x + start * head->stride, s, q, q_stride};
    note_status(run, run->steps->token_codes(&job));
}

/* Codes of all values and keys of the window, and their panels: contexts need values as channels, scores keys. */
static void prepare(struct run *run, struct scratch *scratch, const struct refvit_stage *stage, const struct head *head)
{
    const size_t t = head->tokens, d = head->width, cols = run->dot->cols;
    const struct dot_weights keys = {t, d, NULL, NULL, scratch->key, d}, values = {d, t, NULL, NULL, scratch->key, d};
    quantize(run, stage, head, 0, t, head->v, head->s_v, scratch->key, d);
    for (size_t first = 0; first < d; first += cols)
        run->dot->decode_inputs(&values, first, d - first < cols ? d - first : cols,
                                scratch->value_panels + first * padded(t));
    quantize(run, stage, head, 0, t, head->k, head->s_k, scratch->key, d);
    for (size_t first = 0; first < t; first += cols)
        run->dot->decode(&keys, first, t - first < cols ? t - first : cols, scratch->key_panels + first * padded(d));
}

/* acc [rows][n] = codes [rows][k] times panels of n channels. */
static void multiply(struct run *run, struct scratch *scratch, size_t rows, size_t k, size_t n, const int8_t *q,
                     size_t stride, const uint8_t *panels)
{
    const size_t cols = run->dot->cols;
    for (size_t i = 0; i < rows; i++)
        scratch->init[i] = -run->dot->int8_offset * run->dot->row_sum(padded(k), q + i * stride);
    for (size_t first = 0; first < n; first += cols) {
        const struct dot_job job = {rows, k, n - first < cols ? n - first : cols, q, stride, scratch->init,
                                    panels + first * padded(k), scratch->acc + first, n, {{"", ""}, 0}};
        run->dot->int8(&job);
    }
}

/* Accumulated scores of rows from `start` on -> codes of their probabilities. */
static void probabilities(struct run *run, struct scratch *scratch, const struct head *head, size_t rows,
                          const float *bias, const float *mask)
{
    const size_t t = head->tokens;
    const float root = (float)(1.0 / sqrt((double)head->width));
    run->steps->scores(rows * t, scratch->acc, head->s_q, head->s_k, root, bias, mask, scratch->scores);
    note_status(run, run->steps->softmax_codes(rows, t, scratch->scores, scratch->room, scratch->prob, padded(t)));
}

static void fetch(const float *x, size_t count)
{
    for (size_t j = 0; j < count; j += DOT_ALIGN / sizeof *x)
        __builtin_prefetch(x + j);
}

/* Rows from `start` of the window: scores, probabilities, context. */
static void attend_rows(struct run *run, struct scratch *scratch, const struct refvit_stage *stage,
                        const struct refvit_block *block, const struct head *head, size_t window, size_t number,
                        size_t start, size_t rows)
{
    const size_t t = head->tokens, d = head->width, wide = padded(t);
    int8_t *q = scratch->query, *p = scratch->prob;
    const float s = PROB_SCALE;
    memset(q, 0, rows * padded(d));
    quantize(run, stage, head, start, rows, head->q, head->s_q, q, padded(d));
    multiply(run, scratch, rows, d, t, q, padded(d), scratch->key_panels);
    probabilities(run, scratch, head, rows, block->bias ? block->bias + (number * t + start) * t : NULL,
                  block->mask ? block->mask + (window * t + start) * t : NULL);
    multiply(run, scratch, rows, t, d, p, wide, scratch->value_panels);
    for (size_t j = 0; j < d; j++)
        scratch->filled[j] = head->s_v;
    for (size_t i = 0; i < rows; i++) {
        const size_t row = row_of(stage, head->rows, start + i);
        if (row < stage->tokens) {
            float *y = run->context + row * stage->width + number * d;
            fetch(y + d, d); /* the next head's */
            note_status(run, run->rows->rescale(1, d, scratch->acc + i * d, &s, scratch->filled, NULL, y));
        } else if (run->model->per_image) { /* padding counts in the scale, that is all (N6) */
            note_status(run, run->rows->rescale(1, d, scratch->acc + i * d, &s, scratch->filled, NULL, scratch->room));
            note_range(scratch, d, scratch->room);
        }
    }
}

void attend(struct run *run, struct scratch *scratch, const struct refvit_stage *stage, const struct refvit_block *block,
            size_t window, size_t number, size_t part, size_t parts)
{
    const size_t c = stage->width, t = stage->window, d = c / stage->heads;
    const float *first = run->qkv + number * d;
    const struct head head = {t, d, 3 * c, block->rows ? block->rows + window * t : NULL, first, first + c, first + 2 * c,
                              head_scale(run, stage, number, 0), head_scale(run, stage, number, 1),
                              head_scale(run, stage, number, 2)};
    prepare(run, scratch, stage, &head);
    memset(scratch->prob, 0, BLOCK_ROWS * padded(t)); /* rows have zeros beyond t */
    const size_t begin = t * part / parts, end = t * (part + 1) / parts;
    size_t rows;
    for (size_t row = begin; row < end; row += rows) {
        rows = block_rows(end - row);
        attend_rows(run, scratch, stage, block, &head, window, number, row, rows);
    }
}
