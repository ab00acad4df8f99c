/* GELU and softmax straight to codes; included after rows_vector.h, in the same way. They have the bits of steps.c.

   A code needs its value no more exactly than to the side of a tie on which it lies. So the value is computed in float32
   first, with a bound on its distance from the value that N9 states; only where a tie is within that bound, the value
   itself is computed. Over all floats the worst errors are 0.823 of GELU_ERROR and 0.868 of EXP_ERROR (`make
   exhaustive`, tools/near.c).
   Further operations: f_fma; f_raise: v * 2^n for an integer n, a NaN stays one; f_all_less, whether a < b in every
   lane; f_lookup: the element of a column of 16 that the lowest four bits of `shifted` name. */
#include "near_tables.h"

#define GELU_ERROR 0x1p-22f /* of |x| */
#define EXP_ERROR 0x1p-21f  /* of the value, from EXP_FLAT on; all codes below are 0 */
#define EXP_FLAT -80.0f
#define MAX_LEAST 0.3125f /* of x, from which gelu(x) is above all |gelu| of negative x, and never below x / 2 */
#define MAX_MOST (FLT_MAX / 4.0f) /* up to which 1 / s is no subnormal, so rounded once and well */
#define ROUND_FLOAT 0x1.8p23f

/* erf(|x| / sqrt 2) */
INLINE wide erf_near(wide x)
{
    wide a, shifted, t, p;
    EACH(a.v[i] = f_min(f_set(GELU_FLAT), f_abs(x.v[i]))); /* a NaN stays one */
    EACH(shifted.v[i] = f_fma(a.v[i], f_set(GELU_STEPS), f_set(ROUND_FLOAT)));
    EACH(t.v[i] = f_sub(f_set(ROUND_FLOAT), shifted.v[i]));
    EACH(t.v[i] = f_fma(a.v[i], f_set(GELU_STEPS), t.v[i]));
    EACH(p.v[i] = f_lookup(shifted.v[i], gelu_near_table[4]));
    EACH(p.v[i] = f_fma(p.v[i], t.v[i], f_lookup(shifted.v[i], gelu_near_table[3])));
    EACH(p.v[i] = f_fma(p.v[i], t.v[i], f_lookup(shifted.v[i], gelu_near_table[2])));
    EACH(p.v[i] = f_fma(p.v[i], t.v[i], f_lookup(shifted.v[i], gelu_near_table[1])));
    EACH(p.v[i] = f_fma(p.v[i], t.v[i], f_lookup(shifted.v[i], gelu_near_table[0])));
    return p;
}

/* 2 half x Phi(x); where half is 1/2, off by less than GELU_ERROR |x| from gelu_floats. */
INLINE wide gelu_near(wide x, wide half)
{
    wide p = erf_near(x), v;
    EACH(v.v[i] = f_mul(x.v[i], half.v[i]));
    EACH(p.v[i] = f_fma(f_abs(v.v[i]), p.v[i], v.v[i]));
    return p;
}

/* e^x for x <= 0, off by less than EXP_ERROR e^x from exp_floats where x >= EXP_FLAT. */
INLINE wide exp_near(wide x)
{
    wide n, r, p;
    EACH(x.v[i] = f_max(f_set(EXP_FLAT), x.v[i])); /* a NaN stays one */
    EACH(n.v[i] = f_fma(x.v[i], f_set((float)LOG2E), f_set(ROUND_FLOAT)));
    EACH(n.v[i] = f_sub(n.v[i], f_set(ROUND_FLOAT)));
    EACH(r.v[i] = f_fma(n.v[i], f_set(-0x1.62e43p-1f), x.v[i])); /* ln 2 */
    EACH(p.v[i] = f_fma(r.v[i], f_set(exp_near_table[5]), f_set(exp_near_table[4])));
    EACH(p.v[i] = f_fma(p.v[i], r.v[i], f_set(exp_near_table[3])));
    EACH(p.v[i] = f_fma(p.v[i], r.v[i], f_set(exp_near_table[2])));
    EACH(p.v[i] = f_fma(p.v[i], r.v[i], f_set(exp_near_table[1])));
    EACH(p.v[i] = f_fma(p.v[i], r.v[i], f_set(exp_near_table[0])));
    EACH(p.v[i] = f_raise(p.v[i], n.v[i]));
    return p;
}

