"""Embedding or standardisation → recurrent layers → a dense layer at every step, with gradients. NumPy only.

`StepNetwork` is what the networks of SequenceTagger and its like have in common: everything but the loss.

Shape letters: N sequences, T time steps, I input features, H outputs of the recurrent layers at a step, K outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._dense_head import dense_init
from ._labels import labels_from_json, labels_to_json
from ._parameters import check_network_types
from ._steps import Steps, Vocabulary, read_steps
from ._validation import moments

__all__ = ["StepNetwork", "engine_model", "recurrent_config", "scatter", "vocabulary_of"]

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

_SIZES = ("inputs", "hidden_size", "num_layers", "outputs")
_RATES = ("dropout", "variational_dropout", "recurrent_dropout")
_KEYS = (*_SIZES, *_RATES, "cell", "cell_options", "bidirectional", "vocabulary", "embedding_size", "dtype")


class Pass:
    """What one pass leaves for the way back."""

    __slots__ = ("h", "lengths", "mask", "random", "rows", "scores", "state", "tape")

    scores: Array  #: (N, T, K)
    lengths: NDArray[np.int64]
    h: Array  #: (N, T, H), as the dense layer got it
    mask: Array | None
    rows: Array | None  #: (N, T) rows of the embedding
    state: dict[str, Array]  #: final, of the layers
    random: np.random.RandomState | None  #: where training draws on
    tape: Any


class StepNetwork:
    """A `_layer_network.Network` without loss_and_gradients and outputs, for subclasses to add.

    config: inputs (I), hidden_size, num_layers, outputs (K), dropout, variational_dropout, recurrent_dropout, cell,
    cell_options, bidirectional, vocabulary (None, or tokens as `_labels.labels_to_json` writes them), embedding_size
    (None without vocabulary; else I is its size), dtype, precision where it is "bfloat16"; and what `_extra` names.
    Parameters: "embedding" (V + 1, I), those of the layers ("W_l0", …), "head_W" (K, H), "head_b" (K,). Constants:
    "mean" and "scale" (I,) of features, "rare" (V + 1,) of tokens, 1 for those that singleton_dropout may hide.
    """

    # Further keys of the config.
    _extra: tuple[str, ...] = ()

    # Not part of the architecture: set by the estimator.
    singleton_dropout: float = 0.0

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        self._config = c = dict(config)
        self._layer = _core.Recurrent(**recurrent_config(c), seed=seed)
        width = self._layer_width()
        self._head = dense_init(seed, width, c["outputs"], c["dtype"])
        self._vocabulary: Vocabulary | None = None
        self._embedding: dict[str, Array] = {}
        self._constants: dict[str, Array] = {}
        if c["vocabulary"] is None:
            self._constants |= {"mean": np.zeros(c["inputs"]), "scale": np.ones(c["inputs"])}
        else:
            self._vocabulary = Vocabulary(labels_from_json(c["vocabulary"]))
            count = len(self._vocabulary) + 1
            # Uniform in ±√(3 / I), of variance 1 / I (Lample et al. 2016).
            bound = np.sqrt(3.0 / c["inputs"])
            random = np.random.RandomState((seed + 1) % 2**32)
            table = random.uniform(-bound, bound, size=(count, c["inputs"]))
            self._embedding["embedding"] = table.astype(c["dtype"])
            self._constants["rare"] = np.zeros(count)

    def _layer_width(self) -> int:
        width = self.shapes(self._config)[0]["head_W"][1]
        return int(width)

    @property
    def n_threads(self) -> int | None:
        return self._layer.n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self._layer.n_threads = value

    @property
    def parameters(self) -> dict[str, Array]:
        return self._embedding | self._layer.parameters | self._head

    @property
    def constants(self) -> dict[str, Array]:
        return self._constants

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def prepare(self, x: Steps, name: str) -> Steps:
        """x checked, and as this network reads it."""
        self.check(x, name)
        return x if self._vocabulary is None else x.as_tokens(name)

    def standardise(self, x: Steps, weights: Array | None) -> tuple[Array, Array]:
        """Sets mean and scale of features to those of the steps of x; returns mean and deviation."""
        values = x.values.astype(np.float64)
        of_steps = None if weights is None else np.repeat(weights, x.lengths)
        mean, deviation = moments(values, of_steps)
        self._constants["mean"][:] = mean
        self._constants["scale"][:] = 1.0 / np.where(deviation > 0.0, deviation, 1.0)
        return mean, deviation

    # --- passes ------------------------------------------------------------------------------------------------------

    def _forward(self, x: Steps, seed: int, training: bool) -> Pass:
        found = self._run_layers(x, seed, training)
        found.scores = _core.dense_forward(found.h, self._head["head_W"], self._head["head_b"], self.n_threads)
        return found

    def _run_layers(self, x: Steps, seed: int, training: bool) -> Pass:
        """All but the scores."""
        found = Pass()
        found.lengths = x.lengths
        random = None
        if training and (self._config["dropout"] > 0.0 or self.singleton_dropout > 0.0):
            random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
        found.random = random
        inputs, found.rows = self._inputs(x, random)
        if training:
            found.h, found.state, found.tape = self._layer.forward(
                inputs, lengths=found.lengths, training=True, codes=found.rows
            )
        else:
            found.h, found.state = self._layer.forward(inputs, lengths=found.lengths, codes=found.rows)
        found.mask = None
        if random is not None and self._config["dropout"] > 0.0:
            keep = 1.0 - self._config["dropout"]
            found.mask = ((random.random_sample(found.h.shape) < keep) / keep).astype(found.h.dtype)
            found.h = found.h * found.mask
        return found

    def _inputs(self, x: Steps, random: np.random.RandomState | None) -> tuple[Array, Array | None]:
        """What the layers read, (N, T, I), and the rows of the embedding that it is. random: None without dropout."""
        grid = x.grid()
        if self._vocabulary is None:
            standard = (x.values[grid] - self._constants["mean"]) * self._constants["scale"]
            return standard.astype(self._config["dtype"]), None
        rows = self._vocabulary.rows(x.as_tokens("X"))[grid]
        if random is not None and self.singleton_dropout > 0.0:
            hidden = random.random_sample(rows.shape) < self.singleton_dropout
            rows[hidden & (self._constants["rare"][rows] > 0.0)] = 0
        return self._embedding["embedding"][rows], rows

    def _backward(self, found: Pass, d_scores: Array) -> dict[str, Array]:
        """Gradients of all parameters of this class; d_scores: zero past a sequence's length."""
        d_h, d_W, d_b = _core.dense_backward(found.h, self._head["head_W"], d_scores, self.n_threads)
        return {"head_W": d_W, "head_b": d_b, **self._back_through_layers(found, d_h)}

    def _back_through_layers(
        self, found: Pass, d_h: Array, d_state: dict[str, Array] | None = None
    ) -> dict[str, Array]:
        """Gradients of embedding and layers from those of h, which is written over, and of the final state."""
        if found.mask is not None:
            d_h *= found.mask
        back = self._layer.backward(found.tape, d_h, d_state)
        gradients = dict(back.parameters)
        if found.rows is not None:
            gradients["embedding"] = scatter(found.rows, back.x, self._embedding["embedding"])
        return gradients

    def step(self, x: Array, state: Any) -> tuple[Array, Any]:
        """One step of N streams, x (N, I) numbers or (N,) rows of the embedding → (scores (N, K), state)."""
        if self._vocabulary is None:
            inputs = ((x - self._constants["mean"]) * self._constants["scale"]).astype(self._config["dtype"])
        else:
            inputs = self._embedding["embedding"][x]
        h, state = self._layer.step(inputs, state)
        return _core.dense_forward(h, self._head["head_W"], self._head["head_b"], self.n_threads), state

    def read_step(self, x: Any) -> tuple[Array, bool]:
        """One step of one or of N streams as `step` takes it, and whether it is of one; errors name x."""
        features = self._config["inputs"]
        if self._vocabulary is None:
            values = np.asarray(x)
            if values.dtype.kind not in "iufb":
                raise TypeError(f"x: expected numbers, got dtype {values.dtype}")
            single = values.ndim == 1
            if values.ndim not in (1, 2) or values.shape[-1] != features or not values.size:
                raise ValueError(f"x: expected shape ({features},) or (N, {features}), got {values.shape}")
            if not (np.abs(values) <= np.finfo(self._config["dtype"]).max).all():
                raise ValueError(f"x contains NaN, infinity or what {self._config['dtype']} cannot hold.")
            return values.reshape(-1, features), single
        single = isinstance(x, (str, int, np.integer))
        steps = self.read([[token] for token in ([x] if single else x)], "x", self._config["dtype"])
        self.check(steps, "x")
        return self._vocabulary.rows(steps.as_tokens("x")), single

    # --- data and files ----------------------------------------------------------------------------------------------

    def check(self, x: Steps, name: str) -> None:
        if self._vocabulary is not None:
            tables = (self._vocabulary.tokens, x.as_tokens(name).table)
            text = [table is not None and table.dtype.kind not in "iu" for table in tables]
            if text[0] != text[1]:
                kinds = ("text", "integers") if text[0] else ("integers", "text")
                raise ValueError(f"{name}: the model reads tokens that are {kinds[0]}, got {kinds[1]}.")
            return
        if x.table is not None:
            raise ValueError(
                f"{name} holds text, {str(x.table[0])!r}, but the model reads numbers: {self._config['inputs']} "
                "features a step."
            )
        if x.features != self._config["inputs"]:
            raise ValueError(
                f"{name} has {x.features} features, but the model is expecting {self._config['inputs']} features as "
                f"input. Expected (N, T, {self._config['inputs']}) or a list of (T_i, {self._config['inputs']}) arrays."
            )

    def test_input(self) -> Steps:
        lengths = np.array([3, 5])
        extras = (np.array([0, 3]), lengths, lengths, False)
        if self._vocabulary is None:
            random = np.random.RandomState(0)
            return Steps(random.standard_normal((8, self._config["inputs"])), None, *extras)
        table = self._vocabulary.tokens[:8]
        return Steps(np.arange(8) % len(table), table, *extras)

    @classmethod
    def read(cls, X: Any, name: str, dtype: str) -> Steps:
        return read_steps(X, name, dtype)

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[Shapes, Shapes, str]:
        expected = (*_KEYS, *cls._extra)
        if set(config) - {"precision"} != set(expected):
            raise ValueError(f"config: expected the entries {', '.join(expected)}, got {', '.join(map(str, config))}")
        for name in _SIZES:
            if type(config[name]) is not int or not 1 <= config[name] <= 2**31:
                raise ValueError(f"config: {name}: expected an integer of at least 1, got {config[name]!r}")
        for name in _RATES:
            if type(config[name]) is not float or not 0.0 <= config[name] < 1.0:
                raise ValueError(f"config: {name}: expected a number in [0, 1), got {config[name]!r}")
        if config["num_layers"] > 1000:
            raise ValueError(f"config: num_layers: expected at most 1000, got {config['num_layers']}")
        check_network_types(config)
        if not isinstance(config["cell_options"], dict):
            raise ValueError(f"config: cell_options: expected an object, got {config['cell_options']!r}")
        I, K = config["inputs"], config["outputs"]
        try:
            recurrent = recurrent_config(config)
            named = {k: v for k, v in recurrent.items() if k not in config["cell_options"]}
            named["cell_options"] = config["cell_options"]
            shapes: Shapes = _core.Model.shapes({"recurrent": named, "pooling": "none", "outputs": K})
        except (TypeError, ValueError) as error:
            raise ValueError(f"config: {error}") from error
        constants: Shapes = {"mean": (I,), "scale": (I,)}
        if (config["vocabulary"] is None) != (config["embedding_size"] is None):
            raise ValueError("config: vocabulary and embedding_size: expected both or neither")
        if config["vocabulary"] is not None:
            tokens = labels_from_json(config["vocabulary"])
            if type(config["embedding_size"]) is not int or config["embedding_size"] != I:
                raise ValueError(f"config: embedding_size: expected inputs, {I}, got {config['embedding_size']!r}")
            shapes = {"embedding": (len(tokens) + 1, I), **shapes}
            constants = {"rare": (len(tokens) + 1,)}
        return shapes, constants, config["dtype"]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(config)


