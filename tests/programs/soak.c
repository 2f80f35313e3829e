/*
 * Connects and resolves on 16 threads: soak CONNECTS LOOKUPS LISTED OTHER. LISTED is a host on the allowlist,
 * OTHER is not; both have IPv4 and IPv6 addresses. Ten times, when all threads stand still, it prints a row:
 * what was done so far, and the memory (KiB) and descriptors that the process has then. What grows from the
 * first of them, when all that is allocated once has been, to the last is a leak. Exit status 1 if something
 * grew or failed.
 */
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 16, ROWS = 10 };
/* Allocators do not give every page back at once. One byte for each connect would be this much. */
enum { NOISE = 976 };

static long connects, lookups;
static const char *listed, *other;
static atomic_long connected, resolved, wrong;
static pthread_barrier_t stop, go;

/* A failure is told, the first of them at least: a million would be no news. */
static void failed(const char *what, const char *why)
{
    if (wrong++ < 10)
        fprintf(stderr, "%s: %s\n", what, why);
}

/* Connects to a listener of its own. A reset at the end leaves no port in TIME_WAIT: they would run out. */
static void connect_once(int listener, const struct sockaddr_in *address)
{
    struct linger reset = { .l_onoff = 1 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;

    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
        failed("connect", strerror(errno));
    } else {
        if (strcmp(keepalive_text(fd), "on 60/60/5") != 0)
            failed("keepalive", keepalive_text(fd));
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (accepted < 0)
            failed("accept", strerror(errno));
        else if (keepalive_of(accepted) != 0)
            failed("accept", "an accepted socket has keepalive");
        close(fd);
        if (accepted >= 0)
            close(accepted);
        connected++;
        return;
    }
    close(fd);
}

static void resolve_once(const char *node, const char *wanted)
{
    const char *families = families_of(node, AF_UNSPEC, 0);

    if (strcmp(families, wanted) != 0)
        failed(node, families);
    else
        resolved++;
}

/* In a thread of its own, as some programs ask. */
static void *resolve_both(void *unused)
{
    resolve_once(listed, "4");
    resolve_once(other, "46");
    return unused;
}

/* How much of a total this thread has to do until the row. */
static long share(long total, long thread, int row)
{
    long own = total / THREADS + (thread < total % THREADS);

    return own * row / ROWS;
}

static void *worker(void *argument)
{
    long thread = (long)argument, made = 0, asked = 0;
    int listener;
    struct sockaddr_in address;

    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER; /* loopback() is not for threads */
    pthread_mutex_lock(&one);
    address = loopback(&listener);
    pthread_mutex_unlock(&one);
    for (int row = 1; row <= ROWS; row++) {
        long connects_now = share(connects, thread, row), lookups_now = share(lookups, thread, row);

        while (made < connects_now || asked < lookups_now) {
            /* In turn, as the numbers are to each other. */
            if (made < connects_now && (asked >= lookups_now || made * lookups <= asked * connects)) {
                connect_once(listener, &address);
                made++;
            } else if (asked % 16 == 14 && asked + 2 <= lookups_now) {
                pthread_t id;

                if (pthread_create(&id, NULL, resolve_both, NULL) != 0)
                    fail("pthread_create");
                pthread_join(id, NULL);
                asked += 2;
            } else {
                int is_listed = asked % 2 == 0;

                resolve_once(is_listed ? listed : other, is_listed ? "4" : "46");
                asked++;
            }
        }
        pthread_barrier_wait(&stop);
        pthread_barrier_wait(&go);
    }
    return NULL;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *rest(void *argument)
{
    usleep(100000);
    return argument;
}

int main(int argc, char **argv)
{
    enum { RESIDENT, DATA, DESCRIPTORS, KINDS };
    static const char *const names[KINDS] = { "RSS", "data", "descriptors" };
    long first[KINDS] = { 0 }, seen[KINDS] = { 0 };
    double start = now();
    pthread_t short_lived[THREADS];
    int status;

    if (argc != 5)
        return 2;
    connects = atol(argv[1]);
    lookups = atol(argv[2]);
    listed = argv[3];
    other = argv[4];
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    pthread_barrier_init(&stop, NULL, THREADS + 1);
    pthread_barrier_init(&go, NULL, THREADS + 1);
    for (long thread = 0; thread < THREADS; thread++) {
        pthread_t id;

        if (pthread_create(&id, NULL, worker, (void *)thread) != 0)
            fail("pthread_create");
        pthread_detach(id);
    }
    /* glibc keeps the stacks of threads that have ended, up to 40 MiB: as many from the start as later. */
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&short_lived[i], NULL, rest, NULL) != 0)
            fail("pthread_create");
    for (int i = 0; i < THREADS; i++)
        pthread_join(short_lived[i], NULL);
    printf("        connects   lookups  failures  RSS KiB  data KiB  descriptors      time\n");
    for (int row = 1; row <= ROWS; row++) {
        pthread_barrier_wait(&stop);
        seen[RESIDENT] = kibibytes("VmRSS");
        seen[DATA] = kibibytes("VmData");
        seen[DESCRIPTORS] = descriptors();
        if (row == 1)
            memcpy(first, seen, sizeof first);
        printf("%5d %% %9ld %9ld %9ld %8ld %9ld %12ld %7.1f s\n", 100 / ROWS * row, connected, resolved, wrong,
               seen[RESIDENT], seen[DATA], seen[DESCRIPTORS], now() - start);
        if (row < ROWS)
            pthread_barrier_wait(&go);
    }
    status = wrong != 0 || connected != connects || resolved != lookups;
    for (int kind = 0; kind < KINDS; kind++) {
        long grown = seen[kind] - first[kind];

        printf("%s grew by %ld%s\n", names[kind], grown, kind == DESCRIPTORS ? "" : " KiB");
        status |= grown > (kind == DESCRIPTORS ? 0 : NOISE);
    }
    return status;
}
