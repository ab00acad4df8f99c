/* How the work of a run is cut into units, and shared. */
#include "forward.h"

void note_status(struct run *run, int status)
{
    if (status)
        __atomic_store_n(&run->status, status, __ATOMIC_RELAXED);
}

struct chunks chunks_of(size_t tokens, size_t threads)
{
    size_t count = (tokens + CHUNK_ROWS - 1) / CHUNK_ROWS;
    count = (count + threads - 1) / threads * threads;
    return (struct chunks){count, (tokens + count - 1) / count};
}

size_t rows_in(struct chunks chunks, size_t tokens, size_t chunk)
{
    const size_t start = chunk * chunks.rows;
    return start >= tokens ? 0 : tokens - start < chunks.rows ? tokens - start : chunks.rows;
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
