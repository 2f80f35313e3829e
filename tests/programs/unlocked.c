/*
 * Receives while another thread is in dlopen(3), whose lock the loader holds as long as the library's constructor
 * waits: unlocked HOW LIBRARY.so
 *
 * HOW: signal (in a handler), fork or vfork (in a child). The library is this same source.
 */
#include "guest.h"
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

/* A reply to AAAA for dual.example.com, with an address. */
static const char message[] = "\x12\x34\x81\x80\0\1\0\1\0\0\0\0\4dual\7example\3com\0\0\34\0\1"
                              "\300\14\0\34\0\1\0\0\0\74\0\20 \1\15\270\0\0\0\0\0\0\0\0\0\0\0\1";

static int socket_with_message(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), size = sizeof message - 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&address, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
        sendto(fd, message, size, 0, (struct sockaddr *)&address, length) != size)
        fail("socket");
    return fd;
}

static int descriptor;
static volatile long received;

static void receive(int signal)
{
    char buffer[100];

    (void)signal;
    received = recv(descriptor, buffer, sizeof buffer, 0);
}

/* The two ends of the wait: the constructor says that it is there, and is told to go on. */
static const char THERE[] = "UNLOCKED_THERE", ON[] = "UNLOCKED_ON";

static int number(const char *name)
{
    const char *text = getenv(name);

    return text == NULL ? -1 : atoi(text);
}

static __attribute__((constructor)) void wait_in_library(void)
{
    char byte;

    if (number(THERE) < 0)
        return;
    if (write(number(THERE), "t", 1) != 1 || read(number(ON), &byte, 1) != 1)
        _exit(3);
}

static void *open_library(void *path)
{
    if (dlopen(path, RTLD_NOW) == NULL)
        fail(dlerror());
    return NULL;
}

static void set(const char *name, int end)
{
    char text[20];

    snprintf(text, sizeof text, "%d", end);
    setenv(name, text, 1);
}

int main(int argc, char **argv)
{
    int there[2], on[2], status = 0;
    pthread_t id;
    char byte;
    pid_t child;

    if (argc != 3 || pipe(there) != 0 || pipe(on) != 0)
        return 2;
    set(THERE, there[1]);
    set(ON, on[0]);
    descriptor = socket_with_message();
    if (pthread_create(&id, NULL, open_library, argv[2]) != 0 || read(there[0], &byte, 1) != 1)
        fail("thread");
    alarm(20); /* ends what would wait for ever */
    if (strcmp(argv[1], "signal") == 0) {
        signal(SIGUSR1, receive);
        raise(SIGUSR1);
    } else {
        child = strcmp(argv[1], "fork") == 0 ? fork() : vfork();
        if (child == 0) {
            alarm(20);
            receive(0);
            _exit((int)received);
        }
        waitpid(child, &status, 0);
        received = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    if (write(on[1], "o", 1) != 1)
        fail("write");
    pthread_join(id, NULL);
    printf("received %ld\n", received);
    return 0;
}
