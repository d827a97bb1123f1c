"""The fixed parts of exported C code. ``@name@`` stands for what `fill` puts there."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["fill", "header_parts", "source"]


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replaces every ``@key@``; a key that is not there is a mistake of ours and raises KeyError."""
    return re.sub(r"@(\w+)@", lambda match: values[match.group(1)], template)


_HEADER = """\
/* @name@: @title@
 * @shape@
 *
 * RAM: @state_bytes@ bytes of state, @scratch_bytes@ of scratch. Flash: @weight_bytes@ bytes of constants, and the
 * code of what is used of lstmcore_edge.c. Made by lstmcore; do not edit. */
#ifndef @upper@_H
#define @upper@_H

#include "lstmcore_edge.h"

#if LSTMCORE_EDGE_VERSION != 1
#error "@name@ was exported for version 1 of lstmcore_edge"
#endif

#define @upper@_INPUTS @inputs@U
#define @upper@_OUTPUTS @count@U

#ifdef __cplusplus
extern "C" {
#endif

typedef @activation@ @name@_activation;
typedef @output@ @name@_output;

/* Yours: as many as there are streams. Call @name@_reset() before the first use. */
typedef struct @name@_state {
@members@
} @name@_state;

/* Yours: one for as many streams as you like that do not run at the same time; it keeps nothing. */
typedef struct @name@_scratch {
  uint32_t aligned; /* what follows begins at a multiple of four bytes */
  @name@_activation activations[@scratch@];
} @name@_scratch;

extern const lstmcore_edge_model @name@_model;

/* Back to the start of a sequence. */
void @name@_reset(@name@_state *state);

/* Features as measured to what the network reads, with floating point. */
void @name@_quantise(const float x[@upper@_INPUTS], @name@_activation q[@upper@_INPUTS]);
"""

_HEADER_STEP = """
/* One time step. out [@upper@_OUTPUTS]: outputs for the sequence so far, or NULL if they are not needed yet. */
void @name@_step(@name@_state *state, @name@_scratch *scratch, const @name@_activation x[@upper@_INPUTS],
@indent@@name@_output *out);

/* `steps` time steps, x [steps·@upper@_INPUTS], continuing from the state. out: @outputs_of_run@. Returns 0, or −1 if
 * steps is 0. */
int @name@_run(@name@_state *state, @name@_scratch *scratch, const @name@_activation *x, uint32_t steps,
@indent@@name@_output *out);
"""

_HEADER_BOTH = """
/* Activations of the buffer that @name@_run() needs for a sequence. */
#define @upper@_BUFFER(steps) ((size_t)@buffer@U * (steps))

/* A whole sequence, x [steps·@upper@_INPUTS]. buffer: buffer_count activations, NULL if @upper@_BUFFER is 0. out:
 * @outputs_of_run@. Returns 0, or −1 if the buffer is too small or steps is 0. */
int @name@_run(@name@_state *state, @name@_scratch *scratch, const @name@_activation *x, uint32_t steps,
@indent@@name@_activation *buffer, size_t buffer_count, @name@_output *out);
"""

_HEADER_CLASSES = """
/* The class with the largest output; probabilities in Q15 (of 32768). */
uint32_t @name@_class(const @name@_output out[@upper@_OUTPUTS]);
void @name@_probabilities(const @name@_output out[@upper@_OUTPUTS], @probability@ probabilities[@upper@_OUTPUTS]);
"""

_HEADER_LABELS = """
extern const char *const @name@_labels[@upper@_OUTPUTS];
"""

_HEADER_VALUE = """
/* Output k in the units of the training targets, with floating point. */
float @name@_value(uint32_t k, @name@_output output);
"""

