"""PyTorch's nn.LSTM (with or without projection), nn.GRU and nn.RNN, and state dicts of them.

Shape letters: I input features, H hidden units, P width of h (H without projection), G gates.

PyTorch's layers have the same rows in the same order as ours (LSTM: i, f, g, o; GRU: r, z, n), so weights move
unchanged. It adds two biases, `bias_ih` and `bias_hh`. In a GRU both are needed, as `b` and `bR`; elsewhere one says
the same: reading adds them, writing puts the bias into `bias_ih` and zeros into `bias_hh`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .common import (
    Array,
    LayerT,
    Weights,
    active_regularisers,
    as_floats,
    build,
    check_regularisers,
    check_shape,
    dtype_of,
    equations_of,
    listing,
    refuse_unknown_options,
    suffixes,
)

if TYPE_CHECKING:
    from ..recurrent import Recurrent

_SUPPORTED = "torch.nn.LSTM, torch.nn.GRU and torch.nn.RNN (nonlinearity 'tanh' or 'relu')"
_NONLINEARITIES = ("tanh", "relu")
# Field `mode` of PyTorch's modules → cell, nonlinearity.
_MODES: dict[str, tuple[str, str | None]] = {
    "LSTM": ("lstm", None),
    "GRU": ("gru", None),
    "RNN_TANH": ("elman", "tanh"),
    "RNN_RELU": ("elman", "relu"),
}
_CELL_OF_GATES = {4: "lstm", 3: "gru", 1: "elman"}
_GATES = {cell: gates for gates, cell in _CELL_OF_GATES.items()}
_KEY = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d+)(_reverse)?")
_NAMES = {"W": "weight_ih", "R": "weight_hh", "proj": "weight_hr", "b": "bias_ih", "bR": "bias_hh"}
_CLASSES = {"lstm": "LSTM", "gru": "GRU", "elman": "RNN"}
# Options of our cells that PyTorch has; None: any value.
_OPTIONS: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "lstm": {"variant": ("vanilla",), "proj_size": None, "layer_norm": (False,)},
    "gru": {"reset_after": (True,), "layer_norm": (False,)},
    "elman": {"nonlinearity": _NONLINEARITIES, "layer_norm": (False,)},
}


def read(
    cls: type[LayerT],
    source: Any,
    *,
    prefix: str,
    nonlinearity: str | None,
    dropout: float | None,
    dtype: str | None,
    seed: int,
    n_threads: int | None,
    regularisers: Mapping[str, Any],
) -> LayerT:
    """`Recurrent.from_torch`; its docstring describes arguments and errors."""
    check_regularisers(regularisers)
    mode: str | None = None
    if isinstance(source, Mapping):
        named = {key[len(prefix) :]: value for key, value in source.items() if key.startswith(prefix)}
        if not named:
            raise ValueError(f"prefix: no entry of the state_dict starts with {prefix!r}; it has {listing(source)}")
    else:
        mode = _mode_of(source)
        if prefix:
            raise ValueError(f"prefix={prefix!r} selects entries of a state_dict, but a module was given; omit it")
        named = dict(source.state_dict())
        if dropout is None:
            dropout = float(source.dropout)
    weights = weights_of(named, nonlinearity, mode, with_prefix_hint=not prefix)
    dtype = dtype_of({key: _kind(value) for key, value in named.items()}, dtype)
    return build(
        cls,
        weights,
        dtype=dtype,
        dropout=0.0 if dropout is None else dropout,
        seed=seed,
        n_threads=n_threads,
        regularisers=regularisers,
    )


def weights_of(
    named: Mapping[str, Any], nonlinearity: str | None, mode: str | None = None, with_prefix_hint: bool = True
) -> Weights:
    """The layer in a state dict, every entry of which has to be of it. mode: that of its module, if known."""
    layers, bidirectional = _check_keys(named, with_prefix_hint)
    cell, input_size, hidden_size, projected = _sizes(named)
    if mode is not None:
        nonlinearity = _agree(nonlinearity, mode)
    options: dict[str, Any] = {}
    if cell == "elman":
        if nonlinearity not in _NONLINEARITIES:
            raise ValueError(
                f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}; "
                "the weights of an nn.RNN do not say which one it uses"
            )
        options["nonlinearity"] = nonlinearity
    elif nonlinearity is not None:
        raise ValueError(
            f"nonlinearity={nonlinearity!r} applies to nn.RNN, but these are weights of an nn.{_CLASSES[cell]}; omit it"
        )
    if projected:
        options["proj_size"] = projected
    weights = Weights(cell, input_size, hidden_size, layers, bidirectional, options)
    arrays = {key: _to_numpy(key, value) for key, value in named.items()}
    rows, width = _GATES[cell] * hidden_size, projected or hidden_size
    for layer, names in enumerate(suffixes(layers, bidirectional)):
        features = input_size if layer == 0 else len(names) * width
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, features),
            "weight_hh": (rows, width),
            "weight_hr": (width, hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        for suffix in names:
            for kind, shape in shapes.items():
                if f"{kind}_{suffix}" in arrays:
                    check_shape(f"{kind}_{suffix}", arrays[f"{kind}_{suffix}"], shape)
            for ours, theirs in _NAMES.items():
                if f"{theirs}_{suffix}" in arrays and (ours != "bR" or cell == "gru"):
                    weights.tensors[f"{ours}_{suffix}"] = arrays[f"{theirs}_{suffix}"]
            if cell != "gru" and f"bias_hh_{suffix}" in arrays:
                total = arrays[f"bias_ih_{suffix}"].astype(np.float64) + arrays[f"bias_hh_{suffix}"]
                weights.tensors[f"b_{suffix}"] = total
    return weights


def write(layer: Recurrent) -> Any:
    """`Recurrent.to_torch`."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError("to_torch() needs PyTorch; install it, e.g. with 'pip install torch'") from error
    refuse_unknown_options("to_torch: PyTorch", layer, _OPTIONS)
    regularisers = active_regularisers(layer)
    if regularisers:
        described = ", ".join(f"{name}={value}" for name, value in regularisers.items())
        raise ValueError(f"to_torch: PyTorch's layers have no {described}")
    if layer.reverse:
        raise ValueError("to_torch: PyTorch has no layer for reverse=True; use reverse=False with reversed sequences")
    cell, options = equations_of(layer)
    extra: dict[str, Any] = {}
    if cell == "elman":
        extra["nonlinearity"] = options.get("nonlinearity", "tanh")
    if options.get("proj_size"):
        extra["proj_size"] = options["proj_size"]
    module = getattr(torch.nn, _CLASSES[cell])(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        batch_first=True,
        bidirectional=layer.bidirectional,
        dropout=layer.dropout if layer.num_layers > 1 else 0.0,  # PyTorch warns where dropout does nothing
        dtype=getattr(torch, layer.dtype.name),
        **extra,
    )
    with torch.no_grad():
        if cell != "gru":
            for name, value in module.named_parameters():
                if name.startswith("bias_hh"):
                    value.zero_()
        for name, weight in layer.parameters.items():
            kind, suffix = name.split("_", 1)
            getattr(module, f"{_NAMES[kind]}_{suffix}").copy_(torch.from_numpy(np.array(weight)))
    return module


