/* The choice between the tables of dot products. */
#include "dot.h"

const struct dot_kernels *dot_kernels(int backend)
{
#if REFVIT_X86
    if (backend >= REFVIT_AVX512VNNI)
        return &dot_avx512vnni;
    if (backend == REFVIT_AVXVNNI)
        return &dot_avxvnni;
    if (backend == REFVIT_AVX2)
        return &dot_avx2;
#endif
    (void)backend;
    return &dot_portable;
}
