/*
 * A program that starts others: spawn vfork|vforkexec|posix_spawn. The child connects, after vfork in its parent's
 * memory; with an exec the new program says what it got.
 */
#include "guest.h"
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
    struct sockaddr_in port = loopback(NULL);
    const char *how = argc >= 2 ? argv[1] : "";
    char *child_arguments[] = { argv[0], (char *)"child", NULL };
    int status = -1;
    pid_t child;

    if (strcmp(how, "child") == 0) {
        /* Descriptor 5 is the socket that the vfork child has connected. */
        if (keepalive_of(5) >= 0)
            printf("inherited: keepalive %s\n", keepalive_text(5));
        printf("child: keepalive %s\n", refused_text(&port));
        return 0;
    }
    printf("before: keepalive %s\n", refused_text(&port));
    fflush(stdout);
    if (strcmp(how, "posix_spawn") == 0) {
        if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, child_arguments, environ) != 0)
            fail("posix_spawn");
    } else if (strcmp(how, "vfork") == 0) {
        child = vfork();
        if (child == 0)
            _exit(40 + refused(&port));
    } else if (strcmp(how, "vforkexec") == 0) {
        child = vfork();
        if (child == 0) {
            int fd = socket(AF_INET, SOCK_STREAM, 0);

            connect(fd, (struct sockaddr *)&port, sizeof port);
            dup2(fd, 5);
            execv("/proc/self/exe", child_arguments);
            _exit(99);
        }
    } else {
        return 2;
    }
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    printf("status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    printf("after: keepalive %s\n", refused_text(&port));
    return 0;
}
