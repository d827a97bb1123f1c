// A network exported by lstmcore on an Arduino-compatible board with at least 8 kB of RAM.
//
// Put the exported files beside this one, without main.c:
//   python -m lstmcore export model.safetensors --c examples/devices/arduino/vowels --name vowels
//   rm examples/devices/arduino/vowels/main.c
// then open the folder in the Arduino IDE, or: arduino-cli compile --fqbn arduino:mbed_nano:nano33ble vowels
#include "vowels.h"

static vowels_state state;
static vowels_scratch scratch;

void setup() {
  Serial.begin(115200);
  while (!Serial) {
  }
  Serial.println(vowels_self_test() == 0 ? "self-test passed" : "self-test FAILED");
  vowels_reset(&state);
}

void loop() {
  static uint32_t t = 0;
  vowels_output out[VOWELS_OUTPUTS];

  // Replace by a frame of your sensor: float x[VOWELS_INPUTS]; … vowels_quantise(x, q); vowels_step(…, q, out);
  const unsigned long begin = micros();
  vowels_step(&state, &scratch, vowels_test_x + t * VOWELS_INPUTS, out);
  const unsigned long spent = micros() - begin;

  Serial.print("class ");
  Serial.print(vowels_class(out));
  Serial.print(", ");
  Serial.print(spent);
  Serial.println(" us");
  if (++t == VOWELS_TEST_STEPS) {
    t = 0;
    vowels_reset(&state);
    delay(1000);
  }
}
