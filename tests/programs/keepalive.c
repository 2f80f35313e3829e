/* Does the steps that its arguments name, in order, and prints what it sees: one line for each
 * `connect`, `show` and the like. Most steps are about the current socket.
 *
 *   tcp4 tcp6 mapped mptcp4 mptcp6 udp4 udp6 unix netlink raw
 *                             a new current socket, and a peer for it (`mapped`: an IPv6 socket that
 *                             will connect to ::ffff:127.0.0.1; `raw`: a raw socket of protocol TCP)
 *   nonblocking               makes it so
 *   keepalive=N idle=N interval=N count=N user-timeout=MILLISECONDS
 *                             sets the option
 *   connect refused disconnect
 *                             connects it: to the peer, to a port where nobody listens, to AF_UNSPEC
 *   sendto sendmsg sendmmsg   connects it to the peer by that call with MSG_FASTOPEN, which sends a byte
 *   crowd=N                   prints of how many of N connections, open at once and made on every processor in turn,
 *                             keepalive that the program switches off and a longer idle time are not as it sets them
 *   full drain                the peer answers no new connection; it does again
 *   finish                    waits until the connection stands or has failed
 *   accepted listener first   makes another socket current: the peer's end, the peer's listening
 *                             socket, the first socket of all
 *   listen                    makes it a listening one; `accepted` is then what a connection to it gives
 *   exec                      goes on with the next step in this program run anew, by exec
 *   show                      prints its options, as read back; no user timeout is none
 *   port                      prints its port
 *   free                      prints how many descriptors are open, and the lowest free one
 *   exhaust                   takes away every free descriptor
 *   forbid=CALL,ERRNO         a seccomp filter: getsockopt, setsockopt or ipv4 (socket, for AF_INET) fails from now on
 *   elsewhere                 gives the namespace the address 192.0.2.1, which the peers have from then on
 *   namespace back            enters a new network namespace; goes back to the one before
 *   defaults=IDLE,INTERVAL,COUNT
 *                             sets the namespace's tcp_keepalive_* sysctls
 *   probes                    prints how many keepalive probes the namespace has sent
 *   sleep=MILLISECONDS
 *   wait                      prints "ready" and waits for a byte or the end of standard input
 */
#include "confine.h"
#include "guest.h"
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/un.h>

#define MPTCP 262 /* IPPROTO_MPTCP, which older headers lack */

static int first = -1, current = -1, listener = -1, before = -1;
static uint32_t host = INADDR_LOOPBACK;
static struct sockaddr_storage peer;
static socklen_t peer_length;

static socklen_t address_of_host(struct sockaddr_storage *address, int family, int mapped)
{
    memset(address, 0, sizeof *address);
    if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)address;
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(host);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
    in6->sin6_family = AF_INET6;
    in6->sin6_addr.s6_addr[15] = 1;
    if (mapped) {
        static const unsigned char localhost[4] = { 127, 0, 0, 1 };
        in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xff;
        memcpy(in6->sin6_addr.s6_addr + 12, localhost, 4);
    }
    return sizeof *in6;
}

static in_port_t *port_of(struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET ? &((struct sockaddr_in *)address)->sin_port
                                         : &((struct sockaddr_in6 *)address)->sin6_port;
}

/* A bound socket of the kind, and its address. */
static int bound_socket(int family, int type, int protocol, struct sockaddr_storage *address, socklen_t *length)
{
    int made = socket(family, type, protocol);
    if (made < 0)
        fail("socket");
    if (bind(made, (struct sockaddr *)address, *length) != 0)
        fail("bind");
    *length = sizeof *address;
    if (getsockname(made, (struct sockaddr *)address, length) != 0)
        fail("getsockname");
    return made;
}

static void new_socket(int family, int type, int protocol, int mapped)
{
    if (family == AF_INET || family == AF_INET6) {
        peer_length = address_of_host(&peer, family, mapped);
        if (type == SOCK_STREAM) {
            listener = bound_socket(family, type, protocol, &peer, &peer_length);
            if (listen(listener, 8) != 0)
                fail("listen");
        } else {
            *port_of(&peer) = type == SOCK_RAW ? 0 : htons(9);
        }
    } else if (family == AF_UNIX) {
        memset(&peer, 0, sizeof peer);
        peer.ss_family = AF_UNIX;
        peer_length = sizeof peer.ss_family; /* the kernel picks an abstract name */
        listener = bound_socket(family, type, protocol, &peer, &peer_length);
        if (listen(listener, 8) != 0)
            fail("listen");
    } else { /* AF_NETLINK: a sockaddr_nl of zeros is the kernel */
        memset(&peer, 0, sizeof peer);
        peer.ss_family = family;
        peer_length = 12;
    }
    current = socket(family, type, protocol);
    if (current < 0)
        fail("socket");
    if (first < 0)
        first = current;
}

