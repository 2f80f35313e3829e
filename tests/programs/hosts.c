/*
 * Looks names up by gethostbyname2 and gethostbyname2_r: hosts NAME... Prints what they say, for IPv6 and IPv4;
 * gethostbyname2_r without a buffer, and with one.
 */
#include "guest.h"

static void show(const struct hostent *host)
{
    char text[64];

    if (host == NULL) {
        printf("null");
        return;
    }
    printf("%s/%d/%d", host->h_name, host->h_addrtype, host->h_length);
    for (char **address = host->h_addr_list; *address != NULL; address++)
        printf(" %s", inet_ntop(host->h_addrtype, *address, text, sizeof text));
    for (char **alias = host->h_aliases; *alias != NULL; alias++)
        printf(" alias %s", *alias);
}

static void look_up(const char *name, int family)
{
    static char buffer[4096] __attribute__((aligned));
    static const size_t sizes[] = { 0, sizeof buffer };
    struct hostent storage, *host;
    int error, status;

    h_errno = -7;
    host = gethostbyname2(name, family);
    error = h_errno;
    printf("%s %d: ", name, family);
    show(host);
    printf(" (%d)\n", host == NULL ? error : 0);
    for (int i = 0; i < 2; i++) {
        error = -7;
        host = (void *)1;
        status = gethostbyname2_r(name, family, &storage, buffer, sizes[i], &host, &error);
        printf("  %zu: %d ", sizes[i], status);
        show(host);
        printf(" (%d)\n", host == NULL ? error : 0);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        look_up(argv[i], AF_INET6);
        look_up(argv[i], AF_INET);
    }
    return 0;
}
