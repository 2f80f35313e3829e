/*
 * A list file that changes under threads that look up:
 *
 *     changes FILE COUNT BOTH NEVER
 *
 * Puts a new file in FILE's place COUNT times, a hundred at a time and then a second and a half of rest, so that each
 * hundredth is loaded. Meanwhile 64 threads look up BOTH, which every list has, and NEVER, which none has, and children
 * are forked that do the same. Prints how often who was told what, and how the memory has grown; exit status 1 if a
 * list was ever seen that is neither the old nor the new one, or if the memory has grown.
 */
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 64, BURST = 100, HOSTS = 2000, MOST_KIB = 20000 };

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

static void change(const char *path, int number)
{
    char new[4096];
    FILE *file;

    snprintf(new, sizeof new, "%s.new", path);
    file = fopen(new, "we");
    if (file == NULL)
        fail(new);
    for (int i = 0; i < HOSTS; i++)
        fprintf(file, "host-%d-%d.example.net\n%s\n", number, i, i == number % HOSTS ? both : "");
    if (fclose(file) != 0 || rename(new, path) != 0)
        fail(path);
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
    both = arguments[3];
    never = arguments[4];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, look_up_often, NULL) != 0)
            fail("pthread_create");
    for (int i = 1; i <= atoi(arguments[2]); i++) {
        change(arguments[1], i);
        usleep(1000);
        if (i % BURST != 0)
            continue;
        usleep(1500000);
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
