"""The same results as PyTorch on random architectures, and the exchange of weights with it."""

from __future__ import annotations

import numpy as np
import pytest

import lstmcore
from cases import CELLS, DTYPES, ELMAN_RELU, ELMAN_TANH, GRU, LSTM, VARIANTS, Case, Shape, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import run_layer
from torch_modules import make_module, run_module, torch

CELLS_OF_TORCH = [cell for cell in (*CELLS, *VARIANTS) if cell.torch]
PROJECTED = next(cell for cell in VARIANTS if cell.torch == "LSTM" and "proj_size" in dict(cell.options))


def random_shape(seed: int) -> Shape:
    rng = np.random.default_rng(1000 + seed)
    return Shape(
        N=int(rng.integers(1, 24)),
        T=int(rng.integers(1, 40)),
        I=int(rng.integers(1, 50)),
        H=int(rng.integers(2, 90)),
        L=int(rng.integers(1, 4)),
        D=int(rng.integers(1, 3)),
        ragged=bool(rng.integers(2)),
        initial_state=bool(rng.integers(2)),
    )


SHAPES = [
    *(random_shape(seed) for seed in range(12)),
    # Everything at once.
    Shape(9, 31, 12, 40, L=3, D=2, ragged=True, initial_state=True),
    Shape(17, 23, 33, 65, L=3, D=2, ragged=True, initial_state=True),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS_OF_TORCH, ids=lambda cell: cell.label)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.label)
def test_equals_torch(cell, shape: Shape, dtype: str) -> None:
    case = Case(cell, shape, dtype)
    module = make_module(case, data := make_data(case))
    expected = run_module(module, data)
    result = run_layer(lstmcore.Recurrent.from_torch(module), data)
    tolerance = case.tolerance("torch")
    assert_close(result.arrays["y"], expected.y, tolerance, "y")
    assert_all_close(result.named("final."), expected.final, tolerance, "final state")
    assert_close(result.arrays["dx"], expected.dx, tolerance, "dx")
    assert_all_close(result.named("d_initial."), expected.d_initial, tolerance, "gradient of the initial state")
    assert_all_close(result.named("gradient."), expected.gradient, tolerance, "gradient")


def example(cell=LSTM, dtype: str = "float32", **changes):
    case = Case(cell, Shape(**{"N": 3, "T": 7, "I": 5, "H": 6, "L": 2, "D": 2, **changes}), dtype)
    return make_module(case, data := make_data(case)), data


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("cell", CELLS_OF_TORCH, ids=lambda cell: cell.label)
def test_weights_return_to_torch(cell, directions: int, dtype: str) -> None:
    module, data = example(cell, dtype, L=3, D=directions)
    layer = lstmcore.Recurrent.from_torch(module)
    back = layer.to_torch()
    assert type(back) is type(module)
    assert back.batch_first
    assert back.weight_ih_l0.dtype == getattr(torch, dtype)
    assert back.mode == module.mode
    assert back.bidirectional == module.bidirectional
    assert back.proj_size == module.proj_size
    # The two biases of PyTorch are one number here, except in a GRU: their sum returns.
    assert list(back.state_dict()) == list(module.state_dict())
    for name, value in module.state_dict().items():
        twin = back.state_dict()[name]
        if cell is GRU:
            assert torch.equal(twin, value)
        elif name.startswith("bias_ih"):
            other = name.replace("bias_ih", "bias_hh")
            assert torch.equal(twin, value + module.state_dict()[other])
            assert not back.state_dict()[other].any()
        elif name.startswith("weight"):
            assert torch.equal(twin, value)
    assert_all_bitwise(lstmcore.Recurrent.from_torch(back).parameters, layer.parameters, "parameters")
    assert_close(run_module(back, data).y, run_module(module, data).y, 1e-6, "y")
    back.weight_ih_l0.data.zero_()
    assert layer.parameters["W_l0"].all(), "to_torch must copy"


