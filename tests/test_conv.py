"""Convolutional recurrent layers: against plain NumPy, finite differences, PyTorch, themselves step by step, and every
engine; and what they refuse.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from reference import conv_lstm

CELLS = ("lstm", "peephole", "gru")
USABLE = tuple(lstmcore.build_info()["isas_usable"])


@dataclass(frozen=True)
class Case:
    """Sizes of a layer and of a batch; lengths None: all of N sequences have T steps."""

    cell: str = "lstm"
    channels: int = 3
    hidden: int = 5
    height: int = 5
    width: int = 7
    kernel: int = 3
    dilation: int = 1
    layers: int = 1
    N: int = 2
    T: int = 3
    lengths: tuple[int, ...] | None = None

    def __str__(self) -> str:
        text = f"{self.cell}-{self.channels}to{self.hidden}-{self.height}x{self.width}-k{self.kernel}d{self.dilation}"
        return text + f"-L{self.layers}" + ("-ragged" if self.lengths else "")

    def layer(self, dtype: str = "float64", n_threads: int | None = 2) -> Any:
        layer = lstmcore.ConvRecurrent(
            self.cell,
            channels=self.channels,
            hidden_channels=self.hidden,
            height=self.height,
            width=self.width,
            kernel_size=self.kernel,
            dilation=self.dilation,
            num_layers=self.layers,
            dtype=dtype,
            n_threads=n_threads,
        )
        rng = np.random.default_rng(7)
        for value in layer.parameters.values():
            value[...] = rng.normal(scale=0.3, size=value.shape)
        return layer

    def data(self, dtype: str = "float64") -> dict[str, Any]:
        rng = np.random.default_rng(8)
        image = (self.height, self.width)
        sequences = len(self.lengths) if self.lengths else self.N
        steps = max(self.lengths) if self.lengths else self.T
        states = {
            name: rng.normal(size=(self.layers, sequences, self.hidden, *image)).astype(dtype)
            for name in conv_lstm.STATES[self.cell]
        }
        return {
            "x": rng.normal(size=(sequences, steps, self.channels, *image)).astype(dtype),
            "dy": rng.normal(size=(sequences, steps, self.hidden, *image)).astype(dtype),
            "state": states,
            "dstate": {name: rng.normal(size=value.shape).astype(dtype) for name, value in states.items()},
            "lengths": None if self.lengths is None else np.array(self.lengths),
        }


# Sizes around packs, strips and tiles of 4 × 4, windows of every kind: tiles are used from 8 × 8 pixels on.
SHAPES = (
    {"kernel": 1},
    {"kernel": 3},
    {"kernel": 5},
    {"kernel": 3, "dilation": 2},
    {"kernel": 5, "dilation": 2},
    {"kernel": 9, "height": 4, "width": 3},
    {"kernel": 7, "dilation": 3, "height": 2, "width": 6},
    {"kernel": 3, "height": 1, "width": 1},
    {"kernel": 1, "height": 1, "width": 9, "channels": 1, "hidden": 1},
    {"kernel": 5, "channels": 1, "hidden": 8},
    {"kernel": 3, "height": 8, "width": 8, "channels": 1, "hidden": 4},
    {"kernel": 3, "height": 9, "width": 10},
    {"kernel": 3, "height": 11, "width": 8, "channels": 8, "hidden": 17},
    {"kernel": 3, "layers": 2, "lengths": (1, 4, 2)},
    {"kernel": 3, "height": 13, "width": 9, "layers": 2, "lengths": (2, 1, 3)},
    {"kernel": 5, "layers": 3, "lengths": (3, 3, 1, 2)},
)
CASES = tuple(Case(cell, **shape) for cell in CELLS for shape in SHAPES)
SMALL = tuple(case for case in CASES if case.hidden < 10)
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def run(case: Case, layer: Any, data: dict[str, Any]) -> dict[str, np.ndarray]:
    y, final, tape = layer.forward(data["x"], data["state"], data["lengths"], training=True)
    gradients = layer.backward(tape, data["dy"], data["dstate"])
    arrays = {"y": y, "dx": gradients.x}
    arrays |= {f"final.{name}": value for name, value in final.items()}
    arrays |= {f"d_initial.{name}": value for name, value in gradients.state.items()}
    arrays |= {f"gradient.{name}": value for name, value in gradients.parameters.items()}
    return {name: np.array(value) for name, value in arrays.items()}


def expected_forward(case: Case, layer: Any, data: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    lengths = data["lengths"] if data["lengths"] is not None else [data["x"].shape[1]] * len(data["x"])
    parameters = {name: value.astype(np.float64) for name, value in layer.parameters.items()}
    sequences = [x[:length] for x, length in zip(data["x"], lengths, strict=True)]
    outputs, final = conv_lstm.forward(case.cell, parameters, sequences, data["state"], case.dilation)
    y = np.zeros_like(data["dy"], dtype=np.float64)
    for row, output in zip(y, outputs, strict=True):
        row[: len(output)] = output
    return y, final


@each_case
@pytest.mark.parametrize("training", [False, True])
def test_forward_equals_the_reference(case: Case, training: bool) -> None:
    layer, data = case.layer(), case.data()
    y, final, *_ = layer.forward(data["x"], data["state"], data["lengths"], training=training)
    expected, expected_final = expected_forward(case, layer, data)
    assert_close(y, expected, 1e-11, "y")
    assert_all_close(final, expected_final, 1e-11, "final state")


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_forward_equals_the_reference_in_float32(case: Case) -> None:
    layer, data = case.layer("float32"), case.data("float32")
    y, final = layer.forward(data["x"], data["state"], data["lengths"])
    expected, expected_final = expected_forward(case, layer, data)
    assert_close(y, expected, 2e-5, "y")
    assert_all_close(final, expected_final, 2e-5, "final state")


@each_case
def test_gradients_equal_finite_differences(case: Case) -> None:
    """Each array in a few directions: a single random one, and single elements."""
    layer, data = case.layer(), case.data()
    lengths = data["lengths"]

    def loss() -> float:
        y, final = layer.forward(data["x"], data["state"], lengths)
        return float((y * data["dy"]).sum() + sum((final[name] * data["dstate"][name]).sum() for name in final))

    results = run(case, layer, data)
    arrays = {"dx": data["x"]}
    arrays |= {f"d_initial.{name}": value for name, value in data["state"].items()}
    arrays |= {f"gradient.{name}": value for name, value in layer.parameters.items()}
    rng = np.random.default_rng(9)
    for name, array in arrays.items():
        gradient, kept = results[name], array.copy()
        assert gradient.shape == array.shape
        directions = [rng.normal(size=array.shape)]
        for index in rng.choice(array.size, size=min(array.size, 12), replace=False):
            one = np.zeros(array.size)
            one[index] = 1.0
            directions.append(one.reshape(array.shape))
        scale = np.abs(gradient).max(initial=1e-3)
        for direction in directions:
            step = 1e-5
            # Richardson extrapolation: the error falls with the fourth power of the step.
            differences = []
            for h in (step, 2 * step):
                array[...] = kept + h * direction
                above = loss()
                array[...] = kept - h * direction
                differences.append((above - loss()) / (2 * h))
            array[...] = kept
            numeric = (4 * differences[0] - differences[1]) / 3
            size = scale * np.sqrt((direction**2).sum())
            assert abs(numeric - (gradient * direction).sum()) <= 1e-6 * size, name


@pytest.mark.parametrize("case", [case for case in CASES if case.lengths], ids=str)
def test_ragged_batches_equal_single_sequences(case: Case) -> None:
    """As lengths, as a list, and one by one; nothing past the end reaches anything."""
    layer, data = case.layer(), case.data()
    whole = run(case, layer, data)
    for n, length in enumerate(case.lengths or ()):
        assert not whole["y"][n, length:].any()
        assert not whole["dx"][n, length:].any()
        data["x"][n, length:] = np.nan
        data["dy"][n, length:] = np.nan
    assert_all_bitwise(run(case, layer, data), whole, "with NaN past the end")

    xs = [x[:length] for x, length in zip(data["x"], case.lengths or (), strict=True)]
    dys = [dy[:length] for dy, length in zip(data["dy"], case.lengths or (), strict=True)]
    y, final, tape = layer.forward(xs, data["state"], training=True)
    gradients = layer.backward(tape, dys, data["dstate"])
    assert_all_bitwise(final, {name: whole[f"final.{name}"] for name in final}, "final states of a list")
    assert_all_bitwise(gradients.parameters, {k: whole[f"gradient.{k}"] for k in gradients.parameters}, "of a list")
    for n, length in enumerate(case.lengths or ()):
        assert_bitwise(y[n], whole["y"][n, :length], "y of a list")
        assert_bitwise(gradients.x[n], whole["dx"][n, :length], "dx of a list")
        alone, state = layer.forward(xs[n][None], {k: v[:, n : n + 1] for k, v in data["state"].items()})
        assert_bitwise(alone[0], y[n], "y alone")
        assert_all_bitwise(state, {k: v[:, n : n + 1] for k, v in final.items()}, "final state alone")


@each_case
def test_steps_equal_forward(case: Case) -> None:
    layer, data = case.layer("float32"), case.data("float32")
    y, final = layer.forward(data["x"], data["state"])
    state = data["state"]
    before = {name: value.copy() for name, value in state.items()}
    for t in range(data["x"].shape[1]):
        out, state = layer.step(data["x"][:, t], state)
        assert_bitwise(out, y[:, t], f"step {t}")
    assert_all_bitwise(state, final, "state after the last step")
    assert_all_bitwise(data["state"], before, "the state given")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [{"kernel": 3}, {"kernel": 5}, {"kernel": 3, "dilation": 2}])
def test_results_do_not_depend_on_the_number_of_threads(cell: str, shape: dict[str, int], dtype: str) -> None:
    case = Case(cell, hidden=9, height=21, width=18, layers=2, lengths=(3, 5, 2), **shape)
    data = case.data(dtype)
    first = run(case, case.layer(dtype, 1), data)
    for threads in (2, 3):
        assert_all_bitwise(run(case, case.layer(dtype, threads), data), first, f"{threads} threads")


def test_states_default_to_zeros_and_gradients_without_dy() -> None:
    case = Case(height=9, width=9)
    layer, data = case.layer(), case.data()
    zeros = layer.init_state(2)
    assert not any(value.any() for value in zeros.values())
    assert_bitwise(layer.forward(data["x"])[0], layer.forward(data["x"], zeros)[0], "y")
    *_, tape = layer.forward(data["x"], training=True)
    with_zeros = layer.backward(tape, np.zeros_like(data["dy"]), data["dstate"])
    *_, tape = layer.forward(data["x"], training=True)
    without = layer.backward(tape, None, data["dstate"])
    assert_all_bitwise(without.parameters, with_zeros.parameters, "gradients")
    *_, tape = layer.forward(data["x"], training=True)
    saved = layer.backward(tape, None, data["dstate"], input_gradient=False)
    assert saved.x is None
    assert_all_bitwise(saved.parameters, with_zeros.parameters, "gradients without that of x")


def test_minimal_filtering_equals_the_plain_sum_in_float32() -> None:
    """64 channels at 3 × 3, where tiles of 4 × 4 lose most: against the same weights in float64."""
    case = Case(channels=64, hidden=64, height=16, width=16, T=4, N=1)
    narrow, wide = case.layer("float32"), case.layer("float64")
    scale = 1 / np.sqrt(9 * 64)
    for name, value in wide.parameters.items():
        narrow.parameters[name][...] *= scale / 0.3
        value[...] = narrow.parameters[name]
    data = case.data("float32")
    single, double = run(case, narrow, data), run(case, wide, case.data("float64"))
    assert_close(single["y"], double["y"], 1e-5, "y")
    for name, value in double.items():
        assert_close(single[name], value, 3e-5, name)


@pytest.mark.parametrize("cell", ["lstm", "peephole"])
@pytest.mark.parametrize("shape", [{"kernel": 3}, {"kernel": 3, "dilation": 2}, {"kernel": 5}])
def test_equals_a_loop_over_torch_conv2d(cell: str, shape: dict[str, int]) -> None:
    torch = pytest.importorskip("torch")
    case = Case(cell, channels=4, hidden=8, height=12, width=15, **shape)
    layer, data = case.layer(), case.data()
    ours = run(case, layer, data)
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in layer.parameters.items()}
    x = torch.tensor(data["x"], requires_grad=True)
    initial = {name: torch.tensor(value, requires_grad=True) for name, value in data["state"].items()}
    h, c = initial["h"][0], initial["c"][0]
    padding = (case.kernel - 1) // 2 * case.dilation
    kernel = torch.cat([weights["W_l0"], weights["R_l0"]], dim=1)
    outputs = []
    for t in range(case.T):
        a = torch.nn.functional.conv2d(
            torch.cat([x[:, t], h], dim=1), kernel, weights["b_l0"], padding=padding, dilation=case.dilation
        )
        i, f, g, o = a.chunk(4, dim=1)
        peephole = weights["P_l0"] if cell == "peephole" else torch.zeros(3, dtype=x.dtype)
        i, f = torch.sigmoid(i + peephole[0] * c), torch.sigmoid(f + peephole[1] * c)
        c = f * c + i * torch.tanh(g)
        h = torch.sigmoid(o + peephole[2] * c) * torch.tanh(c)
        outputs.append(h)
    y = torch.stack(outputs, dim=1)
    dstate = {name: torch.tensor(value[0]) for name, value in data["dstate"].items()}
    ((y * torch.tensor(data["dy"])).sum() + (h * dstate["h"]).sum() + (c * dstate["c"]).sum()).backward()
    assert_close(ours["y"], y.detach().numpy(), 1e-11, "y")
    assert_close(ours["dx"], x.grad.numpy(), 1e-10, "dx")
    for name, value in weights.items():
        assert_close(ours[f"gradient.{name}"], value.grad.numpy(), 1e-10, name)
    for name, value in initial.items():
        assert_close(ours[f"d_initial.{name}"], value.grad.numpy(), 1e-10, name)


ENGINE_CASES = (
    Case("lstm", hidden=9, height=9, width=10, layers=2, lengths=(3, 1)),
    Case("peephole", kernel=5),
    Case("gru", height=12, width=8),
    Case("gru", dilation=2),
)
WORKER = """
import sys
import numpy as np
import test_conv
results = {}
for case in test_conv.ENGINE_CASES:
    for dtype in ("float64", "float32"):
        ran = test_conv.run(case, case.layer(dtype), case.data(dtype))
        results |= {f"{case}/{dtype}/{name}": value for name, value in ran.items()}
