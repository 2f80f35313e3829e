// Prints the median time of getaddrinfo(NODE, "80") for a TCP socket of any family, in nanoseconds.
//
// lookup_cost COUNT NODE
#include "cost.h"
#include <netdb.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int count = atoi(argv[1]);
    double *times = calloc(count + 1, sizeof *times);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };

    // The first lookup opens the resolver's files, and the library's.
    for (int i = -1; i < count; i++) {
        struct addrinfo *list;
        double start = now();
        int status = getaddrinfo(argv[2], "80", &hints, &list);
        times[i < 0 ? 0 : i] = now() - start;
        if (status) {
            fprintf(stderr, "%s: %s\n", argv[2], gai_strerror(status));
            return 1;
        }
        freeaddrinfo(list);
    }
    print_median(times, count);
    return 0;
}
