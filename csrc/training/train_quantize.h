/* Quantizers of training: values of activation codes, and of ternary weights, exactly those of refvit/quant.py and
   ternary.py (N3, N4, N5). Compiled once for each target, after train_rows.h. */
#include "../rows/codes.h"

/* LANES values from x[j] on, zeros from x[n] on. */
INLINE void load_lanes(size_t n, const float *x, size_t j, float *v)
{
    if (j + LANES <= n) {
        memcpy(v, x + j, LANES * sizeof *v);
        return;
    }
    for (size_t l = 0; l < LANES; l++)
        v[l] = j + l < n ? x[j + l] : 0.0f;
}

/* The range of finite values, 0 included, and whether there was a NaN; LANES of each until a row is done. */
struct range {
    float low[LANES], high[LANES];
    int nan[LANES];
};

INLINE void widen(struct range *range, size_t n, const float *x)
{
    for (size_t j = 0; j < n; j += LANES) {
        float v[LANES];
        load_lanes(n, x, j, v);
        for (size_t l = 0; l < LANES; l++) {
            const float finite = fabsf(v[l]) <= FLT_MAX ? v[l] : 0.0f;
            range->low[l] = finite < range->low[l] ? finite : range->low[l];
            range->high[l] = finite > range->high[l] ? finite : range->high[l];
            range->nan[l] |= v[l] != v[l];
        }
    }
}

/* All lanes into the first. */
INLINE void fold(struct range *range)
{
    for (size_t l = 1; l < LANES; l++) {
        range->low[0] = range->low[l] < range->low[0] ? range->low[l] : range->low[0];
        range->high[0] = range->high[l] > range->high[0] ? range->high[l] : range->high[0];
        range->nan[0] |= range->nan[l];
    }
}

/* y = clip(rint(x / s), least, most) * s, and where that did not clip; returns whether it did anywhere. */
INLINE int round_run(size_t n, const float *restrict x, float s, float least, float most, float *restrict y,
                     uint8_t *restrict passes)
{
    int clipped = 0;
    for (size_t j = 0; j < n; j++) {
        const float r = round_even(x[j] / s), capped = r < most ? r : most;
        y[j] = (capped > least ? capped : least) * s;
        passes[j] = (uint8_t)((r >= least) & (r <= most));
        clipped |= (r < least) | (r > most);
    }
    return clipped;
}

INLINE int fake_quantize_row(const struct quantize_job *job, size_t row, const float *x, float *y, uint8_t *passes)
{
    const int bits = job->bits;
    const size_t x_step = job->x_strides[2], y_step = job->y_strides[2];
    struct range range = {{0.0f}, {0.0f}, {0}};
    for (size_t i = 0; i < job->segments; i++)
        widen(&range, job->length, x + i * x_step);
    fold(&range);
    const float low = range.low[0], high = range.high[0];
    float s;
    int32_t zp = 0;
    int clipped = 0;
    if (job->s) {
        s = job->s[row];
        zp = job->zp[row];
    } else if (job->minmax) {
        s = scale_from_range(low, high, bits);
        zp = zero_point(low, s, bits);
    } else {
        s = scale_from_amax(high > -low ? high : -low, bits);
    }
    const int32_t top = (1 << (bits - 1)) - 1, bottom = job->minmax ? -top - 1 : -top;
    for (size_t i = 0; i < job->segments; i++)
        clipped |= round_run(job->length, x + i * x_step, s, (float)(bottom - zp), (float)(top - zp), y + i * y_step,
                             passes + i * y_step);
    job->clipped[row] = clipped;
    return range.nan[0];
}

TARGET static int fake_quantize(const struct quantize_job *job)
{
    int nan = 0;
    for (size_t i = 0; i < job->outer; i++) {
        for (size_t j = 0; j < job->inner; j++) {
            const size_t to = i * job->y_strides[0] + j * job->y_strides[1];
            const float *x = job->x + i * job->x_strides[0] + j * job->x_strides[1];
            nan |= fake_quantize_row(job, i * job->inner + j, x, job->y + to, job->passes + to);
        }
    }
    return nan ? REFVIT_NAN : REFVIT_OK;
}

/* rint(x / s) * s for |x / s| < 2^22 */
TARGET static void round_to(size_t count, const float *x, float s, float *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = round_even(x[i] / s) * s;
}

