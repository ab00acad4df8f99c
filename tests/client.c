/* A program that uses the library as its users do: client HOW MODEL PIXELS prints the logits of one picture, as the
   hexadecimal digits of their bits. HOW: map, read, memory (the file's bytes and everything else in blocks of its own), or
   together (four threads on one model). */
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
    float *logits;
    int alone;
};

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

static void run_together(struct job job, size_t classes)
{
#if !defined(REFVIT_NO_THREADS)
    pthread_t threads[TOGETHER];
    struct job jobs[TOGETHER];
    for (int i = 0; i < TOGETHER; i++) {
        jobs[i] = job;
        jobs[i].logits = malloc(classes * sizeof(float));
        check(pthread_create(&threads[i], NULL, run, &jobs[i]), "pthread_create", "");
    }
    for (int i = 0; i < TOGETHER; i++) {
        pthread_join(threads[i], NULL);
        check(i && memcmp(jobs[0].logits, jobs[i].logits, classes * sizeof(float)), "together", "other bits");
    }
    memcpy(job.logits, jobs[0].logits, classes * sizeof(float));
#else
    (void)classes;
    run(&job);
#endif
}

int main(int count, char **arguments)
{
    size_t pixel_count;
    struct refvit_info info;
    check(count != 4, "usage", "client HOW MODEL PIXELS");
    struct refvit *model = open_model(arguments[1], arguments[2]);
    const uint8_t *pixels = bytes_of(arguments[3], &pixel_count);
    refvit_query(model, &info);
    check(pixel_count != info.img_size * info.img_size * 3, arguments[3], "another size");
    float *logits = malloc(info.classes * sizeof *logits);
    struct job job = {model, pixels, logits, strcmp(arguments[1], "together")};
    if (job.alone)
        run(&job);
    else
        run_together(job, info.classes);
    for (size_t i = 0; i < info.classes; i++) {
        uint32_t bits;
        memcpy(&bits, logits + i, sizeof bits);
        printf("%08lx\n", (unsigned long)bits);
    }
    refvit_close(model);
    return 0;
}
