// Prints this process's own memory once everything is loaded: "RSS PRIVATE_DIRTY" in KiB.
#include <stdio.h>

int main(void)
{
    char line[256];
    long value, rss = 0, dirty = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (!file)
        return 1;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "Rss: %ld", &value) == 1)
            rss = value;
        if (sscanf(line, "Private_Dirty: %ld", &value) == 1)
            dirty = value;
    }
    printf("%ld %ld\n", rss, dirty);
    return 0;
}
