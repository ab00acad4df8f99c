/* The header of a packed file, strictly (SPEC section 4): twin of refvit/safetensors.py, and the hash of the content. */
#include <stdlib.h>
#include <string.h>

#include "loader.h"
#include "sha256.h"

#define HEADER_MAX 10000000 /* bytes */
#define ELEMENTS_MAX ((uint64_t)1 << 60)

static const struct {
    const char *name;
    size_t bytes;
} dtypes[DTYPES] = {
    [BOOL] = {"BOOL", 1}, [U8] = {"U8", 1},   [I8] = {"I8", 1},   [U16] = {"U16", 2}, [I16] = {"I16", 2},
    [F16] = {"F16", 2},   [BF16] = {"BF16", 2}, [U32] = {"U32", 4}, [I32] = {"I32", 4}, [F32] = {"F32", 4},
    [U64] = {"U64", 8},   [I64] = {"I64", 8}, [F64] = {"F64", 8},
};

size_t bytes_of(enum dtype dtype)
{
    return dtypes[dtype].bytes;
}

/* Up to `most` sizes of a list, negative ones refused.  -> how many there are */
static size_t read_sizes(struct json *j, size_t most, uint64_t *sizes)
{
    size_t done = 0;
    int64_t value;
    json_open(j, '[');
    while (json_more(j, ']', &done)) {
        if (!json_integer(j, &value) || value < 0 || done > most)
            j->failed = 1;
        else
            sizes[done - 1] = (uint64_t)value;
    }
    return done;
}

static int read_dtype(struct json *j, enum dtype *dtype)
{
    struct text raw;
    if (!json_string(j, &raw))
        return 0;
    for (*dtype = BOOL; *dtype < DTYPES; ++*dtype)
        if (json_is(raw, dtypes[*dtype].name))
            return 1;
    return 0;
}

/* The description of a tensor: dtype, shape and data_offsets, once each, and bytes that agree with them. */
static int read_tensor(struct json *j, struct tensor *tensor)
{
    uint64_t offsets[2], elements = 1;
    unsigned seen = 0;
    struct text key;
    size_t done = 0;
    json_open(j, '{');
    while (json_more(j, '}', &done) && json_key(j, &key)) {
        const unsigned field = json_is(key, "dtype") ? 1 : json_is(key, "shape") ? 2 : json_is(key, "data_offsets") ? 4 : 0;
        if (!field || seen & field || (field == 1 && !read_dtype(j, &tensor->dtype)))
            return 0;
        seen |= field;
        if (field == 2)
            tensor->dimensions = read_sizes(j, DIMENSIONS, tensor->shape);
        if (field == 4 && read_sizes(j, 2, offsets) != 2)
            return 0;
    }
    if (j->failed || seen != 7 || offsets[1] < offsets[0])
        return 0;
    for (size_t i = 0; i < tensor->dimensions; i++) {
        if (tensor->shape[i] == 0 || tensor->shape[i] >= ELEMENTS_MAX / elements) /* no tensor of a model is empty */
            return 0;
        elements *= tensor->shape[i];
    }
    tensor->begin = offsets[0];
    tensor->end = offsets[1];
    return offsets[1] - offsets[0] == elements * bytes_of(tensor->dtype);
}

/* A text that needs decoding goes into the room for that; any other stays where it is. */
static struct text decoded(struct header *header, struct text raw)
{
    if (!memchr(raw.at, '\\', raw.length))
        return raw;
    char *to = header->decoded ? header->decoded + header->room : NULL;
    header->room += raw.length;
    return to ? (struct text){to, json_decode(raw, to)} : raw;
}

static int read_entries(struct json *j, struct header *header)
{
    size_t done = 0;
    struct text key, value;
    json_open(j, '{');
    while (json_more(j, '}', &done) && json_key(j, &key) && json_string(j, &value)) {
        const struct entry entry = {decoded(header, key), decoded(header, value)};
        if (header->entries)
            header->entries[header->entry_count] = entry;
        header->entry_count++;
    }
    return !j->failed;
}

/* All of the header; only counted where there is no room yet. */
static int walk(struct text text, struct header *header, char *message)
{
    struct json j = json_of(text);
    struct text name;
    size_t done = 0;
    int metadata = 0;
    header->tensor_count = header->entry_count = header->room = 0;
    json_open(&j, '{');
    while (json_more(&j, '}', &done) && json_key(&j, &name)) {
        struct tensor tensor = {.taken = 0};
        if (json_is(name, "__metadata__")) {
            if (metadata++ || !read_entries(&j, header))
                return complain(message, REFVIT_BAD_FILE, "__metadata__: expected one object of strings");
            continue;
        }
        tensor.name = decoded(header, name);
        if (!read_tensor(&j, &tensor))
            return complain(message, REFVIT_BAD_FILE, "dtype, shape and data_offsets missing, wrong or not in agreement: tensor '%.*s'",
                            (int)name.length, name.at);
        if (header->tensors)
            header->tensors[header->tensor_count] = tensor;
        header->tensor_count++;
    }
    while (j.at < j.end && *j.at == ' ')
        j.at++;
    if (j.failed || j.at != j.end)
        return complain(message, REFVIT_BAD_FILE, "header: not valid JSON");
    return REFVIT_OK;
}

