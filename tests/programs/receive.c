/* Receives in every way that gives an answer of its own, in a network namespace of its own, and prints one line
 * for each case:
 *
 *   WHAT IS TRIED <tab> WANTED <tab> WANTED WHERE dual.example.com IS LISTED <tab> SEEN
 *
 * An answer is what the call returned, or the name of its errno; then what was received; then what else the call
 * says. errno must outlive a call that succeeds: where it does not, its name follows.
 */
#include "confine.h"
#include "guest.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define UNTOUCHED 12345 /* an errno that no call gives */

/* --- What came back ----------------------------------------------------------------------------- */

static char seen[512];

static void note(const char *format, ...)
{
    size_t length = strlen(seen);
    va_list arguments;
    va_start(arguments, format);
    if (length > 0 && length < sizeof seen - 1)
        seen[length++] = ' ';
    vsnprintf(seen + length, sizeof seen - length, format, arguments);
    va_end(arguments);
}

/* --- Messages ----------------------------------------------------------------------------------- */

#define QUESTION "\4dual\7example\3com\0\0\34\0\1"
#define OPTIONS "\0\0\51\4\320\0\0\0\0\0\0"
/* A reply to AAAA for dual.example.com, with an address and the OPT pseudo-record; what is left of it. */
static const char reply[] = "\x12\x34\x81\x80\0\1\0\1\0\0\0\1" QUESTION
                            "\300\14\0\34\0\1\0\0\0\74\0\20 \1\15\270\0\0\0\0\0\0\0\0\0\0\0\1" OPTIONS;
static const char nodata[] = "\x12\x34\x81\x80\0\1\0\0\0\0\0\1" QUESTION OPTIONS;
static const char bare[] = "\x12\x34\x81\x80\0\1\0\0\0\0\0\0" QUESTION;
/* The same of other.example.com, and the question. */
static char other[sizeof reply], question[sizeof reply];
#define REPLY (sizeof reply - 1)
#define QUESTION_END 34

/* What these bytes are. */
static const char *name_of(const char *bytes, ssize_t length)
{
    static const struct {
        const char *name, *bytes;
        size_t length;
    } known[] = { { "whole", reply, REPLY },         { "no data", nodata, sizeof nodata - 1 },
                  { "bare", bare, sizeof bare - 1 }, { "other", other, REPLY },
                  { "question", question, REPLY },   { "x", "x", 1 } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((size_t)length == known[i].length && memcmp(bytes, known[i].bytes, length) == 0)
            return known[i].name;
    return length > 1 && memcmp(bytes, reply, length) == 0 ? "cut" : "something else";
}

/* Notes a call's result, and of what it received what is in the buffer. */
static void received(ssize_t result, const char *buffer, size_t size)
{
    int error = errno;
    if (result < 0) {
        note("%s", error_name(error));
        return;
    }
    note("%zd", result);
    if (result > 0 && size > 0)
        note("%s", name_of(buffer, (size_t)result < size ? result : (ssize_t)size));
    if (error != UNTOUCHED)
        note("(%s)", error_name(error));
}

/* --- Sockets ------------------------------------------------------------------------------------ */

static void set(int descriptor, int level, int option, int value)
{
    if (setsockopt(descriptor, level, option, &value, sizeof value) != 0)
        fail("setsockopt");
}

static int bound_socket(int type, struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int made = socket(AF_INET, type, 0);
    *address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (made < 0 || bind(made, (struct sockaddr *)address, length) != 0)
        fail("bind");
    if (getsockname(made, (struct sockaddr *)address, &length) != 0)
        fail("getsockname");
    return made;
}

static void send_here(int descriptor, const char *bytes, size_t length)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(descriptor, (struct sockaddr *)&address, &size) != 0)
        fail("getsockname");
    if (sendto(descriptor, bytes, length, 0, (struct sockaddr *)&address, size) != (ssize_t)length)
        fail("sendto");
}

