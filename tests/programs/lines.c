/*
 * Connects, so that the library logs, to something that may not take it:
 *
 *     lines COUNT             prints how many connects it made and whether its timer's signals were handled meanwhile;
 *                             then "ready", and connects once more for each byte that it reads
 *     lines COUNT close FD    the same, but closes a descriptor instead of the later connects
 *     lines COUNT background  is in the background of the terminal that descriptor 2 is, which stops those that write
 *                             (TOSTOP); prints how it ended
 */
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>

static volatile sig_atomic_t alarms, terminated;

static void handler(int signal)
{
    if (signal == SIGALRM)
        alarms = 1;
    else
        terminated = 1;
}

static int connects(int count)
{
    struct sockaddr_in port = loopback(NULL);
    int made = 0;

    /* A signal may interrupt one. */
    for (; made < count; made++)
        refused(&port);
    return made;
}

/* The leader of a session whose terminal is descriptor 2, and a child in the background of it. */
static int background(int count)
{
    struct termios settings;
    int status;
    pid_t child = fork();

    /* The leader of a group of processes cannot begin a session. */
    if (child != 0) {
        waitpid(child, &status, 0);
        return status == 0 ? 0 : 1;
    }
    setsid();
    if (ioctl(2, TIOCSCTTY, 0) != 0 || tcgetattr(2, &settings) != 0)
        fail("terminal");
    settings.c_lflag |= TOSTOP;
    tcsetattr(2, TCSANOW, &settings);
    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        _exit(connects(count) == count ? 0 : 1);
    }
    waitpid(child, &status, WUNTRACED);
    if (WIFSTOPPED(status))
        kill(child, SIGKILL);
    printf("%s\n", WIFSTOPPED(status) ? "STOPPED" : status == 0 ? "ended" : "FAILED");
    return 0;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = handler };
    struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
    int count = argc > 1 ? atoi(argv[1]) : 0, made;
    char byte;

    if (argc > 2 && strcmp(argv[2], "background") == 0)
        return background(count);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    made = connects(count);
    raise(SIGTERM);
    while (!alarms)
        ;
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%d connects%s%s\n", made, alarms ? ", alarms" : "", terminated ? ", terminated" : "");
    if (argc > 3)
        close(atoi(argv[3]));
    printf("ready\n");
    fflush(stdout);
    while (read(0, &byte, 1) == 1)
        if (argc == 2)
            connects(1);
    return 0;
}
