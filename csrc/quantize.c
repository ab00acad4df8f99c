/* Codes of activations and the rescaling of accumulators (N4, N5, N8): twins of refvit/quant.py and exact.py. */
#include <math.h>

#include "internal.h"

#define SCALE_MIN 0x1p-126f /* N5: the smallest normal float */

/* Half to even for |v| < 2^22: adding 1.5 * 2^23 leaves no bits below the integers. */
static float round_even(float v)
{
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

/* A NaN becomes `low`: the cast that follows needs a value in range. */
static float clip(float v, float low, float high)
{
    v = v > low ? v : low;
    return v < high ? v : high;
}

int symmetric_scale(size_t rows, size_t k, int bits, const float *x, float *s)
{
    const float qmax = (float)((1 << (bits - 1)) - 1);
    for (size_t i = 0; i < rows; i++, x += k) {
        float amax = 0.0f;
        for (size_t j = 0; j < k; j++) {
            const float a = fabsf(x[j]);
            amax = a > amax && a <= FLT_MAX ? a : amax; /* over finite values */
        }
        const float scale = amax / qmax;
        s[i] = scale < SCALE_MIN ? 1.0f : scale;
    }
    return REFVIT_OK;
}

int minmax_scale(size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp)
{
    const float levels = (float)((1 << bits) - 1), lowest = (float)-(1 << (bits - 1));
    for (size_t i = 0; i < rows; i++, x += k) {
        float low = 0.0f, high = 0.0f;
        for (size_t j = 0; j < k; j++) {
            low = x[j] < low && x[j] >= -FLT_MAX ? x[j] : low;
            high = x[j] > high && x[j] <= FLT_MAX ? x[j] : high;
        }
        const float width = high - low;
        const float scale = width > FLT_MAX ? high / levels - low / levels : width / levels;
        s[i] = scale < SCALE_MIN ? 1.0f : scale;
        zp[i] = (int32_t)clip(round_even(lowest - low / s[i]), lowest, -lowest - 1.0f);
    }
    return REFVIT_OK;
}

int quantize_rows(size_t rows, size_t k, int low, int high, const float *x, const float *s, const int32_t *zp,
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

int rescale(size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha, const float *bias, float *y)
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
