"""Two ways to train one recurrent layer with a readout: as in 1997, and as is usual today.

Shape letters: N sequences, T_i their steps, I inputs, H hidden units, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lstmcore
from lstmcore import _core

Array = NDArray[Any]


@dataclass(frozen=True)
class Setup1997:
    """One row of tables 10 and 11 of Hochreiter & Schmidhuber (1997)."""

    blocks: int
    block_size: int
    learning_rate: float
    interval: float  # weights start uniform in [-interval, interval]
    input_gate_bias: tuple[float, ...] | None = None  # None: as the weights
    output_gate_bias: tuple[float, ...] | None = None
    biases: str = "all"  # "all" non-input units, "hidden" units, "gates" or "none"
    recurrent: bool = True  # hidden units read hidden units; False: and the output units read the input (tasks 2a, 2b)
    truncated: bool = True  # gradient: errors flow back in time inside the cells only
    slope: bool = True  # errors of the outputs are times the slope of their logistic, as those of a squared error are


@dataclass(frozen=True)
class SetupToday:
    cell: str = "lstm"
    hidden_size: int = 32
    learning_rate: float = 0.01
    batch_size: int = 8
    clip_norm: float = 1.0
    longest: int = 0  # > 0: gate biases for memories of up to so many steps (Tallec & Ollivier 2018); 0: forget bias 1


class Network:
    """Outputs at the last step, or at every step. Subclasses say what the outputs are and how weights move."""

    layer: Any
    V: Array  # (K, H)
    c: Array  # (K,)

    def __init__(self, every_step: bool) -> None:
        self.every_step = every_step
        self.nothing: dict[str, Array] | None = None

    def outputs(self, X: Sequence[Array]) -> list[Array]:
        """(K,) of each sequence, or (T_i, K)."""
        y, state = self.layer.forward(list(X))
        if self.every_step:
            return [self.activate(self.scores(h, x)) for h, x in zip(y, X, strict=True)]
        return list(self.activate(self.scores(state["h"][0], None)))

    def train(self, X: Sequence[Array], targets: Sequence[Array]) -> list[Array]:
        """One update; the outputs before it, in the form of the targets."""
        y, state, tape = self.layer.forward(list(X), training=True)
        if self.every_step:
            results = [self.activate(self.scores(h, x)) for h, x in zip(y, X, strict=True)]
            slopes = [self.slope(o, t, len(X)) for o, t in zip(results, targets, strict=True)]
            gradients = self.layer.backward(tape, [s @ self.V for s in slopes]).parameters
            rows, d_scores = np.concatenate(y), np.concatenate(slopes)
            inputs = np.concatenate(X)
        else:
            rows, inputs = state["h"][0], None
            o = self.activate(self.scores(rows, None))
            results = list(o)
            d_scores = self.slope(o, np.asarray(targets), len(X))
            dstate = {**self.zeros(state), "h": (d_scores @ self.V)[None]}
            gradients = self.layer.backward(tape, None, dstate).parameters
        self.update(gradients, d_scores.T @ rows, d_scores.sum(axis=0), d_scores, inputs)
        return results

    def zeros(self, state: dict[str, Array]) -> dict[str, Array]:
        """Gradients of final states that no output reads; kept, since runs are of many short calls."""
        if self.nothing is None or self.nothing["h"].shape != state["h"].shape:
            self.nothing = {name: np.zeros_like(value) for name, value in state.items()}
        return self.nothing

    def scores(self, h: Array, x: Array | None) -> Array:
        del x
        return h @ self.V.T + self.c

    def activate(self, scores: Array) -> Array:
        raise NotImplementedError

    def slope(self, outputs: Array, targets: Array, n: int) -> Array:
        """Derivative of the loss by the scores."""
        raise NotImplementedError

    def update(self, gradients: dict[str, Array], dV: Array, dc: Array, d_scores: Array, inputs: Array | None) -> None:
        raise NotImplementedError


class Network1997(Network):
    """Memory cell blocks, truncated gradient, logistic outputs, squared error; weights move after each sequence.

    The setup may ask for the full gradient, or for errors without the slope of the logistic: neither is the paper's.
    """

    def __init__(self, inputs: int, outputs: int, every_step: bool, setup: Setup1997, seed: int) -> None:
        super().__init__(every_step)
        self.setup = setup
        B, H = setup.blocks, setup.blocks * setup.block_size
        self.layer = lstmcore.Recurrent(
            "lstm1997",
            input_size=inputs,
            hidden_size=H,
            block_size=setup.block_size,
            gate_recurrence=setup.recurrent,
            gradient="truncated" if setup.truncated else "full",
        )
        rng = np.random.default_rng((seed, 1997))
        p = self.weights = self.layer.parameters
        for w in p.values():
            w[...] = rng.uniform(-setup.interval, setup.interval, w.shape)
        self.V = rng.uniform(-setup.interval, setup.interval, (outputs, H)).astype(np.float32)
        self.c = np.zeros(outputs, dtype=np.float32)
        self.U: Array | None = None
        self.trained = {name: np.ones_like(w) for name, w in p.items()}  # 0: a weight that the paper's net lacks
        b, used = p["b_l0"], self.trained["b_l0"]
        if setup.biases == "gates":
            used[B : B + H] = 0
        elif setup.biases == "none":
            used[:] = 0
        elif setup.biases == "all":
            self.c[:] = rng.uniform(-setup.interval, setup.interval, outputs)
        if setup.input_gate_bias is not None:
            b[:B] = setup.input_gate_bias
        if setup.output_gate_bias is not None:
            b[B + H :] = setup.output_gate_bias
        b *= used
        if not setup.recurrent:
            p["R_l0"][...] = 0
            self.trained["R_l0"][...] = 0
            # No output gate: one that is always open.
            p["W_l0"][B + H :] = 0
            self.trained["W_l0"][B + H :] = 0
            b[B + H :] = 30.0
            self.U = rng.uniform(-setup.interval, setup.interval, (outputs, inputs)).astype(np.float32)
        self.restricted = [name for name, mask in self.trained.items() if not mask.all()]

    @property
    def count(self) -> int:
        """Weights, as the paper counts them."""
        readout = self.V.size + (self.c.size if self.setup.biases == "all" else 0)
        shortcut = 0 if self.U is None else self.U.size
        return int(sum(mask.sum() for mask in self.trained.values())) + readout + shortcut

    def scores(self, h: Array, x: Array | None) -> Array:
        result = h @ self.V.T + self.c
        if self.U is not None and x is not None:
            result += x @ self.U.T
        return result

    def activate(self, scores: Array) -> Array:
        result: Array = 1.0 / (1.0 + np.exp(-scores))
        return result

    def slope(self, outputs: Array, targets: Array, n: int) -> Array:
        del n  # of E = 1/2 sum of squared errors, not of their mean; without slope, of the cross-entropy
        error = outputs - targets
        return error * outputs * (1.0 - outputs) if self.setup.slope else error

    def update(self, gradients: dict[str, Array], dV: Array, dc: Array, d_scores: Array, inputs: Array | None) -> None:
        rate = np.float32(self.setup.learning_rate)
        for name in self.restricted:
            gradients[name] *= self.trained[name]
        for name, w in self.weights.items():
            w -= rate * gradients[name]
        self.V -= rate * dV
        if self.setup.biases == "all":
            self.c -= rate * dc
        if self.U is not None and inputs is not None:
            self.U -= rate * (d_scores.T @ inputs)


class NetworkToday(Network):
    """LSTM or GRU, Adam on mini-batches, clipping; softmax and cross-entropy for classes, else a linear output."""

    def __init__(
        self, inputs: int, outputs: int, every_step: bool, classes: bool, setup: SetupToday, seed: int
    ) -> None:
        super().__init__(every_step)
        self.classes = classes
        H = setup.hidden_size
        self.layer = lstmcore.Recurrent(setup.cell, input_size=inputs, hidden_size=H, seed=seed)
        rng = np.random.default_rng((seed, 2017))
        self.V = rng.uniform(-1, 1, (outputs, H)).astype(np.float32) / np.float32(np.sqrt(H))
        self.c = np.zeros(outputs, dtype=np.float32)
        p = self.layer.parameters
        if setup.longest > 2:
            keep = np.log(rng.uniform(1, setup.longest - 1, H)).astype(np.float32)
            if setup.cell == "lstm":
                p["b_l0"][:H], p["b_l0"][H : 2 * H] = -keep, keep
            else:  # gru: z weighs the old state
                p["b_l0"][H : 2 * H] = keep
        options = {"solver": "adam", "learning_rate": setup.learning_rate, "clip_norm": setup.clip_norm}
        self.optimiser = _core.Optimiser(options, {**p, "V": self.V, "c": self.c})

    def activate(self, scores: Array) -> Array:
        if not self.classes:
            return scores
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        result: Array = e / e.sum(axis=-1, keepdims=True)
        return result

    def slope(self, outputs: Array, targets: Array, n: int) -> Array:
        result: Array = ((outputs - targets) / n).astype(np.float32)  # of 1/2 squared error, or of the cross-entropy
        return result

    def update(self, gradients: dict[str, Array], dV: Array, dc: Array, d_scores: Array, inputs: Array | None) -> None:
        del d_scores, inputs
        self.optimiser.step({**gradients, "V": np.ascontiguousarray(dV), "c": dc})
