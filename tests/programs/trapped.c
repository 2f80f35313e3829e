/*
 * A program whose seccomp filter has a system call answered by a handler of SIGSYS, as browsers' sandboxes do. Connects and
 * looks a name up. Prints the outcomes, and whether the handler was called.
 *
 * "trapped pending" blocks SIGSYS instead, has one pending, and prints whether it still is.
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

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = handler };
    struct sockaddr_in port = loopback(NULL);
    int is_pending = argc > 1 && strcmp(argv[1], "pending") == 0;
    sigset_t set;

    sigaction(SIGSYS, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    if (is_pending) {
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGSYS);
    } else if (filter(SYS_getpid, FILTER_ANY, FILTER_TRAP) != 0) {
        fail("seccomp");
    }
    printf("keepalive %s\n", refused_text(&port));
    printf("dual %s\n", families_of("dual.example.com", AF_UNSPEC, 0));
    sigpending(&set);
    printf("handled %d, pending %d\n", (int)handled, sigismember(&set, SIGSYS));
    return 0;
}
