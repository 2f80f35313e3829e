/*
 * Asks libresolv in each of its ways and prints a line for each:
 *
 *     resolv NAME DOMAIN
 *
 * What is returned, h_errno and that of the state, and of an answer the number of records in it, of those how many are
 * AAAA, and whether it is truncated.
 */
#include "guest.h"
#include <arpa/nameser.h>
#include <features.h>
/* The names that <resolv.h> of glibc before 2.34 makes of these. */
#if defined __GLIBC__ && __GLIBC_MINOR__ < 34
#define res_mkquery __res_mkquery
#define res_query __res_query
#define res_search __res_search
#define res_querydomain __res_querydomain
#define res_send __res_send
#define res_nquery __res_nquery
#define res_nsearch __res_nsearch
#define res_nquerydomain __res_nquerydomain
#define res_nsend __res_nsend
#endif
#include <resolv.h>

static unsigned char answer[4096];

static void show(const char *call, int type, int result, int state, int size)
{
    int here = h_errno, count = 0, aaaa = 0, position = 12;

    printf("%s %d: %s %d, h_errno %d %d", call, type, result < 0 ? "result" : "length", result, result < 0 ? here : 0,
           state);
    if (result >= 12 && size >= 12) {
        const unsigned char *end = answer + (result < size ? result : size);

        count = answer[6] << 8 | answer[7];
        position += dn_skipname(answer + 12, end) + 4;
        for (int i = 0; i < count && answer + position < end; i++) {
            int skipped = dn_skipname(answer + position, end);

            if (skipped < 0 || answer + position + skipped + 10 > end)
                break;
            position += skipped;
            aaaa += (answer[position] << 8 | answer[position + 1]) == 28;
            position += 10 + (answer[position + 8] << 8 | answer[position + 9]);
        }
        printf(", %d records, %d AAAA, truncated %d", count, aaaa, answer[2] >> 1 & 1);
    }
    printf("\n");
    memset(answer, 0, sizeof answer);
    h_errno = 0;
}

#ifdef __GLIBC__
#define STATE (_res.res_h_errno)
#else
#define STATE 0
#endif

int main(int argc, char **argv)
{
    const char *name = argv[argc - 2], *domain = argv[argc - 1];
    int types[] = { 28, 1, 255 }, sizes[] = { 512, 60, 40 };
    unsigned char question[512];
    char whole[300];

    res_init();
    snprintf(whole, sizeof whole, "%s.%s", name, domain);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        int type = types[i], size = sizeof answer;
        int length = res_mkquery(0, whole, 1, type, NULL, 0, NULL, question, sizeof question);

        show("res_query", type, res_query(whole, 1, type, answer, size), STATE, size);
        show("res_search", type, res_search(whole, 1, type, answer, size), STATE, size);
        show("res_querydomain", type, res_querydomain(name, domain, 1, type, answer, size), STATE, size);
        show("res_send", type, res_send(question, length, answer, size), 0, size);
#ifdef __GLIBC__
        struct __res_state state = { 0 };

        res_ninit(&state);
        show("res_nquery", type, res_nquery(&state, whole, 1, type, answer, size), state.res_h_errno, size);
        show("res_nsearch", type, res_nsearch(&state, whole, 1, type, answer, size), state.res_h_errno, size);
        show("res_nquerydomain", type, res_nquerydomain(&state, name, domain, 1, type, answer, size), state.res_h_errno,
             size);
        show("res_nsend", type, res_nsend(&state, question, length, answer, size), 0, size);
        res_nclose(&state);
#endif
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        show("short buffer", 28, res_query(whole, 1, 28, answer, sizes[i]), 0, sizes[i]);
    return 0;
}
