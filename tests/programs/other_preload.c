/* Another preloaded library: it gives every TCP socket an idle time of its own, as libkeepalive does. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int socket(int family, int type, int protocol)
{
    int made = syscall(SYS_socket, family, type, protocol);
    int idle = 30;
    setsockopt(made, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    return made;
}
