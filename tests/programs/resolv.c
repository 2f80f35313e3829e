/*
 * Asks libresolv in each of its ways, with buffers of several sizes, and prints a line for each:
 *
 *     resolv NAME DOMAIN
 *
 * What is returned, h_errno and that of the state, errno, and of an answer the number of records in it, of those how
 * many are AAAA, whether it is truncated, and a sum of all bytes of the buffer but the id.
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

enum { UNTOUCHED = 12345 }; /* an errno that no call gives */

static unsigned char answer[4096];

static void show(const char *call, int type, int size, int result, int state)
{
    int error = errno, here = h_errno, count, aaaa = 0, position = 12;
    unsigned sum = 0;

    printf("%s %d in %d: ", call, type, size);
    if (result < 0)
        printf("result %d, h_errno %d", result, here);
    else
        printf("length %d", result);
    printf(", state %d, errno %d", state, error);
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
    for (size_t i = 2; i < sizeof answer; i++)
        sum = sum * 31 + answer[i];
    printf(", bytes %x\n", sum);
    memset(answer, 0, sizeof answer);
    errno = UNTOUCHED;
    h_errno = 0;
}

#ifdef __GLIBC__
#define STATE (_res.res_h_errno)
#else
#define STATE 0
#endif

static void ask(const char *name, const char *domain, int type, int size)
{
    unsigned char question[512];
    char whole[300];
    int length;

    snprintf(whole, sizeof whole, "%s.%s", name, domain);
    length = res_mkquery(0, whole, 1, type, NULL, 0, NULL, question, sizeof question);
    errno = UNTOUCHED;
    show("res_query", type, size, res_query(whole, 1, type, answer, size), STATE);
    show("res_search", type, size, res_search(whole, 1, type, answer, size), STATE);
    show("res_querydomain", type, size, res_querydomain(name, domain, 1, type, answer, size), STATE);
    show("res_send", type, size, res_send(question, length, answer, size), 0);
#ifdef __GLIBC__
    struct __res_state state = { 0 };

    res_ninit(&state);
    errno = UNTOUCHED;
    show("res_nquery", type, size, res_nquery(&state, whole, 1, type, answer, size), state.res_h_errno);
    show("res_nsearch", type, size, res_nsearch(&state, whole, 1, type, answer, size), state.res_h_errno);
    show("res_nquerydomain", type, size, res_nquerydomain(&state, name, domain, 1, type, answer, size),
         state.res_h_errno);
    show("res_nsend", type, size, res_nsend(&state, question, length, answer, size), 0);
    res_nclose(&state);
#endif
}

int main(int argc, char **argv)
{
    static const int types[] = { 28, 1, 255 }, sizes[] = { sizeof answer, 512, 60, 40, 13, 11 };

    if (argc != 3)
        return 2;
    res_init();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
            ask(argv[1], argv[2], types[i], sizes[j]);
    return 0;
}
