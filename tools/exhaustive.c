/* exp and erf of csrc/rows/exact.c (rule N9) against a double-double reference, for all 2^32 float32 inputs: make exhaustive

   The error of a result is |computed - true| in ulp(true), the spacing of float32 at the true value: 2^(e - 23) for a
   true value of 2^e <= |true| < 2^(e + 1), never below 2^-149, the spacing of subnormals. Overflow counts as
   IEEE-754 rounds: results and true values from 2^128 on are 2^128; a NaN counts as -2^128. A result is correctly
   rounded where its error is at most 1/2 ulp. GELU is reported too, where it is not trivial, but nothing is asked of
   it: 1 + erf cancels.

   The reference of a block of inputs is a Taylor series f(c + h) = sum of a[m] h^m around c, a multiple of 1/256, with
   |h| <= 1/512. REFERENCE_BOUND on its relative error: one double-double operation errs by at most 2^-103 of its
   operands. e^c = e^n e^f takes up to 104 factors e, each off by 2^-102 after its own series: 2^-95 in all. erf(c) is
   exp(-c^2) times a series of positive terms, of which the n-th has passed 2 n operations, n < 140: 2^-95 too, at most
   tripled where a[0] and a[1] h cancel, between 1/512 and 1/256. The terms kept as single doubles add less than
   2^-100, those left out less than 2^-110. The reference of GELU loses up to 2^30 more below 0, by 1/2 - 1/2. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../csrc/internal.h"

#define REFERENCE_BOUND 0x1p-92
#define UNDECIDED (REFERENCE_BOUND * 0x1p24) /* in ulp, of which a value has less than 2^24 */
#define CELLS 256.0                          /* centres per unit */
#define TERMS 12
#define DOUBLE_DOUBLE 7 /* terms of the series that need both halves */
#define BLOCK 256       /* the inputs of an aligned block share a centre: from 64 to 128 it is 1/512 wide */
#define CHUNKS 1024     /* shares of the 2^32 inputs, dealt to the threads in turn */
#define WORST 1000      /* inputs kept */
#define NOTABLE -0.01   /* only errors above 0.49 ulp are candidates for the worst */
#define EVERY_MAX 50000 /* so that a sample holds candidates */
#define MAX_THREADS 256

/* ---- double-double: an unevaluated sum hi + lo, |lo| <= ulp(hi) / 2 ---- */

struct dd {
    double hi, lo;
};

/* hi + lo for |lo| <= |hi|, exactly. */
static inline struct dd renormalised(double hi, double lo)
{
    const double sum = hi + lo;
    return (struct dd){sum, lo - (sum - hi)};
}

static inline struct dd add(struct dd a, struct dd b)
{
    const double sum = a.hi + b.hi, part = sum - a.hi;
    const double lost = (a.hi - (sum - part)) + (b.hi - part); /* sum + lost = a.hi + b.hi, exactly */
    return renormalised(sum, lost + (a.lo + b.lo));
}

static inline struct dd multiply(struct dd a, struct dd b)
{
    const double product = a.hi * b.hi;
    return renormalised(product, fma(a.hi, b.hi, -product) + (a.hi * b.lo + a.lo * b.hi));
}

static inline struct dd scale(struct dd a, double b)
{
    const double product = a.hi * b;
    return renormalised(product, fma(a.hi, b, -product) + a.lo * b);
}

static inline struct dd divide(struct dd a, double b)
{
    const double quotient = a.hi / b;
    return renormalised(quotient, (fma(-quotient, b, a.hi) + a.lo) / b);
}

/* ---- the reference ---- */

static const struct dd TWO_OVER_ROOT_PI = {0x1.20dd750429b6dp+0, 0x1.1ae3a914fed8p-56};
static const struct dd ONE_OVER_ROOT_2PI = {0x1.9884533d43651p-2, -0x1.cbc0d30ebfd15p-56};

/* e^x = sum of x^n / n!, |x| <= 1 */
static struct dd exp_series(double x)
{
    struct dd term = {1.0, 0.0}, sum = term;
    for (int n = 1; n <= 30; n++) {
        term = divide(scale(term, x), n);
        sum = add(sum, term);
    }
    return sum;
}

