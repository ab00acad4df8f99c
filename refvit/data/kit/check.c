/* Holds the outputs of a port against a kit of test vectors. KIT.md of refvit says what the kit's files mean.
 *
 *     cc -std=c99 -O2 -o check check.c && ./check KIT OUTPUTS [--only PREFIX]...
 *
 * OUTPUTS holds ID/NAME.bin, raw, little-endian. --only keeps the cases whose ids begin so. Exit code 0: all these are
 * right; 1: one is wrong or missing; 2: wrong arguments; 3: the kit is damaged (check.py looks at it more closely). */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RIGHT, WRONG, MISSING, LEFT_OUT, STATES };
enum { VALUE, LOW, HIGH, GOT, FILES };
enum { USAGE = 2, BAD_KIT = 3, TEXT = 201, AXES = 8, NESTING = 32, BYTES_MAX = 1 << 30, MANIFEST_MAX = 1 << 26 };

typedef struct {
    char name[TEXT], kind;                          /* kind: u, i or f */
    size_t size, axes, shape[AXES], count, bounded; /* bounded: right is low <= value <= high, else the same bits */
    unsigned char *data[FILES];
} Tensor;

static const char *kit, *outputs, *manifest;

static void fail(int code, const char *where, const char *what) {
    fprintf(stderr, "check: %s: %s\n", where, what);
    exit(code);
}

/* --- The manifest. A function takes the begin of a value in its text, and ends the program where that is wrong. --- */

static void expect(int holds, const char *at, const char *what) {
    char where[64];
    if (holds) return;
    sprintf(where, "manifest.json, byte %lu: wrong or missing", (unsigned long)(at - manifest));
    fail(BAD_KIT, where, what);
}

static int is_digit(char c) { return c >= '0' && c <= '9'; }
static const char *space(const char *p) { return p + strspn(p, " \t\r\n"); }

static const char *after_text(const char *p) {
    expect(*p == '"', p, "text");
    for (p++; *p != '"'; p++) {
        p += *p == '\\';
        expect(*p >= ' ' && !(*p & 0x80), p, "ASCII");
    }
    return p + 1;
}

static const char *after(const char *p, int depth) { /* objects, lists, texts and integers are all there is */
    const int object = *p == '{';
    if (*p == '"') return after_text(p);
    if (!object && *p != '[') {
        p += *p == '-';
        expect(is_digit(*p), p, "value");
        return *p == '0' ? p + 1 : p + strspn(p, "0123456789");
    }
    expect(depth < NESTING, p, "end, for it is nested too deeply");
    p = space(p + 1);
    if (*p == (object ? '}' : ']')) return p + 1;
    for (;; p = space(p + 1)) {
        if (object) {
            p = space(after_text(p));
            expect(*p == ':', p, "colon");
            p = space(p + 1);
        }
        p = space(after(p, depth + 1));
        if (*p != ',') break;
    }
    expect(*p == (object ? '}' : ']'), p, "comma or end");
    return p + 1;
}

/* The first element of a list or key of an object, and what follows an element; NULL at the end. */
static const char *first(const char *p) { return strchr("]}", *(p = space(p + 1))) != NULL ? NULL : p; }
static const char *next(const char *p) { return *(p = space(after(p, 0))) == ',' ? space(p + 1) : NULL; }
static int is(const char *s, const char *t) { return strncmp(s + 1, t, strlen(t)) == 0 && s[strlen(t) + 1] == '"'; }

static const char *find(const char *object, const char *key, char type) { /* type: how the value begins */
    const char *found = object, *v;
    expect(*object == '{', object, "object");
    for (const char *p = first(object); p != NULL; p = next(v)) {
        v = space(space(after_text(p)) + 1);
        if (!is(p, key)) continue;
        expect(found == object, p, "key, for it is there twice");
        found = v;
    }
    expect(found != object && *found == type, found, key);
    return found;
}

static void copy_path(char *out, const char *text) { /* of a-z 0-9 _ - . /; no part is empty or begins with a dot */
    char before = '/';
    size_t n = 0;
    for (const char *p = text + 1; *p != '"'; before = *p++) {
        const int plain = strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", *p) != NULL;
        expect((plain || ((*p == '.' || *p == '/') && before != '/')) && n + 1 < TEXT, text, "path");
        out[n++] = *p;
    }
    expect(before != '/', text, "path");
    out[n] = '\0';
}

static unsigned char *load(const char *folder, const char *path, size_t limit, size_t *size) { /* to limit + 1 bytes */
    char full[4096];
    const int n = snprintf(full, sizeof full, "%s/%s", folder, path);
    FILE *f = n > 0 && (size_t)n < sizeof full ? fopen(full, "rb") : NULL;
    unsigned char *data = f != NULL ? malloc(limit + 1) : NULL;
    *size = data != NULL ? fread(data, 1, limit + 1, f) : 0;
    if (f != NULL) fclose(f);
    return data;
}

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_block(uint32_t h[8], const unsigned char *b) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
        0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
        0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
        0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
        0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
        0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    uint32_t w[64], s[8], t, u;
    for (int i = 0; i < 16; i++, b += 4)
        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        t = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
        u = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t;
        s[0] = t + u;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

