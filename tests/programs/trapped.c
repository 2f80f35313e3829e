/*
 * A program whose seccomp filter has a system call answered by a handler of SIGSYS, as browsers' sandboxes do. Connects and
 * looks a name up. Prints the outcomes, and whether the handler was called.
 */
#include "confine.h"
#include "guest.h"
#include <signal.h>

#define FILTER_TRAP 0x00030000U /* SECCOMP_RET_TRAP */

static volatile sig_atomic_t handled;

/* The call returns its own number. */
static void handler(int signal)
{
    (void)signal;
    handled = 1;
}

int main(void)
{
    struct sigaction action = { .sa_handler = handler };
    struct sockaddr_in port = loopback(NULL);

    sigaction(SIGSYS, &action, NULL);
    if (filter(SYS_getpid, FILTER_ANY, FILTER_TRAP) != 0)
        fail("seccomp");
    printf("keepalive %s\n", refused_text(&port));
    printf("dual %s\n", families_of("dual.example.com", AF_UNSPEC, 0));
    printf("handled %d\n", (int)handled);
    return 0;
}
