/*
 * Opens a library with dlopen, and calls the connect and the recv in it:
 *
 *     opened LIBRARY.so
 */
#include "guest.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
    void *library = dlopen(argv[argc - 1], RTLD_NOW);
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
    if (own_connect(fd, (struct sockaddr *)&port, sizeof port) != 0)
        fail("connect");
    if (send(accept(listener, NULL, NULL), "x", 1, 0) != 1)
        fail("send");
    if (own_recv(fd, &byte, 1, 0) != 1)
        fail("recv");
    printf("keepalive %s, received %c\n", keepalive_text(fd), byte);
    return 0;
}
