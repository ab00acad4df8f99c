#include "fuzz_mutate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/loader.h"

#define PIECE_MAX 64 /* bytes that are copied from one place of the header to another */

struct file {
    uint8_t *data;
    size_t size, most, header; /* header: bytes of it that are there */
    unsigned state;
};

unsigned draw(unsigned *state, unsigned most)
{
    unsigned x = *state ? *state : 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    const unsigned value = x * 2654435761u >> 3;
    return most ? value % most : value;
}

static size_t below(struct file *f, size_t most)
{
    return most ? draw(&f->state, (unsigned)most) : 0;
}

/* Bytes [at, at + old) become `length` others, where there is room; the header grows with them. */
static void replace(struct file *f, size_t at, size_t old, const void *bytes, size_t length)
{
    uint8_t copy[4 * PIECE_MAX];
    if (length > sizeof copy || at + old > f->size || f->size - old + length > f->most)
        return;
    if (length)
        memcpy(copy, bytes, length); /* it may lie in the file itself */
    memmove(f->data + at + length, f->data + at + old, f->size - at - old);
    if (length)
        memcpy(f->data + at, copy, length);
    f->size = f->size - old + length;
    if (at >= 8 && at + old <= 8 + f->header)
        f->header = f->header - old + length;
}

static void replace_text(struct file *f, size_t at, size_t old, const char *text)
{
    replace(f, at, old, text, strlen(text));
}

/* A place in the header. */
static size_t place(struct file *f)
{
    return 8 + below(f, f->header);
}

static int in_number(uint8_t c)
{
    return (c >= '0' && c <= '9') || c == '.' || c == '-';
}

/* The next number at or after a place.  -> its length, 0 where there is none */
static size_t next_number(const struct file *f, size_t *at)
{
    size_t length = 0;
    while (*at < 8 + f->header && !in_number(f->data[*at]))
        ++*at;
    while (*at + length < 8 + f->header && in_number(f->data[*at + length]))
        length++;
    return length;
}

static const char *const numbers[] = {
    "0", "1", "2", "3", "4", "5", "7", "8", "16", "63", "64", "65", "255", "1024", "8192", "8193", "65536", "131072", "1048576",
    "16777216", "2147483647", "4294967295", "4294967296", "1152921504606846975", "9223372036854775807",
    "9223372036854775808", "18446744073709551615", "99999999999999999999", "-1", "-0", "0.5", "1.5", "64.0", "1e-7", "1e400", "1e-400",
    "01", "NaN", "", "\\\"a\\\"", "null", "[1]", "true"};
static const char *const texts[] = {
    "\\\"token\\\"", "\\\"image\\\"", "\\\"static\\\"", "\\\"minmax\\\"", "\\\"symmetric\\\"", "\\\"float\\\"", "\\\"int8\\\"", "true", "false",
    "null", "\\\"imagenet1k\\\"", "\\\"optimal\\\"", "\\\\u0000", "\\ud800", "\\u0041", "{", "}", "[", "]", "[[[[[[[[[[[[[[[[", "\"", ",",
    ":", "{}", "[]", "\"F32\"", "\"U64\"", "\"U8\"", "\"I8\"", "\"BF16\"", "\"I32\"", "\xff", "\xc3\xa9", " ", "\t", "\\\"swin\\\"", "\\\"vit\\\""};

#define ANY(f, list) ((list)[below(f, sizeof(list) / sizeof *(list))])

/* A number near another one, or any. */
static void other_number(struct file *f, const uint8_t *old, size_t length, char *text, size_t room)
{
    char digits[32] = "";
    memcpy(digits, old, length < 31 ? length : 31);
    const long long value = strtoll(digits, NULL, 10), step = 1LL << below(f, 4);
    const uint64_t bits = (uint64_t)value;
    switch (below(f, 5)) {
    case 0: snprintf(text, room, "%lld", (long long)(bits + (uint64_t)step)); break;
    case 1: snprintf(text, room, "%lld", (long long)(bits - (uint64_t)step)); break;
    case 2: snprintf(text, room, "%lld", (long long)(bits * 2)); break;
    case 3: snprintf(text, room, "%lld", (long long)(bits / 2)); break;
    default: snprintf(text, room, "%s", ANY(f, numbers));
    }
}

static void change_number(struct file *f)
{
    char text[32];
    size_t at = place(f), length = next_number(f, &at);
    if (!length)
        return;
    other_number(f, f->data + at, length, text, sizeof text);
    replace_text(f, at, length, text);
}

/* Every number of the header that is written like this one, so that shapes and sizes change together. */
static void change_equal_numbers(struct file *f)
{
    char text[32];
    uint8_t old[32];
    size_t at = place(f), length = next_number(f, &at), found;
    if (!length || length >= sizeof old)
        return;
    memcpy(old, f->data + at, length);
    other_number(f, old, length, text, sizeof text);
    for (at = 8; (found = next_number(f, &at)) > 0; at += found) {
        if (found != length || memcmp(f->data + at, old, length))
            continue;
        replace_text(f, at, length, text);
        found = strlen(text);
    }
}