/* e^x = e^n e^f, n an integer, f = x - n exact */
static struct dd exp_reference(double x)
{
    const double n = rint(x);
    const struct dd base = exp_series(n < 0 ? -1.0 : 1.0);
    struct dd power = exp_series(x - n);
    for (int i = 0; i < fabs(n); i++)
        power = multiply(power, base);
    return power;
}

static void exp_coefficients(double c, struct dd *a)
{
    a[0] = exp_reference(c);
    for (int m = 1; m < TERMS; m++)
        a[m] = divide(a[m - 1], m);
}

/* The integral of g(x) = factor e^(-p x^2 / 2) from 0 is g(x) times the sum of p^n x^(2n+1) / (1 3 5 ... (2n+1)). From
   g' = -p x g: (m + 1) g[m+1] = -p (c g[m] + g[m-1]). */
static void bell_integral(struct dd factor, double p, double c, struct dd *a)
{
    struct dd term = {c, 0.0}, sum = term;
    for (int n = 1; n < 140; n++) {
        term = divide(scale(term, p * c * c), 2 * n + 1);
        sum = add(sum, term);
    }
    struct dd before = {0.0, 0.0}, g = multiply(factor, exp_reference(-p * c * c / 2.0));
    a[0] = multiply(g, sum);
    for (int m = 0; m + 1 < TERMS; m++) {
        a[m + 1] = divide(g, m + 1);
        const struct dd next = divide(scale(add(scale(g, c), before), -p), m + 1);
        before = g;
        g = next;
    }
}

static void erf_coefficients(double c, struct dd *a)
{
    bell_integral(TWO_OVER_ROOT_PI, 2.0, c, a);
}

/* x Phi(x) = (c + h) Phi(c + h), Phi the normal distribution: 1/2 and the integral of its density. */
static void gelu_coefficients(double c, struct dd *a)
{
    bell_integral(ONE_OVER_ROOT_2PI, 1.0, c, a);
    a[0] = add(a[0], (struct dd){0.5, 0.0});
    for (int m = TERMS - 1; m > 0; m--)
        a[m] = add(scale(a[m], c), a[m - 1]);
    a[0] = scale(a[0], c);
}

static inline struct dd taylor(const struct dd *a, double h)
{
    double tail = a[TERMS - 1].hi;
    for (int m = TERMS - 2; m >= DOUBLE_DOUBLE; m--)
        tail = tail * h + a[m].hi;
    struct dd sum = {tail, 0.0};
    for (int m = DOUBLE_DOUBLE - 1; m >= 0; m--)
        sum = add(a[m], scale(sum, h));
    return sum;
}

/* ---- the functions; outside (low, high), and at 0, the correctly rounded result is known, or nothing is asked ---- */

struct function {
    const char *name;
    int (*values)(size_t count, const float *x, float *y);
    void (*coefficients)(double c, struct dd *a);
    float (*known)(float x); /* NULL: reported only */
    float low, high;
};

/* e^-104 < 2^-150, half the smallest float; e^89 > 2^128. */
static float exp_known(float x)
{
    if (x == 0.0f)
        return 1.0f;
    return x != x ? x : x < 0.0f ? 0.0f : INFINITY;
}

/* 1 - erf(4) < 2^-25, half the spacing below 1. */
static float erf_known(float x)
{
    return x != x || x == 0.0f ? x : copysignf(1.0f, x);
}

static const struct function FUNCTIONS[] = {
    {"exp", exp_values_portable, exp_coefficients, exp_known, -104.0f, 89.0f},
    {"erf", erf_values_portable, erf_coefficients, erf_known, -4.0f, 4.0f},
    {"gelu_positive", gelu_values_portable, gelu_coefficients, NULL, 0.0f, 6.0f},
    {"gelu_negative", gelu_values_portable, gelu_coefficients, NULL, -1.0f, 0.0f},
    {"gelu_tail", gelu_values_portable, gelu_coefficients, NULL, -6.0f, -1.0f},
};
#define FUNCTION_COUNT (sizeof FUNCTIONS / sizeof *FUNCTIONS)

/* ---- one block: inputs, results, true values, errors ---- */

