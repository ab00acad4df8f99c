/* The steps of the forward pass on vectors; included after rows_vector.h, in the same way. They have the bits of
   steps.c. STEPS is the table. */
#include "steps.h"

#include "codes_vector.h"

INLINE void finish_step(const struct finish_job *job, floats s, size_t n, const int32_t *acc, size_t j, float *y)
{
    floats v = f_mul(f_mul(f_load_ints(acc + j, n), s), f_load(job->alpha + j, n));
    if (job->bias)
        v = f_add(v, f_load(job->bias + j, n));
    if (job->gamma)
        v = f_mul(v, f_load(job->gamma + j, n));
    if (job->add)
        v = f_add(f_load(y + j, n), v);
    f_store(y + j, n, v);
}

TARGET static void finish(const struct finish_job *job)
{
    const struct finish_job local = *job; /* as no store to y can change */
    correct_zero_points(job);
    for (size_t i = 0; i < local.rows; i++) {
        const int32_t *acc = local.acc + i * local.cols;
        float *y = local.y + i * local.stride;
        const floats s = f_set(local.s[i]);
        size_t j = 0;
        for (; j + LANES <= local.cols; j += LANES)
            finish_step(&local, s, LANES, acc, j, y);
        if (j < local.cols)
            finish_step(&local, s, local.cols - j, acc, j, y);
    }
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
    for (size_t i = 0; i < job->count; i++)
        seen = f_keep_nan(seen, code_row(&row, job->width, token_of(job, i), job->q + i * job->q_stride));
    return f_any_nan(seen) ? REFVIT_NAN : REFVIT_OK;
}

const struct step_kernels STEPS = {finish, scores, amax, gelu_codes, token_codes, softmax_codes};
