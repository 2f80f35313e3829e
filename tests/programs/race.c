/*
 * 200 threads at once: race SECONDS LISTED OTHER. Some connect, some resolve LISTED, a host on the allowlist, and OTHER,
 * which is not (both have IPv4 and IPv6 addresses), some fork children that do so, some change the environment, and
 * some move to new network namespaces and back. Prints how often each was done. Exit status 1 if a result was wrong or
 * a descriptor stayed behind; SIGALRM ends it, and a child, if it hangs.
 */
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { PATIENCE = 60 /* seconds */ };

static const char *listed, *other;
static struct sockaddr_in port;
static int home;
static atomic_long wrong;
static atomic_int over;

static int expect(const char *what, const char *seen, const char *wanted)
{
    int right = strcmp(seen, wanted) == 0;

    if (!right && wrong++ < 10)
        fprintf(stderr, "%s: %s, not %s\n", what, seen, wanted);
    return right;
}

/* A connect that fails with this error; an idle time of 0 is left to the library. */
static int connects(int error, int idle, const char *wanted)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), right;

    if (idle != 0)
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    errno = 0;
    connect(fd, (struct sockaddr *)&port, sizeof port);
    right = expect("connect", strerror(errno), strerror(error)) && expect("keepalive", keepalive_text(fd), wanted);
    close(fd);
    return right;
}

static int connecting(void)
{
    return connects(ECONNREFUSED, 0, "on 60/60/5") && connects(ECONNREFUSED, 90, "on 90/60/5");
}

static int resolves(void)
{
    return expect(listed, families_of(listed, AF_UNSPEC, 0), "4") &&
           expect(other, families_of(other, AF_UNSPEC, 0), "46");
}

/* Whoever forks a child that resolves waits for the lookups: locks of libc's, that of __check_pf() for one, do not
 * survive fork(2). */
static pthread_rwlock_t lookups = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static int resolving(void)
{
    int right;

    pthread_rwlock_rdlock(&lookups);
    right = resolves();
    pthread_rwlock_unlock(&lookups);
    return right;
}

static int ends_well(pid_t child)
{
    int status = -1;

    if (child < 0)
        fail("fork");
    waitpid(child, &status, 0);
    return expect("child",
                  status == 0           ? "right"
                  : WIFSIGNALED(status) ? strsignal(WTERMSIG(status))
                                        : "wrong",
                  "right");
}

static int forking(void)
{
    pid_t child = fork();

    if (child == 0) {
        alarm(PATIENCE);
        _exit(!connecting());
    }
    return ends_well(child);
}

static int forking_between_lookups(void)
{
    pid_t child;

    usleep(200000); /* who waits to write keeps the readers out */
    pthread_rwlock_wrlock(&lookups);
    child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        _exit(!(connecting() && resolves()));
    }
    pthread_rwlock_unlock(&lookups);
    return ends_well(child);
}

/* Only of variables that are there: libc's own getenv(3) may read what setenv(3) frees when the environment grows. */
static int changing(void)
{
    static const char *const values[] = { "off", "*" };

    for (int i = 0; i < 2; i++)
        if (setenv("EGRESS_SHIM", values[i], 1) != 0 || setenv("EGRESS_SHIM_KEEPALIVE", values[i], 1) != 0 ||
            setenv("EGRESS_SHIM_IPV4_ONLY", values[i], 1) != 0)
            fail("setenv");
    return 1;
}

/* In the new namespace the loopback interface is down, and the default timings are others. */
static int moving(void)
{
    static const char path[] = "/proc/sys/net/ipv4/tcp_keepalive_time";
    int fd, right;

    if (unshare(CLONE_NEWNET) != 0)
        fail("unshare");
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "90", 2) != 2)
        fail(path);
    close(fd);
    right = connects(ENETUNREACH, 0, "on 60/60/5") && connects(ENETUNREACH, 100, "on 100/60/5");
    if (setns(home, CLONE_NEWNET) != 0)
        fail("setns");
    return right && connecting();
}

static struct duty {
    const char *name;
    int (*once)(void);
    int threads;
    atomic_long done;
} duties[] = {
    { "connects", connecting, 100, 0 },
    { "lookups", resolving, 60, 0 },
    { "children", forking, 10, 0 },
    { "children that resolve", forking_between_lookups, 10, 0 },
    { "changes of the environment", changing, 10, 0 },
    { "namespaces", moving, 10, 0 },
};

enum { DUTIES = sizeof duties / sizeof *duties, THREADS = 200 };

static pthread_barrier_t end;

static void *worker(void *argument)
{
    struct duty *duty = argument;

    while (!over) {
        duty->done += duty->once();
        usleep(1000); /* or the many keep the few from the processors */
    }
    /* A thread that ends takes glibc's lock of the resolver's settings, which a child forked just then would wait for. */
    pthread_barrier_wait(&end);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    int seconds = argc == 4 ? atoi(argv[1]) : 0, before, after, started = 0;

    if (seconds < 1)
        return 2;
    listed = argv[2];
    other = argv[3];
    port = loopback(NULL);
    home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        fail("/proc/self/ns/net");
    changing();
    pthread_barrier_init(&end, NULL, THREADS);
    before = descriptors();
    for (struct duty *duty = duties; duty < duties + DUTIES; duty++)
        for (int i = 0; i < duty->threads; i++)
            if (pthread_create(&threads[started++], NULL, worker, duty) != 0)
                fail("pthread_create");
    sleep(seconds);
    over = 1;
    alarm(PATIENCE);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    after = descriptors();
    for (struct duty *duty = duties; duty < duties + DUTIES; duty++) {
        printf("%9ld %s, %d threads\n", duty->done, duty->name, duty->threads);
        wrong += duty->done == 0;
    }
    printf("%9ld wrong\n%9d descriptors more than before\n", wrong, after - before);
    return wrong != 0 || after != before;
}
