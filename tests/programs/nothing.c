// The control of the tests: a library with the exports of egress-shim, each of which hands its arguments to the next
// definition and does nothing else. The harness names them: -DFORWARDS="FORWARD(connect) FORWARD(recv) ...".
#define _GNU_SOURCE
#include <dlfcn.h>

// All of them have at most eight arguments, integers and pointers; where one has fewer, the others are not looked at.
typedef long function(long, long, long, long, long, long, long, long);

// Found at load, since dlsym takes a lock; or at a call that comes before that.
#define FORWARD(name) FORWARD_FOUND(name, __attribute__((constructor)))
// Found at the first call: dlsym allocates the message about a name that libc lacks.
#define FORWARD_LATE(name) FORWARD_FOUND(name, )

#define FORWARD_FOUND(name, when)                                                             \
    static function *next_##name;                                                             \
                                                                                              \
    when static void find_##name(void) { next_##name = (function *)dlsym(RTLD_NEXT, #name); } \
                                                                                              \
    long name(long a, long b, long c, long d, long e, long f, long g, long h)                 \
    {                                                                                         \
        if (!next_##name)                                                                     \
            find_##name();                                                                    \
        return next_##name(a, b, c, d, e, f, g, h);                                           \
    }

FORWARDS
