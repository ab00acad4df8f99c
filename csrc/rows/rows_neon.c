/* Float row kernels for aarch64, whose NEON rounds as IEEE-754 says: sixteen floats are four registers, sixteen doubles
   eight. Nothing is fused but f_fma. */
#include "../internal.h"

#if REFVIT_ARM64
#include <string.h>

#include "../neon.h"
#include "erf_table.h"
#include "exact.h"

#define TABLE row_kernels_neon
#define STEPS step_kernels_neon
#define LANES PARTIAL_SUMS
#define WIDE 1
#define VECS (LANES / 4)
#define PAIRS (LANES / 2)

typedef struct {
    float32x4_t v[VECS];
} floats;

typedef struct {
    float64x2_t v[PAIRS];
} doubles;

typedef struct {
    int32_t at[LANES];
} erf_rows;

/* All bits of lanes 0..n-1 of the register of four lanes that starts at `begin`. */
INLINE uint32x4_t first_lanes(size_t n, size_t begin)
{
    static const uint32_t window[2 * LANES] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u,
                                               ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    return vld1q_u32(window + LANES - n + begin);
}

INLINE floats f_set(float value)
{
    floats r;
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        r.v[i] = vdupq_n_f32(value);
    return r;
}

INLINE floats f_load(const float *from, size_t n)
{
    floats r;
    float first[LANES] = {0.0f};
    if (n < LANES)
        from = memcpy(first, from, n * sizeof *from);
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        r.v[i] = vld1q_f32(from + 4 * i);
    return r;
}

INLINE floats f_load_ints(const int32_t *from, size_t n)
{
    floats r;
    int32_t first[LANES] = {0};
    if (n < LANES)
        from = memcpy(first, from, n * sizeof *from);
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        r.v[i] = vcvtq_f32_s32(vld1q_s32(from + 4 * i));
    return r;
}

INLINE void f_store(float *to, size_t n, floats v)
{
    float all[LANES], *whole = n < LANES ? all : to;
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        vst1q_f32(whole + 4 * i, v.v[i]);
    if (n < LANES)
        memcpy(to, all, n * sizeof *to);
}

INLINE void f_store_codes(int8_t *to, size_t n, floats v, int32_t zp)
{
    const int32x4_t zero = vdupq_n_s32(zp);
    int16x4_t words[VECS];
    int8_t all[LANES];
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        words[i] = vqmovn_s32(vaddq_s32(vcvtnq_s32_f32(v.v[i]), zero));
    const int8x8_t low = vqmovn_s16(vcombine_s16(words[0], words[1]));
    const int8x8_t high = vqmovn_s16(vcombine_s16(words[2], words[3]));
    vst1q_s8(n < LANES ? all : to, vcombine_s8(low, high));
    if (n < LANES)
        memcpy(to, all, n);
}

INLINE floats f_first(size_t n, floats v, floats other)
{
    UNROLL
    for (size_t i = 0; i < VECS && n < LANES; i++)
        v.v[i] = vbslq_f32(first_lanes(n, 4 * i), v.v[i], other.v[i]);
    return v;
}

INLINE floats f_add(floats a, floats b)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        a.v[i] = vaddq_f32(a.v[i], b.v[i]);
    return a;
}

INLINE floats f_sub(floats a, floats b)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        a.v[i] = vsubq_f32(a.v[i], b.v[i]);
    return a;
}

INLINE floats f_mul(floats a, floats b)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        a.v[i] = vmulq_f32(a.v[i], b.v[i]);
    return a;
}

INLINE floats f_div(floats a, floats b)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        a.v[i] = vdivq_f32(a.v[i], b.v[i]);
    return a;
}

INLINE float32x4_t larger(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

INLINE floats f_max(floats a, floats b)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        a.v[i] = larger(a.v[i], b.v[i]);
    return a;
}

INLINE floats f_min(floats a, floats b)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        a.v[i] = vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]);
    return a;
}

INLINE floats f_abs(floats v)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        v.v[i] = vabsq_f32(v.v[i]);
    return v;
}

INLINE floats f_copysign(floats size, floats sign)
{
    const uint32x4_t top = vdupq_n_u32(0x80000000u);
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        size.v[i] = vbslq_f32(top, sign.v[i], size.v[i]);
    return size;
}

INLINE floats f_where_less(floats a, floats b, floats yes, floats no)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        yes.v[i] = vbslq_f32(vcltq_f32(a.v[i], b.v[i]), yes.v[i], no.v[i]);
    return yes;
}

INLINE float32x4_t where(uint32x4_t mask, float32x4_t v)
{
    return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(v)));
}

INLINE floats f_finite(floats v)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        v.v[i] = where(vcaleq_f32(v.v[i], vdupq_n_f32(FLT_MAX)), v.v[i]);
    return v;
}

/* A lane of all ones is a NaN. */
INLINE floats f_keep_nan(floats seen, floats v)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        seen.v[i] = vreinterpretq_f32_u32(
            vornq_u32(vreinterpretq_u32_f32(seen.v[i]), vceqq_f32(v.v[i], v.v[i])));
    return seen;
}

