/*
 * What recv costs: receive_cost udp|tcp ROUNDS. Sends to itself, takes the time that it takes to receive all of it,
 * and prints the median of the rounds, in nanoseconds for one call.
 */
#include "guest.h"
#include "cost.h"

enum { CALLS = 100, SIZE = 64 };

int main(int argc, char **argv)
{
    int udp = argc == 3 && strcmp(argv[1], "udp") == 0, rounds = argc == 3 ? atoi(argv[2]) : 0;
    double *times = calloc((size_t)rounds + 1, sizeof *times);
    char bytes[SIZE] = "\x12\x34\x81\x80 as a reply begins, but none";
    int from, to;

    if (rounds < 1 || times == NULL)
        return 2;
    if (udp) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        socklen_t length = sizeof address;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        from = to = socket(AF_INET, SOCK_DGRAM, 0);
        if (bind(to, (struct sockaddr *)&address, length) != 0 ||
            getsockname(to, (struct sockaddr *)&address, &length) != 0 ||
            connect(to, (struct sockaddr *)&address, length) != 0)
            fail("socket");
    } else {
        int listener;
        struct sockaddr_in address = loopback(&listener);

        from = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(from, (struct sockaddr *)&address, sizeof address) != 0)
            fail("connect");
        to = accept(listener, NULL, NULL);
    }
    for (int round = -1; round < rounds; round++) {
        double start;

        for (int call = 0; call < CALLS; call++)
            if (send(from, bytes, SIZE, 0) != SIZE)
                fail("send");
        start = now();
        for (int call = 0; call < CALLS; call++)
            if (recv(to, bytes, SIZE, MSG_WAITALL) != SIZE)
                fail("recv");
        if (round >= 0)
            times[round] = (now() - start) / CALLS;
    }
    print_median(times, rounds);
    return 0;
}
