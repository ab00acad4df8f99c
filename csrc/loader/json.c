#include "json.h"

#include <string.h>

#define DIGITS_MAX 19 /* characters of an integer: enough for 2^63 */
#define HIGH_SURROGATE 0xd800u
#define LOW_SURROGATE 0xdc00u

struct json json_of(struct text text)
{
    return (struct json){text.at, text.at ? text.at + text.length : NULL, 0};
}

static int fail(struct json *j)
{
    j->failed = 1;
    return 0;
}

char json_peek(struct json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'))
        j->at++;
    return j->at < j->end && !j->failed ? *j->at : 0;
}

static int expect(struct json *j, char c)
{
    if (json_peek(j) != c)
        return fail(j);
    j->at++;
    return 1;
}

int json_open(struct json *j, char bracket)
{
    return expect(j, bracket);
}

int json_more(struct json *j, char bracket, size_t *done)
{
    if (json_peek(j) == bracket) {
        j->at++;
        return 0;
    }
    return (*done)++ == 0 ? !j->failed : expect(j, ',') && (json_peek(j) != bracket || fail(j));
}

/* Four hexadecimal digits.  -> their value, or 0x10000 */
static unsigned hex4(const char *at, const char *end)
{
    unsigned value = 0;
    if (end - at < 4)
        return 0x10000;
    for (int i = 0; i < 4; i++) {
        const char c = at[i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return 0x10000;
        value = value << 4 | (unsigned)digit;
    }
    return value;
}

static int is_low(unsigned code)
{
    return code >= LOW_SURROGATE && code < LOW_SURROGATE + 0x400;
}

/* An escape after its backslash.  -> its code point, its length in `length`; 0x110000 where it is none */
static unsigned escape(const char *at, const char *end, size_t *length)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *letter = at < end && *at ? strchr(letters, *at) : NULL;
    *length = 1;
    if (letter)
        return (unsigned)values[letter - letters];
    if (at == end || *at != 'u')
        return 0x110000;
    const unsigned first = hex4(at + 1, end);
    *length = 5;
    if (first < HIGH_SURROGATE || (first > 0xdfff && first < 0x10000))
        return first;
    if (end - at < 11 || at[5] != '\\' || at[6] != 'u' || !is_low(hex4(at + 7, end)))
        return 0x110000;
    *length = 11; /* a low one in the place of the high one gives 0x110000 or more */
    return 0x10000 + ((first - HIGH_SURROGATE) << 10) + (hex4(at + 7, end) - LOW_SURROGATE);
}

int json_string(struct json *j, struct text *raw)
{
    if (!expect(j, '"'))
        return 0;
    raw->at = j->at;
    while (j->at < j->end && *j->at != '"') {
        size_t length = 0;
        if ((unsigned char)*j->at < 0x20)
            return fail(j);
        if (*j->at++ == '\\' && escape(j->at, j->end, &length) >= 0x110000)
            return fail(j);
        j->at += length;
    }
    raw->length = (size_t)(j->at - raw->at);
    return expect(j, '"');
}

int json_key(struct json *j, struct text *raw)
{
    return json_string(j, raw) && expect(j, ':');
}

static size_t digits(struct json *j)
{
    const char *start = j->at;
    while (j->at < j->end && *j->at >= '0' && *j->at <= '9')
        j->at++;
    return (size_t)(j->at - start);
}

/* The characters of a number; `whole` is set where it has neither fraction nor exponent. */
static int number(struct json *j, struct text *text, int *whole)
{
    json_peek(j);
    text->at = j->at;
    *whole = 1;
    if (j->at < j->end && *j->at == '-')
        j->at++;
    const int zero = j->at < j->end && *j->at == '0';
    const size_t count = digits(j);
    if (j->failed || count == 0 || (zero && count > 1))
        return fail(j);
    if (j->at < j->end && *j->at == '.') {
        j->at++;
        *whole = 0;
        if (digits(j) == 0)
            return fail(j);
    }
    if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        j->at++;
        *whole = 0;
        if (j->at < j->end && (*j->at == '+' || *j->at == '-'))
            j->at++;
        if (digits(j) == 0)
            return fail(j);
    }
    text->length = (size_t)(j->at - text->at);
    return !*whole || text->length <= DIGITS_MAX || fail(j);
}

int json_integer(struct json *j, int64_t *value)
{
    struct text text;
    int whole;
    if (!number(j, &text, &whole) || !whole)
        return fail(j);
    const int negative = text.at[0] == '-';
    uint64_t size = 0;
    for (size_t i = (size_t)negative; i < text.length; i++)
        size = size * 10 + (uint64_t)(text.at[i] - '0');
    size = size > INT64_MAX ? INT64_MAX : size;
    *value = negative ? -(int64_t)size : (int64_t)size;
    return 1;
}

int json_number(struct json *j, double *value)
{
    struct text text;
    int whole;
    if (!number(j, &text, &whole))
        return 0;
    *value = decimal_value(text);
    return 1;
}

int json_word(struct json *j, const char *word)
{
    const size_t length = strlen(word);
    if (!json_peek(j) || (size_t)(j->end - j->at) < length || memcmp(j->at, word, length))
        return fail(j);
    j->at += length;
    return 1;
}

int json_end(struct json *j)
{
    return json_peek(j) == 0 && j->at == j->end && !j->failed;
}

static size_t put_utf8(unsigned code, char *out)
{
    const size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned marks[] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = more; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(marks[more] | code);
    return more + 1;
}

size_t json_decode(struct text raw, char *out)
{
    const char *at = raw.at, *end = raw.at + raw.length;
    size_t used = 0, length;
    while (at < end) {
        if (*at == '\\') {
            used += put_utf8(escape(at + 1, end, &length), out + used);
            at += 1 + length;
        } else {
            out[used++] = *at++;
        }
    }
    return used;
}

int json_is(struct text raw, const char *plain)
{
    char decoded[256];
    return raw.length <= sizeof decoded && json_decode(raw, decoded) == strlen(plain) && !memcmp(decoded, plain, strlen(plain));
}

int is_utf8(struct text text)
{
    const unsigned char *at = (const unsigned char *)text.at, *end = at + text.length;
    static const unsigned least[] = {0, 0x80, 0x800, 0x10000};
    while (at < end) {
        const size_t more = *at < 0x80 ? 0 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
        if ((*at & 0xc0) == 0x80 || *at > 0xf4 || (size_t)(end - at) <= more)
            return 0;
        unsigned code = more ? *at & (0x3fu >> more) : *at;
        for (size_t i = 1; i <= more; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (at[i] & 0x3fu);
        }
        if (code < least[more] || code > 0x10ffff || (code >= HIGH_SURROGATE && code < 0xe000))
            return 0;
        at += more + 1;
    }
    return 1;
}
