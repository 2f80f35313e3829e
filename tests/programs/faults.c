/*
 * A preload behind the library in which a system call of the library's own fails: those that it makes through
 * these functions of libc. Calls from anywhere else pass.
 *
 *     FAULT_AT=N       the N-th of them fails, 0 being the first
 *     FAULT_CALL=NAME  only those of this name count: open (and openat), fstat, stat, or a number of a system call
 *     FAULT_ERRNO=E    with this error
 *     FAULT_FILE=PATH  where the fault is told, so that the test knows when there are no more
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static uintptr_t from, to;
static int countdown = -1, error;
static const char *only, *file;

static long bare(long call, long a, long b, long c, long d, long e, long f)
{
    long result;
#if defined __x86_64__
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(call), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = call;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    result = x0;
#endif
    return result;
}

static long with_errno(long result)
{
    if (result >= -4095 && result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static int find(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size, (void)data;
    if (info->dlpi_name == NULL || strstr(info->dlpi_name, "libegress_shim") == NULL)
        return 0;
    from = (uintptr_t)info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            to = from + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    return 1;
}

/* Whether this call is the one that fails. */
static int fails(const char *name, const void *caller)
{
    static int ready;
    uintptr_t place = (uintptr_t)caller;

    if (!ready) {
        const char *at = getenv("FAULT_AT"), *number = getenv("FAULT_ERRNO");

        ready = 1;
        dl_iterate_phdr(find, NULL);
        only = getenv("FAULT_CALL");
        file = getenv("FAULT_FILE");
        error = number ? atoi(number) : EIO;
        countdown = at ? atoi(at) : -1;
    }
    if (place < from || place >= to || (only && strcmp(only, name) != 0))
        return 0;
    if (countdown < 0 || countdown-- > 0)
        return 0;
    if (file) {
        long told = bare(SYS_openat, AT_FDCWD, (long)file, O_WRONLY | O_CREAT | O_TRUNC, 0644, 0, 0);

        bare(SYS_write, told, (long)name, (long)strlen(name), 0, 0, 0);
        bare(SYS_close, told, 0, 0, 0, 0, 0);
    }
    errno = error;
    return 1;
}

#define FAILS(name) fails(name, __builtin_return_address(0))

long syscall(long call, ...)
{
    char name[24];
    long a[6];
    va_list list;

    va_start(list, call);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    snprintf(name, sizeof name, "%ld", call);
#ifdef SYS_open
    if (call == SYS_open)
        strcpy(name, "open");
#endif
    if (call == SYS_openat)
        strcpy(name, "open");
    if (FAILS(name))
        return -1;
    return with_errno(bare(call, a[0], a[1], a[2], a[3], a[4], a[5]));
}

int fstat(int fd, struct stat *status)
{
    if (FAILS("fstat"))
        return -1;
    return (int)with_errno(bare(SYS_fstat, fd, (long)status, 0, 0, 0, 0));
}

int stat(const char *path, struct stat *status)
{
    if (FAILS("stat"))
        return -1;
    return (int)with_errno(bare(SYS_newfstatat, AT_FDCWD, (long)path, (long)status, 0, 0, 0));
}

int __xstat(int version, const char *path, struct stat *status)
{
    (void)version;
    return stat(path, status);
}

int __fxstat(int version, int fd, struct stat *status)
{
    (void)version;
    if (FAILS("fstat"))
        return -1;
    return (int)with_errno(bare(SYS_fstat, fd, (long)status, 0, 0, 0, 0));
}
