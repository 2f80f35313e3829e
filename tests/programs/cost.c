/*
 * What a call costs: cost CALL ROUNDS [NODE]. Prints the median of the rounds, in nanoseconds for one call.
 *
 *     connect                    socket and connect, to a listener of its own on loopback
 *     TCP_NODELAY, TCP_KEEPIDLE  setsockopt on a connected socket. The idle time is longer than the default setting,
 *                                which enforce brings back.
 *     sendto, sendmsg            over UDP on loopback
 *     udp, tcp                   recv of what begins as a DNS reply, but is none
 *     getaddrinfo                of NODE, for a TCP socket of any family
 */
#include "guest.h"
#include <time.h>

enum { CALLS = 100 };

static const char *call, *node;
static struct sockaddr_in address;
static int listener, from, to;
static char bytes[64] = "\x12\x34\x81\x80";

/* In nanoseconds. */
static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int is(const char *name) { return strcmp(call, name) == 0; }

/* A connection on loopback, from one socket to the other, or a UDP socket that is both. */
static void join(void)
{
    if (is("sendto") || is("sendmsg") || is("udp")) {
        socklen_t length = sizeof address;

        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        to = from = socket(AF_INET, SOCK_DGRAM, 0);
        if (bind(to, (struct sockaddr *)&address, length) != 0 ||
            getsockname(to, (struct sockaddr *)&address, &length) != 0 ||
            (is("udp") && connect(to, (struct sockaddr *)&address, length) != 0))
            fail("socket");
        return;
    }
    address = loopback(&listener);
    from = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(from, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    to = accept(listener, NULL, NULL);
}

static double connect_once(void)
{
    /* A reset at the end leaves no TIME_WAIT behind that later connects would have to pass by. */
    struct linger reset = { .l_onoff = 1 };
    double start = now(), taken;
    int client = socket(AF_INET, SOCK_STREAM, 0);
    int status = connect(client, (struct sockaddr *)&address, sizeof address);

    taken = now() - start;
    if (status != 0)
        fail("connect");
    setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(accept(listener, NULL, NULL));
    close(client);
    return taken;
}

static double look_up_once(void)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
    double start = now(), taken;
    int status = getaddrinfo(node, "80", &hints, &list);

    taken = now() - start;
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", node, gai_strerror(status));
        exit(1);
    }
    freeaddrinfo(list);
    return taken;
}

static double set_often(void)
{
    int idle = is("TCP_KEEPIDLE"), option = idle ? TCP_KEEPIDLE : TCP_NODELAY, value = idle ? 7200 : 1;
    double start = now();

    for (int i = 0; i < CALLS; i++)
        if (setsockopt(from, IPPROTO_TCP, option, &value, sizeof value) != 0)
            fail("setsockopt");
    return (now() - start) / CALLS;
}

static double send_often(void)
{
    struct iovec vector = { .iov_base = bytes, .iov_len = sizeof bytes };
    struct msghdr header = { .msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &vector, .msg_iovlen = 1 };
    int message = is("sendmsg");
    double start = now(), taken;

    for (int i = 0; i < CALLS; i++) {
        ssize_t sent = message ? sendmsg(from, &header, 0)
                               : sendto(from, bytes, sizeof bytes, 0, (struct sockaddr *)&address, sizeof address);

        if (sent != sizeof bytes)
            fail("send");
    }
    taken = (now() - start) / CALLS;
    while (recv(to, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    return taken;
}

static double receive_often(void)
{
    double start;

    for (int i = 0; i < CALLS; i++)
        if (send(from, bytes, sizeof bytes, 0) != sizeof bytes)
            fail("send");
    start = now();
    for (int i = 0; i < CALLS; i++)
        if (recv(to, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
            fail("recv");
    return (now() - start) / CALLS;
}

static int ascending(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;

    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        double (*round)(void);
    } calls[] = {
        { "connect", connect_once },   { "getaddrinfo", look_up_once }, { "TCP_NODELAY", set_often },
        { "TCP_KEEPIDLE", set_often }, { "sendto", send_often },        { "sendmsg", send_often },
        { "udp", receive_often },      { "tcp", receive_often },
    };
    int rounds = argc >= 3 ? atoi(argv[2]) : 0;
    double *times = calloc((size_t)rounds + 1, sizeof *times), (*round)(void) = NULL;

    if (rounds < 1 || times == NULL)
        return 2;
    call = argv[1];
    node = argv[3];
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (is(calls[i].name))
            round = calls[i].round;
    if (round == NULL || (round == look_up_once) != (argc == 4))
        return 2;
    if (node == NULL)
        join();
    /* The first round opens the resolver's files, and is not counted. */
    for (int i = 0; i <= rounds; i++)
        times[i] = round();
    qsort(times + 1, (size_t)rounds, sizeof *times, ascending);
    printf("%.0f\n", times[1 + rounds / 2]);
    return 0;
}
