"""`Recurrent.from_onnx`: the node tests of the onnx package, models of PyTorch's exporters, and what is refused."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from checking import assert_all_bitwise, assert_bitwise, assert_close

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

# --- the onnx package's own tests -------------------------------------------------------------------------------------

# Case → why it is refused.
REFUSED: dict[str, str] = {}


def backend_cases() -> list[Any]:
    """Cases whose only node is LSTM, GRU or RNN. Their modules alone are imported: all others take seconds."""
    node = importlib.import_module("onnx.backend.test.case.node")
    for name in ("lstm", "gru", "rnn"):
        importlib.import_module(f"onnx.backend.test.case.node.{name}")
    return [case for case in node._NodeTestCases if case.model.graph.node[0].op_type in GATES]


CASES = backend_cases()


def run_node(model: Any, arguments: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a model of one node all of whose inputs are inputs of the graph."""
    (node,) = model.graph.node
    given = dict(zip([value.name for value in model.graph.input], arguments, strict=True))
    inputs = {key: given[name] for key, name in zip(INPUTS, node.input, strict=False) if name}
    constants = {
        name: given[name] for key, name in zip(INPUTS, node.input, strict=False) if name and key in ("W", "R", "B", "P")
    }
    layer = lstmcore.Recurrent.from_onnx(model, weights=constants)
    batch_first = any(item.name == "layout" and item.i for item in node.attribute)

    def turned(value: np.ndarray) -> np.ndarray:
        return value if batch_first else value.swapaxes(0, 1)

    state = None
    if "initial_h" in inputs:
        state = {name[-1]: np.zeros(inputs[name].shape) + inputs[name] for name in INPUTS[5:7] if name in inputs}
    y, final = layer.forward(turned(inputs["X"]), state=state, lengths=inputs.get("sequence_lens"))
    N, T, _ = y.shape
    y = y.reshape(N, T, 1 + layer.bidirectional, layer.hidden_size)
    results = {"Y": y if batch_first else y.transpose(1, 2, 0, 3)}
    results |= {f"Y_{name}": value.swapaxes(0, 1) if batch_first else value for name, value in final.items()}
    return [results[name] for name in node.output if name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node_cases_of_onnx(case: Any) -> None:
    for inputs, expected in case.data_sets:
        if case.name in REFUSED:
            with pytest.raises(ValueError, match=REFUSED[case.name]):
                run_node(case.model, inputs)
            continue
        results = run_node(case.model, inputs)
        assert len(results) == len(expected)
        for result, wanted in zip(results, expected, strict=True):
            assert result.shape == wanted.shape
            np.testing.assert_allclose(result, wanted, rtol=case.rtol, atol=case.atol)


def test_node_cases_were_found() -> None:
    assert len(CASES) >= 18
    assert set(REFUSED) <= {case.name for case in CASES}


# --- models of PyTorch ------------------------------------------------------------------------------------------------


def exported(module: Any, x: Any, path: Path, new: bool) -> Any:
    """The model that PyTorch's exporter (old: TorchScript; new: torch.export) writes."""
    torch = pytest.importorskip("torch")
    if new:
        pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters: about themselves, and free batch sizes
        if new:
            torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
        else:
            torch.onnx.export(module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N", 1: "T"}})


MODULES = [
    (name, layers, bidirectional, batch_first, False)
    for name in ("LSTM", "GRU", "RNN")
    for layers, bidirectional in ((1, False), (1, True), (3, False), (3, True))
    for batch_first in (False, True)
]
# The new exporter takes seconds for each, and writes an nn.RNN as matrix products.
MODULES += [("LSTM", 2, True, True, True), ("GRU", 2, False, False, True)]


@pytest.mark.parametrize(("name", "layers", "bidirectional", "batch_first", "new"), MODULES, ids=str)
def test_models_of_torch(
    name: str, layers: int, bidirectional: bool, batch_first: bool, new: bool, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, name)(3, 4, layers, bidirectional=bidirectional, batch_first=batch_first).eval()
    x = torch.randn(2, 5, 3)
    exported(module, x, path := tmp_path / "model.onnx", new)
    layer = lstmcore.Recurrent.from_onnx(path)
    expected = module(x)[0].detach().numpy()
    y = layer.forward(x.numpy() if batch_first else x.numpy().swapaxes(0, 1))[0]
    assert_close(y if batch_first else y.swapaxes(0, 1), expected, 2e-6, "y")
    again = lstmcore.Recurrent.from_torch(module)
    assert_all_bitwise(layer.parameters, again.parameters, "parameters")


def test_a_layer_inside_a_larger_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below = torch.nn.Linear(3, 5)
            self.rnn = torch.nn.LSTM(5, 4, 2, batch_first=True)
            self.other = torch.nn.GRU(4, 6, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.other(torch.relu(self.rnn(self.below(x))[0]))[0]

    net = Net().eval()
    exported(net, torch.randn(2, 5, 3), path := tmp_path / "model.onnx", new=False)
    with pytest.raises(ValueError, match=r"are not one chain.*node="):
        lstmcore.Recurrent.from_onnx(path)
    names = [node.name for node in onnx.load(path).graph.node if node.op_type == "LSTM"]
    layer = lstmcore.Recurrent.from_onnx(path, node=names)
    assert_all_bitwise(layer.parameters, lstmcore.Recurrent.from_torch(net.rnn).parameters, "parameters")
    (name,) = [node.output[0] for node in onnx.load(path).graph.node if node.op_type == "GRU"]
    layer = lstmcore.Recurrent.from_onnx(path, node=name)
    assert_all_bitwise(layer.parameters, lstmcore.Recurrent.from_torch(net.other).parameters, "parameters")


# --- models written here ----------------------------------------------------------------------------------------------


def arrays(op: str = "LSTM", D: int = 1, I: int = 3, H: int = 4, seed: int = 0, **more: np.ndarray) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    G = GATES[op]
    shapes = {"W": (D, G * H, I), "R": (D, G * H, H), "B": (D, 2 * G * H)}
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()} | more


def node(op: str = "LSTM", tensors: dict[str, Any] | None = None, prefix: str = "", x: str = "x", **attributes: Any):
    """A node and its initializers; sequence_lens, if among `tensors` as None, is a graph input."""
    tensors = arrays(op) if tensors is None else tensors
    names = [x if key == "X" else prefix + key if key in tensors else "" for key in INPUTS]
    while not names[-1]:
        names.pop()
    H = tensors["R"].shape[-1]
    attributes = {"hidden_size": H, **attributes}
    made = helper.make_node(op, names, [f"{prefix}Y", f"{prefix}Y_h"], name=f"{prefix}{op}", **attributes)
    return made, [numpy_helper.from_array(value, prefix + key) for key, value in tensors.items() if value is not None]


def model(nodes: list[Any], initializers: list[Any], inputs: tuple[Any, ...] = ()) -> Any:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", "I"])
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "test", [x, *inputs], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])