/* Whether rounding v to an integer is the same for all values within `share` of `size` of it; no, where one is NaN. */
INLINE int certain(wide v, wide size, float share)
{
    wide d;
    EACH(d.v[i] = f_add(v.v[i], f_set(ROUND_FLOAT)));
    EACH(d.v[i] = f_sub(d.v[i], f_set(ROUND_FLOAT)));
    EACH(d.v[i] = f_abs(f_sub(v.v[i], d.v[i])));
    EACH(d.v[i] = f_fma(size.v[i], f_set(share), d.v[i]));
    int all = 1;
    EACH(all &= f_all_less(d.v[i], f_set(0.5f)));
    return all;
}

/* The largest and the second largest value of each lane, of those above 0. */
struct top {
    wide first, second;
};

INLINE void top_step(struct top *top, size_t n, const float *const *x, size_t j)
{
    wide v;
    EACH(v.v[i] = f_load(x[i] + j, n));
    EACH(top->second.v[i] = f_max(f_min(v.v[i], top->first.v[i]), top->second.v[i]));
    EACH(top->first.v[i] = f_max(v.v[i], top->first.v[i]));
}

INLINE struct top top_of_rows(size_t k, const float *const *x)
{
    struct top top;
    EACH(top.first.v[i] = top.second.v[i] = f_set(0.0f));
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        top_step(&top, LANES, x, j);
    if (j < k)
        top_step(&top, k - j, x, j);
    return top;
}

/* Scales of gelu(x); returns whether all are found by the largest x. Values whose gelu is the largest are within 2^-18
   of it: gelu grows by no smaller a share than its argument, and N9's is off by less than 2^-21. */
INLINE int gelu_scales(size_t k, int bits, const float *const *x, float *s)
{
    const struct top top = top_of_rows(k, x);
    float largest[WIDE];
    int all = 1;
    EACH(largest[i] = tree_max(top.first.v[i]));
    EACH(all &= largest[i] >= MAX_LEAST && largest[i] <= MAX_MOST);
    EACH(all &= tree_max(top.second.v[i]) < largest[i] - largest[i] * 0x1p-18f);
    EACH(s[i] = scale_from_amax(tree_max(gelu_floats(top.first.v[i])), bits));
    return all;
}

/* Codes q of gelu(x) / s, from column j on to the first that is not certain, or the last whole vector; returns where.
   A quotient is off by GELU_ERROR |x| / s, and by five roundings, less than 2^-24 |x| / s each: nine tenths of what is
   allowed for. Apart, so that its constants stay in registers. */
TARGET __attribute__((noinline)) static size_t gelu_codes_near(size_t j, size_t k, const float *s,
                                                               const float *const *x, int8_t *const *q)
{
    wide half;
    EACH(half.v[i] = f_set(0.5f / s[i]));
    for (; j + LANES <= k; j += LANES) {
        wide values, v, size;
        EACH(values.v[i] = f_load(x[i] + j, LANES));
        EACH(size.v[i] = f_abs(f_mul(values.v[i], half.v[i])));
        v = gelu_near(values, half);
        if (!certain(v, size, 5.0f * GELU_ERROR))
            break;
        EACH(f_store_codes(q[i] + j, LANES, v.v[i], 0));
    }
    return j;
}

/* The same of one vector, whatever it is. Returns the NaN that it met. */
INLINE floats gelu_code_step(float s, float high, size_t n, const float *x, int8_t *q)
{
    const floats exact = gelu_floats(f_load(x, n));
    f_store_codes(q, n, f_min(f_max(f_div(exact, f_set(s)), f_set(-high)), f_set(high)), 0);
    return f_first(n, exact, f_set(0.0f));
}

INLINE int gelu_codes_of_rows(size_t k, float high, const float *s, const float *const *x, int8_t *const *q)
{
    floats seen = f_set(0.0f);
    for (size_t j = gelu_codes_near(0, k, s, x, q); j < k; j = gelu_codes_near(j, k, s, x, q)) {
        const size_t n = k - j < LANES ? k - j : LANES;
        for (size_t i = 0; i < WIDE; i++)
            seen = f_keep_nan(seen, gelu_code_step(s[i], high, n, x[i] + j, q[i] + j));
        j += n;
    }
    return f_any_nan(seen) ? REFVIT_NAN : REFVIT_OK;
}

