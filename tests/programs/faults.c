/*
 * A preload behind the library in which a system call of the library's own fails: those that it makes through
 * these functions of libc. Calls from anywhere else pass.
 *
 *     FAULT_AT=N       the N-th of them fails, 0 being the first
 *     FAULT_CALL=NAME  only those of this name count: open (and openat), mmap, pwritev2, fstat, stat
 *     FAULT_ERRNO=E    with this error
 *     FAULT_FILE=PATH  where the fault is told, so that the test knows when there are no more
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static uintptr_t from, to;
static int countdown = -1, error;
static const char *only, *file;

/* The next syscall(2): libc's. */
static long (*real)(long, ...);

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
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
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
        long told = real(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_TRUNC, 0644);

        real(SYS_write, told, name, strlen(name));
        real(SYS_close, told);
    }
    errno = error;
    return 1;
}

#define FAILS(name) fails(name, __builtin_return_address(0))

/* The name of a call whose number differs between machines; of others the number. */
static const char *name_of(long call, char number[24])
{
    switch (call) {
#ifdef SYS_open
    case SYS_open:
#endif
    case SYS_openat: return "open";
#ifdef SYS_mmap2
    case SYS_mmap2:
#else
    case SYS_mmap:
#endif
        return "mmap";
    case SYS_pwritev2: return "pwritev2";
    }
    snprintf(number, 24, "%ld", call);
    return number;
}

long syscall(long call, ...)
{
    char number[24];
    long a[6];
    va_list list;

    va_start(list, call);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (FAILS(name_of(call, number)))
        return -1;
    return real(call, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The forms with a 64-bit size, which some headers give other names. */
int faulty_fstat(int fd, void *status) __asm__("fstat64");
int faulty_stat(const char *path, void *status) __asm__("stat64");
int faulty_fxstat(int version, int fd, void *status) __asm__("__fxstat64");
int faulty_xstat(int version, const char *path, void *status) __asm__("__xstat64");

int faulty_fstat(int fd, void *status)
{
    if (FAILS("fstat"))
        return -1;
#ifdef SYS_fstat64
    return (int)real(SYS_fstat64, fd, status);
#else
    return (int)real(SYS_fstat, fd, status);
#endif
}

int faulty_stat(const char *path, void *status)
{
    if (FAILS("stat"))
        return -1;
#ifdef SYS_stat64
    return (int)real(SYS_stat64, path, status);
#else
    return (int)real(SYS_newfstatat, AT_FDCWD, path, status, 0);
#endif
}

int faulty_fxstat(int version, int fd, void *status)
{
    (void)version;
    return faulty_fstat(fd, status);
}

int faulty_xstat(int version, const char *path, void *status)
{
    (void)version;
    return faulty_stat(path, status);
}
