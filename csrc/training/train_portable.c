/* Training kernels in plain C99, with vectors of one float. */
#include "../internal.h"

#define TARGET
#define MADD(a, b, c) ((a) * (b) + (c))
#define TABLE train_portable
#define VEC 1
#define TILE_ROWS 4

typedef float vec;

static inline vec vec_set(float value)
{
    return value;
}

static inline vec vec_load(const float *from)
{
    return *from;
}

static inline void vec_store(float *to, vec v)
{
    *to = v;
}

static inline vec vec_madd(vec a, vec b, vec c)
{
    return a * b + c;
}

/* The bodies, for what stands above. */
#include "train_rows.h"
#include "train_products.h"
#include "train_quantize.h"
#include "train_table.h"
