/* Decimal text to a double, rounded to nearest. strtod does it, but for a decimal point it asks the locale; so it gets
   the digits without one, and the exponent that makes up for it. */
#include <stdio.h>
#include <stdlib.h>

#include "json.h"

#define KEPT 800       /* digits: a double, or the middle between two, has at most 767 significant ones */
#define EXPONENT 20000 /* beyond it the value is 0 or infinite, whatever the digits */

static int64_t clamp(int64_t v, int64_t limit)
{
    return v > limit ? limit : v < -limit ? -limit : v;
}

double decimal_value(struct text number)
{
    char buffer[KEPT + 16];
    const char *at = number.at, *end = at + number.length;
    size_t used = 0;
    int64_t exponent = 0, stated = 0, sign = 1;
    int fraction = 0, dropped = 0;
    if (*at == '-')
        buffer[used++] = *at++;
    const size_t first = used;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = 1;
            continue;
        }
        exponent -= fraction;
        if (used == first && *at == '0')
            continue;
        if (used - first < KEPT) {
            buffer[used++] = *at;
        } else { /* only whether they are zero can matter */
            dropped |= *at != '0';
            exponent++;
        }
    }
    for (at += at < end; at < end; at++) {
        if (*at == '-')
            sign = -1;
        else if (*at != '+')
            stated = clamp(stated * 10 + (*at - '0'), (int64_t)1 << 40);
    }
    if (used == first)
        buffer[used++] = '0';
    if (dropped) {
        buffer[used++] = '1';
        exponent--;
    }
    exponent = clamp(exponent + sign * stated, EXPONENT);
    snprintf(buffer + used, sizeof buffer - used, "e%d", (int)exponent);
    return strtod(buffer, NULL);
}
