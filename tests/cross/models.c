/* The whole forward pass of the models of models.h, which is generated from engines in Python, by every backend on one
   thread and on three. */
#include <stdlib.h>

#include "check.h"
#include "models.h"

#define ALIGN 64

static void forward(int backend, size_t threads, const struct model_case *model, struct record *record)
{
    struct refvit_pool *pool = refvit_pool_new(threads);
    const size_t size = refvit_work_size(model->model, backend, threads);
    uint8_t *memory = malloc(size + ALIGN), *work = memory + ALIGN - (uintptr_t)memory % ALIGN;
    float *logits = malloc(model->images * model->model->classes * sizeof *logits);
    if (!pool || !memory || !logits)
        exit(1);
    const int status = refvit_forward(model->model, backend, pool, model->images, model->u8, NULL, logits, work, size);
    note(record, (uint32_t)status);
    note_floats(record, model->images * model->model->classes, logits);
    refvit_pool_free(pool);
    free(memory);
    free(logits);
}

/* The shape is used for the number of the model alone. */
static void model_case(int backend, const struct shape *shape, struct record *record)
{
    forward(backend, shape->m, model_cases + shape->n, record);
}

void check_models(struct sha256 *sha)
{
    for (size_t i = 0; i < MODELS; i++)
        for (size_t threads = 1; threads <= 3; threads += 2)
            on_every_backend(sha, "forward", model_case, &(struct shape){.m = threads, .n = i});
}
