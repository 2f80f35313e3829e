/* Calls connect and getaddrinfo in every way that gives an answer of its own, in a network namespace
 * of its own, and prints what came back: one line for each case, which is
 *
 *   WHAT IS TRIED <tab> WANTED <tab> SEEN
 *
 * A call's answer is the name of its errno, or 0. errno must outlive a call that succeeds: where it
 * does not, its name follows the 0.
 *
 *   transparency apart     the cases of connect, each in a process of its own: each is its first
 *   transparency together  all in one process
 *   transparency apart|together sendto|sendmsg|sendmmsg
 *                          the same by that call with MSG_FASTOPEN (WANTED is connect's)
 *   transparency lookups   the cases of getaddrinfo (WANTED is empty: libcs differ)
 *   transparency fixed     waits for a byte on standard input, then makes calls whose arguments are
 *                          the same in every run, for strace
 */
#include "confine.h"
#include "guest.h"
#include <fcntl.h>
#include <net/route.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#define UNTOUCHED 12345 /* an errno that no call gives */
#define MPTCP 262       /* IPPROTO_MPTCP, which older headers lack */

/* --- What came back ----------------------------------------------------------------------------- */

static char seen[512];

static void note(const char *answer)
{
    size_t length = strlen(seen);
    snprintf(seen + length, sizeof seen - length, "%s%s", length ? " " : "", answer);
}

enum { CONNECT, SENDTO, SENDMSG, SENDMMSG };
static const char *const names[] = { "connect", "sendto", "sendmsg", "sendmmsg" };
static int by = CONNECT;

/* The call that all this is about. One that sends, sends a byte. */
static int make(int descriptor, const void *address, socklen_t length)
{
    static char byte = 'x';
    int flags = MSG_FASTOPEN | MSG_NOSIGNAL;
    struct iovec vector = { .iov_base = &byte, .iov_len = 1 };
    struct mmsghdr message = {
        .msg_hdr = { .msg_name = (void *)address, .msg_namelen = length, .msg_iov = &vector, .msg_iovlen = 1 }
    };
    errno = UNTOUCHED;
    switch (by) {
    case SENDTO: return (int)sendto(descriptor, &byte, 1, flags, address, length);
    case SENDMSG: return (int)sendmsg(descriptor, &message.msg_hdr, flags);
    case SENDMMSG: return sendmmsg(descriptor, &message, 1, flags);
    }
    return connect(descriptor, address, length);
}

static int call(int descriptor, const void *address, socklen_t length)
{
    int status = make(descriptor, address, length), error = errno;
    if (status == -1) {
        note(error_name(error));
    } else if (status == (by != CONNECT) && error == UNTOUCHED) {
        note("0");
    } else {
        char answer[64];
        snprintf(answer, sizeof answer, "%d (%s)", status, error_name(error));
        note(answer);
    }
    return status;
}

/* --- Sockets and addresses ---------------------------------------------------------------------- */

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

static union address in(const char *host, int port)
{
    union address made = { .in = { .sin_family = AF_INET, .sin_port = htons(port) } };
    if (inet_pton(AF_INET, host, &made.in.sin_addr) != 1)
        fail(host);
    return made;
}

static union address in6(const char *host, int port)
{
    union address made = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) } };
    if (inet_pton(AF_INET6, host, &made.in6.sin6_addr) != 1)
        fail(host);
    return made;
}

static union address un(const char *path)
{
    union address made = { .un = { .sun_family = AF_UNIX } };
    strcpy(made.un.sun_path, path);
    return made;
}

static socklen_t length_of(const union address *address)
{
    switch (address->any.sa_family) {
    case AF_INET: return sizeof address->in;
    case AF_INET6: return sizeof address->in6;
    }
    /* A name that the kernel picked is a zero byte and five more (unix(7), Autobind feature). */
    return address->un.sun_path[0] ? sizeof address->un : sizeof(sa_family_t) + 6;
}

static int to(int descriptor, union address address) { return call(descriptor, &address, length_of(&address)); }

