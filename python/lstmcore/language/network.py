"""The network of LanguageModel: embedding → recurrent layers → softmax over all symbols. NumPy only.

Shape letters beside the usual: V symbols, E width of the embedding, W width of the last layer's outputs, R predictions
of a chunk, B lanes.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._dense_head import dense_init
from .._labels import labels_from_json, labels_to_json
from .._parameters import check_network_types
from .corpus import END, NAMES, Contexts, Vocabulary
from .model import State, SymbolModel

__all__ = ["SOFTMAX", "UNITS", "Chunk", "LanguageNetwork", "default_cutoffs"]

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

SOFTMAX = ("full", "adaptive", "sampled")
UNITS = ("character", "token")
_SIZES = ("embedding_size", "hidden_size", "num_layers")
_RATES = ("dropout", "variational_dropout", "recurrent_dropout")
_KEYS = (
    *_SIZES, *_RATES, "cell", "cell_options", "vocabulary", "unit", "documents", "tie_weights", "softmax", "cutoffs",
    "dtype",
)  # fmt: skip
# Each cluster of rarer symbols is predicted from so much fewer numbers than the one before (Grave et al., 2017).
_REDUCTION = 4


class Chunk(NamedTuple):
    """A piece of some texts side by side, cut where documents begin."""

    inputs: NDArray[np.int32]  #: (R,) symbols read, one sequence after the other
    targets: NDArray[np.int32]  #: (R,) symbols that follow them
    lengths: NDArray[np.int64]  #: (N,) of each sequence
    carried: NDArray[np.int64]  #: (N,) lane whose state a sequence goes on with; −1: it begins from zeros
    last: NDArray[np.int64]  #: (lanes,) the sequence that each lane goes on from


class LanguageNetwork:
    """A `_layer_network.Network`, but for loss_and_gradients: losses are those of chunks (`chunk_loss`).

    config: embedding_size (E), hidden_size, num_layers, dropout, variational_dropout, recurrent_dropout, cell,
    cell_options, vocabulary (labels of all V symbols, "<eod>" and "<unk>" first, the others by falling frequency),
    unit, documents, tie_weights, softmax, cutoffs (adaptive: symbols before each cluster; else []), dtype,
    precision where it is "bfloat16".

    Parameters: "embedding" (V, E), those of the layers ("W_l0", …), "head_W" (V, W) unless tied, "head_b" (V,); tied
    with E ≠ W also "head_P" (E, W). Adaptive: "head_W", "head_b" with one row for each symbol before the first cutoff
    and for each cluster, and for cluster c "tail<c>_P" (d, W), "tail<c>_W" (n, d), "tail<c>_b" (n,).
    """

    # What model files of this network become.
    model_class = SymbolModel

    # Not part of the architecture: set by the estimator.
    samples: int = 1024
    tokenizer: Any = None

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        self._config = c = dict(config)
        self.vocabulary = Vocabulary(labels_from_json(c["vocabulary"]).tolist()[len(NAMES) :])
        self.layer = _core.Recurrent(**_recurrent_config(c), seed=seed)
        shapes = self.shapes(config)[0]
        V, E = shapes["embedding"]
        # Uniform, of variance 1 / E, as for tokens of a SequenceTagger.
        bound = np.sqrt(3.0 / E)
        table = np.random.RandomState((seed + 1) % 2**32).uniform(-bound, bound, size=(V, E))
        self._own: dict[str, Array] = {"embedding": table.astype(c["dtype"])}
        for k, (name, shape) in enumerate(shapes.items()):
            if name.startswith(("head_", "tail")):
                self._own[name] = np.zeros(shape, dtype=c["dtype"])
                if len(shape) == 2:
                    self._own[name][...] = dense_init(seed + 2 + k, shape[1], shape[0], c["dtype"], "")["W"]

    @property
    def n_threads(self) -> int | None:
        return self.layer.n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self.layer.n_threads = value

    @property
    def parameters(self) -> dict[str, Array]:
        return {"embedding": self._own["embedding"]} | self.layer.parameters | self._own

    @property
    def constants(self) -> dict[str, Array]:
        return {}

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def start_from(self, counts: NDArray[np.int64]) -> None:
        """Sets the biases of the output to what predicts symbols by their frequency (V,) alone."""
        shares = np.log((counts + 1.0) / (counts + 1.0).sum())
        cutoffs = [*self._config["cutoffs"], len(counts)]
        if self._config["softmax"] != "adaptive":
            self._own["head_b"][:] = shares
            return
        first = cutoffs[0]
        clusters = [np.logaddexp.reduce(shares[a:b]) for a, b in itertools.pairwise(cutoffs)]
        self._own["head_b"][:] = np.concatenate([shares[:first], clusters])
        for k, (a, b) in enumerate(itertools.pairwise(cutoffs)):
            self._own[f"tail{k}_b"][:] = shares[a:b] - clusters[k]

    # --- passes ------------------------------------------------------------------------------------------------------

    def init_state(self, count: int) -> State:
        """Zeros: (L, N, H) of each state."""
        return self.layer.init_state(count)

    def layer_outputs(
        self, inputs: Array, lengths: Array, state: State | None, training: bool
    ) -> tuple[Array, State, Any]:
        """Outputs (R, W) of the last layer for symbols (R,), the states after each sequence, the tape (None)."""
        x = _core.embed(self._own["embedding"], inputs)
        regular = bool((lengths == lengths[0]).all())
        cut = x.reshape(len(lengths), lengths[0], -1) if regular else np.split(x, np.cumsum(lengths)[:-1])
        tape = None
        codes = inputs.reshape(len(lengths), lengths[0]) if regular else np.split(inputs, np.cumsum(lengths)[:-1])
        if training:
            y, state, tape = self.layer.forward(cut, state=state, training=True, codes=codes)
        else:
            y, state = self.layer.forward(cut, state=state, codes=codes)
        return (y.reshape(len(x), -1) if regular else np.concatenate(y)), state, tape

    def chunk_loss(
        self, chunk: Chunk, state: State | None, seed: int, training: bool = True
    ) -> tuple[float, State, dict[str, Array]]:
        """(Σ −log p of the targets, states of the lanes, gradients of its mean by name; {} without training).

        state: of the lanes, None at their beginning. seed: of dropout and of samples. training False: no dropout, and
        the full softmax where training samples.
        """
        h, after, tape = self.layer_outputs(chunk.inputs, chunk.lengths, _states_for(chunk, state), training)
        carried = {name: np.ascontiguousarray(value[:, chunk.last]) for name, value in after.items()}
        mask = None
        random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
        if training and self._config["dropout"] > 0.0:
            keep = 1.0 - self._config["dropout"]
            mask = ((random.random_sample(h.shape) < keep) / keep).astype(h.dtype)
            h = h * mask
        total, d_h, gradients = self._head_loss(h, chunk.targets, random, training)
        if not training:
            return total, carried, {}
        assert d_h is not None
        if mask is not None:
            d_h *= mask
        lengths = chunk.lengths
        regular = bool((lengths == lengths[0]).all())
        cuts = np.cumsum(lengths)[:-1]
        dy = d_h.reshape(len(lengths), lengths[0], -1) if regular else np.split(d_h, cuts)
        back = self.layer.backward(tape, dy)
        d_x = back.x.reshape(len(d_h), -1) if regular else np.concatenate(back.x)
        table = _core.embed_backward(chunk.inputs, d_x, len(self.vocabulary), self.n_threads)
        gradients["embedding"] = gradients["embedding"] + table if "embedding" in gradients else table
        return total, carried, {**back.parameters, **gradients}

    def _head_loss(
        self, h: Array, targets: Array, random: np.random.RandomState, training: bool
    ) -> tuple[float, Array | None, dict[str, Array]]:
        """Σ l, gradient of the mean of l with respect to h, and to the output's weights by name."""
        if self._config["softmax"] == "adaptive":
            return self._adaptive_loss(h, targets, training)
        tied, projection = self._config["tie_weights"], self._own.get("head_P")
        x = h
        if projection is not None:
            x = _core.dense_forward(h, projection, np.zeros(len(projection), h.dtype), self.n_threads)
        W = self._own["embedding" if tied else "head_W"]
        scale = 1.0 / len(targets)
        if training and self._config["softmax"] == "sampled":
            samples, expected, of_labels = _draw_samples(random, len(W), min(self.samples, len(W) - 1), targets)
            losses, d_x, d_W, d_b = _core.sampled_softmax_loss(
                x, W, self._own["head_b"], targets, samples, expected, of_labels, scale, True, self.n_threads
            )
        else:
            losses, d_x, d_W, d_b = _core.softmax_loss(
                x, W, self._own["head_b"], targets, scale, training, self.n_threads
            )
        total = float(losses.sum())
        if not training:
            return total, None, {}
        gradients = {"embedding" if tied else "head_W": d_W, "head_b": d_b}
        if projection is not None:
            d_x, gradients["head_P"], _ = _core.dense_backward(h, projection, d_x, self.n_threads)
        return total, d_x, gradients

    def _adaptive_loss(self, h: Array, targets: Array, training: bool) -> tuple[float, Array | None, dict[str, Array]]:
        cutoffs = [*self._config["cutoffs"], len(self.vocabulary)]
        own, scale = self._own, 1.0 / len(targets)
        # A symbol of cluster c is the entry behind the frequent ones in the first softmax, then one of the cluster's.
        cluster = np.searchsorted(cutoffs, targets, side="right") - 1
        entries = np.where(cluster < 0, targets, cutoffs[0] + cluster).astype(np.int32)
        losses, d_h, d_W, d_b = _core.softmax_loss(
            h, own["head_W"], own["head_b"], entries, scale, training, self.n_threads
        )
        total = float(losses.sum())
        gradients = {"head_W": d_W, "head_b": d_b}
        for c in range(len(cutoffs) - 1):
            names = {part: f"tail{c}_{part}" for part in "PWb"}
            P, W, b = (own[names[part]] for part in "PWb")
            rows = np.flatnonzero(cluster == c)
            if not len(rows):
                gradients |= {name: np.zeros_like(own[name]) for name in names.values()}
                continue
            part = h[rows]
            x = _core.dense_forward(part, P, np.zeros(len(P), h.dtype), self.n_threads)
            within = (targets[rows] - cutoffs[c]).astype(np.int32)
            losses, d_x, d_W, d_b = _core.softmax_loss(x, W, b, within, scale, training, self.n_threads)
            total += float(losses.sum())
            if not training:
                continue
            d_part, d_P, _ = _core.dense_backward(part, P, d_x, self.n_threads)
            d_h[rows] += d_part
            gradients |= {names["P"]: d_P, names["W"]: d_W, names["b"]: d_b}
        return total, d_h, gradients if training else {}

    def parts(self) -> list[tuple[Array | None, Array, Array]]:
        """The output layer as `_core.log_probabilities` takes it."""
        own = self._own
        if self._config["softmax"] == "adaptive":
            tails = [(own[f"tail{c}_P"], own[f"tail{c}_W"], own[f"tail{c}_b"]) for c in range(self._clusters)]
            return [(None, own["head_W"], own["head_b"]), *tails]
        W = own["embedding" if self._config["tie_weights"] else "head_W"]
        return [(own.get("head_P"), W, own["head_b"])]

    @property
    def _clusters(self) -> int:
        return len(self._config["cutoffs"])

    def log_probabilities(self, h: Array) -> Array:
        """Outputs of the last layer (R, W) → log p of all symbols (R, V)."""
        return _core.log_probabilities(h, self.parts(), self.n_threads)

    def token_losses(self, inputs: Array, targets: Array, lengths: Array, state: State | None) -> tuple[Array, State]:
        """−log p of each target (R,), and the states after each sequence: no dropout, full softmax."""
        h, after, _ = self.layer_outputs(inputs, lengths, state, training=False)
        if self._config["softmax"] == "adaptive":
            return -self.log_probabilities(h)[np.arange(len(h)), targets].astype(np.float64), after
        projection, W, b = self.parts()[0]
        if projection is not None:
            h = _core.dense_forward(h, projection, np.zeros(len(projection), h.dtype), self.n_threads)
        return _core.softmax_loss(h, W, b, targets, 1.0, False, self.n_threads)[0], after

    # --- contexts: what `LayerModel` and model files predict from ----------------------------------------------------

    def outputs(self, x: Contexts) -> Array:
        """(N, V): probabilities of the symbol after each context."""
        lengths = x.lengths
        h, _, _ = self.layer_outputs(np.concatenate(x.codes), lengths, None, training=False)
        result: Array = np.exp(self.log_probabilities(np.ascontiguousarray(h[np.cumsum(lengths) - 1])))
        return result

    def check(self, x: Contexts, name: str) -> None:
        """Every context fits: unknown symbols are read as such."""

    def test_input(self) -> Contexts:
        random = np.random.RandomState(0)
        return Contexts([np.r_[END, random.randint(len(self.vocabulary), size=n)].astype(np.int32) for n in (3, 5)])

    @classmethod
    def output_width(cls, config: dict[str, Any]) -> int:
        """W of a config, whatever its embedding_size."""
        return int(cls.shapes({**config, "tie_weights": False, "softmax": "full", "cutoffs": []})[0]["head_W"][1])

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[Shapes, Shapes, str]:
        if set(config) - {"precision"} != set(_KEYS):
            raise ValueError(f"config: expected the entries {', '.join(_KEYS)}, got {', '.join(map(str, config))}")
        for name in _SIZES:
            if type(config[name]) is not int or not 1 <= config[name] <= 2**31:
                raise ValueError(f"config: {name}: expected an integer of at least 1, got {config[name]!r}")
        for name in _RATES:
            if type(config[name]) is not float or not 0.0 <= config[name] < 1.0:
                raise ValueError(f"config: {name}: expected a number in [0, 1), got {config[name]!r}")
        choices = {
            "softmax": SOFTMAX,
            "unit": UNITS,
            "documents": ("separate", "joined"),
            "tie_weights": (True, False),
        }
        for name, allowed in choices.items():
            if type(config[name]) is not type(allowed[0]) or config[name] not in allowed:
                raise ValueError(f"config: {name}: expected one of {allowed}, got {config[name]!r}")
        check_network_types(config)
        if config["num_layers"] > 1000:
            raise ValueError(f"config: num_layers: expected at most 1000, got {config['num_layers']}")
        if not isinstance(config["cell_options"], dict):
            raise ValueError(f"config: cell_options: expected an object, got {config['cell_options']!r}")
        labels = labels_from_json(config["vocabulary"]).tolist()
        if tuple(labels[: len(NAMES)]) != NAMES or len(labels) <= len(NAMES):
            raise ValueError(f"config: vocabulary: expected {' and '.join(NAMES)} first, and further symbols")
        if not all(isinstance(label, str) and label for label in labels):
            raise ValueError("config: vocabulary: expected symbols that are text and not empty")
        if config["unit"] == "character" and any(len(label) != 1 for label in labels[len(NAMES) :]):
            raise ValueError("config: vocabulary: expected single characters")
        V, E = len(labels), config["embedding_size"]
        try:
            recurrent = _recurrent_config(config)
            named = {k: v for k, v in recurrent.items() if k not in config["cell_options"]}
            named["cell_options"] = config["cell_options"]
            layers: Shapes = _core.Model.shapes({"recurrent": named, "pooling": "none", "outputs": 1})
        except (TypeError, ValueError) as error:
            raise ValueError(f"config: {error}") from error
        W = layers.pop("head_W")[1]
        layers.pop("head_b")
        return {"embedding": (V, E), **layers, **_head_shapes(config, V, E, W)}, {}, config["dtype"]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(config)


