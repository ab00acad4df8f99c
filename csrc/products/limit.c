/* What a core can do at most: the instructions of each family of products, on registers alone. `refvit bench --kernels`
   times them; no product can be faster. Selecting takes no less than the `and` that stands for it. */
#include "../internal.h"

#define ACCUMULATORS 12 /* enough to hide the latency, few enough for 16 registers */

#if REFVIT_X86
#include <immintrin.h>

/* Loops of `instructions` on each accumulator; asm volatile, as nothing uses what they compute. */
#define LIMIT(name, features, type, constraint, instructions)                                                     \
    __attribute__((target(features))) static void name(size_t loops)                                                   \
    {                                                                                                                  \
        type acc[ACCUMULATORS] = {{0}}, x = {1}, w = {2}, t = {0};                                                     \
        for (size_t i = 0; i < loops; i++) {                                                                           \
            UNROLL                                                                                                     \
            for (size_t j = 0; j < ACCUMULATORS; j++)                                                                  \
                __asm__ volatile(instructions : "+" constraint(acc[j]), "=&" constraint(t) : constraint(x), constraint(w)); \
        }                                                                                                              \
    }

LIMIT(dot_512, "avx512f", __m512i, "v", "vpdpbusd %3, %2, %0")
LIMIT(dot_vnni, "avx2", __m256i, "x", "%{vex%} vpdpbusd %3, %2, %0")
LIMIT(dot_256, "avx2", __m256i, "x", "vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0")
LIMIT(popcount_512, "avx512f", __m512i, "v",
      "vpandq %3, %2, %1\n\tvpopcntq %1, %1\n\tvpaddq %1, %0, %0")

double refvit_limit(int backend, int family, size_t loops)
{
    const double n = (double)loops * ACCUMULATORS;
    if (!usable(backend))
        return 0.0;
    if (family == 1 && backend >= REFVIT_AVX512VNNI)
        return dot_512(loops), n * 128;
    if (family == 1 && backend == REFVIT_AVXVNNI)
        return dot_vnni(loops), n * 64;
    if (family == 1 && backend == REFVIT_AVX2)
        return dot_256(loops), n * 64;
    if (family == 0 && backend == REFVIT_AVX512)
        return popcount_512(loops), n * 1024;
    return 0.0;
}

#else

double refvit_limit(int backend, int family, size_t loops)
{
    (void)backend, (void)family, (void)loops;
    return 0.0;
}

#endif