static int sock(int family, int type, int protocol)
{
    int made = socket(family, type, protocol);
    if (made < 0)
        fail("socket");
    return made;
}
static int tcp(void) { return sock(AF_INET, SOCK_STREAM, 0); }
static int tcp6(void) { return sock(AF_INET6, SOCK_STREAM, 0); }
static int udp(void) { return sock(AF_INET, SOCK_DGRAM, 0); }
static int unix_stream(void) { return sock(AF_UNIX, SOCK_STREAM, 0); }

static int nonblocking(int descriptor)
{
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    return descriptor;
}

static void bind_to(int descriptor, union address *address)
{
    socklen_t length = address->any.sa_family == AF_UNIX ? sizeof(sa_family_t) : length_of(address);
    if (bind(descriptor, &address->any, length) != 0)
        fail("bind");
    length = sizeof *address;
    if (getsockname(descriptor, &address->any, &length) != 0)
        fail("getsockname");
}

/* A socket that listens at the address, which gets the port that the kernel picked. */
static int listening(union address *address)
{
    int made = sock(address->any.sa_family, SOCK_STREAM, 0);
    bind_to(made, address);
    if (listen(made, 8) != 0)
        fail("listen");
    return made;
}

/* One whose queue is full: the kernel drops whatever asks for a connection, until `answer`. The bare
 * system call, as this connection is not what the case is about. */
static int silent(union address *address)
{
    int made = listening(address);
    int filler = sock(address->any.sa_family, SOCK_STREAM, 0);
    if (listen(made, 0) != 0)
        fail("listen");
    if (syscall(SYS_connect, filler, address, length_of(address)) != 0)
        fail("the queue's filler");
    return made;
}

static void answer(int listener)
{
    struct pollfd waiting = { .fd = listener, .events = POLLIN };
    listen(listener, 8);
    while (poll(&waiting, 1, 0) == 1)
        close(accept(listener, NULL, NULL));
}

static void wait_for_end(int descriptor)
{
    struct pollfd waiting = { .fd = descriptor, .events = POLLOUT };
    if (poll(&waiting, 1, 10000) != 1)
        fail("poll");
}

static void set(int descriptor, int level, int option, int value)
{
    if (setsockopt(descriptor, level, option, &value, sizeof value) != 0)
        fail("setsockopt");
}

/* An address whose last byte is the last one that can be read. */
static void *at_the_edge(const union address *address)
{
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0)
        fail("mmap");
    return memcpy(pages + page - length_of(address), address, length_of(address));
}

/* --- Signals ------------------------------------------------------------------------------------ */

static pthread_t caller, signaller;
static volatile sig_atomic_t signals, stopped;
static volatile int to_answer = -1;

static void on_signal(int number)
{
    (void)number;
    int error = errno;
    signals++;
    if (to_answer >= 0)
        answer(to_answer);
    errno = error;
}

/* Whether the first thread sleeps, that is, is blocked in a system call (proc(5), /proc/pid/stat). */
static int caller_sleeps(void)
{
    char line[512] = "";
    int file = open("/proc/self/stat", O_RDONLY);
    if (file < 0 || read(file, line, sizeof line - 1) <= 0)
        fail("/proc/self/stat");
    close(file);
    const char *state = strrchr(line, ')');
    return state != NULL && state[2] == 'S';
}

static void *send_signal(void *nothing)
{
    while (!stopped && !caller_sleeps())
        usleep(1000);
    if (!stopped)
        pthread_kill(caller, SIGUSR1);
    return nothing;
}

/* One signal, as soon as the coming call is blocked. */
static void start_signal(int flags)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    signals = stopped = 0;
    caller = pthread_self();
    if (pthread_create(&signaller, NULL, send_signal, NULL) != 0)
        fail("pthread_create");
}

static void end_signal(void)
{
    stopped = 1;
    pthread_join(signaller, NULL);
    note(signals == 1 ? "(signalled)" : "(not signalled)");
}

/* --- The cases ---------------------------------------------------------------------------------- */

#define HERE in("127.0.0.1", 0)
#define HERE6 in6("::1", 0)
#define CLOSED in("127.0.0.1", 9)