_HEADER_END = """
/* Runs a recorded sequence: 0 if every output is what it was at export, to the bit. State and scratch on the stack. */
int @name@_self_test(void);

/* The sequence and the outputs it must give. */
#define @upper@_TEST_STEPS @steps@U
extern const @name@_activation @name@_test_x[@upper@_TEST_STEPS * @upper@_INPUTS];
extern const @name@_output @name@_test_out[@outputs@];

#ifdef __cplusplus
}

/* For lstmcore::edge::Network in lstmcore_edge.hpp. */
struct @name@_traits {
  using State = @name@_state;
  using Scratch = @name@_scratch;
  using Activation = @name@_activation;
  using Output = @name@_output;
  static constexpr unsigned inputs = @upper@_INPUTS;
  static constexpr unsigned outputs = @upper@_OUTPUTS;
  static constexpr bool every_step = @every_step@; /* outputs at every step of run() */
  static const lstmcore_edge_model &model() { return @name@_model; }
  static void reset(State *state) { @name@_reset(state); }
  static void quantise(const float *x, Activation *q) { @name@_quantise(x, q); }
@trait_functions@};
#endif

#endif
"""

_TRAIT_STEP = """\
  static void step(State *state, Scratch *scratch, const Activation *x, Output *out) {
    @name@_step(state, scratch, x, out);
  }
  static int run(State *state, Scratch *scratch, const Activation *x, uint32_t steps, Output *out) {
    return @name@_run(state, scratch, x, steps, out);
  }
"""

_TRAIT_BOTH = """\
  static constexpr size_t buffer_count(uint32_t steps) { return @upper@_BUFFER(steps); }
  static int run(State *state, Scratch *scratch, const Activation *x, uint32_t steps, Activation *buffer,
                 size_t buffer_count, Output *out) {
    return @name@_run(state, scratch, x, steps, buffer, buffer_count, out);
  }
"""


def header_parts(both: bool, softmax: bool, labels: bool, real: bool) -> str:
    """The header of a model with these properties, still to be filled."""
    text = _HEADER + (_HEADER_BOTH if both else _HEADER_STEP)
    if softmax:
        text += _HEADER_CLASSES + (_HEADER_LABELS if labels else "")
    else:
        text += _HEADER_VALUE
    text += _HEADER_END.replace("@trait_functions@", _TRAIT_BOTH if both else _TRAIT_STEP)
    if real:
        text = text.replace("probabilities in Q15 (of 32768)", "probabilities")
    return text.replace("@probability@", "float" if real else "uint16_t").replace("@indent@", " " * 16)


_SOURCE = """\
/* @name@: @title@
 * Made by lstmcore; do not edit. */
#include "@name@.h"

@arrays@
static const lstmcore_edge_layer layers[] = {
@layers@};

static const lstmcore_edge_dense dense[] = {
@dense@};

const lstmcore_edge_model @name@_model = {
    @model@};

static lstmcore_edge_memory memory_of(@name@_state *state, @name@_scratch *scratch) {
  lstmcore_edge_memory memory;
  memory.activations = state->activations;
  memory.cells = @cells@;
  memory.stabilisers = @stabilisers@;
  memory.pooled = @pooled@;
  memory.steps = @steps@;
  memory.scratch = scratch != NULL ? scratch->activations : NULL;
  return memory;
}

void @name@_reset(@name@_state *state) {
  const lstmcore_edge_memory memory = memory_of(state, NULL);
  lstmcore_edge_reset(&@name@_model, &memory);
}

void @name@_quantise(const float x[@upper@_INPUTS], @name@_activation q[@upper@_INPUTS]) {
  lstmcore_edge_quantise(&@name@_model, x, q);
}
"""

STEP_AND_RUN = """
void @name@_step(@name@_state *state, @name@_scratch *scratch, const @name@_activation x[@upper@_INPUTS],
                 @name@_output *out) {
  const lstmcore_edge_memory memory = memory_of(state, scratch);
  lstmcore_edge_step(&@name@_model, &memory, x, out);
}

int @name@_run(@name@_state *state, @name@_scratch *scratch, const @name@_activation *x, uint32_t steps,
               @name@_output *out) {
  const lstmcore_edge_memory memory = memory_of(state, scratch);
  return lstmcore_edge_run(&@name@_model, &memory, x, steps, NULL, 0, out);
}
"""

