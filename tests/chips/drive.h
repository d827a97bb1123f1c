/* Runs one exported network on pseudo-random sequences and prints a hash of every byte of its outputs and of its state.
 *
 * A unit of the test program defines DRIVE_NAME, DRIVE_UPPER, DRIVE_LIMIT (largest activation), DRIVE_STEPS, and, as the
 * network has them, DRIVE_FLOAT (kind float32: activations are multiples of 2^-13), DRIVE_BOTH (two directions),
 * DRIVE_EACH_STEP (outputs [steps·K] of a whole sequence), DRIVE_CELLS, DRIVE_STABILISERS, DRIVE_POOLED; then it includes
 * the exported source and this file. networks.py computes the same hash from the desktop's predictions. */
#include "chip.h"

#define DRIVE_JOIN_(a, b) a##b
#define DRIVE_JOIN(a, b) DRIVE_JOIN_(a, b)
#define DRIVE(part) DRIVE_JOIN(DRIVE_NAME, part)
#define DRIVE_I DRIVE_JOIN(DRIVE_UPPER, _INPUTS)
#define DRIVE_K DRIVE_JOIN(DRIVE_UPPER, _OUTPUTS)

#ifdef __cplusplus
extern "C" {
#endif
void DRIVE(_drive)(uint32_t sequences);
void DRIVE(_saturate)(uint32_t steps);
void DRIVE(_measure)(void);
#ifdef __cplusplus
}
#endif

static DRIVE(_state) drive_state;
static DRIVE(_scratch) drive_scratch;
static DRIVE(_activation) drive_x[DRIVE_STEPS * DRIVE_I];
static DRIVE(_output) drive_out[DRIVE_STEPS * DRIVE_K];

