/*
 * A program that changes its environment and then, at unusual times, connects and resolves:
 *
 *     late CHANGE LIBRARY.so
 *
 * CHANGE: none, unset, set, put, clear, null or overwrite. LIBRARY.so (early.c) is opened with dlopen. What
 * follows is said in main, on a thread, from atexit and from a destructor, which run when main has returned.
 */
#include "guest.h"
#include <dlfcn.h>
#include <pthread.h>

extern char **environ;

static void say(const char *when)
{
    struct sockaddr_in port = loopback(NULL);

    printf("%s: keepalive %s", when, refused_text(&port));
    printf(" dual %s", families_of("dual.example.com", AF_UNSPEC, 0));
    printf(" other %s\n", families_of("other.example.com", AF_UNSPEC, 0));
    fflush(stdout);
}

static void at_exit(void) { say("atexit"); }

static __attribute__((destructor)) void destroy(void) { say("destructor"); }

static void *thread(void *argument)
{
    say("thread");
    return argument;
}

static void change(const char *how)
{
    static char switched[] = "EGRESS_SHIM=off", listed[] = "EGRESS_SHIM_IPV4_ONLY=other.example.com";

    if (strcmp(how, "unset") == 0) {
        unsetenv("EGRESS_SHIM");
        unsetenv("EGRESS_SHIM_KEEPALIVE");
        unsetenv("EGRESS_SHIM_IPV4_ONLY");
    } else if (strcmp(how, "set") == 0) {
        setenv("EGRESS_SHIM_KEEPALIVE", "off", 1);
        setenv("EGRESS_SHIM_IPV4_ONLY", "other.example.com", 1);
    } else if (strcmp(how, "put") == 0) {
        putenv(switched);
        putenv(listed);
    } else if (strcmp(how, "clear") == 0) {
        clearenv();
    } else if (strcmp(how, "null") == 0) {
        environ = NULL;
    } else if (strcmp(how, "overwrite") == 0) {
        /* As setproctitle does. */
        for (char **entry = environ; *entry != NULL; entry++)
            memset(*entry, 'x', strlen(*entry));
    }
}

int main(int argc, char **argv)
{
    pthread_t id;

    if (argc != 3)
        return 2;
    atexit(at_exit);
    change(argv[1]);
    say("main");
    if (pthread_create(&id, NULL, thread, NULL) != 0)
        fail("pthread_create");
    pthread_join(id, NULL);
    printf("dlopen: ");
    fflush(stdout);
    if (dlopen(argv[2], RTLD_NOW) == NULL)
        fail(dlerror());
    return 0;
}