struct block {
    float x[BLOCK + 1], y[BLOCK + 1]; /* [0]: the input before the block, if of the same sign */
    double hi[BLOCK], lo[BLOCK];
    double excess[BLOCK]; /* error in ulp, minus 1/2: what lies around 0 keeps its digits */
};

/* The series in use; the next block mostly has the same centre. */
struct series {
    double centre;
    struct dd a[TERMS];
};

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static int inside(const struct function *f, uint32_t first)
{
    const float x = float_of(first + BLOCK / 2);
    return x > f->low && x < f->high;
}

static void compute(const struct function *f, uint32_t first, struct block *b)
{
    b->x[0] = float_of(first & 0x7fffffff ? first - 1 : first);
    for (uint32_t i = 0; i < BLOCK; i++)
        b->x[i + 1] = float_of(first + i);
    f->values(BLOCK + 1, b->x, b->y);
}

static void compute_reference(const struct function *f, struct series *s, struct block *b)
{
    const double centre = rint(b->x[1 + BLOCK / 2] * CELLS) / CELLS;
    if (!(s->centre == centre)) {
        s->centre = centre;
        f->coefficients(centre, s->a);
    }
    for (int i = 0; i < BLOCK; i++) {
        const struct dd value = taylor(s->a, b->x[i + 1] - centre);
        b->hi[i] = value.hi;
        b->lo[i] = value.lo;
    }
}

/* ulp(hi + lo) */
static inline double ulp(double hi, double lo)
{
    double power;
    uint64_t word;
    memcpy(&word, &hi, sizeof word);
    word &= UINT64_C(0x7ff0000000000000); /* the exponent alone */
    memcpy(&power, &word, sizeof power);
    const int below = fabs(hi) == power && lo * hi < 0.0;
    const double spacing = power * (below ? 0x1p-24 : 0x1p-23);
    return spacing > 0x1p-149 ? spacing : 0x1p-149;
}

/* |y - (hi + lo)| / ulp - 1/2, where y - hi and its difference to ulp / 2 are exact for y near hi. */
static inline double excess(float y, double hi, double lo)
{
    const double value = y != y ? -0x1p128 : (double)y > 0x1p128 ? 0x1p128 : (double)y;
    lo = hi >= 0x1p128 ? 0.0 : lo;
    hi = hi >= 0x1p128 ? 0x1p128 : hi;
    const double unit = ulp(hi, lo), difference = value - hi;
    const double rest = difference > 0.0 ? -lo : difference < 0.0 ? lo : fabs(lo);
    return ((fabs(difference) - 0.5 * unit) + rest) / unit;
}

static void compute_errors(struct block *b)
{
    for (int i = 0; i < BLOCK; i++)
        b->excess[i] = excess(b->y[i + 1], b->hi[i], b->lo[i]);
}

/* ---- what is kept of all blocks ---- */

struct place {
    double excess;
    uint32_t bits;
};

struct result {
    uint64_t inputs, not_rounded, undecided, not_monotone, wrong_known;
    struct place worst[2 * WORST]; /* the worst so far, sorted, then those that came since */
    size_t kept;
    double threshold;
};

/* Worst first; among equals the lowest pattern, so that the threads do not matter. */
static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    if (a->excess != b->excess)
        return a->excess < b->excess ? 1 : -1;
    return a->bits < b->bits ? -1 : a->bits > b->bits;
}

static void sort_worst(struct result *r)
{
    qsort(r->worst, r->kept, sizeof *r->worst, compare_places);
    if (r->kept < WORST)
        return;
    r->kept = WORST;
    r->threshold = r->worst[WORST - 1].excess;
}

static void keep(struct result *r, struct place place)
{
    if (!(place.excess >= r->threshold))
        return;
    r->worst[r->kept++] = place;
    if (r->kept == 2 * WORST)
        sort_worst(r);
}

static void count_errors(const struct block *b, uint32_t first, struct result *r)
{
    int above = 0, near = 0;
    double largest = -1.0;
    for (int i = 0; i < BLOCK; i++) {
        above += !(b->excess[i] <= 0.0);
        near += fabs(b->excess[i]) < UNDECIDED;
        largest = b->excess[i] > largest ? b->excess[i] : largest;
    }
    r->not_rounded += (uint64_t)above;
    r->undecided += (uint64_t)near;
    if (largest >= r->threshold)
        for (uint32_t i = 0; i < BLOCK; i++)
            keep(r, (struct place){b->excess[i], first + i});
}

