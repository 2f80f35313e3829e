/* A preload that calls the next connect, as dlsym finds it, and nothing else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    int (*next)(int, const struct sockaddr *, socklen_t);

    *(void **)&next = dlsym(RTLD_NEXT, "connect");
    return next(fd, address, length);
}
