/* The tensors of a packed file become the model that the forward pass reads: twin of refvit/forward.py. Weights stay
   where they lie in the file; what has to be decoded or derived goes to the arena. */
#include <stdio.h>
#include <string.h>

#include "../internal.h"
#include "loader.h"

static const float *take_vector(struct builder *b, const char *name, const char *suffix, size_t n)
{
    return take_floats(b, name, suffix, 1, (uint64_t[]){n});
}

static void fill_norm(struct builder *b, struct refvit_norm *norm, const char *name, size_t width)
{
    norm->weight = take_vector(b, name, ".weight", width);
    norm->bias = take_vector(b, name, ".bias", width);
}

/* Planes as they lie there, or decoded from base 3. */
static void fill_planes(struct builder *b, struct refvit_linear *layer, const char *name)
{
    const size_t n = layer->n, k = layer->k, words = words_of(k);
    char full[NAME_MAX_BYTES];
    snprintf(full, sizeof full, "%s.weight.base3", name);
    int32_t *counts = arena_take(&b->arena, n, 1, sizeof *counts);
    if (find_tensor(b->header, full, U8)) {
        const uint8_t *stream = take_tensor(b, name, ".weight.base3", U8, 1, (uint64_t[]){((uint64_t)n * k + 4) / 5});
        uint64_t *planes = stream ? arena_take(&b->arena, 2 * n, words, sizeof *planes) : NULL;
        if (planes && refvit_decode_base3(n, k, stream, planes))
            refuse(b, name, ".weight.base3", "a byte above 242, or a digit after the last code (N2)");
        layer->planes = planes;
    } else {
        layer->planes = take_tensor(b, name, ".weight.planes", U64, 3, (uint64_t[]){2, n, words});
    }
    if (layer->planes && counts && refvit_check_planes(n, k, layer->planes, counts))
        refuse(b, name, ".weight.planes", "both planes set, or padding that is not zero (N2)");
    layer->neg_counts = counts;
}

static void fill_codes(struct builder *b, struct refvit_linear *layer, const char *name)
{
    layer->codes = take_tensor(b, name, ".weight.int8", I8, 2, (uint64_t[]){layer->n, layer->k});
    for (size_t i = 0; layer->codes && b->arena.base && i < layer->n * layer->k; i++) {
        if (layer->codes[i] == -128) {
            refuse(b, name, ".weight.int8", "a code of -128 (N1)");
            return;
        }
    }
}

/* Sum of the codes of a channel, and of their magnitudes. */
static int32_t sum_codes(const struct refvit_linear *layer, size_t channel, int64_t *magnitude)
{
    const size_t words = words_of(layer->k);
    int64_t pos = 0, neg = 0;
    for (size_t w = 0; layer->bits == 2 && w < words; w++) {
        pos += __builtin_popcountll(layer->planes[channel * words + w]);
        neg += __builtin_popcountll(layer->planes[(layer->n + channel) * words + w]);
    }
    for (size_t i = 0; layer->bits == 8 && i < layer->k; i++) {
        const int code = layer->codes[channel * layer->k + i];
        pos += code > 0 ? code : 0;
        neg += code < 0 ? -code : 0;
    }
    *magnitude = pos + neg;
    return (int32_t)(pos - neg);
}

/* What zero points need (N6), and its bound. */
static void fill_sums(struct builder *b, struct refvit_linear *layer, const char *name)
{
    int32_t *sums = arena_take(&b->arena, layer->n, 1, sizeof *sums);
    for (size_t i = 0; sums && !b->status && i < layer->n; i++) {
        int64_t magnitude;
        sums[i] = sum_codes(layer, i, &magnitude);
        if (magnitude * ((1 << layer->act_bits) - 1) > INT32_MAX)
            refuse(b, name, "", "|acc - zp sum(w)|; expected below 2^31 (N6)");
    }
    layer->code_sums = sums;
}

static void fill_static(struct builder *b, struct refvit_linear *layer, const char *name)
{
    const float *s = take_floats(b, name, ".act.scale", 1, (uint64_t[]){1});
    const int32_t *zp = take_tensor(b, name, ".act.zero_point", I32, 1, (uint64_t[]){1});
    const int32_t low = b->settings->minmax ? -(1 << (layer->act_bits - 1)) : 0;
    if (!b->arena.base || !s)
        return;
    if (*s < 0x1p-126f || *zp < low || *zp > (low ? -low - 1 : 0))
        refuse(b, name, "", "static scale below 2^-126, or its zero point out of range");
    layer->s = *s;
    layer->zp = *zp;
}

