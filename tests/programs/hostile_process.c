/* A process that is hard to look at: hostile_process environment|descriptors COUNT
 *
 * environment: points its environment at COUNT bytes of memory. descriptors: opens COUNT of them, or as many as it
 * may. Prints "ready". */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* PR_SET_MM_MAP takes all addresses at once, and needs no privilege: proc(5), /proc/PID/stat, has most of them. */
static void point_environment_at(char *memory, unsigned long size)
{
    unsigned long field[53] = { 0 };
    char line[4096];
    FILE *stat = fopen("/proc/self/stat", "r");
    if (!stat || !fgets(line, sizeof line, stat))
        err(2, "/proc/self/stat");
    char *next = strrchr(line, ')') + 2;
    for (int i = 3; i < 53 && next; i++) {
        char *word = strsep(&next, " ");
        field[i] = strtoul(word, NULL, 10);
    }
    struct prctl_mm_map map = {
        .start_code = field[26],
        .end_code = field[27],
        .start_stack = field[28],
        .start_data = field[45],
        .end_data = field[46],
        .start_brk = field[47],
        .brk = (unsigned long)sbrk(0),
        .arg_start = field[48],
        .arg_end = field[49],
        .env_start = (unsigned long)memory,
        .env_end = (unsigned long)memory + size,
        .exe_fd = -1,
    };
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0))
        err(2, "PR_SET_MM_MAP");
}

int main(int count, char **words)
{
    if (count < 3)
        errx(2, "usage: hostile_process environment|descriptors COUNT");
    unsigned long size = strtoul(words[2], NULL, 10);
    if (strcmp(words[1], "environment") == 0) {
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            err(2, "mmap");
        strcpy(memory, "PATH=/bin");
        point_environment_at(memory, size - 1);
    } else {
        struct rlimit limit = { size, size };
        if (setrlimit(RLIMIT_NOFILE, &limit)) {
            /* Only the privileged may have more than the hard limit. */
            if (getrlimit(RLIMIT_NOFILE, &limit))
                err(2, "RLIMIT_NOFILE");
            limit.rlim_cur = limit.rlim_max;
            if (setrlimit(RLIMIT_NOFILE, &limit))
                err(2, "RLIMIT_NOFILE");
        }
        while (dup(0) != -1)
            ;
    }
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