def single(op: str = "LSTM", tensors: dict[str, Any] | None = None, **attributes: Any) -> Any:
    made, initializers = node(op, tensors, **attributes)
    return model([made], initializers)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-a))


def test_peepholes_coupled_gates_and_gate_order() -> None:
    """Against the equations of ONNX's documentation, written out; ONNX says nothing of f with input_forget=1, and
    onnxruntime takes 1 − i (see test_onnx_export)."""
    rng = np.random.default_rng(3)
    H, x = 4, rng.standard_normal((1, 6, 3)).astype(np.float32)
    P = rng.standard_normal((1, 3 * H)).astype(np.float32)
    for coupled in (0, 1):
        for peepholes in (False, True):
            tensors = arrays(**({"P": P} if peepholes else {}))
            layer = lstmcore.Recurrent.from_onnx(single(tensors=tensors, input_forget=coupled))
            W, R = tensors["W"][0], tensors["R"][0]
            b = tensors["B"][0, : 4 * H] + tensors["B"][0, 4 * H :]
            p_i, p_o, p_f = np.split(P[0], 3) if peepholes else np.zeros((3, H))
            h = c = np.zeros(H)
            for t in range(x.shape[1]):
                a_i, a_o, a_f, a_c = np.split(W @ x[0, t] + R @ h + b, 4)
                i = sigmoid(a_i + p_i * c)
                f = 1 - i if coupled else sigmoid(a_f + p_f * c)
                c = f * c + i * np.tanh(a_c)
                h = sigmoid(a_o + p_o * c) * np.tanh(c)
            _, state = layer.forward(x)
            assert_close(state["h"][0, 0], h, 2e-5, "h")
            assert_close(state["c"][0, 0], c, 2e-5, "c")
            assert layer.cell == ("peephole" if peepholes else "lstm")
            assert layer.cell_options.get("variant", "vanilla") == ("CIFG" if coupled else "vanilla")


