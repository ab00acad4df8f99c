/* Rule N14 for the steps between kernels: a caller, in any language, brackets them with these two. */
#include <string.h>

#include "fpenv.h"
#include "refvit.h"

typedef char the_environment_fits[sizeof(fp_env) <= REFVIT_ENVIRONMENT_BYTES ? 1 : -1];

void refvit_environment_enter(uint8_t *saved)
{
    const fp_env before = fp_enter();
    memcpy(saved, &before, sizeof before);
}

void refvit_environment_leave(const uint8_t *saved)
{
    fp_env before;
    memcpy(&before, saved, sizeof before);
    fp_leave(before);
}