def test_sizes_come_from_a_state_dict() -> None:
    module, _ = example()
    layer = lstmcore.Recurrent.from_torch(module.state_dict())
    described = (layer.cell, layer.input_size, layer.hidden_size, layer.num_layers, layer.bidirectional, layer.dtype)
    assert described == ("lstm", 5, 6, 2, True, np.float32)
    assert lstmcore.Recurrent.from_torch(example(GRU)[0].state_dict()).cell == "gru"
    projected = lstmcore.Recurrent.from_torch(example(PROJECTED)[0].state_dict())
    assert (projected.hidden_size, projected.cell_options["proj_size"]) == (6, 3)
    arrays = {name: value.numpy() for name, value in module.state_dict().items()}
    for given in (arrays, dict(reversed(arrays.items())), {f"net.rnn.{name}": v for name, v in arrays.items()}):
        prefix = "net.rnn." if "net.rnn.bias_hh_l0" in given else ""
        again = lstmcore.Recurrent.from_torch({**given, "other.weight": 0} if prefix else given, prefix=prefix)
        assert_all_bitwise(again.parameters, layer.parameters, "parameters")


def test_reading_copies() -> None:
    module, data = example()
    layer = lstmcore.Recurrent.from_torch(module)
    before = layer.forward(data.x)[0]
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    assert_bitwise(layer.forward(data.x)[0], before, "y")


def test_nonlinearity_of_a_state_dict_is_asked_for() -> None:
    for cell in (ELMAN_TANH, ELMAN_RELU):
        module, _ = example(cell)
        nonlinearity = dict(cell.options)["nonlinearity"]
        with pytest.raises(ValueError, match="nonlinearity"):
            lstmcore.Recurrent.from_torch(module.state_dict())
        layer = lstmcore.Recurrent.from_torch(module.state_dict(), nonlinearity=nonlinearity)
        assert layer.cell == "elman"
        assert layer.cell_options["nonlinearity"] == nonlinearity
        assert lstmcore.Recurrent.from_torch(module).cell_options["nonlinearity"] == nonlinearity
        assert lstmcore.Recurrent.from_torch(module, nonlinearity=nonlinearity).cell == "elman"
        with pytest.raises(ValueError, match="nonlinearity"):
            lstmcore.Recurrent.from_torch(module, nonlinearity="relu" if nonlinearity == "tanh" else "tanh")
        with pytest.raises(ValueError, match="nonlinearity"):
            lstmcore.Recurrent.from_torch(module.state_dict(), nonlinearity="selu")
    for cell in (LSTM, GRU, PROJECTED):
        module, _ = example(cell)
        for given in (module, module.state_dict()):
            with pytest.raises(ValueError, match=f"nonlinearity.*nn.{cell.torch}"):
                lstmcore.Recurrent.from_torch(given, nonlinearity="tanh")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_without_bias(name: str, batch_first: bool) -> None:
    module = getattr(torch.nn, name)(4, 5, 2, bias=False, batch_first=batch_first, bidirectional=True)
    layer = lstmcore.Recurrent.from_torch(module)
    assert not any(value.any() for key, value in layer.parameters.items() if key.startswith("b"))
    x = torch.randn(3, 6, 4)
    expected = module(x)[0] if batch_first else module(x.transpose(0, 1))[0].transpose(0, 1)
    assert_close(layer.forward(x.numpy())[0], expected.detach().numpy(), 2e-6, "y")


def test_options_of_training_are_kept_or_overridden() -> None:
    module = torch.nn.LSTM(3, 4, 2, dropout=0.25)
    layer = lstmcore.Recurrent.from_torch(module, seed=7, n_threads=1)
    assert (layer.dropout, layer.seed, layer.n_threads) == (0.25, 7, 1)
    assert layer.to_torch().dropout == 0.25
    assert lstmcore.Recurrent.from_torch(module, dropout=0.0).dropout == 0.0
    assert lstmcore.Recurrent.from_torch(module.state_dict()).dropout == 0.0