static int udp(void)
{
    struct sockaddr_in address;
    int made = bound_socket(SOCK_DGRAM, &address);
    struct timeval patience = { .tv_sec = 5 };
    if (setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
        fail("SO_RCVTIMEO");
    return made;
}

/* One to which the reply was sent. */
static int with_reply(void)
{
    int made = udp();
    send_here(made, reply, REPLY);
    return made;
}

/* The two ends of a TCP connection. */
static void connection(int ends[2])
{
    struct sockaddr_in address;
    int listener = bound_socket(SOCK_STREAM, &address);
    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    if (listen(listener, 1) != 0 || connect(ends[1], (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    ends[0] = accept(listener, NULL, NULL);
    close(listener);
}

/* So many bytes before memory that cannot be touched. */
static char *at_the_edge(size_t length)
{
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0)
        fail("mmap");
    return pages + page - length;
}

/* --- The calls ---------------------------------------------------------------------------------- */

static char buffer[4096];

static void receive_into(int descriptor, char *into, size_t length, int flags)
{
    errno = UNTOUCHED;
    received(recv(descriptor, into, length, flags), into, length);
}
static void receive(int descriptor, size_t length, int flags) { receive_into(descriptor, buffer, length, flags); }

static void receive_message(int descriptor, struct msghdr *header, int flags)
{
    errno = UNTOUCHED;
    ssize_t result = recvmsg(descriptor, header, flags);
    int error = errno;
    size_t length = 0;
    for (size_t i = 0; result > 0 && i < (size_t)header->msg_iovlen; i++) {
        struct iovec *part = &header->msg_iov[i];
        if (part->iov_len > 0 && length + part->iov_len <= sizeof buffer)
            memcpy(buffer + length, part->iov_base, part->iov_len);
        length += part->iov_len;
    }
    errno = error;
    received(result, buffer, length);
    if (result < 0)
        return;
    /* What the address of the packet takes there differs between machines. */
    int whole = header->msg_controllen == CMSG_SPACE(sizeof(struct in_pktinfo));

    note("flags %#x, address %u, control %s", header->msg_flags, (unsigned)header->msg_namelen,
         whole                    ? "whole"
         : header->msg_controllen ? "cut"
                                  : "none");
}

static void by_recv(void) { receive(with_reply(), sizeof buffer, 0); }
static void by_recv_twice(void)
{
    int descriptor = with_reply();
    receive(descriptor, sizeof buffer, MSG_PEEK);
    receive(descriptor, sizeof buffer, 0);
    receive(descriptor, sizeof buffer, MSG_DONTWAIT);
}
static void by_recvfrom(void)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(recvfrom(descriptor, buffer, sizeof buffer, 0, (struct sockaddr *)&address, &length), buffer,
             sizeof buffer);
    note("address %u", (unsigned)length);
}
static void by_recvfrom_nowhere(void)
{
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(recvfrom(descriptor, buffer, sizeof buffer, 0, NULL, NULL), buffer, sizeof buffer);
}
static void by_recvfrom_bad_address(void)
{
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(recvfrom(descriptor, buffer, sizeof buffer, 0, (void *)16, (void *)32), buffer, sizeof buffer);
    receive(descriptor, sizeof buffer, MSG_DONTWAIT);
}
static void by_recvmsg(void)
{
    static char bytes[500], control[200];
    struct sockaddr_in address;
    struct iovec part = { bytes, sizeof bytes };
    struct msghdr header = { .msg_name = &address,
                             .msg_namelen = sizeof address,
                             .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control };
    int descriptor = udp();
    set(descriptor, IPPROTO_IP, IP_PKTINFO, 1);
    send_here(descriptor, reply, REPLY);
    receive_message(descriptor, &header, 0);
}
static void by_recvmsg_cut_control(void)
{
    static char bytes[500], control[8];
    struct iovec part = { bytes, sizeof bytes };
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
    };
    int descriptor = udp();
    set(descriptor, IPPROTO_IP, IP_PKTINFO, 1);
    send_here(descriptor, reply, REPLY);
    receive_message(descriptor, &header, 0);
}
static void in_parts(size_t size, size_t count)
{
    static char bytes[500];
    struct iovec parts[100] = { { NULL, 0 } };
    struct msghdr header = { .msg_iov = parts, .msg_iovlen = count + 1 };
    for (size_t i = 0; i < count; i++)
        parts[i + 1] = (struct iovec){ bytes + i * size, size };
    receive_message(with_reply(), &header, 0);
}
static void by_recvmsg_in_parts(void) { in_parts(7, 20); }
static void by_recvmsg_in_bytes(void) { in_parts(1, REPLY); }
static void by_recvmsg_cut(void) { in_parts(5, 10); }
static void by_recvmsg_with_length(void)
{
    char bytes[50];
    struct iovec part = { bytes, sizeof bytes };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
    receive_message(with_reply(), &header, MSG_TRUNC);
}
static void by_recvmsg_unaligned(void)
{
    static char bytes[500], place[sizeof(struct iovec) + 1];
    struct iovec part = { bytes, sizeof bytes };
    struct msghdr header = { .msg_iovlen = 1 };
    memcpy(place + 1, &part, sizeof part);
    header.msg_iov = (void *)(place + 1);
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(recvmsg(descriptor, &header, 0), bytes, sizeof bytes);
}

/* Into the very memory that says where to: the kernel has read it before. */
static void by_recvmsg_over_its_parts(size_t count)
{
    static union {
        char bytes[500];
        struct iovec parts[20];
    } memory;
    struct msghdr header = { .msg_iov = memory.parts, .msg_iovlen = count };
    for (size_t i = 0; i < count; i++)
        memory.parts[i] = (struct iovec){ memory.bytes + 100 * i, 100 };
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(recvmsg(descriptor, &header, 0), memory.bytes, sizeof memory.bytes);
}
static void by_recvmsg_over_its_part(void) { by_recvmsg_over_its_parts(1); }
static void by_recvmsg_over_its_few_parts(void) { by_recvmsg_over_its_parts(5); }
/* More parts than a guest can keep: it must leave the message alone then, and not follow what came instead. */
static void by_recvmsg_over_its_many_parts(void)
{
    static struct iovec parts[20];
    struct msghdr header = { .msg_iov = parts, .msg_iovlen = 20 };
    for (int i = 0; i < 20; i++)
        parts[i] = (struct iovec){ parts, 100 };
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(recvmsg(descriptor, &header, 0), (char *)parts, sizeof parts);
}
/* Another thread uses the parts again as soon as the kernel has read them. */
static struct iovec reused;
static void *reuse(void *descriptor)
{
    usleep(200000);
    reused = (struct iovec){ (void *)16, 500 };
    send_here(*(int *)descriptor, reply, REPLY);
    return NULL;
}
static void by_recvmsg_parts_reused(void)
{
    static char bytes[500];
    struct msghdr header = { .msg_iov = &reused, .msg_iovlen = 1 };
    int descriptor = udp();
    pthread_t thread;
    reused = (struct iovec){ bytes, sizeof bytes };
    if (pthread_create(&thread, NULL, reuse, &descriptor) != 0)
        fail("pthread_create");
    errno = UNTOUCHED;
    received(recvmsg(descriptor, &header, 0), bytes, sizeof bytes);
}
/* As many parts as the kernel takes, each apart from the others. */
static void by_recvmsg_in_most_parts(void)
{
    static char bytes[2 * 1024];
    static struct iovec parts[1024];
    struct msghdr header = { .msg_iov = parts, .msg_iovlen = 1024 };
    for (size_t i = 0; i < 1024; i++)
        parts[i] = (struct iovec){ bytes + 2 * i, 1 };
    receive_message(with_reply(), &header, 0);
}
/* More addresses than a buffer on the stack holds, in two parts. */
static void by_recvmsg_large(void)
{
    enum { ADDRESSES = 500, ADDRESS = 28, HALF = 4000 };
    static char large[QUESTION_END + ADDRESSES * ADDRESS + 11], bytes[5 * HALF];
    struct iovec parts[2] = { { bytes, HALF }, { bytes + HALF, 4 * HALF } };
    struct msghdr header = { .msg_iov = parts, .msg_iovlen = 2 };
    memcpy(large, reply, QUESTION_END);
    large[6] = ADDRESSES >> 8, large[7] = (char)ADDRESSES;
    for (int i = 0; i < ADDRESSES; i++)
        memcpy(large + QUESTION_END + i * ADDRESS, reply + QUESTION_END, ADDRESS);
    memcpy(large + QUESTION_END + ADDRESSES * ADDRESS, OPTIONS, 11);
    int descriptor = udp();
    send_here(descriptor, large, sizeof large);
    errno = UNTOUCHED;
    ssize_t result = recvmsg(descriptor, &header, 0);
    received(result, bytes, sizeof bytes);
}

static void several(unsigned room, int flags, char *third)
{
    static char bytes[5][500];
    struct iovec parts[5];
    struct mmsghdr vector[5];
    int descriptor = with_reply();
    send_here(descriptor, "x", 1);
    send_here(descriptor, reply, REPLY);
    for (int i = 0; i < 5; i++) {
        parts[i] = (struct iovec){ i == 2 && third != NULL ? third : bytes[i], sizeof bytes[i] };
        vector[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &parts[i], .msg_iovlen = 1 }, .msg_len = 777 };
    }
    errno = UNTOUCHED;
    int count = recvmmsg(descriptor, vector, room, flags, NULL), error = errno;
    note("%d", count);
    if (error != UNTOUCHED)
        note("(%s)", error_name(error));
    for (int i = 0; i < 5; i++)
        note("%u %s,", vector[i].msg_len, i < count ? name_of(bytes[i], vector[i].msg_len) : "-");
}
static void by_recvmmsg(void) { several(5, MSG_DONTWAIT, NULL); }
static void by_recvmmsg_two(void) { several(2, 0, NULL); }
static void by_recvmmsg_bad(void) { several(3, 0, (char *)16); }
static void by_recvmmsg_bad_parts(void)
{
    static char bytes[500];
    struct iovec part = { bytes, sizeof bytes };
    struct mmsghdr vector[2] = { { .msg_hdr = { .msg_iov = &part, .msg_iovlen = 1 } },
                                 { .msg_hdr = { .msg_iov = (void *)16, .msg_iovlen = 1 } } };
    int descriptor = with_reply();
    send_here(descriptor, reply, REPLY);
    errno = UNTOUCHED;
    note("%d", recvmmsg(descriptor, vector, 2, MSG_DONTWAIT, NULL));
    if (errno != UNTOUCHED)
        note("(%s)", error_name(errno));
    note("%s", name_of(bytes, vector[0].msg_len));
}
/* The first message is where the second one's header was, which the kernel reads only then. */
static void by_recvmmsg_over_its_vector(void)
{
    static struct mmsghdr vector[2];
    struct iovec parts[2] = { { &vector[1], sizeof vector[1] }, { buffer, 500 } };
    for (int i = 0; i < 2; i++)
        vector[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
    note("%d", recvmmsg(with_reply(), vector, 2, MSG_DONTWAIT, NULL));
    note("%s", vector[0].msg_len == sizeof vector[1] ? "full" : "short");
}
static void by_recvmmsg_peek(void) { several(2, MSG_PEEK, NULL); }

#ifdef __GLIBC__
#if _TIME_BITS != 64 /* libc itself reads the header then */
static void nowhere(void)
{
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(recvmsg(descriptor, (void *)16, 0), NULL, 0);
    errno = UNTOUCHED;
    received(recvmmsg(descriptor, (void *)16, 1, 0, NULL), NULL, 0);
    receive(descriptor, sizeof buffer, 0);
}
#endif
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
static void by_recv_chk(void)
{
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(__recv_chk(descriptor, buffer, 500, sizeof buffer, 0), buffer, sizeof buffer);
}
static void by_recvfrom_chk(void)
{
    int descriptor = with_reply();
    errno = UNTOUCHED;
    received(__recvfrom_chk(descriptor, buffer, 500, sizeof buffer, 0, NULL, NULL), buffer, sizeof buffer);
}
static void by_recv_chk_too_long(void)
{
    int descriptor = with_reply(), status;
    pid_t child = fork();
    if (child == 0) {
        close(2);
        __recv_chk(descriptor, buffer, 500, 499, 0);
        _exit(0);
    }
    waitpid(child, &status, 0);
    note(WIFSIGNALED(status) ? "signal %d" : "status %d", WIFSIGNALED(status) ? WTERMSIG(status) : status);
}
#endif

static void by_recv_ipv6(void)
{
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    socklen_t length = sizeof address;
    int descriptor = socket(AF_INET6, SOCK_DGRAM, 0);
    if (bind(descriptor, (struct sockaddr *)&address, length) != 0)
        fail("bind");
    if (getsockname(descriptor, (struct sockaddr *)&address, &length) != 0)
        fail("getsockname");
    sendto(descriptor, reply, REPLY, 0, (struct sockaddr *)&address, length);
    receive(descriptor, sizeof buffer, 0);
}

static volatile int to_receive_from = -1;
static void on_signal(int number)
{
    (void)number;
    if (to_receive_from >= 0)
        receive(to_receive_from, sizeof buffer, 0);
}
static void in_a_signal_handler(void)
{
    to_receive_from = with_reply();
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
}

static void into_a_short_buffer(void) { receive(with_reply(), 50, 0); }
static void into_a_short_buffer_with_length(void) { receive(with_reply(), 50, MSG_TRUNC); }
static void into_a_buffer_for_half_the_question(void) { receive(with_reply(), 20, MSG_TRUNC); }
static void for_the_length(void) { receive_into(with_reply(), NULL, 0, MSG_PEEK | MSG_TRUNC); }
static void into_nothing(void) { receive_into(with_reply(), NULL, 0, 0); }
static void up_to_the_edge(void) { receive_into(with_reply(), at_the_edge(REPLY), REPLY, 0); }
static void past_the_edge(void) { receive_into(with_reply(), at_the_edge(REPLY - 1), REPLY, 0); }
static void more_room_than_there_is(void) { receive_into(with_reply(), at_the_edge(REPLY), 4000, 0); }
static void null_buffer(void) { receive_into(with_reply(), NULL, 100, 0); }
static void read_only_buffer(void) { receive_into(with_reply(), (char *)reply, REPLY, 0); }
static void bad_part(void)
{
    struct iovec part = { (void *)16, 100 };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
    receive_message(with_reply(), &header, 0);
}
static void bad_parts(void)
{
    struct msghdr header = { .msg_iov = (void *)16, .msg_iovlen = 1 };
    receive_message(with_reply(), &header, 0);
}
static void many_parts(void)
{
    static struct iovec parts[1025];
    struct msghdr header = { .msg_iov = parts, .msg_iovlen = 1025 };
    receive_message(with_reply(), &header, 0);
}

static void question_by_recv(void)
{
    int descriptor = udp();
    send_here(descriptor, question, REPLY);
    receive(descriptor, sizeof buffer, 0);
}
/* With each flag with which the kernel fills the buffer all the same; some are of other calls, which recv ignores. */
static void question_with_flags(void)
{
    int descriptor = udp();
    send_here(descriptor, question, REPLY);
    receive(descriptor, sizeof buffer,
            MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC | MSG_WAITFORONE);
}
static void other_by_recv(void)
{
    int descriptor = udp();
    send_here(descriptor, other, REPLY);
    receive(descriptor, sizeof buffer, 0);
}
static void by_tcp(void)
{
    int ends[2];
    connection(ends);
    if (write(ends[1], reply, REPLY) != (ssize_t)REPLY)
        fail("write");
    receive(ends[0], REPLY, MSG_PEEK | MSG_WAITALL);
    receive(ends[0], REPLY, MSG_WAITALL);
    shutdown(ends[1], SHUT_WR);
    receive(ends[0], REPLY, 0);
    receive(ends[0], REPLY, MSG_OOB);
}
/* Linux discards it then: no byte of the buffer is touched (tcp(7)). */
static void by_tcp_discarding(void)
{
    int ends[2];
    connection(ends);
    if (write(ends[1], reply, REPLY) != (ssize_t)REPLY || write(ends[1], reply, REPLY) != (ssize_t)REPLY)
        fail("write");
    errno = UNTOUCHED;
    received(recv(ends[0], NULL, REPLY, MSG_WAITALL | MSG_TRUNC), NULL, 0);
    errno = UNTOUCHED;
    received(recvfrom(ends[0], (void *)16, REPLY, MSG_WAITALL | MSG_TRUNC, NULL, NULL), NULL, 0);
}
static void by_urgent_data(void)
{
    int ends[2];
    struct pollfd urgent;
    connection(ends);
    if (send(ends[1], "x", 1, MSG_OOB) != 1)
        fail("send");
    urgent = (struct pollfd){ .fd = ends[0], .events = POLLPRI };
    poll(&urgent, 1, 5000);
    receive(ends[0], 100, MSG_OOB);
}
static void by_unix(int type)
{
    int ends[2];
    if (socketpair(AF_UNIX, type, 0, ends) != 0 || write(ends[1], reply, REPLY) != (ssize_t)REPLY)
        fail("socketpair");
    receive(ends[0], sizeof buffer, 0);
}
static void by_unix_datagram(void) { by_unix(SOCK_DGRAM); }
static void by_unix_stream(void) { by_unix(SOCK_STREAM); }
static void by_unix_packets(void) { by_unix(SOCK_SEQPACKET); }
static void from_the_error_queue(void)
{
    struct sockaddr_in nobody;
    close(bound_socket(SOCK_DGRAM, &nobody));
    int descriptor = udp();
    struct pollfd waiting = { .fd = descriptor };
    set(descriptor, IPPROTO_IP, IP_RECVERR, 1);
    sendto(descriptor, reply, REPLY, 0, (struct sockaddr *)&nobody, sizeof nobody);
    poll(&waiting, 1, 5000);
    receive(descriptor, sizeof buffer, MSG_ERRQUEUE | MSG_DONTWAIT);
}
static void connect_refused(void)
{
    struct sockaddr_in nobody;
    close(bound_socket(SOCK_DGRAM, &nobody));
    int descriptor = udp();
    struct pollfd waiting = { .fd = descriptor, .events = POLLIN };
    if (connect(descriptor, (struct sockaddr *)&nobody, sizeof nobody) != 0)
        fail("connect");
    if (send(descriptor, "x", 1, 0) != 1)
        fail("send");
    poll(&waiting, 1, 5000);
    receive(descriptor, sizeof buffer, 0);
}

static void negative_descriptor(void) { receive(-1, 100, 0); }
static void a_file(void) { receive(open("/dev/null", O_RDWR), 100, 0); }
static void not_connected(void) { receive(socket(AF_INET, SOCK_STREAM, 0), 100, 0); }
static void nothing_there(void) { receive(udp(), 100, MSG_DONTWAIT); }
static void nothing_comes(void)
{
    int descriptor = udp();
    struct timeval tenth = { .tv_usec = 100000 };
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &tenth, sizeof tenth) != 0)
        fail("SO_RCVTIMEO");
    receive(descriptor, 100, 0);
}
static void interrupted(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    struct itimerval tenth = { .it_value.tv_usec = 100000 };
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &tenth, NULL);
    receive(udp(), 100, 0);
}
static void empty_datagram(void)
{
    int descriptor = udp();
    send_here(descriptor, "", 0);
    receive(descriptor, 100, 0);
}

