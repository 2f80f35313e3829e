/*
 * For i386, with -mstack-alignment=4: connects and looks dual.example.com up, with the stack at each of the four places
 * between two multiples of 16. Prints a line for each: keepalive, and the IP versions of the addresses.
 */
#include "guest.h"

static void connect_and_look(void)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    struct sockaddr_in port = loopback(NULL);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    connect(fd, (struct sockaddr *)&port, sizeof port);
    printf("keepalive %d:", keepalive_of(fd));
    close(fd);
    if (getaddrinfo("dual.example.com", "80", &hints, &list) != 0)
        fail("getaddrinfo");
    for (struct addrinfo *node = list; node; node = node->ai_next)
        printf(" %d", node->ai_family == AF_INET6 ? 6 : 4);
    freeaddrinfo(list);
    puts("");
}

int main(void)
{
    for (int offset = 0; offset < 16; offset += 4)
        __asm__ volatile("movl %%esp, %%ebx\n\t"
                         "andl $-16, %%esp\n\t"
                         "subl %0, %%esp\n\t"
                         "call *%1\n\t"
                         "movl %%ebx, %%esp"
                         :
                         : "S"(offset), "D"(connect_and_look)
                         : "eax", "ebx", "ecx", "edx", "memory", "cc");
    return 0;
}
