/* The entries of the training kernels: check sizes, choose the variant, set the floating-point environment (N14). */
#include "train.h"

#include "../fpenv.h"

static const struct train_kernels *select_kernels(int backend)
{
#if REFVIT_X86
    if (backend >= REFVIT_AVX512VNNI)
        return &train_avx512;
    if (backend >= REFVIT_AVX2)
        return &train_avx2;
#endif
    (void)backend;
    return &train_portable;
}

/* What stands between the two runs in the default floating-point environment. */
#define ENTER(backend)                                                                                                 \
    if (!usable(backend))                                                                                              \
        return REFVIT_BAD_BACKEND;                                                                                     \
    const struct train_kernels *kernels = select_kernels(backend);                                                     \
    const fp_env saved = fp_enter()
#define LEAVE(status)                                                                                                  \
    fp_leave(saved);                                                                                                   \
    return status

int refvit_train_gelu(int backend, size_t count, const float *x, float *y, float *slope)
{
    ENTER(backend);
    const int status = kernels->gelu(count, x, y, slope);
    LEAVE(status);
}

int refvit_train_multiply(int backend, size_t count, const float *a, const float *b, float *y)
{
    ENTER(backend);
    kernels->multiply(count, a, b, y);
    LEAVE(REFVIT_OK);
}

int refvit_train_add_bias(int backend, size_t rows, size_t k, const float *bias, float *y)
{
    ENTER(backend);
    kernels->add_bias(rows, k, bias, y);
    LEAVE(REFVIT_OK);
}

int refvit_train_softmax(int backend, size_t rows, size_t k, const float *x, float *p)
{
    if (k == 0)
        return REFVIT_BAD_SIZE;
    ENTER(backend);
    kernels->softmax(rows, k, x, p);
    LEAVE(REFVIT_OK);
}

int refvit_train_softmax_backward(int backend, size_t rows, size_t k, const float *dp, const float *p, float *dx)
{
    ENTER(backend);
    kernels->softmax_backward(rows, k, dp, p, dx);
    LEAVE(REFVIT_OK);
}

int refvit_train_layernorm(int backend, size_t rows, size_t k, const float *x, const float *weight, const float *bias,
                           float eps, float *y, float *xhat, float *rstd)
{
    if (k == 0)
        return REFVIT_BAD_SIZE;
    ENTER(backend);
    kernels->layernorm(rows, k, x, weight, bias, eps, y, xhat, rstd);
    LEAVE(REFVIT_OK);
}

int refvit_train_layernorm_backward(int backend, size_t rows, size_t block, size_t k, const float *dy,
                                    const float *xhat, const float *rstd, const float *weight, float *dx, float *sums)
{
    if (k == 0 || block == 0)
        return REFVIT_BAD_SIZE;
    ENTER(backend);
    for (size_t i = 0; i < rows; i += block, sums += 2 * k)
        kernels->layernorm_backward(rows - i < block ? rows - i : block, k, dy + i * k, xhat + i * k, rstd + i, weight,
                                    dx + i * k, sums, sums + k);
    LEAVE(REFVIT_OK);
}

int refvit_train_fake_quantize(int backend, const size_t *shape, const size_t *x_strides, const float *x, int bits,
                               int minmax, const float *s, const int32_t *zp, const size_t *y_strides, float *y,
                               uint8_t *passes, int32_t *clipped)
{
    if (bits < 2 || bits > MAX_BITS)
        return REFVIT_BAD_SIZE;
    const struct quantize_job job = {shape[0], shape[1], shape[2], shape[3], x_strides, y_strides, x,      s,
                                     zp,       bits,     minmax,   y,        passes,    clipped};
    ENTER(backend);
    const int status = kernels->fake_quantize(&job);
    LEAVE(status);
}

int refvit_train_round_to(int backend, size_t count, const float *x, float s, float *y)
{
    ENTER(backend);
    kernels->round_to(count, x, s, y);
    LEAVE(REFVIT_OK);
}

int refvit_train_ternary(int backend, size_t rows, size_t k, const float *w, double threshold, int absolute_mean,
                         float *y)
{
    if (k == 0)
        return REFVIT_BAD_SIZE;
    ENTER(backend);
    const int status = kernels->ternary_rows(rows, k, w, threshold, absolute_mean, y);
    LEAVE(status);
}

int refvit_train_products(int backend, const size_t *shape, const float *a, const size_t *a_strides, const float *b,
                          const size_t *b_strides, float scale, const float *bias, const float *mask, size_t first,
                          size_t masks, float *out, const size_t *out_strides)
{
    if (shape[4] == 0 || (mask && masks == 0))
        return REFVIT_BAD_SIZE;
    const struct product_job job = {shape[0],    shape[1], shape[2], shape[3], shape[4], a_strides, b_strides,
                                    out_strides, a,        b,        scale,    bias,     mask,      first,
                                    masks,       out};
    ENTER(backend);
    kernels->products(&job);
    LEAVE(REFVIT_OK);
}

static struct adam_scalars adam_scalars(const float *s)
{
    const struct adam_scalars scalars = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]};
    return scalars;
}

int refvit_train_adamw(int backend, size_t count, const float *scalars, const float *g, float *p, float *m, float *v)
{
    const struct adam_scalars s = adam_scalars(scalars);
    ENTER(backend);
    kernels->adamw(count, &s, g, p, m, v);
    LEAVE(REFVIT_OK);
}

int refvit_train_lamb(int backend, size_t count, const float *scalars, const float *g, const float *p, float *m,
                      float *v, float *u)
{
    const struct adam_scalars s = adam_scalars(scalars);
    ENTER(backend);
    kernels->lamb(count, &s, g, p, m, v, u);
    LEAVE(REFVIT_OK);
}

int refvit_train_sum_of_squares(int backend, size_t count, const float *x, double *sum)
{
    ENTER(backend);
    *sum = kernels->sum_of_squares(count, x);
    LEAVE(REFVIT_OK);
}
