/* The library: open a packed model, ask what it is, run it. */
#include <stdlib.h>
#include <string.h>

#include "../fpenv.h"
#include "../internal.h"
#include "loader.h"

struct refvit {
    struct refvit_model model;
    struct refvit_info info;
    int backend;
    const char **labels;
    void *memory; /* its own, or NULL */
    struct source source;
};

/* What is needed while a file is looked at, and no longer. */
struct look {
    struct header header;
    struct settings settings;
    struct builder builder;
};

static const char *decode_text(struct arena *arena, struct text raw)
{
    char *text = arena_take(arena, raw.length + 1, 1, 1);
    if (text)
        text[json_decode(raw, text)] = '\0';
    return text;
}

/* The list of the file, one text after another. */
static const char **decode_labels(struct arena *arena, const struct settings *settings)
{
    struct json j = json_of(settings->labels);
    struct text raw;
    size_t done = 0;
    if (!settings->labels.at)
        return NULL;
    const char **labels = arena_take(arena, (size_t)settings->num_classes, 1, sizeof *labels);
    char *room = arena_take(arena, settings->label_bytes, 1, 1);
    json_open(&j, '[');
    while (labels && json_more(&j, ']', &done) && json_string(&j, &raw)) {
        labels[done - 1] = room;
        room += json_decode(raw, room);
        *room++ = '\0';
    }
    return labels;
}

static void fill_info(struct refvit *model, const struct settings *s, struct arena *arena)
{
    model->info = (struct refvit_info){
        .name = decode_text(arena, s->name), .img_size = (size_t)s->img_size, .channels = (size_t)s->in_chans,
        .classes = (size_t)s->num_classes, .weight_bits = (int)s->weight_bits, .act_bits = (int)s->act_bits,
        .patch_bits = (int)s->patch_bits, .head_bits = (int)s->head_bits, .minmax = s->minmax, .per_image = s->per_image,
        .is_static = s->is_static, .float_attention = s->float_attention, .mode = decode_text(arena, s->mode),
        .resize = (size_t)s->resize, .label_set = s->imagenet ? "imagenet1k" : NULL};
    for (int i = 0; i < 3; i++) {
        model->info.mean[i] = (float)s->mean[i];
        model->info.std[i] = (float)s->std[i];
    }
    model->labels = decode_labels(arena, s);
}

/* The handle and all it points to, in the arena; where that has no base, only counted.  -> the handle, or NULL */
static struct refvit *build(struct look *look, uint8_t *base)
{
    struct builder *b = &look->builder;
    struct refvit spare = {.memory = NULL}, *model;
    for (size_t i = 0; i < look->header.tensor_count; i++)
        look->header.tensors[i].taken = 0;
    b->arena = (struct arena){base, 0};
    model = arena_take(&b->arena, 1, 1, sizeof *model);
    if (model)
        *model = spare;
    build_model(b, model ? &model->model : &spare.model);
    fill_info(model ? model : &spare, &look->settings, &b->arena);
    return model;
}

/* Room for the tables of the header, out of an arena. */
static void take_tables(struct header *header, struct arena *arena)
{
    header->tensors = arena_take(arena, header->tensor_count + 1, 1, sizeof *header->tensors);
    header->entries = arena_take(arena, header->entry_count + 1, 1, sizeof *header->entries);
    header->decoded = arena_take(arena, header->room, 1, 1);
}

static uint8_t *align(void *memory)
{
    return (uint8_t *)memory + (size_t)-(uintptr_t)memory % REFVIT_ALIGN;
}

static int no_memory(char *message)
{
    return complain(message, REFVIT_NO_MEMORY, "not enough memory");
}

/* Count what the header's tables take.  -> bytes in `tables` */
static int measure_tables(const void *bytes, size_t count, struct look *look, size_t *tables, char *message)
{
    struct arena arena = {NULL, 0};
    *tables = 0;
    const int status = count_header(bytes, count, &look->header, message);
    if (!status)
        take_tables(&look->header, &arena);
    *tables = arena.used;
    return status;
}

/* Header and settings, into tables; then check that every tensor is there, and count what the model takes. */
static int inspect(const void *bytes, struct look *look, uint8_t *tables, char *message)
{
    struct arena arena = {tables, 0};
    take_tables(&look->header, &arena);
    int status = read_header(bytes, &look->header, message);
    status = status ? status : read_settings(&look->header, &look->settings, message);
    look->builder = (struct builder){.header = &look->header, .settings = &look->settings, .message = message};
    if (status)
        return status;
    build(look, NULL);
    return look->builder.status;
}

/* In their callers, compilers would make vectors ready for these before it is known that the CPU has any. */
#define APART __attribute__((noinline))

