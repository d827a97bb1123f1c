"""The network of the tree estimators: tree-LSTM layers, a dense head on the root or on every node. NumPy only.

Shape letters: N trees, M nodes, I input features, H hidden units, K outputs, A arity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._dense_head import cross_entropy, dense_backward, dense_forward, dense_init, numeric_loss, softmax
from ._forest import Trees, read_trees

__all__ = ["NodeTargets", "TreeNetwork"]

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

_LARGEST = 2**31


class NodeTargets(NamedTuple):
    """Targets of one tree's nodes."""

    values: Array  #: (M,) class indices, −1 for none; or (M, K) numbers, NaN for none
    weights: NDArray[np.float64]  #: (M,) factor of each node in the loss; written to by the estimator

    @property
    def known(self) -> NDArray[np.bool_]:
        """(M,) which nodes have a target."""
        return np.asarray(self.values >= 0 if self.values.ndim == 1 else ~np.isnan(self.values).any(axis=1))


class TreeNetwork:
    """A `_layer_network.Network`.

    Parameters: "W_l0", "U_l0", "b_l0", … of each layer (`lstmcore.TreeRecurrent`), "head_W" (K, H), "head_b" (K,).
    Constants: "mean" and "scale" (I,), x ↦ (x − mean)·scale; for numbers also "y_mean" and "y_scale" (K,).
    """

    # Not part of the architecture: set by the estimator.
    dropout: float = 0.0
    label_smoothing: float = 0.0
    loss: str = "squared"
    huber_delta: float = 1.0

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        self._config = dict(config)
        self._layers = [
            _core.TreeRecurrent(
                kind=config["kind"],
                input_size=config["inputs"] if layer == 0 else config["hidden"],
                hidden_size=config["hidden"],
                arity=config["arity"],
                dtype=config["dtype"],
                seed=int(np.random.SeedSequence((seed, layer)).generate_state(1, np.uint64)[0]),
            )
            for layer in range(config["layers"])
        ]
        self._head = dense_init(seed, config["hidden"], config["outputs"], config["dtype"])
        self._constants = {"mean": np.zeros(config["inputs"]), "scale": np.ones(config["inputs"])}
        if not config["classifies"]:
            self._constants |= {"y_mean": np.zeros(config["outputs"]), "y_scale": np.ones(config["outputs"])}

    @property
    def n_threads(self) -> int | None:
        return self._layers[0].n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        for layer in self._layers:
            layer.n_threads = value

    @property
    def parameters(self) -> dict[str, Array]:
        layers = {
            f"{name}_l{k}": value for k, layer in enumerate(self._layers) for name, value in layer.parameters.items()
        }
        return layers | self._head

    @property
    def constants(self) -> dict[str, Array]:
        return self._constants

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    # --- passes ------------------------------------------------------------------------------------------------------

    def loss_and_gradients(
        self, x: Trees, y: Array, weights: NDArray[np.float64] | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """y: (N,) class indices or (N, K) numbers; with targets "nodes" N NodeTargets.

        Σ w is then over nodes, each with its tree's weight.
        """
        if self._config["targets"] == "trees":
            rows, targets = x.roots, y
        else:
            rows = np.flatnonzero(np.concatenate([tree.known for tree in y]))
            targets = np.concatenate([tree.values for tree in y])[rows]
            factors = np.concatenate([tree.weights for tree in y])[rows]
            weights = factors if weights is None else factors * np.repeat(weights, x.sizes)[rows]
        parents = x.forest_parents()
        masks = self._masks(x, len(rows), seed) if training else None

        inputs, tapes = self._inputs(x), []
        for k, layer in enumerate(self._layers):
            if k > 0 and masks is not None:
                inputs = inputs * masks[k - 1]
            if training:
                inputs, _, tape = layer.forward(inputs, parents, x.positions, training=True)
                tapes.append(tape)
            else:
                inputs, _ = layer.forward(inputs, parents, x.positions)
        top = inputs[rows]
        if masks is not None:
            top = top * masks[-1]
        scores = dense_forward(top, self._head["head_W"], self._head["head_b"])
        if self._config["classifies"]:
            smoothing = self.label_smoothing if training else 0.0
            total, share, d_scores = cross_entropy(scores, targets, weights, smoothing)
        else:
            standard = (targets - self._constants["y_mean"]) * self._constants["y_scale"]
            total, share, d_scores = numeric_loss(scores, standard, weights, self.loss, self.huber_delta)
        if not training:
            return total, share, {}

        d_top, d_W, d_b = dense_backward(top, self._head["head_W"], d_scores)
        if masks is not None:
            d_top = d_top * masks[-1]
        d_h = np.zeros_like(inputs)
        d_h[rows] = d_top
        gradients: dict[str, Array] = {}
        for k in range(len(self._layers) - 1, -1, -1):
            found = self._layers[k].backward(tapes[k], d_h)
            gradients |= {f"{name}_l{k}": value for name, value in found.parameters.items()}
            d_h = found.x if k == 0 or masks is None else found.x * masks[k - 1]
        return total, share, {**gradients, "head_W": d_W, "head_b": d_b}

    def outputs(self, x: Trees) -> Array:
        """(N, K) of the roots; with targets "nodes" (N,) objects, (M, K) of each tree's nodes."""
        parents, h = x.forest_parents(), self._inputs(x)
        for layer in self._layers:
            h, _ = layer.forward(h, parents, x.positions)
        nodes = self._config["targets"] == "nodes"
        scores = dense_forward(h if nodes else h[x.roots], self._head["head_W"], self._head["head_b"])
        if self._config["classifies"]:
            result = softmax(scores)
        else:
            result = (scores / self._constants["y_scale"] + self._constants["y_mean"]).astype(scores.dtype)
        if not nodes:
            return result
        items = np.empty(len(x.sizes), dtype=object)
        for n, (start, size) in enumerate(zip(x.starts.tolist(), x.sizes.tolist(), strict=True)):
            items[n] = result[start : start + size]
        return items

    def _inputs(self, x: Trees) -> Array:
        result: Array = ((x.x - self._constants["mean"]) * self._constants["scale"]).astype(self._config["dtype"])
        return result

    def _masks(self, x: Trees, rows: int, seed: int) -> list[Array] | None:
        """Dropout on the input of every layer but the first, and of the head (Zaremba et al., 2014)."""
        if self.dropout == 0.0:
            return None
        random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
        counts = [len(x.x)] * (len(self._layers) - 1) + [rows]
        keep = 1.0 - self.dropout
        return [
            ((random.random_sample((count, self._config["hidden"])) < keep) / keep).astype(self._config["dtype"])
            for count in counts
        ]

    # --- data, files -------------------------------------------------------------------------------------------------

    def check(self, x: Trees, name: str) -> None:
        if x.features != self._config["inputs"]:
            raise ValueError(f"{name}: the trees have {x.features} features, expected {self._config['inputs']}")
        if self._config["kind"] == "nary":
            x.check_arity(self._config["arity"], name)
        elif x.positions is not None:
            raise ValueError(
                f"{name}: its trees have positions, which kind='child_sum' does not read. Leave them out, or use "
                "kind='nary'."
            )

    def test_input(self) -> Trees:
        x = np.random.RandomState(0).standard_normal((5, self._config["inputs"])).astype(self._config["dtype"])
        # A node alone, and a tree that forks where the arity allows it.
        forks = self._config["arity"] != 1
        return Trees(x, np.array([-1, -1, 0, 0 if forks else 1, 2]), None, np.array([1, 4]))

    @classmethod
    def read(cls, X: Any, name: str, dtype: str) -> Trees:
        return read_trees(X, name, dtype)

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[Shapes, Shapes, str]:
        expected = ("kind", "inputs", "hidden", "layers", "arity", "outputs", "classifies", "targets", "dtype")
        if set(config) != set(expected):
            raise ValueError(f"config: expected the entries {', '.join(expected)}, got {', '.join(map(str, config))}")
        for name in ("inputs", "hidden", "layers", "outputs"):
            if type(config[name]) is not int or not 1 <= config[name] <= _LARGEST:
                raise ValueError(f"config: {name}: expected an integer of at least 1, got {config[name]!r}")
        if config["layers"] > 1000:
            raise ValueError(f"config: layers: expected at most 1000, got {config['layers']}")
        for name, allowed in (
            ("kind", ("child_sum", "nary")),
            ("targets", ("trees", "nodes")),
            ("dtype", ("float32", "float64")),
            ("classifies", (True, False)),
        ):
            if not any(config[name] is value or (value == config[name] and type(value) is str) for value in allowed):
                raise ValueError(f"config: {name}: expected one of {allowed}, got {config[name]!r}")
        A = config["arity"]
        if config["kind"] == "child_sum" and A is not None:
            raise ValueError(f"config: arity: expected null for child_sum, got {A!r}")
        if config["kind"] == "nary" and (type(A) is not int or not 1 <= A <= _LARGEST):
            raise ValueError(f"config: arity: expected an integer of at least 1, got {A!r}")
        I, H, K = config["inputs"], config["hidden"], config["outputs"]
        shapes: Shapes = {}
        for layer in range(config["layers"]):
            shapes[f"W_l{layer}"] = (4 * H, I if layer == 0 else H)
            shapes[f"U_l{layer}"] = (4 * H, H) if A is None else ((3 + A) * H, A * H)
            shapes[f"b_l{layer}"] = (4 * H,)
        shapes |= {"head_W": (K, H), "head_b": (K,)}
        constants: Shapes = {"mean": (I,), "scale": (I,)}
        if not config["classifies"]:
            constants |= {"y_mean": (K,), "y_scale": (K,)}
        return shapes, constants, config["dtype"]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TreeNetwork:
        return cls(config)
