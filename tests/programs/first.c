/*
 * A thread is cancelled at the very first lookup or connect of its process: first lookup|connect DELAY
 *
 * It is cancelled DELAY microseconds after its start, or with 0 before its call starts. Prints how it
 * ended, how many files or sockets it left open, and what a later call gives.
 */
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

static atomic_int ready, cleaned;
static int delay;

static int connects;
static struct sockaddr_in port;
static int own = -1;

/* The regular files that are open, or the sockets. (glibc's lookup itself leaves a socket behind.) */
static int files(void)
{
    struct stat status;
    int count = 0;

    for (int fd = 3; fd < 1024; fd++)
        if (fstat(fd, &status) == 0)
            count += connects ? S_ISSOCK(status.st_mode) : S_ISREG(status.st_mode);
    return count;
}

static void clean(void *argument)
{
    (void)argument;
    close(own);
    cleaned++;
}

static void *thread(void *argument)
{
    pthread_cleanup_push(clean, NULL);
    if (delay == 0)
        pthread_cancel(pthread_self());
    ready = 1;
    if (connects) {
        int idle = 30;

        own = socket(AF_INET, SOCK_STREAM, 0);
        /* So that the library asks a new socket whose timing this is. */
        setsockopt(own, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        connect(own, (struct sockaddr *)&port, sizeof port);
    } else {
        families_of("listed.example.com", AF_UNSPEC, 0);
    }
    pthread_cleanup_pop(0);
    return argument;
}

int main(int argc, char **argv)
{
    struct timespec pause = { 0, 0 }, deadline;
    int before;
    void *result = NULL;
    pthread_t id;

    if (argc != 3)
        return 2;
    connects = strcmp(argv[1], "connect") == 0;
    delay = atoi(argv[2]);
    port = loopback(NULL);
    before = files();
    pause.tv_nsec = delay * 1000L;
    if (pthread_create(&id, NULL, thread, NULL) != 0)
        fail("pthread_create");
    while (!ready)
        ;
    if (delay != 0) {
        nanosleep(&pause, NULL);
        pthread_cancel(id);
    }
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 30;
    if (pthread_timedjoin_np(id, &result, &deadline) != 0) {
        printf("NOT ENDED\n");
        return 1;
    }
    printf("%s; %d cleaned; %d left open; ", result == PTHREAD_CANCELED ? "canceled" : "ended", cleaned,
           files() - before);
    printf("later %s\n", connects ? refused_text(&port) : families_of("known.example.com", AF_UNSPEC, 0));
    return 0;
}
