/* A plugin that is linked with libc, as plugins are: what its own calls give. */
#include "guest.h"

void see(const char *name)
{
    struct sockaddr_in port = loopback(NULL);

    printf("plugin: keepalive %s\n", refused_text(&port));
    printf("plugin: %s %s\n", name, families_of(name, AF_UNSPEC, 0));
}
