/* Float row kernels for AVX2: sixteen floats are two registers, sixteen doubles four. */
#include "../internal.h"

#if REFVIT_X86
#include <immintrin.h>
#include <string.h>

#include "erf_table.h"
#include "exact.h"

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define TABLE row_kernels_avx2
#define STEPS step_kernels_avx2
#define LANES PARTIAL_SUMS
#define WIDE 1

typedef struct {
    __m256 a, b;
} floats;

typedef struct {
    __m256d a, b, c, d;
} doubles;

typedef struct {
    int32_t at[LANES];
} erf_rows;

/* All bits of lanes 0..n-1 of the half of sixteen lanes that starts at `begin`. */
INLINE __m256i first_lanes(size_t n, size_t begin)
{
    static const int32_t window[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(window + LANES - n + begin));
}

INLINE floats f_join(__m256 low, __m256 high)
{
    const floats v = {low, high};
    return v;
}

INLINE __m256 f_low(floats v)
{
    return v.a;
}

INLINE __m256 f_high(floats v)
{
    return v.b;
}

INLINE floats f_set(float value)
{
    return f_join(_mm256_set1_ps(value), _mm256_set1_ps(value));
}

INLINE floats f_load(const float *from, size_t n)
{
    if (n == LANES)
        return f_join(_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8));
    return f_join(_mm256_maskload_ps(from, first_lanes(n, 0)), _mm256_maskload_ps(from + 8, first_lanes(n, 8)));
}

INLINE floats f_load_ints(const int32_t *from, size_t n)
{
    __m256i a, b;
    if (n == LANES) {
        a = _mm256_loadu_si256((const __m256i *)from);
        b = _mm256_loadu_si256((const __m256i *)(from + 8));
    } else {
        a = _mm256_maskload_epi32(from, first_lanes(n, 0));
        b = _mm256_maskload_epi32(from + 8, first_lanes(n, 8));
    }
    return f_join(_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b));
}

INLINE void f_store(float *to, size_t n, floats v)
{
    if (n == LANES) {
        _mm256_storeu_ps(to, v.a);
        _mm256_storeu_ps(to + 8, v.b);
    } else {
        _mm256_maskstore_ps(to, first_lanes(n, 0), v.a);
        _mm256_maskstore_ps(to + 8, first_lanes(n, 8), v.b);
    }
}

INLINE void f_store_codes(int8_t *to, size_t n, floats v, int32_t zp)
{
    const __m256i zero = _mm256_set1_epi32(zp);
    const __m256i a = _mm256_add_epi32(_mm256_cvtps_epi32(v.a), zero);
    const __m256i b = _mm256_add_epi32(_mm256_cvtps_epi32(v.b), zero);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8); /* packs works on halves */
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    memcpy(to, &bytes, n);
}

INLINE floats f_first(size_t n, floats v, floats other)
{
    if (n == LANES)
        return v;
    return f_join(_mm256_blendv_ps(other.a, v.a, _mm256_castsi256_ps(first_lanes(n, 0))),
                  _mm256_blendv_ps(other.b, v.b, _mm256_castsi256_ps(first_lanes(n, 8))));
}

INLINE floats f_add(floats a, floats b)
{
    return f_join(_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b));
}

INLINE floats f_sub(floats a, floats b)
{
    return f_join(_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b));
}

INLINE floats f_mul(floats a, floats b)
{
    return f_join(_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b));
}

INLINE floats f_div(floats a, floats b)
{
    return f_join(_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b));
}

INLINE floats f_max(floats a, floats b)
{
    return f_join(_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b));
}

INLINE floats f_min(floats a, floats b)
{
    return f_join(_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b));
}

INLINE floats f_or(floats a, floats b)
{
    return f_join(_mm256_or_ps(a.a, b.a), _mm256_or_ps(a.b, b.b));
}

INLINE floats f_and(floats a, floats b)
{
    return f_join(_mm256_and_ps(a.a, b.a), _mm256_and_ps(a.b, b.b));
}

INLINE floats f_abs(floats v)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return f_join(_mm256_andnot_ps(sign, v.a), _mm256_andnot_ps(sign, v.b));
}

INLINE floats f_copysign(floats size, floats sign)
{
    return f_or(size, f_and(sign, f_set(-0.0f)));
}

INLINE floats f_where_less(floats a, floats b, floats yes, floats no)
{
    return f_join(_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
                  _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ)));
}

INLINE floats f_finite(floats v)
{
    const __m256 most = _mm256_set1_ps(FLT_MAX);
    const floats size = f_abs(v);
    return f_and(v, f_join(_mm256_cmp_ps(size.a, most, _CMP_LE_OQ), _mm256_cmp_ps(size.b, most, _CMP_LE_OQ)));
}

INLINE floats f_keep_nan(floats seen, floats v)
{
    return f_or(seen, f_join(_mm256_cmp_ps(v.a, v.a, _CMP_UNORD_Q), _mm256_cmp_ps(v.b, v.b, _CMP_UNORD_Q)));
}

INLINE int f_any_nan(floats v)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(v.a, v.b, _CMP_UNORD_Q)) != 0;
}

