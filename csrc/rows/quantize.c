/* Codes of activations and the rescaling of accumulators (N4, N5, N8): twins of refvit/quant.py and exact.py. */
#include <math.h>

#include "../internal.h"
#include "codes.h"

float amax_portable(size_t count, const float *x)
{
    float amax = 0.0f;
    for (size_t i = 0; i < count; i++) {
        const float a = fabsf(x[i]);
        amax = a > amax && a <= FLT_MAX ? a : amax; /* over finite values */
    }
    return amax;
}

int symmetric_scale_portable(size_t rows, size_t k, int bits, const float *x, float *s)
{
    for (size_t i = 0; i < rows; i++, x += k)
        s[i] = scale_from_amax(amax_portable(k, x), bits);
    return REFVIT_OK;
}

int minmax_scale_portable(size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp)
{
    for (size_t i = 0; i < rows; i++, x += k) {
        float low = 0.0f, high = 0.0f;
        for (size_t j = 0; j < k; j++) {
            low = x[j] < low && x[j] >= -FLT_MAX ? x[j] : low;
            high = x[j] > high && x[j] <= FLT_MAX ? x[j] : high;
        }
        s[i] = scale_from_range(low, high, bits);
        zp[i] = zero_point(low, s[i], bits);
    }
    return REFVIT_OK;
}

int quantize_rows_portable(size_t rows, size_t k, int low, int high, const float *x, const float *s, const int32_t *zp,
                           int8_t *q)
{
    int nan = 0;
    for (size_t i = 0; i < rows; i++, x += k, q += k) {
        /* The bounds are integers, so clipping before rounding and adding zp gives the same code. */
        const float zero = (float)zp[i], least = (float)low - zero, most = (float)high - zero;
        for (size_t j = 0; j < k; j++) {
            nan |= x[j] != x[j];
            const float v = round_even(clip(x[j] / s[i], least, most)) + zero;
            q[j] = (int8_t)v;
        }
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

int rescale_portable(size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha, const float *bias,
                     float *y)
{
    int nan = 0;
    for (size_t i = 0; i < rows; i++, acc += n, y += n) {
        for (size_t j = 0; j < n; j++) {
            const float v = (float)acc[j] * s[i] * alpha[j];
            y[j] = bias ? v + bias[j] : v;
            nan |= y[j] != y[j];
        }
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}
