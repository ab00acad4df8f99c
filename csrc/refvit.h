/* refvit: packed models (tests/vectors/SPEC.md, section 4) from file to logits, and the kernels they run on.

   N1..N14 are the rules of that text. Nothing here keeps state between calls but what it hands out: any number of
   threads may call anything, on one model as well, but a pool and a work space serve one run at a time. A run allocates
   nothing. Matrices are row-major without gaps. Letters: m rows of activations, n output channels, k elements of a dot
   product, words = ceil(k / 64). */
#ifndef REFVIT_H
#define REFVIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cdef begin: cffi reads the declarations from here to the end marker */

enum refvit_status {
    REFVIT_OK = 0,
    REFVIT_BAD_SIZE,    /* a length that does not fit the others, or k above 2^17 (N7) */
    REFVIT_BAD_BACKEND, /* a backend this machine cannot run */
    REFVIT_BAD_PLANES,  /* both planes set, or padding that is not zero (N2) */
    REFVIT_NAN,         /* a NaN came in or came out */
    REFVIT_BAD_FILE,    /* not a packed file, or a damaged one */
    REFVIT_UNSUPPORTED, /* a packed file of another version, or a machine that cannot run it */
    REFVIT_UNREADABLE,  /* the file cannot be opened or read */
    REFVIT_NO_MEMORY    /* none left, or the caller's is too small */
};

/* What a status means, in a few words. */
const char *refvit_status_text(int status);

/* ---- A packed model ---- */

struct refvit; /* an open model: the same for all threads */

#define REFVIT_MESSAGE_BYTES 256 /* room for what is wrong with a file: one line, or "" */
#define REFVIT_ALIGN 64          /* bytes, of a work space */

/* Map a file, or, with REFVIT_READ, read it. A mapped file must stay as it is: whoever shortens it later kills the process
   that runs it (SIGBUS). What was read cannot change. message may be NULL; *model is NULL where a status is returned. */
#define REFVIT_MAP 0
#define REFVIT_READ 1
int refvit_open_file(const char *path, int how, struct refvit **model, char *message);

/* The same of a file's bytes, which must stay until the model is closed. What is not used as it lies there (base-3
   weights, tables; on big-endian machines all numbers but bytes) goes to `memory`, of refvit_memory_size bytes or more;
   NULL: it is allocated. */
int refvit_open_memory(const void *bytes, size_t count, void *memory, size_t memory_size, struct refvit **model,
                       char *message);
int refvit_memory_size(const void *bytes, size_t count, size_t *size, char *message); /* allocates while it looks */
void refvit_close(struct refvit *model);

/* The texts live as long as the model. */
struct refvit_info {
    const char *name;
    size_t img_size, channels, classes;
    int weight_bits, act_bits, patch_bits, head_bits;
    int minmax, per_image, is_static, float_attention; /* see struct refvit_model; is_static: scales are in the file */
    const char *mode; /* of preprocessing: "facebook", "timm" or "squash"; to which edge pictures are resized */
    size_t resize;
    float mean[3], std[3];
    const char *label_set; /* "imagenet1k", or NULL */
};
void refvit_query(const struct refvit *model, struct refvit_info *info);

/* The name of a class; NULL where the file has no list of its own. */
const char *refvit_label(const struct refvit *model, size_t index);

/* The best backend of this machine is taken unless another one is set, before any run. */
int refvit_backend_of(const struct refvit *model);
int refvit_use_backend(struct refvit *model, int backend);

/* Bytes of the work space of a run on a pool of so many threads. */
size_t refvit_run_size(const struct refvit *model, size_t threads);

/* Logits [images][classes] of pixels [images][img_size][img_size][3], RGB after resize and crop; or of normalised
   pictures x [images][channels][img_size][img_size]. work: aligned to REFVIT_ALIGN. pool NULL: this thread alone. */
struct refvit_pool;
int refvit_run_pixels(const struct refvit *model, struct refvit_pool *pool, size_t images, const uint8_t *pixels,
                      float *logits, void *work, size_t work_size);
int refvit_run(const struct refvit *model, struct refvit_pool *pool, size_t images, const float *x, float *logits,
               void *work, size_t work_size);

/* Threads that wait for work, the caller's being one of them; NULL where they cannot be had. */
struct refvit_pool *refvit_pool_new(size_t threads);
void refvit_pool_free(struct refvit_pool *pool);

/* ---- Kernels ---- */

