// Prints the median time of socket + connect to a listener of our own on loopback, in nanoseconds.
//
// connect_cost COUNT
#include "cost.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static void must(int success, const char *what)
{
    if (!success) {
        perror(what);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1000;
    double *times = calloc(count, sizeof *times);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    must(listener >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0, "bind");
    must(listen(listener, 16) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    // A reset at the end leaves no TIME_WAIT behind that later connects would have to pass by.
    struct linger reset = { .l_onoff = 1 };

    for (int i = 0; i < count; i++) {
        double start = now();
        int client = socket(AF_INET, SOCK_STREAM, 0);
        int status = connect(client, (struct sockaddr *)&address, sizeof address);
        times[i] = now() - start;
        must(status == 0, "connect");
        setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        int accepted = accept(listener, NULL, NULL);
        close(client);
        close(accepted);
    }
    print_median(times, count);
    return 0;
}
