/* What the files *_neon.c share. ARM in 32 bits flushes subnormals in NEON, so there it does integers only. */
#ifndef REFVIT_NEON_H
#define REFVIT_NEON_H

#include <arm_neon.h>

#if defined(__aarch64__) || defined(__ARM_NEON)
#define TARGET
#else
#define TARGET __attribute__((target("fpu=neon")))
#endif
#define INLINE TARGET static inline __attribute__((always_inline))

#if defined(__aarch64__)

INLINE int16x8_t mul_high(int8x16_t a, int8x16_t b)
{
    return vmull_high_s8(a, b);
}

INLINE int16x8_t mul_add_high(int16x8_t acc, int8x16_t a, int8x16_t b)
{
    return vmlal_high_s8(acc, a, b);
}

INLINE int32x4_t add_pairs(int32x4_t a, int32x4_t b)
{
    return vpaddq_s32(a, b);
}

INLINE uint8x16_t add_byte_pairs(uint8x16_t a, uint8x16_t b)
{
    return vpaddq_u8(a, b);
}

#else

INLINE int16x8_t mul_high(int8x16_t a, int8x16_t b)
{
    return vmull_s8(vget_high_s8(a), vget_high_s8(b));
}

INLINE int16x8_t mul_add_high(int16x8_t acc, int8x16_t a, int8x16_t b)
{
    return vmlal_s8(acc, vget_high_s8(a), vget_high_s8(b));
}

INLINE int32x4_t add_pairs(int32x4_t a, int32x4_t b)
{
    return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
}

INLINE uint8x16_t add_byte_pairs(uint8x16_t a, uint8x16_t b)
{
    return vcombine_u8(vpadd_u8(vget_low_u8(a), vget_high_u8(a)), vpadd_u8(vget_low_u8(b), vget_high_u8(b)));
}

#endif

#endif