static void negative_descriptor(void) { to(-1, CLOSED); }
static void largest_descriptor(void) { to(0x7fffffff, CLOSED); }
static void closed_descriptor(void)
{
    int descriptor = tcp();
    close(descriptor);
    to(descriptor, CLOSED);
}
static void path_descriptor(void) { to(open("/", O_PATH), CLOSED); }
static void bad_descriptor_and_pointer(void) { call(-1, NULL, 16); }
static void a_file(void) { to(open("/dev/null", O_RDWR), CLOSED); }
static void a_pipe(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        fail("pipe");
    to(ends[0], CLOSED);
}
static void a_file_and_bad_pointer(void) { call(open("/dev/null", O_RDWR), NULL, 16); }

static void null_pointer(void) { call(tcp(), NULL, 16); }
static void low_pointer(void) { call(tcp(), (void *)16, 16); }
static void kernel_pointer(void) { call(tcp(), (void *)-4096L, 16); }
static void unreadable_page(void)
{
    union address address = HERE;
    call(tcp(), (char *)at_the_edge(&address) + sizeof address.in, 16);
}
static void past_the_edge(void)
{
    union address address = HERE;
    int listener = listening(&address);
    call(tcp(), at_the_edge(&address), 17);
    close(listener);
}
static void up_to_the_edge(void)
{
    union address address = HERE;
    int listener = listening(&address);
    call(tcp(), at_the_edge(&address), 16);
    close(listener);
}
static void null_pointer_tcp6(void) { call(tcp6(), NULL, 28); }
static void null_pointer_udp(void) { call(udp(), NULL, 16); }
static void null_pointer_unix(void) { call(unix_stream(), NULL, 110); }
static void null_pointer_nonblocking(void) { call(nonblocking(tcp()), NULL, 16); }
static void bad_pointer_then_good(void)
{
    union address address = HERE;
    int listener = listening(&address), descriptor = tcp();
    call(descriptor, NULL, 16);
    to(descriptor, address);
    close(listener);
}

static void lengths(int descriptor, const void *address)
{
    static const socklen_t wrong[] = { 0, 1, 15, 129, 0x7fffffff, (socklen_t)-1, (socklen_t)-16 };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        call(descriptor, address, wrong[i]);
}
static void bad_lengths(void)
{
    union address address = CLOSED;
    lengths(tcp(), &address);
}
static void bad_lengths_tcp6(void)
{
    union address address = in6("::1", 9);
    lengths(tcp6(), &address);
}
static void bad_lengths_udp(void)
{
    union address address = CLOSED;
    lengths(udp(), &address);
}
static void bad_lengths_null(void)
{
    call(tcp(), NULL, 0);
    call(tcp(), NULL, 129);
    call(tcp(), NULL, -1);
}
static void long_length(void)
{
    union address address = HERE;
    int listener = listening(&address);
    call(tcp(), &address, sizeof address.storage);
    close(listener);
}
static void link_local_without_scope(void) { to(tcp6(), in6("fe80::1", 9)); }

static void ipv6_address_for_ipv4(void) { to(tcp(), in6("::1", 9)); }
static void unix_address_for_tcp(void) { to(tcp(), un("/")); }
static void unix_address_for_tcp6(void) { to(tcp6(), un("/")); }
static void unix_address_for_udp(void) { to(udp(), un("/")); }