INLINE doubles d_join(__m256d a, __m256d b, __m256d c, __m256d d)
{
    const doubles v = {a, b, c, d};
    return v;
}

INLINE doubles d_set(double value)
{
    const __m256d v = _mm256_set1_pd(value);
    return d_join(v, v, v, v);
}

INLINE __m256d widen_low(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}

INLINE __m256d widen_high(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

INLINE doubles d_widen(floats v)
{
    return d_join(widen_low(v.a), widen_high(v.a), widen_low(v.b), widen_high(v.b));
}

INLINE __m256 round_pair(__m256d low, __m256d high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high), 1);
}

INLINE floats d_round(doubles v)
{
    return f_join(round_pair(v.a, v.b), round_pair(v.c, v.d));
}

INLINE doubles d_add(doubles a, doubles b)
{
    return d_join(_mm256_add_pd(a.a, b.a), _mm256_add_pd(a.b, b.b), _mm256_add_pd(a.c, b.c), _mm256_add_pd(a.d, b.d));
}

INLINE doubles d_sub(doubles a, doubles b)
{
    return d_join(_mm256_sub_pd(a.a, b.a), _mm256_sub_pd(a.b, b.b), _mm256_sub_pd(a.c, b.c), _mm256_sub_pd(a.d, b.d));
}

INLINE doubles d_mul(doubles a, doubles b)
{
    return d_join(_mm256_mul_pd(a.a, b.a), _mm256_mul_pd(a.b, b.b), _mm256_mul_pd(a.c, b.c), _mm256_mul_pd(a.d, b.d));
}

INLINE doubles d_floor(doubles v)
{
    return d_join(_mm256_floor_pd(v.a), _mm256_floor_pd(v.b), _mm256_floor_pd(v.c), _mm256_floor_pd(v.d));
}

INLINE __m256d raise_part(__m256d v, __m256d shifted)
{
    const __m256i n = _mm256_slli_epi64(_mm256_castpd_si256(shifted), 52);
    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(v), n));
}

INLINE doubles d_raise(doubles v, doubles shifted)
{
    return d_join(raise_part(v.a, shifted.a), raise_part(v.b, shifted.b), raise_part(v.c, shifted.c),
                  raise_part(v.d, shifted.d));
}

/* What is no int32 becomes 2^31, so 15. */
INLINE __m128i erf_part_rows(__m256d i)
{
    return _mm_min_epu32(_mm256_cvttpd_epi32(i), _mm_set1_epi32(15));
}

INLINE erf_rows erf_rows_at(doubles i)
{
    erf_rows rows;
    _mm_storeu_si128((__m128i *)rows.at, erf_part_rows(i.a));
    _mm_storeu_si128((__m128i *)(rows.at + 4), erf_part_rows(i.b));
    _mm_storeu_si128((__m128i *)(rows.at + 8), erf_part_rows(i.c));
    _mm_storeu_si128((__m128i *)(rows.at + 12), erf_part_rows(i.d));
    return rows;
}

/* Two coefficients of row i, and behind them those of row j. */
INLINE __m256d erf_pairs(int32_t i, int32_t j, int k)
{
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(refvit_erf_table[i] + k)),
                                _mm_loadu_pd(refvit_erf_table[j] + k), 1);
}

/* The compiler shares the loads of coefficients k and k + 1, k even. */
INLINE __m256d erf_part(const int32_t *at, int k)
{
    const int even = k & ~1;
    const __m256d rows02 = erf_pairs(at[0], at[2], even), rows13 = erf_pairs(at[1], at[3], even);
    return k == even ? _mm256_unpacklo_pd(rows02, rows13) : _mm256_unpackhi_pd(rows02, rows13);
}

INLINE doubles erf_coefficient(erf_rows rows, int k)
{
    return d_join(erf_part(rows.at, k), erf_part(rows.at + 4, k), erf_part(rows.at + 8, k), erf_part(rows.at + 12, k));
}

INLINE floats f_fma(floats a, floats b, floats c)
{
    return f_join(_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b));
}

INLINE __m256 raise_floats(__m256 v, __m256 n)
{
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23); /* 0 of a NaN */
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), exponent));
}

INLINE floats f_raise(floats v, floats n)
{
    return f_join(raise_floats(v.a, n.a), raise_floats(v.b, n.b));
}

INLINE int f_all_less(floats a, floats b)
{
    const __m256 low = _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ), high = _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ);
    return _mm256_movemask_ps(_mm256_and_ps(low, high)) == 0xff;
}

/* The lookup reads the lowest three bits; the fourth, moved to the sign, chooses the half of the table. */
INLINE __m256 lookup_part(__m256i rows, const float *column)
{
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(column), rows);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(column + 8), rows);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(rows, 28)));
}

INLINE floats f_lookup(floats shifted, const float *column)
{
    return f_join(lookup_part(_mm256_castps_si256(shifted.a), column),
                  lookup_part(_mm256_castps_si256(shifted.b), column));
}

#include "rows_x86.h"
#include "rows_vector.h"
#include "steps_vector.h"

#endif