/* Those of one CPU family in ascending order of what they need; a machine may lack one and have those after it. */
enum refvit_backend {
    REFVIT_PORTABLE = 0,
    REFVIT_AVX2 = 1,       /* AVX2, FMA */
    REFVIT_AVXVNNI = 2,    /* and AVX-VNNI */
    REFVIT_AVX512VNNI = 3, /* AVX2, FMA, AVX-512 F, BW, VL, VNNI */
    REFVIT_AVX512 = 4,     /* and VPOPCNTDQ */
    REFVIT_NEON = 5,       /* ARM: NEON */
    REFVIT_NEONDOT = 6,    /* and the dot products of ARMv8.2, in 64 bits */
    REFVIT_RVZBB = 7       /* RISC-V, 64 bits: Zbb */
};

/* Features of the CPU that the operating system has switched on. */
enum refvit_cpu {
    REFVIT_CPU_AVX2 = 1,
    REFVIT_CPU_AVX512F = 2,
    REFVIT_CPU_AVX512BW = 4,
    REFVIT_CPU_AVX512VL = 8,
    REFVIT_CPU_AVX512VPOPCNTDQ = 16,
    REFVIT_CPU_FMA = 32,
    REFVIT_CPU_AVX512VNNI = 64,
    REFVIT_CPU_AVXVNNI = 128,
    REFVIT_CPU_NEON = 256,
    REFVIT_CPU_DOTPROD = 512,
    REFVIT_CPU_ZBB = 1024
};

int refvit_cpu_features(void);

/* The usable backends as bits 1 << backend, none where the CPU lacks what the library was compiled for. */
int refvit_init(void);

const char *refvit_backend_name(int backend);

/* Ternary codes [n][k] -> planes [2][n][words], positive then negative (N2). */
int refvit_pack_planes(int backend, size_t n, size_t k, const int8_t *codes, uint64_t *planes);

/* A base-3 stream of ceil(n k / 5) bytes -> planes [2][n][words] (N2). */
int refvit_decode_base3(size_t n, size_t k, const uint8_t *stream, uint64_t *planes);

/* Check planes [2][n][words] (N2) and count the negative codes of each channel. */
int refvit_check_planes(size_t n, size_t k, const uint64_t *planes, int32_t *neg_counts);

/* out [m][n] = x [m][k] times the codes of planes, exactly (N7). x: two's complement codes of `bits` bits, 1..8.
   neg_counts [n] as refvit_check_planes gives them; work: m * words * bits words. */
int refvit_ternary_matmul(int backend, size_t m, size_t n, size_t k, size_t bits, const int8_t *x,
                          const uint64_t *planes, const int32_t *neg_counts, uint64_t *work, size_t work_len,
                          int32_t *out);

/* The same by dot products, for any int8 x. Its rows are padded with zeros to a multiple of 64 bytes; init: m numbers,
   panel: REFVIT_PANEL_COLS bytes for each of k padded: room to work in. */
#define REFVIT_PANEL_COLS 64
int refvit_ternary_dot(int backend, size_t m, size_t n, size_t k, const int8_t *x, const uint64_t *planes,
                       int32_t *init, uint8_t *panel, int32_t *out);

/* out [batch][m][n] = x [batch][m][k] times w [batch][n][k], exactly (N7); k below 2^17, for 2^17 * 2^14 = 2^31.
   by_inputs: w is [batch][k][n].
   x, init and panel as above. */
int refvit_int8_dot(int backend, size_t batch, size_t m, size_t n, size_t k, const int8_t *x, const int8_t *w,
                    int by_inputs, int32_t *init, uint8_t *panel, int32_t *out);

/* Which family of products refvit_forward takes for m rows of `bits` bits, as measured: 0 popcount, 1 dot products. */
int refvit_family(int backend, size_t m, size_t bits);

/* Do what the instructions of a family can do at most, on registers alone; returns the operations (a multiplication and
   an addition are two) on codes of 1 bit for popcounts, of 8 bits for dot products; 0 where no limit is known. */
double refvit_limit(int backend, int family, size_t loops);

/* Scale (and zero point) of each row of x [rows][k] for codes of `bits` bits, 2..8 (N4, N5). */
int refvit_symmetric_scale(int backend, size_t rows, size_t k, int bits, const float *x, float *s);
int refvit_minmax_scale(int backend, size_t rows, size_t k, int bits, const float *x, float *s, int32_t *zp);

/* q = clip(rint(x / s) + zp, low, high), -128 <= low <= high <= 127 (N4). */
int refvit_quantize_rows(int backend, size_t rows, size_t k, int low, int high, const float *x, const float *s,
                         const int32_t *zp, int8_t *q);

/* y = (acc * s) * alpha, then + bias unless that is NULL (N8). acc [rows][n], s [rows], alpha and bias [n]. */
int refvit_rescale(int backend, size_t rows, size_t n, const int32_t *acc, const float *s, const float *alpha,
                   const float *bias, float *y);