static void connect_to(const char *step, struct sockaddr_storage *address, socklen_t length)
{
    int status = connect(current, (struct sockaddr *)address, length);
    printf("%s: %s\n", step, status == 0 ? "0" : error_name(errno));
}

static void send_to_peer(const char *step)
{
    static char byte = 'x';
    struct iovec vector = { .iov_base = &byte, .iov_len = 1 };
    struct mmsghdr message = {
        .msg_hdr = { .msg_name = &peer, .msg_namelen = peer_length, .msg_iov = &vector, .msg_iovlen = 1 }
    };
    ssize_t sent = strcmp(step, "sendto") == 0
                       ? sendto(current, &byte, 1, MSG_FASTOPEN, (struct sockaddr *)&peer, peer_length)
                   : strcmp(step, "sendmsg") == 0 ? sendmsg(current, &message.msg_hdr, MSG_FASTOPEN)
                                                  : sendmmsg(current, &message, 1, MSG_FASTOPEN);
    printf("%s: %s\n", step, sent == 1 ? "1" : error_name(errno));
}

/* Whether a connection has something else than this program sets on it. */
static int is_changed(int connection)
{
    int off = 0, idle = 7200, on, kept;
    socklen_t size = sizeof on;
    if (setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof off) != 0)
        fail("SO_KEEPALIVE");
    if (setsockopt(connection, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) != 0)
        fail("TCP_KEEPIDLE");
    if (getsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &on, &size) != 0)
        fail("SO_KEEPALIVE");
    if (getsockopt(connection, IPPROTO_TCP, TCP_KEEPIDLE, &kept, &size) != 0)
        fail("TCP_KEEPIDLE");
    return on != off && kept != idle;
}

static void crowd(int count)
{
    struct rlimit limit = { .rlim_cur = 2 * count + 100, .rlim_max = 2 * count + 100 };
    int processors = (int)sysconf(_SC_NPROCESSORS_ONLN), changed = 0;
    int *connections = calloc(count, sizeof *connections);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("setrlimit");
    for (int i = 0; i < count; i++) {
        cpu_set_t processor;
        CPU_ZERO(&processor);
        CPU_SET(i % processors, &processor);
        sched_setaffinity(0, sizeof processor, &processor); /* as far as they may be used */
        connections[i] = socket(peer.ss_family, SOCK_STREAM, 0);
        if (connect(connections[i], (struct sockaddr *)&peer, peer_length) != 0)
            fail("connect");
        if (accept(listener, NULL, NULL) < 0)
            fail("accept");
    }
    for (int i = 0; i < count; i++)
        changed += is_changed(connections[i]);
    printf("crowd: %d\n", changed);
}

/* A connection to the current socket, by the bare system call: it is not what the test is about. */
static void listen_and_dial(void)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int protocol;
    socklen_t size = sizeof protocol;
    listener = current;
    if (getsockopt(current, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0)
        fail("SO_PROTOCOL");
    if (listen(listener, 8) != 0)
        fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        fail("getsockname");
    int client = socket(address.ss_family, SOCK_STREAM, protocol);
    if (client < 0 || syscall(SYS_connect, client, &address, length) != 0)
        fail("dial");
}

static void run_anew(char **steps)
{
    char adopt[32];
    snprintf(adopt, sizeof adopt, "adopt=%d", current);
    fflush(stdout);
    steps[-1] = steps[0]; /* the name */
    steps[0] = adopt;
    execv("/proc/self/exe", steps - 1);
    fail("exec");
}

static void move_elsewhere(void)
{
    struct ifreq alias = { .ifr_name = "lo:1" };
    struct sockaddr_in *address = (struct sockaddr_in *)&alias.ifr_addr;
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    host = 0xc0000201;
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(host);
    if (ioctl(any, SIOCSIFADDR, &alias) != 0)
        fail("address");
    close(any);
}