static void insert_text(struct file *f)
{
    const size_t at = place(f), old = below(f, 2) ? below(f, 8) : 0;
    if (at + old <= 8 + f->header)
        replace_text(f, at, old, ANY(f, texts));
}

/* A value of the metadata, from a colon to what ends it. */
static void change_value(struct file *f)
{
    size_t at = place(f), end;
    while (at < 8 + f->header && f->data[at] != ':')
        at++;
    for (end = at + 1; end < 8 + f->header && !strchr(",}", f->data[end]); end++)
        ;
    if (end < 8 + f->header)
        replace_text(f, at + 1, end - at - 1, below(f, 2) ? ANY(f, texts) : ANY(f, numbers));
}

/* A piece of the header to another place of it, or away. */
static void move_piece(struct file *f)
{
    const size_t from = place(f), to = place(f), length = below(f, PIECE_MAX);
    if (from + length > 8 + f->header)
        return;
    if (below(f, 2))
        replace(f, from, length, NULL, 0);
    else
        replace(f, to, 0, f->data + from, length);
}

/* A member again: from a quotation mark that follows a comma to the next such one. */
static void repeat_member(struct file *f)
{
    uint8_t piece[4 * PIECE_MAX];
    size_t at = place(f), end;
    while (at + 1 < 8 + f->header && !(f->data[at] == ',' && f->data[at + 1] == '"'))
        at++;
    for (end = at + 1; end + 1 < 8 + f->header && !(f->data[end] == ',' && f->data[end + 1] == '"'); end++)
        ;
    if (end + 1 >= 8 + f->header || end - at > sizeof piece)
        return;
    memcpy(piece, f->data + at, end - at);
    if (below(f, 2))
        replace(f, at, end - at, NULL, 0);
    else
        replace(f, end, 0, piece, end - at);
}

static void flip_header(struct file *f)
{
    f->data[place(f)] ^= (uint8_t)(1u << below(f, 8));
}

/* Words of the buffer: floats that are not finite or not normal, codes that are not allowed. */
static void change_buffer(struct file *f)
{
    static const uint32_t words[] = {0, 1, 0x7fc00000, 0x7f800000, 0xff800000, 0x00800000, 0x007fffff, 0x7f7fffff, 0x80000000,
                                     0xffffffff, 0x80808080, 0xf3f3f3f3, 0x01010101, 0x7f7f7f7f};
    const size_t start = 8 + f->header;
    for (size_t left = 1 + below(f, 4); left > 0 && f->size >= start + 4; left--) {
        const size_t at = start + below(f, f->size - start - 3);
        const uint32_t word = below(f, 4) ? ANY(f, words) : draw(&f->state, 0);
        memcpy(f->data + (below(f, 4) ? at - (at - start) % 4 : at), &word, below(f, 2) ? 4 : 1);
    }
}

static void change_length(struct file *f)
{
    const uint8_t zeros[PIECE_MAX] = {0};
    if (below(f, 2))
        f->size = below(f, f->size + 1);
    else
        replace(f, f->size, 0, zeros, below(f, PIECE_MAX));
    f->header = f->size < 8 ? 0 : f->header < f->size - 8 ? f->header : f->size - 8;
}

/* The length of the header, now and then a wrong one. */
static void write_length(struct file *f)
{
    uint64_t length = f->header;
    if (f->size < 8)
        return;
    if (below(f, 40) == 0)
        length = below(f, 2) ? length + below(f, 16) - 8 : UINT64_MAX >> below(f, 64);
    for (size_t i = 0; i < 8; i++)
        f->data[i] = (uint8_t)(length >> (8 * i));
}

void seal(uint8_t *data, size_t size)
{
    static const char words[] = "sha256 of its content; expected ";
    struct header header;
    char message[REFVIT_MESSAGE_BYTES] = "";
    if (count_header(data, size, &header, NULL))
        return;
    header.tensors = calloc(header.tensor_count + 1, sizeof *header.tensors);
    header.entries = calloc(header.entry_count + 1, sizeof *header.entries);
    header.decoded = malloc(header.room + 1);
    if (header.tensors && header.entries && header.decoded && !read_header(data, &header, NULL) && check_content(&header, message)) {
        const struct text sha = entry_of(&header, "sha256");
        const char *right = strstr(message, words);
        if (right && sha.length == 64 && sha.at >= (char *)data && sha.at < (char *)data + size)
            memcpy(data + (sha.at - (char *)data), right + sizeof words - 1, 64);
    }
    free(header.tensors);
    free(header.entries);
    free(header.decoded);
}

size_t mutate(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    static void (*const mutations[])(struct file *) = {
        change_number, change_number, change_equal_numbers, insert_text, change_value, change_value, move_piece,
        repeat_member, flip_header, change_buffer, change_buffer, change_length};
    struct file f = {data, size, most, 0, seed * 747796405u + 1};
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && i < size; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (size > 8)
        f.header = length < size - 8 ? (size_t)length : size - 8;
    if (f.header == 0)
        return size;
    for (unsigned left = 1 + draw(&f.state, 3); left > 0 && f.header > 0; left--)
        ANY(&f, mutations)(&f);
    write_length(&f);
    if (below(&f, 8))
        seal(data, f.size);
    return f.size;
}
