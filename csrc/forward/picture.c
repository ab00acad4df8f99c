/* The way with one scale for all rows of a picture (N6, act_scale "image"): a layer's input is measured before any of
   it is quantized. So layers follow one another, each in two rounds of work, where forward.c takes several at once. */
#include "../rows/codes.h"
#include "forward.h"

struct step;
typedef const float *input_function(struct run *run, struct scratch *scratch, const struct step *step, size_t token);

/* A layer on its way: input makes the row of a token, twice; the output goes to target. */
struct step {
    const struct refvit_linear *layer;
    size_t tokens;
    input_function *input;
    const float *x;
    const struct refvit_norm *norm;
    const struct refvit_stage *stage;
    struct target target;
    const struct refvit_block *qkv_of; /* or NULL: of no block */
};

void note_range(struct scratch *scratch, size_t count, const float *x)
{
    struct range *range = &scratch->range;
    for (size_t i = 0; i < count; i++) {
        range->low = x[i] < range->low && x[i] >= -FLT_MAX ? x[i] : range->low;
        range->high = x[i] > range->high && x[i] <= FLT_MAX ? x[i] : range->high;
    }
}

/* Scale and zero point of what all threads have measured (N4, N5). */
static void set_scale(const struct run *run, struct scratch *scratch, int bits)
{
    struct codes *codes = &scratch->codes;
    float low = 0.0f, high = 0.0f;
    for (size_t i = 0; i < pool_threads(run->pool); i++) {
        const struct range *range = &run->scratch[i].range;
        low = range->low < low ? range->low : low;
        high = range->high > high ? range->high : high;
    }
    codes->picture_s = run->model->minmax ? scale_from_range(low, high, bits) : scale_from_amax(-low > high ? -low : high, bits);
    codes->picture_zp = run->model->minmax ? zero_point(low, codes->picture_s, bits) : 0;
}

static void measure_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const struct step *step = what;
    const struct chunks chunks = chunks_of(step->tokens, pool_threads(run->pool));
    const size_t m = rows_in(chunks, step->tokens, unit), start = unit * chunks.rows;
    for (size_t i = 0; i < m; i++)
        note_range(scratch, step->layer->k, step->input(run, scratch, step, start + i));
}

static void apply_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const struct step *step = what;
    const struct chunks chunks = chunks_of(step->tokens, pool_threads(run->pool));
    const size_t m = rows_in(chunks, step->tokens, unit), start = unit * chunks.rows;
    struct target target = step->target;
    target.y += start * target.stride;
    if (unit == 0 && step->qkv_of)
        qkv_padding(run, scratch, step->stage, step->qkv_of);
    for (size_t i = 0; i < m; i++)
        quantize_rows(run, step->layer, 1, step->input(run, scratch, step, start + i), &scratch->codes, i);
    if (step->qkv_of)
        qkv_rows(run, scratch, step->stage, step->qkv_of, start, m, run->amax + unit * 3 * step->stage->heads);
    else
        linear(run, scratch, step->layer, m, target, NULL);
}

/* What attention noted of padding counts as measured already. */
static void go(struct run *run, struct scratch *scratch, const struct step *step)
{
    each_chunk(run, scratch, step->tokens, measure_unit, step);
    set_scale(run, scratch, step->layer->act_bits);
    each_chunk(run, scratch, step->tokens, apply_unit, step);
    scratch->range = (struct range){0.0f, 0.0f};
}

static const float *patch_input(struct run *run, struct scratch *scratch, const struct step *step, size_t token)
{
    (void)step;
    gather_patch(run, token, scratch->row);
    return scratch->row;
}

static const float *merge_input(struct run *run, struct scratch *scratch, const struct step *step, size_t token)
{
    merged_row(run, step->stage, token, scratch->row);
    return scratch->row;
}

static const float *norm_input(struct run *run, struct scratch *scratch, const struct step *step, size_t token)
{
    layernorm(run, step->norm, 1, step->layer->k, step->x + token * step->layer->k, scratch->row);
    return scratch->row;
}

static const float *plain_input(struct run *run, struct scratch *scratch, const struct step *step, size_t token)
{
    (void)run, (void)scratch;
    return step->x + token * step->layer->k;
}

static const float *gelu_input(struct run *run, struct scratch *scratch, const struct step *step, size_t token)
{
    note_status(run, run->rows->gelu_values(step->layer->k, step->x + token * step->layer->k, scratch->row));
    return scratch->row;
}

static void end_embedding_unit(struct run *run, struct scratch *scratch, size_t unit, const void *what)
{
    const size_t *patches = what;
    (void)scratch, (void)unit;
    end_embedding(run, 0, *patches);
}

static void embed(struct run *run, struct scratch *scratch)
{
    const struct refvit_model *model = run->model;
    const size_t grid = model->img_size / model->patch_size, patches = grid * grid, c = model->embed.n;
    const struct step step = {&model->embed, patches, patch_input, NULL, NULL, NULL,
                              {run->x + model->prefix * c, c, 0, NULL, NULL}, NULL};
    go(run, scratch, &step);
    each(run, scratch, 1, end_embedding_unit, &patches);
}

static void block_forward(struct run *run, struct scratch *scratch, const struct place *place)
{
    const struct refvit_stage *stage = place->stage;
    const struct refvit_block *b = stage->blocks + place->block;
    const size_t t = stage->tokens, c = stage->width;
    const struct step steps[] = {
        {&b->qkv, t, norm_input, run->x, &b->norm1, stage, {run->qkv, 3 * c, 0, NULL, NULL}, b},
        {&b->proj, t, plain_input, run->context, NULL, stage, {run->x, c, 1, b->gamma1, NULL}, NULL},
        {&b->fc1, t, norm_input, run->x, &b->norm2, stage, {run->hidden, stage->hidden, 0, NULL, NULL}, NULL},
        {&b->fc2, t, gelu_input, run->hidden, NULL, stage, {run->x, c, 1, b->gamma2, NULL}, NULL},
    };
    go(run, scratch, steps);
    attention(run, scratch, place);
    for (size_t i = 1; i < 4; i++)
        go(run, scratch, steps + i);
}

static void merge(struct run *run, struct scratch *scratch, const struct refvit_stage *stage)
{
    const struct step step = {stage->merge, stage->tokens, merge_input, NULL, NULL, stage,
                              {run->other, stage->width, 0, NULL, NULL}, NULL};
    go(run, scratch, &step);
    each(run, scratch, 1, swap_maps, NULL);
}

void picture_forward(struct run *run, struct scratch *scratch)
{
    const struct refvit_model *model = run->model;
    embed(run, scratch);
    for (size_t i = 0; i < model->stage_count; i++) {
        const struct refvit_stage *stage = model->stages + i;
        if (stage->merge)
            merge(run, scratch, stage);
        for (size_t block = 0; block < stage->depth; block++) {
            const struct place place = {stage, block};
            block_forward(run, scratch, &place);
        }
    }
    scratch->codes.picture_s = 0.0f; /* the head reads one row */
}
