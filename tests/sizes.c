/* Numbers that no logits of a test show: sizes that overflow, the cut into chunks for any number of threads, the mask. */
#include <stdio.h>

#include "../csrc/forward/forward.h"
#include "../csrc/loader/loader.h"

static int failures;

static void expect(int condition, const char *what, size_t a, size_t b)
{
    if (!condition)
        printf("%s: %zu, %zu\n", what, a, b);
    failures += !condition;
}

static void check_arena(void)
{
    static uint8_t block[4 * REFVIT_ALIGN];
    static const struct {
        size_t used, a, b, bytes;
    } endless[] = {{0, SIZE_MAX, 2, 1},
                   {0, SIZE_MAX / 8 + 1, 1, 8},
                   {0, 1, SIZE_MAX / 2, 3},
                   {0, SIZE_MAX, 1, 1},
                   {128, SIZE_MAX - 127, 1, 1},
                   {SIZE_MAX, 1, 1, 1},
                   {SIZE_MAX, 0, 1, 1}};
    struct arena arena = {block, 0};
    expect(arena_take(&arena, 1, REFVIT_ALIGN, 1) == block && arena.used == REFVIT_ALIGN, "one piece", arena.used, 0);
    expect(arena_take(&arena, 3, 5, 4) == block + REFVIT_ALIGN && arena.used == 2 * REFVIT_ALIGN, "60 bytes", arena.used, 0);
    expect(arena_take(&arena, 13, 5, 1) == block + 2 * REFVIT_ALIGN && arena.used == 4 * REFVIT_ALIGN, "65 bytes", arena.used, 0);
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        arena.used = endless[i].used;
        expect(!arena_take(&arena, endless[i].a, endless[i].b, endless[i].bytes) && arena.used == SIZE_MAX, "endless", i, arena.used);
    }
    arena = (struct arena){NULL, 0};
    expect(!arena_take(&arena, SIZE_MAX / 4 - REFVIT_ALIGN, 1, 4) && arena.used != SIZE_MAX, "large", arena.used, 0);
}

static void check_chunks(size_t tokens, size_t threads)
{
    const struct chunks chunks = chunks_of(tokens, threads);
    size_t sum = 0;
    for (size_t i = 0; i < chunks.count; i++) {
        expect(rows_in(chunks, tokens, i) == 0 || sum == i * chunks.rows, "a gap", tokens, threads);
        expect(rows_in(chunks, tokens, i) <= chunks.rows, "a long chunk", tokens, threads);
        sum += rows_in(chunks, tokens, i);
    }
    expect(sum == tokens, "tokens in chunks", tokens, threads);
    expect(chunks.count % threads == 0 && (chunks.count - threads) * CHUNK_ROWS < tokens, "chunks", tokens, threads);
    expect(chunks.rows <= CHUNK_ROWS && (chunks.rows - 1) * chunks.count < tokens, "rows of a chunk", tokens, threads);
}

/* 2 x 2 windows of 2 x 2 tokens, shifted by one: 0 where both tokens are of one part of the map, else -100 (N10). */
static void check_mask(void)
{
    static float block[64];
    const struct geometry geometry = {.side = 4, .window = 2, .across = 2};
    struct builder builder = {.arena = {(uint8_t *)block, 0}};
    const float *mask = window_mask(&builder, &geometry, 1);
    for (size_t i = 0; i < 64; i++) {
        const size_t window = i / 16, differs = i / 4 % 4 ^ i % 4; /* bit 0: in column, bit 1: in row */
        expect(mask[i] == (window & differs ? -100.0f : 0.0f), "mask", window, i);
    }
}

int main(void)
{
    check_arena();
    check_mask();
    for (size_t tokens = 1; tokens < 2000; tokens++)
        for (size_t threads = 1; threads < 9; threads++)
            check_chunks(tokens, threads);
    return failures > 0;
}
