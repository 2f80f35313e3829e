/*
 * Connects, with a log that cannot be written to: broken SIGNAL HANDLING
 *
 * SIGNAL: pipe or fsize (SIGPIPE, SIGXFSZ). HANDLING, what the program has done about it: default, handler,
 * blocked, pending (of this thread), shared (pending, of the process). Says "ready", waits for a line from standard
 * input, connects, and says whether the program is as it was.
 */
#include "guest.h"
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t handled;

static void handler(int signal)
{
    (void)signal;
    handled++;
}

int main(int argc, char **argv)
{
    const char *handling = argc == 3 ? argv[2] : "";
    int number = argc == 3 && strcmp(argv[1], "fsize") == 0 ? SIGXFSZ : SIGPIPE;
    struct sigaction action = { .sa_handler = handler };
    struct sockaddr_in port = loopback(NULL);
    struct timespec none = { 0, 0 };
    int connected = 0, pending = 0, udp = socket(AF_INET, SOCK_DGRAM, 0);
    sigset_t set, before, after;
    char line[16];

    sigemptyset(&set);
    sigaddset(&set, number);
    if (strcmp(handling, "handler") == 0)
        sigaction(number, &action, NULL);
    else if (strcmp(handling, "default") != 0)
        sigprocmask(SIG_BLOCK, &set, NULL);
    if (strcmp(handling, "pending") == 0)
        raise(number);
    else if (strcmp(handling, "shared") == 0)
        kill(getpid(), number);
    sigprocmask(SIG_BLOCK, NULL, &before);
    printf("ready\n");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        fail("stdin");

    for (int i = 0; i < 5; i++)
        connected += refused(&port) == 1;
    /* There is a line about this one too, at most. */
    errno = 77;
    if (connect(udp, (struct sockaddr *)&port, sizeof port) != 0 || errno != 77)
        printf("errno %d; ", errno);
    sigprocmask(SIG_BLOCK, NULL, &after);
    printf("%d connected; %d handled", connected, (int)handled);
    printf("; mask %s", memcmp(&before, &after, 8) == 0 ? "kept" : "CHANGED");
    if (sigismember(&after, number)) {
        while (sigtimedwait(&set, NULL, &none) == number)
            pending++;
        printf("; %d pending", pending);
    }
    printf("\n");
    return 0;
}
