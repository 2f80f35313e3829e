/*
 * What show.c does, under a condition that the program makes for itself:
 *
 *     hostile kill CALL          a seccomp filter kills the process for socket or getsockopt, from the program's
 *                                last own use of it on
 *     hostile chroot DIR NAME... the root directory changes between load and the first lookup
 *     hostile closed FILE        prints to FILE, and first of all which descriptor that file gets
 *     hostile threads COUNT NAME so many threads connect and look up, all at once
 *     hostile plugin HOW FILE.so NAME
 *                                what a plugin (plugin.c) sees that is opened with dlopen(3), HOW being lazy, now or
 *                                deepbind
 *     hostile reload FILE.so     a library is opened and closed a hundred times; is it there in the end?
 *     hostile dlsym              which connect each way to look it up gives
 */
#include "confine.h"
#include "guest.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>

static int filtered(const char *call)
{
    struct sockaddr_in port = loopback(NULL);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (filter(strcmp(call, "socket") == 0 ? SYS_socket : SYS_getsockopt, FILTER_ANY, FILTER_KILL) != 0)
        fail("seccomp");
    errno = 0;
    connect(fd, (struct sockaddr *)&port, sizeof port);
    printf("connect: %s\n", strerror(errno));
    return 0;
}

static int show(char **names)
{
    struct sockaddr_in port = loopback(NULL);

    printf("keepalive %s\n", refused_text(&port));
    for (; *names != NULL; names++)
        printf("%s %s\n", *names, families_of(*names, AF_UNSPEC, 0));
    return 0;
}

static int chrooted(const char *directory, char **names)
{
    if (chroot(directory) != 0 || chdir("/") != 0)
        fail("chroot");
    return show(names);
}

/* Standard input, output and error are closed: the first file and the first sockets get their numbers. */
static int closed(const char *path)
{
    struct sockaddr_in port;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const char *text;

    port = loopback(NULL);
    text = refused_text(&port);
    dprintf(fd, "file %d, socket %d, keepalive %s\n", fd, bound, text);
    return 0;
}

static const char *name;
static pthread_barrier_t start;

static void *one_thread(void *port)
{
    long seen;

    pthread_barrier_wait(&start);
    /* Keepalive off or on, and one family or two. */
    seen = refused(port);
    seen = seen * 2 + (strlen(families_of(name, AF_UNSPEC, 0)) == 1);
    return (void *)seen;
}

static int threads(int count)
{
    struct sockaddr_in port = loopback(NULL);
    pthread_t *all = calloc((size_t)count, sizeof *all);
    int seen[4] = { 0 }, other = 0;

    pthread_barrier_init(&start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++)
        if ((errno = pthread_create(&all[i], NULL, one_thread, &port)) != 0)
            fail("pthread_create");
    for (int i = 0; i < count; i++) {
        void *result;

        pthread_join(all[i], &result);
        if ((long)result >= 0 && (long)result < 4)
            seen[(long)result]++;
        else
            other++;
    }
    free(all);
    printf("%d as without the library, %d with it, %d otherwise\n", seen[0], seen[3], seen[1] + seen[2] + other);
    return 0;
}

static int plugin(const char *how, const char *path, const char *node)
{
    int flags = strcmp(how, "lazy") == 0 ? RTLD_LAZY : RTLD_NOW;
    void *handle;
    void (*see)(const char *);

#ifdef RTLD_DEEPBIND
    if (strcmp(how, "deepbind") == 0)
        flags |= RTLD_DEEPBIND;
#endif
    handle = dlopen(path, flags | RTLD_LOCAL);
    if (handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    *(void **)&see = dlsym(handle, "see");
    see(node);
    return 0;
}

typedef int connect_type(int, const struct sockaddr *, socklen_t);

static void one_way(const char *way, void *found)
{
    struct sockaddr_in port = loopback(NULL);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    connect_type *function;

    *(void **)&function = found;
    if (found != NULL)
        function(fd, (struct sockaddr *)&port, sizeof port);
    printf("%s: %s\n", way, found == NULL ? "not found" : keepalive_text(fd));
}

static int dlsyms(void)
{
    /* A name that glibc's library has, and that musl's loader takes for its own. */
    void *libc = dlopen("libc.so.6", RTLD_LAZY);

    one_way("linked", (void *)connect);
    one_way("RTLD_DEFAULT", dlsym(RTLD_DEFAULT, "connect"));
    one_way("handle of the program", dlsym(dlopen(NULL, RTLD_LAZY), "connect"));
    one_way("handle of libc", libc == NULL ? NULL : dlsym(libc, "connect"));
    return 0;
}

static int reload(const char *path)
{
    for (int i = 0; i < 100; i++) {
        void *handle = dlopen(path, RTLD_NOW);

        if (handle == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 2;
        }
        dlclose(handle);
    }
    printf("%s\n", dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL ? "gone" : "there");
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "kill") == 0 && argc == 3)
        return filtered(argv[2]);
    if (strcmp(what, "chroot") == 0 && argc > 3)
        return chrooted(argv[2], argv + 3);
    if (strcmp(what, "closed") == 0 && argc == 3)
        return closed(argv[2]);
    if (strcmp(what, "threads") == 0 && argc == 4) {
        name = argv[3];
        return threads(atoi(argv[2]));
    }
    if (strcmp(what, "plugin") == 0 && argc == 5)
        return plugin(argv[2], argv[3], argv[4]);
    if (strcmp(what, "reload") == 0 && argc == 3)
        return reload(argv[2]);
    if (strcmp(what, "dlsym") == 0 && argc == 2)
        return dlsyms();
    fprintf(stderr, "usage: see hostile.c\n");
    return 2;
}