def default_cutoffs(symbols: int) -> list[int]:
    """Where clusters of an adaptive softmax begin: after a tenth of the vocabulary, and after the half of it."""
    first, second = max(2, symbols // 10), max(3, symbols // 2)
    return [first, second] if second < symbols - 1 else [first]


def vocabulary_to_json(labels: list[str]) -> dict[str, Any]:
    return labels_to_json(np.array(labels, dtype=object))


def _head_shapes(config: dict[str, Any], V: int, E: int, W: int) -> Shapes:
    cutoffs = config["cutoffs"]
    adaptive = config["softmax"] == "adaptive"
    if not isinstance(cutoffs, list) or not all(type(cut) is int for cut in cutoffs) or bool(cutoffs) != adaptive:
        raise ValueError(f"config: cutoffs: expected integers for an adaptive softmax and else none, got {cutoffs!r}")
    if not adaptive:
        if not config["tie_weights"]:
            return {"head_W": (V, W), "head_b": (V,)}
        return {"head_b": (V,)} if E == W else {"head_P": (E, W), "head_b": (V,)}
    if config["tie_weights"]:
        raise ValueError("config: tie_weights: expected false with an adaptive softmax")
    edges = [0, *cutoffs, V]
    if any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"config: cutoffs: expected rising numbers between 0 and {V}, got {cutoffs!r}")
    shapes: Shapes = {"head_W": (cutoffs[0] + len(cutoffs), W), "head_b": (cutoffs[0] + len(cutoffs),)}
    for c, (a, b) in enumerate(itertools.pairwise(edges[1:])):
        width = max(1, W // _REDUCTION ** (c + 1))
        shapes |= {f"tail{c}_P": (width, W), f"tail{c}_W": (b - a, width), f"tail{c}_b": (b - a,)}
    return shapes


def _recurrent_config(c: dict[str, Any]) -> dict[str, Any]:
    """The arguments of _core.Recurrent."""
    return {
        **c["cell_options"],
        "cell": c["cell"],
        "input_size": c["embedding_size"],
        "hidden_size": c["hidden_size"],
        "num_layers": c["num_layers"],
        "dropout": c["dropout"] if c["num_layers"] > 1 else 0.0,
        "variational_dropout": c["variational_dropout"],
        "recurrent_dropout": c["recurrent_dropout"],
        "dtype": c["dtype"],
        "precision": c.get("precision"),
    }


def _states_for(chunk: Chunk, state: State | None) -> State | None:
    """States (L, N, H) that the sequences of a chunk begin from, of those of the lanes."""
    if state is None:
        return None
    carried = chunk.carried
    if np.array_equal(carried, np.arange(next(iter(state.values())).shape[1])):
        return state
    chosen = {}
    for name, value in state.items():
        chosen[name] = value[:, np.maximum(carried, 0)]
        chosen[name][:, carried < 0] = 0.0
    return chosen


def _draw_samples(
    random: np.random.RandomState, symbols: int, count: int, targets: Array
) -> tuple[Array, Array, Array]:
    """Distinct symbols, drawn log-uniformly by rank; log of the expected number of draws of each, and of targets.

    P(k) = log((k + 2) / (k + 1)) / log(V + 1), about the distribution of words in order of frequency (Zipf); with
    draws until `count` distinct ones are found, k is expected 1 − (1 − P(k))^draws times.
    """
    found: dict[int, None] = {}
    tries = 0
    while len(found) < count:
        drawn = np.exp(random.random_sample(2 * count) * np.log(symbols + 1.0)).astype(np.int64) - 1
        for symbol in np.minimum(drawn, symbols - 1).tolist():
            tries += 1
            found[symbol] = None
            if len(found) == count:
                break
    samples = np.fromiter(found, dtype=np.int64, count=count)

    def log_expected(codes: Array) -> Array:
        wide = codes.astype(np.float64)
        share = np.log1p(1.0 / (wide + 1.0)) / np.log(symbols + 1.0)
        result: Array = np.log(-np.expm1(tries * np.log1p(-share)))
        return result

    return samples, log_expected(samples), log_expected(targets)
