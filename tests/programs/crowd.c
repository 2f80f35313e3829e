/* Many processes with many connections over loopback: crowd PROCESSES PAIRS COMMAND [ARG]...
 *
 * Each process connects PAIRS times to a listener that all share, and accepts as often. When all are done, COMMAND takes
 * over the first process; the others end with it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count < 4)
        errx(2, "usage: crowd PROCESSES PAIRS COMMAND [ARG]...");
    int processes = atoi(words[1]), pairs = atoi(words[2]), ready[2];
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &length) || pipe(ready))
        err(2, "the listener");
    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child == -1)
            err(2, "fork");
        if (child != 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int j = 0; j < pairs; j++) {
            if (connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, length) ||
                accept(listener, NULL, NULL) == -1)
                err(2, "a connection");
        }
        if (write(ready[1], "", 1) != 1)
            err(2, "the pipe");
        for (;;)
            pause();
    }
    char byte;
    for (int i = 0; i < processes; i++)
        if (read(ready[0], &byte, 1) != 1)
            err(2, "the pipe");
    execvp(words[3], words + 3);
    err(2, "%s", words[3]);
}
