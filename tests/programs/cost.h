/* What the programs share that say what a call costs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* In nanoseconds. */
static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;

    return (difference > 0) - (difference < 0);
}

static void print_median(double *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, ascending);
    printf("%.0f\n", times[count / 2]);
}
