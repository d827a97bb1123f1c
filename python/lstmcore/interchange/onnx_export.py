"""Writing a layer as ONNX's ops LSTM, GRU or RNN, one node a layer.

Shape letters: T time steps, N sequences, I input features, H hidden units, G gates, L layers, D directions.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .common import Array, active_regularisers, equations_of, refuse_unknown_options, suffixes
from .onnx_graph import import_onnx

if TYPE_CHECKING:
    from ..recurrent import Recurrent

_OPS = {"lstm": "LSTM", "peephole": "LSTM", "gru": "GRU", "elman": "RNN", "indrnn": "RNN"}
_GATES = {"LSTM": "iofg", "GRU": "zrn", "RNN": "a"}  # ONNX's order in our letters
_VARIANTS = ("vanilla", "NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG")
_OPTIONS: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "lstm": {"variant": _VARIANTS, "proj_size": (0,), "layer_norm": (False,)},
    "peephole": {"variant": _VARIANTS, "proj_size": (0,), "layer_norm": (False,)},
    "gru": {"reset_after": (True, False), "layer_norm": (False,)},
    "elman": {"nonlinearity": ("tanh", "relu"), "layer_norm": (False,)},
    "indrnn": {"nonlinearity": ("tanh", "relu"), "layer_norm": (False,)},
}
_OLDEST_OPSET = 14  # the first whose recurrent ops are those of today
# Pre-activation of a gate that a variant leaves out: 1 / (1 + exp(−100)) is 1 in float32 and float64.
_OPEN = 100.0
_LARGEST = 2**31 - 2**20  # protobuf's limit for one file, less room for the graph


def write(
    layer: Recurrent, path: str | os.PathLike[str] | None, *, lengths: bool, initial_state: bool, opset: int
) -> Any:
    """`Recurrent.to_onnx`; its docstring describes arguments and errors."""
    onnx = import_onnx("to_onnx")
    refuse_unknown_options("to_onnx: ONNX", layer, _OPTIONS)
    # Dropout of any kind does nothing in inference, but zoneout does.
    zoneout = {name: value for name, value in active_regularisers(layer).items() if name.startswith("zoneout")}
    if zoneout:
        described = ", ".join(f"{name}={value}" for name, value in zoneout.items())
        raise ValueError(f"to_onnx: ONNX's ops have no {described}, which acts in inference too")
    newest = onnx.defs.onnx_opset_version()
    if not isinstance(opset, int) or not _OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"opset: expected {_OLDEST_OPSET} … {newest}, got {opset!r}")
    size = sum(value.nbytes for value in layer.parameters.values())
    if size > _LARGEST:
        raise ValueError(f"to_onnx: the weights have {size} bytes, but an ONNX file ends at 2 GiB")
    model = _Writer(onnx, layer).model(lengths, initial_state, opset)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
    return model


class _Writer:
    """Collects nodes and initializers of one graph."""

    def __init__(self, onnx: Any, layer: Recurrent) -> None:
        self.onnx, self.layer = onnx, layer
        self.cell, self.options = equations_of(layer)
        self.op = _OPS[self.cell]
        self.D, self.H, self.L = 1 + layer.bidirectional, layer.hidden_size, layer.num_layers
        self.direction = "bidirectional" if self.D == 2 else "reverse" if layer.reverse else "forward"
        self.states = ("h", "c") if self.op == "LSTM" else ("h",)
        self.parameters = layer.parameters
        self.element = onnx.helper.np_dtype_to_tensor_dtype(layer.dtype)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def model(self, lengths: bool, initial_state: bool, opset: int) -> Any:
        """x (N, T, I) [, lengths (N,)] [, h_0, c_0 (L·D, N, H)] → y (N, T, D·H), h_n, c_n (L·D, N, H)."""
        helper, D, H, L = self.onnx.helper, self.D, self.H, self.L
        info = helper.make_tensor_value_info
        of_state = [L * D, "N", H]
        inputs = [info("x", self.element, ["N", "T", self.layer.input_size])]
        if lengths:
            inputs.append(info("lengths", self.onnx.TensorProto.INT32, ["N"]))
        if initial_state:
            inputs += [info(f"{state}_0", self.element, of_state) for state in self.states]
        outputs = [info("y", self.element, ["N", "T", D * H])]
        outputs += [info(f"{state}_n", self.element, of_state) for state in self.states]

        initial = self.initial_states(initial_state)
        width = self.constant("width", np.array([0, 0, D * H], np.int64))
        below = self.node("Transpose", ["x"], "x_time_major", perm=[1, 0, 2])
        for k, names in enumerate(suffixes(L, D == 2)):
            W, R, B, P = self.weights(names)
            arguments = [below, self.constant(f"W_l{k}", W), self.constant(f"R_l{k}", R), self.constant(f"B_l{k}", B)]
            arguments += ["lengths" if lengths else "", *(initial[state][k] for state in self.states)]
            if P is not None:
                arguments.append(self.constant(f"P_l{k}", P))
            while not arguments[-1]:
                arguments.pop()
            results = [f"Y_l{k}", *(f"Y_{state}_l{k}" for state in self.states)]
            self.nodes.append(
                helper.make_node(self.op, arguments, results, name=f"{self.op}_l{k}", **self.attributes())
            )
            if k < L - 1:  # (T, D, N, H) → (T, N, D·H)
                beside = self.node("Transpose", [f"Y_l{k}"], f"Y_beside_l{k}", perm=[0, 2, 1, 3])
                below = self.node("Reshape", [beside, width], f"x_l{k + 1}")
        beside = self.node("Transpose", [f"Y_l{L - 1}"], "y_beside", perm=[2, 0, 1, 3])
        self.node("Reshape", [beside, width], "y")
        for state in self.states:
            self.node("Concat", [f"Y_{state}_l{k}" for k in range(L)], f"{state}_n", axis=0)

        graph = helper.make_graph(self.nodes, "lstmcore", inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),  # a newer one would shut out older run times
            producer_name="lstmcore",
            producer_version=_core.__version__,
        )

    def initial_states(self, given: bool) -> dict[str, list[str]]:
        """For each state the names of the layers' initial values; "" for zeros."""
        D, L = self.D, self.L
        names = {state: [""] * L for state in self.states}
        if given:
            for state in self.states:
                names[state] = [f"{state}_0_l{k}" for k in range(L)]
                sizes = self.constant(f"{state}_0_sizes", np.full(L, D, np.int64))
                self.nodes.append(self.onnx.helper.make_node("Split", [f"{state}_0", sizes], names[state], axis=0))
        elif any(f"{state}0_l0" in self.parameters for state in self.states):
            # Learned: the same for every sequence, so N copies are made when N is known.
            shape = self.node("Shape", ["x"], "x_shape")
            first = self.constant("first", np.array([0], np.int64))
            N = self.node("Gather", [shape, first], "N")
            before = self.constant("directions", np.array([D], np.int64))
            after = self.constant("units", np.array([self.H], np.int64))
            target = self.node("Concat", [before, N, after], "state_shape", axis=0)
            for state in self.states:
                for k, parts in enumerate(suffixes(L, D == 2)):
                    value = np.stack([np.array(self.parameters[f"{state}0_{suffix}"]) for suffix in parts])
                    start = self.constant(f"{state}0_l{k}", value[:, None])
                    names[state][k] = self.node("Expand", [start, target], f"{state}_0_l{k}")
        return names

    def weights(self, names: tuple[str, ...]) -> tuple[Array, Array, Array, Array | None]:
        """W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H) and P (D, 3·H) or None, of one layer in ONNX's order."""
        H, order = self.H, _GATES[self.op]
        W, R, B, P = [], [], [], []
        for suffix in names:
            tensors = {
                kind: np.array(value)
                for name, value in self.parameters.items()
                for kind, _, end in [name.partition("_")]
                if end == suffix
            }
            if self.cell == "indrnn":
                tensors["R"] = np.diag(tensors["u"])
            rows = len(self.layer.gates) * H
            bias_h = tensors.get("bR", np.zeros(rows, self.layer.dtype))
            W.append(self.in_order(tensors["W"], order))
            R.append(self.in_order(tensors["R"], order))
            B.append(
                np.concatenate([self.in_order(tensors["b"], order, open_gates=True), self.in_order(bias_h, order)])
            )
            if "P" in tensors:
                present = [gate for gate in "ifo" if gate in self.layer.gates]
                parts = dict(zip(present, tensors["P"], strict=True))
                P.append(np.concatenate([parts.get(gate, np.zeros(H, self.layer.dtype)) for gate in "iof"]))
        return np.stack(W), np.stack(R), np.stack(B), np.stack(P) if P else None

    def in_order(self, value: Array, order: str, open_gates: bool = False) -> Array:
        """Row blocks in ONNX's order. A gate that the variant lacks gets zeros, so that it does not depend on x and h;
        its bias (open_gates) keeps it at 1. With input_forget=1 ONNX does not read the rows of f."""
        parts = dict(zip(self.layer.gates, np.split(value, len(self.layer.gates)), strict=True))
        coupled = self.options.get("variant") == "CIFG"
        absent = np.full_like(value[: self.H], _OPEN if open_gates and not coupled else 0.0)
        return np.concatenate([parts.get(gate, absent) for gate in order])

    def attributes(self) -> dict[str, Any]:
        """Attributes of every node."""
        found: dict[str, Any] = {"hidden_size": self.H, "direction": self.direction}
        variant = self.options.get("variant", "vanilla")
        if self.op == "RNN":
            default = "relu" if self.cell == "indrnn" else "tanh"
            found["activations"] = [str(self.options.get("nonlinearity", default)).capitalize()] * self.D
        if self.op == "GRU":
            found["linear_before_reset"] = int(self.options.get("reset_after", True))
        if variant == "CIFG":
            found["input_forget"] = 1
        if variant in ("NIAF", "NOAF"):
            functions = ["Sigmoid", "Affine", "Tanh"] if variant == "NIAF" else ["Sigmoid", "Tanh", "Affine"]
            found["activations"] = functions * self.D
            found["activation_alpha"], found["activation_beta"] = [1.0] * self.D, [0.0] * self.D
        return found

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Array) -> str:
        if all(tensor.name != name for tensor in self.initializers):
            self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
