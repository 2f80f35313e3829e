/*
 * A service: says which process and user it is, how keepalive is set on a connection that it makes, and of
 * what families the addresses of each argument are. Then it runs until SIGTERM, and ends with status 7.
 */
#include "guest.h"
#include <signal.h>

static volatile sig_atomic_t ended;

static void end(int signal)
{
    (void)signal;
    ended = 1;
}

int main(int argc, char **argv)
{
    struct sockaddr_in port = loopback(NULL);
    struct sigaction action = { .sa_handler = end };
    sigset_t none, term;

    sigemptyset(&none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    sigaction(SIGTERM, &action, NULL);

    printf("process %d of user %d\n", getpid(), getuid());
    printf("keepalive %s\n", refused_text(&port));
    for (int i = 1; i < argc; i++)
        printf("%s %s\n", argv[i], families_of(argv[i], AF_UNSPEC, 0));
    printf("ready\n");
    fflush(stdout);
    while (!ended)
        sigsuspend(&none);
    return 7;
}