static void refused4(void) { to(tcp(), CLOSED); }
static void refused6(void) { to(tcp6(), in6("::1", 9)); }
static void refused_mapped(void) { to(tcp6(), in6("::ffff:127.0.0.1", 9)); }
static void refused_twice_then_not(void)
{
    union address address = HERE;
    int descriptor = tcp(), server = tcp();
    bind_to(server, &address);
    to(descriptor, address);
    to(descriptor, address);
    if (listen(server, 8) != 0)
        fail("listen");
    to(descriptor, address);
    close(server);
}
static void unreachable_network(void) { to(tcp(), in("192.0.2.1", 9)); }
static void unreachable_network6(void) { to(tcp6(), in6("2001:db8::1", 9)); }
static void unreachable_network_udp(void) { to(udp(), in("192.0.2.1", 9)); }
static void mapped_for_ipv6_alone(void)
{
    int descriptor = tcp6();
    set(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    to(descriptor, in6("::ffff:127.0.0.1", 9));
}
static void unreachable_host(void)
{
    to(tcp(), in("198.51.100.1", 9));
    to(nonblocking(tcp()), in("198.51.100.1", 9));
    to(udp(), in("198.51.100.1", 9));
}
static void no_answer(void)
{
    union address address = HERE;
    int listener = silent(&address), descriptor = tcp();
    set(descriptor, IPPROTO_TCP, TCP_SYNCNT, 1);
    set(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, 900);
    to(descriptor, address);
    close(listener);
}
static void send_timeout(void)
{
    union address address = HERE;
    struct timeval tenth = { .tv_usec = 100000 };
    int listener = silent(&address), descriptor = tcp();
    if (setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &tenth, sizeof tenth) != 0)
        fail("SO_SNDTIMEO");
    to(descriptor, address);
    to(descriptor, address);
    close(listener);
}
static void in_progress(void)
{
    union address address = HERE;
    int listener = silent(&address), descriptor = nonblocking(tcp());
    to(descriptor, address);
    to(descriptor, address);
    answer(listener);
    wait_for_end(descriptor);
    to(descriptor, address);
    to(descriptor, address);
    close(listener);
}
static void connected(void)
{
    union address address = HERE;
    int listener = listening(&address), descriptor = tcp();
    to(descriptor, address);
    to(descriptor, address);
    to(accept(listener, NULL, NULL), address);
    to(listener, address);
    close(listener);
}
static void disconnected(void)
{
    union address address = HERE, nobody = { .any = { .sa_family = AF_UNSPEC } };
    int listener = listening(&address), descriptor = tcp();
    to(descriptor, address);
    call(descriptor, &nobody, sizeof nobody.in);
    to(descriptor, address);
    call(tcp(), &nobody, sizeof nobody.in);
    close(listener);
}
static void disconnected_udp(void)
{
    union address nobody = { .any = { .sa_family = AF_UNSPEC } };
    int descriptor = udp();
    to(descriptor, CLOSED);
    call(descriptor, &nobody, sizeof nobody.in);
    to(descriptor, CLOSED);
}

static void interrupted(void)
{
    union address address = HERE;
    int listener = silent(&address), descriptor = tcp();
    start_signal(0);
    to(descriptor, address);
    end_signal();
    start_signal(0);
    to(descriptor, address);
    end_signal();
    answer(listener);
    to(descriptor, address);
    to(descriptor, address);
    close(listener);
}
static void restarted(void)
{
    union address address = HERE;
    int listener = silent(&address), descriptor = tcp();
    to_answer = listener;
    start_signal(SA_RESTART);
    to(descriptor, address);
    to_answer = -1;
    end_signal();
    close(listener);
}
static void not_restarted_with_a_timeout(void)
{
    union address address = HERE;
    struct timeval long_time = { .tv_sec = 5 };
    int listener = silent(&address), descriptor = tcp();
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &long_time, sizeof long_time);
    start_signal(SA_RESTART);
    to(descriptor, address);
    end_signal();
    close(listener);
}

static void broadcast_udp(void) { to(udp(), in("127.255.255.255", 9)); }
static void broadcast_tcp(void) { to(tcp(), in("127.255.255.255", 9)); }

static void port_range(const char *range)
{
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
    if (file == NULL || fputs(range, file) < 0 || fclose(file) != 0)
        fail("ip_local_port_range");
}
static void no_port_left(void)
{
    union address address = HERE;
    int listener = listening(&address);
    port_range("40000 40000");
    to(tcp(), address);
    to(tcp(), address);
    port_range("32768 60999");
    close(listener);
}
static void same_four(void)
{
    union address address = HERE, own = HERE;
    int listener = listening(&address), one = tcp(), two = tcp();
    set(one, SOL_SOCKET, SO_REUSEADDR, 1);
    set(two, SOL_SOCKET, SO_REUSEADDR, 1);
    bind_to(one, &own);
    bind_to(two, &own);
    to(one, address);
    to(two, address);
    close(listener);
}

