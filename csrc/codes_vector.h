/* GELU and softmax straight to codes; included after rows_vector.h, in the same way. They have the bits of steps.c.

   A code needs its value no more exactly than to the side of a tie on which it lies. So the value is computed in float32
   first, with a bound on its distance from the value that N9 states; only where a tie is within that bound, the value
   itself is computed. Over all floats the worst errors are 0.749 of GELU_ERROR and 0.531 of EXP_ERROR (`make
   exhaustive`, tools/near.c).
   Further operations: f_fma; f_raise: v * 2^n for an integer n, a NaN stays one; f_all_less, whether a < b in every
   lane; erf_float_rows, erf_float: as erf_rows_at and erf_coefficient, in float. */

#define ERF_FLOAT_DEGREE 6
#define GELU_ERROR 0x1p-22f /* of |x| */
#define EXP_ERROR 0x1p-21f  /* of the value, from EXP_FLAT on; all codes below are 0 */
#define EXP_FLAT -80.0f
#define AMAX_LEAST 0.25f /* where only values of positive x can be the largest, and those are at least x / 2 */
#define AMAX_MOST (FLT_MAX / 4.0f) /* up to which 1 / s is no subnormal, so rounded once and well */
#define ROUND_FLOAT 0x1.8p23f

/* x Phi(x), off by less than GELU_ERROR |x| from gelu_floats. */
INLINE floats gelu_near(floats x)
{
    const floats z = f_mul(x, f_set(INV_SQRT2)), a = f_abs(z), y = f_mul(a, f_set(4.0f));
    const floats i = f_floor(y), t = f_sub(f_sub(y, i), f_set(0.5f));
    const erf_float_rows rows = erf_float_rows_at(i);
    floats p = erf_float(rows, ERF_FLOAT_DEGREE);
    p = f_fma(p, t, erf_float(rows, 5));
    p = f_fma(p, t, erf_float(rows, 4));
    p = f_fma(p, t, erf_float(rows, 3));
    p = f_fma(p, t, erf_float(rows, 2));
    p = f_fma(p, t, erf_float(rows, 1));
    p = f_fma(p, t, erf_float(rows, 0));
    const floats size = f_where_less(a, f_set(4.0f), f_mul(a, p), f_min(f_set(1.0f), a));
    const floats half = f_mul(x, f_set(0.5f));
    return f_fma(half, f_copysign(size, x), half);
}

/* e^x for x <= 0, off by less than EXP_ERROR e^x from exp_floats where x >= EXP_FLAT. */
INLINE floats exp_near(floats x)
{
    x = f_max(f_set(EXP_FLAT), x); /* a NaN stays one */
    const floats n = f_sub(f_fma(x, f_set((float)LOG2E), f_set(ROUND_FLOAT)), f_set(ROUND_FLOAT));
    const floats r = f_fma(n, f_set(-0x1.7f7d1cp-20f), f_fma(n, f_set(-0x1.62e4p-1f), x)); /* ln 2 in two parts */
    floats p = f_fma(r, f_set(1.0f / 720.0f), f_set(1.0f / 120.0f));
    p = f_fma(p, r, f_set(1.0f / 24.0f));
    p = f_fma(p, r, f_set(1.0f / 6.0f));
    p = f_fma(p, r, f_set(0.5f));
    p = f_fma(p, r, f_set(1.0f));
    p = f_fma(p, r, f_set(1.0f));
    return f_raise(p, n);
}

/* Whether rounding v to an integer is the same for all values within `error` of it; no, where one is NaN. */
INLINE int certain(floats v, floats error)
{
    const floats integer = f_sub(f_add(v, f_set(ROUND_FLOAT)), f_set(ROUND_FLOAT));
    return f_all_less(f_add(f_abs(f_sub(v, integer)), error), f_set(0.5f));
}

INLINE floats near_step(floats largest, size_t n, const float *x, float *near)
{
    const floats v = gelu_near(f_load(x, n));
    f_store(near, n, v);
    return f_max(v, largest);
}

/* Values near those of gelu; returns the largest. */
INLINE float near_row(size_t k, const float *x, float *near)
{
    floats largest = f_set(0.0f);
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        largest = near_step(largest, LANES, x + j, near + j);
    if (j < k)
        largest = near_step(largest, k - j, x + j, near + j);
    return tree_max(largest);
}

/* The largest value of gelu itself, among those that are near enough to the largest of `near`: both are off by at most
   GELU_ERROR x <= 2^-21 of themselves, so they are less than 2^-19 apart. */
