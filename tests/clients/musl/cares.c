/* c-ares' getaddrinfo: both questions at once, the addresses in the order of RFC 6724. */
#include <ares.h>
#include <err.h>
#include <string.h>

#include "get.h"

static void take(void *address, int status, int timeouts, struct ares_addrinfo *answer)
{
    (void)timeouts;
    if (status != ARES_SUCCESS)
        errx(1, "%s", ares_strerror(status));
    memcpy(address, answer->nodes->ai_addr, answer->nodes->ai_addrlen);
    ares_freeaddrinfo(answer);
}

struct sockaddr_storage lookup(const char *host)
{
    struct sockaddr_storage address = { 0 };
    struct ares_options options = { .evsys = ARES_EVSYS_DEFAULT };
    const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    ares_channel_t *channel;
    if (ares_init_options(&channel, &options, ARES_OPT_EVENT_THREAD) != ARES_SUCCESS)
        errx(1, "c-ares does not start");
    ares_getaddrinfo(channel, host, NULL, &hints, take, &address);
    ares_queue_wait_empty(channel, -1);
    ares_destroy(channel);
    return address;
}