RUN_BOTH = """
int @name@_run(@name@_state *state, @name@_scratch *scratch, const @name@_activation *x, uint32_t steps,
               @name@_activation *buffer, size_t buffer_count, @name@_output *out) {
  const lstmcore_edge_memory memory = memory_of(state, scratch);
  return lstmcore_edge_run(&@name@_model, &memory, x, steps, buffer, buffer_count, out);
}
"""

CLASSES = """
uint32_t @name@_class(const @name@_output out[@upper@_OUTPUTS]) {
  return lstmcore_edge_argmax(out, @upper@_OUTPUTS);
}

void @name@_probabilities(const @name@_output out[@upper@_OUTPUTS], uint16_t probabilities[@upper@_OUTPUTS]) {
  lstmcore_edge_softmax(out, @upper@_OUTPUTS, probabilities);
}
"""
CLASSES_FLOAT = CLASSES.replace("edge_argmax", "edge_argmax_float").replace("edge_softmax", "edge_softmax_float")
CLASSES_FLOAT = CLASSES_FLOAT.replace("uint16_t", "float")

VALUE = """
float @name@_value(uint32_t k, @name@_output output) {
  const float scaled = (float)output * output_scale[k];
  return scaled + output_mean[k];
}
"""

SELF_TEST = """
@arrays@
int @name@_self_test(void) {
  @name@_state state;
  @name@_scratch scratch;
  @name@_output out[@outputs@];
@call@  return memcmp(out, @name@_test_out, sizeof(out)) == 0 ? 0 : 1;
}
"""

TEST_CALL = """\
  @name@_reset(&state);
  (void)@name@_run(&state, &scratch, @name@_test_x, @upper@_TEST_STEPS, out);
"""

TEST_CALL_BOTH = """\
  @name@_activation buffer[@upper@_BUFFER(@upper@_TEST_STEPS) + 1U];
  if (@name@_run(&state, &scratch, @name@_test_x, @upper@_TEST_STEPS, buffer, @upper@_BUFFER(@upper@_TEST_STEPS),
                 out) != 0) {
    return 1;
  }
"""

MAIN = """\
/* Runs the self-test of @name@, then streams its inputs. */
#include <stdio.h>

#include "@name@.h"

int main(void) {
  static @name@_state state;
  static @name@_scratch scratch;
  @name@_output out[@upper@_OUTPUTS];
  uint32_t t, k;
  const int failed = @name@_self_test();
  (void)printf("self-test: %s\\n", failed == 0 ? "passed" : "FAILED");
  @name@_reset(&state);
  for (t = 0; t < @upper@_TEST_STEPS; ++t) {
    @name@_step(&state, &scratch, @name@_test_x + t * @upper@_INPUTS, out);
    (void)printf("%lu:", (unsigned long)t);
    for (k = 0; k < @upper@_OUTPUTS; ++k) {
      (void)printf(" @format@", @cast@out[k]);
    }
    (void)printf("\\n");
  }
  return failed;
}
"""

MAIN_BOTH = """\
/* Runs the self-test of @name@, then its inputs as one sequence. */
#include <stdio.h>

#include "@name@.h"

int main(void) {
  static @name@_state state;
  static @name@_scratch scratch;
  static @name@_activation buffer[@upper@_BUFFER(@upper@_TEST_STEPS) + 1U];
  static @name@_output out[@outputs@];
  uint32_t k;
  const int failed = @name@_self_test();
  (void)printf("self-test: %s\\n", failed == 0 ? "passed" : "FAILED");
  (void)@name@_run(&state, &scratch, @name@_test_x, @upper@_TEST_STEPS, buffer, @upper@_BUFFER(@upper@_TEST_STEPS),
                   out);
  for (k = 0; k < @outputs@U; ++k) {
    (void)printf(" @format@", @cast@out[k]);
  }
  (void)printf("\\n");
  return failed;
}
"""


def source(values: Mapping[str, str], functions: str, self_test: str) -> str:
    """name.c from its parts; what `functions` and `self_test` hold is filled already."""
    text = fill(_SOURCE, values).replace(
        f'#include "{values["name"]}.h"\n', f'#include "{values["name"]}.h"\n\n#include <string.h>\n', 1
    )
    return text + functions + self_test