def test_activations_by_name_in_any_case() -> None:
    for names, alpha, variant in (
        (["sigmoid", "TANH", "Tanh"], [], "vanilla"),
        (["Sigmoid", "Affine", "Tanh"], [1.0], "NIAF"),
        (["Sigmoid", "Tanh", "affine"], [1.0], "NOAF"),
    ):
        layer = lstmcore.Recurrent.from_onnx(
            single(activations=names, **({"activation_alpha": alpha} if alpha else {}), clip=np.inf)
        )
        assert layer.cell_options.get("variant", "vanilla") == variant
    layer = lstmcore.Recurrent.from_onnx(single("RNN", activations=["relu"]))
    assert (layer.cell, layer.cell_options["nonlinearity"]) == ("elman", "relu")
    for reset_after in (False, True):
        layer = lstmcore.Recurrent.from_onnx(single("GRU", linear_before_reset=int(reset_after)))
        assert layer.cell_options["reset_after"] == reset_after
        assert ("bR_l0" in layer.parameters) == reset_after


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "activations 'HardSigmoid'"),
        ("LSTM", {"activations": ["Sigmoid", "Affine", "Tanh"]}, "activations .*'Affine'"),
        ("LSTM", {"activations": ["Sigmoid", "Affine", "Tanh"], "activation_alpha": [2.0]}, r"alpha \[2"),
        ("LSTM", {"activations": ["Sigmoid", "Affine", "Affine"], "activation_alpha": [1.0, 1.0]}, "'Affine', 'Aff"),
        (
            "LSTM",
            {"activations": ["Sigmoid", "Affine", "Tanh"], "activation_alpha": [1.0], "input_forget": 1},
            "input_forget=1",
        ),
        ("LSTM", {"activations": ["Sigmoid"]}, "expected 3 activations, got 1"),
        ("GRU", {"activations": ["Sigmoid", "Relu"]}, "activations 'Sigmoid', 'Relu'"),
        ("RNN", {"activations": ["Sigmoid"]}, "activations 'Sigmoid'.*expected Tanh or Relu"),
        ("LSTM", {"clip": 3.0}, r"clip=3 is not supported"),
        ("GRU", {"direction": "sideways"}, "direction should be .* got 'sideways'"),
        ("LSTM", {"direction": "bidirectional"}, r"R: expected shape \(2, 16, 4\), got \(1, 16, 4\)"),
        ("LSTM", {"hidden_size": 5}, "hidden_size=5"),
        ("LSTM", {"layout": 2}, "layout should be 0 or 1"),
        ("LSTM", {"linear_before_reset": 1}, "attribute 'linear_before_reset'"),
        ("RNN", {"projection": 1}, "attribute 'projection'"),
    ],
    ids=str,
)
def test_attributes_that_are_refused(op: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"{op} node '{op}': .*{message}"):
        lstmcore.Recurrent.from_onnx(single(op, **attributes))


