#include "sha256.h"

#include <string.h>

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t v, int by)
{
    return v >> by | v << (32 - by);
}

static void schedule(const uint8_t *block, uint32_t *w)
{
    for (int i = 0; i < 16; i++, block += 4)
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
    for (int i = 16; i < 64; i++) {
        const uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        const uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
}

static void compress(uint32_t *state, const uint8_t *block)
{
    uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    schedule(block, w);
    for (int i = 0; i < 64; i++) {
        const uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25), choice = (e & f) ^ (~e & g);
        const uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22), majority = (a & b) ^ (a & c) ^ (b & c);
        const uint32_t t = h + s1 + choice + constants[i] + w[i];
        h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + s0 + majority;
    }
    const uint32_t end[] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++)
        state[i] += end[i];
}

struct sha256 sha256_start(void)
{
    return (struct sha256){{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
                           {0},
                           0};
}

void sha256_add(struct sha256 *hash, const void *bytes, size_t count)
{
    const uint8_t *from = bytes;
    size_t used = hash->length % 64;
    hash->length += count;
    while (count > 0) {
        if (used == 0 && count >= 64) {
            compress(hash->state, from);
            from += 64, count -= 64;
            continue;
        }
        const size_t part = count < 64 - used ? count : 64 - used;
        memcpy(hash->block + used, from, part);
        from += part, count -= part, used += part;
        if (used == 64)
            compress(hash->state, hash->block);
        used %= 64;
    }
}

void sha256_finish(struct sha256 *hash, char *text)
{
    static const char hex[] = "0123456789abcdef";
    const uint64_t bits = hash->length * 8;
    uint8_t end[72] = {0x80};
    const size_t zeros = (119 - hash->length % 64) % 64 + 1; /* so that the length ends a block */
    for (size_t i = 0; i < 8; i++)
        end[zeros + i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(hash, end, zeros + 8);
    for (int i = 0; i < 64; i++)
        text[i] = hex[hash->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    text[64] = '\0';
}
