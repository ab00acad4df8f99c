/* A port of refvit's inference, written from tests/vectors/SPEC.md and KIT.md alone: an example of how one begins.
 *
 * Each step stands by itself, in plain loops. In comments: N4 and so on are SPEC.md's rules; B, W, H, T, D, K, N, R, C
 * its letters. cases.c reads a kit and answers it with these functions; support.h has memory, outputs, JSON and the
 * packed file, which is trusted to be well formed.
 *
 * -DBUG_RECIPROCAL and -DBUG_ROUND build in two common mistakes, to see how refvit verify finds them. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "support.h"

#if FLT_EVAL_METHOD != 0 || defined(__FAST_MATH__) /* N14 */
#error "every operation must be rounded by itself"
#endif

#ifdef BUG_ROUND
#define rintf roundf
#endif

static const float SCALE_MIN = 0x1p-126f, MASK = -100.0f, PROB_SCALE = 0x1.020408p-7f, INV_SQRT2 = 0x1.6a09e6p-1f;

/* --- N9: sums and functions --- */

static float sum16(const float *x, long n) {
    float p[16] = {0};
    for (long i = 0; i < n; i++) p[i % 16] += x[i];
    for (int h = 8; h; h /= 2)
        for (int j = 0; j < h; j++) p[j] += p[j + h];
    return p[0];
}

static float checked(float y) {
    if (isnan(y)) refuse();
    return y;
}

