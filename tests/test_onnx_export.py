"""`Recurrent.to_onnx`: the same results in onnxruntime, and the same weights when read back."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from cases import CELLS, DTYPES, GRU, LSTM, VARIANTS, Case, Cell, Shape, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import make_layer

onnx = pytest.importorskip("onnx")

SHAPES = (
    Shape(3, 7, 4, 6),
    Shape(2, 5, 3, 4, D=2, ragged=True),
    Shape(4, 6, 5, 8, L=3, D=2, ragged=True, initial_state=True),
    Shape(1, 9, 1, 2, L=2, initial_state=True),
)
# Options that ONNX lacks; whole cells that it lacks.
LACKING = {("proj_size", "H // 2"), ("layer_norm", True), ("variant", "FGR")}
CELLS_OF_ONNX = {"lstm", "peephole", "gru", "elman", "indrnn"}


def writable(cell: Cell) -> bool:
    return cell.name in CELLS_OF_ONNX and not LACKING & set(cell.options)


WRITABLE = [cell for cell in (*CELLS, *VARIANTS) if writable(cell)]
REFUSED = [cell for cell in (*CELLS, *VARIANTS) if not writable(cell)]


def example(cell: Cell, shape: Shape, dtype: str = "float32") -> tuple[Any, Any]:
    case = Case(cell, shape, dtype)
    return make_layer(case, data := make_data(case)), data


def run(model: Any, data: Any) -> dict[str, np.ndarray]:
    """Outputs by name, as onnxruntime computes them."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {"x": np.nan_to_num(data.x)}
    if data.lengths is not None:
        given["lengths"] = np.asarray(data.lengths, np.int32)
    for name, value in (data.state or {}).items():
        given[f"{name}_0"] = value
    assert {value.name for value in session.get_inputs()} == set(given)
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, given), strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.label)
@pytest.mark.parametrize("cell", WRITABLE, ids=lambda cell: cell.label)
def test_onnxruntime_computes_the_same(cell: Cell, shape: Shape) -> None:
    layer, data = example(cell, shape)
    model = layer.to_onnx(lengths=shape.ragged, initial_state=shape.initial_state)
    y, state = layer.forward(data.x, state=data.state, lengths=data.lengths)
    results = run(model, data)
    assert_close(results.pop("y"), y, 2e-5, "y")
    assert_all_close(results, {f"{name}_n": value for name, value in state.items()}, 2e-5, "final state")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.label)
@pytest.mark.parametrize("cell", WRITABLE, ids=lambda cell: cell.label)
def test_weights_return_from_onnx(cell: Cell, shape: Shape, dtype: str) -> None:
    layer, data = example(cell, shape, dtype)
    model = layer.to_onnx(lengths=shape.ragged)
    back = lstmcore.Recurrent.from_onnx(model)
    assert back.dtype == layer.dtype
    assert (back.num_layers, back.bidirectional, back.input_size) == (shape.L, shape.D == 2, shape.I)
    stand_in = cell.name == "indrnn" or dict(cell.options).get("variant") in ("NIG", "NFG", "NOG")
    if not stand_in:
        assert_all_bitwise(back.parameters, layer.parameters, "parameters")
        if dict(cell.options).get("variant") != "NP":
            assert back.cell == layer.cell
            assert layer.cell_options.items() <= back.cell_options.items()
    y, state = layer.forward(data.x, lengths=data.lengths)
    again, state_again = back.forward(data.x, lengths=data.lengths)
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    assert_close(again, y, tolerance, "y")
    assert_all_close(state_again, state, tolerance, "state")


@pytest.mark.parametrize("cell", REFUSED, ids=lambda cell: cell.label)
def test_what_onnx_lacks_is_named(cell: Cell) -> None:
    layer, _ = example(cell, Shape(1, 2, 3, 4))
    lacking = [name for name, value in LACKING & set(cell.options)] if cell.name in CELLS_OF_ONNX else []
    named = "|".join(lacking) if lacking else f"'{cell.name}'"
    with pytest.raises(ValueError, match=f"^to_onnx: ONNX has no layer for cell.*({named})"):
        layer.to_onnx()


