/*
 * What setsockopt costs on a connected socket: setsockopt_cost TCP_NODELAY|TCP_KEEPIDLE ROUNDS. Prints the median of
 * the rounds, in nanoseconds for one call. The idle time is longer than the default setting, which enforce brings back.
 */
#include "guest.h"
#include "cost.h"

enum { CALLS = 100 };

int main(int argc, char **argv)
{
    int idle = argc == 3 && strcmp(argv[1], "TCP_KEEPIDLE") == 0, rounds = argc == 3 ? atoi(argv[2]) : 0;
    int option = idle ? TCP_KEEPIDLE : TCP_NODELAY, value = idle ? 7200 : 1;
    double *times = calloc((size_t)rounds + 1, sizeof *times);
    int listener, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(&listener);

    if (rounds < 1 || times == NULL)
        return 2;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    for (int round = 0; round < rounds; round++) {
        double start = now();

        for (int call = 0; call < CALLS; call++)
            if (setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value) != 0)
                fail("setsockopt");
        times[round] = (now() - start) / CALLS;
    }
    print_median(times, rounds);
    return 0;
}
