/* The kernels of training, for Python alone: librefvit has none of them. */
#ifndef REFVIT_TRAINING_H
#define REFVIT_TRAINING_H

#include "refvit.h"

/* cdef begin: cffi reads the declarations from here to the end marker */

/* Twins, within rounding, of the NumPy pairs of refvit/layers.py; quantizers and optimizers have the bits. */

/* y = x Phi(x) and slope = dy/dx. */
int refvit_train_gelu(int backend, size_t count, const float *x, float *y, float *slope);
int refvit_train_multiply(int backend, size_t count, const float *a, const float *b, float *y);
/* y [rows][k] += bias [k] */
int refvit_train_add_bias(int backend, size_t rows, size_t k, const float *bias, float *y);
int refvit_train_softmax(int backend, size_t rows, size_t k, const float *x, float *p);
int refvit_train_softmax_backward(int backend, size_t rows, size_t k, const float *dp, const float *p, float *dx);
int refvit_train_layernorm(int backend, size_t rows, size_t k, const float *x, const float *weight, const float *bias,
                           float eps, float *y, float *xhat, float *rstd);
/* sums [ceil(rows / block)][2][k]: dweight and dbias of each block of rows. */
int refvit_train_layernorm_backward(int backend, size_t rows, size_t block, size_t k, const float *dy,
                                    const float *xhat, const float *rstd, const float *weight, float *dx, float *sums);

/* Values of the codes of each row, passes: 1 where x was not clipped, clipped [rows]: whether a row has another.
   shape: outer, inner, segments, length: outer x inner rows, each of segments runs of length floats. Strides are of the
   first three, in floats. s and zp [outer * inner], or NULL: each row's own (N4, N5). passes is laid out as y. */
int refvit_train_fake_quantize(int backend, const size_t *shape, const size_t *x_strides, const float *x, int bits,
                               int minmax, const float *s, const int32_t *zp, const size_t *y_strides, float *y,
                               uint8_t *passes, int32_t *clipped);
/* y = rint(x / s) * s for |x / s| < 2^22 */
int refvit_train_round_to(int backend, size_t count, const float *x, float s, float *y);
/* y = alpha * code (N3); REFVIT_BAD_SIZE where a row's sums are not provably exact, or not finite. */
int refvit_train_ternary(int backend, size_t rows, size_t k, const float *w, double threshold, int absolute_mean,
                         float *y);

/* out [m][n] = scale * a [m][k] b [k][n] (+ bias [heads][m][n] + mask [masks][m][n], each or NULL).
   shape: outer, heads, m, n, k; strides, in floats, of outer, head, row, column (out's columns lie side by side).
   The mask of pair i of outer is (first + i) mod masks. */
int refvit_train_products(int backend, const size_t *shape, const float *a, const size_t *a_strides, const float *b,
                          const size_t *b_strides, float scale, const float *bias, const float *mask, size_t first,
                          size_t masks, float *out, const size_t *out_strides);

/* m = m beta1 + rest1 g; v = v beta2 + rest2 (g g); then AdamW: p = p decay - first m / (sqrt(v) / root + eps);
   LAMB: u = (m / first) / (sqrt(v) / root + eps), and + decay p where decay > 0.
   scalars: decay, beta1, rest1, beta2, rest2, first, root, eps. */
int refvit_train_adamw(int backend, size_t count, const float *scalars, const float *g, float *p, float *m, float *v);
int refvit_train_lamb(int backend, size_t count, const float *scalars, const float *g, const float *p, float *m,
                      float *v, float *u);
int refvit_train_sum_of_squares(int backend, size_t count, const float *x, double *sum);

/* From now on freed memory stays with the process, for its next array; 0 where the C library has no such setting. */
int refvit_keep_memory(void);

/* cdef end */

#endif
