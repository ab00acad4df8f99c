/* Training kernels on rows of floats, compiled once for each target by a file train_*.c, which defines TARGET (the
   function attribute), MADD(a, b, c) (a * b + c, fused where the target can) and the vector of train_products.h.

   The loops are plain C for the compiler to vectorise; sums have LANES partial sums, so that it may. Their twins are
   the NumPy pairs of refvit/layers.py, within rounding. */
#include <math.h>
#include <string.h>

#include "train.h"

#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 16 /* as N9's partial sums: sum_of_squares promises their order */
#define LOG2E 0x1.715476p+0f
#define LN2_HI 0x1.62e4p-1f /* 15 bits, so that n * LN2_HI is exact for |n| < 2^9 */
#define LN2_LO 0x1.7f7d1cp-20f
#define EXP_LOW -104.0f /* exp is 0 below */
#define INV_SQRT_2PI 0x1.988454p-2f

/* 2^n, -126 <= n <= 127: the exponent of a float is biased by 127. */
INLINE float power_of_two(int32_t n)
{
    const uint32_t word = (uint32_t)(n + 127) << 23;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* e^x for x <= 0: x = n ln 2 + r, Taylor series of degree 7, times 2^n in two steps, as 2^n may be subnormal. */
INLINE float exp_negative(float x)
{
    x = x < EXP_LOW ? EXP_LOW : x;
    const float shifted = MADD(x, LOG2E, 0x1.8p23f); /* its lowest bits are n, half to even */
    const float n = shifted - 0x1.8p23f;
    const float r = MADD(n, -LN2_LO, MADD(n, -LN2_HI, x));
    float p = MADD(r, 1.0f / 5040.0f, 1.0f / 720.0f);
    p = MADD(p, r, 1.0f / 120.0f);
    p = MADD(p, r, 1.0f / 24.0f);
    p = MADD(p, r, 1.0f / 6.0f);
    p = MADD(p, r, 0.5f);
    p = MADD(p, r, 1.0f);
    p = MADD(p, r, 1.0f);
    int32_t word;
    memcpy(&word, &shifted, sizeof word);
    const int32_t half = -((0x4b400000 - word) >> 1); /* 0x4b400000 are the bits of 1.5 * 2^23 */
    return p * power_of_two(half) * power_of_two(word - 0x4b400000 - half);
}

INLINE float tree_sum(float *partial)
{
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            partial[l] += partial[l + half];
    return partial[0];
}

/* Phi(-a) = e^(-a^2 / 2) (1/2 + s P(s)), s = a / (a + 4), a = |x|; P is made by tools/make_tail_polynomial.py.
   slope = dy/dx = Phi(x) + x phi(x), all that backward needs. Phi is off by less than 2^-23; e is 0 from a = 15 on. */
TARGET static int gelu(size_t count, const float *x, float *y, float *slope)
{
    int nan = 0;
    for (size_t i = 0; i < count; i++) {
        const float size = fabsf(x[i]), a = size < 15.0f ? size : 15.0f, s = a / (a + 4.0f);
        const float e = exp_negative(-0.5f * x[i] * x[i]);
        float p = MADD(s, -0x1.199148p-5f, 0x1.d710aap-4f);
        p = MADD(p, s, -0x1.f15b6ap-5f);
        p = MADD(p, s, -0x1.929484p-3f);
        p = MADD(p, s, 0x1.a45476p-4f);
        p = MADD(p, s, 0x1.be9316p-1f);
        p = MADD(p, s, -0x1.0da394p+1f);
        p = MADD(p, s, 0x1.33bddap+1f);
        p = MADD(p, s, -0x1.988454p+0f);
        const float tail = e * MADD(p, s, 0.5f), rest = 1.0f - tail;
        const float cdf = x[i] < 0.0f ? tail : rest;
        y[i] = x[i] * cdf;
        slope[i] = MADD(x[i], e * INV_SQRT_2PI, cdf);
        nan |= y[i] != y[i];
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

TARGET static void multiply(size_t count, const float *a, const float *b, float *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = a[i] * b[i];
}

TARGET static void add_bias(size_t rows, size_t k, const float *bias, float *y)
{
    for (size_t i = 0; i < rows; i++, y += k)
        for (size_t j = 0; j < k; j++)
            y[j] += bias[j];
}

INLINE float row_max(size_t k, const float *x)
{
    float lanes[LANES], max = x[0];
    size_t j = 0;
    for (size_t l = 0; l < LANES; l++)
        lanes[l] = x[0];
    for (; j + LANES <= k; j += LANES)
        for (size_t l = 0; l < LANES; l++)
            lanes[l] = x[j + l] > lanes[l] ? x[j + l] : lanes[l];
    for (; j < k; j++)
        max = x[j] > max ? x[j] : max;
    for (size_t l = 0; l < LANES; l++)
        max = lanes[l] > max ? lanes[l] : max;
    return max;
}

INLINE float row_sum(size_t k, const float *x)
{
    float partial[LANES] = {0.0f};
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        for (size_t l = 0; l < LANES; l++)
            partial[l] += x[j + l];
    for (size_t l = 0; j + l < k; l++)
        partial[l] += x[j + l];
    return tree_sum(partial);
}

INLINE float row_dot(size_t k, const float *a, const float *b)
{
    float partial[LANES] = {0.0f};
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        for (size_t l = 0; l < LANES; l++)
            partial[l] = MADD(a[j + l], b[j + l], partial[l]);
    for (size_t l = 0; j + l < k; l++)
        partial[l] = MADD(a[j + l], b[j + l], partial[l]);
    return tree_sum(partial);
}

TARGET static void softmax_rows(size_t rows, size_t k, const float *x, float *p)
{
    for (size_t i = 0; i < rows; i++, x += k, p += k) {
        const float max = row_max(k, x);
        for (size_t j = 0; j < k; j++)
            p[j] = exp_negative(x[j] - max);
        const float sum = row_sum(k, p);
        for (size_t j = 0; j < k; j++)
            p[j] /= sum;
    }
}

TARGET static void softmax_backward(size_t rows, size_t k, const float *dp, const float *p, float *dx)
{
    for (size_t i = 0; i < rows; i++, dp += k, p += k, dx += k) {
        const float dot = row_dot(k, dp, p);
        for (size_t j = 0; j < k; j++)
            dx[j] = p[j] * (dp[j] - dot);
    }
}

TARGET static void layernorm_rows(size_t rows, size_t k, const float *x, const float *weight, const float *bias,
                                  float eps, float *y, float *xhat, float *rstd)
{
    for (size_t i = 0; i < rows; i++, x += k, y += k, xhat += k) {
        const float mean = row_sum(k, x) / (float)k;
        for (size_t j = 0; j < k; j++)
            xhat[j] = x[j] - mean;
        rstd[i] = 1.0f / sqrtf(row_dot(k, xhat, xhat) / (float)k + eps);
        for (size_t j = 0; j < k; j++) {
            xhat[j] *= rstd[i];
            y[j] = MADD(xhat[j], weight[j], bias[j]);
        }
    }
}

/* dweight and dbias [k] of these rows; dx is used for g = dy * weight first. */
TARGET static void layernorm_backward(size_t rows, size_t k, const float *dy, const float *xhat, const float *rstd,
                                      const float *weight, float *dx, float *dweight, float *dbias)
{
    memset(dweight, 0, k * sizeof *dweight);
    memset(dbias, 0, k * sizeof *dbias);
    for (size_t i = 0; i < rows; i++, dy += k, xhat += k, dx += k) {
        for (size_t j = 0; j < k; j++) {
            dx[j] = dy[j] * weight[j];
            dweight[j] = MADD(dy[j], xhat[j], dweight[j]);
            dbias[j] += dy[j];
        }
        const float mean = row_sum(k, dx) / (float)k, slant = row_dot(k, dx, xhat) / (float)k;
        for (size_t j = 0; j < k; j++)
            dx[j] = rstd[i] * (dx[j] - mean - xhat[j] * slant);
    }
}

/* The running moments of Adam. As refvit/training/optim.py, each operation rounded by itself in that order, so equal to it bit
   for bit. */
INLINE void update_moments(const struct adam_scalars *s, float g, float *m, float *v)
{
    *m = *m * s->beta1 + s->rest1 * g;
    *v = *v * s->beta2 + s->rest2 * (g * g);
}

TARGET static void adamw(size_t count, const struct adam_scalars *scalars, const float *g, float *p, float *m, float *v)
{
    const struct adam_scalars s = *scalars;
    for (size_t i = 0; i < count; i++) {
        update_moments(&s, g[i], m + i, v + i);
        p[i] = p[i] * s.decay - s.first * m[i] / (sqrtf(v[i]) / s.root + s.eps);
    }
}

TARGET static void lamb(size_t count, const struct adam_scalars *scalars, const float *g, const float *p, float *m,
                        float *v, float *u)
{
    const struct adam_scalars s = *scalars;
    for (size_t i = 0; i < count; i++) {
        update_moments(&s, g[i], m + i, v + i);
        u[i] = m[i] / s.first / (sqrtf(v[i]) / s.root + s.eps);
    }
    if (s.decay > 0.0f)
        for (size_t i = 0; i < count; i++)
            u[i] += s.decay * p[i];
}

/* In float64, where each square is exact: LANES partial sums, then a tree. */
TARGET static double sum_of_squares(size_t count, const float *x)
{
    double partial[LANES] = {0.0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            partial[l] += (double)x[i + l] * x[i + l];
    for (size_t l = 0; i + l < count; l++)
        partial[l] += (double)x[i + l] * x[i + l];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            partial[l] += partial[l + half];
    return partial[0];
}
