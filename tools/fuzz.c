/* Hostile packed files against the library in C, built with AddressSanitizer and UndefinedBehaviorSanitizer.

   What may happen to any bytes: the model opens, or one status with one line of text. Opening it alone, asking for its
   memory and opening it in a block of exactly so many bytes must agree; memory stays within MEMORY_OF_FILE; nothing leaks;
   a small model runs one picture. Built by clang -fsanitize=fuzzer (libFuzzer, led by coverage: make fuzz), or with
   -DFUZZ_MAIN as a program of its own: fuzz FILES SEED PACKED ... mutates PACKED files, and writes a file that fails; with "all"
   in the place of FILES, it cuts each off at every length and sets every byte of its header to every value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_mutate.h"
#include "refvit.h"

#define MEMORY_OF_FILE(size) (8 * (size) + ((size_t)1 << 27) + ((size_t)1 << 20)) /* 2^25 entries of tables, and 1 MiB */
#define WORK_MAX ((size_t)1 << 20) /* bytes: what is larger is not run */
#define PICTURE_MAX 64             /* pixels */
#define TOKENS_MAX 256

void __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t), void (*on_free)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

static size_t held, peak; /* bytes */

static void on_malloc(const volatile void *p, size_t size)
{
    held += p ? size : 0;
    peak = held > peak ? held : peak;
}

static void on_free(const volatile void *p)
{
    held -= p ? __sanitizer_get_allocated_size(p) : 0;
}

