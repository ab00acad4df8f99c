/* qemu-user before 8.1 does not know the call by which Linux tells a RISC-V program what its CPU has; there this one,
   put around syscall() by the linker, answers in its place that it has Zbb where the environment has a variable ZBB. */
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#define HWPROBE 258

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
    va_list arguments;
    long a[5];
    va_start(arguments, number);
    for (int i = 0; i < 5; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    const long status = __real_syscall(number, a[0], a[1], a[2], a[3], a[4]);
    if (status == 0 || number != HWPROBE || !getenv("ZBB"))
        return status;
    ((uint64_t *)a[0])[1] = 1u << 4;
    return 0;
}
