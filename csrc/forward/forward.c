/* The whole forward pass in integers, from pixels to logits: the way of refvit/vit.py and swin.py as engine.py walks it.

   Every thread runs `image`; units of work between two barriers are taken by whoever is free. Results do not depend on
   threads, for every unit writes its own rows. */
#include "forward.h"

#include <string.h>

#include "../fpenv.h"

void layernorm(struct run *run, const struct refvit_norm *norm, size_t rows, size_t width, const float *x, float *y)
{
    note_status(run, run->rows->layernorm(rows, width, x, norm->weight, norm->bias, run->model->eps, y));
}

/* Codes of norm(x) [m][width], the input of a layer. */
static void quantize_normed(struct run *run, struct scratch *scratch, const struct refvit_norm *norm,
                            const struct refvit_linear *layer, size_t m, const float *x)
{
    for (size_t i = 0; i < m; i += STEP_ROWS) {
        const size_t rows = m - i < STEP_ROWS ? m - i : STEP_ROWS;
        layernorm(run, norm, rows, layer->k, x + i * layer->k, scratch->room);
        quantize_rows(run, layer, rows, scratch->room, &scratch->codes, i);
    }
}

/* A patch as a row: channel, row, column, as in a convolution's weight. */
void gather_patch(const struct run *run, size_t patch, float *row)
{
    const struct refvit_model *model = run->model;
    const size_t side = model->img_size, p = model->patch_size, channels = model->channels, grid = side / p;
    const size_t top = patch / grid * p, left = patch % grid * p;
    for (size_t c = 0; c < channels; c++) {
        for (size_t y = top; y < top + p; y++, row += p) {
            if (run->u8) {
                const uint8_t *from = run->u8 + (y * side + left) * channels + c;
                for (size_t x = 0; x < p; x++)
                    row[x] = model->pixels[c * 256 + from[x * channels]];
            } else {
                memcpy(row, run->pixels + (c * side + y) * side + left, p * sizeof *row);
            }
        }
    }
}

/* What follows the product: prefix tokens, norm, positions. */
void end_embedding(struct run *run, size_t start, size_t patches)
{
    const struct refvit_model *model = run->model;
    const size_t c = model->embed.n;
    float *x = run->x + (model->prefix + start) * c;
    if (start == 0 && model->prefix)
        memcpy(run->x, model->prefix_rows, model->prefix * c * sizeof *x);
    if (model->embed_norm)
        layernorm(run, model->embed_norm, patches, c, x, x);
    for (size_t i = 0; model->positions && i < patches * c; i++)
        x[i] += model->positions[start * c + i];
}

static void embed_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const struct refvit_model *model = run->model;
    const size_t grid = model->img_size / model->patch_size, patches = grid * grid, c = model->embed.n;
    const struct chunks chunks = chunks_of(patches, pool_threads(run->pool));
    const size_t m = rows_in(chunks, patches, unit), start = unit * chunks.rows;
    float *x = run->x + (model->prefix + start) * c;
    (void)what;
    for (size_t i = 0; i < m; i++) {
        gather_patch(run, start + i, scratch->row);
        quantize_rows(run, &model->embed, 1, scratch->row, &scratch->codes, i);
    }
    linear(run, scratch, &model->embed, m, (struct target){x, c, 0, NULL, NULL}, &model->stages->blocks->qkv);
    end_embedding(run, start, m);
}

/* Four neighbours, (0, 0), (1, 0), (0, 1), (1, 1) as (row, column), become one row; beyond the map there are zeros. */
static void gather_neighbours(const struct run *run, size_t side, size_t c, size_t token, float *row)
{
    const size_t half = (side + 1) / 2;
    for (size_t i = 0; i < 4; i++, row += c) {
        const size_t y = 2 * (token / half) + i % 2, x = 2 * (token % half) + i / 2;
        if (y < side && x < side)
            memcpy(row, run->x + (y * side + x) * c, c * sizeof *row);
        else
            memset(row, 0, c * sizeof *row);
    }
}

/* The input of patch merging: four neighbours of the map before, normalised. */
void merged_row(struct run *run, const struct refvit_stage *stage, size_t token, float *row)
{
    const struct refvit_stage *before = stage - 1;
    gather_neighbours(run, before->side, before->width, token, row);
    layernorm(run, stage->merge_norm, 1, 4 * before->width, row, row);
}

