"""What a quantised network computes, from the description in cpp/edge/lstmcore_edge.h: exact 64-bit integers in NumPy.

Qn is an integer that stands for itself times 2^-n. Pre-activations are Q12, gates Q15, outputs Q16. Rounding is half up
unless said otherwise. Letters: T time steps, I input features, H hidden units, W H padded to a multiple of four.

The equations, with gates by linear interpolation in tables with steps of 1/16 (logistic through tanh(x/2), log(1 +
e^-u)) and of 1/64 (2^-f):

    elman             h = tanh(a)  or  max(a, 0)
    lstm              c = f c₋ + i g,  h = o tanh(c);  peepholes p c₋ in i and f, p c in o;  coupled: i = 1 - f
    gru               n = tanh(x_n + r (R_n h₋ + bR_n)),  h = (1 - z) n + z h₋
    gru_reset_before  n = tanh(x_n + R_n (r h₋)),  h likewise
    slstm             m = max(i, m₋ + log f),  c = e^(m₋ + log f - m) c₋ + e^(i - m) tanh(z),  n likewise with 1,
                      h = o c / n
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ONE = 1 << 15
INT32 = 1 << 31

_u = np.arange(193) / 16
TANH_HALF = np.rint(ONE * np.tanh(_u / 2)).astype(np.int64)
LOG1P_EXP = np.rint(4096 * np.log1p(np.exp(-_u))).astype(np.int64)
EXP2 = np.rint(ONE * 2.0 ** (-np.arange(65) / 64)).astype(np.int64)


def half_up(numerator, denominator):
    """round(numerator / denominator), halves up; whatever the runtime holds must fit its 32 bits."""
    return np.floor_divide(2 * np.asarray(numerator, np.int64) + denominator, 2 * denominator)


def fits(values):
    """The same values, which the runtime keeps in 32 bits."""
    values = np.asarray(values, np.int64)
    assert np.all(np.abs(values) < INT32), "a value does not fit 32 bits"
    return values


def from_table(table, position, steps):
    """position: in 1/steps of an entry."""
    index, part = np.divmod(position, steps)
    return half_up(table[index] * (steps - part) + table[np.minimum(index + 1, len(table) - 1)] * part, steps)


def tanh_half(u):
    """tanh(u/2), u ≥ 0 in Q12; 1 from 12 on."""
    inside = np.minimum(u, 12 * 4096 - 1)
    return np.where(u < 12 * 4096, from_table(TANH_HALF, inside, 256), ONE)


def logistic(x):
    value = half_up(ONE + tanh_half(np.abs(x)), 2)
    return np.where(x < 0, ONE - value, value)


def tanh(x):
    return np.sign(x) * tanh_half(2 * np.abs(x))


def exp(x):
    """e^x for x ≤ 0: 2^-y, y = -x log2 e in Q12 (log2 e in Q14); 0 from x = -12 on."""
    y = half_up(np.minimum(-x, 12 * 4096) * round(2**14 / np.log(2)), 2**14)
    whole, part = np.divmod(y, 4096)
    return np.where(x > -12 * 4096, half_up(from_table(EXP2, part, 64), 1 << whole), 0)


def log_logistic(x):
    u = np.abs(x)
    tail = np.where(u < 12 * 4096, from_table(LOG1P_EXP, np.minimum(u, 12 * 4096 - 1), 256), 0)
    return np.minimum(x, 0) - tail


def softmax(logits):
    """Q16 to Q15."""
    logits = np.asarray(logits, np.int64)
    weights = exp((logits - logits.max()) >> 4)
    return (weights * ONE + weights.sum() // 2) // weights.sum()


def by_gate(matrix, gates):
    """(gates, W) numbers of rows that stand as four units of the first gate, the same four of the second, …"""
    return np.arange(4 * matrix.groups).reshape(-1, gates, 4).transpose(1, 0, 2).reshape(gates, -1)


def preactivations(matrix, activations, gates=1):
    """(gates, W) in the runtime's units."""
    factor = 16 if matrix.storage == "int4" else 1
    weights = matrix.weights.astype(np.int64) * factor
    bias = matrix.bias.astype(np.int64)
    fits((np.abs(weights) @ np.abs(activations) + np.abs(bias)) << matrix.shift)
    shifted = (weights @ activations + bias) << matrix.shift
    return half_up(shifted * matrix.multiplier.astype(np.int64), 1 << 32)[by_gate(matrix, gates)]


