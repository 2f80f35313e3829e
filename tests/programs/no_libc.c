/*
 * A program without libc: it makes system calls itself, as Go programs do. Prints its arguments and its
 * environment but for the preload and the library's settings, and ends with status 7.
 */
static long call(long number, long a, const void *b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static int begins_with(const char *text, const char *start)
{
    while (*start)
        if (*text++ != *start++)
            return 0;
    return 1;
}

static void print(const char *text)
{
    long length = 0;
    while (text[length])
        length++;
    call(1 /* write */, 1, text, length);
    call(1, 1, "\n", 1);
}

__attribute__((used)) static void run(long *stack)
{
    char **vector = (char **)(stack + 1);
    for (; *vector; vector++)
        print(*vector);
    for (vector++; *vector; vector++)
        if (!begins_with(*vector, "LD_PRELOAD=") && !begins_with(*vector, "EGRESS_SHIM"))
            print(*vector);
    call(231 /* exit_group */, 7, 0, 0);
}

/* System V ABI: at the start the stack holds argc, argv and the environment. */
__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call run\n");
