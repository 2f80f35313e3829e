/*
 * A thread is cancelled at the very first lookup of its process: first DELAY
 *
 * It is cancelled DELAY microseconds after its start, or with 0 before its lookup starts. Prints how it
 * ended, how many files it left open, and what a later lookup gives.
 */
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

static atomic_int ready, cleaned;
static int delay;

/* The regular files that are open. (glibc's lookup itself leaves a socket behind.) */
static int files(void)
{
    struct stat status;
    int count = 0;

    for (int fd = 3; fd < 1024; fd++)
        count += fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    return count;
}

static void clean(void *argument)
{
    (void)argument;
    cleaned++;
}

static void *thread(void *argument)
{
    pthread_cleanup_push(clean, NULL);
    if (delay == 0)
        pthread_cancel(pthread_self());
    ready = 1;
    families_of("listed.example.com", AF_UNSPEC, 0);
    pthread_cleanup_pop(0);
    return argument;
}

int main(int argc, char **argv)
{
    struct timespec pause = { 0, 0 }, deadline;
    int before = files();
    void *result = NULL;
    pthread_t id;

    delay = argc == 2 ? atoi(argv[1]) : 0;
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
    deadline.tv_sec += 3;
    if (pthread_timedjoin_np(id, &result, &deadline) != 0) {
        printf("NOT ENDED\n");
        return 1;
    }
    printf("%s; %d cleaned; %d files left open; ", result == PTHREAD_CANCELED ? "canceled" : "ended",
           cleaned, files() - before);
    printf("later %s\n", families_of("known.example.com", AF_UNSPEC, 0));
    return 0;
}
