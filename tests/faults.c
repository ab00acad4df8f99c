/* Every n-th call of the library into the system fails: faults FILE. What it took is counted against what it gave back. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "refvit.h"

#define MOST 100000 /* calls of one job; none comes near */

static long calls, fails, held; /* held: what was taken and not given back; only this thread counts */
static int code;                /* errno of the failure */
static size_t most_read = SIZE_MAX;

static int fail(void)
{
    if (++calls != fails)
        return 0;
    errno = code;
    return 1;
}

static void *take(void *got)
{
    held += got != NULL;
    return got;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __real_free(void *block);
void __wrap_free(void *block);
void *__real_mmap(void *at, size_t size, int access, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, size_t size, int access, int flags, int file, off_t offset);
int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_close(int file);
int __wrap_close(int file);
int __real_stat(const char *path, struct stat *status);
int __wrap_stat(const char *path, struct stat *status);
int __real_fstat(int file, struct stat *status);
int __wrap_fstat(int file, struct stat *status);
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_fclose(FILE *file);
int __wrap_fclose(FILE *file);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*work)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*work)(void *), void *argument);
int __real_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result);
int __real_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *how);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *how);
int __real_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __real_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *how);
int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *how);
int __real_pthread_cond_destroy(pthread_cond_t *condition);
int __wrap_pthread_cond_destroy(pthread_cond_t *condition);

void *__wrap_malloc(size_t size) { return fail() ? NULL : take(__real_malloc(size)); }
void *__wrap_calloc(size_t count, size_t size) { return fail() ? NULL : take(__real_calloc(count, size)); }

void *__wrap_realloc(void *old, size_t size)
{
    void *got = fail() ? NULL : __real_realloc(old, size);
    return old ? got : take(got);
}

void __wrap_free(void *block)
{
    held -= block != NULL;
    __real_free(block);
}

void *__wrap_mmap(void *at, size_t size, int access, int flags, int file, off_t offset)
{
    void *got = fail() ? MAP_FAILED : __real_mmap(at, size, access, flags, file, offset);
    held += got != MAP_FAILED;
    return got;
}

int __wrap_munmap(void *at, size_t size) { return held--, __real_munmap(at, size); }

int __wrap_open(const char *path, int flags, ...)
{
    const int file = fail() ? -1 : __real_open(path, flags, 0600);
    held += file >= 0;
    return file;
}

int __wrap_close(int file) { return held--, __real_close(file); }
int __wrap_stat(const char *path, struct stat *status) { return fail() ? -1 : __real_stat(path, status); }
int __wrap_fstat(int file, struct stat *status) { return fail() ? -1 : __real_fstat(file, status); }

static ssize_t cookie_read(void *cookie, char *bytes, size_t count)
{
    return fail() ? -1 : read((int)(intptr_t)cookie, bytes, count < most_read ? count : most_read);
}

static int cookie_close(void *cookie) { return __real_close((int)(intptr_t)cookie); }

FILE *__wrap_fopen(const char *path, const char *mode)
{
    const int file = fail() ? -1 : __real_open(path, O_RDONLY);
    const cookie_io_functions_t functions = {.read = cookie_read, .close = cookie_close};
    return file < 0 ? NULL : take(fopencookie((void *)(intptr_t)file, mode, functions));
}

int __wrap_fclose(FILE *file) { return held--, __real_fclose(file); }

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*work)(void *), void *argument)
{
    const int error = fail() ? code : __real_pthread_create(thread, how, work, argument);
    held += !error;
    return error;
}

int __wrap_pthread_join(pthread_t thread, void **result) { return held--, __real_pthread_join(thread, result); }

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *how)
{
    const int error = fail() ? code : __real_pthread_mutex_init(mutex, how);
    held += !error;
    return error;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex) { return held--, __real_pthread_mutex_destroy(mutex); }

int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *how)
{
    const int error = fail() ? code : __real_pthread_cond_init(condition, how);
    held += !error;
    return error;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *condition) { return held--, __real_pthread_cond_destroy(condition); }

static const char *path;
static uint8_t bytes[1 << 20];
static size_t count;

/* A job -> whether it did what it was to do; a refusal is typed, says why, and gives no model. */
static int opened(int status, struct refvit *model, const char *message)
{
    if (status ? !!model || !*message || (status != REFVIT_NO_MEMORY && status != REFVIT_UNREADABLE) : !model || *message) {
        fprintf(stderr, "call %ld: status %d, \"%s\", model %p\n", fails, status, message, (void *)model);
        exit(1);
    }
    refvit_close(model);
    return !status;
}

static int open_file(int how)
{
    char message[REFVIT_MESSAGE_BYTES];
    struct refvit *model;
    const int status = refvit_open_file(path, how, &model, message);
    return opened(status, model, message);
}

static int open_mapped(void) { return open_file(REFVIT_MAP); }
static int open_read(void) { return open_file(REFVIT_READ); }

static int open_memory(void)
{
    char message[REFVIT_MESSAGE_BYTES];
    struct refvit *model;
    const int status = refvit_open_memory(bytes, count, NULL, 0, &model, message);
    return opened(status, model, message);
}

static int memory_size(void)
{
    size_t size;
    const int status = refvit_memory_size(bytes, count, &size, NULL);
    return !status && size;
}

static int new_pool(void)
{
    struct refvit_pool *pool = refvit_pool_new(4);
    refvit_pool_free(pool);
    return !!pool;
}

/* n = 1, 2, ... until no call fails; prints how many did. */
static void fail_each(const char *name, int (*job)(void), int error, int may_go_on)
{
    code = error;
    for (fails = 1; fails < MOST; fails++) {
        calls = held = 0;
        const int done = job(), failed = calls >= fails;
        if (held || (failed ? done && !may_go_on : !done)) {
            fprintf(stderr, "%s, call %ld: %s, %ld left behind\n", name, fails, done ? "done" : "refused", held);
            exit(1);
        }
        if (!failed)
            break;
    }
    printf("%s %ld\n", name, fails - 1);
    fails = 0; /* of what comes later, as a profile that is written at the end, nothing fails */
}

int main(int argument_count, char **arguments)
{
    path = arguments[argument_count - 1];
    FILE *file = __real_fopen(path, "rb");
    count = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (!file || __real_fclose(file) || !count || count == sizeof bytes)
        return 2;
    fail_each("map", open_mapped, EIO, 0);
    fail_each("map, no memory", open_mapped, ENOMEM, 0);
    fail_each("map, as of a device", open_mapped, ENODEV, 1); /* then it is read */
    fail_each("read", open_read, EIO, 0);
    fail_each("memory", open_memory, ENOMEM, 0);
    fail_each("size", memory_size, ENOMEM, 0);
    fail_each("pool", new_pool, EAGAIN, 0);
    most_read = 1000;
    fail_each("short reads", open_read, EIO, 0);
    fail_each("interrupted reads", open_read, EINTR, 1); /* and gone on with */
    most_read = SIZE_MAX;
    return !!refvit_pool_new(SIZE_MAX); /* refused, not shortened */
}