static void fill_linear(struct builder *b, struct refvit_linear *layer, const char *name, int64_t bits, int64_t act_bits,
                        size_t n, size_t k, int has_bias)
{
    layer->n = n;
    layer->k = k;
    layer->bits = (int)bits;
    layer->act_bits = (int)act_bits;
    if (k > K_MAX - (bits == 8))
        refuse(b, name, "", "inputs of a dot product; expected at most 2^17, of 8-bit weights less (N7)");
    if (b->status)
        return;
    (bits == 2 ? fill_planes : fill_codes)(b, layer, name);
    layer->alpha = take_vector(b, name, ".weight.alpha", n);
    layer->bias = has_bias ? take_vector(b, name, ".bias", n) : NULL;
    if (b->settings->minmax)
        fill_sums(b, layer, name);
    if (b->settings->is_static)
        fill_static(b, layer, name);
}

static void fill_part(struct builder *b, struct refvit_linear *layer, const char *block, const char *part, size_t n, size_t k)
{
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.%s", block, part);
    fill_linear(b, layer, name, b->settings->weight_bits, b->settings->act_bits, n, k, 1);
}

static void fill_block(struct builder *b, struct refvit_block *block, const char *name, size_t c, size_t hidden)
{
    char norm[NAME_MAX_BYTES];
    snprintf(norm, sizeof norm, "%s.norm1", name);
    fill_norm(b, &block->norm1, norm, c);
    norm[strlen(norm) - 1] = '2';
    fill_norm(b, &block->norm2, norm, c);
    fill_part(b, &block->qkv, name, "attn.qkv", 3 * c, c);
    fill_part(b, &block->proj, name, "attn.proj", c, c);
    fill_part(b, &block->fc1, name, "mlp.fc1", hidden, c);
    fill_part(b, &block->fc2, name, "mlp.fc2", c, hidden);
    if (b->settings->layer_scale) {
        block->gamma1 = take_vector(b, name, ".ls1.gamma", c);
        block->gamma2 = take_vector(b, name, ".ls2.gamma", c);
    }
}

/* Structures of the model, zero; `spare` is written in their stead while there is no room. */
static void *take_structs(struct builder *b, size_t count, size_t bytes, void *spare)
{
    void *at = arena_take(&b->arena, count, 1, bytes);
    return at ? memset(at, 0, count * bytes) : spare;
}

/* Where structure i of an array goes. */
#define AT(b, array, i) ((array) + ((b)->arena.base ? (i) : 0))

static void fill_swin_block(struct builder *b, const struct refvit_stage *stage, struct refvit_block *block, const char *name,
                            const struct geometry *g)
{
    fill_block(b, block, name, g->width, stage->hidden);
    block->bias = window_bias(b, name, g->window, stage->heads);
}

static void fill_merge(struct builder *b, struct refvit_stage *stage, size_t index)
{
    char name[NAME_MAX_BYTES];
    struct refvit_norm spare_norm;
    struct refvit_linear spare = {.n = 0};
    struct refvit_norm *norm = take_structs(b, 1, sizeof *norm, &spare_norm);
    struct refvit_linear *linear = take_structs(b, 1, sizeof *linear, &spare);
    snprintf(name, sizeof name, "layers.%zu.downsample.norm", index);
    fill_norm(b, norm, name, 2 * stage->width);
    snprintf(name, sizeof name, "layers.%zu.downsample.reduction", index);
    fill_linear(b, linear, name, b->settings->weight_bits, b->settings->act_bits, stage->width, 2 * stage->width, 0);
    stage->merge_norm = b->arena.base ? norm : NULL;
    stage->merge = b->arena.base ? linear : NULL;
}

/* Whether the work space of these sizes can be counted at all; in double, which has no overflow. */
static int can_be_counted(const struct refvit_stage *stage)
{
    const double widest = 8.0 * (double)stage->width + (double)stage->hidden;
    return (double)stage->tokens * widest < (double)SIZE_MAX / 64;
}

static void fill_stage(struct builder *b, struct refvit_stage *stage, size_t index)
{
    const struct settings *s = b->settings;
    const struct geometry g = geometry_of(s, index);
    const size_t prefix = s->swin ? 0 : 1 + (size_t)s->distilled, tokens = g.side * g.side + prefix;
    struct refvit_block spare = {.mask = NULL};
    *stage = (struct refvit_stage){.side = s->swin ? g.side : 0, .tokens = tokens, .width = g.width,
                                   .hidden = (size_t)((double)g.width * s->mlp_ratio), .heads = (size_t)s->heads[index],
                                   .windows = g.across * g.across, .window = s->swin ? g.window * g.window : tokens,
                                   .depth = (size_t)s->depths[index]};
    if (!s->float_attention && stage->window >= K_MAX)
        refuse(b, "metadata", "", "tokens of a window; expected below 2^17 (N7)");
    if (!can_be_counted(stage) && !b->status)
        b->status = complain(b->message, REFVIT_NO_MEMORY, "not enough memory");
    if (b->status)
        return;
    if (index > 0)
        fill_merge(b, stage, index);
    struct refvit_block *blocks = take_structs(b, stage->depth, sizeof *blocks, &spare);
    const size_t shift = s->swin && g.side > (size_t)s->window_size ? g.window / 2 : 0;
    const int32_t *rows = s->swin ? window_rows(b, &g, 0) : NULL;
    const int32_t *shifted = shift ? window_rows(b, &g, shift) : rows;
    const float *mask = shift ? window_mask(b, &g, shift) : NULL;
    for (size_t i = 0; i < stage->depth && !b->status; i++) {
        char name[NAME_MAX_BYTES];
        struct refvit_block *block = AT(b, blocks, i);
        if (s->swin) {
            snprintf(name, sizeof name, "layers.%zu.blocks.%zu", index, i);
            fill_swin_block(b, stage, block, name, &g);
            block->rows = i % 2 ? shifted : rows;
            block->mask = i % 2 ? mask : NULL;
        } else {
            snprintf(name, sizeof name, "blocks.%zu", i);
            fill_block(b, block, name, g.width, stage->hidden);
        }
    }
    stage->blocks = b->arena.base ? blocks : NULL;
}

