/* The portable steps, and the choice between the tables. */
#include "steps.h"

#include <math.h>

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

static float amax(size_t count, const float *x)
{
    float largest = 0.0f;
    for (size_t i = 0; i < count; i++) {
        const float a = fabsf(x[i]);
        largest = a > largest && a <= FLT_MAX ? a : largest;
    }
    return largest;
}

const struct step_kernels step_kernels_portable = {finish, scores, amax};

const struct step_kernels *step_kernels(int backend)
{
#if REFVIT_X86
    if (backend >= REFVIT_AVX512VNNI)
        return &step_kernels_avx512;
    if (backend >= REFVIT_AVX2)
        return &step_kernels_avx2;
#endif
    (void)backend;
    return &step_kernels_portable;
}