def _mode_of(module: Any) -> str:
    """`mode` of a PyTorch recurrent module that can be read; anything else is an error saying what to pass."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    if not callable(getattr(module, "state_dict", None)):
        raise TypeError(f"module_or_state_dict: expected {_SUPPORTED} or a state_dict of one, got {kind}")
    mode = getattr(module, "mode", None)
    if mode not in _MODES:
        raise TypeError(
            f"module_or_state_dict: expected {_SUPPORTED}, got {kind}; "
            "pass the recurrent layer itself, or a state_dict with prefix="
        )
    return str(mode)


def _agree(nonlinearity: str | None, mode: str) -> str | None:
    """The nonlinearity of a module, refusing one that was given and differs."""
    cell, own = _MODES[mode]
    if nonlinearity is not None and nonlinearity != own:
        described = f"an nn.{_CLASSES[cell]}" + ("" if own is None else f" with {own!r}")
        raise ValueError(f"nonlinearity={nonlinearity!r} contradicts the module, which is {described}; omit it")
    return own


def _check_keys(named: Mapping[str, Any], with_prefix_hint: bool) -> tuple[int, bool]:
    """Number of layers and whether bidirectional; every entry must be there and nothing else."""
    unknown = [key for key in named if _KEY.fullmatch(key) is None]
    if unknown:
        hint = "; name the part to read with prefix=" if with_prefix_hint else ""
        raise ValueError(f"module_or_state_dict: entries {listing(unknown)} are not of {_SUPPORTED}{hint}")
    for key, value in named.items():
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            raise TypeError(f"{key}: expected a tensor or an ndarray, got {type(value).__qualname__}")
    matches = [match for key in named if (match := _KEY.fullmatch(key))]
    if not matches:
        raise ValueError(f"module_or_state_dict: no weights in it; expected those of {_SUPPORTED}")
    layers = 1 + max(int(match[2]) for match in matches)
    bidirectional = any(match[3] for match in matches)
    kinds = ["weight_ih", "weight_hh"]
    if any(match[1] == "weight_hr" for match in matches):
        kinds.append("weight_hr")
    if any(match[1].startswith("bias") for match in matches):
        kinds += ["bias_ih", "bias_hh"]
    directions = ["", "_reverse"] if bidirectional else [""]
    for layer in range(layers):  # stops at the first hole, so a huge layer number in a key costs nothing
        for direction in directions:
            for kind in kinds:
                if f"{kind}_l{layer}{direction}" not in named:
                    raise ValueError(f"module_or_state_dict: entry '{kind}_l{layer}{direction}' is missing")
    if len(named) != layers * len(directions) * len(kinds):
        raise ValueError(f"module_or_state_dict: a layer number is written twice in {listing(named)}")
    return layers, bidirectional


def _sizes(named: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """Cell, I, H and projection size (0: none) from the shapes of the first layer's weights."""
    keys = [key for key in ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0") if key in named]
    shapes = {key: tuple(int(extent) for extent in named[key].shape) for key in keys}
    for key, shape in shapes.items():
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{key}: expected a matrix, got shape {shape}")
    rows, width = shapes["weight_hh_l0"]
    projected, hidden = shapes.get("weight_hr_l0", (0, width))
    gates, rest = divmod(rows, hidden)
    if rest or gates not in _CELL_OF_GATES:
        raise ValueError(
            "weight_hh_l0: expected (4·H, H) for an LSTM, (3·H, H) for a GRU or (H, H) for an nn.RNN, "
            f"got shape {shapes['weight_hh_l0']}"
        )
    cell = _CELL_OF_GATES[gates]
    if projected and cell != "lstm":
        raise ValueError(
            f"proj_size: only an LSTM has a projection, but weight_hh_l0 has {gates}·H rows with H = {hidden} "
            "from weight_hr_l0"
        )
    return cell, shapes["weight_ih_l0"][1], hidden, projected


def _kind(value: Any) -> str:
    """Name of the element type of an ndarray or a tensor."""
    return str(value.dtype.name if isinstance(value, np.ndarray) else value.dtype).removeprefix("torch.")


def _to_numpy(key: str, value: Any) -> Array:
    """An array from an ndarray or a tensor on any device; types NumPy lacks come as float32."""
    if isinstance(value, np.ndarray):
        return as_floats(key, value)
    tensor = value.detach().cpu()
    return as_floats(key, np.asarray((tensor.float() if _kind(value) == "bfloat16" else tensor).numpy()))
