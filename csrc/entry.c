/* The public entries: check sizes, choose the variant, set the floating-point environment (N14), call the kernel. */
#include "fpenv.h"
#include "internal.h"

/* What the machine can run; every thread that looks finds and keeps the same. Bits 1 << backend, 0 before the first look. */
static int usable_backends;

#define AVX2 (REFVIT_CPU_AVX2 | REFVIT_CPU_FMA)
#define AVX512                                                                                                         \
    (AVX2 | REFVIT_CPU_AVX512F | REFVIT_CPU_AVX512BW | REFVIT_CPU_AVX512VL | REFVIT_CPU_AVX512VNNI)

static const int needs[] = {
    [REFVIT_PORTABLE] = 0,
    [REFVIT_AVX2] = AVX2,
    [REFVIT_AVXVNNI] = AVX2 | REFVIT_CPU_AVXVNNI,
    [REFVIT_AVX512VNNI] = AVX512,
    [REFVIT_AVX512] = AVX512 | REFVIT_CPU_AVX512VPOPCNTDQ,
    [REFVIT_NEON] = REFVIT_CPU_NEON,
    [REFVIT_NEONDOT] = REFVIT_CPU_NEON | REFVIT_CPU_DOTPROD,
    [REFVIT_RVZBB] = REFVIT_CPU_ZBB,
};

#define BACKENDS ((int)(sizeof needs / sizeof *needs))

int refvit_init(void)
{
    const int features = refvit_cpu_features();
    int found = 0;
    for (int backend = 0; backend < BACKENDS && cpu_is_supported(); backend++)
        found |= (features & needs[backend]) == needs[backend] ? 1 << backend : 0;
    __atomic_store_n(&usable_backends, found, __ATOMIC_RELAXED);
    return found;
}

int usable(int backend)
{
    const int known = __atomic_load_n(&usable_backends, __ATOMIC_RELAXED);
    return backend >= 0 && backend < BACKENDS && ((known ? known : refvit_init()) >> backend & 1);
}

int refvit_symmetric_scale(int backend, size_t rows, size_t k, int bits, const float *x, float *s)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (bits < 2 || bits > MAX_BITS)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->symmetric_scale(rows, k, bits, x, s);
    fp_leave(saved);
    return status;
}

int refvit_minmax_scale(int backend, size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (bits < 2 || bits > MAX_BITS)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->minmax_scale(rows, k, bits, x, s, zp);
    fp_leave(saved);
    return status;
}

int refvit_quantize_rows(int backend, size_t rows, size_t k, int low, int high, const float *x, const float *s,
                         const int32_t *zp, int8_t *q)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (low < INT8_MIN || low > high || high > INT8_MAX)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->quantize_rows(rows, k, low, high, x, s, zp, q);
    fp_leave(saved);
    return status;
}

int refvit_rescale(int backend, size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha,
                   const float *bias, float *y)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->rescale(rows, n, acc, s, alpha, bias, y);
    fp_leave(saved);
    return status;
}

int refvit_layernorm(int backend, size_t rows, size_t k, const float *x, const float *weight, const float *bias,
                     float eps, float *y)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (k == 0)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->layernorm(rows, k, x, weight, bias, eps, y);
    fp_leave(saved);
    return status;
}

int refvit_softmax(int backend, size_t rows, size_t k, const float *x, float *y)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (k == 0)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->softmax(rows, k, x, y);
    fp_leave(saved);
    return status;
}

int refvit_gelu(int backend, size_t count, const float *x, float *y)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->gelu_values(count, x, y);
    fp_leave(saved);
    return status;
}

int refvit_exp(int backend, size_t count, const float *x, float *y)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->exp_values(count, x, y);
    fp_leave(saved);
    return status;
}

int refvit_erf(int backend, size_t count, const float *x, float *y)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    const fp_env saved = fp_enter();
    const int status = row_kernels(backend)->erf_values(count, x, y);
    fp_leave(saved);
    return status;
}

int refvit_matmul16(int backend, size_t batch, size_t m, size_t n, size_t k, const float *a, const float *b, float *out)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    int status = REFVIT_OK;
    const fp_env saved = fp_enter();
    for (size_t i = 0; i < batch && status == REFVIT_OK; i++)
        status = row_kernels(backend)->matmul16(m, n, k, a + i * m * k, b + i * n * k, out + i * m * n);
    fp_leave(saved);
    return status;
}
