/*
 * A signal handler connects, some thousand times a second, whatever it interrupts:
 *
 *     interrupt connect|malloc|getaddrinfo|printf [mask]
 *
 * Prints what was found wrong with the handler's connections and with what they interrupted; with "mask", how
 * often a signal was blocked in what they interrupted.
 */
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

enum { LEAST = 200 };

static struct sockaddr_in free_port, taken_port;
static int listener, keepalive;
static volatile sig_atomic_t handled, wrong, blocked;

static void rearm(void)
{
    static unsigned int random = 1;
    struct itimerval next = { .it_interval = { 0, 0 } };

    /* One shot each: what is interrupted gets on, however slow the machine. */
    random = random * 1103515245 + 12345;
    next.it_value.tv_usec = 40 + (random >> 16) % 200;
    setitimer(ITIMER_REAL, &next, NULL);
}

static void handler(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;
    const sigset_t *mask = &((ucontext_t *)context)->uc_sigmask;

    (void)signal;
    (void)info;
    /* The mask of what was interrupted: no call there blocks a signal of the program's. */
    if (sigismember(mask, SIGPIPE) || sigismember(mask, SIGXFSZ))
        blocked++;
    if (refused(&free_port) != keepalive)
        wrong++;
    errno = 77;
    if (connect(fd, (struct sockaddr *)&taken_port, sizeof taken_port) != 0 || errno != 77 ||
        keepalive_of(fd) != keepalive)
        wrong++;
    accepted = accept(listener, NULL, NULL);
    if (accepted < 0)
        wrong++;
    close(accepted);
    close(fd);
    handled++;
    errno = saved;
    rearm();
}

static int elapsed(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int)(now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

static int connect_once(void) { return refused(&free_port) == keepalive; }

static int allocate(void)
{
    static char *blocks[64];
    static unsigned int at, size = 1;
    char *block;

    size = (size * 1103515245 + 12345) % 30011;
    block = malloc(size + 1);
    if (block == NULL)
        return 0;
    memset(block, (int)at, size + 1);
    if (blocks[at] != NULL && blocks[at][0] != (char)at)
        return 0;
    free(blocks[at]);
    blocks[at] = block;
    at = (at + 1) % 64;
    return 1;
}

static int look_up(void)
{
    const char *listed = families_of("dual.example.com", AF_UNSPEC, 0);
    const char *other = families_of("other.example.com", AF_UNSPEC, 0);

    return strcmp(listed, keepalive ? "4" : "46") == 0 && strcmp(other, "46") == 0;
}

static int print(void)
{
    static FILE *file;
    static int number;
    char line[64];
    int back;

    if (file == NULL)
        file = tmpfile();
    rewind(file);
    for (int i = 0; i < 100; i++)
        fprintf(file, "line %d of some %s\n", ++number, "text");
    rewind(file);
    for (int i = 99; i >= 0; i--)
        if (fgets(line, sizeof line, file) == NULL || sscanf(line, "line %d of", &back) != 1 || back != number - i)
            return 0;
    return 1;
}

/* libc's locks are real only in a process with threads. */
static void *idle(void *argument)
{
    for (;;)
        pause();
    return argument;
}

int main(int argc, char **argv)
{
    const char *what = argc >= 2 ? argv[1] : "";
    int (*interrupted)(void) = strcmp(what, "connect") == 0       ? connect_once
                               : strcmp(what, "malloc") == 0      ? allocate
                               : strcmp(what, "getaddrinfo") == 0 ? look_up
                               : strcmp(what, "printf") == 0      ? print
                                                                  : NULL;
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };
    int start = elapsed(), bad = 0;
    sigset_t alarm;
    pthread_t id;

    if (interrupted == NULL)
        return 2;
    free_port = loopback(NULL);
    taken_port = loopback(&listener);
    keepalive = refused(&free_port);
    if (keepalive < 0)
        fail("connect");
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    if (pthread_create(&id, NULL, idle, NULL) != 0)
        fail("pthread_create");
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    sigaction(SIGALRM, &action, NULL);
    rearm();
    while (elapsed() - start < 700 || handled < LEAST)
        bad += !interrupted();
    signal(SIGALRM, SIG_IGN);
    if (argc == 3)
        printf("%d signals blocked\n", (int)blocked);
    else
        printf("keepalive %s; wrong: %d in the handler, %d in what it interrupts\n", keepalive ? "on" : "off",
               (int)wrong, bad);
    return 0;
}
