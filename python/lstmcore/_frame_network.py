"""Encoder and forecaster of frames (Shi et al., 2015); needs NumPy only.

Shape letters: N sequences, T frames that are read, C channels, Y rows and X columns of a frame, H hidden channels,
L layers, F frames that are forecast, p side of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._dense_head import dense_init, numeric_loss
from .convolutional import ConvRecurrent

__all__ = ["FrameNetwork", "Frames", "binary_cross_entropy", "join_patches", "split_patches"]

Array = NDArray[Any]

CELLS = ("lstm", "peephole", "gru")
LOSSES = ("squared", "cross_entropy")
_SIZES = (
    "channels",
    "height",
    "width",
    "hidden_channels",
    "kernel_size",
    "num_layers",
    "dilation",
    "patch_size",
    "horizon",
)


class Frames:
    """N sequences of frames, (T_i, C, Y, X) each, in the network's dtype. plain: they came without an axis for C."""

    def __init__(self, items: Array | Sequence[Array], plain: bool) -> None:
        self.items = items
        self.plain = plain

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(item) for item in self.items], dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, Y, X)."""
        channels, height, width = self.items[0].shape[1:]
        return channels, height, width

    @property
    def features(self) -> int:
        return int(np.prod(self.shape))

    def subset(self, indices: NDArray[np.int64]) -> Frames:
        if isinstance(self.items, np.ndarray):
            return Frames(self.items[indices], self.plain)
        return Frames([self.items[n] for n in indices], self.plain)

    def until(self, count: int) -> tuple[Frames, Array]:
        """The sequences without their last `count` frames, and those: (N, count, C, Y, X)."""
        last = np.stack([item[-count:] for item in self.items])
        if isinstance(self.items, np.ndarray):
            return Frames(self.items[:, :-count], self.plain), last
        return Frames([item[:-count] for item in self.items], self.plain), last

    def last(self) -> Array:
        """The last frame of each: (N, C, Y, X)."""
        return np.stack([item[-1] for item in self.items])


def split_patches(frames: Array, size: int) -> Array:
    """(…, C, Y, X) → (…, C·p², Y/p, X/p): patches of p × p pixels become channels."""
    *lead, channels, height, width = frames.shape
    if size == 1:
        return frames
    cut = frames.reshape(-1, channels, height // size, size, width // size, size)
    result: Array = cut.transpose(0, 1, 3, 5, 2, 4).reshape(*lead, channels * size**2, height // size, width // size)
    return result


def join_patches(frames: Array, size: int) -> Array:
    """The way back."""
    *lead, channels, height, width = frames.shape
    if size == 1:
        return frames
    cut = frames.reshape(-1, channels // size**2, size, size, height, width)
    result: Array = cut.transpose(0, 1, 4, 2, 5, 3).reshape(*lead, channels // size**2, height * size, width * size)
    return result


def binary_cross_entropy(scores: Array, values: Array, weights: Array | None) -> tuple[float, float, Array]:
    """−y log σ(s) − (1 − y) log(1 − σ(s)), the mean over all that one sample predicts; y in [0, 1].

    Returns Σ w l, Σ w and the gradient of Σ w l / Σ w, as `_dense_head.numeric_loss`.
    """
    wide = scores.astype(np.float64)
    axes = tuple(range(1, wide.ndim))
    terms = np.exp(-np.abs(wide))
    each = (np.maximum(wide, 0.0) - wide * values + np.log1p(terms)).mean(axis=axes)
    slopes = np.where(wide >= 0, 1.0, terms) / (1.0 + terms) - values
    weights = np.ones(len(wide)) if weights is None else weights
    total = float(weights.sum())
    share = weights / (total * wide[0].size) if total > 0 else np.zeros(len(wide))
    d_scores = slopes * share.reshape(-1, *[1] * len(axes))
    return float((weights * each).sum()), total, d_scores.astype(scores.dtype)


class FrameNetwork:
    """A stack of convolutional layers reads T frames; another one starts from its states and runs F steps without
    input; a convolution of 1 × 1 over the hidden states of all its layers gives a frame a step.

    config: cell, channels, height, width, hidden_channels, kernel_size, num_layers, dilation, patch_size, horizon, loss
    ("squared" or "cross_entropy"), dtype. Parameters: "W_encoder_l0", …; "R_forecaster_l0", "b_forecaster_l0",
    "W_forecaster_l1", … (its first layer has no W); "head_W" (C·p², L·H), "head_b" (C·p²,). Constants: mean and scale
    of each channel, (frame − mean)·scale being what the layers read and, with "squared", what the head gives.
    """

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        self._config = dict(config)
        c = self._config
        patch = c["patch_size"]
        hidden, inputs = c["hidden_channels"], c["channels"] * patch**2

        def layer(channels: int, layers: int, part: int) -> ConvRecurrent:
            return ConvRecurrent(
                c["cell"],
                channels=channels,
                hidden_channels=hidden,
                height=c["height"] // patch,
                width=c["width"] // patch,
                kernel_size=c["kernel_size"],
                dilation=c["dilation"],
                num_layers=layers,
                dtype=c["dtype"],
                seed=(seed + 7919 * part) % 2**63,
            )

        self._encoder = layer(inputs, c["num_layers"], 0)
        # One by one: the head reads the outputs of each. The first reads an image of zeros.
        self._forecaster = [layer(1 if k == 0 else hidden, 1, k + 1) for k in range(c["num_layers"])]
        self._forecaster[0].parameters["W_l0"][...] = 0.0
        self.constants = {"mean": np.zeros(c["channels"]), "scale": np.ones(c["channels"])}
        self._head = dense_init(seed + 7919 * (c["num_layers"] + 1), c["num_layers"] * hidden, inputs, c["dtype"])

    @property
    def n_threads(self) -> int | None:
        return self._encoder.n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        for layer in (self._encoder, *self._forecaster):
            layer.n_threads = value

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    @property
    def parameters(self) -> dict[str, Array]:
        named = {_encoder_name(name): value for name, value in self._encoder.parameters.items()}
        for k, layer in enumerate(self._forecaster):
            named |= {_forecaster_name(name, k): v for name, v in layer.parameters.items() if k > 0 or name != "W_l0"}
        return {**named, **self._head}

    # --- passes ------------------------------------------------------------------------------------------------------

    def _read(self, x: Frames) -> Any:
        """What the encoder reads: standardised patches, (N, T, …) or a list."""
        mean, scale = (self.constants[name].reshape(-1, 1, 1) for name in ("mean", "scale"))
        dtype, patch = self._config["dtype"], self._config["patch_size"]
        if len(set(x.lengths.tolist())) == 1:
            return split_patches(((np.asarray(x.items) - mean) * scale).astype(dtype), patch)
        return [split_patches(((item - mean) * scale).astype(dtype), patch) for item in x.items]

    def _forward(self, x: Frames, training: bool) -> tuple[Array, Any, list[Any], list[Array]]:
        """Scores (N, F, C·p², Y/p, X/p), the encoder's tape, those of the forecaster's layers, and their outputs."""
        frames = self._read(x)
        tape, tapes, hidden = None, [], []
        if training:
            _, state, tape = self._encoder.forward(frames, training=True)
        else:
            _, state = self._encoder.forward(frames)
        c = self._config
        # The first layer of the forecaster has no input.
        below = np.zeros((len(frames), c["horizon"], 1, *self._images), dtype=c["dtype"])
        for k, layer in enumerate(self._forecaster):
            start = {name: value[k : k + 1] for name, value in state.items()}
            if training:
                below, _, layer_tape = layer.forward(below, start, training=True)
                tapes.append(layer_tape)
            else:
                below, _ = layer.forward(below, start)
            hidden.append(below)
        scores = self._head["head_b"][:, None]
        for y, weights in zip(hidden, self._head_parts(), strict=True):
            scores = scores + weights @ y.reshape(*y.shape[:3], -1)
        return scores.reshape(*scores.shape[:3], *self._images), tape, tapes, hidden

    @property
    def _images(self) -> tuple[int, int]:
        c = self._config
        return c["height"] // c["patch_size"], c["width"] // c["patch_size"]

    def _head_parts(self) -> list[Array]:
        """head_W for each layer of the forecaster: (C·p², H)."""
        return np.split(self._head["head_W"], self._config["num_layers"], axis=1)

    def loss_and_gradients(
        self, x: Frames, y: Array, weights: Array | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """y: (N, 1 + F, C, Y, X), the last frame of x and those that follow."""
        scores, tape, tapes, hidden = self._forward(x, training)
        targets = y[:, 1:]
        if self._config["loss"] == "squared":
            mean, scale = (self.constants[name].reshape(-1, 1, 1) for name in ("mean", "scale"))
            targets = split_patches((targets - mean) * scale, self._config["patch_size"])
            loss, share, d_scores = numeric_loss(scores, targets, weights, "squared")
        else:
            targets = split_patches(targets, self._config["patch_size"])
            loss, share, d_scores = binary_cross_entropy(scores, targets, weights)
        if not training:
            return loss, share, {}
        return loss, share, self._backward(d_scores, tape, tapes, hidden)

    def _backward(self, d_scores: Array, tape: Any, tapes: list[Any], hidden: list[Array]) -> dict[str, Array]:
        rows = d_scores.reshape(*d_scores.shape[:3], -1)
        gradients: dict[str, Array] = {"head_b": rows.sum(axis=(0, 1, 3))}
        parts, d_state, d_below = [], [], None
        for k in reversed(range(len(hidden))):
            h = hidden[k].reshape(*hidden[k].shape[:3], -1)
            parts.append((rows @ h.swapaxes(2, 3)).sum(axis=(0, 1)))
            d_h = (self._head_parts()[k].T @ rows).reshape(hidden[k].shape)
            if d_below is not None:
                d_h += d_below
            back = self._forecaster[k].backward(tapes[k], d_h, input_gradient=k > 0)
            d_below = back.x
            d_state.append(back.state)
            gradients |= {
                _forecaster_name(name, k): v for name, v in back.parameters.items() if k > 0 or name != "W_l0"
            }
        gradients["head_W"] = np.concatenate(parts[::-1], axis=1)
        state = {name: np.concatenate([d[name] for d in d_state[::-1]]) for name in d_state[0]}
        back = self._encoder.backward(tape, None, state, input_gradient=False)
        gradients |= {_encoder_name(name): value for name, value in back.parameters.items()}
        return gradients

    def outputs(self, x: Frames) -> Array:
        """(N, F, C, Y, X), or (N, F, Y, X) where x came without an axis for C."""
        scores = join_patches(self._forward(x, training=False)[0], self._config["patch_size"])
        if self._config["loss"] == "squared":
            mean, scale = (self.constants[name].reshape(-1, 1, 1) for name in ("mean", "scale"))
            frames = (scores / scale + mean).astype(scores.dtype)
        else:
            frames = (1.0 / (1.0 + np.exp(-scores.astype(np.float64)))).astype(scores.dtype)
        return frames[:, :, 0] if x.plain else frames

    # --- data and files ----------------------------------------------------------------------------------------------

    def check(self, x: Frames, name: str) -> None:
        expected = tuple(self._config[axis] for axis in ("channels", "height", "width"))
        if x.shape != expected:
            raise ValueError(f"{name}: frames are {x.shape} (channels, rows, columns), expected {expected}")

    def test_input(self) -> Frames:
        random = np.random.RandomState(0)
        shape = (2, 3, *(self._config[axis] for axis in ("channels", "height", "width")))
        return Frames(random.random_sample(shape).astype(self._config["dtype"]), plain=False)

    @classmethod
    def read(cls, X: Any, name: str, dtype: str) -> Frames:
        """X: (N, T, C, Y, X) or (N, T, Y, X), or a list of (T_i, C, Y, X) or (T_i, Y, X)."""
        if isinstance(X, (list, tuple)):
            if not X:
                raise ValueError(f"{name}: an empty list; at least one sequence is needed")
            items = [_numbers(item, f"{name}[{n}]", dtype, (3, 4)) for n, item in enumerate(X)]
            for n, item in enumerate(items):
                if item.shape[1:] != items[0].shape[1:]:
                    raise ValueError(
                        f"{name}[{n}]: frames of shape {item.shape[1:]}, those of {name}[0] have {items[0].shape[1:]}"
                    )
            plain = items[0].ndim == 3
            return Frames([item[:, None] if plain else item for item in items], plain)
        array = _numbers(X, name, dtype, (4, 5))
        return Frames(array[:, :, None] if array.ndim == 4 else array, array.ndim == 4)

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]], str]:
        if set(config) != {*_SIZES, "cell", "loss", "dtype"}:
            raise ValueError(f"config: expected {', '.join((*_SIZES, 'cell', 'loss', 'dtype'))}")
        for name in _SIZES:
            if type(config[name]) is not int or not 1 <= config[name] <= 10**6:
                raise ValueError(f"config: {name} is {config[name]!r}, expected an integer from 1 to 1000000")
        for name, allowed in (("cell", CELLS), ("loss", LOSSES), ("dtype", ("float32", "float64"))):
            if config[name] not in allowed:
                raise ValueError(f"config: {name} is {config[name]!r}, expected one of {', '.join(allowed)}")
        patch, size = config["patch_size"], config["kernel_size"]
        if size % 2 == 0:
            raise ValueError(f"config: kernel_size is {size}, expected an odd number")
        if config["height"] % patch or config["width"] % patch:
            raise ValueError(
                f"config: frames of {config['height']} x {config['width']} cannot be cut into patches of {patch}"
            )
        layers = config["num_layers"]
        if layers > 1000:
            raise ValueError(f"config: num_layers is {layers}, expected at most 1000")
        # The test vector is computed when a file is read: nothing that no user could train.
        pixels = config["height"] * config["width"] // patch**2
        work = pixels * config["hidden_channels"] * (config["hidden_channels"] + config["channels"] * patch**2)
        if work * min(size, config["height"]) ** 2 * layers * (config["horizon"] + 3) > 10**14:
            raise ValueError("config: frames, hidden_channels, num_layers and horizon together are too large")
        gates = {"lstm": 4, "peephole": 4, "gru": 3}[config["cell"]]
        hidden, inputs = config["hidden_channels"], config["channels"] * patch**2
        shapes: dict[str, tuple[int, ...]] = {}
        for part in ("encoder", "forecaster"):
            for k in range(layers):
                if part == "encoder" or k > 0:
                    shapes[f"W_{part}_l{k}"] = (gates * hidden, hidden if k > 0 else inputs, size, size)
                shapes[f"R_{part}_l{k}"] = (gates * hidden, hidden, size, size)
                shapes[f"b_{part}_l{k}"] = (gates * hidden,)
                if config["cell"] == "gru":
                    shapes[f"bR_{part}_l{k}"] = (gates * hidden,)
                if config["cell"] == "peephole":
                    shapes[f"P_{part}_l{k}"] = (3, hidden, config["height"] // patch, config["width"] // patch)
        shapes |= {"head_W": (inputs, layers * hidden), "head_b": (inputs,)}
        constants: dict[str, tuple[int, ...]] = {"mean": (config["channels"],), "scale": (config["channels"],)}
        return shapes, constants, str(config["dtype"])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FrameNetwork:
        return cls(config)


def _encoder_name(name: str) -> str:
    """W_l0 → W_encoder_l0: what kind of tensor it is comes first, as everywhere."""
    return name.replace("_l", "_encoder_l", 1)


def _forecaster_name(name: str, layer: int) -> str:
    return f"{name.removesuffix('_l0')}_forecaster_l{layer}"


def _numbers(value: Any, name: str, dtype: str, axes: tuple[int, int]) -> Array:
    """An array of finite real numbers of one of these numbers of axes, none of them empty."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: masked arrays are not supported")
    if not hasattr(value, "__array__") and not isinstance(value, (list, tuple)):
        raise TypeError(f"{name}: expected arrays of frames, got {value!r:.40}")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: cannot be read as one array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in axes or array.size == 0:
        letters = {3: "(T, Y, X)", 4: "(N, T, Y, X)", 5: "(N, T, C, Y, X)"}
        if axes == (3, 4):
            letters[4] = "(T, C, Y, X)"
        raise ValueError(
            f"{name}: expected {' or '.join(letters[count] for count in axes)} with no axis empty, got {array.shape}"
        )
    # Also what becomes infinite by conversion.
    with np.errstate(over="ignore"):
        converted: Array = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(converted).all():
        where = ", ".join(map(str, np.argwhere(~np.isfinite(converted))[0]))
        raise ValueError(f"{name}: element ({where}) is NaN or infinite")
    return converted
