"""Models with 8-bit weights and activations rounded as they come: `quantize(scheme="dynamic_int8")`."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import lstmcore
import model_bytes
from checking import assert_all_bitwise, assert_bitwise, assert_close
from lstmcore import ModelFileError
from lstmcore._core import Model, Trainer
from reference import driver, dynamic_int8

CELLS: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {}),
    ("lstm", {"variant": "CIFG"}),
    ("lstm", {"variant": "NOAF"}),
    ("peephole", {}),
    ("peephole", {"variant": "NFG"}),
    ("gru", {}),
    ("slstm", {}),
    ("slstm", {"heads": 2, "forget_activation": "exponential"}),
    ("elman", {}),
    ("elman", {"nonlinearity": "relu"}),
]
IDS = ["-".join([cell, *(str(value) for value in options.values())]) for cell, options in CELLS]
# Another 32-bit rounding before it may take a number that is nearer to a tie to the other side.
TIE = 5e-5


def make(
    cell: str = "lstm",
    options: dict[str, Any] | None = None,
    I: int = 3,
    H: int = 10,
    *,
    seed: int = 0,
    outputs: int = 5,
    pooling: str = "none",
    **recurrent: Any,
) -> Model:
    """A quantised model with weights as large as trained ones."""
    config = {"cell": cell, "input_size": I, "hidden_size": H, "seed": seed, "cell_options": options or {}, **recurrent}
    model = Model({"recurrent": config, "pooling": pooling, "outputs": outputs, "quantization": "dynamic_int8"})
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(model.get_weights().shape, dtype=np.float32)
    model.set_weights(weights * np.float32(1.5 / np.sqrt(H + I)))
    return model


def expected(model: Model, x: np.ndarray, lengths: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Outputs at every step (N, T, K) by the reference, and its distance from a tie."""
    config = model.config["recurrent"]
    stack = driver.Stack(
        config["cell"], config["input_size"], config["hidden_size"], config["num_layers"], config["bidirectional"],
        config["cell_options"], config["learn_initial_state"],
    )  # fmt: skip
    parameters = {name: value for name, value in model.parameters.items() if not name.startswith("head_")}
    if config["reverse"]:
        y, distance = dynamic_int8.forward(stack, parameters, x[:, ::-1])
        y = y[:, ::-1]
    else:
        y, distance = dynamic_int8.forward(stack, parameters, x, lengths)
    return y @ model.parameters["head_W"].T.astype(np.float64) + model.parameters["head_b"], distance


def clear_of_ties(
    make_it: Callable[[int], tuple[Model, np.ndarray, np.ndarray | None]],
) -> tuple[Model, np.ndarray, np.ndarray | None, np.ndarray]:
    """The first of a few models for which float32 and float64 must round alike."""
    for seed in range(60):
        model, x, lengths = make_it(seed)
        outputs, distance = expected(model, x, lengths)
        if distance > TIE:
            return model, x, lengths, outputs
    raise AssertionError("all came too near to a tie")


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "options"), CELLS, ids=IDS)
def test_weights_are_rounded_row_by_row(cell: str, options: dict[str, Any]) -> None:
    config = {"cell": cell, "input_size": 7, "hidden_size": 12, "num_layers": 2, "bidirectional": True,
              "cell_options": options}  # fmt: skip
    plain = Model({"recurrent": config, "outputs": 3})
    model = Model({"recurrent": config, "outputs": 3, "quantization": "dynamic_int8"})
    model.set_weights(plain.get_weights())
    rounded = 0
    for name, value in plain.parameters.items():
        found = model.parameters[name]
        if name[:3] in ("W_l", "R_l"):
            q, scale = dynamic_int8.round_weights(value)
            assert_bitwise(found, q * scale[:, None], name)
            assert (np.abs(q).max(axis=1) == 127).all()
            # 17 significant bits: a product with seven more is exact.
            assert_bitwise(found.astype(np.float64), q * scale[:, None].astype(np.float64), name)
            rounded += 1
        else:
            assert_bitwise(found, value, name)
    assert rounded == 8
    again = model.get_weights()
    model.set_weights(again)
    assert_bitwise(model.get_weights(), again, "rounded once more")


