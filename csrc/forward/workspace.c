/* Where the buffers of a run lie in the one block of memory that its caller gives. */
#include "forward.h"

/* The largest sizes over all layers and stages. */
struct extent {
    size_t k, rows, width, hidden, all_hidden, window, head, amax, qkv, map, columns;
};

static void raise_to(size_t *size, size_t value)
{
    *size = value > *size ? value : *size;
}

static struct extent measure(const struct refvit_model *model, size_t threads, size_t panel_cols)
{
    const size_t grid = model->img_size / model->patch_size;
    struct extent e = {.columns = panel_cols};
    raise_to(&e.k, model->embed.k);
    raise_to(&e.rows, chunks_of(grid * grid, threads).rows);
    for (size_t i = 0; i < model->stage_count; i++) {
        const struct refvit_stage *stage = model->stages + i;
        const struct chunks chunks = chunks_of(stage->tokens, threads);
        raise_to(&e.k, stage->width > stage->hidden ? stage->width : stage->hidden);
        raise_to(&e.k, stage->merge ? stage->merge->k : 0);
        raise_to(&e.rows, chunks.rows);
        raise_to(&e.width, stage->width);
        raise_to(&e.map, stage->tokens * stage->width);
        raise_to(&e.qkv, (stage->tokens + 1) * 3 * stage->width);
        raise_to(&e.hidden, chunks.rows * stage->hidden);
        raise_to(&e.all_hidden, stage->tokens * stage->hidden);
        raise_to(&e.window, stage->window);
        raise_to(&e.head, stage->width / stage->heads);
        raise_to(&e.amax, (chunks.count + 1) * 3 * stage->heads);
    }
    raise_to(&e.columns, e.window > e.head ? e.window : e.head);
    return e;
}

/* The next `bytes` of the block. */
static void *take(uint8_t *base, size_t *used, size_t bytes)
{
    void *at = base ? base + *used : NULL;
    *used += padded(bytes);
    return at;
}

static struct codes take_codes(uint8_t *base, size_t *used, size_t rows, size_t k)
{
    struct codes codes = {.picture_s = 0.0f};
    codes.q = take(base, used, rows * padded(k));
    codes.s = take(base, used, rows * sizeof *codes.s);
    codes.zp = take(base, used, rows * sizeof *codes.zp);
    return codes;
}

static struct scratch take_scratch(uint8_t *base, size_t *used, const struct extent *e, size_t panel_cols)
{
    const size_t widest = e->window > e->head ? e->window : e->head, panels = widest + panel_cols;
    const size_t widest_row = e->k > e->window ? e->k : e->window;
    const size_t rows = e->rows > BLOCK_ROWS ? e->rows : BLOCK_ROWS;
    struct scratch s = {.codes = take_codes(base, used, rows, e->k)};
    s.panel = take(base, used, padded(e->k) * panel_cols);
    s.planes = take(base, used, rows * padded(e->k));
    s.acc = take(base, used, (BLOCK_ROWS * e->columns + rows * PANEL_COLS) * sizeof *s.acc);
    s.init = take(base, used, rows * sizeof *s.init);
    s.row = take(base, used, widest_row * sizeof *s.row);
    s.room = take(base, used, STEP_ROWS * widest_row * sizeof *s.room);
    s.hidden = take(base, used, e->hidden * sizeof *s.hidden);
    s.columns = take(base, used, 3 * e->width * sizeof *s.columns);
    s.query = take(base, used, BLOCK_ROWS * padded(e->head));
    s.prob = take(base, used, BLOCK_ROWS * padded(e->window));
    s.key = take(base, used, e->window * e->head);
    s.key_panels = take(base, used, panels * padded(e->head));
    s.value_panels = take(base, used, panels * padded(e->window));
    s.scores = take(base, used, BLOCK_ROWS * e->window * sizeof *s.scores);
    s.filled = take(base, used, e->head * sizeof *s.filled);
    return s;
}

/* What attention in float needs besides. */
static void take_float_attention(struct scratch *s, uint8_t *base, size_t *used, const struct extent *e)
{
    s->queries = take(base, used, BLOCK_ROWS * e->head * sizeof *s->queries);
    s->keys = take(base, used, e->window * e->head * sizeof *s->keys);
    s->values = take(base, used, e->window * e->head * sizeof *s->values);
}

size_t lay_out(struct run *run, const struct refvit_model *model, size_t threads, uint8_t *base)
{
    const struct extent e = measure(model, threads, run->dot->cols);
    size_t used = 0;
    run->scratch = take(base, &used, threads * sizeof *run->scratch);
    run->x = take(base, &used, e.map * sizeof *run->x);
    run->other = take(base, &used, model->stage_count > 1 ? e.map * sizeof *run->other : 0);
    run->qkv = take(base, &used, e.qkv * sizeof *run->qkv);
    run->context = take(base, &used, e.map * sizeof *run->context);
    run->amax = take(base, &used, e.amax * sizeof *run->amax);
    run->hidden = take(base, &used, model->per_image ? e.all_hidden * sizeof *run->hidden : 0);
    run->pooled = take(base, &used, model->pool ? PARTIAL_SUMS * e.width * sizeof *run->pooled : 0);
    for (size_t i = 0; i < threads; i++) {
        struct scratch scratch = take_scratch(base, &used, &e, run->dot->cols);
        if (model->float_attention)
            take_float_attention(&scratch, base, &used, &e);
        if (base)
            run->scratch[i] = scratch;
    }
    return used;
}
