/*
 * A load of the list that nobody ends: "jump MICROSECONDS" jumps out of the first lookup after so long, as
 * wget does when one takes too long, and looks up again (0: it does not jump). "namespace MICROSECONDS" forks
 * a child into another PID namespace while a thread makes the first lookup: the child has its parent's id.
 * "jumps MICROSECONDS" jumps out of a hundred lookups, later and later up to so long after they began, and prints what
 * that has left behind.
 */
#include "guest.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

static sigjmp_buf before;

static void jump(int signal)
{
    (void)signal;
    siglongjmp(before, 1);
}

static void late(int signal)
{
    (void)signal;
    _exit(3);
}

/* The families of the listed name, as 4, 6 or 46. */
static void print_families(const char *when)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL, *node;
    int has4 = 0, has6 = 0;

    if (getaddrinfo("dual.example.com", "80", &hints, &list) == 0) {
        for (node = list; node != NULL; node = node->ai_next) {
            has4 |= node->ai_family == AF_INET;
            has6 |= node->ai_family == AF_INET6;
        }
        freeaddrinfo(list);
    }
    printf("%s %s%s\n", when, has4 ? "4" : "", has6 ? "6" : "");
    fflush(stdout);
}

/* Where on the stack a lookup is says nothing of whether it is in a handler. */
static void print_families_below(const char *when)
{
    volatile char room[4096];

    room[0] = room[sizeof room - 1] = 0;
    print_families(when);
    room[0] = 1;
}

static void *look_up(void *unused)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;

    getaddrinfo("dual.example.com", "80", &hints, &list);
    return unused;
}

/* Waits for a child, and passes its failure on. */
static void end_with(pid_t child)
{
    int status = 0;

    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("fork");
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
}

/* One look-up that a handler jumps out of after so many microseconds, or that ends before. */
static void leave(int delay)
{
    struct itimerval timer = { .it_value = { .tv_usec = delay } };

    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;

    if (sigsetjmp(before, 1) == 0) {
        setitimer(ITIMER_REAL, &timer, NULL);
        getaddrinfo("dual.example.com", "80", &hints, &list);
    }
    timer.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void leave_often(int delay)
{
    long memory = 0;
    int open = descriptors(), state = -1;

    signal(SIGALRM, jump);
    for (int i = 0; i < 100; i++) {
        leave(1 + delay * i / 100);
        if (i == 9)
            memory = kibibytes("VmRSS");
    }
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    printf("%d descriptors, cancellation %d, memory %s\n", descriptors() - open, state,
           kibibytes("VmRSS") - memory < 20000 ? "stays" : "grows");
    print_families_below("later");
}

int main(int count, char **arguments)
{
    int delay = count == 3 ? atoi(arguments[2]) : 0;
    pthread_t thread;
    pid_t child;

    if (strcmp(arguments[1], "jump") == 0) {
        struct itimerval timer = { .it_value = { .tv_usec = delay } };

        signal(SIGALRM, jump);
        if (sigsetjmp(before, 1) == 0) {
            setitimer(ITIMER_REAL, &timer, NULL);
            look_up(NULL);
            timer.it_value.tv_usec = 0;
            setitimer(ITIMER_REAL, &timer, NULL);
        } else {
            puts("jumped");
        }
        print_families_below("later");
        return 0;
    }
    if (strcmp(arguments[1], "jumps") == 0) {
        leave_often(delay);
        return 0;
    }
    if (unshare(CLONE_NEWPID) != 0)
        fail("unshare");
    child = fork();
    if (child != 0)
        end_with(child);
    if (pthread_create(&thread, NULL, look_up, NULL) != 0)
        fail("pthread_create");
    usleep(delay);
    if (unshare(CLONE_NEWPID) != 0)
        fail("unshare");
    child = fork();
    if (child != 0)
        end_with(child);
    /* The first process of a namespace has no default action. */
    signal(SIGALRM, late);
    alarm(5);
    printf("id %d\n", (int)getpid());
    print_families("child");
    return 0;
}
