"""A network cut into single layers, directions and steps, in float64: what the diagnostics look into.

Steps are counted as a direction runs them: step 0 is a sequence's first for the forward direction and its last for the
reverse one. Shape letters: T time steps, N sequences, I input features, H hidden units, P width of h, L layers,
D directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._validation import check_count, read_sequences
from .model import Model
from .recurrent import Recurrent

__all__ = ["Batch", "Network", "Run", "Step", "read_network"]

Array = NDArray[Any]
State = dict[str, Array]


class Step(NamedTuple):
    """One step of the sequences that are still running: x (n, I), and states (n, width) by name."""

    x: Array
    before: State
    fresh: State  # what the cell made; with zoneout not yet mixed with what was before
    after: State


@dataclass(frozen=True)
class Run:
    """One direction of one layer."""

    layer: int
    direction: int
    recurrent: Recurrent  # this run alone: one layer, one direction, no regularisers
    weights: dict[str, Array]  # by kind: "W", "R", "b", …
    start: State  # (width,) each
    zoneout: dict[str, float]  # by state: share of the old value in inference, where there is any

    @property
    def name(self) -> str:
        return f"layer {self.layer}" + (", reverse" if self.direction else "")

    def step(self, x: Array, before: State) -> Step:
        _, made = self.recurrent.forward(x[:, None], state=_as_given(before))
        fresh = {name: value[0] for name, value in made.items()}
        after = dict(fresh)
        for name, p in self.zoneout.items():
            after[name] = p * before[name] + (1.0 - p) * fresh[name]
        return Step(x, before, fresh, after)

    def step_back(self, step: Step, d: State) -> tuple[Array, State]:
        """Gradients through one step. d: of the state after it, (n, rows, width): `rows` functions for each sequence.

        Returns the gradients of x, (n, rows, I), and of the state before.
        """
        n, rows = d["h"].shape[:2]
        x, before = np.repeat(step.x, rows, axis=0), {k: np.repeat(v, rows, axis=0) for k, v in step.before.items()}
        d_fresh = {name: (1.0 - self.zoneout.get(name, 0.0)) * value for name, value in d.items()}
        _, _, tape = self.recurrent.forward(x[:, None], state=_as_given(before), training=True)
        gradients = self.recurrent.backward(
            tape, None, {name: value.reshape(1, n * rows, -1) for name, value in d_fresh.items()}
        )
        d_before = {name: np.asarray(value[0]).reshape(d[name].shape) for name, value in gradients.state.items()}
        for name, p in self.zoneout.items():
            d_before[name] = d_before[name] + p * d[name]
        return np.asarray(gradients.x).reshape(n, rows, -1), d_before


def _as_given(state: State) -> State:
    return {name: np.ascontiguousarray(value[None]) for name, value in state.items()}


@dataclass(frozen=True)
class Batch:
    """Sequences in order of falling length, padded with zeros: x (N, T, I), lengths (N,), order: their places in X."""

    x: Array
    lengths: NDArray[np.int64]
    order: NDArray[np.int64]

    def running(self, step: int) -> int:
        """How many sequences have this step; they are the first ones."""
        return int(np.count_nonzero(self.lengths > step))

    def reversed(self, values: Array) -> Array:
        """(N, T, …) with the real steps of each sequence in the other order."""
        steps = np.arange(values.shape[1])
        index = np.where(steps < self.lengths[:, None], self.lengths[:, None] - 1 - steps, steps)
        result: Array = np.take_along_axis(values, index[:, :, None], axis=1)
        return result


@dataclass(frozen=True)
class Network:
    """runs: layer 0 forward, layer 0 reverse, layer 1 forward, …; model: None for a bare layer."""

    runs: list[Run]
    directions: int
    output_size: int
    model: Model | None

    @property
    def num_layers(self) -> int:
        return len(self.runs) // self.directions

    def read(self, X: Any) -> Batch:
        """X checked, and standardised as the model does it."""
        sequences = read_sequences(X)
        features = self.runs[0].recurrent.input_size
        if sequences.features != features:
            raise ValueError(f"X has {sequences.features} features, but the network expects {features}.")
        order = np.argsort(-sequences.lengths, kind="stable")
        lengths = sequences.lengths[order]
        x = np.zeros((len(lengths), int(lengths[0]), features))
        scale = None if self.model is None else self.model.core.preprocessing
        for row, n in enumerate(order.tolist()):
            x[row, : lengths[row]] = sequences.data[n][: lengths[row]]
            if scale is not None:
                x[row, : lengths[row]] -= scale["input_mean"]
                x[row, : lengths[row]] *= scale["input_scale"]
        return Batch(x, lengths, order)

    def unroll(self, batch: Batch) -> Iterator[tuple[Run, list[Step], Array]]:
        """Each run from the bottom up with its steps, and the outputs (N, T, D·P) of its layer so far."""
        below = batch.x
        P = self.output_size
        for run in self.runs:
            if run.direction == 0:
                outputs = np.zeros((*batch.x.shape[:2], self.directions * P))
            x = batch.reversed(below) if run.direction else below
            state = {name: np.tile(value, (len(x), 1)) for name, value in run.start.items()}
            own = np.zeros((*batch.x.shape[:2], P))
            steps = []
            for k in range(x.shape[1]):
                n = batch.running(k)
                steps.append(run.step(x[:n, k], {name: value[:n] for name, value in state.items()}))
                state = steps[-1].after
                own[:n, k] = state["h"]
            outputs[:, :, run.direction * P : (run.direction + 1) * P] = batch.reversed(own) if run.direction else own
            yield run, steps, outputs
            if run.direction == self.directions - 1:
                below = outputs


def read_network(model: Any) -> Network:
    """A layer, a Model or a fitted estimator → its runs.

    TypeError for anything else, ValueError for an estimator that was not fitted.
    """
    if isinstance(model, _core.Recurrent):
        names = ("cell", "input_size", "hidden_size", "num_layers", "bidirectional", "reverse", "cell_options")
        more = ("zoneout_hidden", "zoneout_cell", "learn_initial_state")
        return _cut({name: getattr(model, name) for name in (*names, *more)}, model.parameters, None)
    whole = model if isinstance(model, Model) else getattr(model, "model_", None)
    if isinstance(whole, Model):
        return _cut(whole.config["recurrent"], whole.parameters, whole)
    if hasattr(model, "fit") and hasattr(model, "hidden_size"):
        raise ValueError(f"model: this {type(model).__name__} is not fitted. Call fit first.")
    raise TypeError(f"model: expected a Recurrent, a Model or a fitted estimator, got {type(model).__name__}.")


def _cut(config: dict[str, Any], parameters: dict[str, Array], model: Model | None) -> Network:
    if config["reverse"]:
        raise ValueError(
            "model: reverse=True is not supported. Use the same weights with reverse=False and X reversed."
        )
    if config["cell"] in ("mlstm", "xlstm"):
        raise ValueError(
            f"model: cell '{config['cell']}' is not supported: it takes many steps at once and has no step-by-step "
            "derivatives to look at. Use a cell with a recurrence, such as 'slstm'."
        )
    directions = 2 if config["bidirectional"] else 1
    options = dict(config["cell_options"])
    P = options.get("proj_size", 0) or config["hidden_size"]
    runs = []
    for layer in range(config["num_layers"]):
        for direction in range(directions):
            recurrent = Recurrent(
                config["cell"],
                input_size=config["input_size"] if layer == 0 else directions * P,
                hidden_size=config["hidden_size"],
                dtype="float64",
                **options,
            )
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            weights = {}
            for name, value in recurrent.parameters.items():
                kind = name.removesuffix("_l0")
                value[...] = parameters[kind + suffix]
                weights[kind] = value
            start = {name: np.zeros(value.shape[2]) for name, value in recurrent.init_state(1).items()}
            if config.get("learn_initial_state", False):
                start = {name: np.array(parameters[f"{name}0{suffix}"], dtype=np.float64) for name in start}
            zoneout = {name: float(config.get("zoneout_cell", 0.0)) for name in start}
            zoneout["h"] = float(config.get("zoneout_hidden", 0.0))
            used = {name: p for name, p in zoneout.items() if p > 0.0}
            runs.append(Run(layer, direction, recurrent, weights, start, used))
    return Network(runs, directions, P, model)


def read_targets(y: Any, count: int, model: Model) -> Array:
    """y as the head's loss compares it: (N,) indices of classes, or (N, K) numbers on the scale of the scores.

    ValueError where y does not fit the model.
    """
    values = np.asarray(y)
    check_count(len(values) if values.ndim else 0, "y", count, "X")
    if model.config["activation"] == "softmax":
        classes = np.arange(model.config["outputs"]) if model.classes is None else model.classes
        places = {label: k for k, label in enumerate(classes.tolist())}
        unknown = sorted({label for label in values.tolist() if label not in places}, key=str)
        if values.ndim != 1 or unknown:
            raise ValueError(f"y: expected (N,) labels among {classes.tolist()}, got {unknown[:5] or values.shape}.")
        return np.array([places[label] for label in values.tolist()])
    numbers = np.asarray(values, dtype=np.float64).reshape(count, -1)
    if numbers.shape[1] != model.config["outputs"]:
        raise ValueError(f"y: expected {model.config['outputs']} number(s) for each sequence, got {numbers.shape[1]}.")
    scale = model.core.preprocessing
    scaled: Array = (numbers - scale["output_mean"]) * scale["output_scale"]
    return scaled
