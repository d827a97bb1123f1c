"""ONNX's ops LSTM, GRU and RNN: reading one node, or a chain of them as one stack.

Shape letters: T time steps, N sequences, I input features, H hidden units, G gates, L layers, D directions.

ONNX orders rows i, o, f, c (LSTM), i, o, f (peepholes) and z, r, h (GRU), and adds two biases, which lie one after the
other in B (D, 2·G·H). See the operators' specification in the ONNX documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .common import Array, LayerT, Weights, as_floats, blocks, build, check_regularisers, check_shape, dtype_of, listing
from .onnx_graph import Graph, NotConstant, import_onnx

_GATES = {"LSTM": "iofg", "GRU": "zrn", "RNN": "a"}  # ONNX's order in our letters
_FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}  # activation functions of a direction
_DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
# output_sequence: of opset 1, says which outputs are wanted.
_COMMON = {"activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size", "layout"}
_ATTRIBUTES = {
    "LSTM": _COMMON | {"input_forget", "output_sequence"},
    "GRU": _COMMON | {"linear_before_reset", "output_sequence"},
    "RNN": _COMMON | {"output_sequence"},
}
_TAKES_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
_NO_CLIP = float(np.finfo(np.float32).max)
_PROBE = (2, 3)  # T and N where any do
_PROBE_ELEMENTS = 2**26


@dataclass
class _Node:
    """One node of the graph."""

    label: str  # for messages
    op: str
    hidden: int
    directions: int
    layout: int
    options: dict[str, Any]
    inputs: dict[str, str]  # ONNX's name of the input → tensor
    reverse: bool
    arrays: dict[str, Array] = field(default_factory=dict)  # W, R and, where given, B, P, initial_h, initial_c
    kinds: dict[str, str] = field(default_factory=dict)


def read(
    cls: type[LayerT],
    model: Any,
    node: str | Sequence[str] | None,
    weights: Mapping[str, Any] | None,
    *,
    dropout: float,
    dtype: str | None,
    seed: int,
    n_threads: int | None,
    regularisers: Mapping[str, Any],
) -> LayerT:
    """`Recurrent.from_onnx`; its docstring describes arguments and errors."""
    check_regularisers(regularisers)
    onnx = import_onnx("from_onnx")
    graph = Graph(onnx, model, {} if weights is None else weights)
    chosen = _chain(graph, _select(graph, node))
    nodes = [_parse(graph, proto) for proto in chosen]
    _check_lengths(graph, nodes)
    found = weights_of(nodes)
    for proto, below, above in zip(chosen, nodes, nodes[1:], strict=False):
        _check_link(graph, proto.output[0], below, above)
    regularisers = dict(regularisers)
    if any("0_l" in name for name in found.tensors):
        regularisers["learn_initial_state"] = True
    dtype = dtype_of({name: kind for parsed in nodes for name, kind in parsed.kinds.items()}, dtype)
    return build(cls, found, dtype=dtype, dropout=dropout, seed=seed, n_threads=n_threads, regularisers=regularisers)


# --- which nodes ------------------------------------------------------------------------------------------------------


def _select(graph: Graph, node: str | Sequence[str] | None) -> list[Any]:
    """The nodes asked for, by name or by an output; all that the graph has without."""
    nodes = graph.recurrent
    if not nodes:
        ops = sorted({item.op_type for item in graph.model.graph.node})
        raise ValueError(
            f"model: no node LSTM, GRU or RNN in its graph (functions and the bodies of Loop, If and Scan are not "
            f"searched); its ops are {listing(ops)}"
        )
    if node is None:
        return nodes
    chosen = []
    for name in [node] if isinstance(node, str) else node:
        matching = [item for item in nodes if name and (item.name == name or name in item.output)]
        if len(matching) != 1:
            known = [_name(item) for item in nodes]
            raise ValueError(
                f"node: {len(matching)} nodes LSTM, GRU or RNN have the name or an output {name!r}; "
                f"there are {listing(known)}"
            )
        if matching[0] not in chosen:
            chosen += matching
    if not chosen:
        raise ValueError("node: the list is empty")
    return chosen


def _name(node: Any) -> str:
    """A node's name; names are optional, so else that of an output."""
    return next((name for name in (node.name, *node.output) if name), "?")


