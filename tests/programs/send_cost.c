/*
 * What a send costs on loopback over UDP: send_cost sendto|sendmsg ROUNDS. Prints the median of the rounds, in
 * nanoseconds for one call.
 */
#include "guest.h"
#include "cost.h"

enum { CALLS = 100 };

int main(int argc, char **argv)
{
    int message = argc == 3 && strcmp(argv[1], "sendmsg") == 0, rounds = argc == 3 ? atoi(argv[2]) : 0;
    double *times = calloc((size_t)rounds + 1, sizeof *times);
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t length = sizeof address;
    char bytes[64] = "";
    struct iovec vector = { .iov_base = bytes, .iov_len = sizeof bytes };
    struct msghdr header = { .msg_name = &address, .msg_namelen = length, .msg_iov = &vector, .msg_iovlen = 1 };

    if (rounds < 1 || times == NULL)
        return 2;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(receiver, (struct sockaddr *)&address, length) != 0 ||
        getsockname(receiver, (struct sockaddr *)&address, &length) != 0)
        fail("bind");
    for (int round = 0; round < rounds; round++) {
        double start = now();

        for (int call = 0; call < CALLS; call++) {
            ssize_t sent = message ? sendmsg(fd, &header, 0)
                                   : sendto(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&address, length);

            if (sent != sizeof bytes)
                fail("send");
        }
        times[round] = (now() - start) / CALLS;
        while (recv(receiver, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            ;
    }
    print_median(times, rounds);
    return 0;
}
