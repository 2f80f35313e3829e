/* What the programs share: errors, sockets on loopback, keepalive in words, lookups in words, what a process has. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static inline void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    _exit(2);
}

/* The name of an errno. */
static inline const char *error_name(int error)
{
#define NAMED(name) \
    {               \
        name, #name \
    }
    static const struct {
        int error;
        const char *name;
    } known[] = {
        NAMED(EBADF),        NAMED(ENOTSOCK),    NAMED(EFAULT),       NAMED(EINVAL),       NAMED(EAFNOSUPPORT),
        NAMED(ECONNREFUSED), NAMED(ENETUNREACH), NAMED(EHOSTUNREACH), NAMED(ETIMEDOUT),    NAMED(EINPROGRESS),
        NAMED(EALREADY),     NAMED(EISCONN),     NAMED(EINTR),        NAMED(EACCES),       NAMED(EADDRNOTAVAIL),
        NAMED(EPERM),        NAMED(ENOENT),      NAMED(EPROTOTYPE),   NAMED(ENOTDIR),      NAMED(EAGAIN),
        NAMED(EOPNOTSUPP),   NAMED(EMFILE),      NAMED(ENOTCONN),     NAMED(EDESTADDRREQ), NAMED(EADDRINUSE),
        NAMED(ECONNRESET),   NAMED(ENXIO),       NAMED(ELOOP),        NAMED(EMSGSIZE),
    };
#undef NAMED
    static char number[32];

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].error == error)
            return known[i].name;
    snprintf(number, sizeof number, "errno %d", error);
    return number;
}

/* The socket of the latest loopback(). */
static int bound;

/* An address of this host that nobody listens on, or with a listener that one does. */
static inline struct sockaddr_in loopback(int *listener)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0)
        fail("bind");
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        fail("getsockname");
    bound = fd;
    /* Bound but not listening: nobody else gets the port, and a connection to it is refused. */
    if (listener != NULL) {
        *listener = fd;
        if (listen(fd, 1024) != 0)
            fail("listen");
    }
    return address;
}

/* Whether keepalive is on, 0 or 1. */
static inline int keepalive_of(int fd)
{
    int on = -1;
    socklen_t length = sizeof on;

    if (getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &length) != 0)
        return -1;
    return on != 0;
}

/*
 * Connects to an address without a listener. Returns whether the socket then has keepalive, or -1 when
 * anything is not as it should be. Async-signal-safe.
 */
static inline int refused(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = -1;

    if (fd < 0)
        return -1;
    errno = 0;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == -1 && errno == ECONNREFUSED)
        on = keepalive_of(fd);
    close(fd);
    return on;
}

/* Says how keepalive is set on a socket: "off" or "on 60/60/5". */
static inline const char *keepalive_text(int fd)
{
    static __thread char text[64];
    int idle = -1, interval = -1, count = -1;
    socklen_t length = sizeof idle;

    getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &length);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, &length);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, &length);
    if (keepalive_of(fd) != 1)
        return "off";
    snprintf(text, sizeof text, "on %d/%d/%d", idle, interval, count);
    return text;
}

/* Connects to an address without a listener and says how keepalive is set then, or what is wrong. */
static inline const char *refused_text(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    const char *text;

    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0)
        return "NOT REFUSED";
    if (errno != ECONNREFUSED)
        return strerror(errno);
    text = keepalive_text(fd);
    close(fd);
    return text;
}

/* The name of a status of getaddrinfo. */
static inline const char *status_name(int status)
{
    /* The numbers are the same in all Linux libcs; the names are not in all their headers. */
    static const char *const names[] = { "ok",         "EAI_BADFLAGS", "EAI_NONAME",   "EAI_AGAIN",   "EAI_FAIL",
                                         "EAI_NODATA", "EAI_FAMILY",   "EAI_SOCKTYPE", "EAI_SERVICE", "EAI_ADDRFAMILY",
                                         "EAI_MEMORY", "EAI_SYSTEM",   "EAI_OVERFLOW" };
    static char other[32];

    if (status <= 0 && -status < (int)(sizeof names / sizeof *names))
        return names[-status];
    snprintf(other, sizeof other, "status %d", status);
    return other;
}

/* Looks a name up and says of what families the results are: "4", "6", "46", or the error. */
static inline const char *families_of(const char *node, int family, int flags)
{
    struct addrinfo hints = { .ai_family = family, .ai_flags = flags, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL, *entry;
    int status = getaddrinfo(node, "80", &hints, &list), four = 0, six = 0;

    if (status != 0)
        return gai_strerror(status);
    for (entry = list; entry != NULL; entry = entry->ai_next) {
        four |= entry->ai_family == AF_INET;
        six |= entry->ai_family == AF_INET6;
    }
    freeaddrinfo(list);
    return four && six ? "46" : four ? "4" : six ? "6" : "none";
}

/* A figure of this process in KiB, by its name in /proc/self/status: VmRSS, VmData. */
static inline long kibibytes(const char *name)
{
    FILE *file = fopen("/proc/self/status", "re");
    size_t length = strlen(name);
    char line[256];
    long value = -1;

    if (file == NULL)
        fail("/proc/self/status");
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            value = atol(line + length + 1);
    fclose(file);
    return value;
}

/* How many descriptors are open, without the one that reads the directory. */
static inline int descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = -1;

    if (directory == NULL)
        fail("/proc/self/fd");
    while ((entry = readdir(directory)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}