def clip(values, limit):
    return np.clip(values, -limit, limit)


@dataclass
class Slot:
    """The state of one direction of one layer: h (W,) activations, cells and stabilisers as the runtime keeps them."""

    h: Any
    cells: Any
    stabilisers: Any


def initial(layer):
    width = -(-layer.hidden // 4) * 4
    columns = {"elman": 0, "lstm": 1, "gru": 1, "gru_reset_before": 1, "slstm": 2}[layer.cell]

    def of(values, count):
        return np.zeros(count, np.int64) if values is None else values.astype(np.int64)

    return Slot(
        of(layer.initial_h, width),
        of(layer.initial_cells, columns * width).reshape(columns, width),
        of(layer.initial_stabilisers, width),
    )


def output(layer, h):
    """h in Q15 as activations."""
    return clip(half_up(fits(h * layer.output_multiplier), ONE), layer.limit)


def step(layer, slot, x):
    """One time step: x (I padded,). Changes the slot."""
    both = np.concatenate([x, slot.h])
    m = layer.matrices
    if layer.cell == "elman":
        a = preactivations(m[0], both)[0]
        if "relu" in layer.options:
            slot.h = clip(half_up(np.maximum(a, 0) * layer.output_multiplier, 1 << layer.output_shift), layer.limit)
        else:
            slot.h = output(layer, tanh(a))
    elif layer.cell == "lstm":
        c = slot.cells[0]
        coupled = "coupled" in layer.options
        gates = preactivations(m[0], both, 3 if coupled else 4)
        f, g, o = gates[-3:]
        i = gates[0]
        unit = 1 << (layer.peephole_bits + layer.cell_bits - 12)
        if "peepholes" in layer.options:
            p = layer.peepholes.astype(np.int64).reshape(3, -1)
            f = f + half_up(p[1] * c, unit)
            i = i + half_up(p[0] * c, unit)
        f = logistic(f)
        i = ONE - f if coupled else logistic(i)
        kept = fits(f * c)
        stored = np.floor_divide(fits(i * tanh(g)), 1 << (15 - layer.cell_bits))
        c = clip(half_up(fits(kept + stored), ONE), 32767)
        if "peepholes" in layer.options:
            o = o + half_up(p[2] * c, unit)
        squashed = np.sign(c) * tanh_half((np.abs(c) << (15 - layer.cell_bits)) >> 2)  # tanh(c): u = 2c in Q12
        slot.h = output(layer, half_up(logistic(o) * squashed, ONE))
        slot.cells = c[None]
    elif layer.cell == "slstm":
        c, n = slot.cells
        i, f, z, o = preactivations(m[0], both, 4)
        log_f = f if "exponential_forget" in layer.options else log_logistic(f)
        kept = clip(fits(slot.stabilisers + log_f), 1 << 29)
        fresh = n == 0
        top = np.where(fresh, i, np.maximum(i, kept))
        old = np.where(fresh, 0, exp(np.minimum(kept - top, 0)))
        new = exp(i - top)
        c = half_up(fits(old * c + half_up(new * tanh(z), 2)), ONE)
        n = half_up(fits(old * n + new * (1 << 14)), ONE)
        full = n >= ONE
        c = clip(np.where(full, half_up(c, 2), c), 32767)
        n = np.where(full, half_up(n, 2), n)
        top = top + np.where(full, round(4096 * np.log(2)), 0)
        ratio = clip(np.sign(c) * (np.abs(c) * ONE // n), ONE)  # towards zero
        slot.h = output(layer, half_up(logistic(o) * ratio, ONE))
        slot.cells, slot.stabilisers = np.stack([c, n]), top
    else:
        h = slot.cells[0]
        if layer.cell == "gru":
            r, z = logistic(preactivations(m[0], both, 2))
            n = preactivations(m[1], x)[0] + half_up(r * preactivations(m[2], slot.h)[0], ONE)
        else:
            r = logistic(preactivations(m[0], both)[0])
            z = logistic(preactivations(m[1], both)[0])
            reset = output(layer, half_up(r * h, ONE))
            n = preactivations(m[2], x)[0] + preactivations(m[3], reset)[0]
        n = clip(tanh(n), 32767)
        h = clip(half_up(fits((ONE - z) * n + z * h), ONE), 32767)
        slot.h = output(layer, h)
        slot.cells = h[None]


def dense(layer, activations):
    """A hidden layer of the head: pre-activations in Q12 to activations."""
    a = preactivations(layer.matrix, activations)[0]
    if layer.activation == "relu":
        a = np.maximum(a, 0)
    elif layer.activation == "tanh":
        a = half_up(tanh(a), 8)
    elif layer.activation == "selu":  # without λ, which the multiplier holds; α in Q13
        a = np.where(a < 0, half_up((exp(np.minimum(a, 0)) - ONE) * round(1.6732632 * 2**13), 1 << 16), a)
    return clip(half_up(a * layer.output_multiplier, 1 << layer.output_shift), layer.limit)


def head(program, pooled):
    for layer in program.dense[:-1]:
        pooled = dense(layer, pooled)
    return preactivations(program.dense[-1].matrix, pooled)[0][: program.outputs]


def padded(values):
    return np.concatenate([values, np.zeros(-len(values) % 4, np.int64)])


def run(program, x):
    """Outputs (K,), pooling "none": (T, K), of a sequence of activations x (T, I) from the initial state."""
    sequence = np.asarray(x, np.int64)
    for first in range(0, len(program.layers), program.directions):
        directions = []
        for d in range(program.directions):
            layer, slot = program.layers[first + d], initial(program.layers[first + d])
            outputs = []
            for row in sequence[:: -1 if d else 1]:
                step(layer, slot, padded(row))
                outputs.append(slot.h[: layer.hidden])
            directions.append(np.array(outputs))
        last = np.concatenate([h[-1] for h in directions])
        sequence = np.concatenate([h[:: -1 if d else 1] for d, h in enumerate(directions)], axis=1)
    if program.pooling == "none":
        return np.array([head(program, padded(row)) for row in sequence])
    if program.pooling == "last":
        pooled = last
    elif program.pooling == "max":
        pooled = sequence.max(axis=0)
    else:  # halves away from zero
        sums, steps = sequence.sum(axis=0), len(sequence)
        pooled = np.sign(sums) * ((np.abs(sums) + steps // 2) // steps)
    return head(program, padded(pooled))


def quantised(program, x):
    """Activations of features (T, I) float32: halves away from zero, saturated, NaN the smallest."""
    scaled = (x.astype(np.float32) - program.centre) * program.scale
    limit = program.input_limit
    away = np.sign(scaled) * np.floor(np.abs(scaled.astype(np.float64)) + 0.5)
    return np.where(np.isnan(scaled), -limit, np.clip(away, -limit, limit)).astype(np.int64)


# float32, in float64 here


def _sigma(x):
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1.0) / (1.0 + np.exp(-np.abs(x)))


def _sums(matrix, x, gates=1):
    return (matrix.weights.astype(np.float64) @ x + matrix.bias.astype(np.float64))[by_gate(matrix, gates)]


def float_step(layer, state, x):
    """state: dict of h, c, n, m. Returns the next one."""
    h, m = state["h"], layer.matrices
    both = np.concatenate([x, h])
    new = dict(state)
    if layer.cell == "elman":
        a = _sums(m[0], both)[0]
        new["h"] = np.maximum(a, 0) if "relu" in layer.options else np.tanh(a)
    elif layer.cell == "lstm":
        coupled = "coupled" in layer.options
        gates = _sums(m[0], both, 3 if coupled else 4)
        p = layer.peepholes.astype(np.float64).reshape(3, -1) if "peepholes" in layer.options else np.zeros((3, len(h)))
        f = _sigma(gates[-3] + p[1] * state["c"])
        i = 1 - f if coupled else _sigma(gates[0] + p[0] * state["c"])
        new["c"] = f * state["c"] + i * np.tanh(gates[-2])
        new["h"] = _sigma(gates[-1] + p[2] * new["c"]) * np.tanh(new["c"])
    elif layer.cell == "slstm":
        i, f, z, o = _sums(m[0], both, 4)
        kept = state["m"] + (f if "exponential_forget" in layer.options else -np.logaddexp(0, -f))
        fresh = state["n"] == 0
        new["m"] = np.where(fresh, i, np.maximum(i, kept))
        old = np.where(fresh, 0, np.exp(kept - new["m"]))
        new["c"] = old * state["c"] + np.exp(i - new["m"]) * np.tanh(z)
        new["n"] = old * state["n"] + np.exp(i - new["m"])
        new["h"] = _sigma(o) * new["c"] / new["n"]
    elif layer.cell == "gru":
        r, z = _sigma(_sums(m[0], both, 2))
        n = np.tanh(_sums(m[1], x)[0] + r * _sums(m[2], h)[0])
        new["h"] = (1 - z) * n + z * h
    else:
        r, z = _sigma(_sums(m[0], both)[0]), _sigma(_sums(m[1], both)[0])
        n = np.tanh(_sums(m[2], x)[0] + _sums(m[3], r * h)[0])
        new["h"] = (1 - z) * n + z * h
    return new


def float_run(program, x):
    """The same as run() of a float32 program, x (T, I) after centring and scaling."""
    sequence = np.asarray(x, np.float64)
    for first in range(0, len(program.layers), program.directions):
        directions = []
        for d in range(program.directions):
            layer = program.layers[first + d]
            width = -(-layer.hidden // 4) * 4
            state = {name: np.zeros(width) for name in "hcnm"}
            if layer.initial_h is not None:
                state["h"] = layer.initial_h.astype(np.float64)
            if layer.initial_cells is not None:
                for name, values in zip("cnm", layer.initial_cells.astype(np.float64).reshape(-1, width), strict=False):
                    state[name] = values
            outputs = []
            for row in sequence[:: -1 if d else 1]:
                state = float_step(layer, state, np.concatenate([row, np.zeros(-len(row) % 4)]))
                outputs.append(state["h"][: layer.hidden])
            directions.append(np.array(outputs))
        last = np.concatenate([h[-1] for h in directions])
        sequence = np.concatenate([h[:: -1 if d else 1] for d, h in enumerate(directions)], axis=1)
    pooled = {"none": sequence, "last": last[None], "max": sequence.max(0)[None], "mean": sequence.mean(0)[None]}
    results = []
    for a in pooled[program.pooling]:
        for number, layer in enumerate(program.dense):
            a = _sums(layer.matrix, np.concatenate([a, np.zeros(-len(a) % 4)]))[0][: layer.outputs]
            if layer.activation == "relu":
                a = np.maximum(a, 0)
            elif layer.activation == "tanh":
                a = np.tanh(a)
            elif layer.activation == "selu":
                a = 1.0507009873554805 * np.where(a < 0, 1.6732632423543772 * np.expm1(np.minimum(a, 0)), a)
            assert number + 1 < len(program.dense) or layer.activation == "linear"
        results.append(a)
    return np.array(results) if program.pooling == "none" else results[0]
