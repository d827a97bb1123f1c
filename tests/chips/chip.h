/* What a test program on an emulated chip has instead of an operating system: text output, the end of the program, the
   high-water mark of the stack, and marks between which instructions are counted. */
#ifndef LSTMCORE_CHIP_H
#define LSTMCORE_CHIP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

int chip_main(void); /* the test program */

void chip_print(const char *text);
void chip_print_unsigned(uint32_t value);
void chip_print_hex(uint32_t value);
void chip_exit(int status);

/* Calls work(argument) and returns the bytes of stack below this call that it wrote to, by painting them first. */
uint32_t chip_stack_of(void (*work)(void *), void *argument);

/* Calls work(argument) between the two marks that count_plugin.c looks for: one line of its output a call. */
void chip_count(void (*work)(void *), void *argument);

#ifdef __cplusplus
}
#endif

#endif
