/*
 * How much stack connect takes: stack thread|signal MORE [new|own]
 *
 * thread: on a thread with the smallest stack (PTHREAD_STACK_MIN). signal: in a handler on the smallest
 * alternate stack (MINSIGSTKSZ; the kernel says how much that is). MORE bytes come on top of it. Below the stack
 * is a page that kills. own: the program has switched keepalive on and set an idle time. Prints how many bytes connect took.
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

static unsigned char *make_stack(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    unsigned char *memory = mmap(NULL, page + whole, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

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

/* Connects, and notes how far below this frame the stack is not painted any more. */
static __attribute__((noinline)) void measure(void)
{
    unsigned char *frame = __builtin_frame_address(0), *at = lowest;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (own)
        set_own(fd);
    connect(fd, (struct sockaddr *)&port, sizeof port);
    keepalive = keepalive_of(fd);
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
    port = loopback(NULL);
    refused(&port); /* the lazy binding of this program's own calls is done */
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
    printf("keepalive %s, %ld bytes\n", keepalive == 1 ? "on" : "off", taken);
    return 0;
}