static void merge_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const struct refvit_stage *stage = what;
    const struct chunks chunks = chunks_of(stage->tokens, pool_threads(run->pool));
    const size_t m = rows_in(chunks, stage->tokens, unit), start = unit * chunks.rows;
    for (size_t i = 0; i < m; i++) {
        merged_row(run, stage, start + i, scratch->row);
        quantize_rows(run, stage->merge, 1, scratch->row, &scratch->codes, i);
    }
    linear(run, scratch, stage->merge, m,
           (struct target){run->other + start * stage->width, stage->width, 0, NULL, NULL}, &stage->blocks->qkv);
}

/* m rows of qkv from row `start` on, of scratch->codes, and the largest |q|, |k|, |v| of each head among them. */
void qkv_rows(struct run *run, struct scratch *scratch, const struct refvit_stage *stage, const struct refvit_block *block,
              size_t start, size_t m, float *amax)
{
    const size_t n = 3 * stage->width;
    memset(scratch->columns, 0, n * sizeof *scratch->columns);
    linear(run, scratch, &block->qkv, m, (struct target){run->qkv + start * n, n, 0, NULL, scratch->columns},
           &block->proj);
    heads_amax(run, stage, scratch->columns, amax);
}

/* The row of padding, where there is any: a token of zeros, after the norm. */
void qkv_padding(struct run *run, struct scratch *scratch, const struct refvit_stage *stage, const struct refvit_block *block)
{
    const size_t c = stage->width, rows = stage->windows * stage->window > stage->tokens;
    memset(scratch->row, 0, c * sizeof *scratch->row);
    quantize_rows(run, &block->qkv, 1, scratch->row, &scratch->codes, 0);
    qkv_rows(run, scratch, stage, block, stage->tokens, rows,
             run->amax + chunks_of(stage->tokens, pool_threads(run->pool)).count * 3 * stage->heads);
}

/* qkv(norm1(x)) of a chunk. */
static void qkv_chunk(struct run *run, struct scratch *scratch, const struct refvit_stage *stage,
                      const struct refvit_block *block, size_t unit)
{
    const struct chunks chunks = chunks_of(stage->tokens, pool_threads(run->pool));
    const size_t m = rows_in(chunks, stage->tokens, unit), start = unit * chunks.rows, c = stage->width;
    if (unit == 0)
        qkv_padding(run, scratch, stage, block);
    quantize_normed(run, scratch, &block->norm1, &block->qkv, m, run->x + start * c);
    qkv_rows(run, scratch, stage, block, start, m, run->amax + unit * 3 * stage->heads);
}

/* x += proj(context), then x += fc2(gelu(fc1(norm2(x)))), of a chunk. */
static void mlp_chunk(struct run *run, struct scratch *scratch, const struct refvit_stage *stage,
                      const struct refvit_block *block, size_t unit)
{
    const struct chunks chunks = chunks_of(stage->tokens, pool_threads(run->pool));
    const size_t m = rows_in(chunks, stage->tokens, unit), start = unit * chunks.rows, c = stage->width;
    float *x = run->x + start * c;
    quantize_rows(run, &block->proj, m, run->context + start * c, &scratch->codes, 0);
    linear(run, scratch, &block->proj, m, (struct target){x, c, 1, block->gamma1, NULL}, &block->fc1);
    quantize_normed(run, scratch, &block->norm2, &block->fc1, m, x);
    linear(run, scratch, &block->fc1, m, (struct target){scratch->hidden, block->fc1.n, 0, NULL, NULL}, &block->fc2);
    quantize_gelu(run, scratch, &block->fc2, m, scratch->hidden);
    linear(run, scratch, &block->fc2, m, (struct target){x, c, 1, block->gamma2, NULL},
           block + 1 < stage->blocks + stage->depth ? &block[1].qkv : NULL);
}

/* The end of one block and the beginning of the next: both work on the same tokens alone. */
static void rows_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const struct place *place = what;
    const struct refvit_stage *stage = place->stage;
    if (place->block > 0)
        mlp_chunk(run, scratch, stage, stage->blocks + place->block - 1, unit);
    if (place->block < stage->depth)
        qkv_chunk(run, scratch, stage, stage->blocks + place->block, unit);
}

/* A window and head are cut only where there is one window: with many, there is enough to share. */
static size_t attention_parts(const struct run *run, const struct refvit_stage *stage)
{
    return stage->windows == 1 && stage->heads % pool_threads(run->pool) ? pool_threads(run->pool) : 1;
}

static void attention_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const struct place *place = what;
    const struct refvit_stage *stage = place->stage;
    const size_t parts = attention_parts(run, stage), head = unit / parts % stage->heads;
    (run->model->float_attention ? attend_float : attend)(run, scratch, stage, stage->blocks + place->block,
                                                          unit / parts / stage->heads, head, unit % parts, parts);
}

