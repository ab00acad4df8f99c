/* Panels of weights for popcount products on vectors: the words of a few channels, side by side. DEPTH words have as
   many bits as a byte can count: 31 * 8 <= 255. */
#include <string.h>

#include "../internal.h"

#define CHANNELS ((size_t)4)
#define DEPTH ((size_t)31)
#define TILE ((size_t)4) /* rows whose counters stay in registers */

/* Words first .. first + depth of the channels from `channel` on; the lanes beyond the last channel are zeros. */
struct panel {
    size_t channel, channels, first, depth;
    uint64_t nonzero[DEPTH * CHANNELS], neg[DEPTH * CHANNELS];
};

static void fill_panel(const struct ternary_job *job, struct panel *panel)
{
    if (panel->channels < CHANNELS) {
        memset(panel->nonzero, 0, sizeof panel->nonzero);
        memset(panel->neg, 0, sizeof panel->neg);
    }
    for (size_t c = 0; c < panel->channels; c++) {
        const size_t from = (panel->channel + c) * job->words + panel->first;
        for (size_t w = 0; w < panel->depth; w++) {
            panel->nonzero[w * CHANNELS + c] = job->pos[from + w] ^ job->neg[from + w];
            panel->neg[w * CHANNELS + c] = job->neg[from + w];
        }
    }
}