def test_a_stack_of_unlike_directions_or_sizes_is_refused() -> None:
    first, weights = node(prefix="a_")
    squeeze = helper.make_node("Squeeze", ["a_Y", "one"], ["x_b"])
    one = numpy_helper.from_array(np.array([1]), "one")

    def above(op: str, tensors: dict[str, Any], **attributes: Any) -> Any:
        second, more = node(op, tensors, prefix="b_", x="x_b", **attributes)
        return model([first, squeeze, second], [*weights, *more, one])

    assert lstmcore.Recurrent.from_onnx(above("LSTM", arrays(I=4))).num_layers == 2
    for op, tensors, message in (
        ("GRU", arrays("GRU", I=4), "same op in every layer, got 'GRU' after 'LSTM'"),
        ("LSTM", arrays(I=4, H=5), "same hidden in every layer, got 5 after 4"),
        ("LSTM", arrays(I=3), "W reads 3 features, but the layer below has 4"),
    ):
        with pytest.raises(ValueError, match=message):
            lstmcore.Recurrent.from_onnx(above(op, tensors))
    with pytest.raises(ValueError, match="same options"):
        lstmcore.Recurrent.from_onnx(above("LSTM", arrays(I=4), input_forget=1))
    for name, layer in (("a_LSTM", 0), ("b_Y", 1)):
        assert lstmcore.Recurrent.from_onnx(above("LSTM", arrays(I=4)), node=name).input_size == 3 + layer


@pytest.mark.parametrize("between", ["right", "mixed", "static", "other op", "relu", "Y_h", "transposed batch"])
def test_what_lies_between_two_layers(between: str) -> None:
    first, weights = node(tensors=arrays(D=2), prefix="a_", direction="bidirectional")
    perms = {"mixed": [0, 2, 3, 1], "transposed batch": [2, 0, 1, 3]}
    target = [5, 7, 8] if between == "static" else [0, 0, -1]
    nodes = [
        helper.make_node("Transpose", ["a_Y"], ["beside"], perm=perms.get(between, [0, 2, 1, 3])),
        helper.make_node("Reshape", ["beside", "target"], ["flat"]),
        helper.make_node({"other op": "Softmax", "relu": "Relu"}.get(between, "Identity"), ["flat"], ["x_b"]),
    ]
    if between == "Y_h":
        nodes[0] = helper.make_node("Identity", ["a_Y_h"], ["beside"])
    second, more = node(tensors=arrays(D=2, I=8, seed=1), prefix="b_", x="x_b", direction="bidirectional")
    target_tensor = numpy_helper.from_array(np.array(target), "target")
    made = model([first, *nodes, second], [*weights, *more, target_tensor])
    if between == "static":
        for extent, size in zip(made.graph.input[0].type.tensor_type.shape.dim, (5, 7, 3), strict=True):
            extent.dim_value = size
    if between in ("right", "static"):
        layer = lstmcore.Recurrent.from_onnx(made)
        assert (layer.num_layers, layer.bidirectional) == (2, True)
    else:
        with pytest.raises(ValueError, match=r"are not one chain|does not hand on Y as \(time, batch, 8\)"):
            lstmcore.Recurrent.from_onnx(made)


