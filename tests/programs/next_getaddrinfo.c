/*
 * The getaddrinfo that the library under test finds behind itself. It asks nobody and tells its
 * caller by its status which family it was asked for. A name that begins with "none." has no
 * address.
 */
#include <netdb.h>
#include <string.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    (void)service;
    (void)result;
    if (node && strncmp(node, "none.", 5) == 0)
        return EAI_NONAME;
    return 1000 + (hints ? hints->ai_family : 0);
}
