"""xLSTM: its blocks against the NumPy reference and finite differences; the forms of the matrix memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import lstmcore
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from reference import xlstm


@dataclass(frozen=True)
class Setting:
    N: int
    T: int
    I: int
    H: int
    options: dict = field(default_factory=dict)
    num_layers: int = 1
    bidirectional: bool = False
    ragged: bool = False
    initial: bool = False

    @property
    def label(self) -> str:
        text = "-".join(f"{name}={value}" for name, value in self.options.items())
        extras = f"{'-D2' * self.bidirectional}{'-ragged' * self.ragged}{'-h0' * self.initial}"
        return f"{text}-N{self.N}T{self.T}I{self.I}H{self.H}L{self.num_layers}{extras}"

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1


SMALL = (
    Setting(1, 1, 1, 2, {"blocks": "m"}, initial=True),
    Setting(2, 5, 3, 3, {"blocks": "m", "chunk_size": 2}, ragged=True, initial=True),
    Setting(2, 6, 2, 4, {"blocks": "m", "heads": 2}, ragged=True, initial=True),
    Setting(1, 1, 1, 3, {"blocks": "s"}, initial=True),
    Setting(2, 5, 2, 4, {"blocks": "s", "heads": 2}, ragged=True, initial=True),
    Setting(2, 5, 2, 3, {"blocks": "s", "forget_activation": "exponential"}, initial=True),
    Setting(2, 5, 3, 4, {"blocks": "sm", "heads": 2}, ragged=True, initial=True),
    Setting(2, 4, 2, 3, {"blocks": "ms", "forget_activation": "exponential"}, bidirectional=True, ragged=True),
    Setting(2, 5, 2, 2, {"blocks": "m"}, num_layers=3, initial=True),
)
LARGE = (
    Setting(3, 20, 5, 17, {"blocks": "ms"}, ragged=True, initial=True),
    Setting(2, 150, 4, 16, {"blocks": "mmsm", "heads": 4}, ragged=True),
    Setting(5, 40, 3, 24, {"blocks": "ms", "heads": 3, "chunk_size": 7}, bidirectional=True, ragged=True, initial=True),
    Setting(1, 9, 12, 40, {"blocks": "sm", "heads": 8}, num_layers=2, initial=True),
)
# LN of nearly equal values multiplies rounding: float32 bounds are those of layer_norm in tests/cases.py.
TOLERANCE = {"float64": 1e-10, "float32": 2e-4}


@dataclass
class Data:
    layer: lstmcore.Recurrent
    x: np.ndarray
    lengths: np.ndarray | None
    state: dict[str, np.ndarray] | None
    dy: np.ndarray
    dstate: dict[str, np.ndarray]


def used_widths(s: Setting, kind: str) -> dict[str, int]:
    inner = xlstm.sizes(kind, s.H)
    heads = s.options.get("heads", 1)
    if kind == "m":
        return {"C": inner * inner // heads, "n": inner, "m": heads, "conv": xlstm.BEFORE * inner}
    return {"h": s.H, "c": s.H, "n": s.H, "m": s.H, "conv": xlstm.BEFORE * s.H}


def make(s: Setting, dtype: str = "float64", **arguments) -> Data:
    rng = np.random.default_rng(3)
    layer = lstmcore.Recurrent(
        "xlstm",
        input_size=s.I,
        hidden_size=s.H,
        num_layers=s.num_layers,
        bidirectional=s.bidirectional,
        dtype=dtype,
        **s.options,
        **arguments,
    )
    wanted = xlstm.shapes(s.options, s.I, s.H, s.num_layers, s.directions)
    assert [(name, value.shape) for name, value in layer.parameters.items()] == list(wanted.items())
    for name, value in layer.parameters.items():
        kind = name[: name.index("_l")]
        bound = 1.0 / np.sqrt(s.H)
        values = rng.uniform(-bound, bound, size=value.shape)
        value[...] = values + (1.0 if kind.startswith(("norm", "skip")) else 0.0)
    x = rng.standard_normal((s.N, s.T, s.I)).astype(dtype)
    lengths = None
    if s.ragged:
        lengths = rng.integers(1, s.T + 1, size=s.N)
        lengths[-1] = s.T
    blocks = xlstm.kinds(s.options, s.num_layers)
    state = {}
    dstate = {}
    for name, width in xlstm.states(s.options, s.H).items():
        shape = (len(blocks) * s.directions, s.N, width)
        state[name], dstate[name] = np.zeros(shape, dtype=dtype), np.zeros(shape, dtype=dtype)
        for run in range(shape[0]):
            width = used_widths(s, blocks[run // s.directions]).get(name, 0)
            values = rng.uniform(0.5, 2.0, size=(s.N, width)) if name == "n" else rng.uniform(-1, 1, size=(s.N, width))
            state[name][run, :, :width] = values
            dstate[name][run, :, :width] = rng.standard_normal((s.N, width))
    dy = rng.standard_normal((s.N, s.T, s.directions * s.H)).astype(dtype)
    if lengths is not None:
        dy[np.arange(s.T) >= lengths[:, None]] = 0.0
    return Data(layer, x, lengths, state if s.initial else None, dy, dstate)


each_setting = pytest.mark.parametrize("s", SMALL + LARGE, ids=lambda s: s.label)


@each_setting
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_outputs_and_states_equal_reference(s: Setting, dtype: str) -> None:
    d = make(s, dtype)
    y, final = d.layer.forward(d.x, state=d.state, lengths=d.lengths)
    parameters = {name: np.array(value, dtype=np.float64) for name, value in d.layer.parameters.items()}
    state = None if d.state is None else {name: value.astype(np.float64) for name, value in d.state.items()}
    wanted, wanted_final = xlstm.forward(
        s.options, parameters, d.x.astype(np.float64), s.H, s.num_layers, s.bidirectional, d.lengths, state
    )
    assert_close(y, wanted, TOLERANCE[dtype], "y")
    for name, value in wanted_final.items():
        assert_close(final[name], value, TOLERANCE[dtype], name) if value.any() else None
    assert list(final) == list(wanted_final)


@pytest.mark.parametrize("s", SMALL, ids=lambda s: s.label)
def test_gradients_are_those_of_forward(s: Setting) -> None:
    """Every parameter, input and initial state, against central differences."""
    d = make(s)
    _, _, tape = d.layer.forward(d.x, state=d.state, lengths=d.lengths, training=True)
    got = d.layer.backward(tape, d.dy, dstate=d.dstate)

    def loss() -> float:
        y, final = d.layer.forward(d.x, state=d.state, lengths=d.lengths)
        return float((y * d.dy).sum() + sum((final[name] * value).sum() for name, value in d.dstate.items()))

    def numeric(values: np.ndarray) -> np.ndarray:
        result = np.zeros_like(values)
        for index in np.ndindex(*values.shape):
            keep = values[index]
            at = []
            for step in (1e-5, -1e-5):
                values[index] = keep + step
                at.append(loss())
            values[index] = keep
            result[index] = (at[0] - at[1]) / 2e-5
        return result

    def check(actual: np.ndarray, expected: np.ndarray, name: str) -> None:
        # Gradients that vanish for all elements (of what only shifts a norm's input) are rounding on both sides.
        error, scale = np.abs(actual - expected).max(initial=0.0), np.abs(expected).max(initial=0.0)
        assert error <= 1e-6 * scale + 2e-8, f"{name}: {error:.3g} of {scale:.3g}"

    for name, values in d.layer.parameters.items():
        check(got.parameters[name], numeric(values), name)
    check(got.x, numeric(d.x), "x")
    blocks = xlstm.kinds(s.options, s.num_layers)
    for name, values in (d.state or {}).items():
        expected = numeric(values)
        for run in range(len(values)):
            used = used_widths(s, blocks[run // s.directions]).get(name, 0)
            check(got.state[name][run, :, :used], expected[run, :, :used], f"state {name}, run {run}")
            assert not got.state[name][run, :, used:].any()


@each_setting
def test_results_do_not_depend_on_threads(s: Setting) -> None:
    results = []
    for n_threads in (1, 2, 3):
        d = make(s, "float32", n_threads=n_threads)
        y, final, tape = d.layer.forward(d.x, state=d.state, lengths=d.lengths, training=True)
        g = d.layer.backward(tape, d.dy, dstate=d.dstate)
        results.append({"y": y, "x": g.x, **final, **{f"d{k}": v for k, v in g.state.items()}, **g.parameters})
    for other in results[1:]:
        assert_all_bitwise(other, results[0], "results")


@pytest.mark.parametrize("blocks", ["m", "s", "msm"])
def test_steps_give_what_a_pass_gives(blocks: str) -> None:
    s = Setting(3, 30, 4, 8, {"blocks": blocks, "heads": 2})
    d = make(s)
    y, final = d.layer.forward(d.x)
    state = None
    for t in range(s.T):
        out, state = d.layer.step(d.x[:, t], state)
        assert_close(out, y[:, t], 1e-11, f"step {t}")
    assert_all_close(
        {k: v for k, v in state.items() if v.any()}, {k: v for k, v in final.items() if v.any()}, 1e-11, "s"
    )


def test_dropout_is_on_the_branches_and_its_gradient_is_right() -> None:
    s = Setting(2, 4, 2, 4, {"blocks": "ms", "heads": 2}, ragged=True)
    d = make(s, dropout=0.4, seed=5)
    y, _, tape = d.layer.forward(d.x, lengths=d.lengths, training=True)
    assert np.abs(y - d.layer.forward(d.x, lengths=d.lengths)[0]).max() > 1e-3
    got = d.layer.backward(tape, d.dy)
    rng = np.random.default_rng(0)
    direction = {name: rng.standard_normal(value.shape) for name, value in d.layer.parameters.items()}
    values = []
    for sign in (1, -1):
        other = make(s, dropout=0.4, seed=5)  # the first pass of equal layers draws equal masks
        for name, value in other.layer.parameters.items():
            value += sign * 1e-6 * direction[name]
        values.append(float((other.layer.forward(d.x, lengths=d.lengths, training=True)[0] * d.dy).sum()))
    slope = (values[0] - values[1]) / 2e-6
    assert abs(slope - sum((got.parameters[k] * v).sum() for k, v in direction.items())) < 1e-6 * abs(slope)


# --- the forms of the matrix memory ----------------------------------------------------------------------------------


def extreme(T: int, dtype: str, forget: str, chunk: int, scale: float = 30.0):
    """An mLSTM whose gates swing between −scale and +scale, with long quiet and long stormy parts.

    Queries and keys are positive, so that nᵀq is not near 0: there h has a pole, and any two orders of summation differ
    by rounding times |n||q| / |nᵀq|, whatever the gates do.
    """
    H, heads = 16, 2
    layer = lstmcore.Recurrent(
        "mlstm", input_size=6, hidden_size=H, heads=heads, forget_activation=forget, chunk_size=chunk, dtype=dtype
    )
    rng = np.random.default_rng(0)
    W = layer.parameters["W_l0"]
    W[...] = 0.0
    W[: 3 * H, :2] = rng.standard_normal((3 * H, 2))
    W[: 2 * H] = np.abs(W[: 2 * H])
    W[3 * H + 2 * heads :, :2] = rng.standard_normal((H, 2))
    for head in range(heads):  # the gates read features of their own
        W[3 * H + head, 2 + head] = W[3 * H + heads + head, 4 + head] = 1.0
    layer.parameters["b_l0"][...] = 0.0
    x = rng.standard_normal((1, T, 6))
    x[..., :2] = np.abs(x[..., :2])
    gates = rng.uniform(-scale, scale, size=(T, 4))
    calm = np.repeat(rng.uniform(size=(T + 99) // 100) < 0.5, 100)[:T]
    gates[calm] = np.array([1.0, -scale, scale, 5.0]) + rng.standard_normal((int(calm.sum()), 4))
    if forget == "exponential":
        gates[:, 2:] = np.minimum(gates[:, 2:], 0.0) * (rng.uniform(size=(T, 1)) < 0.2)  # a memory that grows overflows
        gates[: T // 8, 2:] = 0.5
    x[0, :, 2:] = gates
    return layer, x.astype(dtype), rng.standard_normal((1, T, H)).astype(dtype)


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
@pytest.mark.parametrize("T", [1, 65, 1000, 4096])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_step_chunkwise_and_parallel_forms_are_one_function(dtype: str, T: int, forget: str) -> None:
    """Chunks of 1, of the default, of an odd size and of the whole sequence: outputs and gradients."""
    tolerance = {"float64": 1e-9, "float32": 1e-4}[dtype]
    results = []
    for chunk in (1, 0, 48, 4096):
        layer, x, dy = extreme(T, dtype, forget, chunk)
        y, final, tape = layer.forward(x, training=True)
        g = layer.backward(tape, dy)
        memory = np.exp(np.minimum(final["m"], 80.0))  # C and n are relative to exp(m)
        result = {"y": y, "x": g.x, "C": final["C"], "n": final["n"], "scale": memory, **g.parameters}
        assert all(np.isfinite(value).all() for value in result.values())
        results.append(result)
    for other in results[1:]:
        assert_all_close(other, results[0], tolerance, f"T={T}")


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
def test_float32_is_close_to_float64_with_extreme_gates(forget: str) -> None:
    layer, x, _ = extreme(4096, "float32", forget, 0)
    exact, _, _ = extreme(4096, "float64", forget, 1)
    for name, value in layer.parameters.items():
        exact.parameters[name][...] = value
    y = layer.forward(x)[0]
    assert_close(y, exact.forward(x.astype(np.float64))[0], 1e-4, "y")


@pytest.mark.parametrize(
    ("cell", "options"), [("mlstm", {"heads": 2, "chunk_size": 32}), ("xlstm", {"blocks": "ms", "heads": 2})]
)
@pytest.mark.parametrize("window", [1, 2, 5, 64, 100])
def test_truncated_gradients_stay_in_their_window(window: int, cell: str, options: dict) -> None:
    """Truncated BPTT equals passes over the windows with states handed on and gradients not."""
    T, I, K = 130, 3, 2
    rng = np.random.default_rng(1)
    config = {
        "recurrent": {
            "cell": cell, "input_size": I, "hidden_size": 6, "dtype": "float64", "seed": 4, "cell_options": options,
        },
        "activation": "identity", "outputs": K, "pooling": "mean",
    }  # fmt: skip
    x = [rng.standard_normal((T, I))]
    target = rng.standard_normal((1, K))
    model = lstmcore._core.Model(config)
    sequences = lstmcore._core.Sequences(x, dtype="float64")
    trainer = lstmcore._core.Trainer(model, {"loss": "squared", "bptt_steps": window})
    _, gradient = trainer.gradient(sequences, target)
    named = {name: np.asarray(value) for name, value in model.parameters.items()}
    layer = lstmcore.Recurrent(cell, input_size=I, hidden_size=6, dtype="float64", **options)
    for name, value in layer.parameters.items():
        value[...] = named[name]
    y, _ = layer.forward(x[0][None])
    score = named["head_W"] @ y[0].mean(axis=0) + named["head_b"]
    d_pooled = named["head_W"].T @ (2.0 * (score - target[0]) / K)
    state = None
    total = {name: np.zeros(value.shape) for name, value in layer.parameters.items()}
    for first in range(0, T, window):
        part = x[0][None, first : first + window]
        _, state, tape = layer.forward(part, state=state, training=True)
        g = layer.backward(tape, np.broadcast_to(d_pooled / T, (1, part.shape[1], 6)).copy())
        for name, value in g.parameters.items():
            total[name] += value
    flat = (
        np.concatenate([np.asarray(gradient[name]).ravel() for name in total])
        if isinstance(gradient, dict)
        else gradient
    )
    wanted = np.concatenate([value.ravel() for value in total.values()])
    assert_close(np.asarray(flat)[: len(wanted)], wanted, 1e-10, "gradient")


def test_options_are_checked() -> None:
    for options, text in (
        ({"blocks": "mx"}, "letters ms"),
        ({"blocks": ""}, "letters ms"),
        ({"blocks": 3}, "letters ms"),
        ({"heads": 3}, "divisor of hidden_size"),
        ({"chunk_size": -1}, "at least 0"),
        ({"variational_dropout": 0.5}, "use dropout"),
        ({"zoneout_hidden": 0.5}, "use dropout"),
        ({"learn_initial_state": True}, "use dropout"),
    ):
        with pytest.raises(ValueError, match=text):
            lstmcore.Recurrent("xlstm", input_size=2, hidden_size=4, **options)


def test_a_chunk_may_be_longer_than_any_sequence() -> None:
    x = np.ones((1, 5, 2))
    layers = [lstmcore.Recurrent("mlstm", input_size=2, hidden_size=4, chunk_size=size) for size in (5, 2**63 - 1)]
    assert_bitwise(layers[1].forward(x)[0], layers[0].forward(x)[0], "y")


def test_a_repeated_pass_gives_the_same_bits() -> None:
    d = make(LARGE[1], "float32")
    first = d.layer.forward(d.x, lengths=d.lengths)[0]
    assert_bitwise(d.layer.forward(d.x, lengths=d.lengths)[0], first, "y")


@pytest.mark.parametrize(
    ("cell", "options"), [("mlstm", {"heads": 2}), ("xlstm", {"blocks": "msm", "heads": 2}), ("xlstm", {"blocks": "s"})]
)
def test_estimators_train_stream_and_save(tmp_path, cell: str, options: dict) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 3)) for length in rng.integers(5, 30, size=80)]
    y = np.array([int(x[:, 0].mean() > 0) for x in X])
    classifier = lstmcore.SequenceClassifier(
        cell, cell_options=options, hidden_size=16, max_iter=60, learning_rate_init=1e-2, dropout=0.1, random_state=0,
        num_layers=2, bptt_steps=None, checkpoint_steps=8 if cell == "mlstm" else None,
    ).fit(X, y)  # fmt: skip
    assert classifier.score(X, y) > 0.95
    outputs = classifier.predict_proba(X[:5])
    for x, expected in zip(X[:5], outputs, strict=True):
        state = None
        for row in x:
            out, state = classifier.step(row, state)
        np.testing.assert_allclose(out, expected, rtol=2e-4, atol=1e-5)
    classifier.save(tmp_path / "model.safetensors")
    loaded = lstmcore.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X[:5]), outputs)


@pytest.mark.parametrize(("cell", "options"), [("mlstm", {"heads": 2, "chunk_size": 7}), ("xlstm", {"blocks": "ms"})])
@pytest.mark.parametrize("checkpoints", [5, 16])
def test_checkpoints_along_time_change_nothing(cell: str, options: dict, checkpoints: int) -> None:
    rng = np.random.default_rng(2)
    x = lstmcore._core.Sequences([rng.standard_normal((length, 3)) for length in (40, 12, 33)], dtype="float64")
    y = rng.standard_normal((3, 2))
    gradients = []
    for steps in (0, checkpoints):
        recurrent = {"cell": cell, "input_size": 3, "hidden_size": 8, "dtype": "float64", "cell_options": options}
        model = lstmcore._core.Model(
            {"recurrent": recurrent, "activation": "identity", "outputs": 2, "pooling": "mean"}
        )
        trainer = lstmcore._core.Trainer(model, {"loss": "squared", "checkpoint_steps": steps})
        gradients.append(trainer.gradient(x, y)[1])
    assert_all_close(gradients[1], gradients[0], 1e-10, "gradient")
