/* What the metadata of a packed file say (SPEC section 4): twin of refvit/config.py and preprocess.py, as strict. */
#include <float.h>
#include <string.h>

#include "loader.h"

#define WINDOW_TABLES_MAX (1 << 25) /* refvit/config.py */

enum kind { INTEGER, NUMBER, FLAG, TEXT, LIST, TRIPLE, THRESHOLD, CLIP };

struct list {
    int64_t values[STAGES], count;
};

struct field {
    const char *key;
    enum kind kind;
    void *value;
};

static void read_list(struct json *j, struct list *list)
{
    size_t done = 0;
    json_open(j, '[');
    while (json_more(j, ']', &done)) {
        if (done > STAGES || !json_integer(j, &list->values[done - 1]))
            j->failed = 1;
    }
    list->count = (int64_t)done;
}

static void read_triple(struct json *j, double *values)
{
    size_t done = 0;
    json_open(j, '[');
    while (json_more(j, ']', &done)) {
        if (done > 3 || !json_number(j, &values[done - 1]))
            j->failed = 1;
    }
    j->failed |= done != 3;
}

/* A finite number >= 0, or "optimal"; a number > 0, or null. Neither has a meaning at inference. */
static void read_origin(struct json *j, enum kind kind)
{
    double value = 1.0;
    struct text text;
    const char first = json_peek(j);
    if (kind == THRESHOLD && first == '"')
        j->failed |= !json_string(j, &text) || !json_is(text, "optimal");
    else if (kind == CLIP && first == 'n')
        json_word(j, "null");
    else
        j->failed |= !json_number(j, &value) || (kind == THRESHOLD ? !(value >= 0.0 && value <= DBL_MAX) : !(value > 0.0));
}

static void read_flag(struct json *j, int *flag)
{
    *flag = json_peek(j) == 't';
    json_word(j, *flag ? "true" : "false");
}

static void read_field(struct json *j, const struct field *field)
{
    switch (field->kind) {
    case INTEGER: json_integer(j, field->value); break;
    case NUMBER: json_number(j, field->value); break;
    case FLAG: read_flag(j, field->value); break;
    case TEXT: json_string(j, field->value); break;
    case LIST: read_list(j, field->value); break;
    case TRIPLE: read_triple(j, field->value); break;
    case THRESHOLD:
    case CLIP: read_origin(j, field->kind); break;
    }
}