/* Magnitudes of a row are split into multiples of a unit, `magnitude + shift - shift`, and rests: see split_row. */
struct split {
    double shift;
    int exact;
};

/* A float64 sum is exact when all terms are multiples of some u and the total stays below 2^53 u. With U a power of
   two so large that max * k < 2^51 U, that holds for multiples of U; the rests are at most U / 2, and multiples of the
   spacing u of the smallest non-zero magnitude: exact when k U / 2 <= 2^53 u. */
INLINE struct split split_row(size_t k, float smallest, float largest)
{
    int least;
    frexpf(smallest, &least);
    const double unit = ldexp(1.0, least - 24 > -149 ? least - 24 : -149);
    const double coarse = ldexp(1.0, ilogb((double)largest * (double)k) - 49);
    const struct split split = {0x1.8p52 * coarse, (double)k * coarse * 0.5 <= unit * 0x1p53};
    return split;
}

/* The exact sum of the magnitudes above `delta`, rounded once, and their number. */
INLINE double sum_above(size_t k, const float *w, float delta, double shift, size_t *count)
{
    double sums[LANES] = {0.0}, rests[LANES] = {0.0};
    int32_t counts[LANES] = {0};
    for (size_t j = 0; j < k; j += LANES) {
        float values[LANES];
        load_lanes(k, w, j, values);
        for (size_t l = 0; l < LANES; l++) {
            const float a = fabsf(values[l]);
            const double v = a > delta ? (double)a : 0.0, multiple = v + shift - shift;
            sums[l] += multiple;
            rests[l] += v - multiple;
            counts[l] += a > delta;
        }
    }
    for (size_t l = 1; l < LANES; l++) {
        sums[0] += sums[l];
        rests[0] += rests[l];
        counts[0] += counts[l];
    }
    *count = (size_t)counts[0];
    return sums[0] + rests[0];
}

/* The smallest magnitude above 0, and the largest; FLT_MIN for a row of zeros. Returns whether all are finite. */
INLINE int magnitude_range(size_t k, const float *w, float *smallest, float *largest)
{
    float least[LANES], most[LANES] = {0.0f};
    int finite[LANES];
    for (size_t l = 0; l < LANES; l++) {
        least[l] = FLT_MAX;
        finite[l] = 1;
    }
    for (size_t j = 0; j < k; j += LANES) {
        float values[LANES];
        load_lanes(k, w, j, values);
        for (size_t l = 0; l < LANES; l++) {
            const float a = fabsf(values[l]), positive = a > 0.0f ? a : FLT_MAX;
            least[l] = positive < least[l] ? positive : least[l];
            most[l] = a > most[l] ? a : most[l];
            finite[l] &= a <= FLT_MAX;
        }
    }
    for (size_t l = 1; l < LANES; l++) {
        least[0] = least[l] < least[0] ? least[l] : least[0];
        most[0] = most[l] > most[0] ? most[l] : most[0];
        finite[0] &= finite[l];
    }
    *smallest = most[0] > 0.0f ? least[0] : FLT_MIN;
    *largest = most[0] > 0.0f ? most[0] : FLT_MIN;
    return finite[0];
}

/* alpha * code of each weight (N3), alpha the mean above delta or of all. REFVIT_BAD_SIZE: a row whose sums are not
   provably exact, or not finite; the caller asks the twin. */
TARGET static int ternary_rows(size_t rows, size_t k, const float *w, double threshold, int absolute_mean, float *y)
{
    for (size_t i = 0; i < rows; i++, w += k, y += k) {
        float smallest, largest;
        size_t count;
        const int finite = magnitude_range(k, w, &smallest, &largest);
        const struct split split = split_row(k, smallest, largest);
        if (!finite || !split.exact)
            return REFVIT_BAD_SIZE;
        const double mean = sum_above(k, w, 0.0f, split.shift, &count) / (double)k;
        const float delta = (float)(threshold * mean);
        const double above = sum_above(k, w, delta, split.shift, &count) / (double)(count ? count : 1);
        const float alpha = (float)(absolute_mean ? mean : above);
        for (size_t j = 0; j < k; j++) {
            const float kept = w[j] > 0.0f ? alpha : -alpha;
            y[j] = fabsf(w[j]) > delta ? kept : 0.0f;
        }
    }
    return REFVIT_OK;
}
