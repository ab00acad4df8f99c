/* The choice between the tables of dot products, and their entries. */
#include "dot.h"

const struct dot_kernels *dot_kernels(int backend)
{
#if REFVIT_X86
    if (backend >= REFVIT_AVX512VNNI)
        return &dot_avx512vnni;
    if (backend == REFVIT_AVXVNNI)
        return &dot_avxvnni;
    if (backend == REFVIT_AVX2)
        return &dot_avx2;
#endif
#if REFVIT_ARM64
    if (backend == REFVIT_NEONDOT)
        return &dot_neondot;
#endif
#if REFVIT_ARM
    if (backend == REFVIT_NEON)
        return &dot_neon;
#endif
    (void)backend;
    return &dot_portable;
}

/* out [m][n] = x [m][k], rows padded, times all channels of the weights. */
static void product(const struct dot_kernels *kernels, const struct dot_weights *weights, int by_inputs, size_t m,
                    const int8_t *x, int32_t *init, uint8_t *panel, int32_t *out)
{
    const size_t stride = padded(weights->k);
    const int32_t offset = weights->pos ? kernels->ternary_offset : kernels->int8_offset;
    for (size_t i = 0; i < m; i++)
        init[i] = -offset * kernels->row_sum(stride, x + i * stride);
    for (size_t first = 0; first < weights->n; first += kernels->cols) {
        const size_t cols = weights->n - first < kernels->cols ? weights->n - first : kernels->cols;
        const struct dot_job job = {m,   weights->k,  cols,       x,             stride, init,
                                    panel, out + first, weights->n, {{"", ""}, 0}};
        (by_inputs ? kernels->decode_inputs : kernels->decode)(weights, first, cols, panel);
        (weights->pos ? kernels->ternary : kernels->int8)(&job);
    }
}

int refvit_ternary_dot(int backend, size_t m, size_t n, size_t k, const int8_t *x, const uint64_t *planes,
                       int32_t *init, uint8_t *panel, int32_t *out)
{
    const struct dot_weights weights = {n, k, planes, planes + n * words_of(k), NULL, 0};
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (k > K_MAX)
        return REFVIT_BAD_SIZE;
    product(dot_kernels(backend), &weights, 0, m, x, init, panel, out);
    return REFVIT_OK;
}

int refvit_int8_dot(int backend, size_t batch, size_t m, size_t n, size_t k, const int8_t *x, const int8_t *w,
                    int by_inputs, int32_t *init, uint8_t *panel, int32_t *out)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (k >= K_MAX)
        return REFVIT_BAD_SIZE;
    for (size_t i = 0; i < batch; i++) {
        const struct dot_weights weights = {n, k, NULL, NULL, w + i * n * k, by_inputs ? n : k};
        product(dot_kernels(backend), &weights, by_inputs, m, x + i * m * padded(k), init, panel, out + i * m * n);
    }
    return REFVIT_OK;
}