/* An object of exactly these fields. */
static int read_object(struct text text, const struct field *fields, size_t count)
{
    struct json j = json_of(text);
    struct text key;
    size_t done = 0;
    unsigned seen = 0;
    if (!text.at)
        return 0;
    json_open(&j, '{');
    while (json_more(&j, '}', &done) && json_key(&j, &key)) {
        size_t i = 0;
        while (i < count && !json_is(key, fields[i].key))
            i++;
        if (i == count || seen >> i & 1)
            return 0;
        seen |= 1u << i;
        read_field(&j, fields + i);
    }
    return json_end(&j) && done == count;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int read_vit(struct text text, struct settings *s)
{
    const struct field fields[] = {
        {"family", TEXT, &s->family}, {"name", TEXT, &s->name}, {"img_size", INTEGER, &s->img_size},
        {"patch_size", INTEGER, &s->patch_size}, {"in_chans", INTEGER, &s->in_chans},
        {"num_classes", INTEGER, &s->num_classes}, {"embed_dim", INTEGER, &s->embed_dim}, {"depth", INTEGER, s->depths},
        {"num_heads", INTEGER, s->heads}, {"mlp_ratio", NUMBER, &s->mlp_ratio}, {"distilled", FLAG, &s->distilled},
        {"layer_scale", FLAG, &s->layer_scale}, {"no_embed_class", FLAG, &s->no_embed_class},
        {"norm_eps", NUMBER, &s->norm_eps}};
    s->stages = 1;
    return read_object(text, fields, COUNT(fields)) && json_is(s->family, "vit");
}

static int read_swin(struct text text, struct settings *s)
{
    struct list depths, heads;
    const struct field fields[] = {
        {"family", TEXT, &s->family}, {"name", TEXT, &s->name}, {"img_size", INTEGER, &s->img_size},
        {"patch_size", INTEGER, &s->patch_size}, {"in_chans", INTEGER, &s->in_chans},
        {"num_classes", INTEGER, &s->num_classes}, {"embed_dim", INTEGER, &s->embed_dim}, {"depths", LIST, &depths},
        {"num_heads", LIST, &heads}, {"window_size", INTEGER, &s->window_size}, {"mlp_ratio", NUMBER, &s->mlp_ratio},
        {"norm_eps", NUMBER, &s->norm_eps}};
    if (!read_object(text, fields, COUNT(fields)) || !json_is(s->family, "swin") || depths.count != heads.count)
        return 0;
    s->swin = 1;
    s->stages = depths.count;
    memcpy(s->depths, depths.values, sizeof s->depths);
    memcpy(s->heads, heads.values, sizeof s->heads);
    return s->window_size >= 1 && s->window_size <= 8192;
}

static int within(int64_t value, int64_t most)
{
    return value >= 1 && value <= most;
}

/* Sizes that are positive, bounded, and divide one another where the architecture needs it. */
static int sizes_fit(const struct settings *s)
{
    const double hidden = (double)s->embed_dim * s->mlp_ratio;
    int64_t depth = 0;
    if (!within(s->img_size, 8192) || !within(s->patch_size, 1024) || !within(s->in_chans, 1024) ||
        !within(s->num_classes, 1 << 20) || !within(s->embed_dim, 1 << 16) || s->img_size % s->patch_size)
        return 0;
    for (int64_t i = 0; i < s->stages; i++) {
        if (!within(s->depths[i], 1024) || s->heads[i] < 1 || (s->embed_dim << i) % s->heads[i])
            return 0;
        depth += s->depths[i];
    }
    return within(depth, 1024) && s->norm_eps > 0.0 && s->norm_eps < 1.0 && hidden >= 1.0 &&
           hidden <= (double)s->embed_dim * 64.0;
}

struct geometry geometry_of(const struct settings *s, size_t stage)
{
    struct geometry g = {.side = (size_t)(s->img_size / s->patch_size), .width = (size_t)s->embed_dim << stage};
    for (size_t i = 0; i < stage; i++)
        g.side = (g.side + 1) / 2;
    g.window = s->swin && g.side > (size_t)s->window_size ? (size_t)s->window_size : g.side;
    g.across = (g.side + g.window - 1) / g.window;
    return g;
}

/* Entries of what is derived for Swin's windows: biases of every block, masks, places of tokens. In double, without overflow. */
static double window_tables(const struct settings *s)
{
    double entries = 0.0;
    for (size_t i = 0; s->swin && i < (size_t)s->stages; i++) {
        const struct geometry g = geometry_of(s, i);
        const double w = (double)(g.across * g.across), t = (double)(g.window * g.window);
        entries += t * t * ((double)(size_t)s->heads[i] * (double)(size_t)s->depths[i] + w) + 2.0 * w * t;
    }
    return entries;
}

/* Which of two texts it is; -1: neither. */
static int choice(struct text text, const char *first, const char *second)
{
    return json_is(text, first) ? 0 : json_is(text, second) ? 1 : -1;
}

static int two_or_eight(int64_t bits)
{
    return bits == 2 || bits == 8;
}

static int read_quant(struct text text, struct settings *s)
{
    struct text quantizer, act_scale, attention, granularity, scale;
    const struct field fields[] = {
        {"weight_bits", INTEGER, &s->weight_bits}, {"act_bits", INTEGER, &s->act_bits},
        {"patch_bits", INTEGER, &s->patch_bits}, {"head_bits", INTEGER, &s->head_bits},
        {"act_quantizer", TEXT, &quantizer}, {"act_scale", TEXT, &act_scale}, {"attention", TEXT, &attention},
        {"granularity", TEXT, &granularity}, {"scale", TEXT, &scale}, {"threshold", THRESHOLD, NULL},
        {"ste_clip", CLIP, NULL}};
    if (!read_object(text, fields, COUNT(fields)))
        return 0;
    s->minmax = choice(quantizer, "symmetric", "minmax");
    s->float_attention = choice(attention, "int8", "float");
    s->per_image = choice(act_scale, "token", "image") == 1;
    s->is_static = json_is(act_scale, "static");
    return two_or_eight(s->weight_bits) && s->act_bits >= 2 && s->act_bits <= 8 && two_or_eight(s->patch_bits) &&
           two_or_eight(s->head_bits) && s->minmax >= 0 && s->float_attention >= 0 &&
           (s->is_static || choice(act_scale, "token", "image") >= 0) && choice(granularity, "channel", "layer") >= 0 &&
           choice(scale, "masked_mean", "absolute_mean") >= 0;
}

int pixel_table(const double *mean, const double *std, float *pixels)
{
    int finite = 1;
    for (int i = 0; i < 3 * 256; i++) {
        const float level = (float)(i % 256) / 255.0f, v = (level - (float)mean[i / 256]) / (float)std[i / 256];
        finite &= v >= -FLT_MAX && v <= FLT_MAX;
        pixels[i] = v;
    }
    return finite;
}

static int read_preprocess(struct text text, struct settings *s)
{
    float pixels[3 * 256];
    const struct field fields[] = {{"mode", TEXT, &s->mode}, {"img_size", INTEGER, &s->preprocess_size},
                                   {"resize", INTEGER, &s->resize}, {"mean", TRIPLE, s->mean}, {"std", TRIPLE, s->std}};
    if (!read_object(text, fields, COUNT(fields)))
        return 0;
    for (int i = 0; i < 3; i++)
        if (!(s->mean[i] >= -FLT_MAX && s->mean[i] <= FLT_MAX && s->std[i] > 0.0 && s->std[i] <= FLT_MAX))
            return 0;
    return (choice(s->mode, "facebook", "timm") >= 0 || json_is(s->mode, "squash")) && within(s->preprocess_size, 8192) &&
           s->resize >= s->preprocess_size && s->resize <= 8192 && pixel_table(s->mean, s->std, pixels);
}

/* A list of num_classes names, the name of a known set, or null. */
static int read_labels(struct text text, struct settings *s)
{
    struct json j = json_of(text);
    struct text name;
    size_t done = 0;
    if (!text.at)
        return 0;
    if (json_peek(&j) == 'n')
        return json_word(&j, "null") && json_end(&j);
    if (json_peek(&j) == '"') {
        s->imagenet = 1;
        return json_string(&j, &name) && json_is(name, "imagenet1k") && json_end(&j) && s->num_classes == 1000;
    }
    json_open(&j, '[');
    while (json_more(&j, ']', &done) && json_string(&j, &name))
        s->label_bytes += name.length + 1;
    s->labels = text;
    return json_end(&j) && (int64_t)done == s->num_classes;
}

int read_settings(const struct header *header, struct settings *s, char *message)
{
    const struct text config = entry_of(header, "config");
    *s = (struct settings){.swin = 0};
    if (!read_vit(config, s) && !read_swin(config, s))
        return complain(message, REFVIT_BAD_FILE, "metadata: config; expected exactly the fields of its family, of their types");
    if (!sizes_fit(s))
        return complain(message, REFVIT_BAD_FILE, "metadata: config; expected sizes within their limits that divide one another");
    if (window_tables(s) > WINDOW_TABLES_MAX)
        return complain(message, REFVIT_BAD_FILE, "metadata: config; expected at most %d entries of masks and biases", WINDOW_TABLES_MAX);
    if (!read_quant(entry_of(header, "quant"), s))
        return complain(message, REFVIT_BAD_FILE, "metadata: quant; expected exactly the fields and values of the specification");
    if (!read_preprocess(entry_of(header, "preprocess"), s))
        return complain(message, REFVIT_BAD_FILE, "metadata: preprocess; expected exactly the fields and values of the specification");
    if (s->preprocess_size != s->img_size)
        return complain(message, REFVIT_BAD_FILE, "metadata: preprocess img_size; expected %d, got %d", (int)s->img_size, (int)s->preprocess_size);
    if (!read_labels(entry_of(header, "labels"), s))
        return complain(message, REFVIT_BAD_FILE, "metadata: labels; expected %d names, a known set or null", (int)s->num_classes);
    return REFVIT_OK;
}
