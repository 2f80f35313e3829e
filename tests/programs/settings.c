/*
 * Does what its arguments say, in their order. Each action that asks something prints a line at
 * once, so that what was done before something ended the program can be told.
 *
 *     say TEXT         prints the text
 *     look NAME        prints which family getaddrinfo was asked for: "NAME IPv4" or "NAME any"; NULL is no name
 *                      (tests/programs/next_getaddrinfo.c behind the library says so)
 *     stderr FILE      closes descriptor 2 and opens the file, which gets it
 *     time NAME COUNT  prints what the first lookup costs and one of COUNT more, in nanoseconds
 *                      of this process: others may keep the machine busy
 *     connect          prints keepalive and the timings of a socket after connect
 *     cd DIRECTORY, directory NEW, root DIRECTORY, remove FILE, user ID, group ID, sleep MILLISECONDS
 *     closefrom        closes every descriptor from 3 on
 *     restrict         has Landlock refuse every file from here on; prints whether it does
 *     write FILE TEXT      writes over what the file has, in place
 *     append FILE TEXT     writes behind it
 *     replace FILE TEXT    puts a new file in its place
 *     swap LINK TARGET     puts a new symbolic link in its place
 *     until NAME ANSWER    looks the name up again and again until the answer is this; prints that, or nothing
 *                      if it does not come
 *     exhaust          takes all the memory that malloc and the kernel give, from here on
 *     release          gives it back
 *     status NAME      prints what getaddrinfo returns
 *     threads COUNT NAME    so many threads look the name up, all at once; prints what they were told, the time
 *                      of this process in milliseconds, and the most memory that it had, in KiB
 *     forks COUNT NAME      a thread looks the name up, and meanwhile so many children do
 *     alarms NAME      a signal handler looks the name up again and again while the program does
 *     exit STATUS
 *     run ENTRY... -- ACTION...    starts itself anew with exactly these environment entries
 */
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static int look(const char *name)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list;
    int status = getaddrinfo(strcmp(name, "NULL") == 0 ? NULL : name, "80", &hints, &list);

    if (status == 0)
        freeaddrinfo(list);
    return status;
}

static const char *answer(int status)
{
    static char other[32];

    switch (status) {
    case 1000 + AF_INET: return "IPv4";
    case 1000 + AF_UNSPEC: return "any";
    }
    snprintf(other, sizeof other, "status %d", status);
    return other;
}

static long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void measure(const char *name, int count)
{
    long long start = now();
    look(name);
    long long first = now();
    for (int i = 0; i < count; i++)
        look(name);
    printf("%lld %lld\n", first - start, (now() - first) / count);
}

static void **blocks;

/* The stack does not grow without memory either. */
static __attribute__((noinline)) void grow_stack(void)
{
    volatile char stack[1 << 20];

    for (size_t i = 0; i < sizeof stack; i += 1024)
        stack[i] = 1;
}

/* Whatever is mapped already stays; of the rest malloc has all, in blocks that refer to the one before. */
static void exhaust(void)
{
    struct rlimit limit;

    grow_stack();
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 1;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        fail("setrlimit");
    for (size_t size = 1 << 20; size >= sizeof *blocks; size /= 2) {
        void **block;

        while ((block = malloc(size)) != NULL) {
            *block = blocks;
            blocks = block;
        }
    }
}

static void release(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_AS, &limit);
    while (blocks != NULL) {
        void **before = *blocks;

        free(blocks);
        blocks = before;
    }
}

/* landlock(7); the numbers are the same on every machine. */
static void restrict_files(void)
{
    unsigned long long handled = 1 << 2; /* LANDLOCK_ACCESS_FS_READ_FILE */
    int ruleset = (int)syscall(444 /* landlock_create_ruleset */, &handled, sizeof handled, 0);

    if (ruleset < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(446 /* landlock_restrict_self */, ruleset, 0) != 0)
        puts("no Landlock");
    else
        puts(open("/etc/hosts", O_RDONLY) < 0 ? "restricted" : "NOT RESTRICTED");
}

static const char *wanted;
static pthread_barrier_t start;
static atomic_int ipv4, any, done;

static void *look_at_once(void *argument)
{
    pthread_barrier_wait(&start);
    ++*(look(wanted) == 1000 + AF_INET ? &ipv4 : &any);
    done = 1;
    return argument;
}

static pthread_t new_thread(void)
{
    pthread_t thread;

    if ((errno = pthread_create(&thread, NULL, look_at_once, NULL)) != 0)
        fail("pthread_create");
    return thread;
}

static void look_in_threads(int count)
{
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    struct rusage usage;

    pthread_barrier_init(&start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++)
        threads[i] = new_thread();
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    getrusage(RUSAGE_SELF, &usage);
    printf("%d IPv4, %d any, %lld ms, %ld KiB\n", ipv4, any, now() / 1000000, usage.ru_maxrss);
}

/* A child that waits for a thread which it does not have is ended by its alarm. */
static void look_in_children(int count)
{
    int failed = 0, status, made = 0;
    pthread_t thread;

    pthread_barrier_init(&start, NULL, 2);
    thread = new_thread();
    pthread_barrier_wait(&start);
    while (made < count || !done) {
        pid_t child = fork();

        if (child == 0) {
            alarm(20);
            _exit(look(wanted) == 1000 + AF_INET ? 0 : 1);
        }
        made++;
        if (waitpid(child, &status, 0) != child || status != 0)
            failed++;
    }
    pthread_join(thread, NULL);
    printf("%d IPv4, %d children failed\n", ipv4, failed);
}

static atomic_int handled;

static void look_in_handler(int signal)
{
    (void)signal;
    look(wanted);
    handled++;
}