def vocabulary_of(x: Steps, weights: Array | None, least: int) -> tuple[dict[str, Any], Array]:
    """(tokens that occur at least so often where weights are positive, as JSON; which of them occur once)."""
    assert x.table is not None
    used = x.values if weights is None else x.values[np.repeat(weights > 0, x.lengths)]
    counts = np.bincount(used, minlength=len(x.table))
    known = counts >= max(least, 1)
    if not known.any():
        raise ValueError(f"min_frequency={least}: no token of X occurs so often. Lower it.")
    table = x.table[known]
    if table.dtype == object:
        table = np.array(table.tolist())  # text of one width
    order = np.argsort(table, kind="stable")
    return labels_to_json(table[order]), (counts[known][order] == 1).astype(np.float64)


def recurrent_config(c: dict[str, Any]) -> dict[str, Any]:
    """The arguments of _core.Recurrent."""
    return {
        **c["cell_options"],
        "cell": c["cell"],
        "input_size": c["inputs"],
        "hidden_size": c["hidden_size"],
        "num_layers": c["num_layers"],
        "bidirectional": c["bidirectional"],
        "dropout": c["dropout"] if c["num_layers"] > 1 else 0.0,
        "variational_dropout": c["variational_dropout"],
        "recurrent_dropout": c["recurrent_dropout"],
        "dtype": c["dtype"],
        "precision": c.get("precision"),
    }


def engine_model(c: dict[str, Any], pooling: str, outputs: int) -> _core.Model:
    """A model of the engine with layers of this configuration and a linear head; its weights are still to be set."""
    recurrent = {name: value for name, value in recurrent_config(c).items() if name not in c["cell_options"]}
    layers = {**recurrent, "cell_options": c["cell_options"]}
    return _core.Model({"recurrent": layers, "pooling": pooling, "activation": "identity", "outputs": outputs})


def scatter(rows: Array, d_inputs: Array, table: Array) -> Array:
    """Gradient of the embedding: d_inputs (N, T, I) added up by row (N, T), in the order of sequences and steps."""
    gradient = np.zeros_like(table)
    flat = rows.ravel()
    order = np.argsort(flat, kind="stable")
    present = flat[order]
    first = np.flatnonzero(np.r_[True, present[1:] != present[:-1]])
    gradient[present[first]] = np.add.reduceat(d_inputs.reshape(-1, table.shape[1])[order], first, axis=0)
    return gradient
