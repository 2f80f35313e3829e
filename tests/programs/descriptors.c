/*
 * A program that closes descriptors and gets their numbers again for its data:
 *
 *     descriptors reuse FILE          closes 2 (unless it is closed already), opens FILE, which gets 2
 *     descriptors unlinked OLD FILE   as above, but first unlinks OLD, which is its standard error: on some
 *                                     file systems FILE then gets the inode number of OLD as well
 *     descriptors daemon FILE         closes all descriptors and opens FILE as each of the first 300
 *     descriptors log FILE            says which descriptor the log FILE has
 *
 * and connects, first of all and before and after it writes "data" to FILE.
 */
#include "guest.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct sockaddr_in port;

static int open_data(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

    if (fd < 0)
        fail(path);
    return fd;
}

static void write_data(int fd)
{
    for (int i = 0; i < 3; i++) {
        const char *text = refused_text(&port);

        dprintf(fd, "data, keepalive %s\n", text);
        refused_text(&port);
    }
}

static int reuse(const char *path)
{
    int fd;

    refused_text(&port);
    close(STDERR_FILENO);
    fd = open_data(path);
    if (fd != STDERR_FILENO) {
        printf("%s is not 2 but %d\n", path, fd);
        return 2;
    }
    write_data(fd);
    return 0;
}

static int unlinked(const char *old, const char *path)
{
    struct stat before, after;
    char other[4096];
    int fd;

    if (fstat(STDERR_FILENO, &before) != 0 || unlink(old) != 0)
        fail(old);
    close(STDERR_FILENO);
    for (int i = 0; i < 200; i++) {
        fd = open_data(path);
        fstat(fd, &after);
        if (after.st_ino == before.st_ino) {
            printf("same number\n");
            fflush(stdout);
            if (fd != STDERR_FILENO)
                return 2;
            write_data(fd);
            return 0;
        }
        /* Some other process got it, or the file system counts up: try another file. */
        close(fd);
        snprintf(other, sizeof other, "%s.%d", path, i);
        rename(path, other);
    }
    printf("other number\n");
    return 0;
}

static int turn_daemon(const char *path)
{
    int fd;

    refused_text(&port);
    /* All but the socket that keeps the port. */
    dup2(bound, 1000);
    for (fd = 0; fd < 1000; fd++)
        close(fd);
    fd = open_data(path);
    while (dup(fd) < 300)
        ;
    write_data(fd);
    return 0;
}

static int log_descriptor(const char *path)
{
    struct stat wanted, seen;
    struct rlimit limit;
    int lowest = dup(STDIN_FILENO), free_ones = 0;

    if (stat(path, &wanted) != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail(path);
    printf("first own %d\n", lowest);
    close(lowest);
    for (int fd = 0; fd < 1024; fd++)
        if (fstat(fd, &seen) == 0 && seen.st_ino == wanted.st_ino && seen.st_dev == wanted.st_dev)
            printf("log %s %s\n",
                   fd >= 100                       ? "high"
                   : fd == (int)limit.rlim_cur - 1 ? "last"
                                                   : "LOW",
                   fcntl(fd, F_GETFD) & FD_CLOEXEC ? "close-on-exec" : "KEPT OVER EXEC");
    printf("keepalive %s\n", refused_text(&port));
    for (int fd; (fd = dup(STDIN_FILENO)) >= 0 && free_ones < 50;)
        free_ones++;
    printf("%d more\n", free_ones);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc >= 3 ? argv[1] : "";

    port = loopback(NULL);
    if (bound <= STDERR_FILENO) { /* 2 was closed at the start: let the data file have it */
        dup2(bound, 1000);
        close(bound);
    }
    if (strcmp(what, "reuse") == 0)
        return reuse(argv[2]);
    if (strcmp(what, "unlinked") == 0 && argc == 4)
        return unlinked(argv[2], argv[3]);
    if (strcmp(what, "daemon") == 0)
        return turn_daemon(argv[2]);
    if (strcmp(what, "log") == 0)
        return log_descriptor(argv[2]);
    return 2;
}
