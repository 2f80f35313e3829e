/*
 * Connects and says how keepalive is set then, and looks up each name that is an argument. The whole of a
 * program that has nothing else to do with the library.
 */
#include "guest.h"

int main(int argc, char **argv)
{
    struct sockaddr_in port = loopback(NULL);

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("keepalive %s\n", refused_text(&port));
    for (int i = 1; i < argc; i++)
        printf("%s %s\n", argv[i], families_of(argv[i], AF_UNSPEC, 0));
    return 0;
}
