/* A program that resolves and connects, for linkings under which nothing can be preloaded. */
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), on = -1;
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *list = NULL;

    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        return 1;
    length = sizeof on;
    printf("connect %d", connect(client, (struct sockaddr *)&address, sizeof address));
    printf(" keepalive %d %d", getsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &on, &length), on);
    printf(" getaddrinfo %d", getaddrinfo("::1", "80", &hints, &list));
    printf(" family %d %s", list ? list->ai_family : -1, getenv("FOREIGN"));
    for (int i = 1; i < argc; i++)
        printf(" %s", argv[i]);
    printf("\n");
    fprintf(stderr, "an error\n");
    return 7;
}
