/* What the files of the forward pass share. Letters: m rows of a chunk, T tokens, C width, H heads, D width of a head.

   A chunk of tokens goes through everything that works row by row without meeting another: norm, quantize, product,
   GELU, residual. Chunks meet at attention, which needs all tokens of a window. So a block is two rounds of work. */
#ifndef REFVIT_FORWARD_H
#define REFVIT_FORWARD_H

#include "dot.h"
#include "exact.h"
#include "pool.h"
#include "steps.h"

#define CHUNK_ROWS 200 /* of tokens, at most: a panel is decoded once for all of them */
#define BLOCK_ROWS 24  /* rows whose accumulators stay in the first cache */
#define TILE_ROWS 6

/* Rows as codes, with what the end of the product needs of each (N4, N6). */
struct codes {
    int8_t *q; /* [m][k padded], zeros beyond k */
    float *s;
    int32_t *zp;
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

void note_status(struct run *run, int status);

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

/* Largest |q|, |k|, |v| of each column [3 C] -> of each head, amax [3 H]. */
void heads_amax(const struct run *run, const struct refvit_stage *stage, const float *columns, float *amax);

/* Carve the buffers out of `base`, or only count where that is NULL.  -> bytes */
size_t lay_out(struct run *run, const struct refvit_model *model, size_t threads, uint8_t *base);

#endif
