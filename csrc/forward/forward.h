/* What the files of the forward pass share. Letters: m rows of a chunk, T tokens, C width, H heads, D width of a head.

   A chunk of tokens goes through everything that works row by row without meeting another: norm, quantize, product,
   GELU, residual. Chunks meet at attention, which needs all tokens of a window. So a block is two rounds of work. */
#ifndef REFVIT_FORWARD_H
#define REFVIT_FORWARD_H

#include "../products/dot.h"
#include "../rows/exact.h"
#include "../rows/steps.h"
#include "pool.h"

#define CHUNK_ROWS 200 /* of tokens, at most: a panel is decoded once for all of them */
#define BLOCK_ROWS 24  /* rows whose accumulators stay in the first cache */
#define TILE_ROWS 6

/* Rows as codes, with what the end of the product needs of each (N4, N6). */
struct codes {
    int8_t *q; /* [m][k padded], zeros beyond k */
    float *s;
    int32_t *zp;
    float picture_s; /* scale and zero point of every row of the picture, or 0: each row's own */
    int32_t picture_zp;
};

/* Of values, the finite ones and zero (N5). */
struct range {
    float low, high;
};

/* The buffers of one thread. */
struct scratch {
    struct codes codes;
    uint8_t *panel;
    uint64_t *planes; /* of the codes, for popcount products */
    int32_t *acc;  /* [BLOCK_ROWS][columns], or [m][PANEL_COLS] */
    int32_t *init; /* [m] */
    float *row;    /* one, of any width */
    float *room;   /* STEP_ROWS of them */
    float *hidden; /* [m][hidden] */
    float *columns; /* [3 C], largest |q|, |k|, |v| */
    /* attention */
    int8_t *query, *prob; /* [BLOCK_ROWS][D], [BLOCK_ROWS][T], rows padded */
    int8_t *key; /* [T][D], or values */
    uint8_t *key_panels, *value_panels;
    float *scores; /* [BLOCK_ROWS][T] */
    float *filled; /* [D]: one scale for every column */
    float *queries, *keys, *values; /* of attention in float: [BLOCK_ROWS][D], [T][D], [D][T] */
    struct range range; /* of this thread's part of a layer's input, for a scale of the whole picture */
};

struct run {
    const struct refvit_model *model;
    struct refvit_pool *pool;
    const struct row_kernels *rows;
    const struct step_kernels *steps;
    const struct dot_kernels *dot;
    const struct popcount_kernels *popcount;
    int backend;
    struct scratch *scratch; /* of each thread */
    float *x, *other;        /* [T][C]: the tokens, and room for merged ones */
    float *qkv;              /* [T + 1][3 C], the last for padding */
    float *context;          /* [T][C] */
    float *hidden;           /* [T][hidden], where scales are of the whole picture */
    float *amax;             /* [chunks + 1][3 H] */
    float *pooled;           /* [16][C] */
    const uint8_t *u8;       /* the picture, one of them */
    const float *pixels;
    float *logits;
    int status; /* touched atomically */
};

/* The next block of `count` rows: nearly equal ones, but in whole TILE_ROWS, which tiles of all products divide. */
static inline size_t block_rows(size_t count)
{
    const size_t rows = (even_share(count, BLOCK_ROWS) + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    return rows < count ? rows : count;
}

/* The chunks that `tokens` are cut into. */
struct chunks {
    size_t count, rows;
};

struct chunks chunks_of(size_t tokens, size_t threads);

/* Tokens of a chunk, the last of which may be short or empty. */
size_t rows_in(struct chunks chunks, size_t tokens, size_t chunk);

void note_status(struct run *run, int status);

/* Units of work are taken by whoever is free; all threads meet at the end. */
typedef void unit_function(struct run *run, struct scratch *scratch, size_t unit, const void *what);
void each(struct run *run, struct scratch *scratch, size_t units, unit_function *function, const void *what);
void each_chunk(struct run *run, struct scratch *scratch, size_t tokens, unit_function *function, const void *what);

/* A block, and what of the way belongs to it. */
struct place {
    const struct refvit_stage *stage;
    size_t block;
};

/* Parts of the way that both schedules, forward.c's and picture.c's, go. */
void layernorm(struct run *run, const struct refvit_norm *norm, size_t rows, size_t width, const float *x, float *y);
void gather_patch(const struct run *run, size_t patch, float *row);
void end_embedding(struct run *run, size_t start, size_t patches);
void merged_row(struct run *run, const struct refvit_stage *stage, size_t token, float *row);
void swap_maps(struct run *run, struct scratch *scratch, size_t unit, const void *what);
void qkv_rows(struct run *run, struct scratch *scratch, const struct refvit_stage *stage, const struct refvit_block *block,
              size_t start, size_t m, float *amax);
void qkv_padding(struct run *run, struct scratch *scratch, const struct refvit_stage *stage, const struct refvit_block *block);
void attention(struct run *run, struct scratch *scratch, const struct place *place);

/* The way from pixels to the last stage's tokens with one scale for each layer's input in the whole picture (N6). */
void picture_forward(struct run *run, struct scratch *scratch);

void note_range(struct scratch *scratch, size_t count, const float *x);

/* Where a layer's output goes: y [m][n], rows `stride` apart, or added to y, times gamma unless that is NULL. */
struct target {
    float *y;
    size_t stride;
    int add;
    const float *gamma;
    float *amax; /* [n], raised to the largest |y| of each column unless that is NULL */
};

/* Codes of `rows` rows x of a layer's input, side by side, as those from row `row` on of the codes (N4, N5, N6). */
void quantize_rows(struct run *run, const struct refvit_linear *layer, size_t rows, const float *x, struct codes *codes,
                   size_t row);

/* The same of gelu(x) [m][k], all rows of scratch->codes; x may be overwritten. */
void quantize_gelu(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m, float *x);

/* The layer's output for the m rows of scratch->codes (N6, N7, N8). The weights of the layer after it, or NULL, begin
   to come into the cache. */
void linear(struct run *run, struct scratch *scratch, const struct refvit_linear *layer, size_t m, struct target target,
            const struct refvit_linear *after);

/* Attention of `part` of `parts` of a window's rows for one head (N10). */
void attend(struct run *run, struct scratch *scratch, const struct refvit_stage *stage,
            const struct refvit_block *block, size_t window, size_t head, size_t part, size_t parts);

/* The same in float. */
void attend_float(struct run *run, struct scratch *scratch, const struct refvit_stage *stage,
                  const struct refvit_block *block, size_t window, size_t head, size_t part, size_t parts);

/* The row of qkv that holds token `token` of a window; that of padding is the last. */
static inline size_t row_of(const struct refvit_stage *stage, const int32_t *rows, size_t token)
{
    return !rows ? token : rows[token] < 0 ? stage->tokens : (size_t)rows[token];
}

/* Largest |q|, |k|, |v| of each column [3 C] -> of each head, amax [3 H]. */
void heads_amax(const struct run *run, const struct refvit_stage *stage, const float *columns, float *amax);

/* Carve the buffers out of `base`, or only count where that is NULL.  -> bytes */
size_t lay_out(struct run *run, const struct refvit_model *model, size_t threads, uint8_t *base);

#endif
