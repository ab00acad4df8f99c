/* What the files of the loader share, on the way from the bytes of a packed file (SPEC section 4) to a refvit_model:
   header.c (tensors and metadata), settings.c (what the metadata say), build.c and windows.c (the model), library.c. */
#ifndef REFVIT_LOADER_H
#define REFVIT_LOADER_H

#include "../refvit.h"
#include "json.h"

/* Write one line of ASCII to `message`, unless that is NULL.  -> status */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int complain(char *message, int status, const char *format, ...);

/* Pieces of one block of memory, one after the other; without a base they are only counted, and NULL. */
struct arena {
    uint8_t *base;
    size_t used; /* SIZE_MAX: more than there can be */
};

/* Room for a x b pieces of so many bytes, aligned to REFVIT_ALIGN. */
void *arena_take(struct arena *arena, size_t a, size_t b, size_t bytes);

/* Sort items of so many bytes, ascending; compare as for qsort. */
typedef int compare_function(const void *a, const void *b);
void sort_items(void *items, size_t count, size_t size, compare_function *compare);

enum dtype { BOOL, U8, I8, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64, DTYPES };

/* Of one element. */
size_t bytes_of(enum dtype dtype);

#define DIMENSIONS 4 /* more than any tensor of a model has */

struct tensor {
    struct text name; /* decoded */
    enum dtype dtype;
    size_t dimensions;
    uint64_t shape[DIMENSIONS], begin, end;
    int taken;
};

struct entry {
    struct text key, value; /* decoded */
};

struct header {
    const uint8_t *buffer; /* what follows the header */
    uint64_t size;
    struct tensor *tensors; /* in canonical order */
    struct entry *entries;  /* by key */
    size_t tensor_count, entry_count, room; /* room: bytes of names and texts that must be decoded */
    char *decoded;
};

/* Count what a header holds; then, with room for all of it, read it; hold the content against its hash. */
int count_header(const uint8_t *bytes, size_t count, struct header *header, char *message);
int read_header(const uint8_t *bytes, struct header *header, char *message);
int check_content(const struct header *header, char *message);

/* The text of an entry; at NULL where there is none. */
struct text entry_of(const struct header *header, const char *key);

struct tensor *find_tensor(const struct header *header, const char *name, enum dtype dtype);

#define STAGES 8

struct settings {
    struct text family, name;
    int64_t img_size, patch_size, in_chans, num_classes, embed_dim, window_size;
    int64_t depths[STAGES], heads[STAGES], stages;
    double mlp_ratio, norm_eps;
    int swin, distilled, layer_scale, no_embed_class;
    int64_t weight_bits, act_bits, patch_bits, head_bits;
    int minmax, per_image, is_static, float_attention;
    struct text mode;
    int64_t resize, preprocess_size;
    double mean[3], std[3];
    int imagenet;
    struct text labels; /* the JSON list, at NULL where there is none */
    size_t label_bytes; /* of its names, each with a zero byte */
};

/* Read and check what the metadata say of the model. */
int read_settings(const struct header *header, struct settings *settings, char *message);

/* The normalised values of 8-bit pixels (N12) [3][256].  -> whether all are finite */
int pixel_table(const double *mean, const double *std, float *pixels);

/* Side, width and window side of a stage, and how many windows lie side by side. */
struct geometry {
    size_t side, width, window, across;
};
struct geometry geometry_of(const struct settings *settings, size_t stage);

struct builder {
    struct header *header;
    const struct settings *settings;
    struct arena arena;
    char *message;
    int status;
};

/* Make the model out of the tensors. Without a base in the arena: check that each is there and of its shape, and count;
   else fill, and check the content. */
void build_model(struct builder *builder, struct refvit_model *model);

/* Note the first thing that is wrong.  -> NULL */
const void *refuse(struct builder *builder, const char *name, const char *suffix, const char *what);

#define NAME_MAX_BYTES 96 /* of a tensor; the longest, of block 1023, has 61 */

/* The tensor NAMEsuffix of this dtype and shape, aligned to its elements and in this machine's order of bytes: in place,
   or copied. NULL where there is none, or where it is to be copied and there is no memory yet. */
const void *take_tensor(struct builder *builder, const char *name, const char *suffix, enum dtype dtype, size_t dimensions,
                        const uint64_t *shape);

/* The same of F32, all finite. */
const float *take_floats(struct builder *builder, const char *name, const char *suffix, size_t dimensions, const uint64_t *shape);

/* What blocks of one stage and shift share: the tokens of each window, and the mask. */
const int32_t *window_rows(struct builder *builder, const struct geometry *geometry, size_t shift);
const float *window_mask(struct builder *builder, const struct geometry *geometry, size_t shift);

/* Biases of positions [heads][T][T] out of their table. */
const float *window_bias(struct builder *builder, const char *block, size_t window, size_t heads);

/* The bytes of a file, mapped or read. */
struct source {
    void *bytes;
    size_t size;
    int mapped;
};
int source_open(const char *path, int how, struct source *source, char *message);
void source_close(struct source *source);

#endif
