/*
 * A library whose constructor and destructor connect and resolve. As a preload behind the library, or as one
 * that the program needs, it is constructed before the library is, and destroyed after it.
 */
#include "guest.h"
#include <sys/stat.h>

static void say(void)
{
    struct sockaddr_in port = loopback(NULL);

    printf("keepalive %s", refused_text(&port));
    printf(" dual %s", families_of("dual.example.com", AF_UNSPEC, 0));
    printf(" other %s\n", families_of("other.example.com", AF_UNSPEC, 0));
    fflush(stdout);
}

static __attribute__((constructor)) void construct(void)
{
    const char *log = getenv("EGRESS_SHIM_LOG_FILE");
    struct stat status;

    /* The library makes its log file when it loads. */
    if (log != NULL)
        printf("%s: ", stat(log, &status) == 0 ? "SECOND" : "first");
    say();
}

static __attribute__((destructor)) void destroy(void)
{
    printf("destroyed: ");
    say();
}