static const struct test {
    const char *tried, *wanted, *listed;
    void (*run)(void);
} cases[] = {
#define BOTH(wanted) wanted, wanted
    { "recv", "73 whole", "45 no data", by_recv },
    { "recv, IPv6", "73 whole", "45 no data", by_recv_ipv6 },
    { "MSG_PEEK, recv, recv", "73 whole 73 whole EAGAIN", "45 no data 45 no data EAGAIN", by_recv_twice },
    { "recvfrom", "73 whole address 16", "45 no data address 16", by_recvfrom },
    { "recvfrom without an address", "73 whole", "45 no data", by_recvfrom_nowhere },
    { "recvfrom, bad address", BOTH("EFAULT EAGAIN"), by_recvfrom_bad_address },
    { "recvmsg", "73 whole flags 0, address 16, control whole", "45 no data flags 0, address 16, control whole",
      by_recvmsg },
    { "recvmsg, short control", "73 whole flags 0x8, address 0, control none",
      "45 no data flags 0x8, address 0, control none", by_recvmsg_cut_control },
    { "recvmsg in parts", "73 whole flags 0, address 0, control none", "45 no data flags 0, address 0, control none",
      by_recvmsg_in_parts },
    { "recvmsg in bytes", "73 whole flags 0, address 0, control none", "45 no data flags 0, address 0, control none",
      by_recvmsg_in_bytes },
    { "recvmsg into short parts", "50 cut flags 0x20, address 0, control none",
      "34 bare flags 0, address 0, control none", by_recvmsg_cut },
    { "recvmsg, short buffer, MSG_TRUNC", "73 cut flags 0x20, address 0, control none",
      "34 bare flags 0, address 0, control none", by_recvmsg_with_length },
    { "recvmsg, parts unaligned", "73 whole", "45 no data", by_recvmsg_unaligned },
    { "recvmsg over its part", "73 whole", "45 no data", by_recvmsg_over_its_part },
    { "recvmsg over its few parts", "73 whole", "45 no data", by_recvmsg_over_its_few_parts },
    { "recvmsg over its many parts", BOTH("73 whole"), by_recvmsg_over_its_many_parts },
    { "recvmsg, parts reused", "73 whole", "45 no data", by_recvmsg_parts_reused },
    { "recvmsg in most parts", "73 whole flags 0, address 0, control none",
      "45 no data flags 0, address 0, control none", by_recvmsg_in_most_parts },
    { "recvmsg, large", "14045 something else", "45 no data", by_recvmsg_large },
    { "recvmmsg", "3 73 whole, 1 x, 73 whole, 777 -, 777 -,", "3 45 no data, 1 x, 45 no data, 777 -, 777 -,",
      by_recvmmsg },
    { "recvmmsg, room for two", "2 73 whole, 1 x, 777 -, 777 -, 777 -,", "2 45 no data, 1 x, 777 -, 777 -, 777 -,",
      by_recvmmsg_two },
    { "recvmmsg, bad third buffer", "2 73 whole, 1 x, 777 -, 777 -, 777 -,", "2 45 no data, 1 x, 777 -, 777 -, 777 -,",
      by_recvmmsg_bad },
    { "recvmmsg, bad parts", "1 whole", "1 no data", by_recvmmsg_bad_parts },
    { "recvmmsg over its vector", BOTH("1 full"), by_recvmmsg_over_its_vector },
    { "recvmmsg, MSG_PEEK", "2 73 whole, 73 whole, 777 -, 777 -, 777 -,",
      "2 45 no data, 45 no data, 777 -, 777 -, 777 -,", by_recvmmsg_peek },
#ifdef __GLIBC__
#if _TIME_BITS != 64
    { "nowhere", "EFAULT EFAULT 73 whole", "EFAULT EFAULT 45 no data", nowhere },
#endif
    { "__recv_chk", "73 whole", "45 no data", by_recv_chk },
    { "__recvfrom_chk", "73 whole", "45 no data", by_recvfrom_chk },
    { "__recv_chk, too long", BOTH("signal 6"), by_recv_chk_too_long },
#endif
    { "in a signal handler", "73 whole", "45 no data", in_a_signal_handler },
    { "short buffer", "50 cut", "34 bare", into_a_short_buffer },
    { "short buffer, MSG_TRUNC", "73 cut", "34 bare", into_a_short_buffer_with_length },
    { "half the question, MSG_TRUNC", BOTH("73 cut"), into_a_buffer_for_half_the_question },
    { "length", BOTH("73"), for_the_length },
    { "no buffer", BOTH("0"), into_nothing },
    { "up to the edge", "73 whole", "45 no data", up_to_the_edge },
    { "past the edge", BOTH("EFAULT"), past_the_edge },
    { "more room than there is", "73 whole", "45 no data", more_room_than_there_is },
    { "null buffer", BOTH("EFAULT"), null_buffer },
    { "read-only buffer", BOTH("EFAULT"), read_only_buffer },
    { "bad part", BOTH("EFAULT"), bad_part },
    { "bad parts", BOTH("EFAULT"), bad_parts },
    { "many parts", BOTH("EMSGSIZE"), many_parts },
    { "a question", BOTH("73 question"), question_by_recv },
    { "a question, flags", BOTH("73 question"), question_with_flags },
    { "other.example.com", BOTH("73 other"), other_by_recv },
    { "TCP", BOTH("73 whole 73 whole 0 EINVAL"), by_tcp },
    { "TCP, MSG_TRUNC", BOTH("73 73"), by_tcp_discarding },
    { "urgent data", BOTH("1 x"), by_urgent_data },
    { "AF_UNIX datagram", BOTH("73 whole"), by_unix_datagram },
    { "AF_UNIX stream", BOTH("73 whole"), by_unix_stream },
    { "AF_UNIX packets", BOTH("73 whole"), by_unix_packets },
    { "error queue", BOTH("73 whole"), from_the_error_queue },
    { "refused", BOTH("ECONNREFUSED"), connect_refused },
    { "descriptor -1", BOTH("EBADF"), negative_descriptor },
    { "a file", BOTH("ENOTSOCK"), a_file },
    { "not connected", BOTH("ENOTCONN"), not_connected },
    { "nothing there", BOTH("EAGAIN"), nothing_there },
    { "timeout", BOTH("EAGAIN"), nothing_comes },
    { "interrupted", BOTH("EINTR"), interrupted },
    { "empty datagram", BOTH("0"), empty_datagram },
};

int main(int count, char **arguments)
{
    memcpy(other, reply, sizeof reply);
    memcpy(other + 12, "\5other\6xample", 13);
    memcpy(question, reply, sizeof reply);
    question[2] = 1;
    if (new_network() != 0)
        fail("network namespace");
    alarm(60);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* Each is the first of its process. */
        int status;
        if (count == 2 && strcmp(cases[i].tried, arguments[1]) != 0)
            continue;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            cases[i].run();
            printf("%s\t%s\t%s\t%s\n", cases[i].tried, cases[i].wanted, cases[i].listed, seen);
            exit(0);
        }
        waitpid(child, &status, 0);
        if (status != 0)
            printf("%s\t%s\t%s\tstatus %d\n", cases[i].tried, cases[i].wanted, cases[i].listed, status);
    }
    return 0;
}
