/* Hears digits in a stream of features: reads frames of float32 from standard input, prints what was said and when.
 *
 * python -m lstmcore export spoken-digits/digits.safetensors --c spoken-digits/c --name digits
 * cc -std=c99 -O2 -Ispoken-digits/c -o listen examples/spoken_digits/listen.c spoken-digits/c/digits.c \
 *    spoken-digits/c/lstmcore_edge.c
 * ./listen < spoken-digits/stream.f32
 *
 * On a device the frames come from a microphone's filter bank; everything below stays as it is. */
#include <stdio.h>
#include <string.h>

#include "digits.h"

enum { FRAMES_IN_A_ROW = 3, QUIET_FRAMES = 15 };

int main(void) {
  static digits_state state;
  static digits_scratch scratch;
  float frame[DIGITS_INPUTS];
  digits_activation x[DIGITS_INPUTS];
  digits_output out[DIGITS_OUTPUTS];
  uint16_t probabilities[DIGITS_OUTPUTS];
  uint32_t leader = DIGITS_OUTPUTS, row = 0;
  long t, heard_at = -1000;
  if (digits_self_test() != 0) {
    (void)fprintf(stderr, "this machine does not compute what the exporting one did\n");
    return 1;
  }
  digits_reset(&state);
  for (t = 0; fread(frame, sizeof(float), DIGITS_INPUTS, stdin) == DIGITS_INPUTS; ++t) {
    uint32_t best;
    digits_quantise(frame, x);
    digits_step(&state, &scratch, x, out);
    digits_probabilities(out, probabilities);
    best = digits_class(out);
    if (probabilities[best] <= 22938) { /* 0.7 of 32768 */
      row = 0;
    } else if (best == leader) {
      ++row;
    } else {
      row = 1;
    }
    leader = best;
    if (row >= FRAMES_IN_A_ROW && strcmp(digits_labels[best], "-") != 0 && t - heard_at > QUIET_FRAMES) {
      (void)printf("%6.2f s  %s\n", (double)t / 50.0, digits_labels[best]);
      heard_at = t;
    }
  }
  return 0;
}
