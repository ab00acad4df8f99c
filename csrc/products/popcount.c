/* The choice between the tables of popcount products, and their entries. */
#include "../internal.h"

static const struct popcount_kernels portable = {pack_bits_portable, ternary_portable};
#if REFVIT_X86
static const struct popcount_kernels avx2 = {pack_bits_avx2, ternary_avx2};
static const struct popcount_kernels avx512 = {pack_bits_avx512, ternary_avx512};
#endif
#if REFVIT_ARM
static const struct popcount_kernels neon = {pack_bits_neon, ternary_neon};
#endif
#if REFVIT_RISCV
static const struct popcount_kernels rvzbb = {pack_bits_portable, ternary_rvzbb};
#endif

const struct popcount_kernels *popcount_kernels(int backend)
{
#if REFVIT_X86
    if (backend >= REFVIT_AVX512)
        return &avx512;
    if (backend >= REFVIT_AVX2)
        return &avx2;
#endif
#if REFVIT_ARM
    if (backend >= REFVIT_NEON)
        return &neon;
#endif
#if REFVIT_RISCV
    if (backend == REFVIT_RVZBB)
        return &rvzbb;
#endif
    (void)backend;
    return &portable;
}

void pack_activations(const struct popcount_kernels *kernels, size_t m, size_t k, size_t bits, const int8_t *x, uint64_t *planes)
{
    const size_t words = words_of(k);
    for (size_t i = 0; i < m; i += GROUP) {
        const size_t rows = group_rows(m, i);
        const struct pack_job job = {rows, k, bits, x + i * k, planes + i * words * bits, 1, rows, words * rows};
        kernels->pack_bits(&job);
    }
}

int refvit_pack_planes(int backend, size_t n, size_t k, const int8_t *codes, uint64_t *planes)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    /* A ternary code is a two's complement number of two bits, nonzero and sign: pos = nonzero without sign. */
    const size_t size = n * words_of(k);
    const struct pack_job job = {n, k, 2, codes, planes, words_of(k), 1, size};
    popcount_kernels(backend)->pack_bits(&job);
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
    const struct popcount_kernels *kernels = popcount_kernels(backend);
    const struct ternary_job job = {m, n, words, bits, work, planes, planes + n * words, neg_counts, out};
    for (size_t i = 0; k == 0 && i < m * n; i++) /* no word, no store in a kernel */
        out[i] = 0;
    pack_activations(kernels, m, k, bits, x, work);
    kernels->ternary(&job);
    return REFVIT_OK;
}
