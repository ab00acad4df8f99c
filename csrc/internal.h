/* What the files of csrc share: jobs, the table of variants, and the portable kernels it starts from. */
#ifndef REFVIT_INTERNAL_H
#define REFVIT_INTERNAL_H

#include <float.h>

#include "refvit.h"

#if defined(__FAST_MATH__)
#error "refvit needs IEEE-754 arithmetic (N14): compile without -ffast-math"
#endif
#if FLT_EVAL_METHOD != 0
#error "refvit needs float expressions evaluated in float (N14): FLT_EVAL_METHOD must be 0"
#endif

#define WORD_BITS 64
#define MAX_BITS 8
#define GROUP ((size_t)8) /* rows of activations whose words lie side by side */
#define K_MAX ((size_t)1 << 17)

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define REFVIT_X86 1
#else
#define REFVIT_X86 0
#endif

/* NEON is part of every aarch64; for 32-bit ARM gcc compiles it in functions that ask for it, other compilers only
   where it may be used everywhere. */
#if defined(__aarch64__) && defined(__AARCH64EL__)
#define REFVIT_ARM64 1
#else
#define REFVIT_ARM64 0
#endif
#if defined(__ARMEL__) && __ARM_ARCH >= 7 && defined(__ARM_FP) && (defined(__ARM_NEON) || !defined(__clang__))
#define REFVIT_ARM 1
#else
#define REFVIT_ARM REFVIT_ARM64
#endif

#if defined(__riscv) && __riscv_xlen == 64
#define REFVIT_RISCV 1
#else
#define REFVIT_RISCV 0
#endif

/* Before a loop over an array that is meant to live in registers: only unrolled can it. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Codes x [m][k] -> planes of their lowest `bits` bits, padded with zero bits: plane p of word w of row i at
   out[i * row_stride + w * word_stride + p * plane_stride]. */
struct pack_job {
    size_t m, k, bits;
    const int8_t *x;
    uint64_t *out;
    size_t row_stride, word_stride, plane_stride;
};

/* Activations [m][k] as bit-planes: for each GROUP of rows, and the rest, [bits][words][rows of the group]. */
struct ternary_job {
    size_t m, n, words, bits;
    const uint64_t *x, *pos, *neg;
    const int32_t *neg_counts;
    int32_t *out;
};

struct popcount_kernels {
    void (*pack_bits)(const struct pack_job *job);
    void (*ternary)(const struct ternary_job *job);
};

/* Those of a usable backend; all have the same bits. */
const struct popcount_kernels *popcount_kernels(int backend);

/* Codes x [m][k] -> planes of m * words * bits words, as ternary_job wants them. */
void pack_activations(const struct popcount_kernels *kernels, size_t m, size_t k, size_t bits, const int8_t *x,
               uint64_t *planes);

/* Whether the CPU has what the compiler was told that every one has. */
int cpu_is_supported(void);

/* Whether this machine can run a backend. */
int usable(int backend);

static inline size_t words_of(size_t k)
{
    return (k + WORD_BITS - 1) / WORD_BITS;
}

/* Rows of the group that starts with row `first` of m. */
static inline size_t group_rows(size_t m, size_t first)
{
    return m - first < GROUP ? m - first : GROUP;
}

/* Weight of plane p of b-bit two's complement: 2^p, negative for the top plane. */
static inline int32_t plane_weight(size_t p, size_t bits)
{
    return (p + 1 == bits) ? -((int32_t)1 << p) : (int32_t)1 << p;
}

void pack_bits_portable(const struct pack_job *job);
void ternary_portable(const struct ternary_job *job);

int check_planes(size_t n, size_t k, const uint64_t *planes, int32_t *neg_counts);

#if REFVIT_X86
void pack_bits_avx2(const struct pack_job *job);
void ternary_avx2(const struct ternary_job *job);

void pack_bits_avx512(const struct pack_job *job);
void ternary_avx512(const struct ternary_job *job);
#endif

#if REFVIT_ARM
void pack_bits_neon(const struct pack_job *job);
void ternary_neon(const struct ternary_job *job);
#endif

#if REFVIT_RISCV
void ternary_rvzbb(const struct ternary_job *job);
#endif

/* Float rows (N4, N5, N8, N9). Each returns REFVIT_OK or REFVIT_NAN; the caller has checked the sizes and set the
   floating-point environment (N14). y may be x. */
struct row_kernels {
    int (*symmetric_scale)(size_t rows, size_t k, int bits, const float *x, float *s);
    int (*minmax_scale)(size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp);
    int (*quantize_rows)(size_t rows, size_t k, int low, int high, const float *x, const float *s, const int32_t *zp,
                         int8_t *q);
    int (*rescale)(size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha, const float *bias,
                   float *y);
    int (*layernorm)(size_t rows, size_t k, const float *x, const float *weight, const float *bias, float eps,
                     float *y);
    int (*softmax)(size_t rows, size_t k, const float *x, float *y);
    int (*gelu_values)(size_t count, const float *x, float *y);
    int (*exp_values)(size_t count, const float *x, float *y);
    int (*erf_values)(size_t count, const float *x, float *y);
    int (*matmul16)(size_t m, size_t n, size_t k, const float *a, const float *b, float *out);
};

/* Those of a usable backend; all have the same bits. */
const struct row_kernels *row_kernels(int backend);

float amax_portable(size_t count, const float *x); /* largest |x| of the finite ones, 0 without any (N5) */
int symmetric_scale_portable(size_t rows, size_t k, int bits, const float *x, float *s);
int minmax_scale_portable(size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp);
int quantize_rows_portable(size_t rows, size_t k, int low, int high, const float *x, const float *s, const int32_t *zp,
                           int8_t *q);
int rescale_portable(size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha, const float *bias,
                     float *y);
int layernorm_portable(size_t rows, size_t k, const float *x, const float *weight, const float *bias, float eps,
                       float *y);
int softmax_portable(size_t rows, size_t k, const float *x, float *y);
int gelu_values_portable(size_t count, const float *x, float *y);
int exp_values_portable(size_t count, const float *x, float *y);
int erf_values_portable(size_t count, const float *x, float *y);
int matmul16_portable(size_t m, size_t n, size_t k, const float *a, const float *b, float *out);

extern const struct row_kernels row_kernels_portable;
#if REFVIT_X86
extern const struct row_kernels row_kernels_avx2;
extern const struct row_kernels row_kernels_avx512;
#endif
#if REFVIT_ARM64
extern const struct row_kernels row_kernels_neon;
#endif

#endif