static void sha256(const unsigned char *data, size_t n, char hex[65]) {
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char last[128] = {0};
    const size_t whole = n / 64 * 64, size = n - whole > 55 ? 128 : 64;
    for (size_t i = 0; i < whole; i += 64) sha256_block(h, data + i);
    memcpy(last, data + whole, n - whole);
    last[n - whole] = 0x80;
    for (size_t i = 0; i < 8; i++) last[size - 1 - i] = (unsigned char)((uint64_t)n * 8 >> 8 * i);
    for (size_t i = 0; i < size; i += 64) sha256_block(h, last + i);
    for (int i = 0; i < 8; i++) sprintf(hex + 8 * i, "%08" PRIx32, h[i]);
}

static unsigned char *load_checked(const char *entry, size_t bytes) {
    char path[TEXT], hex[65];
    unsigned char *data;
    size_t size;
    copy_path(path, find(entry, "file", '"'));
    data = load(kit, path, bytes, &size);
    if (data == NULL || size != bytes) fail(BAD_KIT, path, "cannot be read, or has another size than its shape says");
    sha256(data, size, hex);
    if (!is(find(entry, "sha256", '"'), hex)) fail(BAD_KIT, path, "has another SHA-256");
    return data;
}

static void read_tensor(Tensor *t, const char *entry, size_t bounded) {
    static const char *const dtypes[] = {"uint8", "int8", "int32", "float32", "uint64"};
    static const size_t sizes[] = {1, 1, 4, 4, 8};
    const char *dtype = find(entry, "dtype", '"'), *shape = find(entry, "shape", '[');
    size_t i = 0;
    while (i < 5 && !is(dtype, dtypes[i])) i++;
    expect(i < (bounded ? 4 : 5), dtype, "dtype");
    *t = (Tensor){.kind = dtypes[i][0], .bounded = bounded, .size = sizes[i], .count = 1};
    copy_path(t->name, find(entry, "name", '"'));
    expect(strchr(t->name, '/') == NULL && first(shape) != NULL, entry, "name without /, or shape");
    for (const char *p = first(shape); p != NULL; p = next(p), t->axes++) {
        const size_t n = strtoul(p, NULL, 10), limit = BYTES_MAX / t->size / (t->count > 0 ? t->count : 1);
        expect(t->axes < AXES && is_digit(*p) && n <= limit, p, "size");
        t->count *= t->shape[t->axes] = n;
    }
    t->data[VALUE] = load_checked(entry, t->count * t->size);
    for (i = LOW; i <= HIGH && bounded; i++)
        t->data[i] = load_checked(find(entry, i == LOW ? "low" : "high", '{'), t->count * t->size);
}

static void free_tensor(const Tensor *t) { for (int i = 0; i < FILES; i++) free(t->data[i]); }
static uint64_t bits(const Tensor *t, int file, size_t i) {
    uint64_t word = 0;
    for (size_t k = t->size; k-- > 0;) word = word << 8 | t->data[file][i * t->size + k];
    return word;
}

static double number(const Tensor *t, int file, size_t i) { /* exact, but for uint64 */
    const uint64_t word = bits(t, file, i), top = UINT64_C(1) << (8 * t->size - 1);
    const uint32_t low = (uint32_t)word;
    float value;
    memcpy(&value, &low, sizeof value);
    if (t->kind == 'f') return (double)value;
    return t->kind == 'i' && (word & top) ? (double)word - 2.0 * (double)top : (double)word;
}

static int right(const Tensor *t, int file, size_t i) {
    const double v = number(t, file, i);
    return t->bounded ? number(t, LOW, i) <= v && v <= number(t, HIGH, i) : bits(t, file, i) == bits(t, VALUE, i);
}

static void show(const char *before, const Tensor *t, int file, size_t i) {
    const double v = number(t, file, i);
    if (v != v) printf("%snan (nan)", before); /* of either sign */
    else if (t->kind == 'f') printf("%s%a (%.9g)", before, v, v);
    else if (t->size == 8) printf("%s%" PRIu64, before, bits(t, file, i));
    else printf("%s%.0f", before, v);
}

static void tell(const Tensor *t, size_t wrong, size_t i) {
    size_t run = t->count;
    for (size_t a = 0; a < t->axes; a++) {
        run /= t->shape[a];
        printf("%s%lu", a > 0 ? ", " : ", index [", (unsigned long)(i / run % t->shape[a]));
    }
    show("]: expected ", t, VALUE, i);
    if (t->bounded) show(", between ", t, LOW, i), show(" and ", t, HIGH, i);
    show(", got ", t, GOT, i);
    printf("; %lu of %lu values are wrong\n", (unsigned long)wrong, (unsigned long)t->count);
}

