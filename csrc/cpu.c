/* Which instructions beyond the compiler's baseline may run here: the CPU has them and the operating system lets them.
   Nothing here computes with floats or vectors, as a CPU may lack the baseline itself. */
#define _DEFAULT_SOURCE /* syscall */

#include "internal.h"

#if REFVIT_X86 || defined(__i386__)
#include <cpuid.h>
#endif

#if defined(__i386__)

int cpu_is_supported(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (edx & bit_SSE2);
}

#else

int cpu_is_supported(void)
{
    return 1;
}

#endif

#if REFVIT_X86

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

#elif REFVIT_ARM && defined(__linux__)
#include <sys/auxv.h>

/* Bits of the kernel's asm/hwcap.h. */
#if REFVIT_ARM64
#define HAS_NEON (1ul << 1)
#define HAS_DOTPROD (1ul << 20)
#else
#define HAS_NEON (1ul << 12)
#define HAS_DOTPROD 0ul
#endif

int refvit_cpu_features(void)
{
    const unsigned long has = getauxval(AT_HWCAP);
    return (has & HAS_NEON ? REFVIT_CPU_NEON : 0) | (has & HAS_DOTPROD ? REFVIT_CPU_DOTPROD : 0);
}

#elif REFVIT_RISCV && defined(__linux__)
#include <unistd.h>

/* Of the kernel's asm/hwprobe.h; Linux knows the call from 6.4 on, Zbb from 6.5. */
#define HWPROBE 258
#define KEY_EXTENSIONS 4
#define HAS_ZBB (1u << 4)

int refvit_cpu_features(void)
{
    struct {
        int64_t key;
        uint64_t value;
    } pair = {KEY_EXTENSIONS, 0};
    const long status = syscall(HWPROBE, &pair, 1ul, 0ul, NULL, 0ul);
    return status == 0 && pair.key == KEY_EXTENSIONS && (pair.value & HAS_ZBB) ? REFVIT_CPU_ZBB : 0;
}

#elif REFVIT_ARM64

int refvit_cpu_features(void) /* of every CPU that the system runs on */
{
#if defined(__ARM_FEATURE_DOTPROD)
    return REFVIT_CPU_NEON | REFVIT_CPU_DOTPROD;
#else
    return REFVIT_CPU_NEON;
#endif
}

#else

int refvit_cpu_features(void)
{
    return 0;
}

#endif
