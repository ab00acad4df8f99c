/* What a port needs beside its arithmetic: memory that a case takes and gives back, refusals, outputs, JSON, files. */

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUTS = 400, PATH = 4096 };

typedef struct Chunk { struct Chunk *next; double data[]; } Chunk;
typedef struct { const char *name; const void *data; size_t bytes; } Output;

static Chunk *chunks;
static Output outputs[OUTPUTS];
static int output_count;
static jmp_buf refusal;

static void stop(const char *what, const char *which) { fprintf(stderr, "port: %s: %s\n", which, what); exit(1); }
static void refuse(void) { longjmp(refusal, 1); } /* the input is one that must be rejected */

static void *fresh(long count, size_t size) {
    Chunk *chunk = calloc(1, sizeof *chunk + (size_t)count * size);
    if (!chunk) stop("no memory", "fresh");
    chunk->next = chunks, chunks = chunk;
    return chunk->data;
}

static void give_back(Chunk *until) {
    while (chunks != until) {
        Chunk *chunk = chunks;
        chunks = chunk->next;
        free(chunk);
    }
}

static float *floats(long count) { return fresh(count, sizeof(float)); }

static const char *join(const char *a, const char *b) { /* the name a.b */
    char *name = fresh((long)(strlen(a) + strlen(b) + 2), 1);
    sprintf(name, "%s%s%s", a, *a ? "." : "", b);
    return name;
}

static const char *numbered(const char *format, long i) {
    char *name = fresh((long)strlen(format) + 20, 1);
    sprintf(name, format, i);
    return name;
}

static void put(const char *name, const void *data, size_t bytes) {
    if (output_count == OUTPUTS) stop("too many outputs", name);
    outputs[output_count++] = (Output){name, data, bytes};
}

#define PUT(name, data, count) put(name, data, (size_t)(count) * sizeof *(data))

/* --- JSON: a value is a pointer to its first character. --- */

static const char *gap(const char *p) { return p + strspn(p, " \t\r\n,:"); }

static const char *past(const char *p) { /* a value */
    if (*p == '"') {
        for (p++; *p != '"'; p++) p += *p == '\\';
        return p + 1;
    }
    if (*p != '{' && *p != '[') return p + strcspn(p, " \t\r\n,]}");
    for (p = gap(p + 1); *p != '}' && *p != ']'; p = gap(past(p))) continue;
    return p + 1;
}

static const char *item(const char *p) { return *p == ']' ? NULL : p; }
static const char *first(const char *list) { return item(gap(list + 1)); }
static const char *next(const char *value) { return item(gap(past(value))); }

static const char *member(const char *object, const char *key) { /* NULL where there is none */
    const size_t n = strlen(key);
    for (const char *p = gap(object + 1); *p != '}'; p = gap(past(gap(past(p)))))
        if (!strncmp(p + 1, key, n) && p[n + 1] == '"') return gap(past(p));
    return NULL;
}

static double number(const char *value) { return strtod(value + (*value == '"'), NULL); }
static int is(const char *value, const char *text) {
    return !strncmp(value + 1, text, strlen(text)) && value[strlen(text) + 1] == '"';
}

static const char *text(const char *value) { /* without its quotes and escapes */
    char *copy = fresh((long)(past(value) - value), 1), *to = copy;
    for (const char *p = value + 1; *p != '"'; p++) *to++ = *p == '\\' ? *++p : *p;
    return copy;
}

static void *read_file(const char *folder, const char *name) { /* with a zero byte after it */
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) stop("cannot be read", path);
    const long size = ftell(file);
    char *data = fresh(size + 1, 1);
    rewind(file);
    if (fread(data, 1, (size_t)size, file) != (size_t)size) stop("cannot be read", path);
    fclose(file);
    return data;
}

/* --- Section 4: packed files --- */

typedef struct { const char *header, *buffer, *config, *quant, *preprocess; } Model;

static Model open_model(const char *file) {
    uint64_t n;
    memcpy(&n, file, 8);
    char *header = fresh((long)n + 1, 1);
    memcpy(header, file + 8, n);
    const char *metadata = member(header, "__metadata__");
    return (Model){header, file + 8 + n, text(member(metadata, "config")), text(member(metadata, "quant")),
                   text(member(metadata, "preprocess"))};
}

static long setting(const Model *m, const char *key) { return (long)number(member(m->config, key)); }
static int has(const Model *m, const char *key) { return member(m->config, key) && *member(m->config, key) == 't'; }

static const void *tensor(const Model *m, const char *name, long *bytes) { /* NULL where there is none */
    const char *entry = member(m->header, name);
    if (!entry) return NULL;
    const char *offsets = first(member(entry, "data_offsets"));
    const long begin = (long)number(offsets), size = (long)number(next(offsets)) - begin;
    void *data = fresh(size, 1);
    if (bytes) *bytes = size;
    return memcpy(data, m->buffer + begin, (size_t)size);
}
