/* A strict reader of JSON text, one token after another; nothing is stored and nothing is skipped. */
#ifndef REFVIT_JSON_H
#define REFVIT_JSON_H

#include <stddef.h>
#include <stdint.h>

/* Bytes, not terminated. */
struct text {
    const char *at;
    size_t length;
};

struct json {
    const char *at, *end;
    int failed; /* set by the first thing that is not as it must be; then every reader returns 0 */
};

struct json json_of(struct text text);

/* The first character of the next value, 0 at the end. */
char json_peek(struct json *j);

/* An opening bracket. */
int json_open(struct json *j, char bracket);

/* Whether another member comes before the closing bracket, which is consumed; done counts the members, from 0. */
int json_more(struct json *j, char bracket, size_t *done);

/* A string as it stands between its quotes, valid but not decoded; a lone surrogate is not valid. */
int json_string(struct json *j, struct text *raw);
int json_key(struct json *j, struct text *raw); /* and its colon */

int json_integer(struct json *j, int64_t *value); /* of at most 19 characters; saturates */
int json_number(struct json *j, double *value);
int json_word(struct json *j, const char *word); /* true, false or null */

/* Whether nothing but white space is left, and nothing failed. */
int json_end(struct json *j);

/* The text that a raw string stands for, at most as long.  -> its length */
size_t json_decode(struct text raw, char *out);

/* Whether it is the ASCII string `plain`. */
int json_is(struct text raw, const char *plain);

/* Whether bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
int is_utf8(struct text text);

/* The value of a JSON number, rounded to nearest, whatever the locale. */
double decimal_value(struct text number);

#endif