static void unix_missing(void) { to(unix_stream(), un("/missing/socket")); }
static void unix_below_a_file(void) { to(unix_stream(), un("/dev/null/socket")); }
static void unix_not_a_socket(void) { to(unix_stream(), un("/dev/null")); }
static void unix_no_path(void)
{
    union address address = un("");
    call(unix_stream(), &address, sizeof(sa_family_t));
}
static void unix_wrong_type(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/egress-shim-transparency.%d", (int)getpid());
    union address address = un(path);
    int server = unix_stream();
    if (bind(server, &address.any, sizeof address.un) != 0)
        fail(path);
    to(sock(AF_UNIX, SOCK_DGRAM, 0), address);
    unlink(path);
    close(server);
}
static void unix_nobody_listens(void)
{
    union address address = un("");
    int server = unix_stream();
    bind_to(server, &address);
    to(unix_stream(), address);
    close(server);
}
static void unix_queue_full(void)
{
    union address address = un("");
    int listener = listening(&address);
    if (listen(listener, 0) != 0)
        fail("listen");
    to(nonblocking(unix_stream()), address);
    to(nonblocking(unix_stream()), address);
    close(listener);
}
static void unix_connected(void)
{
    union address address = un("");
    int listener = listening(&address), descriptor = unix_stream();
    to(descriptor, address);
    to(descriptor, address);
    close(listener);
}
static void packet_socket(void) { to(sock(AF_PACKET, SOCK_RAW, 0), CLOSED); }
static void netlink_socket(void)
{
    union address kernel = { .any = { .sa_family = AF_NETLINK } };
    call(sock(AF_NETLINK, SOCK_RAW, 0), &kernel, 12);
}

static void success(void)
{
    union address address = HERE;
    int listener = listening(&address);
    to(tcp(), address);
    to(nonblocking(tcp()), address);
    to(udp(), address);
    close(listener);
}
static void success6(void)
{
    union address address = HERE6;
    int listener = listening(&address);
    to(tcp6(), address);
    close(listener);
}
static void success_mapped(void)
{
    union address address = HERE, mapped = in6("::ffff:127.0.0.1", 0);
    int listener = listening(&address);
    mapped.in6.sin6_port = address.in.sin_port;
    to(tcp6(), mapped);
    close(listener);
}
/* A kernel without MPTCP gives TCP twice, which is no fault of this test's. */
static void mptcp(void)
{
    union address address = HERE;
    int listener = listening(&address);
    for (int i = 0; i < 2; i++) {
        int descriptor = socket(AF_INET, SOCK_STREAM, MPTCP);
        if (descriptor < 0)
            descriptor = tcp();
        to(descriptor, i == 0 ? CLOSED : address);
    }
    close(listener);
}
static void no_descriptor_left(void)
{
    struct rlimit before, none;
    int descriptor = tcp();
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    to(descriptor, CLOSED);
    setrlimit(RLIMIT_NOFILE, &before);
}

#ifdef __GLIBC__
/* Where the header of a message cannot be read. */
static void bad_headers(void)
{
    static void *const bad[] = { NULL, (void *)16, (void *)-4096L };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        if (sendmsg(tcp(), bad[i], MSG_FASTOPEN) == -1)
            note(error_name(errno));
        errno = 0;
        if (sendmmsg(tcp(), bad[i], 1, MSG_FASTOPEN) == -1)
            note(error_name(errno));
    }
}
#endif

/* The last case: the filter stays. */
static void forbidden(void)
{
    if (filter(SYS_connect, FILTER_ANY, FILTER_ERRNO(EPERM)) != 0)
        fail("seccomp");
    to(tcp(), CLOSED);
    to(udp(), CLOSED);
}