def test_rows_of_zeros() -> None:
    model = make()
    W = model.parameters["W_l0"]
    W[3] = 0.0
    W[4] = 1e-35
    model.set_parameters({"W_l0": W})
    assert (model.parameters["W_l0"][3:5] == 0).all()
    x = np.random.default_rng(0).standard_normal((2, 4, 3), dtype=np.float32)
    assert np.isfinite(model.predict(x)).all()


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = make()
    R = model.parameters["R_l0"]
    R[1, 2] = np.nan
    model.set_parameters({"R_l0": R})
    assert np.isnan(model.predict(np.ones((1, 3, 3), dtype=np.float32))).any()
    with pytest.raises(ModelFileError, match=r"not finite"):
        model.save(str(tmp_path / "model"))


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "options"), CELLS, ids=IDS)
@pytest.mark.parametrize(
    "shape",
    [
        {"I": 1, "H": 2},
        {"I": 5, "H": 18, "num_layers": 2},
        {"I": 9, "H": 34, "bidirectional": True, "num_layers": 2},
        {"I": 4, "H": 14, "reverse": True},
        {"I": 6, "H": 22, "learn_initial_state": True},
    ],
    ids=["small", "layers", "bidirectional", "reverse", "learnt state"],
)
def test_outputs(cell: str, options: dict[str, Any], shape: dict[str, Any]) -> None:
    def make_it(seed: int) -> tuple[Model, np.ndarray, None]:
        x = np.random.default_rng(seed).standard_normal((3, 6, shape["I"]), dtype=np.float32)
        return make(cell, options, **shape, seed=seed), x, None

    model, x, _, outputs = clear_of_ties(make_it)
    assert_close(model.predict(x), outputs, 1e-5, "outputs")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("H", range(1, 71))
def test_every_width(cell: str, H: int) -> None:
    def make_it(seed: int) -> tuple[Model, np.ndarray, None]:
        N = 1 + H % 9
        x = np.random.default_rng(seed).standard_normal((N, 4, 1 + H % 7), dtype=np.float32)
        return make(cell, I=1 + H % 7, H=H, seed=seed), x, None

    model, x, _, outputs = clear_of_ties(make_it)
    assert_close(model.predict(x), outputs, 1e-5, "outputs")


