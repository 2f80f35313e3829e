/*
 * Calls getaddrinfo as standard input says and prints what comes back, one line for each call.
 *
 * Input: fields between tabs, NULL for a null pointer. Numbers are decimal.
 *
 *     NODE SERVICE NULL
 *     NODE SERVICE FLAGS FAMILY SOCKTYPE PROTOCOL
 *
 * Output: the status, then for each node of the list its family, socktype, protocol, flags,
 * address, port and canonical name. What ought not to happen is added in capitals.
 *
 *     resolve          does that
 *     resolve errno    also says what errno is after each call; it is 1234 before
 *     resolve memory   prints by how many KiB the process grew when it made all calls a second time
 */
#include "guest.h"
#include <sys/mman.h>

/* The caller's side of a call, in pages of its own that are read-only during the call. */
struct arguments {
    struct addrinfo hints;
    char node[2048];
    char service[2048];
};

static struct arguments *arguments;
static int silent;
static int with_errno;

static void print_node(const struct addrinfo *node)
{
    char address[INET6_ADDRSTRLEN + 16] = "?";
    int port = -1;

    printf("; ");
    if (node->ai_addr->sa_family != node->ai_family)
        printf("FAMILY %d ", node->ai_addr->sa_family);
    if (node->ai_family == AF_INET) {
        const struct sockaddr_in *sin = (const void *)node->ai_addr;

        if (node->ai_addrlen != sizeof *sin)
            printf("LENGTH %d ", (int)node->ai_addrlen);
        inet_ntop(AF_INET, &sin->sin_addr, address, sizeof address);
        port = ntohs(sin->sin_port);
        printf("inet");
    } else if (node->ai_family == AF_INET6) {
        const struct sockaddr_in6 *sin6 = (const void *)node->ai_addr;

        if (node->ai_addrlen != sizeof *sin6)
            printf("LENGTH %d ", (int)node->ai_addrlen);
        inet_ntop(AF_INET6, &sin6->sin6_addr, address, sizeof address);
        if (sin6->sin6_scope_id != 0)
            sprintf(address + strlen(address), "%%%u", (unsigned)sin6->sin6_scope_id);
        port = ntohs(sin6->sin6_port);
        printf("inet6");
    } else {
        printf("family %d", node->ai_family);
    }
    printf(" %d/%d flags %#x %s port %d", node->ai_socktype, node->ai_protocol, (unsigned)node->ai_flags, address,
           port);
    if (node->ai_canonname != NULL)
        printf(" canon %s", node->ai_canonname);
}

/* Any part of a list may be freed by itself (POSIX, freeaddrinfo). */
static void free_list(struct addrinfo *list)
{
    static unsigned int turn;
    struct addrinfo *half = list, *rest;

    switch (turn++ % 3) {
    case 0: /* as a whole */ freeaddrinfo(list); break;
    case 1: /* the second half, then the first */
        for (rest = list; rest != NULL && rest->ai_next != NULL; rest = rest->ai_next->ai_next)
            if (rest != list)
                half = half->ai_next;
        rest = half->ai_next;
        half->ai_next = NULL;
        if (rest != NULL)
            freeaddrinfo(rest);
        freeaddrinfo(list);
        break;
    default: /* node by node */
        for (; list != NULL; list = rest) {
            rest = list->ai_next;
            list->ai_next = NULL;
            freeaddrinfo(list);
        }
    }
}

static const char *text(char *to, const char *field)
{
    if (strcmp(field, "NULL") == 0)
        return NULL;
    return strcpy(to, field);
}

static void call(char *line)
{
    static struct addrinfo untouched;
    struct addrinfo *const before = &untouched, *list = before, *node;
    char *fields[6] = { NULL };
    const char *name, *service;
    const struct addrinfo *hints = NULL;
    int count = 0, status, errno_after;

    while (line != NULL && count < 6)
        fields[count++] = strsep(&line, "\t");
    if (line != NULL || (count != 6 && (count != 3 || strcmp(fields[2], "NULL") != 0))) {
        fprintf(stderr, "not a call\n");
        exit(2);
    }
    name = text(arguments->node, fields[0]);
    service = text(arguments->service, fields[1]);
    if (count == 6) {
        memset(&arguments->hints, 0, sizeof arguments->hints);
        arguments->hints.ai_flags = atoi(fields[2]);
        arguments->hints.ai_family = atoi(fields[3]);
        arguments->hints.ai_socktype = atoi(fields[4]);
        arguments->hints.ai_protocol = atoi(fields[5]);
        hints = &arguments->hints;
    }

    if (mprotect(arguments, sizeof *arguments, PROT_READ) != 0)
        fail("mprotect");
    errno = 1234;
    status = getaddrinfo(name, service, hints, &list);
    errno_after = errno;
    if (mprotect(arguments, sizeof *arguments, PROT_READ | PROT_WRITE) != 0)
        fail("mprotect");

    if (!silent) {
        printf("%s", status_name(status));
        if (with_errno)
            printf(" errno %d", errno_after);
        if (status == 0 && (list == NULL || list == before))
            printf(" WITHOUT A LIST");
        else if (status == 0)
            for (node = list; node != NULL; node = node->ai_next)
                print_node(node);
        else if (list != before)
            printf(" RESULT CHANGED");
        printf("\n");
    }
    if (status == 0 && list != NULL && list != before)
        free_list(list);
}

static void calls(void)
{
    char line[4096];

    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        call(line);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long before;

    arguments = mmap(NULL, sizeof *arguments, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arguments == MAP_FAILED)
        fail("mmap");
    with_errno = strcmp(what, "errno") == 0;
    silent = strcmp(what, "memory") == 0;
    calls();
    if (silent) {
        if (fseek(stdin, 0, SEEK_SET) != 0)
            fail("standard input is no file");
        before = kibibytes("VmData");
        calls();
        printf("%ld\n", kibibytes("VmData") - before);
    }
    return 0;
}