/* N9, twins of the functions of refvit/exact.py. */
int refvit_layernorm(int backend, size_t rows, size_t k, const float *x, const float *weight, const float *bias,
                     float eps, float *y);
int refvit_softmax(int backend, size_t rows, size_t k, const float *x, float *y);
int refvit_gelu(int backend, size_t count, const float *x, float *y);
int refvit_exp(int backend, size_t count, const float *x, float *y);
int refvit_erf(int backend, size_t count, const float *x, float *y);

/* Scales s [rows] and symmetric codes q [rows][k] of gelu(x), `bits` 2..8 (N4, N9); codes of the probabilities
   softmax(x) in 127ths (N10). room: 4 k floats. */
int refvit_gelu_codes(int backend, size_t rows, size_t k, int bits, const float *x, float *room, int8_t *q, float *s);
int refvit_softmax_codes(int backend, size_t rows, size_t k, const float *x, float *room, int8_t *q);

/* out [batch][m][n] = a [batch][m][k] times b [batch][n][k], products rounded, then 16 partial sums (N9). */
int refvit_matmul16(int backend, size_t batch, size_t m, size_t n, size_t k, const float *a, const float *b,
                    float *out);

/* A packed model as the forward pass reads it; the caller owns every array. Layouts are row-major. */
struct refvit_linear {
    size_t n, k;
    int bits, act_bits;       /* 2: planes [2][n][words] (N2); 8: codes [n][k] */
    const uint64_t *planes;
    const int8_t *codes;
    const float *alpha, *bias; /* [n]; bias may be NULL */
    const int32_t *code_sums;  /* [n], sums of the codes, for zero points (N6) */
    const int32_t *neg_counts; /* [n], of planes, as refvit_check_planes gives them */
    float s;                  /* static scale of its input and its zero point, or 0: a scale for each row */
    int32_t zp;
};

struct refvit_norm {
    const float *weight, *bias;
};

struct refvit_block {
    struct refvit_norm norm1, norm2;
    struct refvit_linear qkv, proj, fc1, fc2;
    const float *gamma1, *gamma2; /* LayerScale [width], or NULL */
    const float *bias;            /* of positions [heads][window][window], or NULL */
    const float *mask;            /* [windows][window][window], or NULL */
    const int32_t *rows;          /* [windows][window] tokens in each window, -1 padding; NULL: all, in order */
};

struct refvit_stage {
    size_t side, tokens, width, hidden, heads, windows, window; /* window: tokens in one */
    size_t depth;
    const struct refvit_block *blocks;
    const struct refvit_norm *merge_norm; /* patch merging before the stage, or NULL */
    const struct refvit_linear *merge;
};

struct refvit_model {
    size_t img_size, patch_size, channels, classes;
    int minmax; /* quantizer of activations: 0 symmetric, 1 min-max (N4) */
    int per_image;       /* scales that are not static: 0 one for each row, 1 one for each picture (N6) */
    int float_attention; /* 0 in 8 bits, 1 in float (N10) */
    float eps;
    const float *pixels;             /* [channels][256]: normalised values of 8-bit pixels (N12) */
    struct refvit_linear embed;
    const struct refvit_norm *embed_norm; /* or NULL */
    size_t prefix;                   /* tokens before those of the patches */
    const float *prefix_rows;        /* [prefix][width], positions included */
    const float *positions;          /* of the patches [patches][width], or NULL */
    size_t stage_count;
    const struct refvit_stage *stages;
    struct refvit_norm norm;
    int pool;                        /* the head reads the mean of all tokens, or its own token */
    size_t head_count;               /* 1, or 2: their mean (N11) */
    const struct refvit_linear *heads;
};

/* Bytes that refvit_forward works in; 0 for a model whose sizes it does not take. */
size_t refvit_work_size(const struct refvit_model *model, int backend, size_t threads);

/* Logits [images][classes] of images: u8 [images][side][side][channels] after resize and crop, or, where that is NULL,
   x [images][channels][side][side] normalised. work: 64-byte aligned. One run at a time on a pool; NULL: this thread. */
int refvit_forward(const struct refvit_model *model, int backend, struct refvit_pool *pool, size_t images,
                   const uint8_t *u8, const float *x, float *logits, void *work, size_t work_size);

/* Save this thread's floating-point environment and set the default one (N14); give the saved one back. */
#define REFVIT_ENVIRONMENT_BYTES 64
void refvit_environment_enter(uint8_t *saved);
void refvit_environment_leave(const uint8_t *saved);

/* cdef end */

#ifdef __cplusplus
}
#endif

#endif
