"""Float networks made integers: values, ranges, limits, and what is refused."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

import lstmcore
from lstmcore import QuantizedModel
from lstmcore.edge.integers import integer_matrix
from quantised import CELLS, TOPS, H, I, each_cell, each_top, flat, make_data, make_model, reach, rounded_model


def scores(quantised: QuantizedModel, X: Any) -> np.ndarray:
    """What the device gives, as numbers."""
    return quantised.predict_raw(X) * 2.0**-16


def float_scores(model: Any, X: Any) -> np.ndarray:
    """Logits, or targets on the scale of the scores, of the float network."""
    from lstmcore.edge.calibration import observe
    from lstmcore.edge.network import read_edge_network

    return observe(read_edge_network(model), list(X)).scores


# ---- values


@each_top
@each_cell
def test_integers_compute_the_rounded_network(cell: str, options: dict[str, Any], top: str) -> None:
    """Against the float network with the very weights that the integers stand for, so that only activations, tables and
    states are rounded: a wrong gate, sign, scale or state is a hundred times as far away."""
    if cell == "slstm" and "learn_initial_state" in TOPS[top]:
        pytest.skip("a test of its own")
    model = make_model(cell, options, **TOPS[top])
    X = make_data()
    unbounded = "relu" in options.values()  # whose range is cut where it rounds best
    bounds = (("int8x16", 1.5e-3, 8e-3), ("int8", 0.03, 0.15)) if not unbounded else (("int8x16", 8e-3, 0.02),)
    for scheme, rms, largest in bounds:
        quantised = model.quantize(X, scheme)
        expected = float_scores(rounded_model(model, quantised.program, X), X)
        error = scores(quantised, X) - expected
        spread = max(float(np.std(expected)), 0.5)
        assert np.sqrt(np.mean(error**2)) <= rms * spread, scheme
        assert np.abs(error).max() <= largest * max(spread, 1.0), scheme


@each_cell
def test_weights_of_4_bits(cell: str, options: dict[str, Any]) -> None:
    model, X = make_model(cell, options), make_data()
    quantised = model.quantize(X, "int8x16", weights="int4")
    assert np.abs(quantised.program.layers[0].matrices[0].weights).max() == 7
    expected = float_scores(rounded_model(model, quantised.program, X), X)
    error = scores(quantised, X) - expected
    assert np.sqrt(np.mean(error**2)) <= 1.5e-3 * max(float(np.std(expected)), 0.5)


@each_top
@each_cell
def test_float32_computes_the_network(cell: str, options: dict[str, Any], top: str) -> None:
    model = make_model(cell, options, **TOPS[top])
    X = make_data()
    for given in (None, X):
        quantised = model.quantize(given, "float32")
        expected = flat(model.outputs(X))
        np.testing.assert_allclose(flat(quantised.outputs(X)), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_learnt_initial_state_of_slstm() -> None:
    X = make_data()
    model = make_model("slstm", learn_initial_state=True)
    start = model.parameters
    model.core.set_parameters({"c0_l0": 0.5 * start["n0_l0"] * np.linspace(-1, 1, H)})
    quantised = model.quantize(X, "int8x16")
    expected = float_scores(rounded_model(model, quantised.program, X), X)
    assert np.abs(scores(quantised, X) - expected).max() < 8e-3
    without = make_model("slstm")
    without.core.set_parameters({k: v for k, v in model.parameters.items() if k in without.parameters})
    assert np.abs(float_scores(without, X) - expected).max() > 0.05  # the state matters here
    model.core.set_parameters({"n0_l0": np.full(H, -0.5)})
    with pytest.raises(ValueError, match=r"learnt initial state has n .* learn_initial_state=False"):
        model.quantize(X)


def test_learnt_initial_h_beyond_one() -> None:
    X = make_data()
    for cell in ("lstm", "elman"):
        model = make_model(cell, learn_initial_state=True)
        model.core.set_parameters({"h0_l0": np.linspace(-2.0, 2.0, H)})
        quantised = model.quantize(X, "int8x16")
        expected = float_scores(rounded_model(model, quantised.program, X), X)
        assert np.abs(scores(quantised, X) - expected).max() < 8e-3, cell
    model = make_model("gru", learn_initial_state=True)
    model.core.set_parameters({"h0_l0": np.linspace(-2.0, 2.0, H)})
    with pytest.raises(ValueError, match=r"initial h reaches 2, but integers end at 1"):
        model.quantize(X)


def test_regression_in_units_of_y() -> None:
    X = make_data()
    model = make_model("gru", activation="identity", outputs=2)
    quantised = model.quantize(X, "int8x16")
    np.testing.assert_allclose(quantised.predict(X), model.predict(X), atol=0.06)  # scores are 4 times smaller
    expected = scores(quantised, X) * 4.0 + np.array([1.0, 2.0])
    np.testing.assert_array_equal(quantised.predict(X), expected)
    with pytest.raises(AttributeError, match="numbers, not classes"):
        quantised.predict_proba(X)


def test_classes_and_probabilities() -> None:
    X, model = make_data(), make_model("lstm")
    quantised = model.quantize(X)
    raw = quantised.predict_raw(X)
    assert raw.dtype == np.int32
    assert raw.shape == (len(X), 3)
    probabilities = quantised.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(quantised.predict(X), np.array(["low", "middle", "high"])[raw.argmax(axis=1)])
    assert quantised.score(X, quantised.predict(X)) == 1.0
    assert quantised.score(X, model.predict(X)) == np.mean(quantised.predict(X) == model.predict(X))


def test_threads_and_form_of_the_data_change_nothing() -> None:
    X, model = make_data(count=30), make_model("gru")
    quantised = model.quantize(X)
    expected = quantised.predict_raw(X)
    for n_jobs in (1, 2, 3):
        np.testing.assert_array_equal(quantised.predict_raw(X, n_jobs=n_jobs), expected)
    padded = np.full((len(X), 30, I), np.nan)
    for to, x in zip(padded, X, strict=True):
        to[: len(x)] = x
    np.testing.assert_array_equal(quantised.predict_raw(padded), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(quantised)).predict_raw(X), expected)


# ---- streams


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_steps_give_what_sequences_give(pooling: str) -> None:
    X, model = make_data(), make_model("lstm", pooling=pooling, num_layers=2)
    quantised = model.quantize(X)
    state = None
    for k, x in enumerate(X[1]):
        output, state = quantised.step(x, state)
        np.testing.assert_array_equal(output, quantised.outputs([X[1][: k + 1]])[0])
    state.reset()
    branch = state.copy()
    again, _ = quantised.step(X[2][0], state)
    np.testing.assert_array_equal(again, quantised.outputs([X[2][:1]])[0])
    np.testing.assert_array_equal(quantised.step(X[2][0], branch)[0], again)
    many, streams = quantised.step(np.stack([X[1][0], X[2][0]]))
    assert many.shape == (2, 3)
    assert len(streams) == 2
    np.testing.assert_array_equal(many[1], again)


def test_step_refuses() -> None:
    X = make_data()
    quantised = make_model("lstm").quantize(X)
    _, state = quantised.step(X[0][0])
    for bad, message in (
        (np.zeros(I + 1), "Expected"),
        (np.zeros((2, 2, I)), "Expected"),
        (np.full(I, np.nan), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            quantised.step(bad)
    with pytest.raises(ValueError, match="1 stream"):
        quantised.step(np.zeros((2, I)), state)
    with pytest.raises(TypeError, match="type int"):
        quantised.step(X[0][0], 3)
    with pytest.raises(ValueError, match="another model"):
        make_model("lstm").quantize(X).step(X[0][0], state)
    with pytest.raises(ValueError, match="bidirectional"):
        make_model("lstm", bidirectional=True).quantize(X).step(X[0][0])


# ---- no sum overflows


EXTREMES = {
    "tiny": 1e-30,
    "small": 1e-9,
    "large": 30.0,
    "zero": 0.0,
}


@pytest.mark.parametrize("scheme", ["int8", "int8x16"])
@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("factor", EXTREMES.values(), ids=EXTREMES)
def test_sums_fit_whatever_the_input(factor: float, weights: str, scheme: str) -> None:
    X = make_data()
    for cell, options in CELLS:
        model = make_model(cell, options, num_layers=2, head_sizes=[4])
        model.core.set_parameters({k: factor * v for k, v in model.parameters.items() if k.startswith(("W_", "R_"))})
        if factor > 1 and "relu" in options.values():
            with pytest.raises(ValueError, match=r"(outputs|sums) (can )?reach"):
                model.quantize(X, scheme, weights=weights)
            continue
        quantised = model.quantize(X, scheme, weights=weights)
        assert max(reach(quantised.program)) < 2**31
        for matrix in (m for layer in quantised.program.layers for m in layer.matrices):
            assert matrix.multiplier is not None
            assert matrix.multiplier.min() >= 0
            assert matrix.multiplier.max() < 2**30
        assert np.isfinite(quantised.outputs([np.full((50, I), sign * 1e30) for sign in (-1.0, 1.0)])).all()


def test_rows_with_a_large_bias_keep_it() -> None:
    """Weights many orders of magnitude below the bias: the row's scale has to be the bias'."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 12)) * 10.0 ** np.array([0, -3, -9, -30, -300, 0, -6, 0])[:, None]
    rows[7] = 0.0
    bias = np.array([1.0, -20.0, 3.0, 0.5, -0.25, 500.0, 0.0, -7.0])
    for limit in (127, 32767):
        matrix = integer_matrix(rows / limit, bias, limit, 12, "int8", "rows")
        total = np.abs(matrix.weights.astype(np.int64)).sum(axis=1) * limit + np.abs(matrix.bias.astype(np.int64))
        assert (total << matrix.shift).max() < 2**31
        a = rng.integers(-limit, limit + 1, size=(12, 50))
        sums = matrix.weights.astype(np.int64) @ a + matrix.bias[:, None]
        found = ((sums << matrix.shift) * matrix.multiplier[:, None].astype(np.int64) + 2**31 >> 32) / 4096
        expected = rows / limit @ a + bias[:, None]
        # Half a unit of rounding, half a unit for the multiplier, 127 steps of the weights.
        # Half a unit of rounding, half a unit for the multiplier, 127 steps of the weights, 31 bits beside a bias.
        allowed = 1 / 4096 + 0.5 / 127 * np.abs(rows).max(axis=1) * 12
        allowed += np.abs(bias) * limit * 12 * 2.0 ** (matrix.shift - 31)
        assert (np.abs(found - expected) <= allowed[:, None]).all()


