"""ONNX Runtime on one row, float32 and dynamically quantised int8. Inference only.

The model is the recurrent operator itself (LSTM or RNN), time major as ONNX Runtime wants it, without any wrapper.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from problem import Array, Outcome, Problem

NAME = "onnxruntime"
INT8 = "onnxruntime int8"

# Gate blocks of our rows (and PyTorch's) in the order of the ONNX operators: LSTM has i, o, f, c.
_ORDER = {"lstm": (0, 3, 1, 2), "elman": (0,), "gru": (1, 0, 2)}


def version() -> str:
    return str(onnxruntime.__version__)


class Peer:
    """Ragged rows pass sequence_lens; rows of one step pass the state and get it back."""

    def __init__(self, problem: Problem, n_threads: int) -> None:
        self.problem = problem
        model = build_model(problem)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # Spinning while it works is its default and stays; between calls it stops, or it would slow the other peers.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.sessions = {NAME: _session(model.SerializeToString(), options)}
        if problem.row.cell == "lstm":  # the only recurrent operator that it quantises
            self.sessions[INT8] = _session(_quantized(model), options)
        self.feed: dict[str, Array] = {"x": np.ascontiguousarray(problem.x.transpose(1, 0, 2))}
        if problem.lengths is not None:
            self.feed["lengths"] = problem.lengths.astype(np.int32)
        if problem.row.kind == "step":
            self.feed |= {f"initial_{name}": value for name, value in problem.state.items()}

    def inference(self) -> dict[str, Callable[[], Any]]:
        return {name: self._runner(session) for name, session in self.sessions.items()}

    def training(self) -> dict[str, Callable[[], Any]]:
        return {}

    def _runner(self, session: Any) -> Callable[[], Any]:
        feed, outputs = self.feed, [output.name for output in session.get_outputs()]
        return lambda: session.run(outputs, feed)

    def outcome(self, mode: str, result: Any) -> Outcome:
        del mode
        y = result[0].transpose(2, 0, 1, 3)  # (T, D, N, H) to (N, T, D, H)
        y = y.reshape(y.shape[0], y.shape[1], -1)
        return Outcome(y=y[:, 0] if self.problem.row.kind == "step" else y)


def build_model(problem: Problem) -> onnx.ModelProto:
    """The row's network with its module's weights; inputs x (T, N, I), and lengths or initial state where needed."""
    row = problem.row
    directions = 2 if row.bidirectional else 1
    weights = {name: value.detach().numpy() for name, value in problem.module.named_parameters()}
    operator = {"lstm": "LSTM", "elman": "RNN", "gru": "GRU"}[row.cell]
    extra = {"linear_before_reset": 1} if row.cell == "gru" else {}
    tensors, nodes = [], []
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", row.I])]
    lengths = ""
    if row.kind == "ragged":
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"]))
        lengths = "lengths"
    initial: list[str] = []
    if row.kind == "step":
        for name in problem.state:
            inputs.append(helper.make_tensor_value_info(f"initial_{name}", TensorProto.FLOAT, [directions, "N", row.H]))
            initial.append(f"initial_{name}")
    current = "x"
    for layer in range(row.num_layers):
        suffixes = [f"_l{layer}", f"_l{layer}_reverse"][:directions]
        for kind, keys in (("W", ["weight_ih"]), ("R", ["weight_hh"]), ("B", ["bias_ih", "bias_hh"])):
            stacked = [np.concatenate([_reorder(weights[key + s], row.cell) for key in keys]) for s in suffixes]
            tensors.append(numpy_helper.from_array(np.stack(stacked), f"{kind}{layer}"))
        last = layer == row.num_layers - 1
        states = [f"final_{name}" for name in problem.state] if initial else []
        nodes.append(
            helper.make_node(
                operator,
                [current, f"W{layer}", f"R{layer}", f"B{layer}", lengths, *initial],
                ["y" if last else f"y{layer}", *states],
                hidden_size=row.H,
                direction="bidirectional" if row.bidirectional else "forward",
                **extra,
            )
        )
        if not last:  # (T, D, N, H) to (T, N, D*H), the input of the next layer
            nodes.append(helper.make_node("Transpose", [f"y{layer}"], [f"t{layer}"], perm=[0, 2, 1, 3]))
            tensors.append(numpy_helper.from_array(np.array([0, 0, -1], dtype=np.int64), f"shape{layer}"))
            nodes.append(helper.make_node("Reshape", [f"t{layer}", f"shape{layer}"], [f"x{layer + 1}"]))
            current = f"x{layer + 1}"
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", directions, "N", row.H])]
    for name in problem.state if initial else ():
        outputs.append(helper.make_tensor_value_info(f"final_{name}", TensorProto.FLOAT, [directions, "N", row.H]))
    graph = helper.make_graph(nodes, "row", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _reorder(weight: Array, cell: str) -> Array:
    blocks = np.split(weight, len(_ORDER[cell]))
    return np.concatenate([blocks[k] for k in _ORDER[cell]])


def _quantized(model: onnx.ModelProto) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it advises pre-processing that a single operator does not need
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        # Seven bits (reduce_range): with eight, its kernel for CPUs without VNNI saturates, and the outputs are off by
        # half their range. The time is the same.
        quantize_dynamic(source, target, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8, reduce_range=True)
        return target.read_bytes()


def _session(model: bytes, options: Any) -> Any:
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
