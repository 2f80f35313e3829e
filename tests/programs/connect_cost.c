// Prints the median time of socket + connect to a listener of our own on loopback, in nanoseconds.
//
// connect_cost COUNT
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void must(int success, const char *what)
{
    if (!success) {
        perror(what);
        exit(1);
    }
}

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
    int count = argc > 1 ? atoi(argv[1]) : 1000;
    long *times = calloc(count, sizeof *times);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    must(listener >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0, "bind");
    must(listen(listener, 16) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    // A reset at the end leaves no TIME_WAIT behind that later connects would have to pass by.
    struct linger reset = { .l_onoff = 1 };

    for (int i = 0; i < count; i++) {
        long start = now();
        int client = socket(AF_INET, SOCK_STREAM, 0);
        int status = connect(client, (struct sockaddr *)&address, sizeof address);
        times[i] = now() - start;
        must(status == 0, "connect");
        setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        int accepted = accept(listener, NULL, NULL);
        close(client);
        close(accepted);
    }
    qsort(times, count, sizeof *times, ascending);
    printf("%ld\n", times[count / 2]);
    return 0;
}
