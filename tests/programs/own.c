/*
 * A program with a connect() and a getaddrinfo() of its own. They count, and ask nobody. A library that it needs
 * calls them too (its symbols come first in the search order).
 */
#include "guest.h"
#include <dlfcn.h>
#include <sys/syscall.h>

static int connects, lookups;

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    connects++;
    return (int)syscall(SYS_connect, fd, address, length);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    (void)node, (void)service, (void)hints, (void)result;
    lookups++;
    return EAI_FAIL;
}

int main(int argc, char **argv)
{
    struct sockaddr_in port = loopback(NULL);
    void *plugin = dlopen(argv[1], RTLD_NOW);
    void (*see)(const char *);

    if (argc != 3 || plugin == NULL)
        fail("dlopen");
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("keepalive %s\n", refused_text(&port));
    printf("%s %s\n", argv[2], families_of(argv[2], AF_UNSPEC, 0));
    printf("%d and %d calls of its own\n", connects, lookups);
    *(void **)&see = dlsym(plugin, "see");
    see(argv[2]);
    printf("%d and %d calls of its own\n", connects, lookups);
    return 0;
}