def test_weights_behind_ops_that_move_data() -> None:
    tensors = arrays()
    plain = lstmcore.Recurrent.from_onnx(single(tensors=tensors))
    W = tensors["W"]
    made, initializers = node(tensors=tensors)
    initializers = [item for item in initializers if item.name != "W"]
    wrapped = [
        helper.make_node("Constant", [], ["raw"], value=numpy_helper.from_array(W[0].T.astype(np.float64))),
        helper.make_node("Cast", ["raw"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["single"], ["turned"]),
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("Constant", [], ["eight"], value_ints=[8]),
        helper.make_node("Constant", [], ["end"], value_ints=[2**63 - 1]),
        helper.make_node("Slice", ["turned", "zero", "eight"], ["upper"]),
        helper.make_node("Slice", ["turned", "eight", "end", "zero"], ["lower"]),
        helper.make_node("Concat", ["upper", "lower"], ["whole"], axis=0),
        helper.make_node("Unsqueeze", ["whole", "zero"], ["W"]),
    ]
    layer = lstmcore.Recurrent.from_onnx(model([*wrapped, made], initializers))
    assert_all_bitwise(layer.parameters, plain.parameters, "parameters")


def test_initial_states_and_lengths() -> None:
    start = np.full((1, 2, 4), 0.5, np.float32)
    layer = lstmcore.Recurrent.from_onnx(single(tensors=arrays(initial_h=np.zeros_like(start))))
    assert "h0_l0" not in layer.parameters
    layer = lstmcore.Recurrent.from_onnx(single(tensors=arrays(initial_c=start)))
    assert_bitwise(layer.parameters["c0_l0"], start[0, 0], "c0")
    assert not layer.parameters["h0_l0"].any()
    start[0, 1] = 0.25
    with pytest.raises(ValueError, match="initial_h is a constant that differs between sequences"):
        lstmcore.Recurrent.from_onnx(single(tensors=arrays(initial_h=start)))
    with pytest.raises(ValueError, match=r"initial_h should be \(1, N, 4\), got \(2, 4\)"):
        lstmcore.Recurrent.from_onnx(single(tensors=arrays(initial_h=start[0])))
    with pytest.raises(ValueError, match=r"sequence_lens is a constant.*lengths="):
        lstmcore.Recurrent.from_onnx(single(tensors=arrays(sequence_lens=np.array([2, 3], np.int32))))
    # At run time: an input, also behind a Cast; and T for every sequence, written with Shape and Expand.
    made, initializers = node(tensors=arrays(sequence_lens=None))
    lengths = helper.make_tensor_value_info("lengths", TensorProto.INT64, ["N"])
    cast = helper.make_node("Cast", ["lengths"], ["sequence_lens"], to=TensorProto.INT32)
    assert lstmcore.Recurrent.from_onnx(model([cast, made], initializers, (lengths,))).cell == "lstm"
    for axis in (0, 1):
        nodes = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "axis"], ["extent"]),
            helper.make_node("Gather", ["shape", "one"], ["N"]),
            helper.make_node("Expand", ["extent", "N"], ["long"]),
            helper.make_node("Cast", ["long"], ["sequence_lens"], to=TensorProto.INT32),
        ]
        more = [numpy_helper.from_array(np.array([axis]), "axis"), numpy_helper.from_array(np.array([1]), "one")]
        whole = model([*nodes, made], [*initializers, *more])
        if axis == 0:
            assert lstmcore.Recurrent.from_onnx(whole).cell == "lstm"
        else:
            with pytest.raises(ValueError, match="sequence_lens is a constant"):
                lstmcore.Recurrent.from_onnx(whole)


def test_element_types() -> None:
    for kind in (np.float16, np.float64):
        tensors = {key: value.astype(kind) for key, value in arrays().items()}
        if kind == np.float64:
            assert lstmcore.Recurrent.from_onnx(single(tensors=tensors)).dtype == np.float64
        else:
            with pytest.raises(ValueError, match=r"dtype: .*float16"):
                lstmcore.Recurrent.from_onnx(single(tensors=tensors))
        layer = lstmcore.Recurrent.from_onnx(single(tensors=tensors), dtype="float32")
        i_o_f_g = np.split(tensors["W"][0].astype(np.float32), 4)
        assert_bitwise(layer.parameters["W_l0"], np.concatenate([i_o_f_g[k] for k in (0, 2, 3, 1)]), "W")
    made, initializers = node(tensors=arrays())
    W = helper.make_tensor("W", TensorProto.BFLOAT16, (1, 16, 3), np.ones(48))
    layer = lstmcore.Recurrent.from_onnx(
        model([made], [W, *[item for item in initializers if item.name != "W"]]), dtype="float64"
    )
    assert (layer.parameters["W_l0"] == 1).all()
    with pytest.raises(ValueError, match=r"W: expected floating-point weights, got int64"):
        lstmcore.Recurrent.from_onnx(single(tensors={**arrays(), "W": np.ones((1, 16, 3), np.int64)}))


