/* The bytes of a file: mapped where the system can, or read. */
#if defined(__unix__) || defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L
#define MAPS 1
#else
#define MAPS 0
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader.h"

#if MAPS
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map(const char *path, struct source *source)
{
    struct stat status;
    if (stat(path, &status))
        return errno;
    if (!S_ISREG(status.st_mode)) /* opening a pipe would wait for its writer, and lose it */
        return EINVAL;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    int error = fstat(file, &status) ? errno : status.st_size > 0 ? 0 : EINVAL;
    if (!error && (uintmax_t)status.st_size > SIZE_MAX)
        error = EFBIG;
    if (!error) {
        void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (bytes == MAP_FAILED)
            error = errno;
        else
            *source = (struct source){bytes, (size_t)status.st_size, 1};
    }
    close(file);
    return error;
}
#endif

/* Twice the room whenever it is full: a pipe has no size. */
static int read_all(FILE *file, struct source *source)
{
    size_t room = 1 << 16, got = 1;
    int interrupted = 0;
    while (got > 0 || interrupted) {
        if (!source->bytes || source->size == room) {
            void *more = room > SIZE_MAX / 2 ? NULL : realloc(source->bytes, source->bytes ? room *= 2 : room);
            if (!more)
                return ENOMEM;
            source->bytes = more;
        }
        got = fread((char *)source->bytes + source->size, 1, room - source->size, file);
        source->size += got;
        interrupted = ferror(file) && errno == EINTR;
        if (interrupted)
            clearerr(file);
        else if (ferror(file))
            return EIO;
    }
    return 0;
}

static int read_file(const char *path, struct source *source)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return errno;
    const int error = read_all(file, source);
    fclose(file);
    if (error)
        source_close(source);
    return error;
}

int source_open(const char *path, int how, struct source *source, char *message)
{
    int error = -1;
    *source = (struct source){NULL, 0, 0};
#if MAPS
    if (how == REFVIT_MAP)
        error = map(path, source);
#endif
    if (how == REFVIT_READ || error == EINVAL || error == ENODEV || error == -1) /* what cannot be mapped is read */
        error = read_file(path, source);
    if (error == ENOMEM)
        return complain(message, REFVIT_NO_MEMORY, "not enough memory");
    return error ? complain(message, REFVIT_UNREADABLE, "cannot be read: %s", strerror(error)) : REFVIT_OK;
}

void source_close(struct source *source)
{
#if MAPS
    if (source->mapped)
        munmap(source->bytes, source->size);
#endif
    if (!source->mapped)
        free(source->bytes);
    *source = (struct source){NULL, 0, 0};
}
