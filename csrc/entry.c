/* The public entries: check sizes, choose the variant, set the floating-point environment (N14), call the kernel. */
#include "fpenv.h"
#include "internal.h"

static int best_backend = -1;

int refvit_init(void)
{
    const int avx2 = REFVIT_CPU_AVX2 | REFVIT_CPU_FMA;
    const int avx512 = avx2 | REFVIT_CPU_AVX512F | REFVIT_CPU_AVX512BW | REFVIT_CPU_AVX512VL |
                       REFVIT_CPU_AVX512VPOPCNTDQ;
    const int features = refvit_cpu_features();
    best_backend = REFVIT_PORTABLE;
    if ((features & avx2) == avx2)
        best_backend = REFVIT_AVX2;
    if ((features & avx512) == avx512)
        best_backend = REFVIT_AVX512;
    return best_backend;
}

int usable(int backend)
{
    return backend >= REFVIT_PORTABLE && backend <= best_backend;
}

static struct kernels select_kernels(int backend)
{
    struct kernels table = {pack_bits_portable, ternary_portable, int8_portable};
#if REFVIT_X86
    if (backend < REFVIT_AVX2)
        return table;
    table.pack_bits = pack_bits_avx2;
    table.ternary = ternary_avx2;
    table.int8 = int8_avx2;
    if (backend < REFVIT_AVX512)
        return table;
    table.pack_bits = pack_bits_avx512;
    table.ternary = ternary_avx512;
    table.int8 = int8_avx512;
#else
    (void)backend;
#endif
    return table;
}

int refvit_pack_planes(int backend, size_t n, size_t k, const int8_t *codes, uint64_t *planes)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    /* A ternary code is a two's complement number of two bits, nonzero and sign: pos = nonzero without sign. */
    const size_t size = n * words_of(k);
    const struct pack_job job = {n, k, 2, codes, planes, words_of(k), 1, size};
    select_kernels(backend).pack_bits(&job);
    for (size_t i = 0; i < size; i++)
        planes[i] &= ~planes[size + i];
    return REFVIT_OK;
}

int refvit_check_planes(size_t n, size_t k, const uint64_t *planes, int32_t *neg_counts)
{
    return check_planes(n, k, planes, neg_counts);
}

int refvit_ternary_matmul(int backend, size_t m, size_t n, size_t k, size_t bits, const int8_t *x,
                          const uint64_t *planes, const int32_t *neg_counts, uint64_t *work, size_t work_len,
                          int32_t *out)
{
    const size_t words = words_of(k);
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (k > K_MAX || bits < 1 || bits > MAX_BITS || work_len < m * words * bits)
        return REFVIT_BAD_SIZE;
    for (size_t i = 0; k == 0 && i < m * n; i++) /* no word, no store in a kernel */
        out[i] = 0;
    const struct kernels kernels = select_kernels(backend);
    for (size_t i = 0; i < m; i += GROUP) {
        const size_t rows = group_rows(m, i);
        const struct pack_job pack = {rows, k, bits, x + i * k, work + i * words * bits, 1, rows, words * rows};
        kernels.pack_bits(&pack);
    }
    const struct ternary_job job = {m, n, words, bits, work, planes, planes + n * words, neg_counts, out};
    kernels.ternary(&job);
    return REFVIT_OK;
}

int refvit_int8_matmul(int backend, size_t batch, size_t m, size_t n, size_t k, const int8_t *x, const int8_t *w,
                       int32_t *out)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    if (k >= K_MAX)
        return REFVIT_BAD_SIZE;
    const struct kernels kernels = select_kernels(backend);
    for (size_t b = 0; b < batch; b++) {
        const struct int8_job job = {m, n, k, x + b * m * k, w + b * n * k, out + b * m * n};
        kernels.int8(&job);
    }
    return REFVIT_OK;
}

int refvit_symmetric_scale(size_t rows, size_t k, int bits, const float *x, float *s)
{
    if (bits < 2 || bits > MAX_BITS)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = symmetric_scale(rows, k, bits, x, s);
    fp_leave(saved);
    return status;
}

int refvit_minmax_scale(size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp)
{
    if (bits < 2 || bits > MAX_BITS)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = minmax_scale(rows, k, bits, x, s, zp);
    fp_leave(saved);
    return status;
}

int refvit_quantize_rows(size_t rows, size_t k, int low, int high, const float *x, const float *s, const int32_t *zp,
                         int8_t *q)
{
    if (low < INT8_MIN || low > high || high > INT8_MAX)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = quantize_rows(rows, k, low, high, x, s, zp, q);
    fp_leave(saved);
    return status;
}

int refvit_rescale(size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha, const float *bias,
                   float *y)
{
    const fp_env saved = fp_enter();
    const int status = rescale(rows, n, acc, s, alpha, bias, y);
    fp_leave(saved);
    return status;
}

int refvit_layernorm(size_t rows, size_t k, const float *x, const float *weight, const float *bias, float eps,
                     float *y)
{
    if (k == 0)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = layernorm(rows, k, x, weight, bias, eps, y);
    fp_leave(saved);
    return status;
}

int refvit_softmax(size_t rows, size_t k, const float *x, float *y)
{
    if (k == 0)
        return REFVIT_BAD_SIZE;
    const fp_env saved = fp_enter();
    const int status = softmax(rows, k, x, y);
    fp_leave(saved);
    return status;
}

int refvit_gelu(size_t count, const float *x, float *y)
{
    const fp_env saved = fp_enter();
    const int status = gelu_values(count, x, y);
    fp_leave(saved);
    return status;
}

int refvit_exp(size_t count, const float *x, float *y)
{
    const fp_env saved = fp_enter();
    const int status = exp_values(count, x, y);
    fp_leave(saved);
    return status;
}

int refvit_erf(size_t count, const float *x, float *y)
{
    const fp_env saved = fp_enter();
    const int status = erf_values(count, x, y);
    fp_leave(saved);
    return status;
}

int refvit_matmul16(size_t batch, size_t m, size_t n, size_t k, const float *a, const float *b, float *out)
{
    int status = REFVIT_OK;
    const fp_env saved = fp_enter();
    for (size_t i = 0; i < batch && status == REFVIT_OK; i++)
        status = matmul16(m, n, k, a + i * m * k, b + i * n * k, out + i * m * n);
    fp_leave(saved);
    return status;
}
