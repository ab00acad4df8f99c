/* Answers a kit with the port: each operation reads the inputs of its case and puts its outputs.
 *
 *     refvit vectors build -o KIT && cc -std=c99 -O2 -ffp-contract=off -o port cases.c -lm && ./port KIT OUTPUTS
 *     refvit verify KIT OUTPUTS
 *
 * Left out: the operations of training, and those that make or check files. Kits are trusted to be well formed. */

#include <errno.h>
#include <sys/stat.h>

#include "port.c"

enum { AXES = 8, INPUTS = 8, K_MAX = 1 << 17 };

typedef struct { const char *name; long shape[AXES], count; const void *data; } Tensor;

static Tensor inputs[INPUTS];
static int input_count;
static const char *parameters;

static void read_inputs(const char *kit, const char *list) {
    input_count = 0;
    for (const char *p = first(list); p; p = next(p)) {
        Tensor *t = &inputs[input_count++];
        if (input_count > INPUTS) stop("too many inputs", kit);
        *t = (Tensor){text(member(p, "name")), {0}, 1, read_file(kit, text(member(p, "file")))};
        int axis = 0;
        for (const char *n = first(member(p, "shape")); n; n = next(n)) {
            t->shape[axis++] = (long)number(n);
            t->count *= (long)number(n);
        }
    }
}

static const Tensor *in(const char *name) {
    static const Tensor none;
    for (int i = 0; i < input_count; i++)
        if (!strcmp(inputs[i].name, name)) return &inputs[i];
    return &none; /* its data is NULL */
}

static const void *data(const char *name) { return in(name)->data; }
static long size(const char *name, int axis) { return in(name)->shape[axis]; }
static long integer(const char *key) { return (long)number(member(parameters, key)); }
static int says(const char *key, const char *what) { return is(member(parameters, key), what); }
static Quantizer quantizer(void) { return (Quantizer){(int)integer("bits"), says("quantizer", "minmax")}; }
static float eps(void) { return (float)number(member(parameters, "eps")); }

static void do_exp(void) { PUT("y", each(exp_of, data("x"), in("x")->count), in("x")->count); }
static void do_erf(void) { PUT("y", each(erf_of, data("x"), in("x")->count), in("x")->count); }
static void do_gelu(void) { PUT("y", each(gelu_of, data("x"), in("x")->count), in("x")->count); }

static void do_sum16(void) {
    const long rows = size("x", 0), k = size("x", 1);
    const float *x = data("x");
    float *y = floats(rows);
    for (long r = 0; r < rows; r++) y[r] = sum16(x + r * k, k);
    PUT("y", y, rows);
}

static void do_pixels(void) {
    const long side = size("u8", 0);
    PUT("x", pixels(data("u8"), side, member(parameters, "mean"), member(parameters, "std")), 3 * side * side);
}

static void do_patches(void) { PUT("rows", patches(data("x"), size("x", 1), integer("patch_size")), in("x")->count); }

static Range range_of_group(long row, long groups) {
    const long k = size("x", 1), per = size("x", 0) / groups;
    Range range = {0};
    extend(&range, (const float *)data("x") + row / per * per * k, per * k);
    return range;
}

static void do_scale(void) {
    float *s = floats(size("x", 0));
    for (long r = 0; r < size("x", 0); r++) s[r] = scale_of(range_of_group(r, integer("groups")), quantizer());
    PUT("s", s, size("x", 0));
}

static void do_zero_point(void) {
    const Quantizer minmax = {(int)integer("bits"), 1};
    int32_t *zp = fresh(size("x", 0), sizeof *zp);
    for (long r = 0; r < size("x", 0); r++)
        zp[r] = zero_point(range_of_group(r, integer("groups")), ((const float *)data("s"))[r], minmax);
    PUT("zp", zp, size("x", 0));
}

static void do_codes(void) {
    PUT("q", codes(data("x"), size("x", 0), size("x", 1), data("s"), data("zp"), quantizer()), in("x")->count);
}

