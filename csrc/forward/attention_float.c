/* Attention within a window in float: products summed by 16 partial sums (N9), no codes (N10). */
#include <math.h>
#include <string.h>

#include "forward.h"

/* Columns of one head from `count` tokens of a window, side by side. */
static void gather(const struct refvit_stage *stage, const int32_t *rows, size_t start, size_t count, const float *from,
                   float *to)
{
    const size_t d = stage->width / stage->heads;
    for (size_t i = 0; i < count; i++)
        memcpy(to + i * d, from + row_of(stage, rows, start + i) * 3 * stage->width, d * sizeof *to);
}

/* [T][D] -> [D][T] */
static void transpose(size_t t, size_t d, const float *x, float *y)
{
    for (size_t i = 0; i < t; i++)
        for (size_t j = 0; j < d; j++)
            y[j * t + i] = x[i * d + j];
}

/* y = y * root, then + bias and + mask where there are such. */
static void finish_scores(size_t count, float root, const float *bias, const float *mask, float *y)
{
    for (size_t j = 0; j < count; j++) {
        y[j] = y[j] * root;
        y[j] = bias ? y[j] + bias[j] : y[j];
        y[j] = mask ? y[j] + mask[j] : y[j];
    }
}

/* Context of `rows` tokens from `start`. */
static void attend_rows(struct run *run, struct scratch *scratch, const struct refvit_stage *stage,
                        const struct refvit_block *block, const int32_t *numbers, size_t window, size_t head,
                        size_t start, size_t rows)
{
    const size_t t = stage->window, d = stage->width / stage->heads;
    const float root = (float)(1.0 / sqrt((double)d));
    float *context = scratch->queries; /* the queries are read before it is written */
    gather(stage, numbers, start, rows, run->qkv + head * d, scratch->queries);
    note_status(run, run->rows->matmul16(rows, t, d, scratch->queries, scratch->keys, scratch->scores));
    for (size_t i = 0; i < rows; i++)
        finish_scores(t, root, block->bias ? block->bias + (head * t + start + i) * t : NULL,
                      block->mask ? block->mask + (window * t + start + i) * t : NULL, scratch->scores + i * t);
    note_status(run, run->rows->softmax(rows, t, scratch->scores, scratch->scores));
    note_status(run, run->rows->matmul16(rows, d, t, scratch->scores, scratch->values, context));
    for (size_t i = 0; i < rows; i++) {
        const size_t row = row_of(stage, numbers, start + i);
        if (row < stage->tokens)
            memcpy(run->context + row * stage->width + head * d, context + i * d, d * sizeof *context);
        else
            note_range(scratch, d, context + i * d);
    }
}

void attend_float(struct run *run, struct scratch *scratch, const struct refvit_stage *stage,
                  const struct refvit_block *block, size_t window, size_t head, size_t part, size_t parts)
{
    const size_t c = stage->width, t = stage->window, d = c / stage->heads;
    const int32_t *numbers = block->rows ? block->rows + window * t : NULL;
    gather(stage, numbers, 0, t, run->qkv + 2 * c + head * d, scratch->keys); /* values, on their way into columns */
    transpose(t, d, scratch->keys, scratch->values);
    gather(stage, numbers, 0, t, run->qkv + c + head * d, scratch->keys);
    const size_t begin = t * part / parts, end = t * (part + 1) / parts;
    for (size_t row = begin; row < end; row += BLOCK_ROWS)
        attend_rows(run, scratch, stage, block, numbers, window, head, row, end - row < BLOCK_ROWS ? end - row : BLOCK_ROWS);
}
