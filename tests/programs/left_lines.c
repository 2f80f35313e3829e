/*
 * Connects, so that the library logs, while something comes in between:
 *
 *     left_lines HOW COUNT   a thread leaves COUNT times in the middle of its connects: by jump (a signal handler calls
 *                            siglongjmp), exit (a handler calls pthread_exit) or cancel (asynchronous cancellation)
 *     left_lines first COUNT the same, by jumps out of the first connect of a child each time, which then connects again
 *     left_lines defaults COUNT the same, in a network namespace with another tcp_keepalive_time
 *     left_lines race COUNT  in each of COUNT children eight threads make the first connects at once
 *     left_lines refused COUNT the same, where no socket option can be set
 *
 * Prints how many descriptors more than before are open, and which signals are blocked.
 */
#include "confine.h"
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { THREADS = 8 };

static const char *how;
static struct sockaddr_in port;
static int fd = -1;
static sigjmp_buf out;
static volatile sig_atomic_t may_leave;
static pthread_barrier_t start;
/* The descriptors that children have more than before. */
static int of_children;

static void connects(void) { connect(fd, (struct sockaddr *)&port, sizeof port); }

static void handler(int signal)
{
    (void)signal;
    if (!may_leave)
        return;
    may_leave = 0;
    if (strcmp(how, "exit") == 0)
        pthread_exit(NULL);
    siglongjmp(out, 1);
}

/* A signal for this thread after a number of microseconds. */
static void signal_after(int moment)
{
    struct itimerval soon = { { 0, 0 }, { 0, moment } };

    setitimer(ITIMER_REAL, &soon, NULL);
}

static void *leaving(void *unused)
{
    int old;

    (void)unused;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    may_leave = 1;
    while (fd >= 0)
        connects();
    return NULL;
}

static void leave(void)
{
    struct timespec moment = { 0, rand() % 100000 };
    pthread_t thread;

    if (strcmp(how, "jump") == 0) {
        /* Neither here nor by the handler is the mask restored: what is left blocked stays so. */
        if (sigsetjmp(out, 0) == 0) {
            may_leave = 1;
            signal_after(1 + rand() % 100);
            for (;;)
                connects();
        }
        return;
    }
    if (pthread_create(&thread, NULL, leaving, NULL) != 0)
        fail("pthread_create");
    while (!may_leave)
        ;
    nanosleep(&moment, NULL);
    if (strcmp(how, "exit") == 0)
        pthread_kill(thread, SIGALRM);
    else
        pthread_cancel(thread);
    pthread_join(thread, NULL);
    may_leave = 0;
}

static __attribute__((noinline)) void leave_connect(int moment)
{
    if (sigsetjmp(out, 0) == 0) {
        may_leave = 1;
        signal_after(moment);
        connects();
    }
    may_leave = 0;
}

static void leave_first(void)
{
    /* Drawn here: each child would draw the same number. */
    int moment = 1 + rand() % 200, had = descriptors(), status;
    pid_t child = fork();

    if (child == 0) {
        close(fd);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        leave_connect(moment);
        connects();
        _exit(descriptors() - had);
    }
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
        fail("a child");
    of_children += WEXITSTATUS(status);
}

/* The library asks a new socket for such defaults. */
static void change_defaults(void)
{
    static const char path[] = "/proc/sys/net/ipv4/tcp_keepalive_time";
    int file = -1;

    if (new_network() != 0 || (file = open(path, O_WRONLY | O_CLOEXEC)) < 0 || write(file, "600", 3) != 3)
        fail(path);
    close(file);
}

static void *racing(void *unused)
{
    pthread_barrier_wait(&start);
    refused(&port);
    return unused;
}

static void race(void)
{
    pthread_t threads[THREADS];
    pid_t child = fork();

    if (child == 0) {
        pthread_barrier_init(&start, NULL, THREADS);
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, racing, NULL);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_NODEFER };
    void (*once)(void) = leave;
    int before;
    sigset_t blocked;

    if (argc != 3)
        return 2;
    how = argv[1];
    if (strcmp(how, "defaults") == 0)
        change_defaults();
    port = loopback(NULL);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    srand(1);
    sigaction(SIGALRM, &action, NULL);
    if (strcmp(how, "first") == 0 || strcmp(how, "defaults") == 0)
        once = leave_first;
    if (strcmp(how, "race") == 0 || strcmp(how, "refused") == 0)
        once = race;
    if (strcmp(how, "refused") == 0 && filter(SYS_setsockopt, FILTER_ANY, FILTER_ERRNO(EPERM)) != 0)
        fail("seccomp");
    before = descriptors();
    for (int i = atoi(argv[2]); i > 0; i--)
        once();
    printf("%d descriptors more, blocked:", descriptors() - before + of_children);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int signal = 1; signal < 32; signal++)
        if (sigismember(&blocked, signal))
            printf(" %d", signal);
    printf("\n");
    if (once == leave)
        connects();
    return 0;
}