/* FNV-1a (Fowler, Noll and Vo). */
static uint32_t drive_hash(uint32_t hash, const void *from, size_t size) {
  const unsigned char *bytes = (const unsigned char *)from;
  size_t i;
  for (i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 16777619U;
  return hash;
}

/* xorshift (Marsaglia, 2003). Sequences by turns: uniform; at the limits; small; uniform but constant in time. */
static void drive_fill(uint32_t sequence) {
  uint32_t s = sequence * 2654435761U + 2463534242U;
  uint32_t i;
  if (s == 0U) s = 1U;
  for (i = 0; i < DRIVE_STEPS * DRIVE_I; ++i) {
    int32_t a;
    s ^= s << 13;
    s ^= s >> 17;
    s ^= s << 5;
    a = (int32_t)(((uint64_t)(s >> 8) * (2U * DRIVE_LIMIT + 1U)) >> 24) - DRIVE_LIMIT;
    if (sequence % 4U == 1U) a = (s >> 31) != 0U ? DRIVE_LIMIT : -DRIVE_LIMIT;
    if (sequence % 4U == 2U) a /= 16;
#ifdef DRIVE_FLOAT
    drive_x[i] = (float)a * (1.0F / 8192.0F);
#else
    drive_x[i] = (DRIVE(_activation))a;
#endif
    if (sequence % 4U == 3U && i >= DRIVE_I) drive_x[i] = drive_x[i - DRIVE_I];
  }
}

#ifndef DRIVE_BOTH
static uint32_t drive_hash_state(uint32_t hash) {
  hash = drive_hash(hash, drive_state.activations, sizeof drive_state.activations);
#ifdef DRIVE_CELLS
  hash = drive_hash(hash, drive_state.cells, sizeof drive_state.cells);
#endif
#ifdef DRIVE_STABILISERS
  hash = drive_hash(hash, drive_state.stabilisers, sizeof drive_state.stabilisers);
#endif
#ifdef DRIVE_POOLED
  hash = drive_hash(hash, drive_state.pooled, sizeof drive_state.pooled);
  hash = drive_hash(hash, &drive_state.steps, sizeof drive_state.steps);
#endif
  return hash;
}

/* One long sequence at the limits: 1024 steps each of all at the upper limit, all at the lower, features by turns, steps by
 * turns. A hash of the last outputs and state. */
void DRIVE(_saturate)(uint32_t steps) {
  uint32_t t, i;
  DRIVE(_reset)(&drive_state);
  for (t = 0; t < steps; ++t) {
    for (i = 0; i < DRIVE_I; ++i) {
      const uint32_t phase = t / 1024U % 4U;
      const int upper = phase == 0U || (phase == 2U && (i + t) % 2U == 0U) || (phase == 3U && t % 2U == 0U);
#ifdef DRIVE_FLOAT
      drive_x[i] = (float)(upper ? DRIVE_LIMIT : -DRIVE_LIMIT) * (1.0F / 8192.0F);
#else
      drive_x[i] = (DRIVE(_activation))(upper ? DRIVE_LIMIT : -DRIVE_LIMIT);
#endif
    }
    DRIVE(_step)(&drive_state, &drive_scratch, drive_x, drive_out);
  }
  chip_print(DRIVE_TEXT " ");
  chip_print_hex(drive_hash_state(drive_hash(2166136261U, drive_out, DRIVE_K * sizeof *drive_out)));
  chip_print(" saturated\n");
}
#endif

void DRIVE(_drive)(uint32_t sequences) {
  uint32_t total = 0, n;
  for (n = 0; n < sequences; ++n) {
    uint32_t hash = 2166136261U;
    drive_fill(n);
    DRIVE(_reset)(&drive_state);
#ifdef DRIVE_BOTH
    {
      static DRIVE(_activation) buffer[DRIVE_JOIN(DRIVE_UPPER, _BUFFER)(DRIVE_STEPS) + 1U];
      const size_t count = DRIVE_JOIN(DRIVE_UPPER, _BUFFER)(DRIVE_STEPS);
      if (DRIVE(_run)(&drive_state, &drive_scratch, drive_x, DRIVE_STEPS, buffer, count, drive_out) != 0) chip_exit(3);
#ifdef DRIVE_EACH_STEP
      hash = drive_hash(hash, drive_out, sizeof drive_out);
#else
      hash = drive_hash(hash, drive_out, DRIVE_K * sizeof *drive_out);
#endif
    }
#else
    {
      uint32_t t;
      for (t = 0; t < DRIVE_STEPS; ++t) {
        DRIVE(_step)(&drive_state, &drive_scratch, drive_x + t * DRIVE_I, drive_out);
        hash = drive_hash_state(drive_hash(hash, drive_out, DRIVE_K * sizeof *drive_out));
      }
    }
#endif
    total = total * 16777619U ^ hash;
  }
  chip_print(DRIVE_TEXT " ");
  chip_print_hex(total);
  chip_print(DRIVE(_self_test)() == 0 ? " passed\n" : " self-test FAILED\n");
}

#ifdef DRIVE_MEASURE
static void drive_step(void *unused) {
  (void)unused;
  DRIVE(_step)(&drive_state, &drive_scratch, drive_x, NULL);
}
static void drive_step_and_head(void *unused) {
  (void)unused;
  DRIVE(_step)(&drive_state, &drive_scratch, drive_x, drive_out);
}
static void drive_nothing(void *unused) { (void)unused; }

/* Counts, in this order: the call itself, a step, a step with the head; then prints bytes. */
void DRIVE(_measure)(void) {
  uint32_t n, stack = 0;
  DRIVE(_reset)(&drive_state);
  for (n = 0; n < 20U; ++n) { /* a state as it is in use */
    drive_fill(4U * n);
    drive_step(NULL);
  }
  chip_count(drive_nothing, NULL);
  chip_count(drive_step, NULL);
  chip_count(drive_step_and_head, NULL);
  stack = chip_stack_of(drive_step_and_head, NULL);
  chip_print(DRIVE_TEXT " state ");
  chip_print_unsigned((uint32_t)sizeof drive_state);
  chip_print(" scratch ");
  chip_print_unsigned((uint32_t)sizeof drive_scratch);
  chip_print(" stack ");
  chip_print_unsigned(stack);
  chip_print("\n");
}
#endif
