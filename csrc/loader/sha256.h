/* SHA-256 (FIPS 180-4). */
#ifndef REFVIT_SHA256_H
#define REFVIT_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint8_t block[64];
    uint64_t length; /* bytes so far */
};

struct sha256 sha256_start(void);
void sha256_add(struct sha256 *hash, const void *bytes, size_t count);
/* 64 hexadecimal digits and a zero byte. */
void sha256_finish(struct sha256 *hash, char *text);

#endif
