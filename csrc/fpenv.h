/* Rule N14: around every float kernel the floating-point environment is the default one: round to nearest, no
   flushing of subnormals, no traps. A caller may have set another, e.g. a library built with -ffast-math. */
#ifndef REFVIT_FPENV_H
#define REFVIT_FPENV_H

#if defined(__x86_64__) || defined(_M_X64)

#include <xmmintrin.h>

typedef unsigned fp_env;

static inline fp_env fp_enter(void)
{
    const fp_env saved = _mm_getcsr();
    _mm_setcsr(0x1f80); /* all exceptions masked, round to nearest, neither FTZ nor DAZ */
    return saved;
}

static inline void fp_leave(fp_env saved)
{
    _mm_setcsr(saved);
}

#elif defined(__aarch64__)

#include <stdint.h>

typedef uint64_t fp_env;

static inline fp_env fp_enter(void)
{
    fp_env saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved)::"memory");
    __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0) : "memory");
    return saved;
}

static inline void fp_leave(fp_env saved)
{
    __asm__ volatile("msr fpcr, %0" ::"r"(saved) : "memory");
}

#else

#include <fenv.h>

typedef fenv_t fp_env;

static inline fp_env fp_enter(void)
{
    fp_env saved;
    fegetenv(&saved);
    fesetenv(FE_DFL_ENV);
    return saved;
}

static inline void fp_leave(fp_env saved)
{
    fesetenv(&saved);
}

#endif

#endif