static int gelu_codes_exactly(size_t k, int bits, const float *x, float *room, int8_t *q, float *s)
{
    const int high = (1 << (bits - 1)) - 1;
    const int32_t zp = 0;
    const int status = gelu_values(k, x, room);
    symmetric_scale(1, k, bits, room, s);
    return status | quantize_rows(1, k, -high, high, room, s, &zp, q);
}

TARGET static int gelu_codes(size_t rows, size_t k, int bits, const float *x, float *room, int8_t *q, size_t q_stride,
                             float *s)
{
    int status = REFVIT_OK;
    for (size_t first = 0; first < rows; first += WIDE) {
        const float *from[WIDE];
        int8_t *to[WIDE];
        float scales[WIDE];
        for (size_t i = 0; i < WIDE; i++) {
            from[i] = x + row_together(rows, first, i) * k;
            to[i] = q + row_together(rows, first, i) * q_stride;
        }
        if (gelu_scales(k, bits, from, scales))
            status |= gelu_codes_of_rows(k, (float)((1 << (bits - 1)) - 1), scales, from, to);
        else
            for (size_t i = 0; i < WIDE; i++)
                status |= gelu_codes_exactly(k, bits, from[i], room, to[i], scales + i);
        for (size_t i = 0; i < WIDE; i++)
            s[row_together(rows, first, i)] = scales[i];
    }
    return status;
}

INLINE void exp_near_step(wide *partial, const wide *max, size_t n, const float *const *x, float *const *near, size_t j)
{
    wide e;
    EACH(e.v[i] = f_sub(f_load(x[i] + j, n), max->v[i]));
    e = exp_near(e);
    EACH(f_store(near[i] + j, n, e.v[i]));
    EACH(partial->v[i] = f_add(partial->v[i], f_first(n, e.v[i], f_set(0.0f))));
}

INLINE int softmax_code_step(const wide *inverse, float share, size_t n, float *const *near, size_t j, int8_t *const *q)
{
    wide v;
    EACH(v.v[i] = f_mul(f_load(near[i] + j, n), inverse->v[i]));
    EACH(f_store_codes(q[i] + j, n, v.v[i], 0));
    return certain(v, v, share);
}

static int softmax_codes_exactly(size_t k, const float *x, float *room, int8_t *q)
{
    const float s = PROB_SCALE;
    const int32_t zp = 0;
    const int status = softmax(1, k, x, room);
    return status | quantize_rows(1, k, 0, PROB_MAX, room, &s, &zp, q);
}

/* A code is off by the errors of e^x and of the sum, by the sum's k / 16 + 4 roundings on either side, and by five more;
   together by a factor of at most e^t, below 1 + t + t^2. Returns whether all are certain. */
INLINE int softmax_codes_near(size_t k, const float *const *x, float *const *near, int8_t *const *q)
{
    const float t = 2.0f * EXP_ERROR + (float)(k / 8 + 16) * 0x1p-24f;
    wide max, partial, inverse;
    EACH(max.v[i] = f_set(row_max(k, x[i])));
    EACH(partial.v[i] = f_set(0.0f));
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        exp_near_step(&partial, &max, LANES, x, near, j);
    if (j < k)
        exp_near_step(&partial, &max, k - j, x, near, j);
    EACH(inverse.v[i] = f_set((float)PROB_MAX / tree_sum(partial.v[i])));
    int all = 1;
    for (j = 0; j + LANES <= k; j += LANES)
        all &= softmax_code_step(&inverse, t + t * t, LANES, near, j, q);
    if (j < k)
        all &= softmax_code_step(&inverse, t + t * t, k - j, near, j, q);
    return all;
}

TARGET static int softmax_codes(size_t rows, size_t k, const float *x, float *room, int8_t *q, size_t q_stride)
{
    int status = REFVIT_OK;
    for (size_t first = 0; first < rows; first += WIDE) {
        const float *from[WIDE];
        float *near[WIDE];
        int8_t *to[WIDE];
        for (size_t i = 0; i < WIDE; i++) {
            from[i] = x + row_together(rows, first, i) * k;
            near[i] = room + i * k;
            to[i] = q + row_together(rows, first, i) * q_stride;
        }
        if (k <= K_MAX && softmax_codes_near(k, from, near, to))
            continue;
        for (size_t i = 0; i < WIDE; i++)
            status |= softmax_codes_exactly(k, from[i], room, to[i]);
    }
    return status;
}
