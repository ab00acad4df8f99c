/* What the files train*.c share: the table of training kernels, one for each target. */
#ifndef REFVIT_TRAIN_H
#define REFVIT_TRAIN_H

#include "../internal.h"
#include "../training.h"

/* `outer` x `inner` rows, each of `segments` runs of `length` floats; strides count floats. */
struct quantize_job {
    size_t outer, inner, segments, length;
    const size_t *x_strides, *y_strides; /* of outer, inner, segment */
    const float *x, *s;                  /* s NULL: each row its own scale and zero point */
    const int32_t *zp;
    int bits, minmax;
    float *y;
    uint8_t *passes;
    int32_t *clipped;
};

/* out = scale * a b (+ bias + mask), for each of `outer` x `heads` pairs; strides count floats. */
struct product_job {
    size_t outer, heads, m, n, k;
    const size_t *a_strides, *b_strides, *out_strides; /* of outer, head, row, column; out has columns side by side */
    const float *a, *b;
    float scale;
    const float *bias, *mask; /* [heads][m][n], [masks][m][n], or NULL */
    size_t first, masks;      /* the mask of pair `outer` is (first + outer) mod masks */
    float *out;
};

/* decay: AdamW's factor of p, LAMB's weight decay; first: what AdamW multiplies m by, what LAMB divides it by. */
struct adam_scalars {
    float decay, beta1, rest1, beta2, rest2, first, root, eps;
};

struct train_kernels {
    int (*gelu)(size_t count, const float *x, float *y, float *slope);
    void (*multiply)(size_t count, const float *a, const float *b, float *y);
    void (*add_bias)(size_t rows, size_t k, const float *bias, float *y);
    void (*softmax)(size_t rows, size_t k, const float *x, float *p);
    void (*softmax_backward)(size_t rows, size_t k, const float *dp, const float *p, float *dx);
    void (*layernorm)(size_t rows, size_t k, const float *x, const float *weight, const float *bias, float eps,
                      float *y, float *xhat, float *rstd);
    void (*layernorm_backward)(size_t rows, size_t k, const float *dy, const float *xhat, const float *rstd,
                               const float *weight, float *dx, float *dweight, float *dbias);
    int (*fake_quantize)(const struct quantize_job *job);
    void (*round_to)(size_t count, const float *x, float s, float *y);
    int (*ternary_rows)(size_t rows, size_t k, const float *w, double threshold, int absolute_mean, float *y);
    void (*products)(const struct product_job *job);
    void (*adamw)(size_t count, const struct adam_scalars *scalars, const float *g, float *p, float *m, float *v);
    void (*lamb)(size_t count, const struct adam_scalars *scalars, const float *g, const float *p, float *m, float *v,
                 float *u);
    double (*sum_of_squares)(size_t count, const float *x);
};

extern const struct train_kernels train_portable;
#if REFVIT_X86
extern const struct train_kernels train_avx2;
extern const struct train_kernels train_avx512;
#endif

#endif