#define SEVEN_EINVAL "EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL"
static const struct {
    const char *tried, *wanted;
    void (*run)(void);
} cases[] = {
    { "a negative descriptor", "EBADF", negative_descriptor },
    { "the largest descriptor", "EBADF", largest_descriptor },
    { "a closed descriptor", "EBADF", closed_descriptor },
    { "an O_PATH descriptor", "EBADF", path_descriptor },
    { "a bad descriptor and a bad pointer", "EBADF", bad_descriptor_and_pointer },
    { "a device file", "ENOTSOCK", a_file },
    { "a pipe", "ENOTSOCK", a_pipe },
    { "a device file and a bad pointer", "EFAULT", a_file_and_bad_pointer },
    { "NULL", "EFAULT", null_pointer },
    { "a pointer into page zero", "EFAULT", low_pointer },
    { "a pointer into the kernel", "EFAULT", kernel_pointer },
    { "a pointer to an unreadable page", "EFAULT", unreadable_page },
    { "an address that runs over into an unreadable page", "EFAULT", past_the_edge },
    { "an address that ends before an unreadable page", "0", up_to_the_edge },
    { "NULL for TCP over IPv6", "EFAULT", null_pointer_tcp6 },
    { "NULL for UDP", "EFAULT", null_pointer_udp },
    { "NULL for AF_UNIX", "EFAULT", null_pointer_unix },
    { "NULL for a non-blocking socket", "EFAULT", null_pointer_nonblocking },
    { "NULL, then a good address", "EFAULT 0", bad_pointer_then_good },
    { "wrong lengths", SEVEN_EINVAL, bad_lengths },
    { "wrong lengths for TCP over IPv6", SEVEN_EINVAL, bad_lengths_tcp6 },
    { "wrong lengths for UDP", SEVEN_EINVAL, bad_lengths_udp },
    { "wrong lengths of NULL", "EINVAL EINVAL EINVAL", bad_lengths_null },
    { "a length that is longer than the address", "0", long_length },
    { "a link-local address without a scope", "EINVAL", link_local_without_scope },
    { "an IPv6 address for an IPv4 socket", "EAFNOSUPPORT", ipv6_address_for_ipv4 },
    { "an AF_UNIX address for TCP", "EAFNOSUPPORT", unix_address_for_tcp },
    { "an AF_UNIX address for TCP over IPv6", "EAFNOSUPPORT", unix_address_for_tcp6 },
    { "an AF_UNIX address for UDP", "EAFNOSUPPORT", unix_address_for_udp },
    { "nobody listens", "ECONNREFUSED", refused4 },
    { "nobody listens, IPv6", "ECONNREFUSED", refused6 },
    { "nobody listens, v4-mapped", "ECONNREFUSED", refused_mapped },
    { "refused twice, then accepted", "ECONNREFUSED ECONNREFUSED 0", refused_twice_then_not },
    { "no route", "ENETUNREACH", unreachable_network },
    { "no route, IPv6", "ENETUNREACH", unreachable_network6 },
    { "no route, UDP", "ENETUNREACH", unreachable_network_udp },
    { "a v4-mapped address for an IPv6-only socket", "ENETUNREACH", mapped_for_ipv6_alone },
    { "an unreachable host", "EHOSTUNREACH EHOSTUNREACH EHOSTUNREACH", unreachable_host },
    { "no answer", "ETIMEDOUT", no_answer },
    { "no answer within SO_SNDTIMEO", "EINPROGRESS EALREADY", send_timeout },
    { "non-blocking", "EINPROGRESS EALREADY 0 EISCONN", in_progress },
    { "connected, accepted and listening sockets", "0 EISCONN EISCONN EISCONN", connected },
    { "AF_UNSPEC", "0 0 0 0", disconnected },
    { "AF_UNSPEC, UDP", "0 0 0", disconnected_udp },
    { "a signal", "EINTR (signalled) EINTR (signalled) 0 EISCONN", interrupted },
    { "a signal with SA_RESTART", "0 (signalled)", restarted },
    { "a signal with SA_RESTART and SO_SNDTIMEO", "EINTR (signalled)", not_restarted_with_a_timeout },
    { "a broadcast address, UDP", "EACCES", broadcast_udp },
    { "a broadcast address, TCP", "ENETUNREACH", broadcast_tcp },
    { "no port left", "0 EADDRNOTAVAIL", no_port_left },
    { "the same four numbers twice", "0 EADDRNOTAVAIL", same_four },
    { "a missing AF_UNIX socket", "ENOENT", unix_missing },
    { "an AF_UNIX socket below a file", "ENOTDIR", unix_below_a_file },
    { "a file for an AF_UNIX socket", "ECONNREFUSED", unix_not_a_socket },
    { "an AF_UNIX address without a path", "EINVAL", unix_no_path },
    { "an AF_UNIX socket of another type", "EPROTOTYPE", unix_wrong_type },
    { "an AF_UNIX socket that does not listen", "ECONNREFUSED", unix_nobody_listens },
    { "an AF_UNIX socket with a full queue", "0 EAGAIN", unix_queue_full },
    { "a connected AF_UNIX socket", "0 EISCONN", unix_connected },
    { "a packet socket", "EOPNOTSUPP", packet_socket },
    { "a netlink socket", "0", netlink_socket },
    { "success", "0 EINPROGRESS 0", success },
    { "success, IPv6", "0", success6 },
    { "success, v4-mapped", "0", success_mapped },
    { "MPTCP", "ECONNREFUSED 0", mptcp },
    { "no descriptor left", "ECONNREFUSED", no_descriptor_left },
#ifdef __GLIBC__ /* musl reads them itself */
    { "bad headers of messages", "EFAULT EFAULT EFAULT EFAULT EFAULT EFAULT", bad_headers },
#endif
    { "a seccomp filter on connect", "EPERM EPERM", forbidden },
};

