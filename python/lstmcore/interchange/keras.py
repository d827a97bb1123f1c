"""Keras' LSTM, GRU and SimpleRNN, alone, bidirectional or stacked: reading layers, or their configs and weights.

Shape letters: I input features, H hidden units, G gates.

Keras keeps kernels transposed, (I, G·H) and (H, G·H), and orders gates i, f, c, o (LSTM: ours) and z, r, h (GRU; ours:
r, z, n). Its GRU has two biases with reset_after=True, as ours has, else one. Keras itself is not imported: a layer is
anything with `get_config` and `get_weights`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .common import Array, LayerT, Weights, as_floats, blocks, build, check_regularisers, check_shape, dtype_of, listing

_SUPPORTED = "LSTM, GRU, SimpleRNN, or Bidirectional around one of them"
# Class → our cell, Keras' gates (by our letters) in its order, ours in our order.
_CELLS = {"LSTM": ("lstm", "ifgo", "ifgo"), "GRU": ("gru", "zrn", "rzn"), "SimpleRNN": ("elman", "a", "a")}
_ACTIVATIONS = {"LSTM": ("tanh",), "GRU": ("tanh",), "SimpleRNN": ("tanh", "relu")}
# What must have one value, with what to do otherwise.
_FIXED: dict[str, tuple[Any, str]] = {
    "go_backwards": (False, "set it to False and give the layer each sequence reversed in time"),
    "stateful": (False, "set it to False; forward() takes and returns states"),
}
# How Keras computes, reads its input or trains: no matter to the weights, so any value is right.
_NEUTRAL = re.compile(
    r"name|trainable|dtype|batch_input_shape|batch_shape|input_shape|return_sequences|return_state|unroll|time_major|"
    r"implementation|use_cudnn|zero_output_for_mask|seed|unit_forget_bias|"
    r"(kernel|recurrent|bias)_initializer|(kernel|recurrent|bias|activity)_regularizer|"
    r"(kernel|recurrent|bias)_constraint"
)
_HANDLED = ("units", "activation", "recurrent_activation", "use_bias", "reset_after", "dropout", "recurrent_dropout")


@dataclass
class _Layer:
    """One Keras layer, one or two directions."""

    name: str  # for messages
    cell: str
    units: int
    options: dict[str, Any]
    return_sequences: bool
    dropouts: tuple[float, float]  # on the input, on h₋
    directions: int
    tensors: list[dict[str, Array]]  # of each direction, by the kind of our name
    kinds: dict[str, str]  # element types as they came


def read(
    cls: type[LayerT],
    source: Any,
    weights: Sequence[Any] | None,
    *,
    dropout: float,
    dtype: str | None,
    seed: int,
    n_threads: int | None,
    regularisers: Mapping[str, Any],
) -> LayerT:
    """`Recurrent.from_keras`; its docstring describes arguments and errors."""
    check_regularisers(regularisers)
    layers = _layers(source, weights)
    found = weights_of(layers)
    regularisers = dict(regularisers)
    rates = sorted({rate for layer in layers for rate in layer.dropouts})
    if "variational_dropout" not in regularisers and rates != [0.0]:
        if len(rates) > 1:
            raise ValueError(
                f"dropout, recurrent_dropout: the layers have {', '.join(map(str, rates))}, but Recurrent has one rate "
                "for input and h of all layers; pass variational_dropout= (0.0 where the layer will not be trained)"
            )
        regularisers["variational_dropout"] = rates[0]
    dtype = dtype_of({name: kind for layer in layers for name, kind in layer.kinds.items()}, dtype)
    return build(cls, found, dtype=dtype, dropout=dropout, seed=seed, n_threads=n_threads, regularisers=regularisers)


def weights_of(layers: Sequence[_Layer]) -> Weights:
    """The stack as one layer of ours."""
    first = layers[0]
    for layer in layers[1:]:
        for what in ("cell", "units", "directions", "options"):
            theirs, ours = getattr(layer, what), getattr(first, what)
            if theirs != ours:
                raise ValueError(
                    f"{layer.name}: a stack needs the same {what} in every layer, got {theirs!r} after {ours!r}; "
                    "read such layers one by one"
                )
    for layer in layers[:-1]:
        if not layer.return_sequences:
            raise ValueError(f"{layer.name}: return_sequences=False, but another layer of the stack follows")
    found = Weights(
        first.cell,
        input_size=first.tensors[0]["W"].shape[1],
        hidden_size=first.units,
        num_layers=len(layers),
        bidirectional=first.directions == 2,
        options=first.options,
    )
    for k, layer in enumerate(layers):
        features = found.input_size if k == 0 else first.directions * first.units
        for direction, tensors in enumerate(layer.tensors):
            if tensors["W"].shape[1] != features:
                raise ValueError(
                    f"{layer.name}: kernel reads {tensors['W'].shape[1]} features, but what it is given has {features}"
                )
            for kind, value in tensors.items():
                found.tensors[f"{kind}_l{k}" + "_reverse" * direction] = value
    return found


def _layers(source: Any, weights: Sequence[Any] | None) -> list[_Layer]:
    """Every layer of what from_keras was given."""
    if not isinstance(source, (list, tuple)):
        return [_layer(source, weights, "layer_or_config")]
    if not source:
        raise ValueError("layer_or_config: the list is empty")
    if weights is not None and len(weights) != len(source):
        raise ValueError(
            f"weights: expected one list of arrays for each of {len(source)} layers, got {len(weights)} of them"
        )
    each: Sequence[Any] = [None] * len(source) if weights is None else weights
    return [
        _layer(one, arrays, f"layer_or_config[{k}]") for k, (one, arrays) in enumerate(zip(source, each, strict=True))
    ]


def _layer(source: Any, weights: Sequence[Any] | None, where: str) -> _Layer:
    """One layer from a Keras layer or from a config and its arrays."""
    if isinstance(source, Mapping):
        if weights is None:
            raise ValueError(f"weights: needed with a config ({where}), as the layer's get_weights() returns them")
        kind, config = _named_config(source, where)
    elif callable(getattr(source, "get_config", None)) and callable(getattr(source, "get_weights", None)):
        kind = type(source).__name__
        if kind not in (*_CELLS, "Bidirectional"):
            raise TypeError(
                f"{where}: expected {_SUPPORTED}, got {type(source).__module__}.{kind}; "
                "of a model, pass the list of its recurrent layers"
            )
        config = source.get_config()
        weights = source.get_weights() if weights is None else weights
    else:
        raise TypeError(f"{where}: expected a Keras layer ({_SUPPORTED}) or its config, got {type(source).__name__}")
    where += f" ({config.get('name', kind)})"
    if not isinstance(weights, (list, tuple)):
        raise TypeError(f"weights of {where}: expected a list of arrays, got {type(weights).__name__}")
    configs = _directions(config, where) if kind == "Bidirectional" else [(kind, config)]
    each, rest = divmod(len(weights), len(configs))
    if rest or not each:
        expected = "build the layer first" if not weights else f"not {len(configs)} equal parts"
        raise ValueError(f"weights of {where}: got {len(weights)} arrays; {expected}")
    result: _Layer | None = None
    for direction, (name, one) in enumerate(configs):
        label = where + " backward" * direction
        parsed = _one_direction(name, one, weights[direction * each : (direction + 1) * each], label)
        if result is None:
            result = parsed
            continue
        for what in ("cell", "units", "options", "dropouts"):
            if getattr(parsed, what) != getattr(result, what):
                raise ValueError(
                    f"{label}: both directions need the same {what}, got {getattr(result, what)!r} forward "
                    f"and {getattr(parsed, what)!r} backward"
                )
        result.directions = 2
        result.tensors += parsed.tensors
        result.kinds.update(parsed.kinds)
    assert result is not None
    return result


def _named_config(source: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    """Class and config, from the form of keras.layers.serialize() or from a bare get_config()."""
    if "class_name" in source:
        config = source.get("config")
        if not isinstance(config, Mapping):
            raise TypeError(f"{where}: 'config' should be a dict, got {type(config).__name__}")
        kind = str(source["class_name"])
        if kind not in (*_CELLS, "Bidirectional"):
            raise ValueError(f"{where}: class_name {kind!r} is not supported; expected {_SUPPORTED}")
        return kind, config
    if "layer" in source:
        return "Bidirectional", source
    if "units" not in source:
        raise ValueError(f"{where}: expected the config of {_SUPPORTED}; it has entries {listing(source)}")
    # A bare config does not name its class, but each class has an entry of its own.
    if "reset_after" in source:
        return "GRU", source
    return ("LSTM" if "recurrent_activation" in source else "SimpleRNN"), source


def _directions(config: Mapping[str, Any], where: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Configs of the forward and the backward layer of a Bidirectional; the latter without its go_backwards."""
    if config.get("merge_mode", "concat") != "concat":
        raise ValueError(f"{where}: merge_mode={config['merge_mode']!r} is not supported; expected 'concat'")
    if not isinstance(config.get("layer"), Mapping):
        raise ValueError(f"{where}: expected a config with an entry 'layer'; it has entries {listing(config)}")
    kind, forward = _named_config(config["layer"], f"{where} layer")
    if kind == "Bidirectional":
        raise ValueError(f"{where}: a Bidirectional inside a Bidirectional is not supported")
    if config.get("backward_layer") is None:
        return [(kind, forward), (kind, forward)]
    kind_back, backward = _named_config(config["backward_layer"], f"{where} backward_layer")
    if not backward.get("go_backwards", False):
        raise ValueError(f"{where}: backward_layer has go_backwards=False")
    if bool(backward.get("return_sequences")) != bool(forward.get("return_sequences")):
        raise ValueError(f"{where}: return_sequences differs between layer and backward_layer")
    return [(kind, forward), (kind_back, {**backward, "go_backwards": False})]