/* What opening needs: room to align, the tables, the model. */
APART static int measure(const void *bytes, size_t count, size_t *size, char *message)
{
    struct look look;
    size_t tables;
    int status = measure_tables(bytes, count, &look, &tables, message);
    if (status)
        return status;
    void *room = malloc(tables + REFVIT_ALIGN);
    status = room ? inspect(bytes, &look, align(room), message) : no_memory(message);
    free(room);
    if (!status && look.builder.arena.used > SIZE_MAX - tables - REFVIT_ALIGN)
        status = no_memory(message);
    if (!status)
        *size = look.builder.arena.used + tables + REFVIT_ALIGN;
    return status;
}

/* Open a model in a block of `size` bytes. */
static int open_in(const void *bytes, size_t count, void *memory, size_t size, struct refvit **model, char *message)
{
    struct look look;
    size_t tables;
    int status = measure_tables(bytes, count, &look, &tables, message);
    if (!status && (size < REFVIT_ALIGN || size - REFVIT_ALIGN < tables))
        status = no_memory(message);
    status = status ? status : inspect(bytes, &look, align(memory), message);
    if (!status && size - REFVIT_ALIGN - tables < look.builder.arena.used)
        status = no_memory(message);
    status = status ? status : check_content(&look.header, message);
    if (status)
        return status;
    *model = build(&look, align(memory) + tables);
    for (int usable_here = refvit_init(); usable_here >> ((*model)->backend + 1); (*model)->backend++)
        ; /* the highest is the best */
    return look.builder.status;
}

/* In the caller's block, or in one of its own. */
APART static int open_anywhere(const void *bytes, size_t count, void *memory, size_t size, struct refvit **model,
                               char *message)
{
    if (memory)
        return open_in(bytes, count, memory, size, model, message);
    int status = measure(bytes, count, &size, message);
    void *own = status ? NULL : malloc(size);
    if (!status)
        status = own ? open_in(bytes, count, own, size, model, message) : no_memory(message);
    if (status)
        free(own);
    else
        (*model)->memory = own;
    return status;
}

/* Before anything that is compiled for what this CPU may lack. */
static int begin(char *message)
{
    if (!cpu_is_supported())
        return complain(message, REFVIT_UNSUPPORTED, "a CPU without SSE2");
    return complain(message, REFVIT_OK, "%s", "");
}

int refvit_open_memory(const void *bytes, size_t count, void *memory, size_t memory_size, struct refvit **model, char *message)
{
    *model = NULL;
    if (begin(message))
        return REFVIT_UNSUPPORTED;
    const fp_env saved = fp_enter();
    const int status = open_anywhere(bytes, count, memory, memory_size, model, message);
    fp_leave(saved);
    *model = status ? NULL : *model;
    return status;
}

int refvit_memory_size(const void *bytes, size_t count, size_t *size, char *message)
{
    *size = 0;
    if (begin(message))
        return REFVIT_UNSUPPORTED;
    const fp_env saved = fp_enter();
    const int status = measure(bytes, count, size, message);
    fp_leave(saved);
    return status;
}

int refvit_open_file(const char *path, int how, struct refvit **model, char *message)
{
    struct source source;
    *model = NULL;
    int status = begin(message);
    status = status ? status : source_open(path, how, &source, message);
    if (status)
        return status;
    status = refvit_open_memory(source.bytes, source.size, NULL, 0, model, message);
    if (status)
        source_close(&source);
    else
        (*model)->source = source;
    return status;
}

void refvit_close(struct refvit *model)
{
    if (!model)
        return;
    struct source source = model->source;
    free(model->memory); /* and the handle in it */
    if (source.bytes)
        source_close(&source);
}

void refvit_query(const struct refvit *model, struct refvit_info *info)
{
    *info = model->info;
}

const char *refvit_label(const struct refvit *model, size_t index)
{
    return model->labels && index < model->info.classes ? model->labels[index] : NULL;
}

int refvit_backend_of(const struct refvit *model)
{
    return model->backend;
}

int refvit_use_backend(struct refvit *model, int backend)
{
    if (!usable(backend))
        return REFVIT_BAD_BACKEND;
    model->backend = backend;
    return REFVIT_OK;
}

size_t refvit_run_size(const struct refvit *model, size_t threads)
{
    return refvit_work_size(&model->model, model->backend, threads);
}

int refvit_run_pixels(const struct refvit *model, struct refvit_pool *pool, size_t images, const uint8_t *pixels,
                      float *logits, void *work, size_t work_size)
{
    if (!model->model.pixels) /* only three channels have bytes */
        return REFVIT_BAD_SIZE;
    return refvit_forward(&model->model, model->backend, pool, images, pixels, NULL, logits, work, work_size);
}

int refvit_run(const struct refvit *model, struct refvit_pool *pool, size_t images, const float *x, float *logits, void *work,
               size_t work_size)
{
    return refvit_forward(&model->model, model->backend, pool, images, NULL, x, logits, work, work_size);
}