static float exp_of(float x) {
    static const double c[10] = {0x1p+0, 0x1p+0, 0x1p-1, 0x1.5555555555555p-3, 0x1.5555555555555p-5,
        0x1.1111111111111p-7, 0x1.6c16c16c16c17p-10, 0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-16,
        0x1.71de3a556c734p-19};
    if (isnan(x)) return x;
    const double v = fmin(fmax(x, -104), 89), n = rint(v * 0x1.71547652b82fep+0);
    const double r = (v - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    double p = c[9];
    for (int k = 8; k >= 0; k--) p = p * r + c[k];
    return (float)ldexp(p, (int)n);
}

static const double E[16][8] = {
    {0x1.1f5e1a35c15bep+0, -0x1.7d900b9e8672p-6, -0x1.766bd0f16384ap-6, 0x1.c5a8df8a42p-11,
     0x1.b4bfec5eap-12, -0x1.40df3e58p-16, -0x1.911326cp-18, 0x1.47578p-22},
    {0x1.13e08c7a162f7p+0, -0x1.09ac3c1b26f26p-4, -0x1.276ba5b201d0ep-6, 0x1.24d6bb72be8p-9,
     0x1.01ba0df29ap-12, -0x1.7d1e9556p-15, -0x1.3828e8f8p-19, 0x1.63c4p-21},
    {0x1.fe8f1614e7e8p-1, -0x1.7edef5d897f26p-4, -0x1.5275c5e26f498p-7, 0x1.671c4f05f5p-9,
     0x1.d303520bp-18, -0x1.7ea63576p-15, 0x1.165266fp-19, 0x1.160a8p-21},
    {0x1.cacbc181fbb36p-1, -0x1.b29323959a9f4p-4, -0x1.4574db8c474cp-9, 0x1.367b5cc6868p-9,
     -0x1.6f0c462158p-13, -0x1.a39a6c24p-16, 0x1.1b8d0948p-18, 0x1.63cep-24},
    {0x1.9450bb1ec7b19p-1, -0x1.ad1533f369dccp-4, 0x1.bbf49239c95ap-9, 0x1.8a284b7256p-10,
     -0x1.f1065c4908p-13, -0x1.2faa3c8p-21, 0x1.d3bb3bbp-19, -0x1.108acp-22},
    {0x1.611065fc927e8p-1, -0x1.82ad1810b8408p-4, 0x1.ab151a9f94ac8p-8, 0x1.3fc0da61b6p-11,
     -0x1.9e44345f98p-13, 0x1.dbbf775p-17, 0x1.6d73bf2p-20, -0x1.4b148p-22},
    {0x1.3448f8704acc7p-1, -0x1.48b7c44d52619p-4, 0x1.df898851d3a08p-8, -0x1.685f0e10ep-16,
     -0x1.e76f5b634p-14, 0x1.166e2c64p-16, -0x1.94c566p-22, -0x1.72bap-23},
    {0x1.0ee12190b09a6p-1, -0x1.0e9e17d6128a8p-4, 0x1.b7e9ea696a1p-8, -0x1.5d2c61e21p-12,
     -0x1.6e1a59046p-15, 0x1.8b937b88p-17, -0x1.148054ep-20, -0x1.865p-26},
    {0x1.e09a79ee7d2fcp-2, -0x1.b87061646ea92p-5, 0x1.6bfb99736a15cp-8, -0x1.ae6bfd5c48p-12,
     -0x1.63d043ap-23, 0x1.82ad6a1p-18, -0x1.db33aa4p-21, 0x1.af17p-25},
    {0x1.aed200cd6800ep-2, -0x1.675759c9fae8ep-5, 0x1.1e314dd0aaf4p-8, -0x1.8349c32a4cp-12,
     0x1.21e0c463ep-16, 0x1.b24141cp-20, -0x1.07cca5ap-21, 0x1.d52ep-25},
    {0x1.8603df09099c8p-2, -0x1.284241dbd5ep-5, 0x1.ba09e28a3e4fp-9, -0x1.324482457ap-12,
     0x1.4b8608246p-16, -0x1.4fd51p-22, -0x1.83ee308p-23, 0x1.1ad18p-25},
    {0x1.64282886ff378p-2, -0x1.ef1beecc9c414p-6, 0x1.560bd269ed1c8p-9, -0x1.cac3dc9628p-13,
     0x1.143f98182p-16, -0x1.c84201cp-21, -0x1.99bb0cp-26, 0x1.c872p-27},
    {0x1.47ad3ff301a51p-2, -0x1.a35763ed2f25p-6, 0x1.0bd914b69f658p-9, -0x1.52a6a0ea0ep-13,
     0x1.9a16be986p-17, -0x1.ac1df18p-21, 0x1.e22e5ep-26, 0x1.98ep-29},
    {0x1.2f6827c1b0938p-2, -0x1.6793ed0a04224p-6, 0x1.a9f5181a77d58p-10, -0x1.f70a65cd04p-14,
     0x1.24969a33ep-17, -0x1.4154b7p-21, 0x1.20fe53p-25, -0x1.5b8p-31},
    {0x1.1a7b909ae7a4ap-2, -0x1.37b3d829952aep-6, 0x1.57e94aec0448p-10, -0x1.7b26963684p-14,
     0x1.a01e8651p-18, -0x1.bfb6e18p-22, 0x1.c04f18p-26, -0x1.5b6p-30},
    {0x1.08420fc7a48fcp-2, -0x1.10c83ad00a3ap-6, 0x1.199374fe0ee3p-10, -0x1.229a7df028p-14,
     0x1.2b93840ccp-18, -0x1.3304d48p-22, 0x1.33868ep-26, -0x1.1a4p-30},
};

static float erf_of(float x) {
    const double a = fabs(x);
    if (isnan(x)) return x;
    if (a >= 4) return copysignf(1, x);
    const double y = a * 4, i = floor(y), t = (y - i) - 0.5, *e = E[(int)i];
    double p = e[7];
    for (int k = 6; k >= 0; k--) p = p * t + e[k];
    return copysignf((float)(a * p), x);
}

static float gelu_of(float x) { return checked((x * 0.5f) * (1 + erf_of(x * INV_SQRT2))); }

static float *each(float (*f)(float), const float *x, long n) {
    float *y = floats(n);
    for (long i = 0; i < n; i++) y[i] = f(x[i]);
    return y;
}

static float *layernorm(const float *x, long rows, long k, const float *weight, const float *bias, float eps) {
    float *y = floats(rows * k), *d = floats(k), *squares = floats(k);
    for (long row = 0; row < rows; row++, x += k) {
        const float mean = sum16(x, k) / (float)k;
        for (long i = 0; i < k; i++) d[i] = x[i] - mean, squares[i] = d[i] * d[i];
        const float r = sqrtf(sum16(squares, k) / (float)k + eps);
        for (long i = 0; i < k; i++) y[row * k + i] = checked(((d[i] / r) * weight[i]) + bias[i]);
    }
    return y;
}

static float *softmax(const float *x, long rows, long k) {
    float *y = floats(rows * k), *e = floats(k);
    for (long row = 0; row < rows; row++, x += k) {
        float m = k ? x[0] : 0;
        for (long i = 1; i < k; i++) m = x[i] > m ? x[i] : m;
        for (long i = 0; i < k; i++) e[i] = exp_of(x[i] - m);
        const float z = sum16(e, k);
        for (long i = 0; i < k; i++) y[row * k + i] = checked(e[i] / z);
    }
    return y;
}

/* --- N4 to N6: codes of activations --- */

typedef struct { int bits, minmax; } Quantizer;
typedef struct { float amax, lo, hi; } Range;

static float clip(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

static void extend(Range *range, const float *x, long n) {
    for (long i = 0; i < n; i++) {
        if (isinf(checked(x[i]))) continue;
        if (fabsf(x[i]) > range->amax) range->amax = fabsf(x[i]);
        if (x[i] < range->lo) range->lo = x[i];
        if (x[i] > range->hi) range->hi = x[i];
    }
}

static float scale_of(Range r, Quantizer z) {
    const float levels = (float)((1 << z.bits) - 1), q_max = (float)((1 << (z.bits - 1)) - 1);
    float s = r.amax / q_max;
    if (z.minmax) s = isinf(r.hi - r.lo) ? r.hi / levels - r.lo / levels : (r.hi - r.lo) / levels;
    return s < SCALE_MIN ? 1 : s;
}

static int32_t zero_point(Range r, float s, Quantizer z) {
    const float half = (float)(1 << (z.bits - 1));
    return z.minmax ? (int32_t)clip(rintf(-half - r.lo / s), -half, half - 1) : 0;
}

static int8_t code(float x, float s, int32_t zp, Quantizer z) {
    const float half = (float)(1 << (z.bits - 1));
#ifdef BUG_RECIPROCAL
    const float v = rintf(checked(x) * (1 / s)) + (float)zp;
#else
    const float v = rintf(checked(x) / s) + (float)zp;
#endif
    return (int8_t)clip(v, z.minmax ? -half : 1 - half, half - 1);
}

static int8_t *codes(const float *x, long rows, long k, const float *s, const int32_t *zp, Quantizer z) {
    int8_t *q = fresh(rows * k, 1);
    for (long i = 0; i < rows * k; i++) q[i] = code(x[i], s[i / k], zp[i / k], z);
    return q;
}

static int8_t *prob_codes(const float *p, long n) {
    int8_t *q = fresh(n, 1);
    for (long i = 0; i < n; i++) q[i] = (int8_t)rintf(p[i] / PROB_SCALE);
    return q;
}

/* --- N2, N7, N8: weights, products, rescaling --- */

static int8_t *planes_decode(const uint64_t *planes, long n, long k) {
    const long words = (k + 63) / 64;
    int8_t *out = fresh(n * k, 1);
    for (long row = 0; row < n; row++)
        for (long i = 0; i < 64 * words; i++) {
            const int plus = planes[row * words + i / 64] >> i % 64 & 1;
            const int minus = planes[(n + row) * words + i / 64] >> i % 64 & 1;
            if ((plus && minus) || (i >= k && (plus || minus))) refuse();
            if (i < k) out[row * k + i] = (int8_t)(plus - minus);
        }
    return out;
}

static int8_t *base3_decode(const uint8_t *stream, long bytes, long count) {
    int8_t *out = fresh(count, 1);
    if (bytes != (count + 4) / 5) refuse();
    for (long b = 0; b < bytes; b++) {
        int rest = stream[b];
        if (rest > 242) refuse();
        for (long i = 5 * b; i < 5 * b + 5; i++, rest /= 3) {
            if (i < count) out[i] = (int8_t)(rest % 3 - 1);
            else if (rest % 3 != 1) refuse();
        }
    }
    return out;
}

static int32_t *product(const int8_t *q, const int32_t *zp, const int8_t *weight, long rows, long k, long n) {
    int32_t *acc = fresh(rows * n, sizeof *acc);
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < n; c++) {
            int64_t sum = 0;
            for (long i = 0; i < k; i++) sum += (q[r * k + i] - zp[r]) * weight[c * k + i];
            acc[r * n + c] = (int32_t)sum;
        }
    return acc;
}

static float *rescale(const int32_t *acc, const float *s, const float *alpha, const float *bias, long rows, long n) {
    float *y = floats(rows * n);
    for (long i = 0; i < rows * n; i++) {
        y[i] = ((float)acc[i] * s[i / n]) * alpha[i % n];
        if (bias) y[i] = y[i] + bias[i % n];
        checked(y[i]);
    }
    return y;
}

typedef struct {
    const char *name;
    long k, n;
    const int8_t *weight;
    const float *alpha, *bias, *s; /* bias may be NULL; s and zp are NULL unless they are static */
    const int32_t *zp;
    Quantizer quantizer;
} Linear;

static void check_range(const Linear *l) { /* N6 */
    for (long row = 0; row < l->n; row++) {
        int64_t sum = 0;
        for (long i = 0; i < l->k; i++) sum += abs(l->weight[row * l->k + i]);
        if (l->quantizer.minmax && sum * ((1 << l->quantizer.bits) - 1) >= INT64_C(1) << 31) refuse();
    }
}

static float *linear(const Linear *l, const float *x, long rows, long groups) { /* x [R, K] -> [R, N] */
    float *s = floats(rows);
    int32_t *zp = fresh(rows, sizeof *zp);
    const long per = groups ? rows / groups : 0; /* rows that share a scale */
    check_range(l);
    for (long r = 0; r < rows; r++) {
        Range range = {0};
        extend(&range, x + r / per * per * l->k, per * l->k);
        s[r] = l->s ? *l->s : scale_of(range, l->quantizer);
        zp[r] = l->zp ? *l->zp : zero_point(range, s[r], l->quantizer);
    }
    const int8_t *q = codes(x, rows, l->k, s, zp, l->quantizer);
    const int32_t *acc = product(q, zp, l->weight, rows, l->k, l->n);
    float *out = rescale(acc, s, l->alpha, l->bias, rows, l->n);
    PUT(join(l->name, "s_in"), s, rows);
    if (l->quantizer.minmax) PUT(join(l->name, "zp_in"), zp, rows);
    PUT(join(l->name, "q_in"), q, rows * l->k);
    PUT(join(l->name, "acc"), acc, rows * l->n);
    PUT(join(l->name, "out"), out, rows * l->n);
    return out;
}

/* --- N10: attention. Arrays of heads are [B, W, H, T, D], scores [B, W, H, T, T]. --- */

typedef struct { long b, w, h, t, d; } Heads;

static long blocks(Heads z) { return z.b * z.w * z.h; }
static long scale_index(Heads z, long block) { return block / (z.w * z.h) * z.h + block % z.h; } /* of [B, H] */

static float *score(Heads z, const int8_t *q, const int8_t *k, const float *s_q, const float *s_k) {
    float *y = floats(blocks(z) * z.t * z.t);
    const float r = (float)(1 / sqrt((double)z.d));
    for (long n = 0, at = 0; n < blocks(z); n++)
        for (long i = 0; i < z.t; i++)
            for (long j = 0; j < z.t; j++, at++) {
                int32_t acc = 0;
                for (long d = 0; d < z.d; d++) acc += q[(n * z.t + i) * z.d + d] * k[(n * z.t + j) * z.d + d];
                y[at] = (((float)acc * s_q[scale_index(z, n)]) * s_k[scale_index(z, n)]) * r;
            }
    return y;
}

static float *float_score(Heads z, const float *q, const float *k) {
    float *y = floats(blocks(z) * z.t * z.t), *products = floats(z.d);
    const float r = (float)(1 / sqrt((double)z.d));
    for (long n = 0, at = 0; n < blocks(z); n++)
        for (long i = 0; i < z.t; i++)
            for (long j = 0; j < z.t; j++, at++) {
                for (long d = 0; d < z.d; d++) products[d] = q[(n * z.t + i) * z.d + d] * k[(n * z.t + j) * z.d + d];
                y[at] = checked(sum16(products, z.d) * r);
            }
    return y;
}

static float *with_places(Heads z, float *score, const float *bias, const float *mask) { /* [H, T, T], [W, T, T] */
    for (long n = 0, tt = z.t * z.t; n < blocks(z); n++)
        for (long i = 0; i < tt; i++) {
            if (bias) score[n * tt + i] += bias[n % z.h * tt + i];
            if (mask) score[n * tt + i] += mask[n / z.h % z.w * tt + i];
        }
    return score;
}

static float *context(Heads z, const int8_t *p, const int8_t *v, const float *s_v) { /* -> [B, W, T, H D] */
    float *y = floats(blocks(z) * z.t * z.d);
    for (long n = 0; n < blocks(z); n++)
        for (long i = 0; i < z.t; i++)
            for (long d = 0; d < z.d; d++) {
                int32_t acc = 0;
                for (long j = 0; j < z.t; j++) acc += p[(n * z.t + i) * z.t + j] * v[(n * z.t + j) * z.d + d];
                y[((n / z.h * z.t + i) * z.h + n % z.h) * z.d + d] =
                    ((float)acc * PROB_SCALE) * s_v[scale_index(z, n)];
            }
    return y;
}

static float *float_context(Heads z, const float *p, const float *v) {
    float *y = floats(blocks(z) * z.t * z.d), *products = floats(z.t);
    for (long n = 0; n < blocks(z); n++)
        for (long i = 0; i < z.t; i++)
            for (long d = 0; d < z.d; d++) {
                for (long j = 0; j < z.t; j++) products[j] = p[(n * z.t + i) * z.t + j] * v[(n * z.t + j) * z.d + d];
                y[((n / z.h * z.t + i) * z.h + n % z.h) * z.d + d] = checked(sum16(products, z.t));
            }
    return y;
}

static float *part_of(Heads z, const float *qkv, long part) { /* [B, W, T, 3 C] -> [B, W, H, T, D] of q, k or v */
    float *x = floats(blocks(z) * z.t * z.d);
    for (long n = 0, at = 0; n < blocks(z); n++)
        for (long t = 0; t < z.t; t++)
            for (long d = 0; d < z.d; d++)
                x[at++] = qkv[(((n / z.h * z.t + t) * 3 + part) * z.h + n % z.h) * z.d + d];
    return x;
}

typedef struct { const int8_t *q; const float *s; } Codes;

static Codes head_codes(const char *name, Heads z, const float *x) { /* one scale for each picture and head */
    const long size = z.t * z.d;
    const Quantizer quantizer = {8, 0};
    Range *ranges = fresh(z.b * z.h, sizeof *ranges);
    float *s = floats(z.b * z.h);
    int8_t *q = fresh(blocks(z) * size, 1);
    for (long n = 0; n < blocks(z); n++) extend(&ranges[scale_index(z, n)], x + n * size, size);
    for (long i = 0; i < z.b * z.h; i++) s[i] = scale_of(ranges[i], quantizer);
    for (long i = 0; i < blocks(z) * size; i++) q[i] = code(x[i], s[scale_index(z, i / size)], 0, quantizer);
    PUT(join(name, "s_in"), s, z.b * z.h);
    PUT(join(name, "q_in"), q, blocks(z) * size);
    return (Codes){q, s};
}

static float *attention(const char *name, Heads z, const float *qkv, int integers, const float *bias,
                        const float *mask) {
    const float *q = part_of(z, qkv, 0), *k = part_of(z, qkv, 1), *v = part_of(z, qkv, 2);
    const long scores = blocks(z) * z.t * z.t;
    Codes cq, ck, cv = {0};
    float *y, *out;
    if (integers) {
        cq = head_codes(join(name, "q"), z, q);
        ck = head_codes(join(name, "k"), z, k);
        cv = head_codes(join(name, "v"), z, v);
        y = score(z, cq.q, ck.q, cq.s, ck.s);
    } else y = float_score(z, q, k);
    y = with_places(z, y, bias, mask);
    const float *prob = softmax(y, blocks(z) * z.t, z.t);
    PUT(join(name, "score"), y, scores);
    PUT(join(name, "prob"), prob, scores);
    if (integers) {
        const int8_t *p = prob_codes(prob, scores);
        PUT(join(name, "q_prob"), p, scores);
        out = context(z, p, cv.q, cv.s);
    } else out = float_context(z, prob, v);
    PUT(join(name, "context"), out, blocks(z) * z.t * z.d);
    return out;
}

/* --- N11, N12 and section 3: residuals, pictures, Swin's windows --- */

static float *residual(const float *skip, const float *branch, const float *gamma, long n, long c) {
    float *y = floats(n);
    for (long i = 0; i < n; i++) y[i] = skip[i] + (gamma ? branch[i] * gamma[i % c] : branch[i]);
    return y;
}

static float *pixels(const uint8_t *u8, long side, const char *mean, const char *std) { /* -> [3, S, S] */
    float *x = floats(3 * side * side);
    mean = first(mean), std = first(std);
    for (long c = 0; c < 3; c++, mean = next(mean), std = next(std))
        for (long i = 0; i < side * side; i++)
            x[c * side * side + i] = ((float)u8[3 * i + c] / 255 - (float)number(mean)) / (float)number(std);
    return x;
}

static float *patches(const float *x, long side, long p) { /* [3, S, S] -> [G G, 3 P P] */
    float *rows = floats(3 * side * side), *to = rows;
    for (long n = 0, g = side / p; n < g * g; n++)
        for (long c = 0; c < 3; c++)
            for (long i = 0; i < p * p; i++)
                *to++ = x[(c * side + n / g * p + i / p) * side + n % g * p + i % p];
    return rows;
}

typedef struct { long side, m, shift; } Map;

static long windows_a_side(Map g) { return (g.side + g.m - 1) / g.m; }
static long window_count(Map g) { return windows_a_side(g) * windows_a_side(g); }

static void place(Map g, long w, long t, long *row, long *column) { /* of token t of window w, in the rolled map */
    *row = w / windows_a_side(g) * g.m + t / g.m;
    *column = w % windows_a_side(g) * g.m + t % g.m;
}

static long pixel(Map g, long w, long t) { /* which pixel token t of window w is; -1: padding */
    const long padded = windows_a_side(g) * g.m;
    long r, c;
    place(g, w, t, &r, &c);
    r = (r + g.shift) % padded, c = (c + g.shift) % padded;
    return r < g.side && c < g.side ? r * g.side + c : -1;
}

static float *windows(Map g, const float *x, long b, long c) { /* [B, S, S, C] -> [B, W, M M, C] */
    const long t = g.m * g.m, rows = window_count(g) * t;
    float *y = floats(b * rows * c);
    for (long i = 0; i < b * rows; i++) {
        const long from = pixel(g, i % rows / t, i % t);
        if (from >= 0) memcpy(y + i * c, x + (i / rows * g.side * g.side + from) * c, (size_t)c * sizeof *y);
    }
    return y;
}

static float *windows_back(Map g, const float *x, long b, long c) {
    const long t = g.m * g.m, rows = window_count(g) * t;
    float *y = floats(b * g.side * g.side * c);
    for (long i = 0; i < b * rows; i++) {
        const long to = pixel(g, i % rows / t, i % t);
        if (to >= 0) memcpy(y + (i / rows * g.side * g.side + to) * c, x + i * c, (size_t)c * sizeof *y);
    }
    return y;
}

static long region(Map g, long p) {
    const long padded = windows_a_side(g) * g.m;
    return (p >= padded - g.m) + (p >= padded - g.shift);
}

static float *shift_mask(Map g) { /* [W, T, T] */
    const long t = g.m * g.m, n = window_count(g);
    float *mask = floats(n * t * t);
    for (long w = 0; w < n && g.shift; w++)
        for (long i = 0; i < t * t; i++) {
            long r, c, r2, c2;
            place(g, w, i / t, &r, &c);
            place(g, w, i % t, &r2, &c2);
            if (region(g, r) != region(g, r2) || region(g, c) != region(g, c2)) mask[w * t * t + i] = MASK;
        }
    return mask;
}

static float *position_bias(const float *table, long m, long h) { /* [(2M-1)^2, H] -> [H, T, T] */
    const long t = m * m;
    float *bias = floats(h * t * t);
    for (long i = 0; i < h * t * t; i++) {
        const long a = i / t % t, b = i % t;
        bias[i] = table[((a / m - b / m + m - 1) * (2 * m - 1) + a % m - b % m + m - 1) * h + i / (t * t)];
    }
    return bias;
}

static float *merging(const float *x, long b, long side, long c) { /* [B, S, S, C] -> [B, S/2, S/2, 4 C] */
    const long half = (side + 1) / 2;
    float *y = floats(b * half * half * 4 * c);
    for (long i = 0; i < b * half * half * 4; i++) {
        const long row = 2 * (i / 4 / half % half) + i % 2, column = 2 * (i / 4 % half) + i / 2 % 2;
        const long from = (i / (4 * half * half) * side + row) * side + column;
        if (row < side && column < side) memcpy(y + i * c, x + from * c, (size_t)c * sizeof *y);
    }
    return y;
}

static float *pool(const float *x, long b, long t, long c) { /* [B, T, C] -> [B, C] */
    float *y = floats(b * c), *column = floats(t);
    for (long i = 0; i < b * c; i++) {
        for (long n = 0; n < t; n++) column[n] = x[(i / c * t + n) * c + i % c];
        y[i] = sum16(column, t) / (float)t;
    }
    return y;
}

static float *logits(const float *head, const float *dist, long n) {
    float *y = floats(n);
    for (long i = 0; i < n; i++) y[i] = (head[i] + dist[i]) * 0.5f;
    return y;
}

/* --- Section 3: whole models, one picture at a time. Each step returns its result and puts it out. --- */

static float *apply(const Model *m, const char *name, const float *x, long rows, long k) {
    const int block = strncmp(name, "head", 4) && strcmp(name, "patch_embed.proj");
    const char *weight = join(name, "weight"), *act_scale = member(m->quant, "act_scale");
    long alphas, bytes;
    Linear l = {name, k, 0, tensor(m, join(weight, "int8"), NULL), tensor(m, join(weight, "alpha"), &alphas),
                tensor(m, join(name, "bias"), NULL), tensor(m, join(name, "act.scale"), NULL),
                tensor(m, join(name, "act.zero_point"), NULL),
                {block ? (int)number(member(m->quant, "act_bits")) : 8,
                 is(member(m->quant, "act_quantizer"), "minmax")}};
    l.n = alphas / (long)sizeof(float);
    const void *planes = tensor(m, join(weight, "planes"), NULL), *base3 = tensor(m, join(weight, "base3"), &bytes);
    if (planes) l.weight = planes_decode(planes, l.n, k);
    if (base3) l.weight = base3_decode(base3, bytes, l.n * k);
    return linear(&l, x, rows, is(act_scale, "token") ? rows : 1);
}

static float *norm(const Model *m, const char *name, const float *x, long rows, long k) {
    float *y = layernorm(x, rows, k, tensor(m, join(name, "weight"), NULL), tensor(m, join(name, "bias"), NULL),
                         (float)number(member(m->config, "norm_eps")));
    PUT(name, y, rows * k);
    return y;
}

static float *attend(const Model *m, const char *name, const float *x, Heads z, const float *bias, const float *mask) {
    const long rows = z.w * z.t, c = z.h * z.d;
    const float *qkv = apply(m, join(name, "qkv"), x, rows, c);
    return apply(m, join(name, "proj"), attention(name, z, qkv, is(member(m->quant, "attention"), "int8"), bias, mask),
                 rows, c);
}

static float *windowed(const Model *m, const char *name, const float *x, long heads, long c, Map g) {
    const float *table = tensor(m, join(name, "relative_position_bias_table"), NULL);
    const Heads z = {1, window_count(g), heads, g.m * g.m, c / heads};
    const float *h = attend(m, name, windows(g, x, 1, c), z, position_bias(table, g.m, heads),
                            g.shift ? shift_mask(g) : NULL);
    return windows_back(g, h, 1, c);
}

static float *mlp(const Model *m, const char *name, const float *x, long rows, long c) {
    const long hidden = (long)floor((double)c * number(member(m->config, "mlp_ratio")));
    const float *act = each(gelu_of, apply(m, join(name, "fc1"), x, rows, c), rows * hidden);
    PUT(join(name, "act"), act, rows * hidden);
    return apply(m, join(name, "fc2"), act, rows, hidden);
}

static float *block(const Model *m, const char *name, const float *x, long t, long c, long heads, const Map *map) {
    const float *gamma1 = tensor(m, join(name, "ls1.gamma"), NULL), *gamma2 = tensor(m, join(name, "ls2.gamma"), NULL);
    const char *attn = join(name, "attn");
    const float *h = norm(m, join(name, "norm1"), x, t, c);
    h = map ? windowed(m, attn, h, heads, c, *map) : attend(m, attn, h, (Heads){1, 1, heads, t, c / heads}, NULL, NULL);
    x = residual(x, h, gamma1, t * c, c);
    h = mlp(m, join(name, "mlp"), norm(m, join(name, "norm2"), x, t, c), t, c);
    float *y = residual(x, h, gamma2, t * c, c);
    PUT(name, y, t * c);
    return y;
}

static float *with_tokens(const Model *m, const float *x, long n, long c, long *tokens) { /* [G G, C] -> [T, C] */
    const float *cls = tensor(m, "cls_token", NULL), *dist = tensor(m, "dist_token", NULL);
    const float *positions = tensor(m, "pos_embed", NULL);
    const long prefix = dist ? 2 : 1, bare = has(m, "no_embed_class") ? prefix : 0;
    float *y = floats((prefix + n) * c);
    memcpy(y, cls, (size_t)c * sizeof *y);
    if (dist) memcpy(y + c, dist, (size_t)c * sizeof *y);
    memcpy(y + prefix * c, x, (size_t)(n * c) * sizeof *y);
    for (long i = bare * c; i < (prefix + n) * c; i++) y[i] = y[i] + positions[i - bare * c];
    *tokens = prefix + n;
    return y;
}

static float *vit(const Model *m, const float *x, long side, long c) {
    const long classes = setting(m, "num_classes");
    long t;
    PUT("patch_embed", x, side * side * c);
    x = with_tokens(m, x, side * side, c, &t);
    for (long i = 0; i < setting(m, "depth"); i++)
        x = block(m, numbered("blocks.%ld", i), x, t, c, setting(m, "num_heads"), NULL);
    x = norm(m, "norm", x, t, c);
    float *y = apply(m, "head", x, 1, c);
    return has(m, "distilled") ? logits(y, apply(m, "head_dist", x + c, 1, c), classes) : y;
}

static float *swin(const Model *m, const float *x, long side, long c) {
    const char *depth = first(member(m->config, "depths")), *heads = first(member(m->config, "num_heads"));
    const long window = setting(m, "window_size");
    x = norm(m, "patch_embed.norm", x, side * side, c);
    PUT("patch_embed", x, side * side * c);
    for (long i = 0; depth; i++, depth = next(depth), heads = next(heads)) {
        const char *stage = numbered("layers.%ld", i), *down = join(stage, "downsample");
        if (i) {
            const float *merged = merging(x, 1, side, c);
            side = (side + 1) / 2, c = 2 * c;
            merged = norm(m, join(down, "norm"), merged, side * side, 2 * c);
            x = apply(m, join(down, "reduction"), merged, side * side, 2 * c);
            PUT(down, x, side * side * c);
        }
        for (long j = 0; j < (long)number(depth); j++) {
            Map map = {side, side < window ? side : window, 0};
            if (j % 2 && side > window) map.shift = map.m / 2;
            x = block(m, join(stage, numbered("blocks.%ld", j)), x, side * side, c, (long)number(heads), &map);
        }
    }
    x = pool(norm(m, "norm", x, side * side, c), 1, side * side, c);
    PUT("head.global_pool", x, c);
    return apply(m, "head.fc", x, 1, c);
}

static void forward(const char *file, const uint8_t *u8) {
    const Model m = open_model(file);
    const long size = setting(&m, "img_size"), p = setting(&m, "patch_size"), side = size / p;
    const float *x = pixels(u8, size, member(m.preprocess, "mean"), member(m.preprocess, "std"));
    x = apply(&m, "patch_embed.proj", patches(x, size, p), side * side, 3 * p * p);
    const float *y = (is(member(m.config, "family"), "swin") ? swin : vit)(&m, x, side, setting(&m, "embed_dim"));
    PUT("logits", y, setting(&m, "num_classes"));
}
