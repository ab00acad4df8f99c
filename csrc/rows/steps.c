/* The portable steps, and the choice between the tables. */
#include "steps.h"

#include <math.h>

#include "../fpenv.h"

static void finish(const struct finish_job *job)
{
    correct_zero_points(job);
    for (size_t i = 0; i < job->rows; i++) {
        const int32_t *acc = job->acc + i * job->cols;
        float *y = job->y + i * job->stride;
        for (size_t j = 0; j < job->cols; j++) {
            float v = (float)acc[j] * job->s[i] * job->alpha[j];
            v = job->bias ? v + job->bias[j] : v;
            v = job->gamma ? v * job->gamma[j] : v;
            y[j] = job->add ? y[j] + v : v;
            const float a = fabsf(v);
            if (job->amax && a > job->amax[j] && a <= FLT_MAX)
                job->amax[j] = a;
        }
    }
}

static void scores(size_t count, const int32_t *acc, float s_q, float s_k, float root, const float *bias,
                   const float *mask, float *y)
{
    for (size_t j = 0; j < count; j++) {
        float v = (float)acc[j] * s_q * s_k * root;
        v = bias ? v + bias[j] : v;
        y[j] = mask ? v + mask[j] : v;
    }
}

static int gelu_codes(size_t rows, size_t k, int bits, const float *x, float *room, int8_t *q, size_t q_stride,
                      float *s)
{
    const int high = (1 << (bits - 1)) - 1;
    const int32_t zp = 0;
    int status = REFVIT_OK;
    for (size_t i = 0; i < rows; i++, x += k, q += q_stride) {
        status |= gelu_values_portable(k, x, room);
        symmetric_scale_portable(1, k, bits, room, s + i);
        status |= quantize_rows_portable(1, k, -high, high, room, s + i, &zp, q);
    }
    return status;
}

static int token_codes(const struct token_job *job)
{
    const int32_t zp = 0;
    int status = REFVIT_OK;
    for (size_t i = 0; i < job->count; i++)
        status |= quantize_rows_portable(1, job->width, -CODE_MAX, CODE_MAX, token_of(job, i), &job->s, &zp,
                                         job->q + i * job->q_stride);
    return status;
}

static int softmax_codes(size_t rows, size_t k, const float *x, float *room, int8_t *q, size_t q_stride)
{
    const float s = PROB_SCALE;
    const int32_t zp = 0;
    int status = REFVIT_OK;
    for (size_t i = 0; i < rows; i++, x += k, q += q_stride) {
        status |= softmax_portable(1, k, x, room);
        status |= quantize_rows_portable(1, k, 0, PROB_MAX, room, &s, &zp, q);
    }
    return status;
}

const struct step_kernels step_kernels_portable = {finish, scores, amax_portable, gelu_codes, token_codes, softmax_codes};

const struct step_kernels *step_kernels(int backend)
{
#if REFVIT_X86
    if (backend >= REFVIT_AVX512VNNI)
        return &step_kernels_avx512;
    if (backend >= REFVIT_AVX2)
        return &step_kernels_avx2;
#endif
#if REFVIT_ARM64
    if (backend >= REFVIT_NEON)
        return &step_kernels_neon;
#endif
    (void)backend;
    return &step_kernels_portable;
}

int refvit_gelu_codes(int backend, size_t rows, size_t k, int bits, const float *x, float *room, int8_t *q, float *s)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (bits < 2 || bits > MAX_BITS)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = step_kernels(backend)->gelu_codes(rows, k, bits, x, room, q, k, s);
    fp_leave(saved);
    return status;
}

int refvit_softmax_codes(int backend, size_t rows, size_t k, const float *x, float *room, int8_t *q)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (k == 0)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = step_kernels(backend)->softmax_codes(rows, k, x, room, q, k);
    fp_leave(saved);
    return status;
}
