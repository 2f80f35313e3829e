/*
 * Forks children while other threads connect and resolve: forks COUNT. Each child connects, looks up two
 * names, and ends. Prints what was found wrong.
 */
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

enum { CHILD_DEADLINE = 30 /* seconds */ };

static struct sockaddr_in port;
static int keepalive;
static volatile int wrong;

static int all_is_right(void)
{
    return refused(&port) == keepalive &&
           strcmp(families_of("dual.example.com", AF_UNSPEC, 0), keepalive ? "4" : "46") == 0 &&
           strcmp(families_of("other.example.com", AF_UNSPEC, 0), "46") == 0;
}

static void *busy(void *argument)
{
    for (;;) {
        for (int i = 0; i < 5; i++)
            if (refused(&port) != keepalive)
                wrong++;
        if (!all_is_right())
            wrong++;
    }
    return argument;
}

/* Waits for a child; its exit status, or -1 when it hangs (and is ended). */
static int ended(pid_t child)
{
    struct timespec start, now, pause = { 0, 200000 };
    int status;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        if (waitpid(child, &status, WNOHANG) == child)
            return status;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - start.tv_sec > CHILD_DEADLINE)
            break;
        nanosleep(&pause, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -1;
}

int main(int argc, char **argv)
{
    int count = argc == 2 ? atoi(argv[1]) : 0, failed = 0;
    pthread_t thread;

    port = loopback(NULL);
    keepalive = refused(&port);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, busy, NULL) != 0)
            fail("pthread_create");
    for (int i = 1; i <= count; i++) {
        pid_t parent = getpid(), child = fork();
        int status;

        if (child < 0)
            fail("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(getppid() == parent && all_is_right() ? 0 : 1);
        }
        status = ended(child);
        if (status == -1) {
            printf("child %d of %d HANGS\n", i, count);
            fflush(stdout);
            _exit(1);
        }
        failed += status != 0;
    }
    printf("%d children failed; %d calls of the parent failed\n", failed, wrong);
    fflush(stdout);
    _exit(0);
}
