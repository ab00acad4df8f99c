/* Which vector instructions may run here: the CPU has them and the operating system saves their registers. */
#include "internal.h"

#if REFVIT_X86
#include <cpuid.h>

#define XCR0_AVX 0x06u    /* xmm and ymm state */
#define XCR0_AVX512 0xe6u /* and opmask and both parts of zmm state */

static unsigned enabled_state(void)
{
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

static int has_fma(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_FMA);
}

static int has_avx_vnni(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 4));
}

int refvit_cpu_features(void)
{
    unsigned eax, ebx, ecx, edx, state = enabled_state();
    int features = 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (state & XCR0_AVX) != XCR0_AVX)
        return 0;
    features |= (ebx & (1u << 5)) ? REFVIT_CPU_AVX2 : 0;
    features |= has_fma() ? REFVIT_CPU_FMA : 0;
    features |= has_avx_vnni() ? REFVIT_CPU_AVXVNNI : 0;
    if ((state & XCR0_AVX512) != XCR0_AVX512)
        return features;
    features |= (ebx & (1u << 16)) ? REFVIT_CPU_AVX512F : 0;
    features |= (ebx & (1u << 30)) ? REFVIT_CPU_AVX512BW : 0;
    features |= (ebx & (1u << 31)) ? REFVIT_CPU_AVX512VL : 0;
    features |= (ecx & (1u << 11)) ? REFVIT_CPU_AVX512VNNI : 0;
    features |= (ecx & (1u << 14)) ? REFVIT_CPU_AVX512VPOPCNTDQ : 0;
    return features;
}

#else

int refvit_cpu_features(void)
{
    return 0;
}

#endif