@pytest.mark.parametrize("cell", ["lstm", "gru", "peephole", "slstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ragged(cell: str, bidirectional: bool) -> None:
    lengths = np.array([3, 7, 1, 7, 5])

    def make_it(seed: int) -> tuple[Model, np.ndarray, np.ndarray]:
        x = np.random.default_rng(seed).standard_normal((5, 7, 4), dtype=np.float32)
        return make(cell, I=4, H=13, num_layers=2, bidirectional=bidirectional, seed=seed), x, lengths

    model, x, _, outputs = clear_of_ties(make_it)
    found = model.predict(x, lengths=lengths)
    for n, length in enumerate(lengths):
        assert_close(found[n, :length], outputs[n, :length], 1e-5, f"sequence {n}")
        assert_bitwise(model.predict(x[n : n + 1, :length])[0], found[n, :length], f"sequence {n} alone")


@pytest.mark.parametrize(("cell", "options"), CELLS, ids=IDS)
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_steps_are_the_sequence(cell: str, options: dict[str, Any], pooling: str) -> None:
    model = make(cell, options, I=5, H=22, num_layers=2, pooling=pooling)
    model.set_preprocessing([0.5, -1, 2, 0, 1], [1, 2, 0.5, 1, 3], [0.0] * 5, [1.0] * 5)
    x = np.random.default_rng(1).standard_normal((9, 5), dtype=np.float32)
    state = model.make_state()
    for t in range(9):
        found = model.step(x[t], state)
        if pooling in ("last", "max"):  # the others add up in another order
            assert_bitwise(found, model.predict(x[None, : t + 1])[0], f"step {t}")
        else:
            assert_close(found, model.predict(x[None, : t + 1])[0], 1e-6, f"step {t}")


@pytest.mark.parametrize("cell", ["lstm", "gru", "peephole", "slstm", "elman"])
@pytest.mark.parametrize("N", [1, 2, 17, 130])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_threads_change_no_bit(cell: str, N: int, bidirectional: bool) -> None:
    model = make(cell, I=40, H=100, num_layers=2, bidirectional=bidirectional)
    x = np.random.default_rng(2).standard_normal((N, 60 if N < 3 else 9, 40), dtype=np.float32)
    one = model.predict(x, n_threads=1)
    for n_threads in (2, 3, 5):
        assert_bitwise(model.predict(x, n_threads=n_threads), one, f"{n_threads} threads")
    assert_bitwise(model.predict(x[:1], n_threads=1)[0], one[0], "alone")


def test_threads_that_take_units_of_many_sequences() -> None:
    model = make("lstm", I=24, H=256)
    x = np.random.default_rng(3).standard_normal((23, 7, 24), dtype=np.float32)
    one = model.predict(x, n_threads=1)
    for n_threads in (2, 3, 4):
        assert_bitwise(model.predict(x, n_threads=n_threads), one, f"{n_threads} threads")


def test_inputs_of_every_size() -> None:
    """Zeros, numbers beyond any scale, and NaN, which spreads as it does through float32 layers."""
    model = make(H=12)
    x = np.random.default_rng(3).standard_normal((1, 5, 3), dtype=np.float32)
    for factor in (0.0, 1e-38, 1e-30, 1e30):
        assert np.isfinite(model.predict(x * np.float32(factor))).all(), factor
    assert_bitwise(model.predict(x * np.float32(1e-38)), model.predict(x * np.float32(0)), "next to nothing")
    x[0, 2, 1] = np.nan
    found = model.predict(x)
    assert np.isfinite(found[0, :2]).all()
    assert np.isnan(found[0, 2:]).all()


ENGINE = """
import sys, numpy as np, lstmcore, pickle
models, x = pickle.load(open(sys.argv[1], "rb"))
outputs = [model.predict(v) for model, v in zip(models, x)]
weights = [model.get_weights() for model in models]
pickle.dump((lstmcore.build_info()["isa"], outputs, weights), open(sys.argv[2], "wb"))
"""


@pytest.mark.parametrize("isa", lstmcore.build_info()["isas_usable"])
def test_every_engine(tmp_path: Path, isa: str) -> None:
    cases = []
    for cell, options in CELLS:

        def make_it(seed: int, cell: str = cell, options: Any = options) -> tuple[Model, np.ndarray, None]:
            x = np.random.default_rng(seed).standard_normal((4, 5, 6), dtype=np.float32)
            return make(cell, options, I=6, H=26, num_layers=2, seed=seed), x, None

        cases.append(clear_of_ties(make_it))
    given, result = tmp_path / "given", tmp_path / "result"
    given.write_bytes(pickle.dumps(([case[0] for case in cases], [case[1] for case in cases])))
    environment = {**os.environ, "LSTMCORE_ISA": isa}
    subprocess.run([sys.executable, "-c", ENGINE, str(given), str(result)], env=environment, check=True, timeout=300)
    ran, outputs, weights = pickle.loads(result.read_bytes())
    assert ran == isa
    for (model, _, _, reference), found, kept in zip(cases, outputs, weights, strict=True):
        assert_close(found, reference, 1e-5, f"outputs of {model!r}")
        assert_bitwise(kept, model.get_weights(), "weights")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "options"), CELLS, ids=IDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_there_and_back(tmp_path: Path, cell: str, options: dict[str, Any], bidirectional: bool) -> None:
    path = tmp_path / "model"
    model = make(cell, options, H=14, num_layers=2, bidirectional=bidirectional, pooling="mean")
    model.set_preprocessing([0.5, -1, 2], [1, 2, 0.5], [0.0] * 5, [1.0] * 5)
    model.save(str(path), {"note": "x"})
    loaded = Model.load(str(path))
    assert loaded.config == model.config
    assert loaded.config["quantization"] == "dynamic_int8"
    assert_all_bitwise(loaded.parameters, model.parameters, "parameters")
    x = np.random.default_rng(4).standard_normal((3, 8, 3), dtype=np.float32)
    assert_bitwise(loaded.predict(x), model.predict(x), "predictions")
    tensors, metadata = model_bytes.read(path)
    assert metadata["format_version"] == "2"
    assert json.loads(metadata["model"])["quantization"] == "dynamic_int8"
    for name, value in model.parameters.items():
        if name[:3] in ("W_l", "R_l"):
            assert tensors[name].dtype == np.int8
            assert_bitwise(tensors[name] * tensors[f"{name}_scale"][:, None], value, name)
        else:
            assert_bitwise(tensors[name], value, name)
    again = pickle.loads(pickle.dumps(model))
    assert_bitwise(again.predict(x), model.predict(x), "pickled")
    assert again.config == model.config


def test_the_file_is_small(tmp_path: Path) -> None:
    model = make(I=64, H=128, outputs=2)
    model.save(str(tmp_path / "int8"))
    size = (tmp_path / "int8").stat().st_size
    assert size < 1.1 * (4 * 128 * (64 + 128) + 3 * 4 * 4 * 128)


def test_other_models_keep_their_format(tmp_path: Path) -> None:
    path = tmp_path / "model"
    Model({"recurrent": {"input_size": 2, "hidden_size": 3}}).save(str(path))
    _, metadata = model_bytes.read(path)
    assert metadata["format_version"] == "1"
    assert "quantization" not in json.loads(metadata["model"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "model"
    make(I=2, H=3, outputs=2, pooling="last").save(str(path))
    return path.read_bytes()


def with_numbers(data: bytes, name: str, change: Callable[[np.ndarray], None]) -> bytes:
    header, tensors = model_bytes.split(data)
    begin, end = header[name]["data_offsets"]
    values = np.frombuffer(tensors[begin:end], model_bytes.DTYPES[header[name]["dtype"]]).copy()
    change(values)
    return model_bytes.sealed(header, tensors[:begin] + values.tobytes() + tensors[end:])


def with_header(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    header, tensors = model_bytes.split(data)
    header = copy.deepcopy(header)
    change(header)
    return model_bytes.sealed(header, tensors)


def with_model(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    def edit(header: dict[str, Any]) -> None:
        model = json.loads(header["__metadata__"]["model"])
        change(model)
        header["__metadata__"]["model"] = json.dumps(model)

    return with_header(data, edit)


def put(index: int, value: float) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[index] = value

    return change


def rescale(values: np.ndarray) -> None:
    values[0] = np.nextafter(values[0], np.float32(1))


def small_row(values: np.ndarray) -> None:
    values[:2] = [1, -2]


def retype(header: dict[str, Any]) -> None:
    header["W_l0"]["dtype"] = "U8"


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an integer of -128": (lambda d: with_numbers(d, "W_l0", put(0, -128)), r"'W_l0': row 0: expected integers"),
    "a row that reaches no end": (lambda d: with_numbers(d, "W_l0", small_row), r"row 0.*reach one of both ends"),
    "a scale of more bits": (lambda d: with_numbers(d, "W_l0_scale", rescale), r"'W_l0': row 0.*17"),
    "a scale below 0": (lambda d: with_numbers(d, "R_l0_scale", put(2, -0.01)), r"'R_l0': row 2.*a scale above 0"),
    "a scale of 0": (lambda d: with_numbers(d, "R_l0_scale", put(2, 0)), r"'R_l0': row 2"),
    "a scale of NaN": (lambda d: with_numbers(d, "R_l0_scale", put(2, np.nan)), r"R_l0_scale.*not finite"),
    "a scale beyond float32": (lambda d: with_numbers(d, "R_l0_scale", put(2, 3e38)), r"'R_l0': row 2"),
    "bytes of another type": (lambda d: with_header(d, retype), r"'W_l0': expected dtype I8, found U8"),
    "the format of other models": (
        lambda d: with_header(d, lambda h: h["__metadata__"].update(format_version="1")),
        r"unknown entry 'quantization'",
    ),
    "no quantization": (lambda d: with_model(d, lambda m: m.pop("quantization")), r"'quantization' is missing"),
    "quantization none": (lambda d: with_model(d, lambda m: m.update(quantization="none")), r"found 'none'"),
    "unknown quantization": (lambda d: with_model(d, lambda m: m.update(quantization="int1")), r"one of 'none', 'dyn"),
    "a cell that cannot be": (
        lambda d: with_model(d, lambda m: m["recurrent"].update(cell="min_lstm")),
        r"works with the cells elman",
    ),
    "float64": (lambda d: with_model(d, lambda m: m["recurrent"].update(dtype="float64")), r"expected dtype float32"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_files(tmp_path: Path, small: bytes, case: str) -> None:
    change, message = HOSTILE[case]
    path = tmp_path / "model"
    path.write_bytes(change(small))
    with pytest.raises(ModelFileError, match=message):
        Model.load(str(path))


def test_damaged_files(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(small)
    Model.load(str(path))
    rng = np.random.default_rng(0)
    for length in [*range(0, len(small), 97), len(small) - 1]:
        path.write_bytes(small[:length])
        with pytest.raises(ModelFileError):
            Model.load(str(path))
    for at in rng.integers(0, len(small), 300):
        data = bytearray(small)
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data))
        with pytest.raises(ModelFileError):
            Model.load(str(path))


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    ({"dtype": "float64"}, r"quantization: dynamic_int8 computes in float32"),
    ({"cell": "min_gru"}, r"works with the cells elman, lstm, peephole, gru, slstm, got 'min_gru'"),
    ({"cell": "xlstm"}, r"got 'xlstm'"),
    ({"cell": "lstm1997"}, r"got 'lstm1997'"),
    ({"cell": "gru", "cell_options": {"reset_after": False}}, r"does not work with reset_after=false of cell 'gru'"),
    ({"cell": "lstm", "cell_options": {"layer_norm": True}}, r"does not work with layer_norm=true"),
    ({"cell": "lstm", "cell_options": {"proj_size": 2}}, r"does not work with proj_size=2"),
    ({"cell": "lstm", "cell_options": {"variant": "FGR"}}, r"does not work with variant='FGR'"),
    ({"zoneout_hidden": 0.1}, r"does not work with zoneout"),
    ({"zoneout_cell": 0.1}, r"does not work with zoneout"),
    ({"input_size": 2**17 + 1}, r"at most 131072 products, got a row of 131073"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_networks_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    config = {"recurrent": {"input_size": 2, "hidden_size": 3} | changes}
    Model(config)
    with pytest.raises(ValueError, match=message):
        Model({**config, "quantization": "dynamic_int8"})


def test_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model: it is quantised \(dynamic_int8\), which is for prediction only"):
        Trainer(make(pooling="last"), {"loss": "squared"})
    with pytest.raises(ValueError, match=r"quantization.*'none', 'dynamic_int8'"):
        Model({"recurrent": {"input_size": 2, "hidden_size": 3}, "quantization": "int8"})
    with pytest.raises(TypeError, match=r"quantization"):
        Model({"recurrent": {"input_size": 2, "hidden_size": 3}, "quantization": 8})


# --- estimators ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any, Any, Any]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    return train_test_split(X.reshape(-1, 8, 8), y, test_size=0.5, random_state=0, stratify=y)


@pytest.mark.parametrize(
    ("cell", "precision"),
    [("lstm", "float32"), ("lstm", "float64"), ("gru", "float32"), ("peephole", "float32"), ("slstm", "float32")],
)
def test_accuracy(digits: tuple[Any, Any, Any, Any], tmp_path: Path, cell: str, precision: str) -> None:
    X, X_test, y, y_test = digits
    bidirectional = cell in ("lstm", "gru")
    estimator = lstmcore.SequenceClassifier(
        cell, hidden_size=32, bidirectional=bidirectional, max_iter=15, learning_rate_init=1e-2, random_state=0,
        precision=precision, n_jobs=1,
    ).fit(X, y)  # fmt: skip
    quantised = estimator.quantize(scheme="dynamic_int8")
    assert isinstance(quantised, lstmcore.Model)
    assert "dynamic_int8" in repr(quantised)
    exact, found = estimator.predict_proba(X_test), quantised.predict_proba(X_test)
    assert np.abs(found - exact).max() > 1e-6  # it is rounded
    assert np.abs(found - exact).max() < 0.15
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.01
    before, after = (np.mean(model.predict(X_test) == y_test) for model in (estimator, quantised))
    assert before > 0.9
    assert abs(after - before) <= 0.005

    path = tmp_path / "model"
    quantised.save(path)
    for loaded in (lstmcore.load(path), lstmcore.load_model(path)):
        assert isinstance(loaded, lstmcore.Model)
        assert_bitwise(loaded.predict(X_test), quantised.predict(X_test), "labels")
        assert_bitwise(loaded.predict_proba(X_test), found, "probabilities")
    if not bidirectional:
        state = None
        for row in X_test[0]:
            outputs, state = quantised.step(row, state)
        assert_allclose(outputs, found[0], rtol=1e-6)


def test_numbers_keep_their_units() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 10, 2)) * [3, 0.1] + [100, -5]
    y = 1e4 + 500 * X[:, :, 0].mean(axis=1)
    estimator = lstmcore.SequenceRegressor("gru", hidden_size=12, max_iter=60, random_state=0).fit(X, y)
    quantised = estimator.quantize(scheme="dynamic_int8")
    assert quantised.predict(X).shape == (60,)
    spread = np.std(estimator.predict(X))
    assert np.abs(quantised.predict(X) - estimator.predict(X)).max() < 0.1 * spread


GIVEN = [
    {"X_calibration": np.zeros((2, 8, 8))},
    {"weights": "int4"},
    {"ranges": "max"},
    {"y": [0, 1]},
    {"finetune_epochs": 1},
    {"finetune_learning_rate": 0.1},
    {"random_state": 3},
]


@pytest.mark.parametrize("given", GIVEN, ids=[next(iter(given)) for given in GIVEN])
def test_arguments_of_other_schemes(given: dict[str, Any]) -> None:
    core = Model({"recurrent": {"input_size": 8, "hidden_size": 3}})
    with pytest.raises(ValueError, match=rf"so it takes no {next(iter(given))}\. Leave it out"):
        lstmcore.Model(core).quantize(scheme="dynamic_int8", **given)  # type: ignore[call-overload]


def test_estimators_without_it() -> None:
    rng = np.random.default_rng(0)
    forecaster = lstmcore.SequenceForecaster(window=4, horizon=1, hidden_size=3, max_iter=1, random_state=0)
    forecaster.fit(rng.standard_normal(40))
    tagger = lstmcore.SequenceTagger(hidden_size=3, max_iter=1, random_state=0)
    tagger.fit(rng.standard_normal((6, 4, 2)), rng.integers(0, 2, (6, 4)))
    for estimator in (forecaster, tagger):
        with pytest.raises(ValueError, match=r"'dynamic_int8' is there for SequenceClassifier.*Use 'int8'"):
            estimator.quantize(scheme="dynamic_int8")


def test_networks_that_cannot_be_quantised() -> None:
    core = Model({"recurrent": {"cell": "min_gru", "input_size": 8, "hidden_size": 3}})
    with pytest.raises(ValueError, match=r"quantize: .*works with the cells elman.*keep the model as it is"):
        lstmcore.Model(core).quantize(scheme="dynamic_int8")
    model = lstmcore.Model(Model({"recurrent": {"input_size": 8, "hidden_size": 3}}))
    quantised = model.quantize(scheme="dynamic_int8")
    for scheme in ("dynamic_int8", "int8", "float32"):
        with pytest.raises(ValueError, match=r"quantised already \(dynamic_int8\)"):
            quantised.quantize(np.zeros((2, 3, 8)) if scheme == "int8" else None, scheme)
    with pytest.raises(ValueError, match=r"scheme='int9'.*'dynamic_int8'"):
        model.quantize(scheme="int9")
    core = Model({"recurrent": {"input_size": 8, "hidden_size": 3, "dtype": "float64"}})
    core.set_weights(np.full(len(core.get_weights()), 1e300))
    with pytest.raises(ValueError, match=r"not finite \(in float32\)"):
        lstmcore.Model(core).quantize(scheme="dynamic_int8")
