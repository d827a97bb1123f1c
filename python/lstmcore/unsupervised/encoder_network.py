"""The network of SequenceEncoder: recurrent layers, and what they are trained by without labels. NumPy only.

Shape letters: N sequences, T time steps, I input features, L layers, D directions, W features of a layer's step (D·H).

- "next_step": after x(1) … x(t) a dense layer forecasts x(t + 1), by squared error, or the next token by cross-entropy.
  In both directions it is two networks, of which one reads from the end and forecasts the step before: in layers that
  read each other's directions what is to be forecast would have been seen (Peters et al. 2018).
- "autoencoder": a second stack starts from the final states of the first, layer by layer, reads ones, and a dense layer
  makes of its outputs the steps of the sequence, the last one first (Srivastava, Mansimov & Salakhutdinov 2015, without
  their conditional decoder, which could copy the step before).
- "none": nothing is trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._dense_head import cross_entropy, dense_init
from .._step_network import Shapes, StepNetwork, engine_model, recurrent_config, scatter
from .._steps import Steps, as_characters, read_steps
from .encoder_model import EncoderModel

__all__ = ["MIXES", "POOLINGS", "TASKS", "EncoderNetwork", "check_cell"]

Array = NDArray[Any]

TASKS = ("autoencoder", "next_step", "none")
POOLINGS = ("last", "mean", "max")
MIXES = ("last", "mean", "concat", "learned")
_BACKWARD, _DECODER = "_from_end", "_decoder"


class EncoderNetwork(StepNetwork):
    """config: that of `StepNetwork`, task, separate (two stacks, one for each direction), layer_mix and pooling.

    Further parameters: with separate those of the second stack ("W_l0_from_end", …) and of its head, with "autoencoder"
    those of the decoder ("W_l0_decoder", …). Constants: "mix" (L,) and "gain" (1,): a step's features are
    gain · Σ_l mix_l h_l; with layer_mix "concat" all h_l side by side.
    """

    # What model files of this network become.
    model_class = EncoderModel

    _extra = ("task", "separate", "layer_mix", "pooling")

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        super().__init__(config, seed)
        recurrent = recurrent_config(config)
        self._second: Any = None
        self._second_head: dict[str, Array] = {}
        self._decoder: Any = None
        if config["separate"]:
            self._second = _core.Recurrent(**recurrent, seed=(seed + 2) % 2**32, reverse=True)
            width, outputs = self._head["head_W"].shape[::-1]
            self._second_head = dense_init(seed + 3, width, outputs, config["dtype"], prefix="head_from_end_")
        if config["task"] == "autoencoder":
            self._decoder = _core.Recurrent(**{**recurrent, "input_size": 1}, seed=(seed + 4) % 2**32)
        L = config["num_layers"]
        last = np.eye(L)[L - 1]
        self._constants |= {"mix": last if config["layer_mix"] != "mean" else np.full(L, 1.0 / L), "gain": np.ones(1)}

    @property
    def n_threads(self) -> int | None:
        return self._layer.n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        for stack in (self._layer, self._second, self._decoder):
            if stack is not None:
                stack.n_threads = value

    @property
    def parameters(self) -> dict[str, Array]:
        more: dict[str, Array] = dict(self._second_head)
        for stack, ending in ((self._second, _BACKWARD), (self._decoder, _DECODER)):
            if stack is not None:
                more |= {name + ending: value for name, value in stack.parameters.items()}
        return super().parameters | more

    @property
    def features(self) -> int:
        """Numbers a step, or a sequence."""
        c = self._config
        width = self._head["head_W"].shape[1] * (2 if c["separate"] else 1)
        return int(width * (c["num_layers"] if c["layer_mix"] == "concat" else 1))

    # --- training ----------------------------------------------------------------------------------------------------

    def loss_and_gradients(
        self, x: Steps, y: Any, weights: NDArray[np.float64] | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """Σ w is over the steps that are forecast or reconstructed, each with its sequence's weight."""
        random = None
        if training and self.singleton_dropout > 0.0:
            random = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
        inputs, rows = self._inputs(x, random)
        if self._config["task"] == "none":
            return 0.0, 1.0, {}
        run = self._reconstruct if self._config["task"] == "autoencoder" else self._forecast
        total, share, gradients, d_inputs = run(x, inputs, weights, training)
        if training and rows is not None:
            gradients["embedding"] = scatter(rows, d_inputs, self._embedding["embedding"])
        return total, share, gradients

    def _targets(self, x: Steps, places: Array) -> Array:
        """Standardised steps (N, T, I), or rows of tokens (N, T); places: (N, T) positions in x.values."""
        if self._vocabulary is not None:
            return self._vocabulary.rows(x.as_tokens("X"))[places]
        result: Array = (x.values[places] - self._constants["mean"]) * self._constants["scale"]
        return result

    def _losses(self, scores: Array, targets: Array, factor: Array) -> tuple[float, float, Array]:
        """Σ w l, Σ w and the gradient of Σ w l / Σ w; factor: (N, T), zero where there is no target."""
        there = factor > 0.0
        share = float(factor.sum())
        d_scores = np.zeros_like(scores)
        if not there.any():
            return 0.0, 0.0, d_scores
        if self._vocabulary is not None:
            total, share, slopes = cross_entropy(scores[there], targets[there], factor[there])
            d_scores[there] = slopes
            return total, share, d_scores
        error = scores.astype(np.float64) - targets
        weighted = error * factor[..., None]
        total = float((weighted * error).sum() / error.shape[-1])
        d_scores[...] = weighted * (2.0 / (share * error.shape[-1]))
        return total, share, d_scores

    def _forecast(
        self, x: Steps, inputs: Array, weights: Array | None, training: bool
    ) -> tuple[float, float, dict[str, Array], Any]:
        steps = np.arange(inputs.shape[1])
        given = np.ones(len(x.lengths)) if weights is None else weights
        total = share = 0.0
        parts = []
        heads = [(self._layer, self._head, "head_", 1, "")]
        if self._second is not None:
            heads.append((self._second, self._second_head, "head_from_end_", -1, _BACKWARD))
        for stack, head, prefix, offset, ending in heads:
            h, *rest = stack.forward(inputs, lengths=x.lengths, training=training)
            scores = _core.dense_forward(h, head[prefix + "W"], head[prefix + "b"], self.n_threads)
            target = steps + offset
            real = (target >= 0) & (target < x.lengths[:, None]) & (steps < x.lengths[:, None])
            targets = self._targets(x, x.starts[:, None] + np.where(real, target, 0))
            part, count, d_scores = self._losses(scores, targets, real * given[:, None])
            total, share = total + part, share + count
            parts.append((stack, head, prefix, ending, h, rest, d_scores, count))
        if not training:
            return total, share, {}, None
        gradients: dict[str, Array] = {}
        d_inputs: Any = 0.0
        for stack, head, prefix, ending, h, rest, d_scores, count in parts:
            d_scores *= count / max(share, 1e-300)  # of the mean over both directions
            d_h, d_W, d_b = _core.dense_backward(h, head[prefix + "W"], d_scores, self.n_threads)
            back = stack.backward(rest[-1], d_h)
            gradients |= {prefix + "W": d_W, prefix + "b": d_b}
            gradients |= {name + ending: value for name, value in back.parameters.items()}
            d_inputs = d_inputs + back.x
        return total, share, gradients, d_inputs

    def _reconstruct(
        self, x: Steps, inputs: Array, weights: Array | None, training: bool
    ) -> tuple[float, float, dict[str, Array], Any]:
        steps = np.arange(inputs.shape[1])
        real = steps < x.lengths[:, None]
        _, state, *tape = self._layer.forward(inputs, lengths=x.lengths, training=training)
        # Ones, since a cell whose query comes from its input alone would read nothing from its memory by zeros.
        ones = np.ones((*real.shape, 1), dtype=inputs.dtype)
        h, _, *decoder_tape = self._decoder.forward(ones, state=state, lengths=x.lengths, training=training)
        scores = _core.dense_forward(h, self._head["head_W"], self._head["head_b"], self.n_threads)
        backwards = np.where(real, x.lengths[:, None] - 1 - steps, 0)
        targets = self._targets(x, x.starts[:, None] + backwards)
        factor = real * (np.ones(len(real)) if weights is None else weights)[:, None]
        total, share, d_scores = self._losses(scores, targets, factor)
        if not training:
            return total, share, {}, None
        d_h, d_W, d_b = _core.dense_backward(h, self._head["head_W"], d_scores, self.n_threads)
        decoded = self._decoder.backward(decoder_tape[0], d_h)
        back = self._layer.backward(tape[0], None, decoded.state)
        gradients = {"head_W": d_W, "head_b": d_b, **back.parameters}
        gradients |= {name + _DECODER: value for name, value in decoded.parameters.items()}
        return total, share, gradients, back.x

    def read_fitted(self, X: Any, name: str) -> Steps:
        """X, which this network's layers are to read: where all its tokens are single characters, texts too."""
        tokens = [] if self._vocabulary is None else self._vocabulary.tokens.tolist()
        if tokens and all(isinstance(token, str) and len(token) == 1 for token in tokens):
            if isinstance(X, str):
                raise TypeError(f"{name} is one text. Expected a sequence of them: [{name}] is one sample.")
            X = as_characters(X, name)
        return self.prepare(read_steps(X, name, self._config["dtype"]), name)

    # --- features ----------------------------------------------------------------------------------------------------

    def _layers(self) -> list[list[Any]]:
        """[direction][layer]: each layer on its own, with the present weights."""
        c = self._config
        stacks = [stack for stack in (self._layer, self._second) if stack is not None]
        if c["num_layers"] == 1 or c["layer_mix"] == "last":
            return [[stack] for stack in stacks]
        options = {**recurrent_config(c), "num_layers": 1, "dropout": 0.0}
        width = self._head["head_W"].shape[1]
        result = []
        for stack in stacks:
            layers = []
            for k in range(c["num_layers"]):
                size = c["inputs"] if k == 0 else width
                layer = _core.Recurrent(
                    **{**options, "input_size": size, "reverse": stack.reverse, "n_threads": self.n_threads}
                )
                for name, value in layer.parameters.items():
                    value[...] = stack.parameters[name.replace("_l0", f"_l{k}")]
                layers.append(layer)
            result.append(layers)
        return result

    def layer_features(self, x: Steps) -> list[Array]:
        """(N, T, W) of each layer, zero past a sequence's length; with layer_mix "last" of the last alone."""
        inputs, _ = self._inputs(x, None)
        directions = []
        for layers in self._layers():
            h, found = inputs, []
            for layer in layers:
                h, _ = layer.forward(h, lengths=x.lengths)
                found.append(h)
            directions.append(found)
        return [np.concatenate(parts, axis=2) for parts in zip(*directions, strict=True)]

    def mixed(self, layers: list[Array]) -> Array:
        """Features of layers → features."""
        if len(layers) == 1 and self._constants["gain"][0] == 1.0:
            return layers[0]
        if self._config["layer_mix"] == "concat":
            return np.concatenate(layers, axis=-1)
        weights = (self._constants["gain"] * self._constants["mix"]).astype(self._config["dtype"])
        total: Array = weights[-1] * layers[-1]
        for weight, part in zip(weights, layers[:-1], strict=False):
            total = total + weight * part
        return total

    def pooled(self, h: Array, lengths: NDArray[np.int64]) -> Array:
        """(N, T, W) → (N, W). The last step of a layer that reads from the end is its first."""
        pooling = self._config["pooling"]
        real = (np.arange(h.shape[1]) < lengths[:, None])[:, :, None]
        if pooling == "max":
            result: Array = np.where(real, h, -np.inf).max(axis=1)
            return result
        if pooling == "mean":
            mean: Array = (np.where(real, h, 0.0).sum(axis=1) / lengths[:, None]).astype(h.dtype)
            return mean
        last: Array = h[np.arange(len(h)), lengths - 1].copy()
        if self._config["separate"] or self._config["bidirectional"]:
            half = h.shape[2] // 2
            last[:, half:] = h[:, 0, half:]
        return last

    def outputs(self, x: Steps) -> Array:
        """(N,) objects: features of steps (T, W) each."""
        return x.split(self.mixed(self.layer_features(x)))

    def sequence_layers(self, x: Steps) -> Array:
        """(N, L, W): pooled features of each layer."""
        return np.stack([self.pooled(h, x.lengths) for h in self.layer_features(x)], axis=1)

    def encoded(self, x: Steps) -> Array:
        """(N, W) features of sequences."""
        return self.mixed(list(np.moveaxis(self.sequence_layers(x), 1, 0)))

    def stream(self, x: Array, state: Any) -> tuple[Array, Any]:
        """Features of the next step of N streams (N, W), and the state after it."""
        if self._vocabulary is None:
            h = ((x - self._constants["mean"]) * self._constants["scale"]).astype(self._config["dtype"])
        else:
            h = self._embedding["embedding"][x]
        h, state = self._layer.step(h, state)
        # A layer's output is its h, but for blocks, of which check_cell allows the last layer alone.
        return self.mixed([h] if self._config["layer_mix"] == "last" else list(state["h"])), state

    def core_model(self, pooling: str) -> _core.Model:
        """The same layers as a model of the engine, whose head hands their outputs on; pooling "none" for steps.

        ValueError for what such a model does not have.
        """
        c = self._config
        for name, given, what in (
            ("inputs", c["vocabulary"] is not None, "tokens, whose embedding the runtime does not have"),
            ("layer_mix", c["layer_mix"] != "last", "a mix of layers; use layer_mix='last'"),
            ("bidirectional", c["separate"], "two separate stacks; use bidirectional=False"),
        ):
            if given:
                raise ValueError(f"quantize: {name}: the network has {what}.")
        core = engine_model(c, pooling, self.features)
        head = {"head_W": np.eye(self.features), "head_b": np.zeros(self.features)}
        core.set_parameters({**self._layer.parameters, **{k: v.astype(c["dtype"]) for k, v in head.items()}})
        core.set_preprocessing(
            self._constants["mean"], self._constants["scale"], np.zeros(self.features), np.ones(self.features)
        )
        return core

    # --- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[Shapes, Shapes, str]:
        shapes, constants, dtype = super().shapes(config)
        for name, known in (("task", TASKS), ("layer_mix", MIXES), ("pooling", POOLINGS)):
            if not isinstance(config[name], str) or config[name] not in known:
                raise ValueError(f"config: {name}: expected one of {', '.join(known)}, got {config[name]!r}")
        if type(config["separate"]) is not bool or (config["separate"] and config["bidirectional"]):
            raise ValueError("config: separate: expected true or false, and not with bidirectional")
        if config["task"] == "next_step" and config["bidirectional"]:
            raise ValueError("config: bidirectional: layers of both directions cannot forecast; expected separate")
        check_cell(config["cell"], config["layer_mix"], config["num_layers"])
        I, K = config["inputs"], config["outputs"]
        V = shapes["embedding"][0] if config["vocabulary"] is not None else I
        if (1 if config["task"] == "none" else V) != K:
            raise ValueError(f"config: outputs: expected {1 if config['task'] == 'none' else V}, got {K}")
        stack = {k: v for k, v in shapes.items() if k not in ("embedding", "head_W", "head_b")}
        if config["separate"]:
            shapes |= {name + _BACKWARD: shape for name, shape in stack.items()}
            shapes |= {"head_from_end_W": shapes["head_W"], "head_from_end_b": shapes["head_b"]}
        if config["task"] == "autoencoder":
            recurrent = {k: v for k, v in recurrent_config(config).items() if k not in config["cell_options"]}
            recurrent |= {"input_size": 1, "cell_options": config["cell_options"]}
            decoder: Shapes = _core.Model.shapes({"recurrent": recurrent, "pooling": "none", "outputs": 1})
            shapes |= {name + _DECODER: shape for name, shape in decoder.items() if not name.startswith("head_")}
        constants |= {"mix": (config["num_layers"],), "gain": (1,)}
        return shapes, constants, dtype


def check_cell(cell: str, layer_mix: str, layers: int) -> None:
    """ValueError where outputs of single layers do not exist."""
    if cell == "xlstm" and layer_mix != "last" and layers > 1:
        raise ValueError(f"layer_mix={layer_mix!r}: the blocks of 'xlstm' have no outputs of their own. Use 'last'.")