def test_element_types() -> None:
    module, data = example(dtype="float64")
    assert lstmcore.Recurrent.from_torch(module).dtype == np.float64
    single = lstmcore.Recurrent.from_torch(module, dtype="float32")
    assert single.dtype == np.float32
    assert_close(single.forward(data.x)[0], run_module(module, data).y, 2e-6, "y")
    for kind in (torch.float16, torch.bfloat16):
        half = torch.nn.LSTM(3, 4).to(kind)
        with pytest.raises(ValueError, match=r"dtype.*float16"):
            lstmcore.Recurrent.from_torch(half)
        layer = lstmcore.Recurrent.from_torch(half, dtype="float32")
        np.testing.assert_array_equal(layer.parameters["W_l0"], half.weight_ih_l0.detach().float().numpy())
    mixed = dict(module.state_dict())
    mixed["bias_ih_l0"] = mixed["bias_ih_l0"].float()
    with pytest.raises(ValueError, match=r"dtype.*float32 and float64"):
        lstmcore.Recurrent.from_torch(mixed)
    with pytest.raises(ValueError, match="dtype"):
        lstmcore.Recurrent.from_torch(module, dtype="float16")
    with pytest.raises(ValueError, match=r"weight_ih_l0.*int64"):
        lstmcore.Recurrent.from_torch({**module.state_dict(), "weight_ih_l0": np.ones((24, 5), np.int64)})


def test_regularisers_are_passed_on() -> None:
    module, _ = example(GRU)
    layer = lstmcore.Recurrent.from_torch(module, recurrent_dropout=0.25, learn_initial_state=True)
    assert layer.recurrent_dropout == 0.25
    assert layer.parameters["h0_l1_reverse"].shape == (6,)
    with pytest.raises(TypeError, match=r"hidden_size.*variational_dropout"):
        lstmcore.Recurrent.from_torch(module, hidden_size=3)
    with pytest.raises(ValueError, match="zoneout_hidden"):
        lstmcore.Recurrent.from_torch(module, zoneout_hidden=2.0)


def test_other_modules_are_refused() -> None:
    for given in (torch.nn.LSTMCell(3, 4), torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.LSTM(3, 4)), 3, None):
        with pytest.raises(TypeError, match="module_or_state_dict"):
            lstmcore.Recurrent.from_torch(given)


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("slstm", {}, "'slstm'"),
        ("indrnn", {}, "'indrnn'"),
        ("peephole", {}, "'peephole'"),
        ("lstm", {"variant": "CIFG"}, "variant='CIFG'"),
        ("lstm", {"layer_norm": True}, "layer_norm=True"),
        ("gru", {"reset_after": False}, "reset_after=False"),
        ("lstm", {"zoneout_cell": 0.25}, r"zoneout_cell=0\.25"),
        ("gru", {"variational_dropout": 0.5}, r"variational_dropout=0\.5"),
        ("elman", {"learn_initial_state": True}, "learn_initial_state"),
    ],
    ids=str,
)
def test_what_torch_lacks_is_named(cell: str, options: dict, message: str) -> None:
    layer = lstmcore.Recurrent(cell, input_size=3, hidden_size=4, **options)
    with pytest.raises(ValueError, match=f"^to_torch: .*{message}"):
        layer.to_torch()


def test_peephole_without_peepholes_is_an_lstm() -> None:
    layer = lstmcore.Recurrent("peephole", input_size=3, hidden_size=4, bidirectional=True, variant="NP")
    module = layer.to_torch()
    again = lstmcore.Recurrent.from_torch(module)
    assert again.cell == "lstm"
    assert_all_bitwise(again.parameters, layer.parameters, "parameters")


