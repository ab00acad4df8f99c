/* Work for the counter of instructions: one kernel at the sizes of a block of DeiT-S, or a picture through a model of
   models.h. Without the last argument everything is made ready and nothing is done.

       measure BACKEND CASE [1]

   BACKEND and CASE are numbers; CASE from KERNELS on is a model. Prints the multiplications or values, or 0. */
#include <stdio.h>
#include <stdlib.h>

#include "models.h"
#include "refvit.h"

#define M 197
#define N 384
#define K 384
#define LONG 1536

static int8_t x[M * LONG], w[N * LONG], q[M * LONG];
static uint64_t planes[2 * N * LONG / 64], work[M * LONG / 8];
static float values[M * LONG], y[M * LONG], ones[LONG], room[4 * LONG], scales[M];
static int32_t neg_counts[N], init[M], out[M * LONG], zeros[M];
static uint8_t panel[REFVIT_PANEL_COLS * LONG];

static void fill(void)
{
    uint32_t state = 1;
    for (size_t i = 0; i < M * LONG; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (int8_t)(uint8_t)(state >> 24);
        values[i] = (float)((int)(state >> 8 & 0xffff) - 32768) * 0x1p-13f;
    }
    for (size_t i = 0; i < N * LONG; i++)
        w[i] = (int8_t)(i * 7919 % 3 - 1);
    for (size_t i = 0; i < LONG; i++)
        ones[i] = 1.0f;
    for (size_t i = 0; i < M; i++)
        scales[i] = 0x1p-5f;
    refvit_pack_planes(REFVIT_PORTABLE, N, K, w, planes);
    refvit_check_planes(N, K, planes, neg_counts);
}

static void popcount(int backend, size_t bits)
{
    refvit_ternary_matmul(backend, M, N, K, bits, x, planes, neg_counts, work, sizeof work / sizeof *work, out);
}

static long kernel(int backend, int number)
{
    switch (number) {
    case 0: popcount(backend, 8); return M * N * K;
    case 1: popcount(backend, 4); return M * N * K;
    case 2: popcount(backend, 2); return M * N * K;
    case 3: refvit_ternary_dot(backend, M, N, K, x, planes, init, panel, out); return M * N * K;
    case 4: refvit_int8_dot(backend, 1, M, N, K, x, w, 0, init, panel, out); return M * N * K;
    case 5: refvit_symmetric_scale(backend, M, K, 8, values, scales); return M * K;
    case 6: refvit_quantize_rows(backend, M, K, -127, 127, values, scales, zeros, q); return M * K;
    case 7: refvit_rescale(backend, M, N, out, scales, ones, ones, y); return M * N;
    case 8: refvit_layernorm(backend, M, K, values, ones, ones, 1e-6f, y); return M * K;
    case 9: refvit_softmax_codes(backend, M, M, values, room, q); return M * M;
    default: refvit_gelu_codes(backend, M, LONG, 8, values, room, q, scales); return M * LONG;
    }
}

#define KERNELS 11

static long picture(int backend, const struct model_case *model)
{
    struct refvit_pool *pool = refvit_pool_new(1);
    const size_t size = refvit_work_size(model->model, backend, 1);
    uint8_t *memory = malloc(size + 64), *buffer = memory + 64 - (uintptr_t)memory % 64;
    if (!pool || !memory || model->model->classes > LONG)
        return 0;
    return !refvit_forward(model->model, backend, pool, 1, model->u8, NULL, y, buffer, size);
}

int main(int argc, char **argv)
{
    if (argc < 3 || !refvit_init())
        return 1;
    const int backend = atoi(argv[1]), number = atoi(argv[2]);
    fill();
    if (argc > 3)
        printf("%ld\n", number < KERNELS ? kernel(backend, number) : picture(backend, model_cases + number - KERNELS));
    return 0;
}
