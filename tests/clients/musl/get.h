#include <netinet/in.h>
#include <sys/socket.h>

/* The first address of a host, by the program's own resolver; ends the program where there is none. */
struct sockaddr_storage lookup(const char *host);
