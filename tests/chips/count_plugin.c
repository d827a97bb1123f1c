/* A plugin of QEMU that counts the instructions executed between chip_mark_start and chip_mark_stop (chip.c), and, asked
   to, how often each of them ran.

   Arguments: start=ADDRESS, stop=ADDRESS, out=PATH of the output, each=on for one line "address count" an instruction.
   Output: a line "count N" for every pair of marks. The declarations below are those of QEMU's plugin interface as its
   documentation gives them (docs/devel/tcg-plugins): distributions ship no header. Callbacks only, since these have kept
   their form over all versions of the interface. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { no_registers = 0 };
typedef void (*executed_fn)(unsigned int cpu, void *user);
typedef void (*translated_fn)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated_fn callback);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, executed_fn callback, int flags, void *user);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif
__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

enum { slots = 1 << 16 };
static struct slot {
  uint64_t address, count;
  bool used;
} table[slots];

static uint64_t start_address, stop_address, total;
static bool each, counting;
static FILE *output;

static void count(unsigned int cpu, void *user) {
  (void)cpu;
  if (!counting) return;
  total++;
  ((struct slot *)user)->count++;
}

static void start(unsigned int cpu, void *user) {
  (void)cpu;
  (void)user;
  for (size_t i = 0; i < slots; i++) table[i].count = 0;
  total = 0;
  counting = true;
}

static void stop(unsigned int cpu, void *user) {
  (void)cpu;
  (void)user;
  counting = false;
  fprintf(output, "count %" PRIu64 "\n", total);
  for (size_t i = 0; each && i < slots; i++) {
    if (table[i].count > 0) fprintf(output, "%" PRIx64 " %" PRIu64 "\n", table[i].address, table[i].count);
  }
  fflush(output);
}

static struct slot *slot_of(uint64_t address) {
  for (size_t i = (address >> 1) % slots, tried = 0; tried < slots; i = (i + 1) % slots, tried++) {
    if (table[i].used && table[i].address != address) continue;
    table[i].used = true;
    table[i].address = address;
    return &table[i];
  }
  abort();
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
    const uint64_t address = qemu_plugin_insn_vaddr(insn);
    if (address == stop_address) qemu_plugin_register_vcpu_insn_exec_cb(insn, stop, no_registers, NULL);
    qemu_plugin_register_vcpu_insn_exec_cb(insn, count, no_registers, slot_of(address));
    if (address == start_address) qemu_plugin_register_vcpu_insn_exec_cb(insn, start, no_registers, NULL);
  }
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    const char *value = strchr(argv[i], '=');
    if (value == NULL) return -1;
    value++;
    if (strncmp(argv[i], "start=", 6) == 0) start_address = strtoull(value, NULL, 16);
    if (strncmp(argv[i], "stop=", 5) == 0) stop_address = strtoull(value, NULL, 16);
    if (strncmp(argv[i], "out=", 4) == 0) output = fopen(value, "w");
    if (strncmp(argv[i], "each=", 5) == 0) each = strcmp(value, "on") == 0;
  }
  if (start_address == 0 || stop_address == 0 || output == NULL) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  return 0;
}
