/* Constants of N9, shared by the kernels that follow it. */
#ifndef REFVIT_EXACT_H
#define REFVIT_EXACT_H

#define PARTIAL_SUMS 16
#define LOG2E 0x1.71547652b82fep+0
#define LN2_HI 0x1.62e42feep-1
#define LN2_LO 0x1.a39ef35793c76p-33
#define EXP_LOW -104.0
#define EXP_HIGH 89.0
#define INV_SQRT2 0x1.6a09e6p-1f

#endif
