/* What confines a program: a seccomp filter, a network namespace of its own. To be included first. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/seccomp.h and linux/filter.h, which musl-gcc does not find. */
#define FILTER_KILL 0x80000000U /* SECCOMP_RET_KILL_PROCESS */
#define FILTER_ERRNO(error) (0x00050000U | (error))
#define FILTER_ANY (-1)

/*
 * From now on the system call of this number, or only one whose first argument is this one, is answered by an action.
 * Returns 0, or -1 with errno.
 */
static inline int filter_number(long call, int argument, uint32_t action)
{
    struct step {
        uint16_t code;
        uint8_t if_true, if_false;
        uint32_t operand;
    } steps[] = {
        { 0x20, 0, 0, 0 },                  /* load the number of the system call */
        { 0x15, 0, 3, (uint32_t)call },     /* is it this one? */
        { 0x20, 0, 0, 16 },                 /* load the first argument's lower half */
        { 0x15, 0, 1, (uint32_t)argument }, /* is it this one? */
        { 0x06, 0, 0, action },             /* return */
        { 0x06, 0, 0, 0x7fff0000U },        /* SECCOMP_RET_ALLOW */
    };
    struct {
        unsigned short length;
        struct step *steps;
    } program = { sizeof steps / sizeof *steps, steps };

    if (argument == FILTER_ANY)
        steps[3] = (struct step){ 0x15, 0, 0, 0 }; /* on to the action, whatever it is */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, 2 /* SECCOMP_MODE_FILTER */, &program);
}

/* The same, whatever way there is to a call about sockets. */
static inline int filter(long call, int argument, uint32_t action)
{
#ifdef __i386__
    /* glibc makes them by socketcall(2), whose first argument says which (linux/net.h). */
    int inner = call == SYS_socket       ? 1
                : call == SYS_connect    ? 3
                : call == SYS_setsockopt ? 14
                : call == SYS_getsockopt ? 15
                                         : 0;

    if (inner && argument == FILTER_ANY && filter_number(SYS_socketcall, inner, action) != 0)
        return -1;
#endif
    return filter_number(call, argument, action);
}

/* Enters a new network namespace, whose loopback device is up. Returns 0, or -1 with errno. */
static inline int new_network(void)
{
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int any, status;

    if (unshare(CLONE_NEWNET) != 0 || (any = socket(AF_INET, SOCK_DGRAM, 0)) < 0)
        return -1;
    status = ioctl(any, SIOCSIFFLAGS, &lo);
    close(any);
    return status;
}