@pytest.mark.parametrize("scheme", ["int8", "int8x16"])
def test_weights_beyond_every_range(scheme: str) -> None:
    model = make_model("lstm")
    model.core.set_parameters({"W_l0": np.full_like(model.parameters["W_l0"], 1e30)})
    with pytest.raises(ValueError, match=r"layer 0, gates: its sums can reach .* scheme='float32'"):
        model.quantize(make_data(), scheme)
    model.core.set_parameters({"W_l0": np.full_like(model.parameters["W_l0"], np.inf)})
    with pytest.raises(ValueError, match="'W_l0' are not finite"):
        model.quantize(make_data(), scheme)


def test_many_columns_lower_the_limit_of_16_bits() -> None:
    model = make_model("elman", hidden_size=700)
    signs = np.sign(model.parameters["R_l0"])
    # All as large as the largest, 127, and the input's no larger.
    model.core.set_parameters({"R_l0": 0.02 * signs, "W_l0": 0.05 * model.parameters["W_l0"]})
    X = make_data(count=6)
    quantised = model.quantize(X, "int8x16")
    assert 128 <= quantised.program.input_limit < 32767
    assert max(reach(quantised.program)) < 2**31
    expected = float_scores(rounded_model(model, quantised.program, X), X)
    assert np.abs(scores(quantised, X) - expected).max() < 5e-3


