/*
 * Connects and resolves on many threads: growth ROUNDS. Prints by how much memory and descriptors grew from
 * a third of the rounds to their end, in KiB.
 */
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

enum { THREADS = 8 };

static struct sockaddr_in port;
static int keepalive;
static atomic_int stop, wrong, rounds;

static void *short_lived(void *argument)
{
    if (refused(&port) != keepalive)
        wrong++;
    if (strcmp(families_of("known.example.com", AF_INET, 0), "4") != 0)
        wrong++;
    return argument;
}

static void *worker(void *argument)
{
    while (!stop) {
        pthread_t id;

        if (strcmp(families_of("known.example.com", AF_UNSPEC, 0), keepalive ? "4" : "46") != 0)
            wrong++;
        if (strcmp(families_of("known.example.com", AF_INET6, AI_V4MAPPED | AI_ALL), "6") != 0)
            wrong++;
        if ((strcmp(families_of("known.example.com", AF_INET6, 0), "6") == 0) == keepalive)
            wrong++;
        if (strcmp(families_of("static.example.com", AF_UNSPEC, 0), "46") != 0)
            wrong++;
        if (refused(&port) != keepalive)
            wrong++;
        if (rounds++ % 8 == 0 && pthread_create(&id, NULL, short_lived, NULL) == 0)
            pthread_join(id, NULL);
    }
    return argument;
}

static long kibibytes(const char *key)
{
    FILE *file = fopen("/proc/self/status", "r");
    size_t length = strlen(key);
    char line[256];
    long value = -1;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, length) == 0)
            value = atol(line + length + 1);
    fclose(file);
    return value;
}

static int descriptors(void)
{
    struct stat status;
    int count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fstat(fd, &status) == 0;
    return count;
}

static void work_until(int round)
{
    struct timespec pause = { 0, 1000000 };
    pthread_t threads[THREADS];

    stop = 0;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, worker, NULL) != 0)
            fail("pthread_create");
    while (rounds < round)
        nanosleep(&pause, NULL);
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    int all = argc == 2 ? atoi(argv[1]) : 1;
    long resident, data;
    int open_ones;

    port = loopback(NULL);
    keepalive = refused(&port);
    work_until(all / 3);
    resident = kibibytes("VmRSS");
    data = kibibytes("VmData");
    open_ones = descriptors();
    work_until(all);
    resident = kibibytes("VmRSS") - resident;
    data = kibibytes("VmData") - data;
    printf("wrong %d\ndescriptors %d\nresident %ld\ndata %ld\n", wrong,
           descriptors() - open_ones, resident, data);
    return 0;
}