INLINE float gelu_amax(size_t k, const float *x, const float *near, float largest)
{
    const floats least = f_set(largest - largest * 0x1p-18f);
    floats amax = f_set(0.0f);
    for (size_t j = 0; j < k; j += LANES) {
        const size_t n = k - j < LANES ? k - j : LANES;
        if (!f_all_less(f_load(near + j, n), least))
            amax = f_max(gelu_floats(f_load(x + j, n)), amax);
    }
    return tree_max(amax);
}

/* The code's quotient is off by GELU_ERROR |x| / s, and by three roundings, less than 2^-24 |x| / s each: seven eighths
   of what is allowed for. Returns the NaN that it met. */
INLINE floats gelu_code_step(const struct code_row *row, floats inverse, size_t n, const float *x, const float *near,
                             int8_t *q)
{
    const floats values = f_load(x, n), v = f_mul(f_load(near, n), inverse);
    if (certain(v, f_mul(f_mul(f_abs(values), inverse), f_set(2.0f * GELU_ERROR)))) {
        f_store_codes(q, n, v, 0);
        return f_set(0.0f);
    }
    const floats exact = gelu_floats(values);
    f_store_codes(q, n, f_min(f_max(f_div(exact, row->s), row->least), row->most), 0);
    return f_first(n, exact, f_set(0.0f));
}

static int gelu_codes_exactly(size_t k, int bits, const float *x, float *room, int8_t *q, float *s)
{
    const int high = (1 << (bits - 1)) - 1;
    const int32_t zp = 0;
    const int status = gelu_values(k, x, room);
    symmetric_scale(1, k, bits, room, s);
    return status | quantize_rows(1, k, -high, high, room, s, &zp, q);
}

TARGET static int gelu_codes(size_t k, int bits, const float *x, float *room, int8_t *q, float *s)
{
    const float largest = near_row(k, x, room), high = (float)((1 << (bits - 1)) - 1);
    if (!(largest >= AMAX_LEAST && largest <= AMAX_MOST))
        return gelu_codes_exactly(k, bits, x, room, q, s);
    *s = scale_from_amax(gelu_amax(k, x, room, largest), bits);
    const struct code_row row = {f_set(*s), f_set(-high), f_set(high), 0};
    const floats inverse = f_set(1.0f / *s);
    floats seen = f_set(0.0f);
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        seen = f_keep_nan(seen, gelu_code_step(&row, inverse, LANES, x + j, room + j, q + j));
    if (j < k)
        seen = f_keep_nan(seen, gelu_code_step(&row, inverse, k - j, x + j, room + j, q + j));
    return f_any_nan(seen) ? REFVIT_NAN : REFVIT_OK;
}

INLINE floats exp_near_step(floats partial, floats max, size_t n, const float *x, float *near)
{
    const floats e = exp_near(f_sub(f_load(x, n), max));
    f_store(near, n, e);
    return f_add(partial, f_first(n, e, f_set(0.0f)));
}

static int softmax_codes_exactly(size_t k, const float *x, float *room, int8_t *q)
{
    const float s = PROB_SCALE;
    const int32_t zp = 0;
    const int status = softmax(1, k, x, room);
    return status | quantize_rows(1, k, 0, PROB_MAX, room, &s, &zp, q);
}

/* A code is off by the errors of e^x and of the sum, by the sum's k / 16 + 4 roundings on either side, and by five more;
   together by a factor of at most e^t, below 1 + t + t^2. */
TARGET static int softmax_codes(size_t k, const float *x, float *room, int8_t *q)
{
    if (k > K_MAX)
        return softmax_codes_exactly(k, x, room, q);
    const floats max = f_set(row_max(k, x));
    floats partial = f_set(0.0f);
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        partial = exp_near_step(partial, max, LANES, x + j, room + j);
    if (j < k)
        partial = exp_near_step(partial, max, k - j, x + j, room + j);
    const floats inverse = f_set((float)PROB_MAX / tree_sum(partial));
    const float t = 2.0f * EXP_ERROR + (float)(k / 8 + 16) * 0x1p-24f;
    const floats error = f_set(t + t * t);
    for (j = 0; j < k; j += LANES) {
        const size_t n = k - j < LANES ? k - j : LANES;
        const floats v = f_mul(f_load(room + j, n), inverse);
        if (!certain(v, f_mul(v, error)))
            return softmax_codes_exactly(k, x, room, q);
        f_store_codes(q + j, n, v, 0);
    }
    return REFVIT_OK;
}
