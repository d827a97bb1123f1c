"""FrameForecaster, its network, and the moving digits."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from checking import assert_all_bitwise, assert_bitwise, assert_close
from lstmcore._frame_network import FrameNetwork, Frames, binary_cross_entropy, join_patches, split_patches
from reference import conv_lstm
from reference.activations import sigmoid

pytest.importorskip("sklearn")

CONFIG: dict[str, Any] = {
    "cell": "lstm",
    "channels": 2,
    "height": 6,
    "width": 8,
    "hidden_channels": 3,
    "kernel_size": 3,
    "num_layers": 2,
    "dilation": 1,
    "patch_size": 2,
    "horizon": 2,
    "loss": "squared",
    "dtype": "float64",
}
VARIANTS = (
    {},
    {"cell": "peephole", "loss": "cross_entropy"},
    {"cell": "gru", "patch_size": 1},
    {"num_layers": 1, "kernel_size": 5, "dilation": 2},
    {"num_layers": 3, "patch_size": 1, "height": 9, "width": 9, "channels": 1},
)
SMALL: dict[str, Any] = {"hidden_channels": 4, "num_layers": 1, "horizon": 2, "max_iter": 2, "random_state": 0}


def make(config: dict[str, Any], ragged: bool = True) -> tuple[FrameNetwork, Frames, np.ndarray]:
    network = FrameNetwork({**CONFIG, **config}, 3)
    rng = np.random.default_rng(1)
    for value in network.parameters.values():
        value[...] = rng.normal(scale=0.3, size=value.shape)
    network.constants["mean"][:] = rng.random(network.config["channels"])
    network.constants["scale"][:] = 1 + rng.random(network.config["channels"])
    shape = tuple(network.config[axis] for axis in ("channels", "height", "width"))
    items = [rng.random((length, *shape)) for length in ((3, 1, 2) if ragged else (2, 2, 2))]
    return network, Frames(items, plain=False), rng.random((3, 1 + network.config["horizon"], *shape))


def make_data(N: int = 6, T: int = 5, side: int = 8, seed: int = 0) -> np.ndarray:
    return lstmcore.datasets.make_moving_digits(N, T, side, 1, digit_size=4, random_state=seed)


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_outputs_equal_plain_numpy(variant: dict[str, Any], ragged: bool) -> None:
    """Encoder, copied states, forecaster without input, 1 × 1 convolution over all its layers (Shi et al., 2015)."""
    network, x, _ = make(variant, ragged)
    c, p = network.config, network.parameters
    mean, scale = (network.constants[name].reshape(-1, 1, 1) for name in ("mean", "scale"))
    frames = [split_patches((item - mean) * scale, c["patch_size"]) for item in x.items]
    encoder = {name.replace("_encoder", ""): value for name, value in p.items() if "_encoder" in name}
    _, state = conv_lstm.forward(c["cell"], encoder, frames, None, c["dilation"])
    layers, outputs = c["num_layers"], []
    below = [np.zeros((c["horizon"], 1, *frames[0].shape[2:]))] * len(frames)
    for k in range(layers):
        weights = {
            name.replace(f"_forecaster_l{k}", "_l0"): value
            for name, value in p.items()
            if name.endswith(f"_forecaster_l{k}")
        }
        weights.setdefault("W_l0", np.zeros((len(weights["b_l0"]), 1, c["kernel_size"], c["kernel_size"])))
        start = {name: value[k : k + 1] for name, value in state.items()}
        below, _ = conv_lstm.forward(c["cell"], weights, below, start, c["dilation"])
        outputs.append(np.stack(below))
    scores = np.einsum("kf,ntfyx->ntkyx", p["head_W"], np.concatenate(outputs, axis=2))
    scores = join_patches(scores + p["head_b"].reshape(-1, 1, 1), c["patch_size"])
    expected = sigmoid(scores) if c["loss"] == "cross_entropy" else scores / scale + mean
    assert_close(network.outputs(x), expected, 1e-11, "outputs")


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_equal_finite_differences(variant: dict[str, Any]) -> None:
    network, x, y = make(variant)
    weights = np.array([1.0, 0.0, 2.5])
    loss, share, gradients = network.loss_and_gradients(x, y, weights, 0)
    again, _, nothing = network.loss_and_gradients(x, y, weights, 0, training=False)
    assert share == 3.5
    assert (loss, nothing) == (pytest.approx(again, rel=1e-12), {})
    assert {name: value.shape for name, value in network.parameters.items()} == FrameNetwork.shapes(network.config)[0]
    assert set(gradients) == set(network.parameters)
    rng = np.random.default_rng(2)
    for name, value in network.parameters.items():
        direction, kept, step = rng.normal(size=value.shape), value.copy(), 1e-5
        slopes = []
        for h in (step, 2 * step):
            losses = []
            for sign in (1, -1):
                value[...] = kept + sign * h * direction
                losses.append(network.loss_and_gradients(x, y, weights, 0, training=False)[0] / share)
            slopes.append((losses[0] - losses[1]) / (2 * h))
        value[...] = kept
        size = np.sqrt((gradients[name] ** 2).sum() * (direction**2).sum())
        assert abs((4 * slopes[0] - slopes[1]) / 3 - (gradients[name] * direction).sum()) <= 1e-6 * size, name


def test_loss_is_a_mean_over_frames_and_pixels() -> None:
    network, x, y = make({})
    predicted = network.outputs(x)
    squares = (((predicted - y[:, 1:]) * network.constants["scale"].reshape(-1, 1, 1)) ** 2).mean(axis=(1, 2, 3, 4))
    assert network.loss_and_gradients(x, y, None, 0, training=False)[0] == pytest.approx(squares.sum(), rel=1e-12)
    network, x, y = make({"loss": "cross_entropy"})
    p = network.outputs(x)
    entropy = -(y[:, 1:] * np.log(p) + (1 - y[:, 1:]) * np.log(1 - p)).mean(axis=(1, 2, 3, 4))
    loss, share, _ = network.loss_and_gradients(x, y, np.array([2.0, 1.0, 0.5]), 0, training=False)
    assert (loss, share) == (pytest.approx(entropy @ [2.0, 1.0, 0.5], rel=1e-12), 3.5)


def test_cross_entropy_of_large_scores() -> None:
    scores = np.array([[1000.0, -1000.0, 800.0]])
    loss, _, slopes = binary_cross_entropy(scores, np.array([[1.0, 0.0, 0.5]]), None)
    assert loss == pytest.approx(400 / 3)
    assert_close(slopes, np.array([[0.0, 0.0, 0.5 / 3]]), 1e-15, "slopes")


def test_patches() -> None:
    frames = np.random.default_rng(0).random((2, 3, 2, 6, 9))
    cut = split_patches(frames, 3)
    assert cut.shape == (2, 3, 18, 2, 3)
    assert_bitwise(cut[:, :, 9 + 3 * 1 + 2, 1, 2], frames[:, :, 1, 3 + 1, 6 + 2], "one pixel of all")
    assert_bitwise(join_patches(cut, 3), frames, "back")


def test_threads_do_not_change_results() -> None:
    results = []
    for threads in (1, 2, None):
        network, x, y = make({"height": 18, "width": 20, "dtype": "float32"}, ragged=False)
        network.n_threads = threads
        assert network.n_threads == threads
        x = Frames(np.stack(list(x.items)).astype("float32"), plain=False)
        results.append(network.loss_and_gradients(x, y, None, 0)[2] | {"outputs": network.outputs(x)})
    assert_all_bitwise(results[1], results[0], "2 threads")
    assert_all_bitwise(results[2], results[0], "default")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "slstm"}, "cell"),
        ({"loss": "absolute"}, "loss"),
        ({"dtype": "float16"}, "dtype"),
        ({"kernel_size": 2}, "kernel_size"),
        ({"patch_size": 4}, "patches of 4"),
        ({"horizon": 0}, "horizon"),
        ({"channels": True}, "channels"),
        ({"width": 8.0}, "width"),
        ({"num_layers": 5000}, "num_layers"),
        ({"height": 10**6, "width": 10**6, "patch_size": 1}, "too large"),
        ({"more": 1}, "expected"),
    ],
)
def test_hostile_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameNetwork.shapes({**CONFIG, **change})


# --- the estimator ---------------------------------------------------------------------------------------------------


def test_learns_and_beats_persistence() -> None:
    X, X_test = (lstmcore.datasets.make_moving_digits(n, 7, 16, 1, digit_size=6, random_state=n) for n in (200, 50))
    forecaster = lstmcore.FrameForecaster(
        hidden_channels=12, num_layers=1, horizon=3, max_iter=25, learning_rate_init=1e-2, random_state=0
    )
    forecaster.fit(X)
    assert forecaster.score(X_test) > 0.5
    assert forecaster.loss_curve_[-1] < 0.5 * forecaster.loss_curve_[0]
    last, following = X_test[:, 3:4].astype(float), X_test[:, 4:].astype(float)
    error = ((forecaster.predict(X_test[:, :4]) - following) ** 2).mean()
    assert forecaster.score(X_test) == pytest.approx(1 - error / ((last - following) ** 2).mean(), rel=1e-6)


def test_targets_come_apart_or_as_the_end_of_X() -> None:
    X = make_data()
    whole = lstmcore.FrameForecaster(**SMALL).fit(X)
    apart = lstmcore.FrameForecaster(**SMALL).fit(X[:, :3], X[:, 3:])
    listed = lstmcore.FrameForecaster(**SMALL).fit(list(X))
    with_channels = lstmcore.FrameForecaster(**SMALL).fit(X[:, :, None])
    for other in (apart, listed, with_channels):
        assert_all_bitwise(other.model_.parameters, whole.model_.parameters, "weights")
    assert whole.score(X) == apart.score(X[:, :3], X[:, 3:]) == listed.score(list(X))
    plain = whole.predict(X[:, :3])
    assert plain.shape == (6, 2, 8, 8)
    assert plain.dtype == np.float64
    assert_bitwise(with_channels.predict(X[:, :3, None]), plain[:, :, None], "with channels")
    assert_bitwise(whole.predict([x[:3] for x in X]), plain, "from a list")
    assert whole.n_features_in_ == 64


def test_sequences_of_different_lengths() -> None:
    X = make_data()
    forecaster = lstmcore.FrameForecaster(**SMALL).fit([x[: 3 + n % 3] for n, x in enumerate(X)])
    together = forecaster.predict([X[0], X[1][:2], X[2][:1]])
    alone = np.concatenate([forecaster.predict(x[None]) for x in (X[0], X[1][:2], X[2][:1])])
    assert_bitwise(together, alone, "forecasts")


def test_weights_count_as_repeats_and_zeros_as_absent() -> None:
    X = make_data(8)
    parameters = {**SMALL, "batch_size": 100, "shuffle": False, "precision": "float64"}
    weights = np.array([1.0, 1, 2, 0, 1, 1, 1, 0])
    weighted = lstmcore.FrameForecaster(**parameters, standardize=False).fit(X, sample_weight=weights)
    repeated = lstmcore.FrameForecaster(**parameters, standardize=False).fit(X[[0, 1, 2, 2, 4, 5, 6]])
    for name, value in repeated.model_.parameters.items():
        assert_close(weighted.model_.parameters[name], value, 1e-8, name)
    kept = X[[0, 1, 2, 4, 5, 6]][:, :3].astype(np.float64)
    scaled = lstmcore.FrameForecaster(**parameters).fit(X, sample_weight=weights).model_.network.constants
    assert scaled["mean"] == pytest.approx(kept.mean(), rel=1e-12)
    assert scaled["scale"] == pytest.approx(1 / kept.std(), rel=1e-12)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("cell", ["lstm", "peephole", "gru"])
def test_files_and_pickles(loss: str, cell: str, tmp_path: Path) -> None:
    X = make_data()
    forecaster = lstmcore.FrameForecaster(**SMALL, loss=loss, cell=cell, patch_size=2).fit(X)
    path = tmp_path / "frames.safetensors"
    forecaster.save(path)
    loaded = lstmcore.load(path)
    assert loaded.get_params() == forecaster.get_params()
    for other in (loaded, pickle.loads(pickle.dumps(forecaster))):
        assert_bitwise(other.predict(X), forecaster.predict(X), "forecasts")
        assert other.score(X) == forecaster.score(X)
    assert_bitwise(lstmcore.load_model(path).predict(X), forecaster.predict(X), "the model's")


def test_partial_fit_warm_start_early_stopping_and_eval_set() -> None:
    X = make_data(12)
    steps = lstmcore.FrameForecaster(**SMALL)
    for _ in range(2):
        steps.partial_fit(X)
    assert steps.n_iter_ == 2
    resumed = lstmcore.FrameForecaster(**SMALL, warm_start=True).fit(X).fit(X)
    assert resumed.n_iter_ == 4
    with pytest.raises(ValueError, match="hidden_channels"):
        resumed.set_params(hidden_channels=5).fit(X)
    seen: list[Any] = []
    evaluated = lstmcore.FrameForecaster(**SMALL).fit(X[:8], eval_set=(X[8:], None), callbacks=seen.append)
    assert evaluated.validation_scores_[-1] == pytest.approx(evaluated.score(X[8:]), rel=1e-9)
    assert len(seen) == 2
    stopped = lstmcore.FrameForecaster(**SMALL, early_stopping=True, validation_fraction=0.25).fit(X)
    assert len(stopped.validation_scores_) == 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cell": "slstm"}, "'cell'"),
        ({"loss": "huber"}, "'loss'"),
        ({"kernel_size": 4}, "'kernel_size'"),
        ({"hidden_channels": 0}, "'hidden_channels'"),
        ({"horizon": 1.5}, "'horizon'"),
        ({"patch_size": 0}, "'patch_size'"),
        ({"patch_size": 3}, "patches of patch_size=3"),
        ({"horizon": 5}, "at least 6 are needed"),
    ],
)
def test_refused_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lstmcore.FrameForecaster(**{**SMALL, **parameters}).fit(make_data())


def test_refused_data() -> None:
    X = make_data()
    forecaster = lstmcore.FrameForecaster(**SMALL)
    bad = X.copy()
    bad[2, 1, 3, 4] = np.nan
    for data, error, message in (
        (bad, ValueError, r"X: element \(2, 1, 3, 4\) is NaN"),
        (list(bad), ValueError, r"X\[2\]: element \(1, 3, 4\)"),
        (X[0, 0], ValueError, r"X: expected \(N, T, Y, X\)"),
        (X[:0], ValueError, "X: expected"),
        ([], ValueError, "X: an empty list"),
        ([X[0], X[1][:, :5]], ValueError, r"X\[1\]: frames of shape"),
        ([X[0], "no"], TypeError, r"X\[1\]: expected arrays of frames, got 'no'"),
        (X.astype(complex), TypeError, "X: expected real numbers"),
        (None, TypeError, "X: expected arrays of frames, got None"),
        (1e300 * X.astype(float), ValueError, "NaN or infinite"),
    ):
        with pytest.raises(error, match=message):
            forecaster.fit(data)
    with pytest.raises(ValueError, match=r"y: sequence 0 has shape \(3, 1, 8, 8\)"):
        forecaster.fit(X[:, :2], X[:, 2:])
    with pytest.raises(ValueError, match="y"):
        forecaster.fit(X[:, :3], X[:4, 3:])
    with pytest.raises(ValueError, match=r"needs frames in \[0, 1\]; sequence 1"):
        lstmcore.FrameForecaster(**SMALL, loss="cross_entropy").fit(X + np.eye(6)[1].reshape(-1, 1, 1, 1))
    forecaster.fit(X)
    with pytest.raises(ValueError, match="features"):
        forecaster.predict(X[:, :, :4])
    with pytest.raises(ValueError, match="frames are"):
        forecaster.predict(X.reshape(6, 5, 4, 16))


# --- moving digits ---------------------------------------------------------------------------------------------------


def test_moving_digits() -> None:
    X = lstmcore.datasets.make_moving_digits(20, 30, 32, 1, random_state=5)
    assert (X.shape, X.dtype) == ((20, 30, 32, 32), np.float32)
    assert X.min() == 0.0
    assert 0.8 < X.max() <= 1.0
    assert_bitwise(lstmcore.datasets.make_moving_digits(20, 30, 32, 1, random_state=5), X, "again")
    # The digit is whole in every frame, and moves by 0.05 to 0.1 of 22 pixels a frame, but for rounding and bounces.
    ink = X.sum(axis=(2, 3))
    assert_close(ink, np.repeat(ink[:, :1], 30, axis=1), 1e-6, "ink")
    ys, xs = np.mgrid[:32, :32]
    middle = np.stack([(X * axis).sum(axis=(2, 3)) / ink for axis in (ys, xs)], axis=-1)
    moved = np.sqrt((np.diff(middle, axis=1) ** 2).sum(axis=-1))
    assert moved.max() < 0.1 * 22 + 1.5
    assert 0.05 * 22 - 0.5 < np.median(moved) < 0.1 * 22 + 0.5
    path = np.sqrt(((middle[:, -1] - middle[:, 0]) ** 2).sum(axis=-1))
    assert path.max() < 22 * np.sqrt(2) + 2


def test_moving_digits_of_the_two_splits_differ() -> None:
    parts = [lstmcore.datasets.make_moving_digits(5, 2, split=split, random_state=1) for split in ("train", "test")]
    assert parts[0].shape == (5, 2, 64, 64)
    assert (parts[0] != parts[1]).any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_sequences": 0},
        {"n_frames": 1.5},
        {"size": 4},
        {"n_digits": True},
        {"digit_size": 64},
        {"digit_size": 2},
        {"split": "all"},
    ],
)
def test_refused_moving_digits(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        lstmcore.datasets.make_moving_digits(**arguments)