def _chain(graph: Graph, nodes: list[Any]) -> list[Any]:
    """The nodes from bottom to top, each reading output Y of the one below."""
    if len(nodes) == 1:
        return nodes
    above: dict[int, int] = {}  # index of a node → index of the one that reads it
    bottoms = []
    for k, node in enumerate(nodes):
        found = graph.source(node.input[0]) if node.input else ""
        below = [j for j, other in enumerate(nodes) if found and list(other.output[:1]) == [found]]
        if below and below[0] not in above:
            above[below[0]] = k
        else:
            bottoms.append(k)
    order = bottoms[:1]
    while order and order[-1] in above:
        order.append(above[order[-1]])
    if len(order) != len(nodes):
        labels = [_name(node) for node in nodes]
        raise ValueError(
            f"model: nodes {listing(labels)} are not one chain, in which each reads output Y of the one before with "
            "nothing but Transpose, Reshape, Squeeze, Unsqueeze or Identity between them; choose with node="
        )
    return [nodes[k] for k in order]


def _check_link(graph: Graph, output: str, lower: _Node, upper: _Node) -> None:
    """What lies between two nodes must hand on the lower one's Y as (T, N, D·H), directions side by side.

    Tried out on numbers. output: the tensor Y of the lower node.
    """
    sizes = [_PROBE]
    for attempt in range(2):
        if attempt:
            # Shapes written into the model as numbers fit only the sizes that it was made for.
            static = graph.static_shape(output)
            if static is None or len(static) != 4:
                break
            sizes.append((static[1], static[0]) if lower.layout else (static[0], static[2]))
        T, N = sizes[-1]
        if T * N * lower.directions * lower.hidden > _PROBE_ELEMENTS:
            break
        shape = (T, lower.directions, N, lower.hidden)
        y = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        expected = y.transpose(0, 2, 1, 3).reshape(T, N, lower.directions * lower.hidden)
        try:
            given = graph.probe(upper.inputs["X"], {output: y.transpose(2, 0, 1, 3) if lower.layout else y})
        except (NotConstant, ValueError):
            continue
        if np.array_equal(given, expected.transpose(1, 0, 2) if upper.layout else expected):
            return
    raise ValueError(
        f"model: what lies between {lower.label} and {upper.label} does not hand on Y as (time, batch, "
        f"{lower.directions * lower.hidden}); read the layers one by one with node="
    )


def _check_lengths(graph: Graph, nodes: Sequence[_Node]) -> None:
    """sequence_lens has to come at run time, or be T for every sequence, which says nothing."""
    x = graph.shaped(nodes[0].inputs["X"])
    for node in nodes:
        lengths = graph.shaped_constant(node.inputs["sequence_lens"]) if "sequence_lens" in node.inputs else None
        if lengths is not None and (x is None or x.ndim != 3 or (lengths != x.shape[node.layout]).any()):
            raise ValueError(
                f"{node.label}: sequence_lens is a constant, which a layer cannot keep; remove it and pass lengths= "
                "to forward()"
            )


# --- one node ---------------------------------------------------------------------------------------------------------


