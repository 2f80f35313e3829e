/*
 * Runs a program for which a system call gives an error: refuse CALL ERROR PROGRAM [ARGUMENT]..., both as numbers.
 */
#include "confine.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    if (filter(atol(argv[1]), FILTER_ANY, FILTER_ERRNO((uint32_t)atoi(argv[2]))) != 0) {
        perror("seccomp");
        return 99;
    }
    execv(argv[3], argv + 3);
    perror(argv[3]);
    return 99;
}
