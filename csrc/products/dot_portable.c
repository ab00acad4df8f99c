/* Dot products in plain C99: the reference that every other variant equals. A panel is one channel after the other. */
#include "dot.h"

#define WIDTH 16

static void decode(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    const size_t length = padded(weights->k), words = words_of(weights->k);
    for (size_t c = 0; c < cols; c++, panel += length) {
        const size_t row = first + c;
        for (size_t j = 0; j < weights->k; j++) {
            if (weights->pos) {
                const size_t at = row * words + j / WORD_BITS, bit = j % WORD_BITS;
                panel[j] = (uint8_t)(TERNARY_OFFSET + (weights->pos[at] >> bit & 1) - (weights->neg[at] >> bit & 1));
            } else {
                panel[j] = (uint8_t)(INT8_OFFSET + weights->w[row * weights->stride + j]);
            }
        }
    }
}

static void decode_inputs(const struct dot_weights *weights, size_t first, size_t cols, uint8_t *panel)
{
    const size_t length = padded(weights->k);
    for (size_t j = 0; j < weights->k; j++)
        for (size_t c = 0; c < cols; c++)
            panel[c * length + j] = (uint8_t)(INT8_OFFSET + weights->w[j * weights->stride + first + c]);
}

static void multiply(const struct dot_job *job)
{
    for (size_t i = 0; i < job->m; i++) {
        const int8_t *x = job->x + i * job->x_stride;
        for (size_t c = 0; c < job->cols; c++) {
            const uint8_t *w = job->panel + c * padded(job->k);
            uint32_t acc = (uint32_t)job->init[i]; /* sums on the way may wrap, the last one does not */
            for (size_t j = 0; j < job->k; j++)
                acc += (uint32_t)(w[j] * x[j]);
            job->out[i * job->out_stride + c] = (int32_t)acc;
        }
    }
}

static int32_t row_sum(size_t length, const int8_t *x)
{
    int32_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += x[i];
    return sum;
}

const struct dot_kernels dot_portable = {WIDTH, TERNARY_OFFSET, INT8_OFFSET, decode, decode_inputs, multiply, multiply, row_sum};