static void put_product(const int8_t *weight, long n, long k_max) {
    const long rows = size("q", 0), k = size("q", 1);
    if (k > k_max) refuse();
    PUT("acc", product(data("q"), data("zp"), weight, rows, k, n), rows * n);
}

static void do_ternary_product(void) {
    put_product(planes_decode(data("planes"), size("planes", 1), size("q", 1)), size("planes", 1), K_MAX);
}

static void do_int8_product(void) { put_product(data("weight"), size("weight", 0), K_MAX - 1); }

static void do_rescale(void) {
    const long rows = size("acc", 0), n = size("acc", 1);
    PUT("y", rescale(data("acc"), data("s"), data("alpha"), data("bias"), rows, n), rows * n);
}

static void do_linear(void) {
    const long n = in("alpha")->count, k = integer("k");
    const int8_t *weight = data("weight");
    if (!weight) weight = planes_decode(data("planes"), n, k);
    const Linear l = {"", k, n, weight, data("alpha"), data("bias"), data("s"), data("zp"), quantizer()};
    linear(&l, data("x"), size("x", 0), integer("groups"));
}

static void do_layernorm(void) {
    PUT("y", layernorm(data("x"), size("x", 0), size("x", 1), data("weight"), data("bias"), eps()), in("x")->count);
}

static void do_softmax(void) { PUT("y", softmax(data("x"), size("x", 0), size("x", 1)), in("x")->count); }
static void do_prob_codes(void) { PUT("q", prob_codes(data("p"), in("p")->count), in("p")->count); }

static Heads heads_of(const char *name) {
    const long *n = in(name)->shape;
    return (Heads){n[0], n[1], n[2], n[3], n[4]};
}

static void put_score(float *y, Heads z) {
    PUT("score", with_places(z, y, data("bias"), data("mask")), blocks(z) * z.t * z.t);
}

static void do_score(void) {
    put_score(score(heads_of("q"), data("q"), data("k"), data("s_q"), data("s_k")), heads_of("q"));
}

static void do_float_score(void) { put_score(float_score(heads_of("q"), data("q"), data("k")), heads_of("q")); }

static void do_context(void) {
    PUT("context", context(heads_of("v"), data("p"), data("v"), data("s_v")), in("v")->count);
}

static void do_float_context(void) {
    PUT("context", float_context(heads_of("v"), data("p"), data("v")), in("v")->count);
}

static void do_attention(void) {
    const long h = integer("heads"), *n = in("qkv")->shape;
    attention("", (Heads){n[0], n[1], h, n[2], n[3] / 3 / h}, data("qkv"), says("attention", "int8"), data("bias"),
              data("mask"));
}

static void do_residual(void) {
    const long n = in("skip")->count;
    PUT("y", residual(data("skip"), data("branch"), data("gamma"), n, n), n);
}

static void do_logits(void) { PUT("y", logits(data("head"), data("head_dist"), in("head")->count), in("head")->count); }

static void do_predict(void) {
    const long rows = size("logits", 0), n = size("logits", 1);
    const float *x = data("logits");
    int32_t *index = fresh(rows, sizeof *index);
    for (long r = 0; r < rows; r++)
        for (long i = 1; i < n; i++)
            if (x[r * n + i] > x[r * n + index[r]]) index[r] = (int32_t)i;
    PUT("index", index, rows);
}

static Map map_of(long side) { return (Map){side, integer("window_size"), integer("shift")}; }

static void do_windows(void) {
    const long b = size("x", 0), c = size("x", 3);
    const Map g = map_of(size("x", 1));
    PUT("windows", windows(g, data("x"), b, c), b * window_count(g) * g.m * g.m * c);
}

static void do_windows_back(void) {
    const long b = size("windows", 0), c = size("windows", 3), side = integer("side");
    PUT("x", windows_back(map_of(side), data("windows"), b, c), b * side * side * c);
}

