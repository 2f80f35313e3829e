/*
 * Does what its arguments say, in their order. Each action that asks something prints a line at
 * once, so that what was done before something ended the program can be told.
 *
 *     say TEXT         prints the text
 *     look NAME        prints which family getaddrinfo was asked for: "NAME IPv4" or "NAME any"
 *                      (tests/programs/next_getaddrinfo.c behind the library says so)
 *     time NAME COUNT  prints what the first lookup costs and one of COUNT more, in nanoseconds
 *                      of this process: others may keep the machine busy
 *     connect          prints keepalive and the timings of a socket after connect
 *     cd DIRECTORY, remove FILE
 *     exit STATUS
 *     run ENTRY... -- ACTION...    starts itself anew with exactly these environment entries
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(99);
}

static int look(const char *name)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list;
    int status = getaddrinfo(name, "80", &hints, &list);

    if (status == 0)
        freeaddrinfo(list);
    return status;
}

static const char *answer(int status)
{
    static char other[32];

    switch (status) {
    case 1000 + AF_INET:
        return "IPv4";
    case 1000 + AF_UNSPEC:
        return "any";
    }
    snprintf(other, sizeof other, "status %d", status);
    return other;
}

static long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void measure(const char *name, int count)
{
    long long start = now();
    look(name);
    long long first = now();
    for (int i = 0; i < count; i++)
        look(name);
    printf("%lld %lld\n", first - start, (now() - first) / count);
}

static int option(int socket, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;

    if (getsockopt(socket, level, name, &value, &length) != 0)
        fail("getsockopt");
    return value;
}

/* Whether somebody listens does not matter: the options are set before the connect. */
static void connect_and_show(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(1) };
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (tcp < 0)
        fail("socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)!connect(tcp, (struct sockaddr *)&address, sizeof address);
    if (option(tcp, SOL_SOCKET, SO_KEEPALIVE))
        printf("idle=%d,interval=%d,count=%d\n", option(tcp, IPPROTO_TCP, TCP_KEEPIDLE),
               option(tcp, IPPROTO_TCP, TCP_KEEPINTVL), option(tcp, IPPROTO_TCP, TCP_KEEPCNT));
    else
        printf("off\n");
    close(tcp);
}

static void run(char **arguments, char *program)
{
    char **entries = arguments;

    while (*arguments && strcmp(*arguments, "--") != 0)
        arguments++;
    if (!*arguments)
        fail("run without --");
    /* The array of entries ends where the arguments begin, whose first is the program's name. */
    *arguments = NULL;
    char **copy = calloc(arguments - entries + 1, sizeof *copy);
    memcpy(copy, entries, (arguments - entries) * sizeof *copy);
    *arguments = program;
    execve(program, arguments, copy);
    fail("execve");
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < count; i++) {
        const char *action = arguments[i];
        char *what = arguments[i + 1];

        if (strcmp(action, "connect") == 0) {
            connect_and_show();
            continue;
        }
        if (!what)
            fail(action);
        i++;
        if (strcmp(action, "say") == 0)
            puts(what);
        else if (strcmp(action, "look") == 0)
            printf("%s %s\n", what, answer(look(what)));
        else if (strcmp(action, "time") == 0 && i + 1 < count)
            measure(what, atoi(arguments[++i]));
        else if (strcmp(action, "cd") == 0) {
            if (chdir(what) != 0)
                fail(what);
        } else if (strcmp(action, "remove") == 0) {
            if (unlink(what) != 0)
                fail(what);
        } else if (strcmp(action, "exit") == 0)
            exit(atoi(what));
        else if (strcmp(action, "run") == 0)
            run(arguments + i, arguments[0]);
        else
            fail(action);
    }
    return 0;
}
