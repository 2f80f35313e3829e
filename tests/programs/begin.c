/* Prints the errno that a program begins with. */
#include "guest.h"

int main(void)
{
    printf("errno %d\n", errno);
    return 0;
}
