// enter ROOT SHARED PROGRAM [ARG]...: runs PROGRAM in the root directory ROOT, where the directory SHARED,
// /tmp, /proc, /sys, /dev and the files that say how names are resolved are those of the surroundings.
//
// Its caller's environment is for PROGRAM, a preload included, so it is linked statically: no preload gets
// into this program itself. The mounts are in a namespace of their own and end with PROGRAM.
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "enter: %s %s: %s\n", what, path, strerror(errno));
    exit(125);
}

static void bind(const char *root, const char *path, int recursively)
{
    char inside[PATH_MAX];
    snprintf(inside, sizeof inside, "%s%s", root, path);
    // The directories above a shared one; those of a Debian are there.
    for (char *end = inside + strlen(root) + 1; (end = strchr(end, '/')); *end++ = '/') {
        *end = '\0';
        if (mkdir(inside, 0755) != 0 && errno != EEXIST)
            fail("mkdir", inside);
    }
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode) && mkdir(inside, 0755) != 0 && errno != EEXIST)
        fail("mkdir", inside);
    if (mount(path, inside, NULL, MS_BIND | (recursively ? MS_REC : 0), NULL) != 0)
        fail("mount on", inside);
}

int main(int count, char **arguments)
{
    if (count < 4) {
        fprintf(stderr, "usage: enter ROOT SHARED PROGRAM [ARG]...\n");
        return 125;
    }
    const char *root = arguments[1];
    char directory[PATH_MAX];
    if (!getcwd(directory, sizeof directory))
        fail("getcwd", "");
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        fail("a mount namespace for", root);
    // A root that is a mount, unlike that of chroot(2), is one that a program can do everything in.
    if (mount(root, root, NULL, MS_BIND, NULL) != 0)
        fail("mount", root);
    static const char *const trees[] = { "/proc", "/sys", "/dev", "/tmp" };
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++)
        bind(root, trees[i], 1);
    bind(root, arguments[2], 0);
    static const char *const files[] = { "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        bind(root, files[i], 0);
    // The old root goes over the new one, from where it is taken away (pivot_root(2)).
    if (chdir(root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0)
        fail("pivot_root", root);
    if (chdir(directory) != 0 && chdir("/") != 0)
        fail("chdir", "/");
    execvp(arguments[3], arguments + 3);
    fail("run", arguments[3]);
}