static void look_with_alarms(void)
{
    struct sigaction action = { .sa_handler = look_in_handler };
    struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
    int status;

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    status = look(wanted);
    while (handled < 10)
        ;
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%s %s\n", wanted, answer(status));
}

static void write_file(const char *path, const char *text, int flags)
{
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0)
        fail(path);
}

/* A file or, with a target, a symbolic link. */
static void put_in_place(const char *path, const char *text, const char *target)
{
    char new[4096];

    snprintf(new, sizeof new, "%s.new", path);
    if (text)
        write_file(new, text, O_TRUNC);
    else if (symlink(target, new) != 0)
        fail(new);
    if (rename(new, path) != 0)
        fail(path);
}

static void look_until(const char *name, const char *wanted)
{
    for (int i = 0; i < 400; i++) {
        if (strcmp(answer(look(name)), wanted) == 0) {
            printf("%s %s\n", name, wanted);
            return;
        }
        usleep(50000);
    }
}

static int option(int socket, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;

    if (getsockopt(socket, level, name, &value, &length) != 0)
        fail("getsockopt");
    return value;
}

/* Whether somebody listens does not matter: the options are set before the connect. */
static void connect_and_show(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(1) };
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (tcp < 0)
        fail("socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)!connect(tcp, (struct sockaddr *)&address, sizeof address);
    if (option(tcp, SOL_SOCKET, SO_KEEPALIVE))
        printf("idle=%d,interval=%d,count=%d\n", option(tcp, IPPROTO_TCP, TCP_KEEPIDLE),
               option(tcp, IPPROTO_TCP, TCP_KEEPINTVL), option(tcp, IPPROTO_TCP, TCP_KEEPCNT));
    else
        printf("off\n");
    close(tcp);
}

static void run(char **arguments, char *program)
{
    char **entries = arguments;

    while (*arguments && strcmp(*arguments, "--") != 0)
        arguments++;
    if (!*arguments)
        fail("run without --");
    /* The array of entries ends where the arguments begin, whose first is the program's name. */
    *arguments = NULL;
    char **copy = calloc(arguments - entries + 1, sizeof *copy);
    memcpy(copy, entries, (arguments - entries) * sizeof *copy);
    *arguments = program;
    execve(program, arguments, copy);
    fail("execve");
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < count; i++) {
        const char *action = arguments[i];
        char *what = arguments[i + 1];

        if (strcmp(action, "connect") == 0) {
            connect_and_show();
            continue;
        }
        if (strcmp(action, "closefrom") == 0) {
            for (int fd = 3; fd < 1024; fd++)
                close(fd);
            continue;
        }
        if (strcmp(action, "exhaust") == 0) {
            exhaust();
            continue;
        }
        if (strcmp(action, "restrict") == 0) {
            restrict_files();
            continue;
        }
        if (strcmp(action, "release") == 0) {
            release();
            continue;
        }
        if (!what)
            fail(action);
        i++;
        if (strcmp(action, "say") == 0)
            puts(what);
        else if (strcmp(action, "look") == 0)
            printf("%s %s\n", what, answer(look(what)));
        else if (strcmp(action, "time") == 0 && i + 1 < count)
            measure(what, atoi(arguments[++i]));
        else if (strcmp(action, "status") == 0)
            printf("%s %d\n", what, look(what));
        else if (strcmp(action, "sleep") == 0)
            usleep((useconds_t)atoi(what) * 1000);
        else if (strcmp(action, "alarms") == 0) {
            wanted = what;
            look_with_alarms();
        } else if (strcmp(action, "threads") == 0 && i + 1 < count) {
            wanted = arguments[++i];
            look_in_threads(atoi(what));
        } else if (strcmp(action, "forks") == 0 && i + 1 < count) {
            wanted = arguments[++i];
            look_in_children(atoi(what));
        } else if (strcmp(action, "write") == 0 && i + 1 < count) {
            write_file(what, arguments[++i], O_TRUNC);
        } else if (strcmp(action, "append") == 0 && i + 1 < count) {
            write_file(what, arguments[++i], O_APPEND);
        } else if (strcmp(action, "replace") == 0 && i + 1 < count) {
            put_in_place(what, arguments[++i], NULL);
        } else if (strcmp(action, "swap") == 0 && i + 1 < count) {
            put_in_place(what, NULL, arguments[++i]);
        } else if (strcmp(action, "until") == 0 && i + 1 < count) {
            look_until(what, arguments[++i]);
        } else if (strcmp(action, "root") == 0) {
            if (chroot(what) != 0 || chdir("/") != 0)
                fail(what);
        } else if (strcmp(action, "user") == 0) {
            if (setgid((gid_t)atoi(what)) != 0 || setuid((uid_t)atoi(what)) != 0)
                fail(what);
        } else if (strcmp(action, "group") == 0) {
            if (setgid((gid_t)atoi(what)) != 0)
                fail(what);
        } else if (strcmp(action, "cd") == 0) {
            if (chdir(what) != 0)
                fail(what);
        } else if (strcmp(action, "directory") == 0) {
            if (mkdir(what, 0755) != 0)
                fail(what);
        } else if (strcmp(action, "remove") == 0) {
            if (unlink(what) != 0)
                fail(what);
        } else if (strcmp(action, "stderr") == 0) {
            close(2);
            if (open(what, O_WRONLY | O_CREAT | O_TRUNC, 0644) != 2)
                exit(98);
        } else if (strcmp(action, "exit") == 0)
            exit(atoi(what));
        else if (strcmp(action, "run") == 0)
            run(arguments + i, arguments[0]);
        else
            fail(action);
    }
    return 0;
}
