/*
 * A library whose constructor has eight threads connect at once. As a preload behind the library it is constructed before
 * the library is. Prints how many descriptors the file EGRESS_SHIM_LOG_FILE has then.
 */
#include "guest.h"
#include <pthread.h>
#include <sys/stat.h>

enum { THREADS = 8 };

static pthread_barrier_t start;
static struct sockaddr_in port;

static void *connecting(void *unused)
{
    pthread_barrier_wait(&start);
    refused(&port);
    return unused;
}

static __attribute__((constructor)) void construct(void)
{
    const char *log = getenv("EGRESS_SHIM_LOG_FILE");
    pthread_t threads[THREADS];
    struct stat wanted, seen;
    int count = 0;

    port = loopback(NULL);
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, connecting, NULL) != 0)
            fail("pthread_create");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (log == NULL || stat(log, &wanted) != 0)
        fail("the log");
    for (int fd = 0; fd < 1024; fd++)
        count += fstat(fd, &seen) == 0 && seen.st_ino == wanted.st_ino && seen.st_dev == wanted.st_dev;
    printf("%d of the log\n", count);
    fflush(stdout);
}
