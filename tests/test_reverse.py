"""Layers that read in reverse only: the same as a forward layer on sequences turned round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstmcore
from lstmcore import _core

LENGTHS = np.array([7, 3, 9, 1])
CELLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lstm", {}),
    ("lstm", {"layer_norm": True, "proj_size": 3}),
    ("gru", {}),
    ("gru", {"reset_after": False}),
    ("slstm", {"heads": 2}),
    ("lstm1997", {"gate_recurrence": True}),
    ("indrnn", {}),
)


def turned(values: np.ndarray) -> np.ndarray:
    """Every sequence from its last real step to its first; zeros stay behind."""
    result = np.zeros_like(values)
    for n, length in enumerate(LENGTHS):
        result[n, :length] = values[n, :length][::-1]
    return result


def layers(cell: str, options: dict[str, Any], **more: Any) -> tuple[lstmcore.Recurrent, lstmcore.Recurrent]:
    shared = {"input_size": 4, "hidden_size": 6, "num_layers": 2, "dtype": "float64", "seed": 5, **options, **more}
    return lstmcore.Recurrent(cell, reverse=True, **shared), lstmcore.Recurrent(cell, **shared)


@pytest.mark.parametrize(("cell", "options"), CELLS)
def test_equals_turned_sequences(cell: str, options: dict[str, Any]) -> None:
    reverse, forward = layers(cell, options)
    assert list(reverse.parameters) == list(forward.parameters)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 9, 4))
    state = {name: 0.5 + rng.random(value.shape) for name, value in forward.init_state(4).items()}
    y, final, tape = reverse.forward(x, state=state, lengths=LENGTHS, training=True)
    y_turned, final_turned, tape_turned = forward.forward(turned(x), state=state, lengths=LENGTHS, training=True)
    np.testing.assert_allclose(y, turned(y_turned), atol=1e-15)
    for name, value in final.items():
        np.testing.assert_allclose(value, final_turned[name], atol=1e-15, err_msg=name)
    dy = rng.standard_normal(y.shape)
    dstate = {name: rng.standard_normal(value.shape) for name, value in final.items()}
    g = reverse.backward(tape, dy, dstate=dstate)
    g_turned = forward.backward(tape_turned, turned(dy), dstate=dstate)
    np.testing.assert_allclose(g.x, turned(g_turned.x), atol=1e-13)
    for name, value in g.state.items():
        np.testing.assert_allclose(value, g_turned.state[name], atol=1e-13, err_msg=name)
    for name, value in g.parameters.items():
        np.testing.assert_allclose(value, g_turned.parameters[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_model_and_its_gradient(pooling: str, tmp_path: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 9, 4))
    y = np.array([0, 1, 2, 1], dtype=np.int32)
    results = []
    for reverse in (True, False):
        recurrent = {"cell": "gru", "input_size": 4, "hidden_size": 6, "dtype": "float64", "reverse": reverse}
        model = _core.Model({"recurrent": recurrent, "pooling": pooling, "activation": "softmax", "outputs": 3})
        sequences = _core.Sequences(x if reverse else turned(x), lengths=LENGTHS, dtype="float64")
        loss, gradient = _core.Trainer(model, {}).gradient(sequences, y)
        model.save(str(tmp_path / "model"))
        again = _core.Model.load(str(tmp_path / "model"))
        assert again.config["recurrent"]["reverse"] is reverse
        np.testing.assert_array_equal(again.predict(sequences), model.predict(sequences))
        results.append((loss, gradient, model.predict(sequences)))
    (loss, gradient, out), (loss_turned, gradient_turned, out_turned) = results
    assert loss == pytest.approx(loss_turned, rel=1e-13)
    np.testing.assert_allclose(out, out_turned, atol=1e-14)
    for name, value in gradient.items():
        np.testing.assert_allclose(value, gradient_turned[name], atol=1e-13, err_msg=name)


def test_what_needs_the_other_end_is_refused() -> None:
    layer, _ = layers("lstm", {})
    assert layer.reverse
    assert "reverse=True" in repr(layer)
    with pytest.raises(ValueError, match="step: this Recurrent reads in reverse"):
        layer.step(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="reverse: true together with bidirectional"):
        layers("lstm", {}, bidirectional=True)
    with pytest.raises(ValueError, match="reverse=True is not supported"):
        lstmcore.gradient_flow(layer, np.zeros((1, 3, 4)))
    recurrent = {"cell": "lstm", "input_size": 4, "hidden_size": 6, "reverse": True}
    model = _core.Model({"recurrent": recurrent, "pooling": "last", "activation": "softmax", "outputs": 3})
    with pytest.raises(ValueError, match="step: a model that reads in reverse"):
        model.make_state()
    with pytest.raises(ValueError, match="checkpoint_steps: a bidirectional or reverse network"):
        _core.Trainer(model, {"checkpoint_steps": 3})


def test_to_torch_is_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="no layer for reverse=True"):
        layers("lstm", {})[0].to_torch()


@pytest.mark.parametrize("cell", ["lstm", "peephole", "gru", "elman"])
def test_through_onnx(cell: str) -> None:
    onnx = pytest.importorskip("onnx")
    layer = lstmcore.Recurrent(cell, input_size=4, hidden_size=6, num_layers=2, reverse=True)
    model = layer.to_onnx()
    directions = [a.s for node in model.graph.node for a in node.attribute if a.name == "direction"]
    assert directions == [b"reverse"] * 2
    onnx.checker.check_model(model)
    back = lstmcore.Recurrent.from_onnx(model)
    assert back.reverse
    x = np.random.default_rng(0).standard_normal((4, 9, 4)).astype(np.float32)
    np.testing.assert_array_equal(back.forward(x, lengths=LENGTHS)[0], layer.forward(x, lengths=LENGTHS)[0])
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (feed,) = (value.name for value in session.get_inputs())
    np.testing.assert_allclose(session.run(None, {feed: x})[0], layer.forward(x)[0], atol=2e-6)
