/*
 * Runs a program for which a system call, pwritev2 or ptrace, gives an error, which is a number:
 * refuse CALL ERROR PROGRAM [ARGUMENT]...
 */
#include "confine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    long call = strcmp(argv[1], "ptrace") == 0 ? SYS_ptrace : SYS_pwritev2;
    if (filter(call, FILTER_ANY, FILTER_ERRNO((uint32_t)atoi(argv[2]))) != 0) {
        perror("seccomp");
        return 99;
    }
    execv(argv[3], argv + 3);
    perror(argv[3]);
    return 99;
}
