/*
 * Runs a program for which a system call, pwritev2 or ptrace, gives an error, which is a number:
 * refuse CALL ERROR PROGRAM [ARGUMENT]...
 *
 * sockets is each of the calls about sockets that the library makes. socketcall(2) is left.
 */
#include "confine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    static const long sockets[] = { SYS_socket, SYS_getsockopt, SYS_setsockopt, SYS_sendto };
    uint32_t action = FILTER_ERRNO((uint32_t)atoi(argv[2]));
    int status = 0;

    if (strcmp(argv[1], "sockets") == 0) {
        for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++)
            status |= filter_number(sockets[i], FILTER_ANY, action);
    } else {
        status = filter(strcmp(argv[1], "ptrace") == 0 ? SYS_ptrace : SYS_pwritev2, FILTER_ANY, action);
    }
    if (status != 0) {
        perror("seccomp");
        return 99;
    }
    execv(argv[3], argv + 3);
    perror(argv[3]);
    return 99;
}
