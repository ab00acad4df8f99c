/* Float row kernels on vectors, compiled once for each target by a file rows_*.c: they have the bits of exact.c and
   quantize.c, which say what each of them computes.

   That file defines TARGET and INLINE (function attributes), TABLE, WIDE (wide_vector.h), and on `floats` and `doubles`
   of LANES lanes, N9's partial sums:
     f_load, f_store      the first n lanes; the others are 0, or left alone
     f_load_ints          the same of int32, each rounded to float
     f_store_codes        half to even, plus zp, which is in the range of int8
     f_first              the first n lanes of v, the others of `other`
     f_max, f_min         a > b ? a : b, a < b ? a : b: b where one is NaN
     f_copysign           of sizes that are not negative
     f_where_less         a < b ? yes : no
     f_finite             0 in place of what is not
     f_keep_nan           seen, with NaN in the lanes where v is one
     tree_sum, tree_max   of all lanes: N9's tree of sums; f_max in any order
     d_widen, d_round     floats to and from doubles
     d_raise              v * 2^n for v and the product normal, n in the lowest bits of `shifted`; a NaN stays one
     erf_rows_at, erf_coefficient               column k of the rows i of the table, any row where i is not 0..15 */
#include <math.h>

#include "codes.h"
#include "exact.h"
#include "wide_vector.h"
#include "norm_vector.h"

INLINE floats dot_step(floats partial, const float *a, const float *b, size_t n)
{
    return f_add(partial, f_mul(f_load(a, n), f_load(b, n)));
}

INLINE float dot16(const float *a, const float *b, size_t k)
{
    floats partial = f_set(0.0f);
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        partial = dot_step(partial, a + j, b + j, LANES);
    if (j < k)
        partial = dot_step(partial, a + j, b + j, k - j);
    return tree_sum(partial);
}

/* As exp_value of exact.c; its argument is clamped already. */
INLINE doubles exp_doubles(doubles x)
{
    const doubles shifted = d_add(d_mul(x, d_set(LOG2E)), d_set(0x1.8p52));
    const doubles n = d_sub(shifted, d_set(0x1.8p52));
    const doubles r = d_sub(d_sub(x, d_mul(n, d_set(LN2_HI))), d_mul(n, d_set(LN2_LO)));
    doubles p = d_add(d_mul(d_set(1.0 / 362880.0), r), d_set(1.0 / 40320.0));
    p = d_add(d_mul(p, r), d_set(1.0 / 5040.0));
    p = d_add(d_mul(p, r), d_set(1.0 / 720.0));
    p = d_add(d_mul(p, r), d_set(1.0 / 120.0));
    p = d_add(d_mul(p, r), d_set(1.0 / 24.0));
    p = d_add(d_mul(p, r), d_set(1.0 / 6.0));
    p = d_add(d_mul(p, r), d_set(0.5));
    p = d_add(d_mul(p, r), d_set(1.0));
    p = d_add(d_mul(p, r), d_set(1.0));
    return d_raise(p, shifted);
}

INLINE floats exp_floats(floats x)
{
    x = f_min(f_set((float)EXP_HIGH), f_max(f_set((float)EXP_LOW), x));
    return d_round(exp_doubles(d_widen(x)));
}

/* As erf_value of exact.c for 0 <= a < 4, and anything elsewhere. */
INLINE doubles erf_doubles(doubles a)
{
    const doubles y = d_mul(a, d_set(4.0)), i = d_floor(y), t = d_sub(d_sub(y, i), d_set(0.5));
    const erf_rows rows = erf_rows_at(i);
    doubles p = erf_coefficient(rows, 7);
    p = d_add(d_mul(p, t), erf_coefficient(rows, 6));
    p = d_add(d_mul(p, t), erf_coefficient(rows, 5));
    p = d_add(d_mul(p, t), erf_coefficient(rows, 4));
    p = d_add(d_mul(p, t), erf_coefficient(rows, 3));
    p = d_add(d_mul(p, t), erf_coefficient(rows, 2));
    p = d_add(d_mul(p, t), erf_coefficient(rows, 1));
    p = d_add(d_mul(p, t), erf_coefficient(rows, 0));
    return d_mul(a, p);
}

