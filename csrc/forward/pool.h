/* The threads of one run: they all execute the same function and meet at barriers. */
#ifndef REFVIT_POOL_H
#define REFVIT_POOL_H

#include <stddef.h>

#include "../refvit.h"

/* Room for a pool of this thread alone, which needs nothing to be given back. */
struct pool_room {
    uint64_t words[32];
};
struct refvit_pool *pool_alone(struct pool_room *room);

/* Run work(argument, thread) on every thread of the pool, this one being thread 0; return when all are done. */
void pool_run(struct refvit_pool *pool, void (*work)(void *argument, size_t thread), void *argument);

/* The next unit of work since the last barrier, counted from 0. */
size_t pool_take(struct refvit_pool *pool);

/* Wait until all threads are here; then units are counted from 0 again. */
void pool_wait(struct refvit_pool *pool);

size_t pool_threads(const struct refvit_pool *pool);

#endif
