/*
 * A program that connects and resolves before any library is constructed (DT_PREINIT_ARRAY, System V gABI
 * chapter 5), and again in main. libc itself is not constructed then: in glibc its environ is null.
 */
#include "guest.h"

static void say(const char *when)
{
    struct sockaddr_in port = loopback(NULL);
    char line[256];
    int length = snprintf(line, sizeof line, "%s: keepalive %s", when, refused_text(&port));

    length += snprintf(line + length, sizeof line - (size_t)length, " dual %s",
                       families_of("dual.example.com", AF_UNSPEC, 0));
    length += snprintf(line + length, sizeof line - (size_t)length, " other %s\n",
                       families_of("other.example.com", AF_UNSPEC, 0));
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        _exit(2);
}

static void early(void) { say("preinit"); }

static __attribute__((section(".preinit_array"), used)) void (*const preinit)(void) = early;

int main(void)
{
    say("main");
    return 0;
}
