/* What becomes of freed memory. A training step frees and asks for the same large arrays again and again; glibc would
   give them back to the system, which then clears every page anew. */
#include "../training.h"

#if defined(__GLIBC__)
#include <malloc.h>

int refvit_keep_memory(void)
{
    const int largest = 1 << 30;
    return mallopt(M_MMAP_THRESHOLD, largest) && mallopt(M_TRIM_THRESHOLD, largest) && mallopt(M_TOP_PAD, 1 << 26);
}

#else

int refvit_keep_memory(void)
{
    return 0;
}

#endif
