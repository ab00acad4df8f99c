/* The kernels of refvit: integer products of bit-planes and bytes, and float rows with a fixed order of roundings.

   N1..N14 are the rules of tests/vectors/SPEC.md. Kernels allocate nothing and print nothing; the
   caller owns every buffer. Matrices are row-major without gaps. Each entry returns a status below.
   Letters: m rows of activations, n output channels, k elements of a dot product, words = ceil(k / 64). */
#ifndef REFVIT_H
#define REFVIT_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__FAST_MATH__)
#error "refvit needs IEEE-754 arithmetic (N14): compile without -ffast-math"
#endif
#if FLT_EVAL_METHOD != 0
#error "refvit needs float expressions evaluated in float (N14): FLT_EVAL_METHOD must be 0"
#endif

/* cdef begin: cffi reads the declarations from here to the end marker */

enum refvit_status {
    REFVIT_OK = 0,
    REFVIT_BAD_SIZE,    /* a length that does not fit the others, or k above 2^17 (N7) */
    REFVIT_BAD_BACKEND, /* a backend this machine cannot run, or refvit_init was not called */
    REFVIT_BAD_PLANES,  /* both planes set, or padding that is not zero (N2) */
    REFVIT_NAN          /* a NaN came in or came out */
};

/* Those of one CPU family in ascending order of what they need; a machine may lack one and have those after it. */
enum refvit_backend {
    REFVIT_PORTABLE = 0,
    REFVIT_AVX2 = 1,       /* AVX2, FMA */
    REFVIT_AVXVNNI = 2,    /* and AVX-VNNI */
    REFVIT_AVX512VNNI = 3, /* AVX2, FMA, AVX-512 F, BW, VL, VNNI */
    REFVIT_AVX512 = 4,     /* and VPOPCNTDQ */
    REFVIT_NEON = 5,       /* ARM: NEON */
    REFVIT_NEONDOT = 6,    /* and the dot products of ARMv8.2, in 64 bits */
    REFVIT_RVZBB = 7       /* RISC-V, 64 bits: Zbb */
};

/* Features of the CPU that the operating system has switched on. */
enum refvit_cpu {
    REFVIT_CPU_AVX2 = 1,
    REFVIT_CPU_AVX512F = 2,
    REFVIT_CPU_AVX512BW = 4,
    REFVIT_CPU_AVX512VL = 8,
    REFVIT_CPU_AVX512VPOPCNTDQ = 16,
    REFVIT_CPU_FMA = 32,
    REFVIT_CPU_AVX512VNNI = 64,
    REFVIT_CPU_AVXVNNI = 128,
    REFVIT_CPU_NEON = 256,
    REFVIT_CPU_DOTPROD = 512,
    REFVIT_CPU_ZBB = 1024
};

int refvit_cpu_features(void);

/* Detect the CPU, once, before any other entry; returns the usable backends as bits 1 << backend, none where the CPU
   lacks what the library was compiled for. */
int refvit_init(void);

/* Ternary codes [n][k] -> planes [2][n][words], positive then negative (N2). */
int refvit_pack_planes(int backend, size_t n, size_t k, const int8_t *codes, uint64_t *planes);

/* A base-3 stream of ceil(n k / 5) bytes -> planes [2][n][words] (N2). */
int refvit_decode_base3(size_t n, size_t k, const uint8_t *stream, uint64_t *planes);

/* Check planes [2][n][words] (N2) and count the negative codes of each channel. */
int refvit_check_planes(size_t n, size_t k, const uint64_t *planes, int32_t *neg_counts);

/* out [m][n] = x [m][k] times the codes of planes, exactly (N7). x: two's complement codes of `bits` bits, 1..8.
   neg_counts [n] as refvit_check_planes gives them; work: m * words * bits words. */
int refvit_ternary_matmul(int backend, size_t m, size_t n, size_t k, size_t bits, const int8_t *x,
                          const uint64_t *planes, const int32_t *neg_counts, uint64_t *work, size_t work_len,
                          int32_t *out);

/* The same by dot products, for any int8 x. Its rows are padded with zeros to a multiple of 64 bytes; init: m numbers,
   panel: REFVIT_PANEL_COLS bytes for each of k padded: room to work in. */
#define REFVIT_PANEL_COLS 64
int refvit_ternary_dot(int backend, size_t m, size_t n, size_t k, const int8_t *x, const uint64_t *planes,
                       int32_t *init, uint8_t *panel, int32_t *out);

/* out [batch][m][n] = x [batch][m][k] times w [batch][n][k], exactly (N7); k below 2^17, for 2^17 * 2^14 = 2^31.
   x, init and panel as above. */
int refvit_int8_dot(int backend, size_t batch, size_t m, size_t n, size_t k, const int8_t *x, const int8_t *w,
                    int32_t *init, uint8_t *panel, int32_t *out);

/* Which family of products refvit_forward takes for m rows of `bits` bits, as measured: 0 popcount, 1 dot products. */
int refvit_family(int backend, size_t m, size_t bits);

/* Do what the instructions of a family can do at most, on registers alone; returns the operations (a multiplication and
   an addition are two) on codes of 1 bit for popcounts, of 8 bits for dot products; 0 where no limit is known. */
double refvit_limit(int backend, int family, size_t loops);

