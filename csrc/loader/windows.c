/* What a block of Swin needs besides its weights: which tokens a window holds, the mask, biases of positions (SPEC section
   3): twins of refvit/window.py. */
#include <stdio.h>

#include "loader.h"

#define MASKED -100.0f /* N10 */

const int32_t *window_rows(struct builder *b, const struct geometry *g, size_t shift)
{
    const size_t side = g->side, window = g->window, across = g->across, wide = across * window;
    int32_t *rows = arena_take(&b->arena, wide, wide, sizeof *rows);
    for (size_t i = 0; rows && i < wide * wide; i++) {
        const size_t number = i / (window * window), token = i % (window * window);
        const size_t y = (number / across * window + token / window + shift) % wide;
        const size_t x = (number % across * window + token % window + shift) % wide;
        rows[i] = y < side && x < side ? (int32_t)(y * side + x) : -1;
    }
    return rows;
}

/* Of a position on an axis of the rolled map: up to the last window, the part of it that stays, the part rolled in. */
static int region(size_t position, size_t wide, size_t window, size_t shift)
{
    return (position >= wide - window) + (position >= wide - shift);
}

const float *window_mask(struct builder *b, const struct geometry *g, size_t shift)
{
    const size_t window = g->window, across = g->across, wide = across * window, t = window * window;
    float *mask = arena_take(&b->arena, wide * wide, t, sizeof *mask);
    for (size_t i = 0; mask && i < wide * wide * t; i++) {
        const size_t top = i / (t * t) / across * window, left = i / (t * t) % across * window;
        const size_t first = i / t % t, second = i % t;
        const int rows = region(top + first / window, wide, window, shift) == region(top + second / window, wide, window, shift);
        const int columns = region(left + first % window, wide, window, shift) == region(left + second % window, wide, window, shift);
        mask[i] = rows && columns ? 0.0f : MASKED;
    }
    return mask;
}

const float *window_bias(struct builder *b, const char *block, size_t window, size_t heads)
{
    const size_t t = window * window, span = 2 * window - 1;
    const float *table = take_floats(b, block, ".attn.relative_position_bias_table", 2, (uint64_t[]){span * span, heads});
    float *bias = arena_take(&b->arena, heads, t * t, sizeof *bias);
    for (size_t i = 0; table && bias && i < heads * t * t; i++) {
        const size_t first = i / t % t, second = i % t;
        const size_t dy = first / window + window - 1 - second / window, dx = first % window + window - 1 - second % window;
        bias[i] = table[(dy * span + dx) * heads + i / (t * t)];
    }
    return bias;
}