INLINE floats erf_floats(floats x)
{
    const floats a = f_abs(x);
    const floats small = d_round(erf_doubles(d_widen(a))), large = f_min(f_set(1.0f), a); /* 1, or the NaN */
    return f_copysign(f_where_less(a, f_set(4.0f), small, large), x);
}

INLINE floats gelu_floats(floats x)
{
    return f_mul(f_mul(x, f_set(0.5f)), f_add(f_set(1.0f), erf_floats(f_mul(x, f_set(INV_SQRT2)))));
}

INLINE floats each_step(floats (*f)(floats), size_t n, const float *x, float *y)
{
    const floats v = f(f_load(x, n));
    f_store(y, n, v);
    return v;
}

/* y = f(x) for each value; f(0) is a number. */
INLINE int each(floats (*f)(floats), size_t count, const float *x, float *y)
{
    floats seen = f_set(0.0f);
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        seen = f_keep_nan(seen, each_step(f, LANES, x + i, y + i));
    if (i < count)
        seen = f_keep_nan(seen, each_step(f, count - i, x + i, y + i));
    return f_any_nan(seen) ? REFVIT_NAN : REFVIT_OK;
}

TARGET static int gelu_values(size_t count, const float *x, float *y)
{
    return each(gelu_floats, count, x, y);
}

TARGET static int exp_values(size_t count, const float *x, float *y)
{
    return each(exp_floats, count, x, y);
}

TARGET static int erf_values(size_t count, const float *x, float *y)
{
    return each(erf_floats, count, x, y);
}

INLINE float row_max(size_t k, const float *x)
{
    const floats first = f_set(x[0]);
    floats max = first;
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        max = f_max(f_load(x + j, LANES), max);
    if (j < k)
        max = f_max(f_first(k - j, f_load(x + j, k - j), first), max);
    return tree_max(max);
}

INLINE floats exp_step(floats partial, floats max, size_t n, const float *x, float *y)
{
    const floats e = exp_floats(f_sub(f_load(x, n), max));
    f_store(y, n, e);
    return f_add(partial, f_first(n, e, f_set(0.0f)));
}

/* y = e^(x - max); returns sum16 of y. */
INLINE float exp_row(size_t k, float max, const float *x, float *y)
{
    const floats maxima = f_set(max);
    floats partial = f_set(0.0f);
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        partial = exp_step(partial, maxima, LANES, x + j, y + j);
    if (j < k)
        partial = exp_step(partial, maxima, k - j, x + j, y + j);
    return tree_sum(partial);
}

INLINE void divide_row(size_t k, float divisor, float *y)
{
    const floats divisors = f_set(divisor);
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        f_store(y + j, LANES, f_div(f_load(y + j, LANES), divisors));
    if (j < k)
        f_store(y + j, k - j, f_div(f_load(y + j, k - j), divisors));
}

