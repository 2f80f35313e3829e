/*
 * A getaddrinfo that takes no lock, for a preload behind the library: every node has one IPv4 and one IPv6
 * address. glibc's own takes locks that fork leaves held (__check_pf in check_pf.c is one), so that
 * children would hang without any preload.
 */
#include "guest.h"

static struct sockaddr_in address4 = { .sin_family = AF_INET };
static struct sockaddr_in6 address6 = { .sin6_family = AF_INET6 };
static struct addrinfo six = { .ai_family = AF_INET6,
                               .ai_addrlen = sizeof address6,
                               .ai_addr = (struct sockaddr *)&address6 };
static struct addrinfo four = { .ai_family = AF_INET,
                                .ai_addrlen = sizeof address4,
                                .ai_addr = (struct sockaddr *)&address4 };
static struct addrinfo both = {
    .ai_family = AF_INET, .ai_addrlen = sizeof address4, .ai_addr = (struct sockaddr *)&address4, .ai_next = &six
};

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    (void)node;
    (void)service;
    *result = hints->ai_family == AF_INET ? &four : hints->ai_family == AF_INET6 ? &six : &both;
    return 0;
}

void freeaddrinfo(struct addrinfo *list) { (void)list; }
