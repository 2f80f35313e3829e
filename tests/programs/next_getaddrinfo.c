/*
 * The getaddrinfo that the library under test finds behind itself. It asks nobody and tells its
 * caller by its status which family it was asked for. A name that begins with "six." has an IPv6
 * address and no other.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#ifndef EAI_NODATA /* musl has it since 1.2.4 */
#define EAI_NODATA (-5)
#endif

static struct sockaddr_in6 address = { .sin6_family = AF_INET6 };
static struct addrinfo six = { .ai_family = AF_INET6,
                               .ai_addrlen = sizeof address,
                               .ai_addr = (struct sockaddr *)&address };

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    (void)service;
    if (node && strncmp(node, "six.", 4) == 0) {
        if (hints && hints->ai_family == AF_INET)
            return EAI_NODATA;
        *result = &six;
        return 0;
    }
    return 1000 + (hints ? hints->ai_family : 0);
}

void freeaddrinfo(struct addrinfo *list) { (void)list; }
