/*
 * Runs a program for which pwritev2(2) gives an error, which is a number: refuse ERROR PROGRAM [ARGUMENT]...
 */
#include "confine.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    if (filter(SYS_pwritev2, FILTER_ANY, FILTER_ERRNO((uint32_t)atoi(argv[1]))) != 0) {
        perror("seccomp");
        return 99;
    }
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 99;
}
