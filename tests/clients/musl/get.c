/* The clients in C for musl: PROGRAM HOST PATH prints the answer. The resolver is the program's own. */
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "get.h"

int main(int count, char **arguments)
{
    if (count != 3)
        errx(2, "usage: %s HOST PATH", arguments[0]);
    struct sockaddr_storage address = lookup(arguments[1]);
    /* The port is at the same place in both families. */
    ((struct sockaddr_in *)&address)->sin_port = htons(80);
    int server = socket(address.ss_family, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&address, sizeof address))
        err(1, "connect");
    dprintf(server, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", arguments[2], arguments[1]);

    char answer[4096] = "";
    FILE *stream = fdopen(server, "r");
    fread(answer, 1, sizeof answer - 1, stream);
    char *body = strstr(answer, "\r\n\r\n");
    if (ferror(stream) || !body)
        errx(1, "no HTTP answer");
    fputs(body + 4, stdout);
}
