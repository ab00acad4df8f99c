/* Which of the two families of ternary products is faster: a table, measured by `refvit bench --kernels` on x86; of
   other CPUs, which takes fewer instructions, as `make cross-full` counts them.

   Popcount products take time in proportion to the bits of the activations, dot products do not; dot products decode
   the weights first, which pays from some rows on. Both are exact, so that the choice is invisible in results. */
#include "../internal.h"

#define FEW_ROWS 4

/* Where compilers make vectors of the portable dot products, or where a word of planes takes two registers. */
#if defined(__SSE2__) || defined(__ARM_NEON) || SIZE_MAX < UINT64_MAX
#define PORTABLE_BITS 4
#else
#define PORTABLE_BITS 8
#endif

static const struct {
    size_t few_rows, many_rows; /* activation bits up to which popcount is faster */
} popcount_bits[] = {
    [REFVIT_PORTABLE] = {8, PORTABLE_BITS},
    [REFVIT_AVX2] = {4, 2},
    [REFVIT_AVXVNNI] = {6, 1},
    [REFVIT_AVX512VNNI] = {0, 0},
    [REFVIT_AVX512] = {8, 4},
    [REFVIT_NEON] = {8, 3},
    [REFVIT_NEONDOT] = {8, 1},
    [REFVIT_RVZBB] = {8, 8},
};

int refvit_family(int backend, size_t m, size_t bits)
{
    const size_t most = m <= FEW_ROWS ? popcount_bits[backend].few_rows : popcount_bits[backend].many_rows;
    return bits > most;
}