/* Scale (and zero point) of each row of x [rows][k] for codes of `bits` bits, 2..8 (N4, N5). */
int refvit_symmetric_scale(int backend, size_t rows, size_t k, int bits, const float *x, float *s);
int refvit_minmax_scale(int backend, size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp);

/* q = clip(rint(x / s) + zp, low, high), -128 <= low <= high <= 127 (N4). */
int refvit_quantize_rows(int backend, size_t rows, size_t k, int low, int high, const float *x, const float *s,
                         const int32_t *zp, int8_t *q);

/* y = (acc * s) * alpha, then + bias unless that is NULL (N8). acc [rows][n], s [rows], alpha and bias [n]. */
int refvit_rescale(int backend, size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha,
                   const float *bias, float *y);

/* N9, twins of the functions of refvit/exact.py. */
int refvit_layernorm(int backend, size_t rows, size_t k, const float *x, const float *weight, const float *bias,
                     float eps, float *y);
int refvit_softmax(int backend, size_t rows, size_t k, const float *x, float *y);
int refvit_gelu(int backend, size_t count, const float *x, float *y);
int refvit_exp(int backend, size_t count, const float *x, float *y);
int refvit_erf(int backend, size_t count, const float *x, float *y);

/* Scales s [rows] and symmetric codes q [rows][k] of gelu(x), `bits` 2..8 (N4, N9); codes of the probabilities
   softmax(x) in 127ths (N10). room: k floats. */
int refvit_gelu_codes(int backend, size_t rows, size_t k, int bits, const float *x, float *room, int8_t *q, float *s);
int refvit_softmax_codes(int backend, size_t rows, size_t k, const float *x, float *room, int8_t *q);

/* out [batch][m][n] = a [batch][m][k] times b [batch][n][k], products rounded, then 16 partial sums (N9). */
int refvit_matmul16(int backend, size_t batch, size_t m, size_t n, size_t k, const float *a, const float *b,
                    float *out);

/* Training: twins, within rounding, of the NumPy pairs of refvit/layers.py; quantizers and optimizers have the bits. */

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

/* A packed model as the forward pass reads it; the caller owns every array. Layouts are row-major. */
struct refvit_linear {
    size_t n, k;
    int bits, act_bits;       /* 2: planes [2][n][words] (N2); 8: codes [n][k] */
    const uint64_t *planes;
    const int8_t *codes;
    const float *alpha, *bias; /* [n]; bias may be NULL */
    const int32_t *code_sums;  /* [n], sums of the codes, for zero points (N6) */
    const int32_t *neg_counts; /* [n], of planes, as refvit_check_planes gives them */
    float s;                  /* static scale of its input and its zero point, or 0: a scale for each row */
    int32_t zp;
};

struct refvit_norm {
    const float *weight, *bias;
};

struct refvit_block {
    struct refvit_norm norm1, norm2;
    struct refvit_linear qkv, proj, fc1, fc2;
    const float *gamma1, *gamma2; /* LayerScale [width], or NULL */
    const float *bias;            /* of positions [heads][window][window], or NULL */
    const float *mask;            /* [windows][window][window], or NULL */
    const int32_t *rows;          /* [windows][window] tokens in each window, -1 padding; NULL: all, in order */
};

struct refvit_stage {
    size_t side, tokens, width, hidden, heads, windows, window; /* window: tokens in one */
    size_t depth;
    const struct refvit_block *blocks;
    const struct refvit_norm *merge_norm; /* patch merging before the stage, or NULL */
    const struct refvit_linear *merge;
};

struct refvit_model {
    size_t img_size, patch_size, channels, classes;
    int minmax; /* quantizer of activations: 0 symmetric, 1 min-max (N4) */
    float eps;
    const float *pixels;             /* [channels][256]: normalised values of 8-bit pixels (N12) */
    struct refvit_linear embed;
    const struct refvit_norm *embed_norm; /* or NULL */
    size_t prefix;                   /* tokens before those of the patches */
    const float *prefix_rows;        /* [prefix][width], positions included */
    const float *positions;          /* of the patches [patches][width], or NULL */
    size_t stage_count;
    const struct refvit_stage *stages;
    struct refvit_norm norm;
    int pool;                        /* the head reads the mean of all tokens, or its own token */
    size_t head_count;               /* 1, or 2: their mean (N11) */
    const struct refvit_linear *heads;
};

/* Threads that wait for work; NULL where they cannot be had. */
struct refvit_pool;
struct refvit_pool *refvit_pool_new(size_t threads);
void refvit_pool_free(struct refvit_pool *pool);

/* Bytes that refvit_forward works in; 0 for a model whose sizes it does not take. */
size_t refvit_work_size(const struct refvit_model *model, int backend, size_t threads);

/* Logits [images][classes] of images: u8 [images][side][side][channels] after resize and crop, or, where that is NULL,
   x [images][channels][side][side] normalised. work: 64-byte aligned. One run at a time on a pool. */
int refvit_forward(const struct refvit_model *model, int backend, struct refvit_pool *pool, size_t images,
                   const uint8_t *u8, const float *x, float *logits, void *work, size_t work_size);

/* From now on freed memory stays with the process, for its next array; 0 where the C library has no such setting. */
int refvit_keep_memory(void);

/* Save this thread's floating-point environment and set the default one (N14); give the saved one back. */
#define REFVIT_ENVIRONMENT_BYTES 64
void refvit_environment_enter(uint8_t *saved);
void refvit_environment_leave(const uint8_t *saved);

/* cdef end */

#endif