np.savez(sys.argv[1], isa=np.array(test_conv.lstmcore.build_info()["isa"]), **results)
"""


@pytest.mark.parametrize("isa", USABLE)
def test_every_engine(isa: str, tmp_path: Path) -> None:
    path = tmp_path / "results.npz"
    environment = {**os.environ, "LSTMCORE_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        results = dict(file)
    assert results.pop("isa") == isa
    for case in ENGINE_CASES:
        here = run(case, case.layer(), case.data())
        for name, value in here.items():
            assert_close(results[f"{case}/float64/{name}"], value, 1e-11, f"{case} {name}")
            assert_close(results[f"{case}/float32/{name}"], value, 5e-5, f"{case} {name} in float32")


def test_initial_weights() -> None:
    layer = lstmcore.ConvRecurrent("peephole", channels=3, hidden_channels=8, height=4, width=4, seed=3)
    parameters = layer.parameters
    assert {name: value.shape for name, value in parameters.items()} == {
        "W_l0": (32, 3, 3, 3),
        "R_l0": (32, 8, 3, 3),
        "b_l0": (32,),
        "P_l0": (3, 8, 4, 4),
    }
    for rows in parameters["R_l0"].reshape(4, 8, -1):
        assert_close(rows @ rows.T, np.eye(8), 1e-6, "R's rows")
    bound = np.sqrt(6 / (9 * (3 + 8)))
    assert 0.9 * bound < np.abs(parameters["W_l0"]).max() <= bound
    assert_bitwise(parameters["b_l0"], np.repeat(np.array([0, 1, 0, 0], dtype="float32"), 8), "b")
    assert not parameters["P_l0"].any()
    again = lstmcore.ConvRecurrent("peephole", channels=3, hidden_channels=8, height=4, width=4, seed=3)
    assert_all_bitwise(again.parameters, parameters, "same seed")
    other = lstmcore.ConvRecurrent("peephole", channels=3, hidden_channels=8, height=4, width=4, seed=4)
    assert (other.parameters["W_l0"] != parameters["W_l0"]).any()


def test_weights_may_be_written_between_calls() -> None:
    case = Case(height=8, width=9)
    layer, data = case.layer(), case.data()
    before = layer.forward(data["x"])[0]
    layer.parameters["R_l0"][...] *= 0.5
    after = layer.forward(data["x"])[0]
    assert_bitwise(after[:, 0], before[:, 0], "first step")
    assert np.abs(after[:, 1] - before[:, 1]).max() > 1e-3


def test_pickle_and_repr() -> None:
    layer = Case("gru", layers=2).layer()
    copy = pickle.loads(pickle.dumps(layer))
    assert type(copy) is lstmcore.ConvRecurrent
    assert_all_bitwise(copy.parameters, layer.parameters, "parameters")
    assert repr(copy) == repr(layer)
    assert repr(layer) == (
        "ConvRecurrent('gru', channels=3, hidden_channels=5, height=5, width=7, kernel_size=3, num_layers=2,"
        " dtype='float64')"
    )
    assert (layer.gates, layer.states) == (("r", "z", "n"), ("h",))


SIZES = {"channels": 2, "hidden_channels": 3, "height": 4, "width": 5}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cell": "slstm"}, ValueError, "cell: expected one of lstm, peephole, gru, got 'slstm'"),
        ({"cell": 3}, TypeError, "cell"),
        ({"kernel_size": 4}, ValueError, "kernel_size: expected an odd integer"),
        ({"kernel_size": 0}, ValueError, "kernel_size"),
        ({"kernel_size": 3.0}, TypeError, "kernel_size"),
        ({"dilation": 0}, ValueError, "dilation"),
        ({"height": 0}, ValueError, "height"),
        ({"width": -1}, ValueError, "width"),
        ({"width": None}, TypeError, "missing required argument 'width'"),
        ({"channels": True}, TypeError, "channels"),
        ({"num_layers": 0}, ValueError, "num_layers"),
        ({"num_layers": 100000}, ValueError, "num_layers: expected an integer from 1 to 10000"),
        ({"dtype": "int8"}, ValueError, "dtype"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"hidden_channels": 2**31, "kernel_size": 99}, ValueError, "more weights"),
        ({"height": 2**31, "width": 2**31}, ValueError, "images"),
        ({"height": 2**40}, ValueError, "height"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_refused_constructions(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lstmcore.ConvRecurrent(**{**SIZES, **arguments})


def test_huge_kernels_and_dilations_reach_no_further_than_the_image() -> None:
    layer = lstmcore.ConvRecurrent(**SIZES, kernel_size=201, dilation=2**31)
    x = np.ones((1, 2, 2, 4, 5), dtype="float32")
    y, _, tape = layer.forward(x, training=True)
    gradient = layer.backward(tape, np.ones_like(y)).parameters["W_l0"]
    assert gradient[:, :, 100, 100].all()
    assert np.count_nonzero(gradient) == 12 * 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((1, 2, 2, 4, 4)),), ValueError, r"x: expected \(N, T, 2, 4, 5\), got \(1, 2, 2, 4, 4\)"),
        ((np.ones((2, 2, 4, 5)),), ValueError, r"x: expected \(N, T, 2, 4, 5\)"),
        ((np.ones((0, 2, 2, 4, 5)),), ValueError, "x: empty"),
        ((np.ones((1, 0, 2, 4, 5)),), ValueError, "x: empty"),
        ((np.ones((1, 2, 2, 4, 5), dtype=complex),), TypeError, "x: expected real numbers"),
        ((None,), TypeError, "x: "),
        (([],), ValueError, "x: empty list"),
        (([np.ones((2, 2, 4, 5)), np.ones((2, 2, 5, 4))],), ValueError, r"x\[1\]: expected \(T, 2, 4, 5\)"),
        (([np.ones((2, 2, 4, 5)), "b"],), TypeError, r"x\[1\]"),
        ((np.ma.masked_array(np.ones((1, 2, 2, 4, 5))),), TypeError, "masked"),
        ((np.ones((1, 2, 2, 4, 5)), {"h": np.zeros(3)}), ValueError, r"state: expected exactly the keys \('h', 'c'\)"),
        ((np.ones((1, 2, 2, 4, 5)), {"h": np.zeros(3), "c": np.zeros(3)}), ValueError, r"state\['h'\]: expected"),
        ((np.ones((1, 2, 2, 4, 5)), [1]), TypeError, "state: expected a dict"),
        ((np.ones((1, 2, 2, 4, 5)), None, [3]), ValueError, r"lengths\[0\]: expected 1 … 2"),
        ((np.ones((1, 2, 2, 4, 5)), None, [0]), ValueError, r"lengths\[0\]"),
        ((np.ones((1, 2, 2, 4, 5)), None, None, 1), TypeError, "training"),
    ],
)
def test_refused_inputs(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lstmcore.ConvRecurrent(**SIZES).forward(*arguments)


def test_refused_backward_and_step() -> None:
    layer, other = lstmcore.ConvRecurrent(**SIZES), lstmcore.ConvRecurrent(**SIZES)
    x = np.ones((2, 3, 2, 4, 5), dtype="float32")
    y, state, tape = layer.forward(x, training=True)
    with pytest.raises(ValueError, match="another ConvRecurrent"):
        other.backward(tape, y)
    with pytest.raises(ValueError, match=r"dy: expected \(N, T, 3, 4, 5\), got \(2, 3, 2, 4, 5\)"):
        layer.backward(tape, x)
    with pytest.raises(ValueError, match="dy"):
        layer.backward(tape, y[:, :2])
    with pytest.raises(ValueError, match="dstate"):
        layer.backward(tape, y, {"h": state["h"]})
    with pytest.raises(TypeError, match="tape: expected the ConvTape"):
        layer.backward(None, y)
    dense = lstmcore.Recurrent("lstm", input_size=2, hidden_size=3)
    with pytest.raises(TypeError, match="tape"):
        dense.backward(tape, y)
    layer.backward(tape, y)
    with pytest.raises(ValueError, match="used up"):
        layer.backward(tape, y)
    *_, tape = layer.forward(list(x), training=True)
    with pytest.raises(TypeError, match="list of sequences"):
        layer.backward(tape, y)
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(tape)
    with pytest.raises(ValueError, match=r"x: expected \(N, 2, 4, 5\)"):
        layer.step(x)
    with pytest.raises(ValueError, match="N"):
        layer.init_state(0)
