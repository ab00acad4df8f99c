/* Tensors out of a packed file, memory for what is made of them, and what to say where something is wrong. */
#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "loader.h"

int complain(char *message, int status, const char *format, ...)
{
    va_list arguments;
    if (!message)
        return status;
    va_start(arguments, format);
    vsnprintf(message, REFVIT_MESSAGE_BYTES, format, arguments);
    va_end(arguments);
    for (char *c = message; *c; c++)
        *c = *c >= ' ' && *c <= '~' ? *c : '?';
    return status;
}

void *arena_take(struct arena *arena, size_t a, size_t b, size_t bytes)
{
    const size_t start = arena->used;
    size_t size, end;
    if (__builtin_mul_overflow(a, b, &size) || __builtin_mul_overflow(size, bytes, &size) ||
        __builtin_add_overflow(start, size, &end) || __builtin_add_overflow(end, REFVIT_ALIGN - 1, &end)) {
        arena->used = SIZE_MAX;
        return NULL;
    }
    arena->used = end / REFVIT_ALIGN * REFVIT_ALIGN;
    return arena->base ? arena->base + start : NULL;
}

const void *refuse(struct builder *b, const char *name, const char *suffix, const char *what)
{
    if (!b->status)
        b->status = complain(b->message, REFVIT_BAD_FILE, "%s%s: %s", name, suffix, what);
    return NULL;
}

static int is_little_endian(void)
{
    const uint16_t one = 1;
    return *(const uint8_t *)&one;
}

/* The file's elements of so many bytes, a power of two, in this machine's order of bytes. */
static const void *copy_elements(uint8_t *to, const uint8_t *from, size_t count, size_t element)
{
    const size_t swap = is_little_endian() ? 0 : element - 1;
    for (size_t i = 0; i < count; i++)
        to[i] = from[i ^ swap];
    return to;
}

const void *take_tensor(struct builder *b, const char *name, const char *suffix, enum dtype dtype, size_t dimensions,
                        const uint64_t *shape)
{
    char full[NAME_MAX_BYTES];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    struct tensor *tensor = find_tensor(b->header, full, dtype);
    if (!tensor || tensor->dimensions != dimensions || memcmp(tensor->shape, shape, dimensions * sizeof *shape))
        return refuse(b, name, suffix, "tensor missing, or of another dtype or shape");
    const uint8_t *bytes = b->header->buffer + tensor->begin;
    const size_t count = (size_t)(tensor->end - tensor->begin), element = bytes_of(dtype);
    tensor->taken = 1;
    if (element == 1 || (is_little_endian() && (uintptr_t)bytes % element == 0))
        return bytes;
    uint8_t *copy = arena_take(&b->arena, count, 1, 1);
    return copy ? copy_elements(copy, bytes, count, element) : NULL;
}

const float *take_floats(struct builder *b, const char *name, const char *suffix, size_t dimensions, const uint64_t *shape)
{
    const float *x = take_tensor(b, name, suffix, F32, dimensions, shape);
    uint64_t count = 1;
    for (size_t i = 0; i < dimensions; i++)
        count *= shape[i];
    for (uint64_t i = 0; x && b->arena.base && i < count; i++)
        if (!(x[i] >= -FLT_MAX && x[i] <= FLT_MAX))
            return refuse(b, name, suffix, "NaN or inf");
    return x;
}
