/* Float rows in a fixed order of roundings (N9): twins of refvit/exact.py, equal to it bit for bit. */
#include <math.h>
#include <string.h>

#include "../internal.h"
#include "erf_table.h"
#include "exact.h"

/* The partial sums added up by a tree 8, 4, 2, 1. */
static float tree_sum(float *partial)
{
    for (size_t half = PARTIAL_SUMS / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            partial[j] += partial[j + half];
    return partial[0];
}

static float sum16(const float *x, size_t k)
{
    float partial[PARTIAL_SUMS] = {0.0f};
    size_t i = 0;
    for (; i + PARTIAL_SUMS <= k; i += PARTIAL_SUMS)
        for (size_t j = 0; j < PARTIAL_SUMS; j++)
            partial[j] += x[i + j];
    for (size_t j = 0; i + j < k; j++)
        partial[j] += x[i + j];
    return tree_sum(partial);
}

/* sum16 of the products a * b, each rounded. */
static float dot16(const float *a, const float *b, size_t k)
{
    float partial[PARTIAL_SUMS] = {0.0f};
    size_t i = 0;
    for (; i + PARTIAL_SUMS <= k; i += PARTIAL_SUMS)
        for (size_t j = 0; j < PARTIAL_SUMS; j++)
            partial[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i + j < k; j++)
        partial[j] += a[i + j] * b[i + j];
    return tree_sum(partial);
}

/* e^x in float64: x = n ln 2 + r, Taylor series of degree 9, times 2^n, rounded once. */
static float exp_value(float value)
{
    double x = value;
    x = x < EXP_LOW ? EXP_LOW : x;
    x = x > EXP_HIGH ? EXP_HIGH : x;
    const double shifted = x * LOG2E + 0x1.8p52; /* its lowest bits are n, half to even */
    const double n = shifted - 0x1.8p52;
    const double r = (x - n * LN2_HI) - n * LN2_LO;
    double p = 1.0 / 362880.0, power;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t word;
    memcpy(&word, &shifted, sizeof word);
    word = (word + 1023) << 52; /* 2^n: the exponent of a double is biased by 1023 */
    memcpy(&power, &word, sizeof power);
    return (float)(p * power);
}

/* erf(x) = x P_i(t) in float64, i = floor(4 |x|), t = 4 |x| - i - 1/2, rounded once; 1 from |x| = 4 on. */
static float erf_value(float x)
{
    const double a = fabs((double)x);
    if (!(a < 4.0))
        return x != x ? x : copysignf(1.0f, x);
    const double y = a * 4.0;
    const int i = (int)y;
    const double *c = refvit_erf_table[i], t = y - i - 0.5;
    double p = c[7];
    for (int k = 6; k >= 0; k--)
        p = p * t + c[k];
    return (float)copysign(a * p, (double)x);
}

static float gelu_value(float x)
{
    return (x * 0.5f) * (1.0f + erf_value(x * INV_SQRT2));
}

/* y = f(x) for each value. */
static inline int each(float (*f)(float), size_t count, const float *x, float *y)
{
    int nan = 0;
    for (size_t i = 0; i < count; i++) {
        y[i] = f(x[i]);
        nan |= y[i] != y[i];
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

int gelu_values_portable(size_t count, const float *x, float *y)
{
    return each(gelu_value, count, x, y);
}

int exp_values_portable(size_t count, const float *x, float *y)
{
    return each(exp_value, count, x, y);
}

int erf_values_portable(size_t count, const float *x, float *y)
{
    return each(erf_value, count, x, y);
}

int softmax_portable(size_t rows, size_t k, const float *x, float *y)
{
    int nan = 0;
    for (size_t i = 0; i < rows; i++, x += k, y += k) {
        float max = x[0];
        for (size_t j = 1; j < k; j++)
            max = x[j] > max ? x[j] : max;
        for (size_t j = 0; j < k; j++)
            y[j] = exp_value(x[j] - max);
        const float sum = sum16(y, k);
        for (size_t j = 0; j < k; j++) {
            y[j] /= sum;
            nan |= y[j] != y[j];
        }
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

int layernorm_portable(size_t rows, size_t k, const float *x, const float *weight, const float *bias, float eps,
                       float *y)
{
    int nan = 0;
    for (size_t i = 0; i < rows; i++, x += k, y += k) {
        const float mean = sum16(x, k) / (float)k;
        for (size_t j = 0; j < k; j++)
            y[j] = x[j] - mean;
        const float deviation = sqrtf(dot16(y, y, k) / (float)k + eps);
        for (size_t j = 0; j < k; j++) {
            y[j] = y[j] / deviation * weight[j] + bias[j];
            nan |= y[j] != y[j];
        }
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

int matmul16_portable(size_t m, size_t n, size_t k, const float *a, const float *b, float *out)
{
    int nan = 0;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            out[i * n + j] = dot16(a + i * k, b + j * k, k);
            nan |= out[i * n + j] != out[i * n + j];
        }
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}
