/*
 * Says how many bits it has and how keepalive is set on a connection that it makes, and becomes the program of its
 * arguments, if there are any.
 */
#include "guest.h"

int main(int argc, char **argv)
{
    struct sockaddr_in port = loopback(NULL);

    printf("%zu bits, keepalive %s\n", 8 * sizeof(long), refused_text(&port));
    fflush(stdout);
    if (argc > 1)
        execv(argv[1], argv + 1);
    return argc > 1;
}
