/* What glibc makes of recv in a program that is built with _FORTIFY_SOURCE, if libc has it. */
#include "guest.h"

ssize_t __recv_chk(int, void *, size_t, size_t, int) __attribute__((weak));
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *) __attribute__((weak));

int main(void)
{
    int ends[2];
    char bytes[9];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || send(ends[0], "hello", 5, 0) != 5)
        fail("socketpair");
    if (__recv_chk == NULL)
        printf("no __recv_chk: recv %zd\n", recv(ends[1], bytes, 2, 0));
    else
        printf("__recv_chk %zd\n", __recv_chk(ends[1], bytes, 2, sizeof bytes, 0));
    if (__recvfrom_chk == NULL)
        printf("no __recvfrom_chk: recvfrom %zd\n", recvfrom(ends[1], bytes, 3, 0, NULL, NULL));
    else
        printf("__recvfrom_chk %zd\n", __recvfrom_chk(ends[1], bytes, 3, sizeof bytes, 0, NULL, NULL));
    return 0;
}
