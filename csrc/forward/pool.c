/* POSIX threads that sleep between runs and spin, briefly, at the barriers within one. */
#define _POSIX_C_SOURCE 200809L

#include "pool.h"

#include <stdlib.h>

#if !defined(REFVIT_NO_THREADS)
#include <pthread.h>
#include <sched.h>
#endif

#define SPINS 2000 /* looks at a barrier before the core is offered to others */

struct refvit_pool {
    size_t threads, next, arrived, generation; /* the last three are shared and only touched atomically */
#if !defined(REFVIT_NO_THREADS)
    pthread_mutex_t mutex;
    pthread_cond_t start;
    size_t runs; /* under the mutex, as what follows */
    int ending;
    void (*work)(void *argument, size_t thread);
    void *argument;
    struct worker {
        struct refvit_pool *pool;
        size_t index;
        pthread_t thread;
    } workers[];
#endif
};

typedef char the_pool_fits[sizeof(struct refvit_pool) <= sizeof(struct pool_room) ? 1 : -1];

struct refvit_pool *pool_alone(struct pool_room *room)
{
    struct refvit_pool *pool = (struct refvit_pool *)room;
    pool->next = pool->arrived = pool->generation = 0;
    pool->threads = 1;
    return pool;
}

size_t pool_threads(const struct refvit_pool *pool)
{
    return pool->threads;
}

#if !defined(REFVIT_NO_THREADS)

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct refvit_pool *pool = self->pool;
    size_t seen = 0;
    for (;;) {
        pthread_mutex_lock(&pool->mutex);
        while (pool->runs == seen && !pool->ending)
            pthread_cond_wait(&pool->start, &pool->mutex);
        const int ending = pool->ending;
        seen = pool->runs;
        pthread_mutex_unlock(&pool->mutex);
        if (ending)
            return NULL;
        pool->work(pool->argument, self->index);
        pool_wait(pool);
    }
}

struct refvit_pool *refvit_pool_new(size_t threads)
{
    const size_t most = (SIZE_MAX - sizeof(struct refvit_pool)) / sizeof(struct worker);
    struct refvit_pool *pool = threads > most ? NULL : calloc(1, sizeof *pool + threads * sizeof *pool->workers);
    if (!pool || pthread_mutex_init(&pool->mutex, NULL)) {
        free(pool);
        return NULL;
    }
    if (pthread_cond_init(&pool->start, NULL)) {
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
        return NULL;
    }
    for (pool->threads = 1; pool->threads < threads; pool->threads++) {
        struct worker *worker = &pool->workers[pool->threads];
        worker->pool = pool;
        worker->index = pool->threads;
        if (pthread_create(&worker->thread, NULL, worker_main, worker)) {
            refvit_pool_free(pool);
            return NULL;
        }
    }
    return pool;
}

void refvit_pool_free(struct refvit_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->ending = 1;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 1; i < pool->threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

void pool_run(struct refvit_pool *pool, void (*work)(void *argument, size_t thread), void *argument)
{
    if (pool->threads > 1) {
        pthread_mutex_lock(&pool->mutex);
        pool->work = work;
        pool->argument = argument;
        pool->runs++;
        __atomic_store_n(&pool->next, 0, __ATOMIC_RELAXED);
        pthread_cond_broadcast(&pool->start);
        pthread_mutex_unlock(&pool->mutex);
    }
    work(argument, 0);
    pool_wait(pool);
}

size_t pool_take(struct refvit_pool *pool)
{
    return __atomic_fetch_add(&pool->next, 1, __ATOMIC_RELAXED);
}

void pool_wait(struct refvit_pool *pool)
{
    const size_t generation = __atomic_load_n(&pool->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&pool->arrived, 1, __ATOMIC_ACQ_REL) == pool->threads) {
        __atomic_store_n(&pool->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&pool->next, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&pool->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    for (size_t looks = 0; __atomic_load_n(&pool->generation, __ATOMIC_ACQUIRE) == generation; looks++)
        if (looks > SPINS)
            sched_yield();
}

#else

struct refvit_pool *refvit_pool_new(size_t threads)
{
    struct refvit_pool *pool = threads == 1 ? calloc(1, sizeof *pool) : NULL;
    if (pool)
        pool->threads = 1;
    return pool;
}

void refvit_pool_free(struct refvit_pool *pool)
{
    free(pool);
}

void pool_run(struct refvit_pool *pool, void (*work)(void *argument, size_t thread), void *argument)
{
    pool->next = 0;
    work(argument, 0);
}

size_t pool_take(struct refvit_pool *pool)
{
    return pool->next++;
}

void pool_wait(struct refvit_pool *pool)
{
    pool->next = 0;
}

#endif