static int differs(float y, float known)
{
    return known != known ? y == y : bits_of(y) != bits_of(known);
}

static void count_wrong(const struct function *f, const struct block *b, int all, struct result *r)
{
    for (int i = 1; i <= BLOCK; i++)
        r->wrong_known += (all || b->x[i] == 0.0f) && differs(b->y[i], f->known(b->x[i]));
}

static void count_falls(const struct block *b, uint32_t first, struct result *r)
{
    const float sign = first >> 31 ? -1.0f : 1.0f; /* negative inputs come in falling order */
    int falls = 0;
    for (int i = 0; i < BLOCK; i++)
        falls += sign * b->y[i + 1] < sign * b->y[i];
    r->not_monotone += (uint64_t)falls;
}

static void scan(const struct function *f, uint32_t first, struct series *s, struct block *b, struct result *r)
{
    const int in = inside(f, first);
    if (!in && !f->known)
        return;
    compute(f, first, b);
    r->inputs += BLOCK;
    if (f->known) {
        count_falls(b, first, r);
        count_wrong(f, b, !in, r);
    }
    if (!in)
        return;
    compute_reference(f, s, b);
    compute_errors(b);
    count_errors(b, first, r);
}

/* ---- all blocks, on some threads ---- */

struct worker {
    const struct function *f;
    uint32_t index, threads, every;
    struct result result;
    pthread_t thread;
};

static void *work(void *argument)
{
    struct worker *w = argument;
    const uint32_t blocks = (uint32_t)(0x100000000 / BLOCK / CHUNKS);
    struct series series = {.centre = NAN};
    struct block block;
    for (uint32_t chunk = w->index; chunk < CHUNKS; chunk += w->threads) {
        for (uint32_t i = chunk * blocks; i < (chunk + 1) * blocks; i++)
            if (i % w->every == 0)
                scan(w->f, i * BLOCK, &series, &block, &w->result);
        if (w->index == 0 && chunk % (CHUNKS / 16) < w->threads)
            fprintf(stderr, "%s: %u %%\n", w->f->name, chunk * 100 / CHUNKS);
    }
    return NULL;
}

static void merge(struct result *into, const struct result *r)
{
    into->inputs += r->inputs;
    into->not_rounded += r->not_rounded;
    into->undecided += r->undecided;
    into->not_monotone += r->not_monotone;
    into->wrong_known += r->wrong_known;
    for (size_t i = 0; i < r->kept; i++)
        keep(into, r->worst[i]);
    sort_worst(into);
}

static void run(const struct function *f, uint32_t threads, uint32_t every, struct result *total)
{
    static struct worker workers[MAX_THREADS];
    const struct result empty = {.threshold = NOTABLE};
    *total = empty;
    for (uint32_t t = 0; t < threads; t++) {
        workers[t] = (struct worker){f, t, threads, every, empty, 0};
        if (pthread_create(&workers[t].thread, NULL, work, &workers[t])) {
            fprintf(stderr, "exhaustive: error: cannot start thread %u; try a smaller --threads\n", t);
            exit(1);
        }
    }
    for (uint32_t t = 0; t < threads; t++) {
        pthread_join(workers[t].thread, NULL);
        merge(total, &workers[t].result);
    }
}

/* ---- output ---- */

static void print_table(const struct function *f, const struct result *r)
{
    const struct place worst = r->worst[0];
    const double x = (double)float_of(worst.bits);
    printf("%s: %" PRIu64 " inputs, %g to %g by the reference%s\n", f->name, r->inputs, (double)f->low, (double)f->high,
           f->known ? ", the others known" : "; reported only");
    printf("  worst error            %.9f ulp at 0x%08" PRIx32 " = %a = %.9g\n", 0.5 + worst.excess, worst.bits, x, x);
    printf("  not correctly rounded  %" PRIu64 " (a share of %.3g)\n", r->not_rounded,
           (double)r->not_rounded / (double)r->inputs);
    if (f->known)
        printf("  not monotone           %" PRIu64 "\n"
               "  undecided              %" PRIu64 "\n"
               "  wrong known results    %" PRIu64 "\n",
               r->not_monotone, r->undecided, r->wrong_known);
}

