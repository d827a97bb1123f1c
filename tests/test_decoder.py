"""The decoder with attention: against NumPy, numerical differentiation, threads, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import lstmcore
from checking import assert_all_bitwise, assert_close
from lstmcore import _core
from reference import decoder as reference
from reference.driver import Stack

ATTENTION = (None, "additive", "dot")


@dataclass
class Setting:
    layer: Any
    weights: dict[str, np.ndarray]
    arguments: dict[str, Any]
    attention: str | None
    feeding: bool
    stack: Stack
    d_outputs: np.ndarray

    def run(self, **more: Any) -> dict[str, Any]:
        return _core.decode(self.layer, self.weights, **{**self.arguments, **more})

    def one(self, n: int, sample: Any = None) -> tuple[Any, Any, Any, Any, Any]:
        """Decoder, tokens, keys, values and state of sequence n, for the reference."""
        d = reference.Decoder(self.stack, dict(self.layer.parameters), self.weights, self.attention, self.feeding)
        tokens = self.arguments["tokens"][n, : self.arguments["lengths"][n]]
        state = {name: value[:, n] for name, value in self.arguments["state"].items()}
        if self.attention is None:
            return d, tokens, None, None, state
        S = self.arguments["source_lengths"][n]
        return d, tokens, self.arguments["keys"][n, :S], self.arguments["values"][n, :S], state


def setting(
    attention: str | None,
    feeding: bool = False,
    cell: str = "lstm",
    layers: int = 2,
    H: int = 7,
    N: int = 5,
    T: int = 6,
    dtype: str = "float64",
    n_threads: int | None = 1,
    **options: Any,
) -> Setting:
    random = np.random.RandomState(3)
    V, M, E, S = 6, 3, 5, 7
    P = options.get("proj_size", 0) or H
    A = {"additive": 9, "dot": P}.get(attention or "", 0)
    size = M + (E if attention == "additive" else 0) + (P if feeding else 0)
    layer = _core.Recurrent(cell, size, H, num_layers=layers, dtype=dtype, seed=1, n_threads=n_threads, **options)
    normal = lambda *shape: random.standard_normal(shape).astype(dtype)  # noqa: E731
    weights = {"table": normal(V, M), "head_W": normal(V, P), "head_b": normal(V)}
    lengths = random.randint(1, T + 1, size=N)
    lengths[N // 2] = T
    arguments: dict[str, Any] = {
        "tokens": random.randint(V, size=(N, T)),
        "lengths": lengths,
        "attention": attention,
        "input_feeding": feeding,
        "state": {name: 0.5 * normal(*value.shape) for name, value in layer.init_state(N).items()},
    }
    if attention is not None:
        weights["output"] = 0.5 * normal(P, E + P)
        source_lengths = random.randint(1, S + 1, size=N)
        source_lengths[0] = S
        arguments |= {"values": normal(N, S, E), "keys": normal(N, S, A), "source_lengths": source_lengths}
    if attention == "additive":
        weights |= {"query": normal(A, P), "score": normal(A)}
    if cell == "slstm":  # the normaliser, by which h is divided
        arguments["state"]["n"] = 1.0 + np.abs(arguments["state"]["n"])
    stack = Stack(cell, size, H, layers, options=options)
    return Setting(layer, weights, arguments, attention, feeding, stack, normal(N, T, P))


def _numbers(gradients: dict[str, Any]) -> dict[str, np.ndarray]:
    """Without nesting."""
    flat = {name: value for name, value in gradients.items() if isinstance(value, np.ndarray)}
    for name in ("layers", "state"):
        flat |= {f"{name}.{key}": np.asarray(value) for key, value in gradients[name].items()}
    return flat


CASES = [
    *[(attention, feeding, "lstm", {}) for attention in ATTENTION for feeding in (False, True)],
    *[("additive", False, cell, {}) for cell in ("gru", "peephole", "elman", "indrnn", "slstm", "min_gru")],
    ("additive", True, "lstm", {"layer_norm": True}),
    ("additive", False, "lstm", {"proj_size": 4}),
    ("dot", True, "gru", {"reset_after": False}),
    ("dot", True, "lstm", {"variant": "FGR"}),
]


@pytest.mark.parametrize(("attention", "feeding", "cell", "options"), CASES)
@pytest.mark.parametrize("sampled", [False, True])
def test_equals_reference(
    attention: str | None, feeding: bool, cell: str, options: dict[str, Any], sampled: bool
) -> None:
    s = setting(attention, feeding, cell, **options)
    N, T = s.arguments["tokens"].shape
    sample = np.random.RandomState(5).random_sample((N, T)) < 0.5 if sampled else None
    found = s.run(training=True, sample=sample, want_weights=attention is not None)
    gradients = _core.decode_backward(found["tape"], s.d_outputs)
    expected: dict[str, Any] = {name: np.zeros_like(value) for name, value in _numbers(gradients).items()}
    for n in range(N):
        d, tokens, keys, values, state = s.one(n)
        run = reference.forward(d, tokens, keys, values, state, sample=None if sample is None else sample[n])
        length = len(tokens)
        assert found["tokens"][n, :length].tolist() == run.tokens
        assert_close(found["outputs"][n, :length], run.outputs, 1e-11, "outputs")
        assert not found["outputs"][n, length:].any()
        for name, value in run.state.items():
            assert_close(found["state"][name][:, n], value, 1e-11, name)
        if attention is not None:
            S = len(keys)
            assert_close(found["weights"][n, :length, :S], run.attended, 1e-11, "weights")
            assert not found["weights"][n, length:].any()
            assert not found["weights"][n, :, S:].any()
        back = reference.backward(d, run, s.d_outputs[n, :length], keys, values)
        for name, value in _numbers(back).items():
            if name in ("keys", "values"):
                expected[name][n, : len(value)] = value
            elif name.startswith("state."):
                expected[name][:, n] = value
            else:
                expected[name] += value
    for name, value in _numbers(gradients).items():
        assert_close(value, expected[name], 1e-10, name)


@pytest.mark.parametrize(("attention", "feeding", "cell", "options"), CASES)
def test_gradients_by_differences(attention: str | None, feeding: bool, cell: str, options: dict[str, Any]) -> None:
    s = setting(attention, feeding, cell, N=3, T=4, **options)
    used = np.arange(4)[None] < s.arguments["lengths"][:, None]
    direction = s.d_outputs * used[:, :, None]

    def loss() -> float:
        return float((s.run()["outputs"] * direction).sum())

    gradients = _core.decode_backward(s.run(training=True)["tape"], s.d_outputs)
    places = {f"layers.{name}": value for name, value in s.layer.parameters.items()}
    places |= {f"state.{name}": value for name, value in s.arguments["state"].items()}
    places |= {name: value for name, value in s.weights.items() if not name.startswith("head")}
    places |= {name: s.arguments[name] for name in ("keys", "values") if name in s.arguments}
    random = np.random.RandomState(0)
    for name, gradient in _numbers(gradients).items():
        step = random.standard_normal(places[name].shape)
        eps = 1e-6
        places[name] += eps * step
        above = loss()
        places[name] -= 2.0 * eps * step
        below = loss()
        places[name] += eps * step
        slope = (above - below) / (2.0 * eps)
        found = float((gradient * step).sum())
        assert abs(found - slope) <= 1e-6 * max(1.0, abs(slope)), f"{name}: {found} and {slope}"


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(attention: str | None, feeding: bool, dtype: str) -> None:
    results = []
    for n_threads in (1, 2, 3):
        s = setting(attention, feeding, H=48, N=37, T=12, dtype=dtype, n_threads=n_threads, dropout=0.2)
        sample = np.random.RandomState(5).random_sample(s.arguments["tokens"].shape) < 0.3
        found = s.run(training=True, sample=sample)
        gradients = _core.decode_backward(found["tape"], s.d_outputs)
        results.append({"outputs": found["outputs"], "tokens": found["tokens"], **_numbers(gradients)})
    for other in results[1:]:
        assert_all_bitwise(other, results[0], "threads")


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("feeding", [False, True])
def test_single_steps_equal_one_pass(attention: str | None, feeding: bool) -> None:
    """As beam search runs it: every row owns a source, states and o go from call to call."""
    s = setting(attention, feeding)
    whole = s.run(lengths=np.full(5, 6))
    state, output = s.arguments["state"], None
    more = {} if attention is None else {"owners": np.arange(5)}
    for t in range(6):
        step = s.run(
            tokens=s.arguments["tokens"][:, t : t + 1], lengths=np.ones(5, int), state=state, output=output, **more
        )
        state, output = step["state"], step["outputs"][:, 0] if feeding else None
        assert np.array_equal(step["outputs"][:, 0], whole["outputs"][:, t])
    for name in state:
        assert np.array_equal(state[name], whole["state"][name])


def test_owners_choose_the_source() -> None:
    s = setting("additive")
    owners = np.array([2, 2, 0, 1, 4])
    found = s.run(owners=owners)
    for n, owner in enumerate(owners):
        picked = {name: s.arguments[name][owners] for name in ("values", "keys", "source_lengths")}
        assert np.array_equal(found["outputs"][n], s.run(**picked)["outputs"][n]), owner


def test_dropout_is_active_in_training_only_and_differentiated() -> None:
    s = setting("additive", True, dropout=0.5, variational_dropout=0.3)
    plain = s.run()["outputs"]
    assert np.array_equal(plain, s.run()["outputs"])
    first = s.run(training=True)
    assert not np.array_equal(plain, first["outputs"])
    # The masks follow from the seed and the number of passes: the same layer made anew draws the same ones.
    again = setting("additive", True, dropout=0.5, variational_dropout=0.3)
    assert np.array_equal(again.run(training=True)["outputs"], first["outputs"])
    gradients = _numbers(_core.decode_backward(first["tape"], s.d_outputs))
    name, eps = "score", 1e-6
    used = np.arange(6)[None] < s.arguments["lengths"][:, None]
    values = []
    for sign in (1.0, -1.0):
        other = setting("additive", True, dropout=0.5, variational_dropout=0.3)
        other.weights[name][...] += sign * eps
        values.append(float((other.run(training=True)["outputs"] * s.d_outputs * used[:, :, None]).sum()))
    assert abs((values[0] - values[1]) / (2 * eps) - gradients[name].sum()) < 1e-6


def test_a_tape_serves_once() -> None:
    s = setting("dot")
    tape = s.run(training=True)["tape"]
    _core.decode_backward(tape, s.d_outputs)
    with pytest.raises(ValueError, match="used up"):
        _core.decode_backward(tape, s.d_outputs)
    with pytest.raises(TypeError, match="tape: expected the DecoderTape"):
        _core.decode_backward(3, s.d_outputs)
    tape = s.run(training=True)["tape"]
    with pytest.raises(ValueError, match="d_outputs: expected"):
        _core.decode_backward(tape, s.d_outputs[:, :2])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"tokens": np.full((5, 6), 6)}, "tokens: sequence 0, step 0: expected 0 to 5, got 6"),
    ({"tokens": np.full((5, 6), -1)}, "tokens: sequence 0, step 0: expected 0 to 5, got -1"),
    ({"tokens": np.zeros((5, 6))}, "tokens: expected integers"),
    ({"tokens": np.zeros(5, int)}, "tokens: expected integers"),
    ({"lengths": np.full(5, 7)}, "lengths: sequence 0: expected 1 to 6, got 7"),
    ({"lengths": np.zeros(5, int)}, "lengths: sequence 0: expected 1 to 6, got 0"),
    ({"lengths": np.ones(4, int)}, "lengths"),
    ({"source_lengths": np.full(5, 8)}, "source_lengths: source 0: expected 1 to 7, got 8"),
    ({"values": None}, "values: attention needs it"),
    ({"keys": np.zeros((5, 6, 9))}, "keys: expected as many sources and steps"),
    ({"keys": np.zeros((5, 7, 8))}, "query"),
    ({"values": np.zeros((5, 7, 4))}, "output"),
    ({"attention": "dot"}, "key_width: expected 7, the width of h, with dot attention, got 9"),
    ({"attention": "global"}, "attention: expected 'additive', 'dot' or None, got 'global'"),
    ({"attention": None}, "without attention expected None"),
    ({"input_feeding": True}, "input_size: expected 15"),
    ({"owners": np.full(5, 5)}, "owners: sequence 0: expected 0 to 4, got 5"),
    ({"owners": np.arange(5), "training": True}, "owners: expected null with a tape"),
    ({"output": np.zeros((5, 7))}, "output: it is read with input_feeding only"),
    ({"sample": np.zeros((5, 5), bool)}, "sample: expected the shape of tokens"),
    ({"state": {"h": np.zeros((2, 5, 7))}}, "state: expected exactly the keys"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_refuses(change: dict[str, Any], message: str) -> None:
    s = setting("additive")
    with pytest.raises(ValueError, match=re.escape(message)):
        s.run(**change)


def test_refuses_layers_that_cannot_decode() -> None:
    s = setting(None)
    both = lstmcore.Recurrent("lstm", 3, 4, bidirectional=True, dtype="float64")
    whole = lstmcore.Recurrent("mlstm", 3, 4, dtype="float64")
    more = {"tokens": s.arguments["tokens"], "lengths": s.arguments["lengths"]}
    with pytest.raises(ValueError, match="expected one direction"):
        _core.decode(both, s.weights, **more)
    with pytest.raises(ValueError, match="cell 'mlstm' does not run step by step"):
        _core.decode(whole, s.weights, **more)
    with pytest.raises(ValueError, match="missing 'table'"):
        _core.decode(s.layer, {}, **more)
