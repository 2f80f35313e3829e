/* Another preload that interposes what the library does: says what it is called with, and calls the next. */
#include "guest.h"
#include <dlfcn.h>

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    int (*next)(int, const struct sockaddr *, socklen_t);
    char line[64];
    int size = snprintf(line, sizeof line, "connect, keepalive %s\n", keepalive_text(fd));

    int type = 0;
    socklen_t type_length = sizeof type;

    /* The resolver of glibc before 2.34 calls this connect too, for its questions. */
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length);
    if (type == SOCK_STREAM && write(STDOUT_FILENO, line, (size_t)size) != size)
        _exit(2);
    *(void **)&next = dlsym(RTLD_NEXT, "connect");
    return next(fd, address, length);
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    char line[64];
    int size = snprintf(line, sizeof line, "getaddrinfo of %s, %s\n", node,
                        hints->ai_family == AF_INET ? "IPv4" : "any family");

    if (write(STDOUT_FILENO, line, (size_t)size) != size)
        _exit(2);
    *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
    return next(node, service, hints, result);
}