def _parse(graph: Graph, proto: Any) -> _Node:
    """Attributes and weights of a node, checked."""
    op = proto.op_type
    label = f"{op} node {_name(proto)!r}"
    attributes = {item.name: graph.onnx.helper.get_attribute_value(item) for item in proto.attribute}
    for name in attributes:
        if name not in _ATTRIBUTES[op]:
            raise ValueError(f"{label}: attribute {name!r} is not one of {op}'s: {listing(sorted(_ATTRIBUTES[op]))}")
    direction = _text(attributes.get("direction", "forward"))
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"{label}: direction should be 'forward', 'reverse' or 'bidirectional', got {direction!r}")
    if attributes.get("clip", _NO_CLIP) < _NO_CLIP:
        raise ValueError(f"{label}: clip={attributes['clip']:g} is not supported; leave it out")
    layout = attributes.get("layout", 0)
    if layout not in (0, 1):
        raise ValueError(f"{label}: layout should be 0 or 1, got {layout}")
    directions = 2 if direction == "bidirectional" else 1
    known = _INPUTS if op == "LSTM" else _INPUTS[:6]
    if len(proto.input) > len(known):
        raise ValueError(f"{label}: {op} takes at most {len(known)} inputs, got {len(proto.input)}")
    inputs = {key: name for key, name in zip(known, proto.input, strict=False) if name}
    for key in ("X", "W", "R"):
        if key not in inputs:
            raise ValueError(f"{label}: input {key} is missing")
    node = _Node(
        label, op, 0, directions, layout, _options(op, attributes, directions, label), inputs, direction == "reverse"
    )
    for key in ("W", "R", "B", "P"):
        if key in inputs:
            try:
                value = graph.constant(inputs[key])
            except NotConstant as error:
                raise ValueError(
                    f"{label}: {key} is not a constant but comes from {error}; "
                    + (
                        f"pass weights={{{inputs[key]!r}: array}}"
                        if inputs[key] in graph.inputs
                        else "fold it into an initializer first"
                    )
                ) from None
            node.kinds[f"{label}: {key}"] = value.dtype.name
            node.arrays[key] = as_floats(f"{label}: {key}", value)
    _check_shapes(node, attributes.get("hidden_size"))
    for key in ("initial_h", "initial_c"):
        # Given when the model runs: the caller passes it as state=. Constant: belongs to the layer.
        start = graph.shaped_constant(inputs[key]) if key in inputs else None
        if start is not None and start.any():
            node.arrays[key] = _initial(node, key, start)
    return node


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _options(op: str, attributes: Mapping[str, Any], directions: int, label: str) -> dict[str, Any]:
    """Options of our cell; ValueError for functions that no cell has."""
    each = _FUNCTIONS[op]
    names = [_text(name) for name in attributes.get("activations", _DEFAULTS[op] * directions)]
    lowered = [name.lower() for name in names]
    if len(names) != each * directions:
        raise ValueError(f"{label}: expected {each * directions} activations, got {len(names)}: {listing(names)}")
    # An affine function is the identity, which the variants NIAF and NOAF have, where alpha is 1 and beta 0.
    takers = [name for name in lowered if name in _TAKES_ALPHA]
    alphas, betas = list(attributes.get("activation_alpha", [])), list(attributes.get("activation_beta", []))
    plain = set(takers) == {"affine"} and alphas == [1.0] * len(takers) and betas in ([], [0.0] * len(takers))
    lowered = ["identity" if name == "affine" and plain else name for name in lowered]
    if lowered[:each] != lowered[each:] and directions == 2:
        raise ValueError(f"{label}: activations differ between the directions: {listing(names)}")
    functions = tuple(lowered[:each])
    options: dict[str, Any] = {}
    if op == "RNN" and functions[0] in ("tanh", "relu"):
        options["nonlinearity"] = functions[0]
    elif op == "GRU" and functions == _DEFAULTS[op]:
        options["reset_after"] = bool(attributes.get("linear_before_reset", 0))
    elif op == "LSTM" and functions in _VARIANTS:
        variant = _VARIANTS[functions]
        if attributes.get("input_forget", 0):
            if variant != "vanilla":
                raise ValueError(f"{label}: input_forget=1 together with activations {listing(names)} is not supported")
            variant = "CIFG"
        if variant != "vanilla":
            options["variant"] = variant
    else:
        described = listing(names) + (f" with alpha {alphas} and beta {betas}" if takers else "")
        raise ValueError(f"{label}: activations {described} are not supported; expected {_EXPECTED[op]}")
    return options


_VARIANTS = {
    ("sigmoid", "tanh", "tanh"): "vanilla",
    ("sigmoid", "identity", "tanh"): "NIAF",
    ("sigmoid", "tanh", "identity"): "NOAF",
}
_EXPECTED = {
    "LSTM": "Sigmoid, Tanh, Tanh, of which one Tanh may be Affine with alpha 1 and beta 0",
    "GRU": "Sigmoid, Tanh",
    "RNN": "Tanh or Relu",
}


