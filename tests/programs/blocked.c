/*
 * A thread that is blocked in a call is got out of it, and the process goes on:
 *
 *     blocked CALL HOW [FRAMES.so]
 *
 * CALL: connect (to an address that does not answer); recv, recvfrom, recvmsg or recvmmsg, where nothing comes; or
 *       a lookup that gets no answer: unspec, inet6 or mapped of listed.example.com, or other, of
 *       other.example.com, or by gethostbyname2_r.
 * HOW:  cancel or async (pthread_cancel, of deferred and asynchronous type), exit (a signal handler calls
 *       pthread_exit), jump (a signal handler leaves through siglongjmp).
 * FRAMES.so: C++ frames that the call is made through, see frames.cc.
 *
 * Prints how the thread ended, what of its cleanup ran, and what later calls give.
 */
#include "guest.h"
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

static const char *call, *how;
static void (*through_frames)(void (*)(void));
static int (*frames_destroyed)(void);
static atomic_int thread_id;
static atomic_int cleaned;
static sigjmp_buf out;

static void handler(int signal)
{
    (void)signal;
    if (strcmp(how, "jump") == 0)
        siglongjmp(out, 1);
    pthread_exit((void *)7L);
}

static void block(void)
{
    if (strcmp(call, "connect") == 0) {
        struct sockaddr_in6 silent = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
        int fd = socket(AF_INET6, SOCK_STREAM, 0);

        inet_pton(AF_INET6, "2001:db8:2::2", &silent.sin6_addr);
        connect(fd, (struct sockaddr *)&silent, sizeof silent);
    } else if (strncmp(call, "recv", 4) == 0) {
        char bytes[100];
        struct iovec part = { bytes, sizeof bytes };
        struct mmsghdr message = { .msg_hdr = { .msg_iov = &part, .msg_iovlen = 1 } };
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        if (strcmp(call, "recv") == 0)
            recv(fd, bytes, sizeof bytes, 0);
        else if (strcmp(call, "recvfrom") == 0)
            recvfrom(fd, bytes, sizeof bytes, 0, NULL, NULL);
        else if (strcmp(call, "recvmsg") == 0)
            recvmsg(fd, &message.msg_hdr, 0);
        else
            recvmmsg(fd, &message, 1, 0, NULL);
    } else if (strcmp(call, "gethostbyname2_r") == 0) {
        struct hostent storage, *host;
        char bytes[1000];
        int error;

        gethostbyname2_r("listed.example.com", AF_INET6, &storage, bytes, sizeof bytes, &host, &error);
    } else if (strcmp(call, "other") == 0) {
        families_of("other.example.com", AF_UNSPEC, 0);
    } else {
        families_of("listed.example.com", strcmp(call, "unspec") == 0 ? AF_UNSPEC : AF_INET6,
                    strcmp(call, "mapped") == 0 ? AI_V4MAPPED : 0);
    }
}

static void clean(void *argument)
{
    (void)argument;
    cleaned++;
}

static void *thread(void *argument)
{
    if (strcmp(how, "async") == 0)
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cleanup_push(clean, argument);
    if (sigsetjmp(out, 1) == 0) {
        thread_id = (int)syscall(SYS_gettid);
        if (through_frames != NULL)
            through_frames(block);
        else
            block();
        argument = "NOT BLOCKED";
    } else {
        argument = "jumped";
    }
    pthread_cleanup_pop(0);
    return argument;
}

static void pause_for(long milliseconds)
{
    struct timespec time = { 0, milliseconds * 1000000 };

    nanosleep(&time, NULL);
}

/* Waits until a thread has slept for a while. */
static void wait_until_blocked(void)
{
    char path[64], text[256], *state;

    for (int asleep = 0; asleep < 20; pause_for(2)) {
        FILE *file;

        if (thread_id == 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread_id);
        file = fopen(path, "r");
        if (file == NULL || fgets(text, sizeof text, file) == NULL)
            fail(path);
        fclose(file);
        state = strrchr(text, ')') + 2;
        asleep = *state == 'S' ? asleep + 1 : 0;
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = handler };
    struct sockaddr_in port = loopback(NULL);
    struct timespec deadline;
    void *result = NULL;
    pthread_t id;

    if (argc < 3)
        return 2;
    call = argv[1];
    how = argv[2];
    if (argc == 4) {
        void *library = dlopen(argv[3], RTLD_NOW);

        if (library == NULL)
            fail(dlerror());
        *(void **)&through_frames = dlsym(library, "through_frames");
        *(void **)&frames_destroyed = dlsym(library, "frames_destroyed");
    }
    sigaction(SIGUSR1, &action, NULL);
    if (pthread_create(&id, NULL, thread, NULL) != 0)
        fail("pthread_create");
    wait_until_blocked();
    if (strcmp(how, "cancel") == 0 || strcmp(how, "async") == 0)
        pthread_cancel(id);
    else
        pthread_kill(id, SIGUSR1);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 30;
    if (pthread_timedjoin_np(id, &result, &deadline) != 0) {
        printf("NOT ENDED\n");
        return 1;
    }
    printf("%s; %d cleaned",
           result == PTHREAD_CANCELED ? "canceled"
           : result == (void *)7L     ? "exited"
                                      : (char *)result,
           cleaned);
    if (frames_destroyed != NULL)
        printf("; %d destroyed", frames_destroyed());
    printf("; later %s", refused_text(&port));
    printf(" %s", families_of("known.example.com", AF_UNSPEC, 0));
    printf(" %s\n", families_of("localhost", AF_INET, 0));
    return 0;
}
