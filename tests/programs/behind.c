/*
 * A preload behind the library: says that its connect is called. -DHOW=NUMBER: the kinds of symbols below;
 * tests/promises/company.rs links it in other ways too.
 */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PLAIN, INDIRECT, UNTYPED, FIRST_VERSION, LATER_VERSION };

#if HOW == 2
__attribute__((visibility("hidden")))
#endif
int say_behind(int fd, const struct sockaddr *address, socklen_t length)
{
    static const char line[] = "behind\n";

    return write(STDOUT_FILENO, line, sizeof line - 1) < 0 ? -1 : (int)syscall(SYS_connect, fd, address, length);
}

#if HOW == 1
static int (*choose(void))(int, const struct sockaddr *, socklen_t) { return say_behind; }

int connect(int fd, const struct sockaddr *address, socklen_t length) __attribute__((ifunc("choose")));
#elif HOW == 2
#ifdef __aarch64__
__asm__(".text\n.globl connect\nconnect: b say_behind\n");
#else
__asm__(".text\n.globl connect\nconnect: jmp say_behind\n");
#endif
#elif HOW == 3
__asm__(".symver say_behind, connect@BEHIND_1\n");
#elif HOW == 4
__asm__(".symver say_behind, connect@BEHIND_2\n");
#else
int connect(int fd, const struct sockaddr *address, socklen_t length) { return say_behind(fd, address, length); }
#endif