def _one_direction(kind: str, config: Mapping[str, Any], weights: Sequence[Any], where: str) -> _Layer:
    """Checks a config entry by entry and turns its arrays into ours."""
    for name, (expected, advice) in _FIXED.items():
        if config.get(name, expected) != expected:
            raise ValueError(f"{where}: {name}={config[name]!r} is not supported; {advice}")
    for name, value in config.items():
        known = name in _HANDLED or name in _FIXED or _NEUTRAL.fullmatch(name)
        if not known and value not in (None, False, 0):
            raise ValueError(f"{where}: {name}={value!r} is not known here, so what the layer computes is not either")
    activation = _function(config.get("activation", "tanh"))
    if activation not in _ACTIVATIONS[kind]:
        raise ValueError(f"{where}: activation={activation!r} is not supported; expected {listing(_ACTIVATIONS[kind])}")
    recurrent = _function(config.get("recurrent_activation", "sigmoid"))
    if recurrent != "sigmoid":
        raise ValueError(f"{where}: recurrent_activation={recurrent!r} is not supported; expected 'sigmoid'")
    cell, theirs, ours = _CELLS[kind]
    options: dict[str, Any] = {}
    if kind == "SimpleRNN":
        options["nonlinearity"] = activation
    if kind == "GRU":
        options["reset_after"] = bool(config.get("reset_after", True))
    units = config.get("units")
    if not isinstance(units, int) or units < 1:
        raise ValueError(f"{where}: units should be a positive integer, got {units!r}")
    biased = bool(config.get("use_bias", True))
    names = ["kernel", "recurrent_kernel"] + (["bias"] if biased else [])
    if len(weights) != len(names):
        raise ValueError(f"weights of {where}: expected {', '.join(names)}, got {len(weights)} arrays")
    labels = [f"{name} of {where}" for name in names]
    arrays = [np.asarray(value) for value in weights]
    kinds = {label: array.dtype.name for label, array in zip(labels, arrays, strict=True)}
    arrays = [as_floats(label, array) for label, array in zip(labels, arrays, strict=True)]
    rows = len(theirs) * units
    if arrays[0].ndim != 2 or arrays[0].shape[0] < 1:
        raise ValueError(f"{labels[0]}: expected shape (features, {rows}), got {arrays[0].shape}")
    check_shape(labels[0], arrays[0], (arrays[0].shape[0], rows))
    check_shape(labels[1], arrays[1], (units, rows))
    tensors = {"W": blocks(arrays[0].T, ours, theirs), "R": blocks(arrays[1].T, ours, theirs)}
    if biased:
        two = options.get("reset_after", False)
        check_shape(labels[2], arrays[2], (2, rows) if two else (rows,))
        for name, bias in zip(("b", "bR"), arrays[2], strict=True) if two else [("b", arrays[2])]:
            tensors[name] = blocks(bias, ours, theirs)
    return _Layer(
        name=where,
        cell=cell,
        units=units,
        options=options,
        return_sequences=bool(config.get("return_sequences", False)),
        dropouts=(float(config.get("dropout") or 0.0), float(config.get("recurrent_dropout") or 0.0)),
        directions=1,
        tensors=[tensors],
        kinds=kinds,
    )


def _function(value: Any) -> Any:
    """Name of an activation, also where it is a serialised function or the function itself."""
    if isinstance(value, Mapping):
        value = value.get("config", value)
    return getattr(value, "__name__", value)
