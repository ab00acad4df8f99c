/* Popcount products of panels by tiles of rows, for one target, whose file defines TARGET and INLINE (attributes of
   functions), `counts` (a number for each channel of a panel), and
     count_plane   popcounts of one plane of activations, x [depth][step], for `rows` rows
     twice_minus   2 a - b
     store_row     out = start - sums, of the channels there are */

/* Horner's rule from the top plane down, for the negative of the product, as the top plane alone weighs negatively. */
INLINE void ternary_tile(const struct ternary_job *job, const struct panel *panel, size_t i, const size_t rows)
{
    const size_t row = i % GROUP, step = group_rows(job->m, i - row), plane = job->words * step;
    const uint64_t *x = job->x + (i - row) * job->words * job->bits + panel->first * step + row;
    counts sums[TILE], next[TILE];
    count_plane(rows, panel, x + (job->bits - 1) * plane, step, sums);
    for (size_t p = job->bits - 1; p-- > 0;) {
        count_plane(rows, panel, x + p * plane, step, next);
        for (size_t r = 0; r < rows; r++)
            sums[r] = twice_minus(sums[r], next[r]);
    }
    for (size_t r = 0; r < rows; r++) {
        int32_t *out = job->out + (i + r) * job->n + panel->channel;
        store_row(panel, sums[r], panel->first ? out : job->neg_counts + panel->channel, out);
    }
}

/* A constant number of rows lets the counters of each height live in registers. */
TARGET static void ternary_rows(const struct ternary_job *job, const struct panel *panel, size_t i, size_t rows)
{
    switch (rows) {
    case 1: ternary_tile(job, panel, i, 1); break;
    case 2: ternary_tile(job, panel, i, 2); break;
    case 3: ternary_tile(job, panel, i, 3); break;
    default: ternary_tile(job, panel, i, TILE);
    }
}

static void ternary_panels(const struct ternary_job *job)
{
    struct panel panel;
    for (panel.channel = 0; panel.channel < job->n; panel.channel += CHANNELS) {
        panel.channels = job->n - panel.channel < CHANNELS ? job->n - panel.channel : CHANNELS;
        for (panel.first = 0; panel.first < job->words; panel.first += DEPTH) {
            panel.depth = job->words - panel.first < DEPTH ? job->words - panel.first : DEPTH;
            fill_panel(job, &panel);
            for (size_t i = 0; i < job->m; i += TILE)
                ternary_rows(job, &panel, i, job->m - i < TILE ? job->m - i : TILE);
        }
    }
}