def _check_shapes(node: _Node, hidden_size: int | None) -> None:
    """W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H), P (D, 3·H); sets H."""
    W, R, D, G = node.arrays["W"], node.arrays["R"], node.directions, len(_GATES[node.op])
    for key, value in (("W", W), ("R", R)):
        if value.ndim != 3 or 0 in value.shape:
            raise ValueError(f"{node.label}: {key} should be (directions, {G}·H, columns), got shape {value.shape}")
    H = node.hidden = R.shape[2]
    if hidden_size is not None and hidden_size != H:
        raise ValueError(f"{node.label}: hidden_size={hidden_size}, but R has shape {R.shape}")
    check_shape(f"{node.label}: R", R, (D, G * H, H))
    check_shape(f"{node.label}: W", W, (D, G * H, W.shape[2]))
    for key, width in (("B", 2 * G * H), ("P", 3 * H)):
        if key in node.arrays:
            check_shape(f"{node.label}: {key}", node.arrays[key], (D, width))


def _initial(node: _Node, key: str, value: Array) -> Array:
    """A constant initial state as (D, H); it has to be the same for every sequence."""
    if node.layout and value.ndim == 3:
        value = value.transpose(1, 0, 2)
    if value.ndim != 3 or value.shape[0] != node.directions or value.shape[2] != node.hidden:
        raise ValueError(f"{node.label}: {key} should be ({node.directions}, N, {node.hidden}), got {value.shape}")
    if (value != value[:, :1]).any():
        raise ValueError(
            f"{node.label}: {key} is a constant that differs between sequences; remove it and pass state= to forward()"
        )
    return as_floats(f"{node.label}: {key}", value[:, 0])


# --- the stack --------------------------------------------------------------------------------------------------------


def weights_of(nodes: Sequence[_Node]) -> Weights:
    """Nodes from bottom to top as one layer of ours."""
    first = nodes[0]
    for node in nodes[1:]:
        for what in ("op", "hidden", "directions", "reverse", "options"):
            theirs, ours = getattr(node, what), getattr(first, what)
            if theirs != ours:
                raise ValueError(
                    f"{node.label}: a stack needs the same {what} in every layer, got {theirs!r} after {ours!r}; "
                    "read the layers one by one with node="
                )
        if node.arrays["W"].shape[2] != first.directions * first.hidden:
            raise ValueError(
                f"{node.label}: W reads {node.arrays['W'].shape[2]} features, but the layer below has "
                f"{first.directions * first.hidden}"
            )
    peepholes = any("P" in node.arrays for node in nodes)
    cell = {"LSTM": "peephole" if peepholes else "lstm", "GRU": "gru", "RNN": "elman"}[first.op]
    gates = {"lstm": "ifgo", "peephole": "ifgo", "gru": "rzn", "elman": "a"}[cell]
    if first.options.get("variant") == "CIFG":
        gates = "igo"
    H, theirs = first.hidden, _GATES[first.op]
    found = Weights(
        cell,
        input_size=first.arrays["W"].shape[2],
        hidden_size=H,
        num_layers=len(nodes),
        bidirectional=first.directions == 2,
        reverse=first.reverse,
        options=dict(first.options),
    )
    initial = {key for node in nodes for key in ("initial_h", "initial_c") if key in node.arrays}
    for k, node in enumerate(nodes):
        for d in range(node.directions):
            suffix = f"l{k}" + "_reverse" * d
            tensors = found.tensors
            tensors[f"W_{suffix}"] = blocks(node.arrays["W"][d], gates, theirs)
            tensors[f"R_{suffix}"] = blocks(node.arrays["R"][d], gates, theirs)
            if "B" in node.arrays:
                of_x, of_h = (blocks(half, gates, theirs) for half in np.split(node.arrays["B"][d], 2))
                if found.options.get("reset_after"):
                    tensors[f"b_{suffix}"], tensors[f"bR_{suffix}"] = of_x, of_h
                else:
                    tensors[f"b_{suffix}"] = of_x.astype(np.float64) + of_h
            if peepholes:
                P = node.arrays.get("P", np.zeros((node.directions, 3 * H)))[d]
                rows = blocks(P, [gate for gate in "ifo" if gate in gates], "iof")
                tensors[f"P_{suffix}"] = rows.reshape(-1, H)
            for key in initial:
                tensors[f"{key[-1]}0_{suffix}"] = node.arrays.get(key, np.zeros((node.directions, H)))[d]
    if initial and first.op == "LSTM":
        for suffix in [name[2:] for name in found.tensors if name.startswith("W_")]:
            for state in "hc":
                found.tensors.setdefault(f"{state}0_{suffix}", np.zeros(H))
    return found