def test_broken_state_dicts_are_refused() -> None:
    module, _ = example()
    good = {name: value.numpy() for name, value in module.state_dict().items()}
    narrow = {name: value.numpy() for name, value in example(PROJECTED)[0].state_dict().items()}

    def without(name: str) -> dict:
        return {key: value for key, value in good.items() if key != name}

    refused = [
        ({}, "module_or_state_dict|prefix"),
        (without("weight_ih_l1_reverse"), "weight_ih_l1_reverse.*missing"),
        (without("weight_hh_l0"), "weight_hh_l0.*missing"),
        (without("bias_hh_l1"), "bias_hh_l1.*missing"),
        ({**good, "fc.weight": good["weight_ih_l0"]}, "fc.weight.*prefix="),
        ({**good, "weight_ih_l7": good["weight_ih_l0"]}, "missing"),
        ({**good, "weight_ih_l000000000": good["weight_ih_l0"]}, "module_or_state_dict"),
        ({**good, "weight_ih_l1": good["weight_ih_l0"]}, r"weight_ih_l1: expected shape \(24, 12\), got \(24, 5\)"),
        ({**good, "bias_hh_l1": good["bias_hh_l1"][:1]}, "bias_hh_l1: expected shape"),
        ({**good, "weight_hh_l0": good["weight_hh_l0"][:23]}, "weight_hh_l0"),
        ({**good, "weight_hh_l0": good["weight_hh_l0"][0]}, "weight_hh_l0"),
        ({**good, "weight_hh_l0": good["weight_hh_l0"][:0, :0]}, "weight_hh_l0"),
        ({**good, "weight_hr_l0": good["weight_hh_l0"][:3]}, "weight_hr_l0_reverse.*missing"),
        (narrow | {"weight_hr_l0": narrow["weight_hr_l0"][0]}, "weight_hr_l0: expected a matrix"),
        (narrow | {"weight_hr_l1": narrow["weight_hr_l1"][:2]}, r"weight_hr_l1: expected shape \(3, 6\)"),
        (narrow | {"weight_ih_l1": good["weight_ih_l1"]}, r"weight_ih_l1: expected shape \(24, 6\)"),
        (narrow | {"weight_hh_l0": narrow["weight_hh_l0"][:18]}, "proj_size: only an LSTM"),
    ]
    for given, message in refused:
        with pytest.raises(ValueError, match=message):
            lstmcore.Recurrent.from_torch(given)
    with pytest.raises(TypeError, match="weight_ih_l0"):
        lstmcore.Recurrent.from_torch({**good, "weight_ih_l0": [[1.0]]})
    with pytest.raises(ValueError, match="prefix"):
        lstmcore.Recurrent.from_torch(good, prefix="encoder.")
    with pytest.raises(ValueError, match="prefix"):
        lstmcore.Recurrent.from_torch(module, prefix="encoder.")
    with pytest.raises(TypeError, match="num_layers"):
        lstmcore.Recurrent.from_torch(module, num_layers=1)


def test_missing_torch_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def no_torch(name: str):
        raise ImportError(f"No module named {name!r}")

    layer = lstmcore.Recurrent(input_size=2, hidden_size=3)
    monkeypatch.setattr(importlib, "import_module", no_torch)
    with pytest.raises(ImportError, match="PyTorch"):
        layer.to_torch()


def test_flushing_of_denormals_that_the_caller_chose_stays_on() -> None:
    """A caller who turned flushing on keeps it on, as one who did not keeps it off (see test_edge_shapes)."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        tiny = np.full(64, 1e-40, np.float32)
        flushed = (tiny * np.float32(1.0)).any()
        layer = lstmcore.Recurrent(input_size=2, hidden_size=16, n_threads=1)
        _, _, tape = layer.forward(np.ones((2, 5, 2)), training=True)
        layer.backward(tape, np.ones((2, 5, 16)))
        assert (tiny * np.float32(1.0)).any() == flushed
        assert not flushed
    finally:
        torch.set_flush_denormal(False)