# ---- calibration


def test_ranges() -> None:
    X, model = make_data(), make_model("elman", {"nonlinearity": "relu"})
    X[3][0] *= 50.0
    widest = {}
    for ranges in ("max", "percentile", "mse"):
        report = model.quantize(X, "int8", ranges=ranges).report_
        widest[ranges] = report.layers[1].covered
        assert report.layers[1].covered <= report.layers[1].largest * 1.01
    assert widest["percentile"] < widest["max"]
    assert widest["mse"] <= widest["max"] * 1.01
    assert model.quantize(X, "int8", ranges="max").report_.layers[1].saturated == 0


def test_constant_features_and_single_steps() -> None:
    model, X = make_model("gru"), make_data()
    for x in X:
        x[:, 2] = 3.0
        x[:, 4] = -1e-20
    quantised = model.quantize(X, "int8x16")
    rounded = rounded_model(model, quantised.program, X)
    expected = float_scores(rounded, X)
    assert np.abs(scores(quantised, X) - expected).max() < 8e-3
    # A constant feature that moves after all: by a standard deviation of the training data it is still followed.
    for x in X:
        x[:, 2] += 2.0
    moved = float_scores(rounded, X)
    assert np.abs(moved - expected).max() > 0.03
    assert np.abs(scores(quantised, X) - moved).max() < 8e-3
    single = model.quantize([np.ones((1, I))])
    assert single.predict_raw([np.ones((1, I))]).shape == (1, 3)