static void print_json(const struct function *f, const struct result *r)
{
    const struct place worst = r->worst[0];
    printf("  \"%s\": {\"inputs\": %" PRIu64 ", \"worst_ulp\": %.12f, \"worst_input\": \"0x%08" PRIx32 "\", ", f->name,
           r->inputs, 0.5 + worst.excess, worst.bits);
    printf("\"not_correctly_rounded\": %" PRIu64 ", \"share\": %.6g", r->not_rounded,
           (double)r->not_rounded / (double)r->inputs);
    if (f->known)
        printf(", \"not_monotone\": %" PRIu64 ", \"undecided\": %" PRIu64 ", \"wrong_known\": %" PRIu64,
               r->not_monotone, r->undecided, r->wrong_known);
    printf("}%s\n", f == FUNCTIONS + FUNCTION_COUNT - 1 ? "" : ",");
}

static int holds(const struct function *f, const struct result *r)
{
    return !f->known || (r->worst[0].excess < 0.5 && !r->not_monotone && !r->undecided && !r->wrong_known);
}

static int scan_all(uint32_t threads, uint32_t every, int json, FILE *worst)
{
    static struct result result;
    int good = 1;
    if (json)
        puts("{");
    for (size_t i = 0; i < FUNCTION_COUNT; i++) {
        const struct function *f = &FUNCTIONS[i];
        run(f, threads, every, &result);
        good &= holds(f, &result);
        if (json)
            print_json(f, &result);
        else
            print_table(f, &result);
        fflush(stdout);
        for (size_t j = 0; worst && j < result.kept; j++)
            fprintf(worst, "%s %08" PRIx32 " %.12f\n", f->name, result.worst[j].bits, 0.5 + result.worst[j].excess);
    }
    if (json)
        puts("}");
    return good ? 0 : 1;
}

/* For each line "NAME PATTERN" of standard input: PATTERN, result, both halves of the reference, error in ulp. */
static int evaluate(void)
{
    char name[16];
    uint32_t bits;
    static struct block b;
    struct series series[FUNCTION_COUNT];
    for (size_t i = 0; i < FUNCTION_COUNT; i++)
        series[i].centre = NAN;
    while (scanf("%15s %" SCNx32 "%*[^\n]", name, &bits) == 2)
        for (size_t i = 0; i < FUNCTION_COUNT; i++) {
            const struct function *f = &FUNCTIONS[i];
            const uint32_t at = bits % BLOCK, first = bits - at;
            if (strcmp(name, f->name) || !inside(f, first))
                continue;
            compute(f, first, &b);
            compute_reference(f, &series[i], &b);
            compute_errors(&b);
            printf("%s %08" PRIx32 " %08" PRIx32 " %a %a %.12f\n", name, bits, bits_of(b.y[at + 1]), b.hi[at], b.lo[at],
                   0.5 + b.excess[at]);
        }
    return 0;
}

static uint32_t processors(void)
{
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : (uint32_t)count;
}

static int usage(void)
{
    fputs("usage: exhaustive [--threads N] [--every N] [--json] [--worst FILE] | --evaluate < lines\n"
          "  --every N     only every N-th block of 256 consecutive inputs, N at most 50000\n"
          "  --worst FILE  write the 1000 worst inputs of each function: name, pattern, error\n"
          "  --evaluate    print result, reference and error for lines of name and pattern\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    uint32_t threads = processors(), every = 1;
    const char *path = NULL;
    int json = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--evaluate"))
            return evaluate();
        if (!strcmp(argv[i], "--json")) {
            json = 1;
            continue;
        }
        if (!strcmp(argv[i], "--threads"))
            threads = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--every"))
            every = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--worst"))
            path = value;
        else
            return usage();
        i++;
    }
    if (threads < 1 || threads > MAX_THREADS || every < 1 || every > EVERY_MAX)
        return usage();
    FILE *worst = path ? fopen(path, "w") : NULL;
    if (path && !worst) {
        fprintf(stderr, "exhaustive: error: %s: cannot be written\n", path);
        return 1;
    }
    const int status = scan_all(threads, every, json, worst);
    return worst && fclose(worst) ? 1 : status;
}
