/* LayerNorm of several rows at once (N9); included by rows_vector.h. Where rows are fewer, the last stands in. */
INLINE floats sum_step(floats partial, const float *x, size_t n)
{
    return f_add(partial, f_load(x, n)); /* no partial sum is -0, so that adding the 0 of a missing lane changes none */
}

/* sum16 of each of several rows */
INLINE void sums16(size_t k, const float *const *x, float *sums)
{
    wide partial;
    EACH(partial.v[i] = f_set(0.0f));
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        EACH(partial.v[i] = sum_step(partial.v[i], x[i] + j, LANES));
    if (j < k)
        EACH(partial.v[i] = sum_step(partial.v[i], x[i] + j, k - j));
    EACH(sums[i] = tree_sum(partial.v[i]));
}

INLINE floats square_step(floats partial, floats mean, const float *x, size_t n)
{
    const floats d = f_first(n, f_sub(f_load(x, n), mean), f_set(0.0f));
    return f_add(partial, f_mul(d, d));
}

/* sum16 of (x - mean)^2 of each */
INLINE void squares16(size_t k, const wide *mean, const float *const *x, float *sums)
{
    wide partial;
    EACH(partial.v[i] = f_set(0.0f));
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        EACH(partial.v[i] = square_step(partial.v[i], mean->v[i], x[i] + j, LANES));
    if (j < k)
        EACH(partial.v[i] = square_step(partial.v[i], mean->v[i], x[i] + j, k - j));
    EACH(sums[i] = tree_sum(partial.v[i]));
}

struct norm_rows {
    const float *x[WIDE];
    float *y[WIDE];
    wide mean, deviation;
    const float *weight, *bias;
};

/* Columns from j on. All are read before one is written, for rows may be the same. Returns the NaN of y. */
INLINE floats normalize_step(const struct norm_rows *rows, floats seen, size_t n, size_t j)
{
    const floats weight = f_load(rows->weight + j, n), bias = f_load(rows->bias + j, n);
    wide v;
    EACH(v.v[i] = f_div(f_sub(f_load(rows->x[i] + j, n), rows->mean.v[i]), rows->deviation.v[i]));
    EACH(v.v[i] = f_add(f_mul(v.v[i], weight), bias));
    EACH(f_store(rows->y[i] + j, n, v.v[i]));
    EACH(seen = f_keep_nan(seen, f_first(n, v.v[i], f_set(0.0f))));
    return seen;
}

INLINE floats normalize_rows(const struct norm_rows *rows, floats seen, size_t k)
{
    size_t j = 0;
    for (; j + LANES <= k; j += LANES)
        seen = normalize_step(rows, seen, LANES, j);
    if (j < k)
        seen = normalize_step(rows, seen, k - j, j);
    return seen;
}

TARGET static int layernorm(size_t rows, size_t k, const float *x, const float *weight, const float *bias, float eps,
                            float *y)
{
    floats seen = f_set(0.0f);
    struct norm_rows group = {.weight = weight, .bias = bias};
    for (size_t first = 0; first < rows; first += WIDE) {
        float sums[WIDE];
        EACH(group.x[i] = x + row_together(rows, first, i) * k);
        EACH(group.y[i] = y + row_together(rows, first, i) * k);
        sums16(k, group.x, sums);
        EACH(group.mean.v[i] = f_set(sums[i] / (float)k));
        squares16(k, &group.mean, group.x, sums);
        EACH(group.deviation.v[i] = f_set(sqrtf(sums[i] / (float)k + eps)));
        seen = normalize_rows(&group, seen, k);
    }
    return f_any_nan(seen) ? REFVIT_NAN : REFVIT_OK;
}
