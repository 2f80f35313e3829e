/*
 * A file system in user space, on a directory that only this process and those in its mount namespace see:
 *
 *     slow_files DIRECTORY MICROSECONDS TEXT
 *
 * It has one file, `list`, with that text. Opening it takes so long. Prints "ready" when it is mounted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ROOT = 1, LIST };

static int device;
static const char *text;

static void answer(const struct fuse_in_header *question, int error, void *body, size_t length)
{
    struct fuse_out_header header = { .len = (uint32_t)(sizeof header + length),
                                      .error = -error,
                                      .unique = question->unique };
    struct iovec parts[] = { { &header, sizeof header }, { body, length } };

    /* The question may have been withdrawn. */
    if (writev(device, parts, 2) < 0 && errno != ENOENT)
        exit(2);
}

static struct fuse_attr attributes(uint64_t node)
{
    struct fuse_attr file = { .ino = LIST, .mode = S_IFREG | 0644, .nlink = 1, .size = strlen(text) };
    struct fuse_attr root = { .ino = ROOT, .mode = S_IFDIR | 0755, .nlink = 2 };

    return node == ROOT ? root : file;
}

static void serve(const struct fuse_in_header *question, const void *body, unsigned delay)
{
    struct fuse_init_out start = { .major = 7, .minor = 31, .max_write = 4096 };
    struct fuse_attr_out attribute = { .attr_valid = 1000, .attr = attributes(question->nodeid) };
    struct fuse_entry_out entry = { .nodeid = LIST, .attr_valid = 1000, .attr = attributes(LIST) };
    struct fuse_open_out open = { .open_flags = FOPEN_DIRECT_IO };
    const struct fuse_read_in *read = body;
    size_t length = strlen(text);

    switch (question->opcode) {
    case FUSE_INIT: answer(question, 0, &start, sizeof start); break;
    case FUSE_GETATTR: answer(question, 0, &attribute, sizeof attribute); break;
    case FUSE_LOOKUP:
        if (strcmp(body, "list") == 0)
            answer(question, 0, &entry, sizeof entry);
        else
            answer(question, ENOENT, NULL, 0);
        break;
    case FUSE_OPEN:
        usleep(delay);
        answer(question, 0, &open, sizeof open);
        break;
    case FUSE_READ:
        if (read->offset < length)
            answer(question, 0, (char *)text + read->offset, length - read->offset);
        else
            answer(question, 0, NULL, 0);
        break;
    case FUSE_FLUSH:
    case FUSE_RELEASE: answer(question, 0, NULL, 0); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break;
    default: answer(question, ENOSYS, NULL, 0);
    }
}

int main(int count, char **arguments)
{
    static struct {
        struct fuse_in_header header;
        char body[1 << 16];
    } question;
    char options[80];

    if (count != 4)
        return 2;
    text = arguments[3];
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("slow", arguments[1], "fuse", 0, options) != 0) {
        perror("mount");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (read(device, &question, sizeof question) > 0 || errno == EINTR)
        serve(&question.header, question.body, (unsigned)atoi(arguments[2]));
    return 0;
}
