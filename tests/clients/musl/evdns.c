/* libevent's evdns: an IPv4 address only where there is no other. */
#include <err.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <string.h>

#include "get.h"

static struct sockaddr_storage address;

static void take(int result, char type, int count, int ttl, void *answer, void *events)
{
    (void)ttl;
    event_base_loopbreak(events);
    if (result != DNS_ERR_NONE || count == 0)
        return;
    address.ss_family = type == DNS_IPv6_AAAA ? AF_INET6 : AF_INET;
    if (type == DNS_IPv6_AAAA)
        memcpy(&((struct sockaddr_in6 *)&address)->sin6_addr, answer, 16);
    else
        memcpy(&((struct sockaddr_in *)&address)->sin_addr, answer, 4);
}

struct sockaddr_storage lookup(const char *host)
{
    struct event_base *events = event_base_new();
    struct evdns_base *dns = evdns_base_new(events, EVDNS_BASE_INITIALIZE_NAMESERVERS);
    if (!dns)
        errx(1, "evdns does not start");
    evdns_base_resolve_ipv6(dns, host, DNS_QUERY_NO_SEARCH, take, events);
    event_base_dispatch(events);
    if (!address.ss_family) {
        evdns_base_resolve_ipv4(dns, host, DNS_QUERY_NO_SEARCH, take, events);
        event_base_dispatch(events);
    }
    if (!address.ss_family)
        errx(1, "no address");
    return address;
}
