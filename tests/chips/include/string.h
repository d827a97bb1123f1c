/* For compilers that come without a C library: what chip.c defines. */
#ifndef LSTMCORE_CHIP_STRING_H
#define LSTMCORE_CHIP_STRING_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

#ifdef __cplusplus
}
#endif

#endif