static void do_shift_mask(void) {
    const Map g = map_of(integer("side"));
    PUT("mask", shift_mask(g), window_count(g) * g.m * g.m * g.m * g.m);
}

static void do_position_bias(void) {
    const long m = integer("window_size"), h = size("table", 1);
    PUT("bias", position_bias(data("table"), m, h), h * m * m * m * m);
}

static void do_merging(void) {
    const long b = size("x", 0), side = size("x", 1), c = size("x", 3), half = (side + 1) / 2;
    PUT("y", merging(data("x"), b, side, c), b * half * half * 4 * c);
}

static void do_pool(void) {
    PUT("y", pool(data("x"), size("x", 0), size("x", 1), size("x", 2)), size("x", 0) * size("x", 2));
}

static void do_model(void) { forward(data("file"), data("pixels")); }

static const struct { const char *name; void (*answer)(void); } operations[] = {
    {"exp", do_exp}, {"erf", do_erf}, {"gelu", do_gelu}, {"sum16", do_sum16}, {"pixels", do_pixels},
    {"patches", do_patches}, {"scale", do_scale}, {"zero_point", do_zero_point}, {"codes", do_codes},
    {"ternary_product", do_ternary_product}, {"int8_product", do_int8_product}, {"rescale", do_rescale},
    {"linear", do_linear}, {"layernorm", do_layernorm}, {"softmax", do_softmax}, {"prob_codes", do_prob_codes},
    {"score", do_score}, {"context", do_context}, {"float_score", do_float_score}, {"float_context", do_float_context},
    {"attention", do_attention}, {"residual", do_residual}, {"logits", do_logits}, {"predict", do_predict},
    {"windows", do_windows}, {"windows_back", do_windows_back}, {"shift_mask", do_shift_mask},
    {"position_bias", do_position_bias}, {"merging", do_merging}, {"pool", do_pool}, {"model", do_model},
};

static void make_folders(const char *path) {
    char folder[PATH];
    strcpy(folder, path);
    for (char *p = strchr(folder + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        if (mkdir(folder, 0777) && errno != EEXIST) stop("cannot be made", folder);
        *p = '/';
    }
}

static void write_outputs(const char *folder, const char *id) {
    char path[PATH];
    for (int i = 0; i < output_count; i++) {
        if (snprintf(path, sizeof path, "%s/%s/%s.bin", folder, id, outputs[i].name) >= PATH) stop("too long", path);
        make_folders(path);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(outputs[i].data, 1, outputs[i].bytes, file) != outputs[i].bytes || fclose(file))
            stop("cannot be written", path);
    }
}

static void (*answer_of(const char *operation))(void) { /* NULL: not one of this port */
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (is(operation, operations[i].name)) return operations[i].answer;
    return NULL;
}

static void run(const char *kit, const char *kit_case, void (*answer)(void)) {
    static const uint8_t accepted = 0;
    parameters = member(kit_case, "parameters");
    output_count = 0;
    read_inputs(kit, member(kit_case, "inputs"));
    if (!setjmp(refusal)) answer();
    else {
        output_count = 0;
        PUT("accepted", &accepted, 1);
    }
}

int main(int argc, char **argv) {
    const uint16_t one = 1;
    long answered = 0, left_out = 0;
    if (argc != 3) stop("port KIT OUTPUTS", "usage");
    if (!*(const char *)&one) stop("the files of a kit are little-endian; this machine is not", argv[1]);
    const char *manifest = read_file(argv[1], "manifest.json");
    Chunk *const kept = chunks;
    for (const char *p = first(member(manifest, "cases")); p; p = next(p)) {
        void (*answer)(void) = answer_of(member(p, "operation"));
        if (answer) {
            run(argv[1], p, answer);
            write_outputs(argv[2], text(member(p, "id")));
            answered++;
        } else left_out++;
        give_back(kept);
    }
    printf("port: %ld cases answered, %ld left out\n", answered, left_out);
    return 0;
}
