/* A program that uses the library as its users do: client HOW MODEL PIXELS prints the logits of one picture, as the
   hexadecimal digits of their bits. HOW: map, read, memory (the file's bytes and everything else in blocks of its own), or
   together (four threads open a model each, the first to use the library; four more share one). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "refvit.h"

#if !defined(REFVIT_NO_THREADS)
#include <pthread.h>
#endif

#define TOGETHER 4
#if !defined(REFVIT_NO_THREADS)
#define THREADS 2 /* of a pool */
#else
#define THREADS 1
#endif

static long allocations; /* touched atomically; counted by the linker's --wrap */
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED), __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED), __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED), __real_realloc(old, size);
}

static void check(int status, const char *what, const char *message)
{
    if (status) {
        fprintf(stderr, "%s: %s: %s\n", what, refvit_status_text(status), message);
        exit(1);
    }
}

static uint8_t *bytes_of(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 24);
    *count = file ? fread(bytes, 1, 1 << 24, file) : 0;
    check(!*count, path, "cannot be read");
    fclose(file);
    return bytes;
}

static struct refvit *open_model(const char *how, const char *path)
{
    char message[REFVIT_MESSAGE_BYTES];
    struct refvit *model;
    size_t count, size;
    if (strcmp(how, "memory")) {
        check(refvit_open_file(path, strcmp(how, "read") ? REFVIT_MAP : REFVIT_READ, &model, message), path, message);
        return model;
    }
    const uint8_t *bytes = bytes_of(path, &count);
    check(refvit_memory_size(bytes, count, &size, message), path, message);
    void *memory = malloc(size);
    const long before = allocations;
    check(refvit_open_memory(bytes, count, memory, size, &model, message), path, message);
    check(allocations != before, "open", "allocates though it was given memory");
    return model;
}

struct job {
    const struct refvit *model;
    const uint8_t *pixels;
    size_t pixel_count, classes;
    float *logits;
    int alone;
};

/* Room for the logits of a model that takes such a picture. */
static void prepare(struct job *job, const struct refvit *model)
{
    struct refvit_info info;
    refvit_query(model, &info);
    check(job->pixel_count != info.img_size * info.img_size * 3, "picture", "another size");
    job->model = model;
    job->classes = info.classes;
    job->logits = malloc(info.classes * sizeof *job->logits);
}

static void *run(void *argument)
{
    const struct job *job = argument;
    struct refvit_pool *pool = job->alone ? NULL : refvit_pool_new(THREADS);
    check(!job->alone && !pool, "pool", "none");
    const size_t size = refvit_run_size(job->model, 2);
    uint8_t *room = malloc(size + REFVIT_ALIGN);
    uint8_t *work = room + (REFVIT_ALIGN - (uintptr_t)room % REFVIT_ALIGN);
    const long before = __atomic_load_n(&allocations, __ATOMIC_RELAXED);
    check(refvit_run_pixels(job->model, pool, 1, job->pixels, job->logits, work, size), "run", "");
    check(job->alone && allocations != before, "run", "allocates");
    free(room);
    refvit_pool_free(pool);
    return NULL;
}

#if !defined(REFVIT_NO_THREADS)
static const char *model_path;

static void *open_and_run(void *argument)
{
    struct refvit *model = open_model("map", model_path);
    prepare(argument, model);
    run(argument);
    refvit_close(model);
    return NULL;
}

static void start(pthread_t *threads, struct job *jobs, struct job job, void *(*work)(void *))
{
    for (int i = 0; i < TOGETHER; i++) {
        jobs[i] = job;
        if (job.model)
            prepare(&jobs[i], job.model);
        check(pthread_create(&threads[i], NULL, work, &jobs[i]), "pthread_create", "");
    }
}

static void run_together(struct job *job)
{
    pthread_t threads[2 * TOGETHER];
    struct job jobs[2 * TOGETHER];
    start(threads, jobs, *job, open_and_run);
    struct refvit *model = open_model("read", model_path);
    prepare(job, model);
    start(threads + TOGETHER, jobs + TOGETHER, *job, run);
    for (int i = 0; i < 2 * TOGETHER; i++) {
        pthread_join(threads[i], NULL);
        check(i && memcmp(jobs[0].logits, jobs[i].logits, job->classes * sizeof(float)), "together", "other bits");
    }
    memcpy(job->logits, jobs[0].logits, job->classes * sizeof(float));
    refvit_close(model);
}
#endif

static void run_alone(struct job *job, const char *how, const char *path)
{
    struct refvit *model = open_model(how, path);
    prepare(job, model);
    run(job);
    refvit_close(model);
}

int main(int count, char **arguments)
{
    struct job job = {0};
    check(count != 4, "usage", "client HOW MODEL PIXELS");
    job.pixels = bytes_of(arguments[3], &job.pixel_count);
    job.alone = strcmp(arguments[1], "together");
#if !defined(REFVIT_NO_THREADS)
    model_path = arguments[2];
    if (!job.alone)
        run_together(&job);
    else
#endif
        run_alone(&job, arguments[1], arguments[2]);
    for (size_t i = 0; i < job.classes; i++) {
        uint32_t bits;
        memcpy(&bits, job.logits + i, sizeof bits);
        printf("%08lx\n", (unsigned long)bits);
    }
    return 0;
}
