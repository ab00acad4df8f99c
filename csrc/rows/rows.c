/* The portable table of float row kernels, and the choice between the tables. */
#include "../internal.h"

const struct row_kernels row_kernels_portable = {
    symmetric_scale_portable, minmax_scale_portable, quantize_rows_portable, rescale_portable,    layernorm_portable,
    softmax_portable,         gelu_values_portable,  exp_values_portable,    erf_values_portable, matmul16_portable,
};

const struct row_kernels *row_kernels(int backend)
{
#if REFVIT_X86
    if (backend >= REFVIT_AVX512VNNI)
        return &row_kernels_avx512;
    if (backend >= REFVIT_AVX2)
        return &row_kernels_avx2;
#endif
#if REFVIT_ARM64
    if (backend >= REFVIT_NEON)
        return &row_kernels_neon;
#endif
    (void)backend;
    return &row_kernels_portable;
}
