/*
 * How much stack a call takes: stack thread|signal MORE [new|own|reply|message|off]
 *
 * thread: on a thread with the smallest stack (PTHREAD_STACK_MIN). signal: in a handler on the smallest
 * alternate stack (MINSIGSTKSZ; the kernel says how much that is). MORE bytes come on top of it. Below the stack
 * is a page that kills. The call is connect (new), or connect after the program has switched keepalive on and set an idle
 * time (own), or recv of a reply to AAAA for dual.example.com (reply), or the first recvmsg of all (message), or setsockopt
 * that switches keepalive off on a connection (off). Prints what became of it and how many bytes the call took.
 */
#include "guest.h"
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
enum { PAINT = 0xA5 };

static struct sockaddr_in port;
static unsigned char *lowest; /* of the stack in use */
static long taken;
static int keepalive, own;
static int receiver = -1; /* has a reply, if that is what is measured */
static ssize_t received;
static struct msghdr message;
static int is_message;
/* Bound when the program starts, and not by its first call. */
static ssize_t (*volatile receive_message)(int, struct msghdr *, int) = recvmsg;
static int connection = -1; /* on which keepalive is switched off, if that is what is measured */

static unsigned char *make_stack(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    unsigned char *memory = mmap(NULL, page + whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0)
        fail("mmap");
    memset(memory + page, PAINT, whole);
    return memory + page;
}

static void set_own(int fd)
{
    int on = 1, idle = 30;

    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) != 0)
        fail("setsockopt");
}

static char reply[] = "\x12\x34\x81\x80\0\1\0\1\0\0\0\0\4dual\7example\3com\0\0\34\0\1"
                      "\300\14\0\34\0\1\0\0\0\74\0\20 \1\15\270\0\0\0\0\0\0\0\0\0\0\0\1";

/* A socket that a reply has been sent to. */
static int with_reply(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
        sendto(fd, reply, sizeof reply - 1, 0, (struct sockaddr *)&address, length) < 0)
        fail("a reply");
    return fd;
}

static int idle_time_of(int fd)
{
    int idle = -1;
    socklen_t length = sizeof idle;

    getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &length);
    return idle;
}

/* A connection within this machine. */
static int connected(void)
{
    int listener, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(&listener);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    return fd;
}

/* Makes the call, and notes how far below this frame the stack is not painted any more. */
static __attribute__((noinline)) void measure(void)
{
    unsigned char *frame = __builtin_frame_address(0), *at = lowest;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), no = 0;

    if (own)
        set_own(fd);
    if (connection >= 0) {
        setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &no, sizeof no);
    } else if (is_message) {
        received = receive_message(receiver, &message, MSG_DONTWAIT);
    } else if (receiver >= 0) {
        received = recv(receiver, reply, sizeof reply, 0);
    } else {
        connect(fd, (struct sockaddr *)&port, sizeof port);
        keepalive = keepalive_of(fd);
    }
    while (*at == PAINT)
        at++;
    taken = frame - at;
}

/* Paints what is below this frame: a start of the thread or the signal may have used it. */
static __attribute__((noinline)) void paint(void)
{
    volatile unsigned char *frame = __builtin_frame_address(0), *at = lowest;

    while (at < frame - 256)
        *at++ = PAINT;
}

static void *thread(void *argument)
{
    paint();
    measure();
    return argument;
}

static void handler(int signal)
{
    (void)signal;
    paint();
    measure();
}

int main(int argc, char **argv)
{
    size_t more = argc > 2 ? (size_t)atoi(argv[2]) : 0;

    own = argc > 3 && strcmp(argv[3], "own") == 0;
    if (argc > 3 && strcmp(argv[3], "reply") == 0)
        receiver = with_reply();
    if (argc > 3 && strcmp(argv[3], "message") == 0) {
        receiver = socket(AF_INET, SOCK_DGRAM, 0);
        is_message = 1;
    }
    if (argc > 3 && strcmp(argv[3], "off") == 0)
        connection = connected();
    port = loopback(NULL);
    /* The lazy binding of this program's own calls is done. */
    refused(&port);
    recv(bound, reply, 0, MSG_DONTWAIT);
    set_own(bound);
    if (argc >= 2 && strcmp(argv[1], "thread") == 0) {
        long least = sysconf(_SC_THREAD_STACK_MIN);
        size_t size = (size_t)(least > PTHREAD_STACK_MIN ? least : PTHREAD_STACK_MIN) + more;
        pthread_attr_t attributes;
        pthread_t id;

        lowest = make_stack(size);
        pthread_attr_init(&attributes);
        if (pthread_attr_setstack(&attributes, lowest, size) != 0)
            fail("pthread_attr_setstack");
        if (pthread_create(&id, &attributes, thread, NULL) != 0)
            fail("pthread_create");
        pthread_join(id, NULL);
    } else {
        size_t least = getauxval(AT_MINSIGSTKSZ);
        struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
        size_t size;
        stack_t stack = { .ss_flags = 0 };

        size = (least > 2048 ? least : 2048) + more;
        lowest = make_stack(size);
        /* Right above the page that kills. */
        stack.ss_sp = lowest;
        stack.ss_size = size;
        if (sigaltstack(&stack, NULL) != 0)
            fail("sigaltstack");
        sigaction(SIGUSR1, &action, NULL);
        raise(SIGUSR1);
    }
    if (connection >= 0)
        printf("idle time %d, %ld bytes\n", idle_time_of(connection), taken);
    else if (receiver >= 0)
        printf("received %zd, %ld bytes\n", received, taken);
    else
        printf("keepalive %s, %ld bytes\n", keepalive == 1 ? "on" : "off", taken);
    return 0;
}
