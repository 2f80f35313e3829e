/*
 * A list file that changes under threads that look up:
 *
 *     changes DIRECTORY COUNT BOTH NEVER
 *
 * Changes the file `list` in DIRECTORY COUNT times, in five ways in turn, a hundred at a time and then two seconds and
 * a half of rest, so that each hundredth is looked at. Meanwhile 64 threads look up BOTH, which every whole list has, and
 * NEVER, which none has, and children are forked that do the same. Prints how often who was told what, and how the
 * memory has grown; exit status 1 if a list was ever seen that is neither the old nor the new one, or if the memory has
 * grown.
 */
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { THREADS = 64, BURST = 100, HOSTS = 2000, WAYS = 5, MOST_KIB = 20000 };

static const char *both, *never;
static atomic_long lookups, wrong;
static atomic_int done;

/* Whether the name has no IPv6 address: it is listed. */
static int is_listed(const char *name) { return strcmp(families_of(name, AF_UNSPEC, 0), "4") == 0; }

static void look_up(void)
{
    wrong += !is_listed(both) + is_listed(never);
    lookups += 2;
}

static void *look_up_often(void *argument)
{
    /* Not all of the machine: the file is to change as well. */
    while (!done) {
        for (int i = 0; i < 100; i++)
            look_up();
        usleep(2000);
    }
    return argument;
}

static void check(int status, const char *what)
{
    if (status != 0)
        fail(what);
}

/* A list of its own for each number. BOTH is its last word, and comes late where the file is written slowly. */
static void write_list(const char *path, int number, const char *last, int is_slow)
{
    FILE *file = fopen(path, "we");

    if (file == NULL)
        fail(path);
    for (int i = 0; i < HOSTS; i++) {
        fprintf(file, "host-%d-%d.example.net\n", number, i);
        if (is_slow && i % (HOSTS / 4) == 0) {
            fflush(file);
            usleep(1000);
        }
    }
    fprintf(file, "%s\n", last);
    check(fclose(file), path);
}

/* As the kubelet does with a ConfigMap: the file leads into a directory that is a link, and the link is swapped. */
static void swap_link(int number)
{
    static char old[32], old_list[64];
    char directory[32], list[64];

    snprintf(directory, sizeof directory, "data-%d", number);
    snprintf(list, sizeof list, "%s/list", directory);
    check(mkdir(directory, 0755), directory);
    write_list(list, number, both, 0);
    check(symlink(directory, "new"), directory);
    check(rename("new", "data"), directory);
    check(symlink("data/list", "new"), directory);
    check(rename("new", "list"), directory);
    if (old[0] != 0) {
        check(unlink(old_list), old_list);
        check(rmdir(old), old);
    }
    memcpy(old, directory, sizeof old);
    memcpy(old_list, list, sizeof old_list);
}

static void change(int number, int way)
{
    enum { REPLACED, SWAPPED, REWRITTEN, GONE, INVALID };

    switch (way) {
    case SWAPPED: swap_link(number); return;
    case REWRITTEN: write_list("list", number, both, 1); return;
    case GONE: check(unlink("list"), "unlink"); return;
    default: write_list("new", number, way == INVALID ? "not/a/host" : both, 0);
    }
    check(rename("new", "list"), "rename");
}

static void fork_and_look(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        wrong = 0;
        alarm(60);
        look_up();
        _exit(wrong != 0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        wrong++;
}

int main(int count, char **arguments)
{
    pthread_t threads[THREADS];
    long before = 0, after;

    if (count != 5)
        return 2;
    check(chdir(arguments[1]), arguments[1]);
    both = arguments[3];
    never = arguments[4];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, look_up_often, NULL) != 0)
            fail("pthread_create");
    for (int i = 1; i <= atoi(arguments[2]); i++) {
        change(i, (i + i / BURST) % WAYS);
        usleep(1000);
        if (i % BURST != 0)
            continue;
        usleep(2500000);
        fork_and_look();
        if (i == 3 * BURST)
            before = kibibytes("VmRSS");
    }
    done = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    after = kibibytes("VmRSS");
    printf("%s changes under %ld lookups: %ld wrong, %ld KiB more\n", arguments[2], (long)lookups, (long)wrong,
           before ? after - before : 0);
    return wrong != 0 || (before != 0 && after - before > MOST_KIB);
}