/* A NaN is in each row's sum already: where that is a number, it is at least e^0. */
TARGET static int softmax(size_t rows, size_t k, const float *x, float *y)
{
    int nan = 0;
    for (size_t i = 0; i < rows; i++, x += k, y += k) {
        const float sum = exp_row(k, row_max(k, x), x, y);
        nan |= sum != sum;
        divide_row(k, sum, y);
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

TARGET static int matmul16(size_t m, size_t n, size_t k, const float *a, const float *b, float *out)
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

INLINE floats amax_step(floats amax, const float *x, size_t n)
{
    return f_max(f_abs(f_finite(f_load(x, n))), amax);
}

TARGET static float amax(size_t count, const float *x)
{
    floats largest = f_set(0.0f);
    size_t j = 0;
    for (; j + LANES <= count; j += LANES)
        largest = amax_step(largest, x + j, LANES);
    if (j < count)
        largest = amax_step(largest, x + j, count - j);
    return tree_max(largest);
}

TARGET static int symmetric_scale(size_t rows, size_t k, int bits, const float *x, float *s)
{
    for (size_t i = 0; i < rows; i++, x += k)
        s[i] = scale_from_amax(amax(k, x), bits);
    return REFVIT_OK;
}

/* depth = -low */
INLINE void range_step(floats *depth, floats *high, const float *x, size_t n)
{
    const floats v = f_finite(f_load(x, n));
    *depth = f_max(f_sub(f_set(0.0f), v), *depth);
    *high = f_max(v, *high);
}

TARGET static int minmax_scale(size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp)
{
    for (size_t i = 0; i < rows; i++, x += k) {
        floats depth = f_set(0.0f), high = f_set(0.0f);
        size_t j = 0;
        for (; j + LANES <= k; j += LANES)
            range_step(&depth, &high, x + j, LANES);
        if (j < k)
            range_step(&depth, &high, x + j, k - j);
        const float low = -tree_max(depth);
        s[i] = scale_from_range(low, tree_max(high), bits);
        zp[i] = zero_point(low, s[i], bits);
    }
    return REFVIT_OK;
}

/* What is the same for a row of codes: its scale and zero point, and the bounds before zp is added. */
struct code_row {
    floats s, least, most;
    int32_t zp;
};

INLINE floats code_step(const struct code_row *row, size_t n, const float *x, int8_t *q)
{
    const floats v = f_load(x, n);
    f_store_codes(q, n, f_min(f_max(f_div(v, row->s), row->least), row->most), row->zp);
    return v;
}

/* Returns the NaN of x. */
INLINE floats code_row(const struct code_row *row, size_t k, const float *x, int8_t *q)
{
    floats seen = f_set(0.0f);
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        seen = f_keep_nan(seen, code_step(row, LANES, x + j, q + j));
    if (j < k)
        seen = f_keep_nan(seen, code_step(row, k - j, x + j, q + j));
    return seen;
}

TARGET static int quantize_rows(size_t rows, size_t k, int low, int high, const float *x, const float *s,
                                const int32_t *zp, int8_t *q)
{
    int nan = 0;
    for (size_t i = 0; i < rows; i++, x += k, q += k) {
        const float zero = (float)zp[i];
        const struct code_row row = {f_set(s[i]), f_set((float)low - zero), f_set((float)high - zero), zp[i]};
        nan |= f_any_nan(code_row(&row, k, x, q));
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

INLINE floats rescale_step(floats s, size_t j, size_t n, const int32_t *acc, const float *alpha, const float *bias,
                           float *y)
{
    floats v = f_mul(f_mul(f_load_ints(acc + j, n), s), f_load(alpha + j, n));
    if (bias)
        v = f_add(v, f_load(bias + j, n));
    f_store(y + j, n, v);
    return f_first(n, v, f_set(0.0f));
}

TARGET static int rescale(size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha,
                          const float *bias, float *y)
{
    floats seen = f_set(0.0f);
    for (size_t i = 0; i < rows; i++, acc += n, y += n) {
        const floats scale = f_set(s[i]);
        size_t j = 0;
        for (; j + LANES <= n; j += LANES)
            seen = f_keep_nan(seen, rescale_step(scale, j, LANES, acc, alpha, bias, y));
        if (j < n)
            seen = f_keep_nan(seen, rescale_step(scale, j, n - j, acc, alpha, bias, y));
    }
    return f_any_nan(seen) ? REFVIT_NAN : REFVIT_OK;
}

const struct row_kernels TABLE = {
    symmetric_scale, minmax_scale, quantize_rows, rescale,    layernorm,
    softmax,         gelu_values,  exp_values,    erf_values, matmul16,
};