INLINE int all_ones(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d)
{
    return vminvq_u32(vandq_u32(vandq_u32(a, b), vandq_u32(c, d))) == ~0u;
}

INLINE int f_any_nan(floats v)
{
    return !all_ones(vceqq_f32(v.v[0], v.v[0]), vceqq_f32(v.v[1], v.v[1]), vceqq_f32(v.v[2], v.v[2]),
                     vceqq_f32(v.v[3], v.v[3]));
}

INLINE int f_all_less(floats a, floats b)
{
    return all_ones(vcltq_f32(a.v[0], b.v[0]), vcltq_f32(a.v[1], b.v[1]), vcltq_f32(a.v[2], b.v[2]),
                    vcltq_f32(a.v[3], b.v[3]));
}

INLINE float tree_sum(floats v)
{
    const float32x4_t four = vaddq_f32(vaddq_f32(v.v[0], v.v[2]), vaddq_f32(v.v[1], v.v[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

INLINE float tree_max(floats v)
{
    const float32x4_t four = larger(larger(v.v[0], v.v[2]), larger(v.v[1], v.v[3]));
    const float32x4_t two = larger(four, vextq_f32(four, four, 2));
    return vgetq_lane_f32(larger(two, vextq_f32(two, two, 1)), 0);
}

INLINE doubles d_set(double value)
{
    doubles r;
    UNROLL
    for (size_t i = 0; i < PAIRS; i++)
        r.v[i] = vdupq_n_f64(value);
    return r;
}

INLINE doubles d_widen(floats v)
{
    doubles r;
    UNROLL
    for (size_t i = 0; i < VECS; i++) {
        r.v[2 * i] = vcvt_f64_f32(vget_low_f32(v.v[i]));
        r.v[2 * i + 1] = vcvt_high_f64_f32(v.v[i]);
    }
    return r;
}

INLINE floats d_round(doubles v)
{
    floats r;
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        r.v[i] = vcvt_high_f32_f64(vcvt_f32_f64(v.v[2 * i]), v.v[2 * i + 1]);
    return r;
}

INLINE doubles d_add(doubles a, doubles b)
{
    UNROLL
    for (size_t i = 0; i < PAIRS; i++)
        a.v[i] = vaddq_f64(a.v[i], b.v[i]);
    return a;
}

INLINE doubles d_sub(doubles a, doubles b)
{
    UNROLL
    for (size_t i = 0; i < PAIRS; i++)
        a.v[i] = vsubq_f64(a.v[i], b.v[i]);
    return a;
}

INLINE doubles d_mul(doubles a, doubles b)
{
    UNROLL
    for (size_t i = 0; i < PAIRS; i++)
        a.v[i] = vmulq_f64(a.v[i], b.v[i]);
    return a;
}

INLINE doubles d_floor(doubles v)
{
    UNROLL
    for (size_t i = 0; i < PAIRS; i++)
        v.v[i] = vrndmq_f64(v.v[i]);
    return v;
}

INLINE doubles d_raise(doubles v, doubles shifted)
{
    UNROLL
    for (size_t i = 0; i < PAIRS; i++) {
        const int64x2_t n = vshlq_n_s64(vreinterpretq_s64_f64(shifted.v[i]), 52);
        v.v[i] = vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(v.v[i]), n));
    }
    return v;
}

INLINE erf_rows erf_rows_at(doubles i)
{
    erf_rows rows;
    UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        const uint32x2_t row = vqmovn_u64(vcvtq_u64_f64(i.v[j]));
        vst1_s32(rows.at + 2 * j, vreinterpret_s32_u32(vmin_u32(row, vdup_n_u32(15))));
    }
    return rows;
}

/* The compiler shares the loads of coefficients k and k + 1, k even. */
INLINE doubles erf_coefficient(erf_rows rows, int k)
{
    const int even = k & ~1;
    doubles r;
    UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        const float64x2_t a = vld1q_f64(refvit_erf_table[rows.at[2 * j]] + even);
        const float64x2_t b = vld1q_f64(refvit_erf_table[rows.at[2 * j + 1]] + even);
        r.v[j] = k == even ? vzip1q_f64(a, b) : vzip2q_f64(a, b);
    }
    return r;
}

INLINE floats f_fma(floats a, floats b, floats c)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++)
        c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
}

INLINE floats f_raise(floats v, floats n)
{
    UNROLL
    for (size_t i = 0; i < VECS; i++) {
        const int32x4_t exponent = vshlq_n_s32(vcvtnq_s32_f32(n.v[i]), 23); /* 0 of a NaN */
        v.v[i] = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v.v[i]), exponent));
    }
    return v;
}

/* The bytes of each element, among the 64 of the column. */
INLINE floats f_lookup(floats shifted, const float *column)
{
    const uint8x16x4_t table = vld1q_u8_x4((const uint8_t *)column);
    UNROLL
    for (size_t i = 0; i < VECS; i++) {
        const uint32x4_t at = vandq_u32(vreinterpretq_u32_f32(shifted.v[i]), vdupq_n_u32(LANES - 1));
        const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100u), at, 0x04040404u);
        shifted.v[i] = vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(bytes)));
    }
    return shifted;
}

#include "rows_vector.h"
#include "steps_vector.h"

#endif