# --- hostile or broken models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("W", (16, 3), r"W should be \(directions, 4·H, columns\), got shape \(16, 3\)"),
        ("W", (1, 15, 3), r"W: expected shape \(1, 16, 3\), got \(1, 15, 3\)"),
        ("W", (1, 16, 0), r"W should be"),
        ("W", (0, 16, 3), r"W should be"),
        ("R", (1, 16, 5), r"hidden_size=4, but R has shape \(1, 16, 5\)"),
        ("R", (1, 12, 4), r"R: expected shape \(1, 16, 4\), got \(1, 12, 4\)"),
        ("B", (1, 16), r"B: expected shape \(1, 32\), got \(1, 16\)"),
        ("B", (32,), r"B: expected shape \(1, 32\)"),
        ("P", (1, 16), r"P: expected shape \(1, 12\)"),
    ],
)
def test_wrong_shapes(key: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"LSTM node 'LSTM': {message}"):
        lstmcore.Recurrent.from_onnx(single(tensors=arrays(**{key: np.ones(shape, np.float32)}), hidden_size=4))


def test_weights_that_are_not_there() -> None:
    tensors = arrays()
    W = tensors["W"]
    made, initializers = node(tensors={**tensors, "W": None} | {"R": tensors["R"]})
    value = helper.make_tensor_value_info("W", TensorProto.FLOAT, W.shape)
    as_input = model([made], initializers, (value,))
    with pytest.raises(ValueError, match=r"W is not a constant but comes from the graph input 'W'; pass weights="):
        lstmcore.Recurrent.from_onnx(as_input)
    layer = lstmcore.Recurrent.from_onnx(as_input, weights={"W": W})
    assert_all_bitwise(layer.parameters, lstmcore.Recurrent.from_onnx(single(tensors=tensors)).parameters, "parameters")
    with pytest.raises(ValueError, match="weights: 'V' is not an input of the graph; inputs are 'x', 'W'"):
        lstmcore.Recurrent.from_onnx(as_input, weights={"V": W})
    with pytest.raises(ValueError, match="nothing in the graph makes 'W'"):
        lstmcore.Recurrent.from_onnx(model([made], initializers))
    computed = helper.make_node("Relu", ["V"], ["W"], name="squash")
    V = numpy_helper.from_array(W, "V")
    with pytest.raises(ValueError, match=r"W is not a constant but comes from the output of op Relu \(node 'squash'\)"):
        lstmcore.Recurrent.from_onnx(model([computed, made], [*initializers, V]))
    bare = helper.make_node("LSTM", ["x", "W"], ["Y"])
    with pytest.raises(ValueError, match="input R is missing"):
        lstmcore.Recurrent.from_onnx(model([bare], [numpy_helper.from_array(W, "W")]))
    silent = helper.make_node("LSTM", ["x", "W", "R"], [""])
    with pytest.raises(ValueError, match=r"nodes '\?', '\?' are not one chain"):
        lstmcore.Recurrent.from_onnx(model([silent, silent], initializers))
    crowded = helper.make_node("GRU", ["x", "W", "R", "", "", "", "c"], ["Y"])
    with pytest.raises(ValueError, match="GRU takes at most 6 inputs, got 7"):
        lstmcore.Recurrent.from_onnx(model([crowded], initializers))


def test_external_data(tmp_path: Path) -> None:
    whole = single()
    expected = lstmcore.Recurrent.from_onnx(whole)
    path = tmp_path / "model.onnx"
    onnx.save(whole, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").is_file()
    layer = lstmcore.Recurrent.from_onnx(path)
    assert_all_bitwise(layer.parameters, expected.parameters, "parameters")
    with pytest.raises(ValueError, match=r"W: is kept in the external file 'weights\.bin'; pass the path"):
        lstmcore.Recurrent.from_onnx(path.read_bytes())
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"W: external file 'weights\.bin' cannot be read|its data do not fit"):
        lstmcore.Recurrent.from_onnx(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=r"external file 'weights\.bin' cannot be read"):
        lstmcore.Recurrent.from_onnx(path)
    outside = onnx.load(path, load_external_data=False)
    for tensor in outside.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../../../etc/hostname"
    path.write_bytes(outside.SerializeToString())
    with pytest.raises(ValueError, match=r"external file .* cannot be read"):
        lstmcore.Recurrent.from_onnx(path)


