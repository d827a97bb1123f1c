"""The network of SequenceTranslator: an encoder, and a decoder that writes one token after the other. NumPy only.

Shape letters: N sequences, S steps of X, T steps of the decoder, K tokens of y, V = K + 1 outputs, E width of the
encoder's outputs, P width of h, A width of attention's keys. Output 0 is the end, which is also what the decoder reads
first; output 1 + k is token k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._dense_head import cross_entropy, dense_init
from .._step_network import Pass, StepNetwork
from .._steps import Steps, as_characters, object_array
from .model import TranslatorModel
from .search import Hypothesis, Source, beam_search, greedy_search

__all__ = ["LONGEST", "TranslatorNetwork"]

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]

# Tokens that a prediction may have at most; bounds what a file can make us compute.
LONGEST = 65536
_SUFFIX = "_decoder"
_ATTENTION = (None, "additive", "dot", "general")


class TranslatorNetwork(StepNetwork):
    """config: that of `StepNetwork` for the encoder, outputs being K + 1, and

    attention : None, "additive", "dot" or "general"
    attention_size : A; with "additive" only, else None
    input_feeding : bool
    target_embedding_size : numbers that each token of y becomes
    max_length : longest prediction, unless told otherwise
    joined : whether predictions are texts of characters

    Parameters beside the encoder's: "target_embedding" (V, M); those of the decoder's layers ("W_l0_decoder", …);
    "bridge_h_W_l0", … where the encoder is bidirectional; "attention_output" (P, E + P), "attention_query" (A, P) and
    "attention_score" (A,), "attention_key_W" (A, E) and "attention_key_b"; "head_W" (V, P) and "head_b" (V,).
    """

    _extra = ("attention", "attention_size", "input_feeding", "target_embedding_size", "max_length", "joined")
    # What model files of this network become.
    model_class = TranslatorModel

    # Not part of the architecture: set by the estimator.
    label_smoothing: float = 0.0
    #: Probability with which the decoder reads its own token in training.
    sampling: float = 0.0

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        super().__init__(config, seed)
        c = self._config
        self._decoder = _core.Recurrent(**_decoder_config(c), seed=(seed + 2) % 2**64)
        random = np.random.RandomState((seed + 3) % 2**32)
        self._more: dict[str, Array] = {}
        for name, shape in self.shapes(c)[0].items():
            if not name.startswith(("bridge_", "attention_", "target_embedding")):
                continue
            value = np.zeros(shape)
            if name in ("target_embedding", "attention_score"):
                # Uniform, of variance 1 / width, as the embedding of the encoder.
                bound = np.sqrt(3.0 / shape[-1])
                value = random.uniform(-bound, bound, size=shape)
            elif len(shape) == 2:  # Glorot & Bengio 2010
                bound = np.sqrt(6.0 / sum(shape))
                value = random.uniform(-bound, bound, size=shape)
            self._more[name] = value.astype(c["dtype"])
        width = self.shapes(c)[0]["head_W"][1]
        self._head = dense_init(seed, width, c["outputs"], c["dtype"])

    @property
    def n_threads(self) -> int | None:
        return self._layer.n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self._layer.n_threads = self._decoder.n_threads = value

    @property
    def parameters(self) -> dict[str, Array]:
        layers = {name + _SUFFIX: value for name, value in self._decoder.parameters.items()}
        return self._embedding | self._layer.parameters | layers | self._more | self._head

    # --- training ----------------------------------------------------------------------------------------------------

    def loss_and_gradients(
        self, x: Steps, y: Array, weights: NDArray[np.float64] | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """y: (N,) objects, (L,) token indices each. Σ w: over tokens and ends, each with its sequence's weight."""
        found = self._run_layers(x, seed, training)
        source, state, bridged = self._source(found)
        lengths = np.array([len(item) for item in y]) + 1
        steps = np.arange(lengths.max())
        inside = steps < lengths[:, None] - 1
        real = steps < lengths[:, None]
        targets = np.zeros(real.shape, dtype=np.int64)
        targets[inside] = np.concatenate(list(y)) + 1
        tokens = np.zeros_like(targets)
        tokens[:, 1:] = targets[:, :-1]
        more: dict[str, Any] = {}
        if training and self.sampling > 0.0:
            random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32, 1])
            more["sample"] = random.random_sample(tokens.shape) < self.sampling
        run = self._decode(tokens, lengths, source, state, training=training, **more)
        h = run["outputs"]
        mask = None
        if found.mask is not None:
            assert found.random is not None
            keep = 1.0 - self._config["dropout"]
            mask = ((found.random.random_sample(h.shape) < keep) / keep).astype(h.dtype)
            h = h * mask
        scores = self._scores(h)
        factors = None if weights is None else np.repeat(weights, lengths)
        smoothing = self.label_smoothing if training else 0.0
        total, share, slopes = cross_entropy(scores[real], targets[real], factors, smoothing)
        if not training:
            return total, share, {}
        d_scores = np.zeros_like(scores)
        d_scores[real] = slopes
        d_h, d_W, d_b = _core.dense_backward(h, self._head["head_W"], d_scores, self.n_threads)
        if mask is not None:
            d_h *= mask
        back = _core.decode_backward(run["tape"], d_h)
        gradients = {"head_W": d_W, "head_b": d_b, "target_embedding": back["table"]}
        gradients |= {name + _SUFFIX: value for name, value in back["layers"].items()}
        for name in ("output", "query", "score"):
            if name in back:
                gradients["attention_" + name] = back[name]
        d_values = self._keys_back(found.h, back, gradients)
        d_state = self._bridge_back(found, bridged, back["state"], gradients)
        return total, share, {**gradients, **self._back_through_layers(found, d_values, d_state)}

    def _scores(self, h: Array) -> Array:
        return _core.dense_forward(h, self._head["head_W"], self._head["head_b"], self.n_threads)

    def _decode(self, tokens: Array, lengths: Array, source: Source, state: dict[str, Array], **more: Any) -> Any:
        c = self._config
        weights = {"table": self._more["target_embedding"], **self._head}
        weights |= {name: self._more["attention_" + name] for name in ("output", "query", "score") if
                    "attention_" + name in self._more}  # fmt: skip
        if c["attention"] is not None:
            kind = "additive" if c["attention"] == "additive" else "dot"
            more |= {"attention": kind, "values": source.values, "keys": source.keys, "source_lengths": source.lengths}
        return _core.decode(
            self._decoder, weights, tokens, lengths, state=state, input_feeding=c["input_feeding"], **more
        )

    # --- from encoder to decoder -------------------------------------------------------------------------------------

    def _source(self, found: Pass) -> tuple[Source, dict[str, Array], dict[str, Array]]:
        """What the decoder looks at, its initial state, and what the bridge read: (N, 2·width) by parameter name."""
        values = np.ascontiguousarray(found.h)
        kind = self._config["attention"]
        keys = values
        if kind in ("additive", "general"):
            W = self._more["attention_key_W"]
            b = self._more.get("attention_key_b", np.zeros(len(W), dtype=W.dtype))
            keys = _core.dense_forward(values, W, b, self.n_threads)
        source = Source(values, keys, np.asarray(found.lengths))
        if not self._config["bidirectional"]:
            return source, found.state, {}
        state = self._decoder.init_state(len(found.lengths))
        read: dict[str, Array] = {}
        for name in self._bridged():
            final = found.state[name]
            for layer in range(len(final) // 2):
                both = np.concatenate([final[2 * layer], final[2 * layer + 1]], axis=1)
                read[f"{name}_l{layer}"] = both
                W, b = (self._more[f"bridge_{name}_{kind}_l{layer}"] for kind in "Wb")
                value = _core.dense_forward(both, W, b, self.n_threads)
                state[name][layer] = np.tanh(value) if name == "h" else value
        read["h"] = state["h"]
        return source, state, read

    def _bridged(self) -> tuple[str, ...]:
        """States that the bridge hands on; the others start at zero."""
        return _bridged(self._config)

    def _keys_back(self, h: Array, back: dict[str, Any], gradients: dict[str, Array]) -> Array:
        """Gradient of the encoder's outputs."""
        if self._config["attention"] is None:
            return np.zeros_like(h)
        d_values: Array = back["values"]
        d_keys: Array = back["keys"]
        if self._config["attention"] == "dot":
            return d_values + d_keys
        d_h, d_W, d_b = _core.dense_backward(h, self._more["attention_key_W"], d_keys, self.n_threads)
        gradients["attention_key_W"] = d_W
        if "attention_key_b" in self._more:
            gradients["attention_key_b"] = d_b
        return d_values + d_h

    def _bridge_back(
        self, found: Pass, read: dict[str, Array], d: dict[str, Array], gradients: dict[str, Array]
    ) -> dict[str, Array]:
        """Gradient of the encoder's final state from that of the decoder's initial one."""
        if not read:
            return d
        d_state = {name: np.zeros_like(value) for name, value in found.state.items()}
        for name in self._bridged():
            for layer in range(len(d[name])):
                slopes = d[name][layer]
                if name == "h":
                    slopes = slopes * (1.0 - np.square(read["h"][layer]))
                at = f"{name}_l{layer}"
                W = self._more[f"bridge_{name}_W_l{layer}"]
                d_both, d_W, d_b = _core.dense_backward(read[at], W, slopes.astype(W.dtype), self.n_threads)
                gradients[f"bridge_{name}_W_l{layer}"], gradients[f"bridge_{name}_b_l{layer}"] = d_W, d_b
                half = d_both.shape[1] // 2
                d_state[name][2 * layer], d_state[name][2 * layer + 1] = d_both[:, :half], d_both[:, half:]
        return d_state

    # --- predictions -------------------------------------------------------------------------------------------------

    def encode(self, x: Steps) -> tuple[Source, dict[str, Array]]:
        """What searches start from."""
        source, state, _ = self._source(self._run_layers(x, 0, training=False))
        return source, state

    def write_step(
        self, tokens: Array, state: Any, source: Source, owners: Array, want_weights: bool = False
    ) -> tuple[Array, Any, Array | None]:
        """One step of R hypotheses: scores (R, V), state and, where asked for, attention weights (R, S).

        tokens: (R,) what they read; state: (layers' states, output before) or the former alone; owners: (R,).
        """
        layers, output = state if isinstance(state, tuple) else (state, None)
        more = {} if self._config["attention"] is None else {"owners": owners, "want_weights": want_weights}
        run = self._decode(tokens[:, None], np.ones(len(tokens), np.int64), source, layers, output=output, **more)
        h = run["outputs"][:, 0]
        after = (run["state"], h) if self._config["input_feeding"] else run["state"]
        return self._scores(h), after, run["weights"][:, 0] if want_weights else None

    def outputs(self, x: Steps) -> Array:
        """(N,) objects: (L, K) probability of each token at each of the L steps of the greedy prediction."""
        return object_array(item.probabilities for item in greedy_search(self, x, int(self._config["max_length"])))

    def decode(self, x: Steps, max_length: int | None = None, beam_width: int = 1, alpha: float = 0.0) -> Array:
        """(N,) objects: (L,) token indices of the best hypothesis."""
        longest = max_length or int(self._config["max_length"])
        if beam_width == 1:
            return object_array(item.tokens for item in greedy_search(self, x, longest, want_probabilities=False))
        return object_array(found[0].tokens for found in beam_search(self, x, longest, beam_width, alpha))

    def hypotheses(
        self, x: Steps, max_length: int | None, beam_width: int, alpha: float, attention: bool
    ) -> list[list[Hypothesis]]:
        """Of each sequence, the best first."""
        longest = max_length or int(self._config["max_length"])
        return beam_search(self, x, longest, beam_width, alpha, attention)

    # --- data and files ----------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, X: Any, name: str, dtype: str) -> Steps:
        return super().read(as_characters(X, name), name, dtype)

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[Shapes, Shapes, str]:
        shapes, constants, dtype = super().shapes(config)
        _check_config(config)
        E, V = shapes["head_W"][1], config["outputs"]
        try:
            named = _decoder_config(config, E)
            decoder = _core.Model.shapes({"recurrent": named, "pooling": "none", "outputs": V})
        except (TypeError, ValueError) as error:
            raise ValueError(f"config: {error}") from error
        P = decoder["head_W"][1]
        shapes |= {name + _SUFFIX: shape for name, shape in decoder.items() if not name.startswith("head_")}
        shapes |= {"target_embedding": (V, config["target_embedding_size"]), "head_W": (V, P)}
        for name in _bridged(config) if config["bidirectional"] else ():
            width = P if name == "h" else config["hidden_size"]
            for layer in range(config["num_layers"]):
                shapes[f"bridge_{name}_W_l{layer}"] = (width, 2 * width)
                shapes[f"bridge_{name}_b_l{layer}"] = (width,)
        kind = config["attention"]
        if kind is not None:
            shapes["attention_output"] = (P, E + P)
        if kind == "additive":
            A = config["attention_size"]
            shapes |= {"attention_query": (A, P), "attention_score": (A,)}
            shapes |= {"attention_key_W": (A, E), "attention_key_b": (A,)}
        elif kind == "general":
            shapes["attention_key_W"] = (P, E)
        elif kind == "dot" and E != P:
            raise ValueError(
                f"attention='dot' compares the decoder's {P} units with the {E} that the encoder's two directions have "
                "together. Use 'general' or 'additive', or bidirectional=False."
            )
        return shapes, constants, dtype


def _check_config(config: dict[str, Any]) -> None:
    """What StepNetwork does not know; the config may come from a hostile file."""
    if "precision" in config:
        raise ValueError(f"config: precision: a decoder computes in its dtype, got {config['precision']!r}")
    if config["attention"] not in _ATTENTION:
        raise ValueError(f"config: attention: expected one of {_ATTENTION}, got {config['attention']!r}")
    for name in ("input_feeding", "joined"):
        if type(config[name]) is not bool:
            raise ValueError(f"config: {name}: expected true or false, got {config[name]!r}")
    sizes = {"target_embedding_size": 2**31, "max_length": LONGEST}
    if config["attention"] == "additive":
        sizes["attention_size"] = 2**31
    elif config["attention_size"] is not None:
        raise ValueError(f"config: attention_size: expected null, got {config['attention_size']!r}")
    for name, most in sizes.items():
        if type(config[name]) is not int or not 1 <= config[name] <= most:
            raise ValueError(f"config: {name}: expected an integer from 1 to {most}, got {config[name]!r}")
    if config["outputs"] < 2:
        raise ValueError(f"config: outputs: expected at least 2, got {config['outputs']}")
    if config["cell"] in ("mlstm", "xlstm"):
        raise ValueError(
            f"cell={config['cell']!r} takes many steps at once, but a decoder makes one after the other. Use another, "
            "such as 'lstm' or 'slstm'."
        )


def _bridged(config: dict[str, Any]) -> tuple[str, ...]:
    return ("h", "c") if config["cell"] in ("lstm", "peephole") else ("h",)


def _decoder_config(c: dict[str, Any], encoder_width: int | None = None) -> dict[str, Any]:
    """The arguments of _core.Recurrent; encoder_width: makes it what _core.Model.shapes takes."""
    P = c["cell_options"].get("proj_size", 0) or c["hidden_size"]
    E = P * (2 if c["bidirectional"] else 1)
    feeds = (E if c["attention"] == "additive" else 0) + (P if c["input_feeding"] else 0)
    named = {
        "cell": c["cell"],
        "input_size": c["target_embedding_size"] + feeds,
        "hidden_size": c["hidden_size"],
        "num_layers": c["num_layers"],
        "dropout": c["dropout"] if c["num_layers"] > 1 else 0.0,
        "variational_dropout": c["variational_dropout"],
        "recurrent_dropout": c["recurrent_dropout"],
        "dtype": c["dtype"],
    }
    if encoder_width is None:
        return {**named, **c["cell_options"]}
    if encoder_width != E:
        raise ValueError(f"the encoder's outputs have {encoder_width} numbers, expected {E}")
    return {**named, "cell_options": c["cell_options"]}
