/* A program for any CPU: every backend usable here has the bits of the portable one, in every kernel of inference and
   in the whole forward pass; and those bits as SHA-256, which are the same on every CPU.

       check [ROUNDS]

   Prints "backends NAME ...", "kernels SHA", "models SHA"; ROUNDS is how many shapes are tried of each kernel. The
   caller of the kernels, this program, rounds upwards and flushes subnormals, as far as the CPU can (N14). Exit codes:
   0 ok, 1 a backend differs or the caller's rounding is lost, 4 this CPU lacks what the program was compiled for. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "check.h"

#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALLOCATIONS 64

int backends;

static struct {
    void *start;
    size_t bytes;
} allocations[ALLOCATIONS];
static size_t allocated;

uint64_t next(uint64_t *state)
{
    uint64_t v = *state += 0x9e3779b97f4a7c15u;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

float next_float(uint64_t *state, int low, int high)
{
    const uint64_t v = next(state);
    const uint32_t exponent = (uint32_t)(127 + low) + (uint32_t)(v >> 40) % (uint32_t)(high - low);
    const uint32_t bits = (uint32_t)(v & 1) << 31 | exponent << 23 | (uint32_t)(v >> 8 & 0x7fffff);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void *guarded(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    uint8_t *start = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED || allocated == ALLOCATIONS || mprotect(start + whole, page, PROT_NONE)) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    allocations[allocated].start = start;
    allocations[allocated++].bytes = whole + page;
    return start + whole - bytes;
}

void release(void)
{
    while (allocated > 0) {
        allocated--;
        munmap(allocations[allocated].start, allocations[allocated].bytes);
    }
}

void note(struct record *record, uint32_t value)
{
    if (record->count == record->room) {
        record->room = record->room ? 2 * record->room : 1024;
        record->values = realloc(record->values, record->room * sizeof value);
        if (!record->values) {
            fprintf(stderr, "no memory\n");
            exit(1);
        }
    }
    record->values[record->count++] = value;
}

void note_floats(struct record *record, size_t count, const float *values)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        note(record, bits);
    }
}

void note_ints(struct record *record, size_t count, const int32_t *values)
{
    for (size_t i = 0; i < count; i++)
        note(record, (uint32_t)values[i]);
}

void note_codes(struct record *record, size_t count, const int8_t *values)
{
    for (size_t i = 0; i < count; i++)
        note(record, (uint32_t)values[i]);
}

void note_words(struct record *record, size_t count, const uint64_t *values)
{
    for (size_t i = 0; i < count; i++) {
        note(record, (uint32_t)values[i]);
        note(record, (uint32_t)(values[i] >> 32));
    }
}

static void compare(const struct record *expected, const struct record *got, const char *name, int backend,
                    const struct shape *shape)
{
    size_t at = 0;
    while (at < expected->count && at < got->count && expected->values[at] == got->values[at])
        at++;
    if (at == expected->count && at == got->count)
        return;
    fprintf(stderr, "%s of %s differs at %zu: m %zu, n %zu, k %zu, bits %d, extreme %d, seed %llu\n", name,
            refvit_backend_name(backend), at, shape->m, shape->n, shape->k, shape->bits, shape->extreme,
            (unsigned long long)shape->seed);
    exit(1);
}

/* Each number with its lowest byte first. */
static void hash_record(struct sha256 *sha, const struct record *record)
{
    for (size_t i = 0; i < record->count; i++) {
        const uint32_t v = record->values[i];
        const uint8_t bytes[] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
        sha256_add(sha, bytes, sizeof bytes);
    }
}

static void print_hash(struct sha256 *sha, const char *name)
{
    char text[2 * 32 + 1];
    sha256_finish(sha, text);
    printf("%s %s\n", name, text);
}

void on_every_backend(struct sha256 *sha, const char *name, kernel_case *run, const struct shape *shape)
{
    struct record expected = {0}, got = {0};
    run(REFVIT_PORTABLE, shape, &expected);
    release();
    hash_record(sha, &expected);
    for (int backend = 1; backend < BACKENDS; backend++) {
        if (!(backends >> backend & 1))
            continue;
        got.count = 0;
        run(backend, shape, &got);
        release();
        compare(&expected, &got, name, backend, shape);
    }
    free(expected.values);
    free(got.values);
}

/* What must not reach the kernels. */
static void set_environment(void)
{
    fesetround(FE_UPWARD);
#if defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" ::"r"(control | 1u << 24));
#elif defined(__arm__)
    uint32_t control;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(control));
    __asm__ volatile("vmsr fpscr, %0" ::"r"(control | 1u << 24));
#elif defined(__SSE2__)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#endif
}

int main(int argc, char **argv)
{
    backends = refvit_init();
    if (!backends) {
        fprintf(stderr, "not supported: this CPU lacks what the program was compiled for (status %d)\n",
                refvit_ternary_dot(0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL));
        return 4;
    }
    set_environment();
    const int rounds = argc > 1 ? atoi(argv[1]) : 100;
    printf("backends");
    for (int backend = 0; backend < BACKENDS; backend++)
        if (backends >> backend & 1)
            printf(" %s", refvit_backend_name(backend));
    printf("\n");
    struct sha256 sha = sha256_start();
    check_products(&sha, rounds);
    check_rows(&sha, rounds);
    print_hash(&sha, "kernels");
    sha = sha256_start();
    check_models(&sha);
    print_hash(&sha, "models");
    return fegetround() != FE_UPWARD;
}