def test_huge_dimensions_and_endless_graphs() -> None:
    made, initializers = node()
    rest = [item for item in initializers if item.name != "W"]
    for dims in ((1, 16, 2**40), (-1, 16, 3), (1, 16, 2**28)):
        W = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"1234")
        with pytest.raises(ValueError, match=r"W: (shape .* is negative or above|its data do not fit)"):
            lstmcore.Recurrent.from_onnx(model([made], [*rest, W]))
    vast = numpy_helper.from_array(np.array([1, 16, 2**50]), "vast")
    for op, inputs in (("ConstantOfShape", ["vast"]), ("Expand", ["vast", "vast"])):
        filled = helper.make_node(op, inputs, ["W"])
        with pytest.raises(ValueError, match=f"op {op}"):
            lstmcore.Recurrent.from_onnx(model([filled, made], [*rest, vast]))
    names = [f"v{k}" for k in range(60)]
    doubling = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in zip(names, [*names[1:], "W"], strict=True)]
    start = numpy_helper.from_array(np.ones((2**12, 4), np.float32), "v0")
    with pytest.raises(ValueError, match="op Concat"):
        lstmcore.Recurrent.from_onnx(model([*doubling, made], [*rest, start]))
    names = [f"v{k}" for k in range(5000)]
    long = [helper.make_node("Identity", [a], [b]) for a, b in zip(names, [*names[1:], "W"], strict=True)]
    with pytest.raises(ValueError, match="more than 100 nodes"):
        lstmcore.Recurrent.from_onnx(model([*long, made], [*rest, start]))
    circle = [helper.make_node("Identity", ["W"], ["V"]), helper.make_node("Identity", ["V"], ["W"])]
    with pytest.raises(ValueError, match="more than 100 nodes"):
        lstmcore.Recurrent.from_onnx(model([*circle, made], rest))


def test_what_is_no_model() -> None:
    for given in (3, None, [b""], np.zeros(3)):
        with pytest.raises((TypeError, ValueError), match="model: "):
            lstmcore.Recurrent.from_onnx(given)
    with pytest.raises(ValueError, match="model: not an ONNX model"):
        lstmcore.Recurrent.from_onnx(b"\xff\xff\xff\xff nothing of the kind")
    with pytest.raises(ValueError, match="model: no node LSTM, GRU or RNN"):
        lstmcore.Recurrent.from_onnx(b"")
    with pytest.raises(FileNotFoundError):
        lstmcore.Recurrent.from_onnx("/no/such/file.onnx")
    good = single().SerializeToString()
    for end in range(0, len(good), 37):  # truncation: an error of ours, whatever is left
        with pytest.raises((ValueError, TypeError)):
            lstmcore.Recurrent.from_onnx(good[:end])
    for name in ("nothing", "", ["LSTM", "nothing"], []):
        with pytest.raises(ValueError, match="node: "):
            lstmcore.Recurrent.from_onnx(good, node=name)
    with pytest.raises(TypeError, match="hidden_size"):
        lstmcore.Recurrent.from_onnx(good, hidden_size=3)
    stream = io.BytesIO(good)
    assert lstmcore.Recurrent.from_onnx(stream.getbuffer()).hidden_size == 4


def test_damaged_bytes_never_do_more_than_raise() -> None:
    """Any byte changed: a layer or a ValueError."""
    good = single("RNN", arrays("RNN", I=1, H=1)).SerializeToString()
    rng = np.random.default_rng(0)
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= int(rng.integers(1, 256))
        with contextlib.suppress(ValueError):
            lstmcore.Recurrent.from_onnx(bytes(damaged))