static void must(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

/* One picture of a small model: logits, or a NaN. */
static void run(const struct refvit *model, const struct refvit_info *info)
{
    const size_t work_size = refvit_run_size(model, 1), pixels = info->img_size * info->img_size * info->channels;
    if (work_size == 0 || work_size > WORK_MAX || info->img_size > PICTURE_MAX || info->channels > 4 || info->classes > 1000)
        return;
    uint8_t *picture = malloc(pixels), *block = malloc(work_size + REFVIT_ALIGN);
    float *x = malloc(pixels * sizeof *x), *logits = malloc(info->classes * sizeof *logits);
    must(picture && block && x && logits, "memory");
    for (size_t i = 0; i < pixels; i++) {
        picture[i] = (uint8_t)(i * 37);
        x[i] = (float)(i % 64) / 16.0f - 2.0f;
    }
    void *work = block + (size_t)-(uintptr_t)block % REFVIT_ALIGN;
    const int status = info->channels == 3 ? refvit_run_pixels(model, NULL, 1, picture, logits, work, work_size)
                                           : refvit_run(model, NULL, 1, x, logits, work, work_size);
    must(status == REFVIT_OK || status == REFVIT_NAN, "a run of a model that opened");
    free(picture);
    free(block);
    free(x);
    free(logits);
}

/* All that can be asked of an open model. */
static void use(const struct refvit *model)
{
    struct refvit_info info;
    refvit_query(model, &info);
    must(strlen(info.name) + strlen(info.mode) > 0, "name and mode");
    for (size_t i = 0; i < info.classes; i++) {
        const char *label = refvit_label(model, i);
        must(!label || strlen(label) < SIZE_MAX, "label");
    }
    must(!refvit_label(model, info.classes), "one label too many");
    run(model, &info);
}

/* In a block of the caller's, of exactly the size that was asked for; and one too small by the room to align. */
static void open_in_block(const uint8_t *data, size_t count, size_t size)
{
    char message[REFVIT_MESSAGE_BYTES];
    struct refvit *model;
    for (size_t less = 0; less < 2 * REFVIT_ALIGN; less += REFVIT_ALIGN + 1) {
        uint8_t *block = malloc(size - less);
        must(block != NULL, "memory");
        const int status = refvit_open_memory(data, count, block, size - less, &model, message);
        must(less ? status == REFVIT_NO_MEMORY && !model : status == REFVIT_OK, "a block of the size asked for, or below");
        if (!less)
            use(model);
        refvit_close(model);
        free(block);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count)
{
    static int hooked;
    char message[REFVIT_MESSAGE_BYTES], other[REFVIT_MESSAGE_BYTES];
    struct refvit *model;
    size_t size;
    if (!hooked++)
        __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    const size_t before = peak = held;
    const int status = refvit_open_memory(data, count, NULL, 0, &model, message);
    must(peak - before <= MEMORY_OF_FILE(count), "memory beyond what the file justifies");
    must(!status == (model != NULL) && !status == !message[0], "handle, text and status");
    must(status == REFVIT_OK || status == REFVIT_BAD_FILE || status == REFVIT_UNSUPPORTED, "status");
    if (!status) {
        must(!refvit_memory_size(data, count, &size, other), "the size of a model that opens");
        open_in_block(data, count, size);
    } else {
        must(!refvit_memory_size(data, count, &size, other) || !strcmp(message, other), "another text");
    }
    refvit_close(model);
    must(held == before, "a leak");
    return 0;
}

#ifdef FUZZ_MAIN

#define FILE_MAX ((size_t)1 << 20) /* bytes */
#define SEEDS_MAX 64

static uint8_t current[FILE_MAX];
static size_t current_size;

/* The file that failed is kept. */
static void keep(void)
{
    FILE *file = fopen("fuzz-failure.bin", "wb");
    if (file) {
        fwrite(current, 1, current_size, file);
        fclose(file);
    }
}

void __sanitizer_set_death_callback(void (*callback)(void));

/* A file into an exact block.  -> NULL where it cannot be read */
static uint8_t *read_seed(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    if (!file)
        return NULL;
    *size = fread(current, 1, FILE_MAX / 2, file);
    fclose(file);
    bytes = malloc(*size + 1);
    return bytes ? memcpy(bytes, current, *size) : NULL;
}

/* What is current, in an exact block so that a read beyond it is seen. */
static void open_current(void)
{
    uint8_t *exact = malloc(current_size ? current_size : 1);
    must(exact != NULL, "memory");
    LLVMFuzzerTestOneInput(memcpy(exact, current, current_size), current_size);
    free(exact);
}

/* One to four mutations of a seed. */
static void mutate_and_open(const uint8_t *seed, size_t size, unsigned *state)
{
    memcpy(current, seed, size);
    current_size = size;
    for (unsigned left = 1 + draw(state, 4); left > 0; left--)
        current_size = mutate(current, current_size, FILE_MAX, draw(state, 0));
    open_current();
}

/* A seed as it is and cut off at every length, and every byte of its header as any other.  -> files */
static unsigned long exhaust(const uint8_t *seed, size_t size)
{
    unsigned long done = 0;
    uint64_t length = 0;
    memcpy(current, seed, size);
    for (current_size = size; current_size > 0; current_size--, done++)
        open_current();
    for (size_t i = 0; i < 8 && size > 8; i++)
        length |= (uint64_t)seed[i] << (8 * i);
    current_size = size;
    for (size_t i = 0; i < 8 + length && i < size; i++) {
        for (int change = 1; change < 256; change++, done++) {
            memcpy(current, seed, size);
            current[i] ^= (uint8_t)change;
            if (change % 2)
                seal(current, size);
            open_current();
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    uint8_t *seeds[SEEDS_MAX];
    size_t sizes[SEEDS_MAX], count = 0;
    if (argc < 4)
        return puts("usage: fuzz FILES|all SEED PACKED ..."), 2;
    unsigned long files = strtoul(argv[1], NULL, 10), done = 0;
    unsigned state = (unsigned)strtoul(argv[2], NULL, 10) * 2654435761u + 1;
    for (int i = 3; i < argc && count < SEEDS_MAX; i++, count++)
        if (!(seeds[count] = read_seed(argv[i], &sizes[count])))
            return printf("fuzz: %s cannot be read\n", argv[i]), 2;
    __sanitizer_set_death_callback(keep);
    for (size_t i = 0; i < count && !strcmp(argv[1], "all"); i++)
        done += exhaust(seeds[i], sizes[i]);
    for (; done < files; done++)
        mutate_and_open(seeds[done % count], sizes[done % count], &state);
    for (size_t i = 0; i < count; i++)
        free(seeds[i]);
    return printf("%lu files\n", done), 0;
}

#else

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* One mutation in eight is libFuzzer's own, which knows what memcmp was given. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    unsigned state = seed;
    if (draw(&state, 8) || size < 16)
        return mutate(data, size, max_size, seed);
    size = LLVMFuzzerMutate(data, size, max_size);
    if (draw(&state, 2))
        seal(data, size);
    return size;
}

#endif
