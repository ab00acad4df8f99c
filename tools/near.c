/* How near gelu_near and exp_near of csrc/rows/codes_vector.h are to gelu_floats and exp_floats, for all 2^32 floats:
   make exhaustive. -DNEAR_AVX2 takes them from csrc/rows/rows_avx2.c, else they are those of csrc/rows/rows_avx512.c.

   Codes are certified by two bounds: |gelu_near(x) - gelu_floats(x)| < GELU_ERROR |x| for finite x, and
   |exp_near(x) - exp_floats(x)| < EXP_ERROR exp_floats(x) for EXP_FLAT <= x <= 0. Where the bound is 0, the two are
   equal. Below EXP_FLAT, where a softmax may be too, exp_near has the value of EXP_FLAT, and exp_floats no larger one.
   gelu of infinity is infinite, gelu of -infinity is NaN, and both of NaN are NaN. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(NEAR_AVX2)
#include "../csrc/rows/rows_avx2.c"
#define NAME "AVX2"
#else
#include "../csrc/rows/rows_avx512.c"
#define NAME "AVX-512"
#endif

#if REFVIT_X86

struct result {
    double worst; /* ratio of an error to its bound */
    float at, wrong_at;
    uint64_t judged, wrong;
};

struct function {
    const char *name;
    void (*values)(const float *x, float *near, float *exact);
    int (*in_bound)(float x);
    double (*bound)(float x, float exact);
    int (*known)(float x, float near, float exact); /* of the other x, whether they are as stated */
};

#define COUNT (WIDE * LANES)

INLINE wide load(const float *x)
{
    wide v;
    EACH(v.v[i] = f_load(x + i * LANES, LANES));
    return v;
}

INLINE void store(float *y, wide v)
{
    EACH(f_store(y + i * LANES, LANES, v.v[i]));
}

TARGET static void gelu_pair(const float *x, float *near, float *exact)
{
    wide half;
    EACH(half.v[i] = f_set(0.5f));
    store(near, gelu_near(load(x), half));
    EACH(f_store(exact + i * LANES, LANES, gelu_floats(f_load(x + i * LANES, LANES))));
}

static int is_finite(float x)
{
    return fabsf(x) <= FLT_MAX;
}

static double gelu_bound(float x, float exact)
{
    (void)exact;
    return (double)GELU_ERROR * fabs((double)x);
}

static int gelu_known(float x, float near, float exact)
{
    return x > 0.0f ? near > FLT_MAX && exact > FLT_MAX : near != near && exact != exact;
}

TARGET static void exp_pair(const float *x, float *near, float *exact)
{
    store(near, exp_near(load(x)));
    EACH(f_store(exact + i * LANES, LANES, exp_floats(f_load(x + i * LANES, LANES))));
}

static int is_of_softmax(float x)
{
    return x >= EXP_FLAT && x <= 0.0f;
}

static double exp_bound(float x, float exact)
{
    (void)x;
    return (double)EXP_ERROR * (double)exact;
}

static float flat_value(void)
{
    float x[COUNT], near[COUNT], exact[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        x[i] = EXP_FLAT;
    exp_pair(x, near, exact);
    return near[0];
}

static int exp_known(float x, float near, float exact)
{
    if (x != x)
        return near != near && exact != exact;
    return x > 0.0f || (near == flat_value() && exact <= near);
}

static const struct function FUNCTIONS[] = {
    {"gelu", gelu_pair, is_finite, gelu_bound, gelu_known},
    {"exp", exp_pair, is_of_softmax, exp_bound, exp_known},
};

static void judge(const struct function *f, float x, float near, float exact, struct result *result)
{
    int good;
    if (f->in_bound(x)) {
        const double error = fabs((double)near - (double)exact), bound = f->bound(x, exact), ratio = error / bound;
        result->judged++;
        good = error < bound || error == 0.0;
        if (ratio > result->worst) {
            result->worst = ratio;
            result->at = x;
        }
    } else {
        good = f->known(x, near, exact);
    }
    if (!good && result->wrong++ == 0)
        result->wrong_at = x;
}

static void scan(const struct function *f, uint64_t every, struct result *result)
{
    float x[COUNT], near[COUNT], exact[COUNT];
    for (uint64_t first = 0; first <= UINT32_MAX; first += COUNT * every) {
        for (size_t i = 0; i < COUNT; i++) {
            const uint32_t pattern = (uint32_t)(first + i * every);
            memcpy(x + i, &pattern, sizeof *x);
        }
        f->values(x, near, exact);
        for (size_t i = 0; i < COUNT && first + i * every <= UINT32_MAX; i++)
            judge(f, x[i], near[i], exact[i], result);
    }
}

static int check(const struct function *f, uint64_t every)
{
    struct result r = {0};
    scan(f, every, &r);
    printf("%s_near, " NAME ": %" PRIu64 " inputs, the worst error is %.6f of its bound, at %a\n", f->name, r.judged,
           r.worst, (double)r.at);
    if (r.wrong)
        printf("  WRONG: %" PRIu64 " inputs, first %a\n", r.wrong, (double)r.wrong_at);
    fflush(stdout);
    return r.wrong != 0;
}

static int runs_here(void)
{
#if defined(NEAR_AVX2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
}

#else

static int runs_here(void)
{
    return 0;
}

#endif

int main(int argc, char **argv)
{
    const unsigned long every = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    int broken = 0;
    if (argc > 2 || every < 1) {
        fputs("usage: near [EVERY]: only every so many-th of the 2^32 patterns\n", stderr);
        return 2;
    }
    if (!runs_here()) {
        puts("this machine lacks " NAME ": nothing is checked");
        return 0;
    }
#if REFVIT_X86
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++)
        broken |= check(&FUNCTIONS[i], every);
#endif
    return broken;
}
