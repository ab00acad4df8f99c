/* Float row kernels for AVX-512 F, BW and VL: sixteen floats are one register, sixteen doubles two. */
#include "../internal.h"

#if REFVIT_X86
#include <immintrin.h>

#include "erf_table.h"
#include "exact.h"

#define TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512vl")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define TABLE row_kernels_avx512
#define STEPS step_kernels_avx512
#define LANES PARTIAL_SUMS
#define WIDE 4

typedef __m512 floats;

typedef struct {
    __m512d a, b;
} doubles;

typedef struct {
    __m512i a, b;
} erf_rows;

INLINE __mmask16 first_lanes(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

INLINE floats f_set(float value)
{
    return _mm512_set1_ps(value);
}

INLINE floats f_load(const float *from, size_t n)
{
    return n == LANES ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(first_lanes(n), from);
}

INLINE floats f_load_ints(const int32_t *from, size_t n)
{
    return _mm512_cvtepi32_ps(n == LANES ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi32(first_lanes(n), from));
}

INLINE void f_store(float *to, size_t n, floats v)
{
    if (n == LANES)
        _mm512_storeu_ps(to, v);
    else
        _mm512_mask_storeu_ps(to, first_lanes(n), v);
}

INLINE void f_store_codes(int8_t *to, size_t n, floats v, int32_t zp)
{
    const __m512i codes = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(zp));
    _mm_mask_storeu_epi8(to, first_lanes(n), _mm512_cvtepi32_epi8(codes));
}

INLINE floats f_first(size_t n, floats v, floats other)
{
    return n == LANES ? v : _mm512_mask_mov_ps(other, first_lanes(n), v);
}

INLINE floats f_add(floats a, floats b)
{
    return _mm512_add_ps(a, b);
}

INLINE floats f_sub(floats a, floats b)
{
    return _mm512_sub_ps(a, b);
}

INLINE floats f_mul(floats a, floats b)
{
    return _mm512_mul_ps(a, b);
}

INLINE floats f_div(floats a, floats b)
{
    return _mm512_div_ps(a, b);
}

INLINE floats f_max(floats a, floats b)
{
    return _mm512_max_ps(a, b);
}

INLINE floats f_min(floats a, floats b)
{
    return _mm512_min_ps(a, b);
}

INLINE floats f_abs(floats v)
{
    return _mm512_abs_ps(v);
}

INLINE floats f_copysign(floats size, floats sign)
{
    const __m512i bit = _mm512_set1_epi32(INT32_MIN);
    const __m512i bits = _mm512_and_epi32(_mm512_castps_si512(sign), bit);
    return _mm512_castsi512_ps(_mm512_or_epi32(_mm512_castps_si512(size), bits));
}

INLINE floats f_where_less(floats a, floats b, floats yes, floats no)
{
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
}

INLINE floats f_finite(floats v)
{
    const __mmask16 finite = _mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(FLT_MAX), _CMP_LE_OQ);
    return _mm512_maskz_mov_ps(finite, v);
}

INLINE floats f_keep_nan(floats seen, floats v)
{
    return _mm512_mask_mov_ps(seen, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), v);
}

INLINE int f_any_nan(floats v)
{
    return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) != 0;
}

INLINE __m256 f_low(floats v)
{
    return _mm512_castps512_ps256(v);
}

INLINE __m256 f_high(floats v)
{
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
}

INLINE doubles d_join(__m512d low, __m512d high)
{
    const doubles v = {low, high};
    return v;
}

INLINE doubles d_set(double value)
{
    return d_join(_mm512_set1_pd(value), _mm512_set1_pd(value));
}

INLINE doubles d_widen(floats v)
{
    return d_join(_mm512_cvtps_pd(f_low(v)), _mm512_cvtps_pd(f_high(v)));
}

INLINE floats d_round(doubles v)
{
    const __m512d low = _mm512_castps_pd(_mm512_castps256_ps512(_mm512_cvtpd_ps(v.a)));
    return _mm512_castpd_ps(_mm512_insertf64x4(low, _mm256_castps_pd(_mm512_cvtpd_ps(v.b)), 1));
}

INLINE doubles d_add(doubles a, doubles b)
{
    return d_join(_mm512_add_pd(a.a, b.a), _mm512_add_pd(a.b, b.b));
}

INLINE doubles d_sub(doubles a, doubles b)
{
    return d_join(_mm512_sub_pd(a.a, b.a), _mm512_sub_pd(a.b, b.b));
}

INLINE doubles d_mul(doubles a, doubles b)
{
    return d_join(_mm512_mul_pd(a.a, b.a), _mm512_mul_pd(a.b, b.b));
}

INLINE doubles d_floor(doubles v)
{
    return d_join(_mm512_floor_pd(v.a), _mm512_floor_pd(v.b));
}

INLINE __m512d raise_part(__m512d v, __m512d shifted)
{
    const __m512i n = _mm512_slli_epi64(_mm512_castpd_si512(shifted), 52);
    return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(v), n));
}

INLINE doubles d_raise(doubles v, doubles shifted)
{
    return d_join(raise_part(v.a, shifted.a), raise_part(v.b, shifted.b));
}

/* Adding 2^52 leaves i in the lowest bits; the permutation below looks at four of them. */
INLINE erf_rows erf_rows_at(doubles i)
{
    const doubles shifted = d_add(i, d_set(0x1p52));
    const erf_rows rows = {_mm512_castpd_si512(shifted.a), _mm512_castpd_si512(shifted.b)};
    return rows;
}

/* Coefficient k of eight rows of the table; a constant, once inlined. */
INLINE __m512d erf_eight(int row, int k)
{
    const double(*const c)[8] = refvit_erf_table + row;
    return _mm512_setr_pd(c[0][k], c[1][k], c[2][k], c[3][k], c[4][k], c[5][k], c[6][k], c[7][k]);
}

INLINE doubles erf_coefficient(erf_rows rows, int k)
{
    const __m512d low = erf_eight(0, k), high = erf_eight(8, k);
    return d_join(_mm512_permutex2var_pd(low, rows.a, high), _mm512_permutex2var_pd(low, rows.b, high));
}

INLINE floats f_fma(floats a, floats b, floats c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE floats f_raise(floats v, floats n)
{
    const __m512i exponent = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23); /* 0 of a NaN */
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), exponent));
}

INLINE int f_all_less(floats a, floats b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) == 0xffff;
}

INLINE floats f_lookup(floats shifted, const float *column)
{
    return _mm512_permutexvar_ps(_mm512_castps_si512(shifted), _mm512_loadu_ps(column));
}

#include "rows_x86.h"
#include "rows_vector.h"
#include "steps_vector.h"

#endif