int count_header(const uint8_t *bytes, size_t count, struct header *header, char *message)
{
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && i < count; i++)
        length |= (uint64_t)bytes[i] << (8 * i);
    if (length > HEADER_MAX || count < length + 8)
        return complain(message, REFVIT_BAD_FILE,
                        "not a safetensors file or cut off; expected 8 bytes and a header of at most %d, got %zu bytes in all", HEADER_MAX, count);
    const struct text text = {(const char *)bytes + 8, (size_t)length};
    if (!length || *text.at != '{' || !is_utf8(text))
        return complain(message, REFVIT_BAD_FILE, "not a safetensors file; expected a header \"{...}\" in UTF-8");
    *header = (struct header){.buffer = bytes + 8 + length, .size = count - 8 - length};
    return walk(text, header, message);
}

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_texts(struct text a, struct text b)
{
    const int order = memcmp(a.at, b.at, a.length < b.length ? a.length : b.length);
    return order ? order : compare(a.length, b.length);
}

static int by_key(const void *a, const void *b)
{
    return compare_texts(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

/* The canonical order: larger elements first, then by name. */
static int canonically(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    const int order = compare(bytes_of(y->dtype), bytes_of(x->dtype));
    return order ? order : compare_texts(x->name, y->name);
}

static int by_place(const void *a, const void *b)
{
    return compare(((const struct tensor *)a)->begin, ((const struct tensor *)b)->begin);
}

/* Whether the tensors, none of which is empty, cover the buffer, one after the other. */
static int covers(struct header *header)
{
    uint64_t position = 0;
    sort_items(header->tensors, header->tensor_count, sizeof *header->tensors, by_place);
    for (size_t i = 0; i < header->tensor_count; i++) {
        if (header->tensors[i].begin != position)
            return 0;
        position = header->tensors[i].end;
    }
    return position == header->size;
}

/* SHA-256 of all entries but its own, and of all tensors. */
static void content_hash(const struct header *header, char *hex)
{
    struct sha256 hash = sha256_start();
    for (size_t i = 0; i < header->entry_count; i++) {
        const struct entry *entry = header->entries + i;
        if (entry->key.length == 6 && !memcmp(entry->key.at, "sha256", 6))
            continue;
        sha256_add(&hash, entry->key.at, entry->key.length);
        sha256_add(&hash, "", 1);
        sha256_add(&hash, entry->value.at, entry->value.length);
        sha256_add(&hash, "", 1);
    }
    for (size_t i = 0; i < header->tensor_count; i++) {
        const struct tensor *tensor = header->tensors + i;
        sha256_add(&hash, header->buffer + tensor->begin, (size_t)(tensor->end - tensor->begin));
    }
    sha256_finish(&hash, hex);
}

int read_header(const uint8_t *bytes, struct header *header, char *message)
{
    const struct text text = {(const char *)bytes + 8, (size_t)(header->buffer - bytes) - 8};
    walk(text, header, message); /* it went well when it only counted */
    if (!covers(header))
        return complain(message, REFVIT_BAD_FILE, "cut off, or a hole, an overlap or bytes after the last tensor");
    sort_items(header->tensors, header->tensor_count, sizeof *header->tensors, canonically);
    sort_items(header->entries, header->entry_count, sizeof *header->entries, by_key);
    for (size_t i = 1; i < header->entry_count; i++)
        if (!by_key(header->entries + i - 1, header->entries + i))
            return complain(message, REFVIT_BAD_FILE, "metadata: a key twice");
    const struct text format = entry_of(header, "format"), version = entry_of(header, "spec_version");
    if (format.length != 13 || memcmp(format.at, "refvit-packed", 13))
        return complain(message, REFVIT_BAD_FILE, "not a packed file; expected the format refvit-packed, try refvit pack");
    struct json j = json_of(version);
    int64_t number;
    if (!version.at || !json_integer(&j, &number) || !json_end(&j) || number != 1)
        return complain(message, version.at ? REFVIT_UNSUPPORTED : REFVIT_BAD_FILE, "metadata: spec_version; expected 1");
    return REFVIT_OK;
}

int check_content(const struct header *header, char *message)
{
    const struct text sha = entry_of(header, "sha256");
    char hex[65];
    content_hash(header, hex);
    if (sha.length != 64 || memcmp(sha.at, hex, 64))
        return complain(message, REFVIT_BAD_FILE, "damaged: sha256 of its content; expected %s", hex);
    return REFVIT_OK;
}

struct text entry_of(const struct header *header, const char *key)
{
    const struct entry wanted = {{key, strlen(key)}, {NULL, 0}};
    const struct entry *found = bsearch(&wanted, header->entries, header->entry_count, sizeof wanted, by_key);
    return found ? found->value : (struct text){NULL, 0};
}

struct tensor *find_tensor(const struct header *header, const char *name, enum dtype dtype)
{
    const struct tensor wanted = {.name = {name, strlen(name)}, .dtype = dtype};
    struct tensor *found = bsearch(&wanted, header->tensors, header->tensor_count, sizeof wanted, canonically);
    return found && found->dtype == dtype ? found : NULL;
}
