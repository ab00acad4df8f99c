/* How the work of a run is cut into units, and shared. */
#include "forward.h"

void note_status(struct run *run, int status)
{
    if (status)
        __atomic_store_n(&run->status, status, __ATOMIC_RELAXED);
}

/* a / b, rounded up. */
static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

struct chunks chunks_of(size_t tokens, size_t threads)
{
    const size_t count = ceil_div(ceil_div(tokens, CHUNK_ROWS), threads) * threads;
    return (struct chunks){count, ceil_div(tokens, count)};
}

size_t rows_in(struct chunks chunks, size_t tokens, size_t chunk)
{
    const size_t start = chunk * chunks.rows;
    return smaller(tokens, start + chunks.rows) - smaller(tokens, start);
}

void each(struct run *run, struct scratch *scratch, size_t units, unit_function *function, const void *what)
{
    for (size_t unit = pool_take(run->pool); unit < units; unit = pool_take(run->pool))
        function(run, scratch, unit, what);
    pool_wait(run->pool);
}

void each_chunk(struct run *run, struct scratch *scratch, size_t tokens, unit_function *function, const void *what)
{
    each(run, scratch, chunks_of(tokens, pool_threads(run->pool)).count, function, what);
}
