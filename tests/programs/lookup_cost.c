// Prints the median time of getaddrinfo(NODE, "80") for a TCP socket of any family, in nanoseconds.
//
// lookup_cost COUNT NODE
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int count = atoi(argv[1]);
    long *times = calloc(count + 1, sizeof *times);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };

    // The first lookup opens the resolver's files, and the library's.
    for (int i = -1; i < count; i++) {
        struct addrinfo *list;
        long start = now();
        int status = getaddrinfo(argv[2], "80", &hints, &list);
        times[i < 0 ? 0 : i] = now() - start;
        if (status) {
            fprintf(stderr, "%s: %s\n", argv[2], gai_strerror(status));
            return 1;
        }
        freeaddrinfo(list);
    }
    qsort(times, count, sizeof *times, ascending);
    printf("%ld\n", times[count / 2]);
    return 0;
}
