"""What the readers and writers share: a layer described by its weights, and checks with names in their messages.

Shape letters: I input features, H hidden units, P width of h, G gates, L layers, D directions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..recurrent import Recurrent

Array = NDArray[Any]
LayerT = TypeVar("LayerT", bound="Recurrent")

# Arguments of Recurrent that act in training (zoneout in inference too) and that readers pass on.
REGULARISERS = (
    "variational_dropout",
    "recurrent_dropout",
    "zoneout_hidden",
    "zoneout_cell",
    "learn_initial_state",
)
FLOATS = ("float16", "bfloat16", "float32", "float64")
# "h0_l0", "c0_l1_reverse": initial states that are parameters, present with learn_initial_state only.
INITIAL_STATE = re.compile(r"([a-z]+)0_l\d+(_reverse)?")


@dataclass
class Weights:
    """A layer as a reader found it: arguments of Recurrent, and tensors under our names in our order of rows.

    A bias that is absent is zero; any other tensor of the layer has to be there.
    """

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Array] = field(default_factory=dict)
    reverse: bool = False


def build(
    cls: type[LayerT],
    weights: Weights,
    *,
    dtype: str,
    dropout: float,
    seed: int,
    n_threads: int | None,
    regularisers: Mapping[str, Any],
) -> LayerT:
    """The layer that `weights` describe."""
    layer = cls(
        weights.cell,
        input_size=weights.input_size,
        hidden_size=weights.hidden_size,
        num_layers=weights.num_layers,
        bidirectional=weights.bidirectional,
        reverse=weights.reverse,
        dropout=dropout,
        dtype=dtype,
        seed=seed,
        n_threads=n_threads,
        **weights.options,
        **regularisers,
    )
    parameters = layer.parameters
    unknown = set(weights.tensors) - set(parameters)
    if unknown:
        raise RuntimeError(f"a {weights.cell} has no tensors {listing(sorted(unknown))}")
    for name, parameter in parameters.items():
        value = weights.tensors.get(name)
        if value is None:
            if INITIAL_STATE.fullmatch(name):
                continue  # learn_initial_state asked for by the caller: starts as in a new layer
            if not name.startswith("b"):
                raise RuntimeError(f"{name} of a {weights.cell} was not read")
            value = np.zeros(parameter.shape)
        check_shape(name, value, parameter.shape)
        parameter[...] = value
    return layer


def check_shape(name: str, value: Array, expected: tuple[int, ...]) -> None:
    if value.shape != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {value.shape}")


def check_regularisers(given: Mapping[str, Any]) -> None:
    """Only names that Recurrent has and that weights do not decide; their values are the constructor's to check."""
    for name in given:
        if name not in REGULARISERS:
            raise TypeError(f"unexpected argument {name!r}; beside the named ones there are {listing(REGULARISERS)}")


def as_floats(name: str, value: Array) -> Array:
    """`value` in a type that NumPy computes with; anything but floating-point numbers is an error."""
    kind = value.dtype.name
    if kind not in FLOATS:
        raise ValueError(f"{name}: expected floating-point weights, got {kind}")
    return value.astype(np.float32) if kind == "bfloat16" else value


def dtype_of(kinds: Mapping[str, str], dtype: str | None) -> str:
    """The element type asked for, else that of the weights (`kinds`: their types by name), if we compute in it."""
    for name, kind in kinds.items():
        if kind not in FLOATS:
            raise ValueError(f"{name}: expected floating-point weights, got {kind}")
    if dtype is not None:
        return dtype  # the constructor checks it
    found = sorted(set(kinds.values()))
    if len(found) != 1 or found[0] not in ("float32", "float64"):
        raise ValueError(
            f"dtype: the weights are {' and '.join(found)}; pass dtype='float32' or dtype='float64' to convert them"
        )
    return found[0]


def listing(names: Iterable[Any], limit: int = 8) -> str:
    """The first names, for error messages."""
    every = list(names)
    shown = ", ".join(repr(name) for name in every[:limit])
    return shown + (f" and {len(every) - limit} more" if len(every) > limit else "") if every else "none"


def suffixes(num_layers: int, bidirectional: bool) -> list[tuple[str, ...]]:
    """Suffixes of the tensors' names, layer by layer: [("l0", "l0_reverse"), …]."""
    return [(f"l{k}", f"l{k}_reverse") if bidirectional else (f"l{k}",) for k in range(num_layers)]


def blocks(value: Array, order: Iterable[str], names: str) -> Array:
    """Row blocks of `value`, which lie in the order of `names`, in another order; names left out are dropped.

    `value`: (len(names)·H, …).
    """
    parts = dict(zip(names, np.split(value, len(names)), strict=True))
    return np.concatenate([parts[name] for name in order])


def equations_of(layer: Recurrent) -> tuple[str, dict[str, Any]]:
    """Cell and options of a layer, each cell under one name: a peephole cell without peepholes is an lstm."""
    options = dict(layer.cell_options)
    if layer.cell == "peephole" and options.get("variant") == "NP":
        return "lstm", {**options, "variant": "vanilla"}
    return layer.cell, options


def refuse_unknown_options(
    partner: str, layer: Recurrent, allowed: Mapping[str, Mapping[str, Iterable[Any] | None]]
) -> None:
    """ValueError unless the partner has this cell with these options.

    allowed: cell → option → values that the partner has (None: any).
    """
    cell, options = equations_of(layer)
    if cell not in allowed:
        raise ValueError(f"{partner} has no layer for cell {layer.cell!r}; it has {', '.join(allowed)}")
    for name, value in options.items():
        values = allowed[cell].get(name, ())
        if values is not None and value not in values:
            raise ValueError(
                f"{partner} has no layer for cell {layer.cell!r} with {name}={value!r}"
                + (f"; it has {name} {listing(values)}" if values else "")
            )


def active_regularisers(layer: Recurrent) -> dict[str, Any]:
    """Regularisers of a layer that are not at their defaults."""
    found = {name: getattr(layer, name, 0.0) for name in REGULARISERS if name != "learn_initial_state"}
    active = {name: value for name, value in found.items() if value}
    if any(INITIAL_STATE.fullmatch(name) for name in layer.parameters):
        active["learn_initial_state"] = True
    return active
