"""One step from Python: the short way of calls that need no conversion gives what the full one does."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstmcore
from border import FORMS, H, I, equal, make_layer, make_model
from lstmcore.model import Model


class Inherited(lstmcore.Recurrent):
    pass


LAYERS: dict[str, Callable[[], Any]] = {
    "core": make_layer,
    "package": lambda: lstmcore.Recurrent("lstm", input_size=I, hidden_size=H, seed=3),
    "subclass": lambda: Inherited("lstm", input_size=I, hidden_size=H, seed=3),
    "float64": lambda: make_layer(dtype="float64"),
    "gru": lambda: make_layer(cell="gru", num_layers=2),
    "xlstm": lambda: make_layer(cell="xlstm", hidden_size=8, num_layers=1),
}


def start(layer: Any, N: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    x = rng.integers(-4, 5, (N, I)).astype(layer.dtype)
    return x, {name: rng.integers(0, 3, a.shape).astype(layer.dtype) for name, a in layer.init_state(N).items()}


@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_step_by_position_and_by_name(make: Callable[[], Any], N: int) -> None:
    layer = make()
    x, state = start(layer, N)
    expected = layer.step(x=x, state=state)
    assert expected[0].shape == (N, layer.hidden_size)
    y, after = layer.step(x, state)
    assert equal((y, after), expected)
    assert list(after) == list(layer.states)
    assert all(array.flags.owndata and array.flags.writeable for array in (y, *after.values()))
    assert equal(layer.step(x, dict(reversed(state.items()))), expected)
    assert equal(type(layer).step(layer, x, state), expected)


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_take_the_full_way(form: str) -> None:
    layer = make_layer()
    x, state = start(layer, 2)
    expected = layer.step(x=x, state=state)
    given = FORMS[form](x)
    assert equal(layer.step(given, state), expected)
    assert equal(layer.step(x, {name: FORMS[form](value) for name, value in state.items()}), expected)


def test_bad_steps_are_refused_as_ever() -> None:
    layer = make_layer()
    x, state = start(layer, 2)
    bad: list[tuple[Any, Any, str]] = [
        (x[:, :2], state, r"^x: expected \(N, 3\)"),
        (x[0], state, r"^x: expected \(N, 3\)"),
        (x[:0], state, r"^x: expected \(N, 3\)"),
        (x[:1], state, r"^state\['h'\]"),
        (x, {"h": state["h"]}, r"^state: expected exactly the keys"),
        (x, {**state, "d": state["h"]}, r"^state: expected exactly the keys"),
        (x, {"h": state["h"], "C": state["c"]}, r"^state: expected exactly the keys"),
        (x, {**state, "c": state["c"][..., :2]}, r"^state\['c'\]"),
    ]
    for features, given, message in bad:
        with pytest.raises(ValueError, match=message):
            layer.step(features, given)
    for arguments in ((), (x, state, 1), (None, state), ("x", state), (x, [1])):
        with pytest.raises(TypeError):
            layer.step(*arguments)
    for other in (make_layer(bidirectional=True), make_layer(reverse=True)):
        with pytest.raises(ValueError, match=r"^step: this Recurrent"):
            other.step(*start(other, 1))
    broken = lstmcore.Recurrent.__new__(lstmcore.Recurrent)
    with pytest.raises(TypeError, match="__init__"):
        broken.step(x, state)
    with pytest.raises(TypeError):
        lstmcore.Recurrent.step(make_model(), x)  # type: ignore[arg-type]


def test_keys_that_run_code() -> None:
    """Comparing keys may run Python code, which empties the dict or raises."""
    layer = make_layer()
    x, state = start(layer, 1)

    class Key:
        def __init__(self, act: Callable[[], None]) -> None:
            self.act = act

        def __hash__(self) -> int:
            return hash("h")

        def __eq__(self, other: object) -> bool:
            self.act()
            return other == "h"

    given: dict[Any, Any] = {}

    def fail() -> None:
        raise ArithmeticError("key")

    for act in (lambda: given.clear(), fail):
        given.clear()
        given.update({Key(act): state["h"].copy(), "c": state["c"].copy()})
        with pytest.raises((ValueError, ArithmeticError)):
            layer.step(x, given)
    gc.collect()


def test_model_steps() -> None:
    core = make_model()
    one, other = core.make_state(), core.make_state()
    for x in np.random.default_rng(3).standard_normal((5, I)).astype(np.float32):
        expected = core.step(x=x, state=one)
        before = other.copy()
        y = core.step(x, other)
        assert equal(y, expected)
        assert y.flags.owndata
        assert equal(core.try_step(x, before), expected)


def test_try_step_does_nothing_or_a_step() -> None:
    core = make_model()
    state = core.make_state()
    x = np.ones(I, np.float32)
    for bad in (x.astype(np.float64), x[:2], x[None], [1.0] * I, np.repeat(x, 2)[::2], x * np.nan, x * np.inf, None):
        for call in (lambda given: core.try_step(given, state), lambda given: core.try_step(x=given, state=state)):
            assert call(bad) is None
    assert equal(core.try_step(x, state), core.step(x, core.make_state()))
    with pytest.raises(ValueError, match=r"^state: made by another Model"):
        core.try_step(x, make_model().make_state())
    with pytest.raises(TypeError, match=r"^state: expected a StreamState"):
        core.try_step(x, None)  # type: ignore[arg-type]


def test_streams_of_the_python_model() -> None:
    model = Model(make_model())
    rows = np.random.default_rng(4).standard_normal((6, I)).astype(np.float32)
    fast = slow = None
    for row in rows:
        y, fast = model.step(row, fast)
        expected, slow = model.step(row.astype(np.float64), slow)
        assert equal(y, expected)
    assert equal(y, model.outputs(rows[None])[0])
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.step(rows[0] * np.nan, fast)
    with pytest.raises(ValueError, match="x has shape"):
        model.step(rows[0, :2], fast)
    with pytest.raises(ValueError, match="1 stream"):
        model.step(rows, fast)
    model.core.set_weights(model.core.get_weights() * 2)  # both go on with the new ones
    assert equal(model.step(rows[0], fast)[0], model.step(rows[0].astype(np.float64), slow)[0])


def test_calls_leak_nothing() -> None:
    layer, core = make_layer(), make_model()
    x, state = start(layer, 1)
    stream, row = core.make_state(), np.ones(I, np.float32)
    watched = (layer, core, x, state, state["h"], stream, row)

    def work() -> None:
        for _ in range(50):
            layer.step(x, state)
            layer.step(x=x, state=state)
            core.step(row, stream)
            core.try_step(row, stream)
            core.try_step(row[None], stream)

    work()
    before = [sys.getrefcount(each) for each in watched]
    work()
    assert [sys.getrefcount(each) for each in watched] == before
