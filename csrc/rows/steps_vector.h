/* The steps of the forward pass on vectors; included after rows_vector.h, in the same way. They have the bits of
   steps.c. STEPS is the table. */
#include "steps.h"

#include "codes_vector.h"

/* `vectors` of n columns from j on; what belongs to a column stays in registers for all rows. Without a bias -0 is
   added, which changes nothing. `add` and `largest` (amax) are constants where this is called. */
INLINE void finish_columns(const struct finish_job *job, size_t j, const size_t vectors, size_t n, const int add,
                           const int largest)
{
    floats alpha[WIDE], bias[WIDE], gamma[WIDE], amax[WIDE];
    UNROLL
    for (size_t c = 0; c < vectors; c++) {
        const size_t at = j + c * LANES;
        alpha[c] = f_load(job->alpha + at, n);
        bias[c] = job->bias ? f_load(job->bias + at, n) : f_set(-0.0f);
        gamma[c] = job->gamma ? f_load(job->gamma + at, n) : f_set(1.0f);
        amax[c] = largest ? f_load(job->amax + at, n) : f_set(0.0f);
    }
    for (size_t i = 0; i < job->rows; i++) {
        const int32_t *acc = job->acc + i * job->cols + j;
        float *y = job->y + i * job->stride + j;
        const floats s = f_set(job->s[i]);
        UNROLL
        for (size_t c = 0; c < vectors; c++) {
            floats v = f_add(f_mul(f_mul(f_load_ints(acc + c * LANES, n), s), alpha[c]), bias[c]);
            v = add ? f_add(f_load(y + c * LANES, n), f_mul(v, gamma[c])) : v;
            amax[c] = largest ? f_max(f_abs(f_finite(v)), amax[c]) : amax[c];
            f_store(y + c * LANES, n, v);
        }
    }
    for (size_t c = 0; largest && c < vectors; c++)
        f_store(job->amax + j + c * LANES, n, amax[c]);
}

INLINE void finish_as(const struct finish_job *job, const int add, const int largest)
{
    size_t j = 0;
    for (; j + WIDE * LANES <= job->cols; j += WIDE * LANES)
        finish_columns(job, j, WIDE, LANES, add, largest);
    for (; j < job->cols; j += LANES)
        finish_columns(job, j, 1, job->cols - j < LANES ? job->cols - j : LANES, add, largest);
}

TARGET static void finish(const struct finish_job *job)
{
    const struct finish_job local = *job; /* as no store to y can change */
    correct_zero_points(job);
    if (local.amax)
        finish_as(&local, 0, 1);
    else if (local.add)
        finish_as(&local, 1, 0);
    else
        finish_as(&local, 0, 0);
}

struct score_row {
    floats s_q, s_k, root;
    const float *bias, *mask;
};

INLINE void score_step(const struct score_row *row, size_t n, const int32_t *acc, size_t j, float *y)
{
    floats v = f_mul(f_mul(f_mul(f_load_ints(acc + j, n), row->s_q), row->s_k), row->root);
    if (row->bias)
        v = f_add(v, f_load(row->bias + j, n));
    if (row->mask)
        v = f_add(v, f_load(row->mask + j, n));
    f_store(y + j, n, v);
}

TARGET static void scores(size_t count, const int32_t *acc, float s_q, float s_k, float root, const float *bias,
                          const float *mask, float *y)
{
    const struct score_row row = {f_set(s_q), f_set(s_k), f_set(root), bias, mask};
    size_t j = 0;
    for (; j + LANES <= count; j += LANES)
        score_step(&row, LANES, acc, j, y);
    score_step(&row, count - j, acc, j, y);
}

TARGET static int token_codes(const struct token_job *job)
{
    const struct code_row row = {f_set(job->s), f_set(-(float)CODE_MAX), f_set((float)CODE_MAX), 0};
    floats seen = f_set(0.0f);
    for (size_t i = 0; i < job->count; i++) {
        const float *x = token_of(job, i);
        for (size_t j = 0; j < job->width; j += LANES)
            __builtin_prefetch(x + job->width + j); /* the next head's */
        seen = f_keep_nan(seen, code_row(&row, job->width, x, job->q + i * job->q_stride));
    }
    return f_any_nan(seen) ? REFVIT_NAN : REFVIT_OK;
}

const struct step_kernels STEPS = {finish, scores, amax, gelu_codes, token_codes, softmax_codes};
