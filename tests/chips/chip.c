/* Start-up, output and measurement: Cortex-M boards by semihosting, the other architectures by Linux system calls under
   qemu-user, WebAssembly by functions that the embedder provides. Freestanding: no C library. On the machine that
   compiles it is an ordinary program. */
#include "chip.h"

#if defined(__unix__) && !defined(__riscv) && !defined(__aarch64__) && !defined(__arm__)

/* The machine that compiles, with its own C library. */
#include <stdio.h>
#include <stdlib.h>
#define CHIP_HAS_C_LIBRARY
#define CHIP_HOSTED

#elif defined(__wasm__)

__attribute__((import_module("chip"), import_name("print"))) void chip_host_print(const char *text, size_t length);
__attribute__((import_module("chip"), import_name("exit"))) void chip_host_exit(int status);

#else

#ifndef CHIP_STACK
#define CHIP_STACK 65536
#endif
#define CHIP_TEXT_(value) #value
#define CHIP_TEXT(value) CHIP_TEXT_(value)

/* Static, so that the program knows its lower end; aligned as every one of these architectures wants it. */
static uint32_t chip_stack[CHIP_STACK / 4] __attribute__((aligned(16), used));

#endif

#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'

static intptr_t chip_semihosting(intptr_t operation, const void *argument) {
  register intptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static void chip_write(const char *text, size_t length) {
  (void)length;
  chip_semihosting(0x04, text); /* SYS_WRITE0 */
}

void chip_exit(int status) {
  const uint32_t block[2] = {0x20026, (uint32_t)status}; /* ADP_Stopped_ApplicationExit */
  chip_semihosting(0x20, block);                         /* SYS_EXIT_EXTENDED */
  for (;;) {
  }
}

static void chip_fault(void) {
  chip_print("fault\n");
  chip_exit(99);
}

void chip_reset(void);
void chip_reset(void) {
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: floating point and vectors on, where there are any */
  __asm__ volatile("dsb\n isb" ::: "memory");
  chip_exit(chip_main());
}

/* Data lie in RAM from the start: the emulator loads every segment where it runs. */
/* Initial stack pointer; reset, NMI, faults (hard, memory, bus, usage, secure). */
static const struct {
  uint32_t *stack;
  void (*entry[7])(void);
} chip_vectors __attribute__((section(".vectors"), used)) = {
    chip_stack + sizeof chip_stack / sizeof *chip_stack,
    {chip_reset, chip_fault, chip_fault, chip_fault, chip_fault, chip_fault, chip_fault},
};

#elif defined(__riscv) || defined(__aarch64__)

/* write is 64 and exit 93 in the generic table of system calls that both architectures use. */
static long chip_system_call(long number, long a, long b, long c) {
#if defined(__riscv)
  register long a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c, a7 __asm__("a7") = number;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
  return a0;
#else
  register long x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x8 __asm__("x8") = number;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
  return x0;
#endif
}

static void chip_write(const char *text, size_t length) { chip_system_call(64, 1, (long)(intptr_t)text, (long)length); }

void chip_exit(int status) {
  for (;;) chip_system_call(93, status, 0, 0);
}

void chip_start(void);
__attribute__((used, noreturn)) void chip_start(void) {
  chip_exit(chip_main());
  for (;;) {
  }
}

__asm__(
    ".globl _start\n"
    "_start:\n"
#if defined(__riscv)
    "  .option push\n"
    "  .option norelax\n"
    "  la gp, __global_pointer$\n"
    "  .option pop\n"
    "  la sp, chip_stack + " CHIP_TEXT(CHIP_STACK) "\n"
    "  tail chip_start\n"
#else
    "  adrp x0, chip_stack + " CHIP_TEXT(CHIP_STACK) "\n"
    "  add x0, x0, :lo12:chip_stack + " CHIP_TEXT(CHIP_STACK) "\n"
    "  mov sp, x0\n"
    "  b chip_start\n"
#endif
);

#elif defined(__wasm__)

static void chip_write(const char *text, size_t length) { chip_host_print(text, length); }
void chip_exit(int status) { chip_host_exit(status); }

__attribute__((export_name("run"))) int chip_run(void);
int chip_run(void) { return chip_main(); }

#elif defined(CHIP_HOSTED)

static void chip_write(const char *text, size_t length) { (void)fwrite(text, 1, length, stdout); }
void chip_exit(int status) { exit(status); }
int main(void) { return chip_main(); }

#else
#error "no start-up code for this architecture"
#endif

void chip_print(const char *text) {
  size_t length = 0;
  while (text[length] != 0) length++;
  chip_write(text, length);
}

void chip_print_unsigned(uint32_t value) {
  char digits[11];
  size_t place = sizeof digits;
  digits[--place] = 0;
  do {
    digits[--place] = (char)('0' + (char)(value % 10));
    value /= 10;
  } while (value > 0);
  chip_print(digits + place);
}

void chip_print_hex(uint32_t value) {
  char digits[9];
  for (int place = 0; place < 8; place++) digits[place] = "0123456789abcdef"[value >> (28 - 4 * place) & 15];
  digits[8] = 0;
  chip_print(digits);
}

__attribute__((noinline)) uint32_t chip_stack_of(void (*work)(void *), void *argument) {
#if defined(__wasm__) || defined(CHIP_HOSTED)
  work(argument); /* its stack cannot be seen */
  return 0;
#else
  const uint32_t paint = 0xC0DEFACEu;
  volatile uint32_t *pointer;
#if defined(__riscv)
  __asm__ volatile("mv %0, sp" : "=r"(pointer));
#else
  __asm__ volatile("mov %0, sp" : "=r"(pointer));
#endif
  volatile uint32_t *place = chip_stack;
  while (place < pointer) *place++ = paint;
  work(argument);
  place = chip_stack;
  while (place < pointer && *place == paint) place++;
  return (uint32_t)((uintptr_t)pointer - (uintptr_t)place);
#endif
}

/* Symbols that the plugin gets the addresses of. Functions of their own that do nothing: nothing of the work can move
   across them. */
void chip_mark_start(void);
void chip_mark_stop(void);
__attribute__((noinline, used)) void chip_mark_start(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline, used)) void chip_mark_stop(void) { __asm__ volatile("" ::: "memory"); }

