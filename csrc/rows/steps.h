/* What the forward pass does between its products, each step at once: the end of a product, scores, codes. */
#ifndef REFVIT_STEPS_H
#define REFVIT_STEPS_H

#include "../internal.h"

#define CODE_MAX 127 /* of 8-bit symmetric codes */
#define PROB_MAX 127 /* the code of probability 1 */
#define STEP_ROWS 4 /* that a step takes at once, at most */
#define PROB_SCALE (1.0f / 127.0f)

/* Accumulators [rows][cols] of a product -> its output: v = (acc - zp sum(w)) * s * alpha + bias (N6, N8), then y = v,
   or y += v, or y += v * gamma (N11). A NaN is left to whoever reads y. amax, only where y = v: of each
   column, the largest finite |v| so far. */
struct finish_job {
    size_t rows, cols;
    int32_t *acc; /* rows side by side */
    const float *s;
    const int32_t *zp, *code_sums; /* of each row, of each channel; code_sums NULL: no zero points */
    const float *alpha, *bias;     /* bias may be NULL */
    int add;
    const float *gamma; /* may be NULL */
    float *amax;        /* may be NULL */
    float *y;
    size_t stride;
};

/* Tokens of a window -> 8-bit symmetric codes of one head, with one scale (N10). Token i is row rows[i] of x, or, for a
   negative number, row `padding`; rows NULL: row i. */
struct token_job {
    size_t count, width, stride; /* of the head; floats from row to row of x */
    const int32_t *rows;
    size_t padding;
    const float *x;
    float s;
    int8_t *q;
    size_t q_stride;
};

struct step_kernels {
    void (*finish)(const struct finish_job *job);
    /* y = acc * s_q * s_k * root, then + bias and + mask where there are such (N10). */
    void (*scores)(size_t count, const int32_t *acc, float s_q, float s_k, float root, const float *bias,
                   const float *mask, float *y);
    float (*amax)(size_t count, const float *x); /* largest |x| of the finite ones, 0 without any (N5) */
    /* Scale and symmetric codes of `bits` bits of gelu(x) [k] (N9, N4); codes of softmax(x) [k], in 127ths (N10).
       room: STEP_ROWS k floats. Each returns REFVIT_OK or REFVIT_NAN. */
    int (*gelu_codes)(size_t rows, size_t k, int bits, const float *x, float *room, int8_t *q, size_t q_stride,
                      float *s);
    int (*token_codes)(const struct token_job *job);
    int (*softmax_codes)(size_t rows, size_t k, const float *x, float *room, int8_t *q, size_t q_stride);
};

extern const struct step_kernels step_kernels_portable;
#if REFVIT_X86
extern const struct step_kernels step_kernels_avx2, step_kernels_avx512;
#endif
#if REFVIT_ARM64
extern const struct step_kernels step_kernels_neon;
#endif

/* Those of a usable backend; all have the same bits. */
const struct step_kernels *step_kernels(int backend);

static inline const float *token_of(const struct token_job *job, size_t i)
{
    const size_t row = !job->rows ? i : job->rows[i] < 0 ? job->padding : (size_t)job->rows[i];
    return job->x + row * job->stride;
}

static inline void correct_zero_points(const struct finish_job *job)
{
    for (size_t i = 0; job->code_sums && i < job->rows; i++)
        for (size_t j = 0; j < job->cols; j++)
            job->acc[i * job->cols + j] -= job->zp[i] * job->code_sums[j];
}

#endif