static void run_cases(int apart)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fflush(stdout);
        pid_t child = apart ? fork() : 0;
        if (child < 0)
            fail("fork");
        if (child == 0) {
            alarm(20); /* its signal ends what would block for ever */
            seen[0] = 0;
            cases[i].run();
            printf("%s\t%s\t%s\n", cases[i].tried, cases[i].wanted, seen);
            if (apart)
                exit(0);
        } else {
            int status;
            waitpid(child, &status, 0);
            if (status != 0)
                printf("%s\t%s\tstatus %d\n", cases[i].tried, cases[i].wanted, status);
        }
    }
}

/* --- Lookups ------------------------------------------------------------------------------------ */

#define LONG_LABEL "0123456789012345678901234567890123456789012345678901234567890123456789"
static const struct lookup {
    const char *node, *service;
    int flags, family, type, protocol;
} lookups[] = {
    { NULL, NULL, 0, 0, 0, 0 },
    { NULL, "80", 0, 0, 0, 0 },
    { NULL, "80", AI_PASSIVE, 0, SOCK_STREAM, 0 },
    { NULL, "http", AI_CANONNAME, 0, 0, 0 },
    { "127.0.0.1", NULL, 0, 0, 0, 0 },
    { "127.0.0.1", "80", 0, AF_INET, SOCK_STREAM, 0 },
    { "127.0.0.1", "80", 0, AF_INET6, SOCK_STREAM, 0 },
    { "127.0.0.1", "80", AI_V4MAPPED, AF_INET6, SOCK_STREAM, 0 },
    { "::1", "80", 0, 0, SOCK_STREAM, 0 },
    { "::1", "80", 0, AF_INET, SOCK_STREAM, 0 },
    { "192.0.2.1", "80", AI_CANONNAME, 0, SOCK_STREAM, 0 },
    { "localhost", "80", 0, 0, SOCK_STREAM, 0 },
    { "localhost", "80", 0, AF_INET6, SOCK_STREAM, 0 },
    { "localhost", "80", AI_NUMERICHOST, 0, 0, 0 },
    { "localhost", "80", 0x40000000, 0, 0, 0 },
    { "localhost", "80", 0, 99, 0, 0 },
    { "localhost", "80", 0, 0, 99, 0 },
    { "localhost", "80", 0, 0, SOCK_STREAM, IPPROTO_UDP },
    { "localhost", "no-such-service", 0, 0, 0, 0 },
    { "localhost", "http", AI_NUMERICSERV, 0, 0, 0 },
    { "localhost", "99999", 0, 0, SOCK_STREAM, 0 },
    { "", "80", 0, 0, SOCK_STREAM, 0 },
    { LONG_LABEL ".example.com", "80", 0, 0, SOCK_STREAM, 0 },
    { "name.example.com", "80", AI_NUMERICHOST, 0, SOCK_STREAM, 0 },
    { "name.example.com", NULL, 0, 0, 0, 0 }, /* the last one is used again, see run_lookups */
};