__attribute__((noinline)) void chip_count(void (*work)(void *), void *argument) {
  chip_mark_start();
  work(argument);
  chip_mark_stop();
}

#ifndef CHIP_HAS_C_LIBRARY
/* What compilers call without being asked to. Loops that the compiler must not turn into calls of themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);

#if defined(__clang__)
#define CHIP_PLAIN_LOOP
#else
#define CHIP_PLAIN_LOOP __attribute__((optimize("no-tree-loop-distribute-patterns")))
#endif

CHIP_PLAIN_LOOP void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  unsigned char *restrict target = to;
  const unsigned char *restrict source = from;
  for (size_t i = 0; i < size; i++) target[i] = source[i];
  return to;
}

CHIP_PLAIN_LOOP void *memmove(void *to, const void *from, size_t size) {
  unsigned char *target = to;
  const unsigned char *source = from;
  if ((uintptr_t)target <= (uintptr_t)source) {
    for (size_t i = 0; i < size; i++) target[i] = source[i];
  } else {
    for (size_t i = size; i > 0; i--) target[i - 1] = source[i - 1];
  }
  return to;
}

CHIP_PLAIN_LOOP void *memset(void *to, int value, size_t size) {
  unsigned char *target = to;
  for (size_t i = 0; i < size; i++) target[i] = (unsigned char)value;
  return to;
}

CHIP_PLAIN_LOOP int memcmp(const void *a, const void *b, size_t size) {
  const unsigned char *x = a, *y = b;
  for (size_t i = 0; i < size; i++) {
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  }
  return 0;
}

CHIP_PLAIN_LOOP size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != 0) length++;
  return length;
}

#if defined(__riscv) && __riscv_xlen == 32
/* A division that 32-bit processors have no instruction for: the compiler's own library has it, but is not packaged. */
long long __divdi3(long long a, long long b);
long long __divdi3(long long a, long long b) {
  uint64_t rest = a < 0 ? 0U - (uint64_t)a : (uint64_t)a, quotient = 0;
  const uint64_t divisor = b < 0 ? 0U - (uint64_t)b : (uint64_t)b;
  for (int bit = 63; bit >= 0; bit--) {
    if (rest >> bit >= divisor) {
      rest -= divisor << bit;
      quotient |= (uint64_t)1 << bit;
    }
  }
  return (long long)((a < 0) == (b < 0) ? quotient : 0U - quotient);
}
#endif

#endif
