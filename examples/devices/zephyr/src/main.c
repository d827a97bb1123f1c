/* Runs the self-test, then a recorded sequence again and again; prints the class and the cycles of a step. */
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "vowels.h"

static vowels_state state;
static vowels_scratch scratch;

int main(void) {
  vowels_output out[VOWELS_OUTPUTS];
  uint32_t t;
  printk("self-test %s\n", vowels_self_test() == 0 ? "passed" : "FAILED");
  for (;;) {
    vowels_reset(&state);
    for (t = 0; t < VOWELS_TEST_STEPS; ++t) {
      const uint32_t begin = k_cycle_get_32();
      vowels_step(&state, &scratch, vowels_test_x + t * VOWELS_INPUTS, out);
      printk("class %u, %u cycles\n", vowels_class(out), k_cycle_get_32() - begin);
    }
    k_msleep(1000);
  }
  return 0;
}