/* Prefix tokens, with their positions where these have any, and the positions of the patches. */
static void fill_tokens(struct builder *b, struct refvit_model *model)
{
    const struct settings *s = b->settings;
    const size_t c = (size_t)s->embed_dim, grid = model->img_size / model->patch_size;
    const uint64_t token[] = {1, 1, c};
    model->prefix = 1 + (size_t)s->distilled;
    const size_t before = s->no_embed_class ? 0 : model->prefix;
    const float *tokens[] = {take_floats(b, "cls_token", "", 3, token),
                             s->distilled ? take_floats(b, "dist_token", "", 3, token) : NULL};
    const float *positions = take_floats(b, "pos_embed", "", 3, (uint64_t[]){1, grid * grid + before, c});
    float *rows = arena_take(&b->arena, model->prefix, c, sizeof *rows);
    for (size_t i = 0; rows && !b->status && i < model->prefix * c; i++)
        rows[i] = before ? tokens[i / c][i % c] + positions[i] : tokens[i / c][i % c];
    model->prefix_rows = rows;
    model->positions = positions ? positions + before * c : NULL;
}

static void fill_heads(struct builder *b, struct refvit_model *model, size_t width)
{
    const char *names[] = {b->settings->swin ? "head.fc" : "head", "head_dist"};
    struct refvit_linear spare = {.n = 0}, *heads;
    model->head_count = 1 + (size_t)b->settings->distilled;
    heads = take_structs(b, model->head_count, sizeof *heads, &spare);
    for (size_t i = 0; i < model->head_count; i++)
        fill_linear(b, AT(b, heads, i), names[i], b->settings->head_bits, 8, model->classes, width, 1);
    model->heads = b->arena.base ? heads : NULL;
}

static void fill_pixels(struct builder *b, struct refvit_model *model)
{
    float *pixels = model->channels == 3 ? arena_take(&b->arena, 3, 256, sizeof *pixels) : NULL;
    if (pixels)
        pixel_table(b->settings->mean, b->settings->std, pixels);
    model->pixels = pixels;
}

void build_model(struct builder *b, struct refvit_model *model)
{
    const struct settings *s = b->settings;
    const size_t last = (size_t)s->stages - 1, c = (size_t)s->embed_dim, width = geometry_of(s, last).width;
    struct refvit_stage spare_stage, *stages;
    struct refvit_norm spare_norm, *norm;
    *model = (struct refvit_model){.img_size = (size_t)s->img_size, .patch_size = (size_t)s->patch_size,
                                   .channels = (size_t)s->in_chans, .classes = (size_t)s->num_classes,
                                   .minmax = s->minmax, .per_image = s->per_image, .float_attention = s->float_attention,
                                   .eps = (float)s->norm_eps, .stage_count = (size_t)s->stages, .pool = s->swin};
    fill_pixels(b, model);
    fill_linear(b, &model->embed, "patch_embed.proj", s->patch_bits, 8, c, model->channels * model->patch_size * model->patch_size, 1);
    if (s->swin) {
        norm = take_structs(b, 1, sizeof *norm, &spare_norm);
        fill_norm(b, norm, "patch_embed.norm", c);
        model->embed_norm = b->arena.base ? norm : NULL;
    } else {
        fill_tokens(b, model);
    }
    stages = take_structs(b, model->stage_count, sizeof *stages, &spare_stage);
    for (size_t i = 0; i < model->stage_count && !b->status; i++)
        fill_stage(b, AT(b, stages, i), i);
    model->stages = b->arena.base ? stages : NULL;
    fill_norm(b, &model->norm, "norm", width);
    fill_heads(b, model, width);
    for (size_t i = 0; i < b->header->tensor_count && !b->status; i++)
        if (!b->header->tensors[i].taken)
            b->status = complain(b->message, REFVIT_BAD_FILE, "not a tensor of this model: '%.*s'",
                                 (int)b->header->tensors[i].name.length, b->header->tensors[i].name.at);
}