static void look_up(const struct lookup *lookup, int with_hints)
{
    struct addrinfo hints = {
        .ai_flags = lookup->flags,
        .ai_family = lookup->family,
        .ai_socktype = lookup->type,
        .ai_protocol = lookup->protocol,
    };
    struct addrinfo *list = NULL;
    errno = UNTOUCHED;
    int code = getaddrinfo(lookup->node, lookup->service, with_hints ? &hints : NULL, &list);
    int error = errno;
    printf("%s %s flags=%#x family=%d type=%d protocol=%d%s\t\t%s (%s)", lookup->node ? lookup->node : "NULL",
           lookup->service ? lookup->service : "NULL", lookup->flags, lookup->family, lookup->type, lookup->protocol,
           with_hints ? "" : " without hints", status_name(code),
           error == UNTOUCHED ? "errno untouched" : error_name(error));
    for (struct addrinfo *node = list; code == 0 && node != NULL; node = node->ai_next) {
        char host[64];
        getnameinfo(node->ai_addr, node->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
        printf(" %d/%d/%d/%s/%s", node->ai_family, node->ai_socktype, node->ai_protocol, host,
               node->ai_canonname ? node->ai_canonname : "-");
    }
    printf("\n");
    if (code == 0)
        freeaddrinfo(list);
}

/* Nobody answers; musl waits for it nevertheless, and should not do so for long. */
static void no_resolver(void)
{
    static const char text[] = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    char path[] = "/tmp/egress-shim-resolv.XXXXXX";
    int file = mkstemp(path);
    if (file < 0 || write(file, text, sizeof text - 1) < 0)
        fail(path);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        fail("unshare");
    if (mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL) != 0)
        fail("/etc/resolv.conf");
    unlink(path);
    close(file);
}

static void run_lookups(void)
{
    size_t count = sizeof lookups / sizeof *lookups;
    struct rlimit none = { 0, 0 };
    no_resolver();
    for (size_t i = 0; i < count; i++)
        look_up(&lookups[i], 1);
    look_up(&lookups[count - 1], 0);
    /* With no descriptor left the libcs have no way to ask. */
    setrlimit(RLIMIT_NOFILE, &none);
    look_up(&lookups[count - 1], 1);
}

/* --- For strace --------------------------------------------------------------------------------- */

static void run_fixed(void)
{
    char byte;
    printf("ready\n");
    fflush(stdout);
    if (read(0, &byte, 1) < 0)
        fail("read");
    int tcp_socket = tcp(), tcp6_socket = tcp6();
    /* strace shows where an address is that the kernel does not accept. */
    union address *fixed = mmap((void *)0x200000000, sizeof *fixed, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (fixed == MAP_FAILED)
        fail("mmap");
    *fixed = CLOSED;
    to(tcp_socket, CLOSED);
    to(tcp_socket, in("192.0.2.1", 443));
    call(tcp_socket, NULL, 16);
    call(tcp_socket, (void *)16, 16);
    call(tcp_socket, fixed, 1);
    call(tcp_socket, fixed, (socklen_t)-1);
    to(tcp6_socket, in6("::1", 9));
    to(tcp6_socket, in6("2001:db8::1", 443));
    to(nonblocking(tcp()), CLOSED);
    to(udp(), in("127.0.0.1", 53));
    to(unix_stream(), un("/missing/socket"));
    to(-1, CLOSED);
    to(0x7fffffff, CLOSED);
    to(0, CLOSED);
}

static void enter_namespace(void)
{
    struct rtentry route = { .rt_flags = RTF_UP | RTF_REJECT };
    ((struct sockaddr_in *)&route.rt_dst)->sin_family = AF_INET;
    ((struct sockaddr_in *)&route.rt_dst)->sin_addr.s_addr = htonl(0xc6336400); /* 198.51.100.0/24 */
    ((struct sockaddr_in *)&route.rt_genmask)->sin_family = AF_INET;
    ((struct sockaddr_in *)&route.rt_genmask)->sin_addr.s_addr = htonl(0xffffff00);
    if (new_network() != 0)
        fail("namespace");
    int any = udp();
    if (ioctl(any, SIOCADDRT, &route) != 0)
        fail("route");
    close(any);
}

int main(int count, char **arguments)
{
    const char *what = count >= 2 ? arguments[1] : "";
    for (int i = SENDTO; count == 3 && i <= SENDMMSG; i++)
        if (strcmp(arguments[2], names[i]) == 0)
            by = i;
    if (count > 2 + (by != CONNECT))
        return 2;
    enter_namespace();
    if (strcmp(what, "apart") == 0)
        run_cases(1);
    else if (strcmp(what, "together") == 0)
        run_cases(0);
    else if (strcmp(what, "lookups") == 0)
        run_lookups();
    else if (strcmp(what, "fixed") == 0)
        run_fixed();
    else
        return 2;
    return 0;
}
