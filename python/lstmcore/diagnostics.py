"""What happens inside a network over time: how gradients travel back, and how open its gates are.

`gradient_flow` measures the vanishing and exploding of gradients (Hochreiter, 1991; Bengio, Simard & Frasconi, 1994;
Pascanu, Mikolov & Bengio, 2013), `gate_statistics` the saturation of gates (Karpathy, Johnson & Fei-Fei, 2015). Both
work on a copy of the weights in float64, step by step, and are meant for looking, not for speed.

Shape letters: T time steps, N sequences, H hidden units, P width of h, L layers, D directions, M lags.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._head_gradient import HeadGradient
from ._unrolled import Batch, Network, Run, Step, read_network, read_targets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "GateLayer",
    "GateStatistics",
    "GradientFlow",
    "LayerFlow",
    "gate_statistics",
    "gradient_flow",
]

Array = NDArray[Any]
State = dict[str, Array]

# Rows of a batch that are taken back through a step at once: bounds memory, not results.
_ROWS = 4096
_EXACT_UP_TO = 32  # units; beyond, "auto" takes random projections


@dataclass(frozen=True)
class LayerFlow:
    """Gradients within one direction of one layer, by lag; every array has shape (M,).

    Attributes
    ----------
    layer, direction : int
        Place in the stack; direction 1 is the reverse one.
    loss : dict of str to ndarray
        State → mean over sequences of ‖∂loss/∂state_{T−lag}‖, Euclidean.
    jacobian : dict of str to dict of str to ndarray
        Final state → state → mean over sequences of ‖∂final_T/∂state_{T−lag}‖, Frobenius, divided by √units of the
        final state: 1 for the identity.
    """

    layer: int
    direction: int
    loss: dict[str, Array]
    jacobian: dict[str, dict[str, Array]]

    @property
    def name(self) -> str:
        """ "layer 0", or "layer 0, reverse"."""
        return f"layer {self.layer}" + (", reverse" if self.direction else "")


@dataclass(frozen=True)
class GradientFlow:
    """What `gradient_flow` measured.

    Attributes
    ----------
    lags : ndarray of int, shape (M,)
        T − t: 0, 1, …
    counts : ndarray of int, shape (M,)
        Sequences long enough to have this lag; the means at this lag are over these.
    layers : tuple of LayerFlow
        Layer 0 forward, layer 0 reverse (if any), layer 1 forward, …
    exact : bool
        False where Jacobians were estimated by random projections.
    """

    lags: NDArray[np.int64]
    counts: NDArray[np.int64]
    layers: tuple[LayerFlow, ...]
    exact: bool

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        ax: Axes | None = None,
        *,
        quantity: Literal["jacobian", "loss"] = "jacobian",
    ) -> Axes:
        """`lstmcore.plotting.plot_gradient_flow`; with `path` the figure is written there as well."""
        from .plotting import plot_gradient_flow

        return _save(plot_gradient_flow(self, ax, quantity=quantity), path)


def gradient_flow(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    dy: Any = None,
    max_lag: int | None = None,
    method: Literal["auto", "exact", "projections"] = "auto",
    n_projections: int = 32,
    seed: int = 0,
) -> GradientFlow:
    """How gradients travel back in time: norms of ∂state_T/∂state_t and ∂loss/∂state_t by lag T − t.

    The state of a layer after step t has one or several parts: h, and the cell's own (c, s, …; see
    `Recurrent.states`). A derivative with respect to one part is taken with the other parts held, as all of them enter
    step t + 1; everything from there on depends on it. So ∂h_T/∂h_t leaves out what c_t carries, and ∂c_T/∂c_t shows
    the constant error carousel (Hochreiter & Schmidhuber, 1997); at lag 0 ∂h_T/∂h_T is the identity and ∂h_T/∂c_T
    zero. Derivatives are exact, and of the network as it predicts: without dropout, zoneout as its expectation. With
    ``gradient="truncated"`` they follow that rule.

    Parameters
    ----------
    model : Recurrent, Model or fitted estimator
    X : (N, T, I) array, NaN tail = shorter; (N, T) for I = 1; or list of (T_i, I) arrays
    y : (N,) or (N, K), optional
        Targets, for a Model or an estimator: the loss of a sequence is then the cross-entropy of a classifier, and the
        mean squared error of a regressor on its standardised scale, without label smoothing, weights or penalties.
    dy : (N, T, D·P) array or list of (T_i, D·P) arrays, optional
        ∂loss/∂y of any other loss, y being the outputs of the last layer; what lies past a length is not read. Without
        y and dy, the loss of a sequence is the sum of the last layer's h_T, in both directions.
    max_lag : int, optional
        Largest lag; by default the longest sequence's T − 1.
    method : {"auto", "exact", "projections"}, default "auto"
        "exact" forms every row of the Jacobians, at the cost of as many backward passes as a layer has state values.
        "projections" estimates ‖J‖² by the mean of ‖vᵀJ‖² over `n_projections` random vectors v of ±1 for each part
        of the state, without bias (Hutchinson, 1990); its relative error is about 1/√n_projections or less. "auto" is
        exact up to 32 units.
    n_projections : int, default 32
    seed : int, default 0
        Of the projections.

    Returns
    -------
    GradientFlow
        T is the last step that a direction runs, so for the reverse direction a sequence's first.

    Raises
    ------
    TypeError
        `model` is none of the above, or y is given for a Recurrent.
    ValueError
        The estimator is not fitted; X, y or dy do not fit it; y and dy are both given; an argument is out of range.

    Examples
    --------
    >>> import numpy as np, lstmcore
    >>> layer = lstmcore.Recurrent("elman", input_size=2, hidden_size=8)
    >>> flow = lstmcore.gradient_flow(layer, np.random.default_rng(0).normal(size=(4, 50, 2)))
    >>> norms = flow.layers[0].jacobian["h"]["h"]
    >>> float(norms[0]), bool(norms[49] < 1e-3)
    (1.0, True)
    """
    network = read_network(model)
    if method not in ("auto", "exact", "projections"):
        raise ValueError(f'method: expected "auto", "exact" or "projections", got {method!r}.')
    for name, value, least in (("n_projections", n_projections, 1), ("max_lag", max_lag, 0), ("seed", seed, 0)):
        if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least):
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}.")
    if y is not None and dy is not None:
        raise ValueError("y and dy are both given, and each is a loss. Give one of them.")
    if y is not None and network.model is None:
        raise TypeError("y: a Recurrent has no loss. Give dy, the gradient of a loss with respect to its outputs.")
    batch = network.read(X)
    most = batch.x.shape[1] - 1
    largest = most if max_lag is None else min(int(max_lag), most)
    widest = network.runs[0].recurrent.hidden_size
    exact = method == "exact" or (method == "auto" and widest <= _EXACT_UP_TO)

    runs = list(network.unroll(batch))
    d_above = _loss_gradient(network, batch, runs[-1][2], y, dy)
    norms = _loss_norms(network, batch, [steps for _, steps, _ in runs], d_above)
    rng = np.random.default_rng(seed)
    layers = []
    for (run, steps, _), loss in zip(runs, norms, strict=True):
        seeds, owners = _seeds(run, exact, n_projections, rng)
        jacobian = _jacobian_norms(run, batch, steps, seeds, owners, exact, largest)
        mean_loss = {name: _by_lag(values, batch, largest) for name, values in loss.items()}
        layers.append(LayerFlow(run.layer, run.direction, mean_loss, jacobian))
    counts = np.array([np.count_nonzero(batch.lengths > lag) for lag in range(largest + 1)])
    return GradientFlow(np.arange(largest + 1), counts, tuple(layers), exact)


def _loss_gradient(network: Network, batch: Batch, outputs: Array, y: Any, dy: Any) -> Array:
    """∂loss/∂outputs of the last layer, (N, T, D·P), in the order of the batch; zero past each length."""
    P, gradient = network.output_size, np.zeros_like(outputs)
    last = batch.lengths - 1
    rows = np.arange(len(last))
    if y is not None and network.model is not None:
        back, targets = HeadGradient(network.model), read_targets(y, len(last), network.model)
        for row, (n, length) in enumerate(zip(batch.order.tolist(), batch.lengths.tolist(), strict=True)):
            gradient[row, :length] = back(outputs[row, :length], targets[n])
    elif dy is not None:
        if len(dy) != len(last):
            raise ValueError(f"dy has {len(dy)} entries, X has {len(last)} sequences.")
        for row, n in enumerate(batch.order.tolist()):
            given = np.asarray(dy[n], dtype=np.float64)
            length = int(batch.lengths[row])
            if given.ndim != 2 or len(given) < length or given.shape[1] != outputs.shape[2]:
                raise ValueError(
                    f"dy: sequence {n} has shape {given.shape}, expected ({length}, {outputs.shape[2]}) as its outputs."
                )
            gradient[row, :length] = given[:length]
        if not np.isfinite(gradient).all():
            raise ValueError("dy contains NaN or infinity within a sequence.")
    else:
        gradient[rows, last, :P] = 1.0
        gradient[:, 0, P:] = 1.0
    return gradient


def _loss_norms(network: Network, batch: Batch, steps: list[list[Step]], d_above: Array) -> list[State]:
    """For each run, state → ‖∂loss/∂state‖ (N, T) after each step, the whole way down."""
    norms: list[State] = [{} for _ in network.runs]
    P = network.output_size
    for layer in reversed(range(network.num_layers)):
        d_below = np.zeros((*d_above.shape[:2], steps[layer * network.directions][0].x.shape[1]))
        for direction in range(network.directions):
            place = layer * network.directions + direction
            run = network.runs[place]
            d_out = d_above[:, :, direction * P : (direction + 1) * P]
            d_out = batch.reversed(d_out) if direction else d_out
            d = {name: np.zeros((len(d_out), 1, len(value))) for name, value in run.start.items()}
            norms[place] = {name: np.zeros(d_out.shape[:2]) for name in d}
            d_x = np.zeros_like(d_below)
            for k in reversed(range(d_out.shape[1])):
                n = batch.running(k)
                d["h"][:n, 0] += d_out[:n, k]
                for name, value in d.items():
                    norms[place][name][:n, k] = np.linalg.norm(value[:n, 0], axis=1)
                d_step, before = run.step_back(steps[place][k], {name: value[:n] for name, value in d.items()})
                d_x[:n, k] = d_step[:, 0]
                for name, value in before.items():
                    d[name][:n] = value
            d_below += batch.reversed(d_x) if direction else d_x
        d_above = d_below
    return norms


def _by_lag(values: Array, batch: Batch, largest: int) -> Array:
    """(N, T) by step → (M,) means over the sequences that have the lag."""
    means = np.empty(largest + 1)
    for lag in range(largest + 1):
        n = batch.running(lag)  # a sequence longer than the lag has it
        means[lag] = values[np.arange(n), batch.lengths[:n] - 1 - lag].mean()
    return means


def _seeds(run: Run, exact: bool, count: int, rng: np.random.Generator) -> tuple[State, list[str]]:
    """Gradients of the final state to start from, (rows, width) by state, and the state that each row belongs to."""
    blocks: dict[str, list[Array]] = {name: [] for name in run.start}
    owners: list[str] = []
    for owner, value in run.start.items():
        vectors = np.eye(len(value)) if exact else rng.choice([-1.0, 1.0], size=(count, len(value)))
        owners += [owner] * len(vectors)
        for name, other in run.start.items():
            blocks[name].append(vectors if name == owner else np.zeros((len(vectors), len(other))))
    return {name: np.concatenate(parts) for name, parts in blocks.items()}, owners


def _jacobian_norms(
    run: Run, batch: Batch, steps: list[Step], seeds: State, owners: list[str], exact: bool, largest: int
) -> dict[str, dict[str, Array]]:
    """Final state → state → mean over sequences of the norm at each lag."""
    names = list(run.start)
    rows_of = {name: np.array([owner == name for owner in owners]) for name in names}
    units = {name: len(value) for name, value in run.start.items()}
    totals = {of: {name: np.zeros(largest + 1) for name in names} for of in names}
    some = max(1, _ROWS // len(owners))
    for first in range(0, len(batch.lengths), some):
        lengths = batch.lengths[first : first + some]
        d = {name: np.repeat(value[None], len(lengths), axis=0) for name, value in seeds.items()}
        for k in reversed(range(int(lengths[0]))):
            # Sequences [begin, end) have step k, and a lag there that is asked for; lengths fall.
            begin = int(np.count_nonzero(lengths > k + 1 + largest))
            end = int(np.count_nonzero(lengths > k))
            lags = lengths[begin:end] - 1 - k
            for of in names:
                for name in names:
                    squares = np.square(d[name][begin:end][:, rows_of[of]]).sum(axis=2)
                    # The rows are a whole Jacobian, or projections of it: then their mean estimates its square.
                    square = squares.sum(axis=1) if exact else squares.mean(axis=1)
                    np.add.at(totals[of][name], lags, np.sqrt(square / units[of]))
            begin = int(np.count_nonzero(lengths > k + largest))  # the largest lag is as far as anyone goes
            if k == 0 or begin == end:
                continue
            part = slice(first + begin, first + end)
            step = steps[k]
            cut = Step(step.x[part], *({name: value[part] for name, value in state.items()} for state in step[1:]))
            _, before = run.step_back(cut, {name: value[begin:end] for name, value in d.items()})
            for name, value in before.items():
                d[name][begin:end] = value
    counts = np.array([np.count_nonzero(batch.lengths > lag) for lag in range(largest + 1)])
    return {of: {name: values / counts for name, values in rows.items()} for of, rows in totals.items()}


def _save(axes: Axes, path: str | os.PathLike[str] | None) -> Axes:
    if path is not None:
        figure: Any = axes.figure
        figure.savefig(path, dpi=150)
    return axes


# --- gates -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GateLayer:
    """Gates of one direction of one layer; arrays (units,) by gate, units being H, or H/block_size of "lstm1997".

    Attributes
    ----------
    layer, direction : int
        Place in the stack; direction 1 is the reverse one.
    left, right : dict of str to ndarray
        Fraction of all steps in which the unit's gate was below `low`, above `high`.
    mean : dict of str to ndarray
        Mean activation.
    histogram : dict of str to ndarray
        Fraction of activations, of all units together, in each of the equal bins of [0, 1]: shape (bins,).
    """

    layer: int
    direction: int
    left: dict[str, Array]
    right: dict[str, Array]
    mean: dict[str, Array]
    histogram: dict[str, Array]

    @property
    def name(self) -> str:
        """ "layer 0", or "layer 0, reverse"."""
        return f"layer {self.layer}" + (", reverse" if self.direction else "")


@dataclass(frozen=True)
class GateStatistics:
    """What `gate_statistics` counted.

    Attributes
    ----------
    gates : tuple of str
        Gates with activations between 0 and 1.
    layers : tuple of GateLayer
        Layer 0 forward, layer 0 reverse (if any), layer 1 forward, …
    steps : int
        Steps counted: those of all sequences together.
    low, high : float
        Below and above these a gate counts as saturated.
    """

    gates: tuple[str, ...]
    layers: tuple[GateLayer, ...]
    steps: int
    low: float
    high: float

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Any = None) -> Any:
        """`lstmcore.plotting.plot_gate_saturation`; with `path` the figure is written there as well.

        ax: one Axes for each gate, or None for a new figure. Returns the array of Axes.
        """
        from .plotting import plot_gate_saturation

        axes = plot_gate_saturation(self, ax)
        _save(axes[0], path)
        return axes


def gate_statistics(model: Any, X: Any, *, low: float = 0.1, high: float = 0.9, bins: int = 20) -> GateStatistics:
    """How open the gates of a network are, and how often they are shut or wide open.

    A unit whose forget gate is often above 0.9 remembers for long, one whose input gate is often below 0.1 reads
    rarely (Karpathy, Johnson & Fei-Fei, 2015, *Visualizing and understanding recurrent networks*, figure 2).

    Counted are the gates whose activation lies between 0 and 1: i, f and o of "lstm" and "peephole" (those that the
    variant has), i and o of "lstm1997", r and z of "gru", z of "min_gru", o of "slstm", and its f with the sigmoid
    forget gate. Of "min_lstm" i/(i + f) and f/(i + f) are counted, since these weigh the new and the old value.

    Parameters
    ----------
    model : Recurrent, Model or fitted estimator
    X : (N, T, I) array, NaN tail = shorter; (N, T) for I = 1; or list of (T_i, I) arrays
    low, high : float, default 0.1 and 0.9
        With 0 ≤ low < high ≤ 1.
    bins : int, default 20
        Of the histograms.

    Raises
    ------
    TypeError
        `model` is none of the above.
    ValueError
        The cell has no such gates ("elman", "indrnn"), the estimator is not fitted, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np, lstmcore
    >>> layer = lstmcore.Recurrent("lstm", input_size=2, hidden_size=8)
    >>> statistics = lstmcore.gate_statistics(layer, np.zeros((1, 10, 2)))
    >>> statistics.gates, statistics.layers[0].right["f"].shape
    (('i', 'f', 'o'), (8,))
    """
    network = read_network(model)
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"low, high: expected 0 <= low < high <= 1, got {low!r} and {high!r}.")
    if not isinstance(bins, (int, np.integer)) or isinstance(bins, bool) or bins < 1:
        raise ValueError(f"bins: expected an integer of at least 1, got {bins!r}.")
    cell = network.runs[0].recurrent.cell
    if cell in ("elman", "indrnn"):
        raise ValueError(f"model: cell '{cell}' has no gates between 0 and 1. Use a gated cell.")
    batch = network.read(X)
    layers = []
    for run, steps, _ in network.unroll(batch):
        values: dict[str, list[Array]] = {}
        for step in steps:
            for gate, activation in _activations(run, step):
                values.setdefault(gate, []).append(activation)
        layers.append(_count(run, {gate: np.concatenate(rows) for gate, rows in values.items()}, low, high, int(bins)))
    return GateStatistics(tuple(layers[0].mean), tuple(layers), int(batch.lengths.sum()), float(low), float(high))


def _count(run: Run, gates: State, low: float, high: float, bins: int) -> GateLayer:
    """gates: (steps of all sequences, units) each."""
    return GateLayer(
        run.layer,
        run.direction,
        left={gate: (values < low).mean(axis=0) for gate, values in gates.items()},
        right={gate: (values > high).mean(axis=0) for gate, values in gates.items()},
        mean={gate: values.mean(axis=0) for gate, values in gates.items()},
        histogram={
            gate: np.histogram(values, bins=bins, range=(0.0, 1.0))[0] / values.size for gate, values in gates.items()
        },
    )


def _sigmoid(a: Array) -> Array:
    small = np.exp(-np.abs(a))
    value: Array = np.where(a >= 0, 1.0, small) / (1.0 + small)
    return value


def _activations(run: Run, step: Step) -> Iterator[tuple[str, Array]]:
    """Gates and their activations in one step, (n, units) each, from the weights: equations in docs/cells.md."""
    a = _preactivations(run, step)
    cell, options = run.recurrent.cell, run.recurrent.cell_options
    if cell == "min_lstm":
        # i/(i + f) = σ(log i − log f), which does not become 0/0 where both are shut.
        ratio = np.logaddexp(0.0, -a["f"]) - np.logaddexp(0.0, -a["i"])
        yield from (("i", _sigmoid(ratio)), ("f", _sigmoid(-ratio)))
        return
    others: tuple[str, ...] = ("g", "n")  # candidates
    if cell == "slstm":
        others = ("i", "z", "f") if options.get("forget_activation") == "exponential" else ("i", "z")
    for gate, value in a.items():
        if gate not in others:
            yield gate, _sigmoid(value)


def _preactivations(run: Run, step: Step) -> State:
    """All that is summed up in each gate, by gate; of GRU's candidate only what comes from x and h."""
    p, recurrent = run.weights, run.recurrent
    options, H = recurrent.cell_options, recurrent.hidden_size
    blocks = H // int(options.get("block_size", 1))
    heights = [blocks if recurrent.cell == "lstm1997" and gate != "g" else H for gate in recurrent.gates]
    # Layer normalisation: all gates jointly, but GRU's candidate by itself.
    groups = [2 * H, H] if recurrent.cell == "gru" else [sum(heights)]
    a = _normalised(step.x @ p["W"].T, p.get("ln_x"), groups) + p["b"]
    if "R" in p:
        heads = int(options.get("heads", 1))
        fed = step.before["h"]
        if recurrent.cell == "lstm1997" and options.get("gate_recurrence"):
            fed = np.concatenate([fed, step.before["i"], step.before["o"]], axis=1)
        if heads > 1:
            R = p["R"].reshape(len(heights), heads, H // heads, H // heads)
            from_h = np.einsum("gkuj,nkj->ngku", R, fed.reshape(len(fed), heads, -1)).reshape(len(fed), -1)
        else:
            from_h = fed @ p["R"].T
        a = a + _normalised(from_h, p.get("ln_r"), groups) + p.get("bR", 0.0)
    gates = dict(zip(recurrent.gates, np.split(a, np.cumsum(heights)[:-1], axis=1), strict=True))
    if "RG" in p:
        fed = np.concatenate([step.before[gate] for gate in ("i", "f", "o")], axis=1)
        for gate, value in zip(("i", "f", "o"), np.split(fed @ p["RG"].T, 3, axis=1), strict=True):
            gates[gate] = gates[gate] + value
    if "P" in p:
        for gate, weight in zip((gate for gate in gates if gate != "g"), p["P"], strict=True):
            gates[gate] = gates[gate] + weight * (step.fresh if gate == "o" else step.before)["c"]
    return gates


def _normalised(a: Array, gain: Array | None, groups: list[int]) -> Array:
    if gain is None:
        return a
    parts = []
    for part in np.split(a, np.cumsum(groups)[:-1], axis=1):
        centred = part - part.mean(axis=1, keepdims=True)
        parts.append(centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + 1e-5))
    normalised: Array = gain * np.concatenate(parts, axis=1)
    return normalised
