/*
 * The plainest client in C: plain HOST PATH prints the answer. It tries one address after the other. With URING it
 * makes its connections by io_uring.
 */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef URING
#include <liburing.h>

static struct io_uring ring;

static int wait_for(void)
{
    struct io_uring_cqe *done;
    int result;

    io_uring_submit(&ring);
    if (io_uring_wait_cqe(&ring, &done) != 0)
        return -1;
    result = done->res;
    io_uring_cqe_seen(&ring, done);
    if (result < 0)
        fprintf(stderr, "%s\n", strerror(-result));
    return result;
}

static int do_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    io_uring_prep_connect(io_uring_get_sqe(&ring), fd, address, length);
    return wait_for();
}

static ssize_t do_send(int fd, const void *bytes, size_t length)
{
    io_uring_prep_send(io_uring_get_sqe(&ring), fd, bytes, length, 0);
    return wait_for();
}

static ssize_t do_receive(int fd, void *bytes, size_t length)
{
    io_uring_prep_recv(io_uring_get_sqe(&ring), fd, bytes, length, 0);
    return wait_for();
}
#else
static int do_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    int status = connect(fd, address, length);

    if (status != 0)
        perror("connect");
    return status;
}

static ssize_t do_send(int fd, const void *bytes, size_t length) { return send(fd, bytes, length, MSG_NOSIGNAL); }

static ssize_t do_receive(int fd, void *bytes, size_t length)
{
    ssize_t received = recv(fd, bytes, length, 0);

    if (received < 0)
        perror("recv");
    return received;
}
#endif

int main(int count, char **words)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
    char bytes[4096];
    ssize_t length;

    if (count != 3 || getaddrinfo(words[1], "80", &hints, &found) != 0)
        return 2;
#ifdef URING
    if (io_uring_queue_init(8, &ring, 0) != 0)
        return 3;
#endif
    for (; found != NULL; found = found->ai_next) {
        int fd = socket(found->ai_family, SOCK_STREAM, 0);

        if (do_connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
            close(fd);
            continue;
        }
        snprintf(bytes, sizeof bytes, "GET %s HTTP/1.0\r\n\r\n", words[2]);
        if (do_send(fd, bytes, strlen(bytes)) < 0)
            return 1;
        while ((length = do_receive(fd, bytes, sizeof bytes)) > 0)
            if (write(1, bytes, (size_t)length) != length)
                return 1;
        return length < 0;
    }
    return 1;
}
