/* Scales, zero points and rounding of activation codes (N4, N5), shared by the kernels that quantize. */
#ifndef REFVIT_CODES_H
#define REFVIT_CODES_H

#include <float.h>
#include <stdint.h>

#define SCALE_MIN 0x1p-126f /* N5: the smallest normal float */

/* Half to even for |v| < 2^22: adding 1.5 * 2^23 leaves no bits below the integers. */
static inline float round_even(float v)
{
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

/* A NaN becomes `low`: the cast that follows needs a value in range. */
static inline float clip(float v, float low, float high)
{
    v = v > low ? v : low;
    return v < high ? v : high;
}

static inline float scale_from_amax(float amax, int bits)
{
    const float scale = amax / (float)((1 << (bits - 1)) - 1);
    return scale < SCALE_MIN ? 1.0f : scale;
}

static inline float scale_from_range(float low, float high, int bits)
{
    const float levels = (float)((1 << bits) - 1), width = high - low;
    const float scale = width > FLT_MAX ? high / levels - low / levels : width / levels;
    return scale < SCALE_MIN ? 1.0f : scale;
}

static inline int32_t zero_point(float low, float scale, int bits)
{
    const float lowest = (float)-(1 << (bits - 1));
    return (int32_t)clip(round_even(lowest - low / scale), lowest, -lowest - 1.0f);
}

#endif