void attention(struct run *run, struct scratch *scratch, const struct place *place)
{
    const struct refvit_stage *stage = place->stage;
    each(run, scratch, stage->windows * stage->heads * attention_parts(run, stage), attention_unit, place);
}

void swap_maps(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    float *x = run->x;
    (void)scratch, (void)unit, (void)what;
    run->x = run->other;
    run->other = x;
}

static void stage_forward(struct run *run, struct scratch *scratch, const struct refvit_stage *stage)
{
    if (stage->merge) {
        each_chunk(run, scratch, stage->tokens, merge_unit, stage);
        each(run, scratch, 1, swap_maps, NULL);
    }
    for (size_t i = 0; i <= stage->depth; i++) {
        const struct place place = {stage, i};
        each_chunk(run, scratch, stage->tokens, rows_unit, &place);
        if (i < stage->depth)
            attention(run, scratch, &place);
    }
}

/* Mean over the tokens, summed by 16 partial sums, then a tree (N9).  -> scratch->row [C] */
static void mean_of_tokens(struct run *run, struct scratch *scratch, const struct refvit_stage *stage)
{
    const size_t c = stage->width;
    memset(run->pooled, 0, PARTIAL_SUMS * c * sizeof *run->pooled);
    for (size_t i = 0; i < stage->tokens; i++) {
        layernorm(run, &run->model->norm, 1, c, run->x + i * c, scratch->row);
        for (size_t j = 0; j < c; j++)
            run->pooled[i % PARTIAL_SUMS * c + j] += scratch->row[j];
    }
    for (size_t half = PARTIAL_SUMS / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half * c; j++)
            run->pooled[j] += run->pooled[half * c + j];
    for (size_t j = 0; j < c; j++)
        scratch->row[j] = run->pooled[j] / (float)stage->tokens;
}

static void head_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const struct refvit_model *model = run->model;
    const struct refvit_stage *last = model->stages + model->stage_count - 1;
    (void)unit, (void)what;
    for (size_t i = 0; i < model->head_count; i++) {
        if (model->pool)
            mean_of_tokens(run, scratch, last);
        else
            layernorm(run, &model->norm, 1, last->width, run->x + i * last->width, scratch->row);
        quantize_rows(run, &model->heads[i], 1, scratch->row, &scratch->codes, 0);
        linear(run, scratch, &model->heads[i], 1, (struct target){run->logits, model->classes, i > 0, NULL, NULL},
               NULL);
    }
    for (size_t j = 0; model->head_count > 1 && j < model->classes; j++)
        run->logits[j] *= 0.5f;
}

static void rows_forward(struct run *run, struct scratch *scratch)
{
    const struct refvit_model *model = run->model;
    const size_t grid = model->img_size / model->patch_size;
    each_chunk(run, scratch, grid * grid, embed_unit, NULL);
    for (size_t i = 0; i < model->stage_count; i++)
        stage_forward(run, scratch, model->stages + i);
}

static void image(void *argument, size_t thread)
{
    struct run *run = argument;
    struct scratch *scratch = run->scratch + thread;
    const fp_env saved = fp_enter();
    (run->model->per_image ? picture_forward : rows_forward)(run, scratch);
    each(run, scratch, 1, head_unit, NULL);
    fp_leave(saved);
}

size_t refvit_work_size(const struct refvit_model *model, int backend, size_t threads)
{
    struct run run = {.model = model, .dot = dot_kernels(backend)};
    return usable(backend) && threads ? lay_out(&run, model, threads, NULL) : 0;
}

int refvit_forward(const struct refvit_model *model, int backend, struct refvit_pool *pool, size_t images,
                   const uint8_t *u8, const float *x, float *logits, void *work, size_t work_size)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    struct pool_room room;
    pool = pool ? pool : pool_alone(&room);
    struct run run = {.model = model, .pool = pool};
    run.rows = row_kernels(backend);
    run.steps = step_kernels(backend);
    run.dot = dot_kernels(backend);
    run.popcount = popcount_kernels(backend);
    run.backend = backend;
    if (work_size < refvit_work_size(model, backend, pool_threads(pool)) || (uintptr_t)work % DOT_ALIGN)
        return REFVIT_BAD_SIZE;
    lay_out(&run, model, pool_threads(pool), work);
    const size_t pixels = model->img_size * model->img_size * model->channels;
    for (size_t i = 0; i < images; i++) {
        run.u8 = u8 ? u8 + i * pixels : NULL;
        run.pixels = u8 ? NULL : x + i * pixels;
        run.logits = logits + i * model->classes;
        pool_run(pool, image, &run);
    }
    return run.status;
}
