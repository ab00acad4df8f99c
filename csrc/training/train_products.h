/* Products of small matrices, many of them: attention's scores and contexts, and their gradients. Compiled once for
   each target; vec, a vector of VEC floats, its operations, and TILE_ROWS come from train_*.c.

   A panel of b, up to COLUMNS columns by DEPTH rows, is copied side by side and padded with zeros; a tile of TILE_ROWS
   rows of out is kept in registers while a column of a and a row of the panel are multiplied at a time. Each element
   is summed in ascending order of k. */
#include <math.h>

#include "train.h"

#define COLUMNS ((size_t)2 * VEC)
#define DEPTH ((size_t)256)

INLINE void pack_panel(size_t k, size_t n, size_t width, const float *b, const size_t *strides, float *panel)
{
    const size_t row = strides[2], column = strides[3];
    for (size_t l = 0; l < k; l++)
        for (size_t j = 0; j < width; j++)
            panel[l * width + j] = j < n ? b[l * row + j * column] : 0.0f;
}

/* rows and vecs are constants where this is called, so that the loops over them unroll. */
INLINE void tile(size_t rows, size_t vecs, size_t k, const float *a, const size_t *strides, const float *panel,
                 float *out)
{
    const size_t row = strides[2], column = strides[3];
    vec acc[TILE_ROWS][2];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < vecs; j++)
            acc[i][j] = vec_set(0.0f);
    for (size_t l = 0; l < k; l++, a += column, panel += vecs * VEC) {
        for (size_t i = 0; i < rows; i++) {
            const vec value = vec_set(a[i * row]);
            for (size_t j = 0; j < vecs; j++)
                acc[i][j] = vec_madd(value, vec_load(panel + j * VEC), acc[i][j]);
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < vecs; j++)
            vec_store(out + i * COLUMNS + j * VEC, acc[i][j]);
}

/* out [rows][n] = or += scale * tile */
INLINE void put_tile(size_t rows, size_t n, const float *from, float scale, int add, size_t stride, float *out)
{
    for (size_t i = 0; i < rows; i++, from += COLUMNS, out += stride)
        for (size_t j = 0; j < n; j++)
            out[j] = (add ? out[j] : 0.0f) + from[j] * scale;
}

/* The columns of one panel, all rows: out [m][n] = or += scale * a [m][k] panel [k][width]. */
INLINE void multiply_panel(const struct product_job *job, size_t vecs, size_t k, size_t n, const float *a,
                           const float *panel, int add, float *out)
{
    const size_t row = job->a_strides[2], stride = job->out_strides[2];
    float result[TILE_ROWS * 2 * VEC];
    size_t i = 0;
    for (; i + TILE_ROWS <= job->m; i += TILE_ROWS) {
        tile(TILE_ROWS, vecs, k, a + i * row, job->a_strides, panel, result);
        put_tile(TILE_ROWS, n, result, job->scale, add, stride, out + i * stride);
    }
    for (; i < job->m; i++) {
        tile(1, vecs, k, a + i * row, job->a_strides, panel, result);
        put_tile(1, n, result, job->scale, add, stride, out + i * stride);
    }
}

INLINE void product(const struct product_job *job, const float *a, const float *b, float *out)
{
    float panel[DEPTH * 2 * VEC];
    for (size_t l = 0; l < job->k; l += DEPTH) {
        const size_t depth = job->k - l < DEPTH ? job->k - l : DEPTH;
        for (size_t j = 0; j < job->n; j += COLUMNS) {
            const size_t n = job->n - j < COLUMNS ? job->n - j : COLUMNS;
            const float *a_part = a + l * job->a_strides[3];
            const float *b_part = b + l * job->b_strides[2] + j * job->b_strides[3];
            if (n > VEC) {
                pack_panel(depth, n, 2 * VEC, b_part, job->b_strides, panel);
                multiply_panel(job, 2, depth, n, a_part, panel, l > 0, out + j);
            } else {
                pack_panel(depth, n, VEC, b_part, job->b_strides, panel);
                multiply_panel(job, 1, depth, n, a_part, panel, l > 0, out + j);
            }
        }
    }
}

/* out [m][n] += addend [m][n] */
INLINE void add_matrix(const struct product_job *job, const float *addend, float *out)
{
    for (size_t i = 0; i < job->m; i++)
        for (size_t j = 0; j < job->n; j++)
            out[i * job->out_strides[2] + j] += addend[i * job->n + j];
}

TARGET static void products(const struct product_job *job)
{
    const size_t size = job->m * job->n;
    for (size_t i = 0; i < job->outer; i++) {
        for (size_t h = 0; h < job->heads; h++) {
            float *out = job->out + i * job->out_strides[0] + h * job->out_strides[1];
            product(job, job->a + i * job->a_strides[0] + h * job->a_strides[1],
                    job->b + i * job->b_strides[0] + h * job->b_strides[1], out);
            if (job->bias)
                add_matrix(job, job->bias + h * size, out);
            if (job->mask)
                add_matrix(job, job->mask + (job->first + i) % job->masks * size, out);
        }
    }
}
