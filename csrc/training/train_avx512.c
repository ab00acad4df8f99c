/* Training kernels for AVX-512 F, BW and VL. */
#include "../internal.h"

#if REFVIT_X86
#include <immintrin.h>
#include <math.h>

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl")))
#define MADD(a, b, c) fmaf(a, b, c)
#define TABLE train_avx512
#define VEC 16
#define TILE_ROWS 8

typedef __m512 vec;

TARGET static inline vec vec_set(float value)
{
    return _mm512_set1_ps(value);
}

TARGET static inline vec vec_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

TARGET static inline void vec_store(float *to, vec v)
{
    _mm512_storeu_ps(to, v);
}

TARGET static inline vec vec_madd(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* The bodies, for what stands above. */
#include "train_rows.h"
#include "train_products.h"
#include "train_quantize.h"
#include "train_table.h"

#endif