static void connect_refused(void)
{
    struct sockaddr_storage closed = peer;
    socklen_t length = peer_length;
    int protocol;
    socklen_t size = sizeof protocol;
    if (getsockopt(current, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0)
        fail("SO_PROTOCOL");
    *port_of(&closed) = 0;
    int holder = bound_socket(closed.ss_family, SOCK_STREAM, protocol, &closed, &length);
    connect_to("refused", &closed, length);
    close(holder);
}

/* Fills the peer's queue: from then on the kernel drops whatever asks for a connection. The bare
 * system call, as these connections are not what the test is about. */
static void full(void)
{
    if (listen(listener, 0) != 0)
        fail("listen");
    int filler = socket(peer.ss_family, SOCK_STREAM, 0);
    if (filler < 0 || syscall(SYS_connect, filler, &peer, peer_length) != 0)
        fail("full");
}

static void drain(void)
{
    struct pollfd waiting = { .fd = listener, .events = POLLIN };
    if (listen(listener, 8) != 0)
        fail("listen");
    while (poll(&waiting, 1, 0) == 1)
        close(accept(listener, NULL, NULL));
}

static void finish(void)
{
    struct pollfd waiting = { .fd = current, .events = POLLOUT };
    int error;
    socklen_t size = sizeof error;
    if (poll(&waiting, 1, 10000) != 1)
        fail("poll");
    if (getsockopt(current, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        fail("SO_ERROR");
    printf("finish: %s\n", error == 0 ? "0" : error_name(error));
}

static int option_of(const char *name, int *level)
{
    *level = IPPROTO_TCP;
    if (strcmp(name, "idle") == 0)
        return TCP_KEEPIDLE;
    if (strcmp(name, "interval") == 0)
        return TCP_KEEPINTVL;
    if (strcmp(name, "count") == 0)
        return TCP_KEEPCNT;
    if (strcmp(name, "user-timeout") == 0)
        return TCP_USER_TIMEOUT;
    *level = SOL_SOCKET;
    return SO_KEEPALIVE;
}

static void show(void)
{
    static const char *const names[] = { "keepalive", "idle", "interval", "count", "user-timeout" };
    const char *separator = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int level, option = option_of(names[i], &level), value = -1;
        socklen_t size = sizeof value;
        int is_left_out = option == TCP_USER_TIMEOUT && level == IPPROTO_TCP;

        if (getsockopt(current, level, option, &value, &size) == 0 && (value != 0 || !is_left_out)) {
            printf("%s%s=%d", separator, names[i], value);
            separator = " ";
        }
    }
    printf("\n");
}

static void show_port(void)
{
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    if (getsockname(current, (struct sockaddr *)&own, &length) != 0)
        fail("getsockname");
    printf("port: %d\n", ntohs(*port_of(&own)));
}

/* What dup gives is the lowest free descriptor (POSIX). */
static void show_free(void)
{
    int open = 0;
    for (int i = 0; i < 1024; i++)
        open += fcntl(i, F_GETFD) >= 0;
    int lowest = dup(0);
    close(lowest);
    printf("open: %d, free: %d\n", open, lowest);
}

static void exhaust(void)
{
    int lowest = dup(0);
    struct rlimit limit = { .rlim_cur = lowest, .rlim_max = lowest };
    close(lowest);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("setrlimit");
    if (dup(0) >= 0)
        fail("a descriptor was free");
}

static void forbid(const char *what)
{
    const char *comma = strchr(what, ',');
    long call = SYS_socket;
    int argument = AF_INET;
    if (comma == NULL)
        fail(what);
    if (strncmp(what, "ipv4", 4) != 0) {
        call = strncmp(what, "getsockopt", 10) == 0 ? SYS_getsockopt : SYS_setsockopt;
        argument = FILTER_ANY;
    }
    if (filter(call, argument, FILTER_ERRNO(atoi(comma + 1))) != 0)
        fail("seccomp");
}

static void new_namespace(void)
{
    before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (before < 0 || new_network() != 0)
        fail("namespace");
}

static void set_defaults(const char *values)
{
    static const char *const names[] = { "time", "intvl", "probes" };
    int numbers[3];
    if (sscanf(values, "%d,%d,%d", &numbers[0], &numbers[1], &numbers[2]) != 3)
        fail(values);
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/sys/net/ipv4/tcp_keepalive_%s", names[i]);
        FILE *file = fopen(path, "w");
        if (file == NULL || fprintf(file, "%d", numbers[i]) < 0 || fclose(file) != 0)
            fail(path);
    }
}

/* /proc/net/netstat has pairs of lines: names, then values. */
static void show_probes(void)
{
    char names[8192], values[8192];
    FILE *file = fopen("/proc/net/netstat", "r");
    if (file == NULL)
        fail("/proc/net/netstat");
    while (fgets(names, sizeof names, file) && fgets(values, sizeof values, file)) {
        char *name_rest, *value_rest;
        char *name = strtok_r(names, " \n", &name_rest), *value = strtok_r(values, " \n", &value_rest);
        for (; name && value; name = strtok_r(NULL, " \n", &name_rest), value = strtok_r(NULL, " \n", &value_rest))
            if (strcmp(name, "TCPKeepAlive") == 0)
                printf("probes: %s\n", value);
    }
    fclose(file);
}

static void do_step(const char *step)
{
    char name[32];
    const char *value = strchr(step, '=');
    size_t length = value ? (size_t)(value - step) : strlen(step);
    snprintf(name, sizeof name, "%.*s", (int)length, step);
    value = value ? value + 1 : "";
#define IS(known) (strcmp(name, known) == 0)
    if (IS("tcp4"))
        new_socket(AF_INET, SOCK_STREAM, 0, 0);
    else if (IS("tcp6"))
        new_socket(AF_INET6, SOCK_STREAM, 0, 0);
    else if (IS("mapped"))
        new_socket(AF_INET6, SOCK_STREAM, 0, 1);
    else if (IS("mptcp4"))
        new_socket(AF_INET, SOCK_STREAM, MPTCP, 0);
    else if (IS("mptcp6"))
        new_socket(AF_INET6, SOCK_STREAM, MPTCP, 0);
    else if (IS("udp4"))
        new_socket(AF_INET, SOCK_DGRAM, 0, 0);
    else if (IS("udp6"))
        new_socket(AF_INET6, SOCK_DGRAM, 0, 0);
    else if (IS("unix"))
        new_socket(AF_UNIX, SOCK_STREAM, 0, 0);
    else if (IS("netlink"))
        new_socket(AF_NETLINK, SOCK_RAW, 0, 0);
    else if (IS("raw"))
        new_socket(AF_INET, SOCK_RAW, IPPROTO_TCP, 0);
    else if (IS("nonblocking"))
        fcntl(current, F_SETFL, O_NONBLOCK);
    else if (IS("keepalive") || IS("idle") || IS("interval") || IS("count") || IS("user-timeout")) {
        int level, option = option_of(name, &level), number = atoi(value);
        if (setsockopt(current, level, option, &number, sizeof number) != 0)
            fail(step);
    } else if (IS("connect"))
        connect_to(step, &peer, peer_length);
    else if (IS("refused"))
        connect_refused();
    else if (IS("sendto") || IS("sendmsg") || IS("sendmmsg"))
        send_to_peer(step);
    else if (IS("crowd"))
        crowd(atoi(value));
    else if (IS("listen"))
        listen_and_dial();
    else if (IS("adopt"))
        first = current = atoi(value);
    else if (IS("elsewhere"))
        move_elsewhere();
    else if (IS("disconnect")) {
        struct sockaddr_storage nobody = { .ss_family = AF_UNSPEC };
        connect_to(step, &nobody, sizeof(struct sockaddr_in));
    } else if (IS("full"))
        full();
    else if (IS("drain"))
        drain();
    else if (IS("finish"))
        finish();
    else if (IS("accepted")) {
        if ((current = accept(listener, NULL, NULL)) < 0)
            fail("accept");
    } else if (IS("listener"))
        current = listener;
    else if (IS("first"))
        current = first;
    else if (IS("show"))
        show();
    else if (IS("port"))
        show_port();
    else if (IS("free"))
        show_free();
    else if (IS("exhaust"))
        exhaust();
    else if (IS("forbid"))
        forbid(value);
    else if (IS("namespace"))
        new_namespace();
    else if (IS("back")) {
        int left = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (left < 0 || setns(before, CLONE_NEWNET) != 0)
            fail("setns");
        before = left;
    } else if (IS("defaults"))
        set_defaults(value);
    else if (IS("probes"))
        show_probes();
    else if (IS("sleep"))
        usleep(atoi(value) * 1000);
    else if (IS("wait")) {
        char byte;
        printf("ready\n");
        fflush(stdout);
        if (read(0, &byte, 1) < 0)
            fail("read");
    } else {
        fprintf(stderr, "no such step: %s\n", step);
        exit(2);
    }
}

int main(int count, char **steps)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(steps[i], "exec") == 0)
            run_anew(steps + i);
        do_step(steps[i]);
    }
    return 0;
}