def test_regularisers() -> None:
    layer = lstmcore.Recurrent("lstm", input_size=2, hidden_size=3, num_layers=2, dropout=0.5, recurrent_dropout=0.25)
    layer.to_onnx()  # in inference neither does anything
    for name in ("zoneout_hidden", "zoneout_cell"):
        layer = lstmcore.Recurrent("lstm", input_size=2, hidden_size=3, **{name: 0.25})
        with pytest.raises(ValueError, match=rf"to_onnx: .*{name}=0\.25"):
            layer.to_onnx()


def test_a_learnt_initial_state_gives_way_to_a_given_one() -> None:
    cell = next(cell for cell in WRITABLE if cell.learn_initial_state)
    for shape in (SHAPES[0], SHAPES[2]):
        layer, data = example(cell, shape)
        model = layer.to_onnx(lengths=shape.ragged, initial_state=shape.initial_state)
        y, _ = layer.forward(data.x, state=data.state, lengths=data.lengths)
        assert_close(run(model, data)["y"], y, 2e-5, "y")


def test_file_and_header(tmp_path: Path) -> None:
    layer, _ = example(LSTM, SHAPES[2])
    path = tmp_path / "layer.onnx"
    model = layer.to_onnx(path, lengths=True, initial_state=True)
    assert onnx.load(path) == model
    assert (model.producer_name, model.producer_version) == ("lstmcore", lstmcore.__version__)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 14)]

    def described(values: Any) -> dict[str, list[Any]]:
        return {
            value.name: [item.dim_param or item.dim_value for item in value.type.tensor_type.shape.dim]
            for value in values
        }

    assert described(model.graph.input) == {
        "x": ["N", "T", 5],
        "lengths": ["N"],
        "h_0": [6, "N", 8],
        "c_0": [6, "N", 8],
    }
    assert described(model.graph.output) == {"y": ["N", "T", 16], "h_n": [6, "N", 8], "c_n": [6, "N", 8]}
    assert [node.name for node in model.graph.node if node.op_type == "LSTM"] == ["LSTM_l0", "LSTM_l1", "LSTM_l2"]
    for source in (path, str(path), path.read_bytes()):
        assert_all_bitwise(lstmcore.Recurrent.from_onnx(source).parameters, layer.parameters, "parameters")
    top = lstmcore.Recurrent.from_onnx(path, node="LSTM_l2")
    assert_bitwise(top.parameters["W_l0"], layer.parameters["W_l2"], "W")
    two = lstmcore.Recurrent.from_onnx(path, node=["LSTM_l2", "LSTM_l1"])
    assert_bitwise(two.parameters["W_l0"], layer.parameters["W_l1"], "W")
    assert two.num_layers == 2


def test_opset() -> None:
    layer, data = example(GRU, SHAPES[0])
    for opset in (14, 18, 21):
        model = layer.to_onnx(opset=opset)
        assert model.opset_import[0].version == opset
        assert_close(run(model, data)["y"], layer.forward(data.x)[0], 2e-5, "y")
    for wrong in (13, 10**6, 14.5):
        with pytest.raises(ValueError, match=r"opset: expected 14 … \d+, got"):
            layer.to_onnx(opset=wrong)


def test_missing_onnx_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_onnx(name: str):
        raise ImportError(f"No module named {name!r}")

    layer, _ = example(LSTM, SHAPES[0])
    monkeypatch.setattr(importlib, "import_module", no_onnx)
    with pytest.raises(ImportError, match=r"to_onnx\(\) needs the onnx package"):
        layer.to_onnx()
    with pytest.raises(ImportError, match=r"from_onnx\(\) needs the onnx package"):
        lstmcore.Recurrent.from_onnx(b"")
