/*
 * Opens a library, and calls the connect, the recv and the getaddrinfo in it:
 *
 *     opened HOW LIBRARY.so
 *
 * HOW: dlopen, or dlmopen for a namespace of its own, in which there is a second libc (glibc only).
 */
#include "guest.h"
#include <dlfcn.h>

/* The program's own, which the library must not take for the next one. */
ssize_t recv(int fd, void *buffer, size_t length, int flags)
{
    (void)fd, (void)buffer, (void)length, (void)flags;
    errno = ELOOP;
    return -1;
}

static void *opened(const char *how, const char *library)
{
#ifdef LM_ID_NEWLM
    if (strcmp(how, "dlmopen") == 0)
        return dlmopen(LM_ID_NEWLM, library, RTLD_NOW);
#else
    (void)how;
#endif
    return dlopen(library, RTLD_NOW);
}

int main(int argc, char **argv)
{
    void *library = opened(argv[argc - 2], argv[argc - 1]);
    int (*own_getaddrinfo)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    struct addrinfo *list, *next;
    int (*own_connect)(int, const struct sockaddr *, socklen_t);
    ssize_t (*own_recv)(int, void *, size_t, int);
    int listener, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in port = loopback(&listener);
    char byte = 0;

    if (library == NULL) {
        puts(dlerror());
        return 1;
    }
    *(void **)&own_connect = dlsym(library, "connect");
    *(void **)&own_recv = dlsym(library, "recv");
    *(void **)&own_getaddrinfo = dlsym(library, "getaddrinfo");
    if (own_connect(fd, (struct sockaddr *)&port, sizeof port) != 0)
        fail("connect");
    if (send(accept(listener, NULL, NULL), "x", 1, 0) != 1)
        fail("send");
    if (own_recv(fd, &byte, 1, 0) != 1)
        fail("recv");
    printf("keepalive %s, received %c, localhost", keepalive_text(fd), byte);
    if (own_getaddrinfo("localhost", NULL, NULL, &list) != 0)
        fail("getaddrinfo");
    for (next = list; next != NULL; next = next->ai_next)
        if (next->ai_socktype == SOCK_STREAM)
            printf(next->ai_family == AF_INET ? " IPv4" : " IPv6");
    puts("");
    return 0;
}