static int compare(const char *id, Tensor *t, int told[]) { /* tells the first that is wrong, and the first missing */
    char path[2 * TEXT + 8];
    size_t size, wrong = 0, place = 0;
    int state;
    sprintf(path, "%s/%s.bin", id, t->name);
    t->data[GOT] = load(outputs, path, t->count * t->size, &size);
    state = t->data[GOT] == NULL ? MISSING : size != t->count * t->size ? WRONG : RIGHT;
    for (size_t i = t->count; i-- > 0;) {
        const double v = number(t, VALUE, i);
        if (v != v || !right(t, VALUE, i)) fail(BAD_KIT, path, "is a NaN or outside its bounds in the kit itself");
        if (state == RIGHT && !right(t, GOT, i)) wrong++, place = i;
    }
    state = wrong > 0 ? WRONG : state;
    if (state == RIGHT || told[state]++ > 0) return state;
    printf("first %s: %s, output %s", state == WRONG ? "wrong" : "missing", id, t->name);
    if (wrong > 0) tell(t, wrong, place);
    else puts(state == WRONG ? ": a file of another length" : "");
    return state;
}

static int check_case(const char *c, char **only, int count, int told[]) {
    static const char *const expectations[] = {"exact", "reject", "bound", "near-tie"};
    const char *expectation = find(c, "expectation", '"'), *p = find(c, "outputs", '[');
    int state = RIGHT, chosen = count == 0, e = 0, told_before = told[WRONG], one, keys;
    char id[TEXT];
    Tensor t;
    while (e < 4 && !is(expectation, expectations[e])) e++;
    expect(e < 4 && first(p) != NULL, c, "expectation or output");
    copy_path(id, find(c, "id", '"')), keys = strncmp(id, "model/", 6) == 0 ? 2 : 3; /* it has most of the flags */
    for (int i = 1; i < count; i += 2) chosen |= strncmp(id, only[i], strlen(only[i])) == 0;
    if (!chosen) return LEFT_OUT;
    for (const char *q = first(find(c, "inputs", '[')); q != NULL; q = next(q)) read_tensor(&t, q, 0), free_tensor(&t);
    for (p = first(p); p != NULL; p = next(p)) {
        read_tensor(&t, p, e > 1);
        one = compare(id, &t, told);
        free_tensor(&t);
        if (state != WRONG && one != RIGHT) state = one;
    }
    if (told[WRONG] > 0 && told_before == 0) {
        const char *const about[] = {find(c, "comment", '"'), find(c, "rules", '['), find(c, "flags", '[')};
        for (int i = 0; i < keys; i++) printf("%s%.*s", i ? ", " : "  ", (int)(after(about[i], 0) - about[i]), about[i]);
        puts("");
    }
    return state;
}

int main(int argc, char **argv) {
    long counts[STATES] = {0};
    int told[STATES] = {0}, plain = argc >= 3 && argc % 2 == 1;
    unsigned char *text;
    const char *p;
    size_t size;
    for (int i = 3; i < argc; i += 2) plain &= strcmp(argv[i], "--only") == 0;
    if (!plain) fail(USAGE, "usage", "check KIT OUTPUTS [--only PREFIX]...");
    kit = argv[1], outputs = argv[2];
    text = load(kit, "manifest.json", MANIFEST_MAX, &size);
    if (text == NULL || size > MANIFEST_MAX) fail(BAD_KIT, kit, "no manifest.json that can be read");
    text[size] = '\0';
    manifest = (const char *)text;
    p = space(manifest);
    expect((size_t)(space(after(p, 0)) - manifest) == size, manifest, "end");
    expect(is(find(p, "format", '"'), "refvit-kit"), p, "format");
    expect(!is_digit(find(p, "kit_version", '1')[1]) && !is_digit(find(p, "spec_version", '1')[1]), p, "version");
    p = find(p, "cases", '[');
    expect(first(p) != NULL, p, "case");
    for (p = first(p); p != NULL; p = next(p)) counts[check_case(p, argv + 3, argc - 3, told)]++;
    printf("cases: %ld right, %ld wrong, %ld missing", counts[RIGHT], counts[WRONG], counts[MISSING]);
    printf(counts[LEFT_OUT] > 0 ? "; NOT CHECKED: %ld left out by --only\n" : "\n", counts[LEFT_OUT]);
    if (counts[RIGHT] + counts[WRONG] + counts[MISSING] == 0) fail(USAGE, "--only", "no case's id begins so");
    free(text);
    return counts[WRONG] + counts[MISSING] > 0;
}