def test_calibration_data_that_cannot_be_used() -> None:
    model = make_model("lstm")
    for bad, message in (
        ([], "X_calibration"),
        (np.zeros((0, 4, I)), "X_calibration"),
        (np.zeros((3, 4, I + 1)), "6 features, but the model is expecting 5"),
        ([np.full((3, I), np.nan)], "no real step"),
        ([np.full((3, I), np.inf)], "infinity"),
        (None, "scheme='int8' needs X_calibration"),
        ("text", "X_calibration"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            model.quantize(bad)
    huge = make_data()
    huge[0][0, 0] = 3e38
    huge[0][0, 1] = -3e38
    with pytest.raises(ValueError, match="sums can reach"):
        model.quantize(huge, ranges="max")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "int2"}, "scheme='int2'. Expected one of 'int8', 'int8x16', 'float32'"),
        ({"weights": "int3"}, "weights='int3'"),
        ({"ranges": "minmax"}, "ranges='minmax'"),
        ({"finetune_epochs": -1}, "finetune_epochs=-1"),
        ({"finetune_epochs": True}, "finetune_epochs=True"),
        ({"finetune_epochs": 1}, "needs y"),
        ({"finetune_learning_rate": 0.0}, "finetune_learning_rate=0.0"),
        ({"random_state": -1}, "random_state=-1"),
        ({"scheme": "float32", "weights": "int4"}, "has no integers"),
        ({"weights": "sparse"}, r"at most \d+% .*BlockPruning"),
        ({"y": np.zeros(3)}, "y"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model("lstm").quantize(make_data(), **arguments)


@pytest.mark.parametrize(
    ("cell", "options", "more", "message"),
    [
        ("min_gru", {}, {}, "cell='min_gru' does not run .* Train one of elman"),
        ("mlstm", {}, {}, "cell='mlstm'"),
        ("indrnn", {}, {}, "cell='indrnn'"),
        ("lstm1997", {}, {}, "cell='lstm1997'"),
        ("lstm", {"variant": "NOG"}, {}, "variant='NOG' of lstm"),
        ("peephole", {"variant": "FGR"}, {}, "variant='FGR' of peephole"),
        ("lstm", {"layer_norm": True}, {}, "layer_norm=True"),
        ("lstm", {"proj_size": 2}, {}, "proj_size=2"),
        ("gru", {}, {"zoneout_hidden": 0.1}, "zoneout_hidden=0.1, which changes predictions"),
        ("gru", {}, {"reverse": True}, "reverse=True"),
        ("gru", {}, {"pooling": "attention"}, "pooling='attention'"),
    ],
)
def test_networks_that_are_refused(cell: str, options: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(cell, options, **more).quantize(make_data())


# ---- the report


@pytest.mark.parametrize("scheme", ["int8", "int8x16", "float32"])
def test_report_says_what_can_be_recomputed(scheme: str) -> None:
    X = make_data()
    model = make_model("lstm", num_layers=2, bidirectional=True, pooling="mean", head_sizes=[7])
    quantised = model.quantize(X, scheme, y=model.predict(X))
    report = quantised.report_
    assert [layer.name for layer in report] == ["input", "layer 0", "layer 1", "head layer 0", "head"]
    assert report.n_sequences == len(X)
    assert report.n_steps == sum(map(len, X))
    assert report.agreement == np.mean(quantised.predict(X) == model.predict(X)) == report.score
    assert report.float_score == 1.0
    head = report.layers[-1]
    unit = 1.0 if scheme == "float32" else 2.0**-16
    error = quantised.predict_raw(X) * unit - float_scores(model, X)
    assert math.isclose(head.output_error_max, np.abs(error).max(), rel_tol=1e-9)
    assert math.isclose(head.output_error_rms, np.sqrt(np.mean(error**2)), rel_tol=1e-9)
    assert math.isclose(head.largest, np.abs(float_scores(model, X)).max(), rel_tol=1e-9)
    x = np.concatenate(X).astype(np.float64)
    program = quantised.program
    if scheme != "float32":
        q = np.clip(np.rint((x - program.centre) * program.scale), -program.input_limit, program.input_limit)
        error = (q / program.scale - (x - program.centre)) / (1.0 + np.arange(I))
        assert math.isclose(report.layers[0].output_error_rms, np.sqrt(np.mean(error**2)), rel_tol=1e-3)
        cut = np.abs((x - program.centre) * program.scale.astype(np.float64)) > program.input_limit + 0.5
        assert report.layers[0].saturated == cut.sum()
        assert 0.0005 < report.layers[1].weight_error_rms < 0.004  # of 127 steps: 1/127/√12 where spread evenly
        assert 0 < report.layers[1].output_error_max < 0.1
    else:
        assert report.layers[1].weight_error_max < 1e-7
        assert report.layers[1].output_error_max < 1e-5
    assert report.layers[0].values == x.size
    assert report.layers[2].values == len(x) * 2 * H
    matrices = [m for layer in program.layers[:2] for m in layer.matrices]
    count = sum(m.weights.nbytes + 4 * len(m.bias) * (1 if scheme == "float32" else 2) for m in matrices)
    assert report.layers[1].weight_bytes == count
    assert "layer 1" in str(report)
    assert "agreement" in str(report)


def test_public_names() -> None:
    assert lstmcore.QuantizedModel is QuantizedModel
    assert "int8x16" in repr(make_model("gru").quantize(make_data(), "int8x16"))
