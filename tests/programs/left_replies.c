/*
 * Leaves COUNT times in the middle of recvmsg, by siglongjmp out of a signal handler at a random moment: left_replies COUNT
 *
 * What is received is a reply of 50 KB to AAAA for dual.example.com, in two parts. Prints whether the process's memory has
 * grown, which signals are blocked, and how long a reply is that is then received in peace.
 */
#include "guest.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

enum { RECORDS = 1800 };

static const char start[] = "\x12\x34\x81\x80\0\1\0\0\0\0\0\0\4dual\7example\3com\0\0\34\0\1";
static const char record[] = "\300\14\0\34\0\1\0\0\0\74\0\20 \1\15\270\0\0\0\0\0\0\0\0\0\0\0\1";
static char reply[sizeof start - 1 + RECORDS * (sizeof record - 1)];

static struct sockaddr_in own = { .sin_family = AF_INET };
static int fd;
static sigjmp_buf out;

static void handler(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

static void make_reply(void)
{
    memcpy(reply, start, sizeof start - 1);
    reply[6] = (char)(RECORDS >> 8);
    reply[7] = (char)(RECORDS & 0xff);
    for (size_t i = 0; i < RECORDS; i++)
        memcpy(reply + sizeof start - 1 + i * (sizeof record - 1), record, sizeof record - 1);
}

static ssize_t receive(void)
{
    static char first[20], rest[sizeof reply];
    struct iovec parts[] = { { first, sizeof first }, { rest, sizeof rest } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

    sendto(fd, reply, sizeof reply, MSG_DONTWAIT, (struct sockaddr *)&own, sizeof own);
    return recvmsg(fd, &message, MSG_DONTWAIT);
}

static void leave(void)
{
    struct itimerval soon = { { 0, 0 }, { 0, 1 + rand() % 400 } };

    /* The mask is not restored: what is left blocked stays so. */
    if (sigsetjmp(out, 0) != 0)
        return;
    setitimer(ITIMER_REAL, &soon, NULL);
    for (;;)
        receive();
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_NODEFER };
    socklen_t length = sizeof own;
    char nothing[1];
    sigset_t blocked;
    ssize_t seen;
    long memory;

    if (argc != 2)
        return 2;
    make_reply();
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &length) != 0)
        fail("a socket");
    sigaction(SIGALRM, &action, NULL);
    receive();
    memory = kibibytes("VmData");
    for (int i = atoi(argv[1]); i > 0; i--)
        leave();
    memory = kibibytes("VmData") - memory;
    while (recv(fd, nothing, sizeof nothing, MSG_DONTWAIT) >= 0)
        ;
    seen = receive();
    printf("memory %s, blocked:", memory < 2000 ? "stays" : "grows");
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int signal = 1; signal < 32; signal++)
        if (sigismember(&blocked, signal))
            printf(" %d", signal);
    printf("; received %zd\n", seen);
    return 0;
}
