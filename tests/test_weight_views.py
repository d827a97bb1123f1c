"""Weights written through views, whoever keeps them and however: the next step and the next pass use the new ones."""

from __future__ import annotations

import copy
import ctypes
import gc
import itertools
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstmcore
from border import equal, make_layer
from cases import CELLS, VARIANTS, Cell

X = np.array([[-1.0, 0.25, 0.5]], np.float32)
SEQUENCE = np.linspace(-1, 0.5, 12, dtype=np.float32).reshape(1, 4, 3)


def fresh(layer: lstmcore.Recurrent) -> lstmcore.Recurrent:
    """Another layer with the same weights, which has packed nothing yet."""
    other = make_layer(num_layers=layer.num_layers)
    for name, values in layer.parameters.items():
        other.parameters[name][:] = values
    return other


def check(layer: lstmcore.Recurrent) -> None:
    """All that reads weights does so with those of now; twice, for what the first call leaves."""
    state = {name: np.full((layer.num_layers, 1, 4), 0.25, np.float32) for name in layer.states}
    expected = fresh(layer)
    for _ in range(2):
        assert equal(layer.step(X, state), expected.step(X, state))
        assert equal(layer.forward(SEQUENCE, state), expected.forward(SEQUENCE, state))
        two = {name: np.repeat(value, 2, axis=1) for name, value in state.items()}
        assert equal(layer.step(np.repeat(X, 2, axis=0), two), expected.step(np.repeat(X, 2, axis=0), two))


def through_array(view: np.ndarray) -> Any:
    return view


def through_slice(view: np.ndarray) -> Any:
    return view[1:, ::2].T[:1]


def through_reshape(view: np.ndarray) -> Any:
    return view.reshape(-1).view(np.uint32)


def through_memoryview(view: np.ndarray) -> Any:
    return memoryview(view).cast("B").cast("f")


def through_dlpack(view: np.ndarray) -> Any:
    return np.from_dlpack(view)


def through_ctypes(view: np.ndarray) -> Any:
    return ctypes.cast(view.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), ctypes.POINTER(ctypes.c_float)), view.size


def through_asarray(view: np.ndarray) -> Any:
    class Holder:
        __array_interface__ = view.__array_interface__
        kept = view

    return np.asarray(Holder())


def through_frombuffer(view: np.ndarray) -> Any:
    return np.frombuffer(view, np.float32)


def add(target: Any) -> None:
    if isinstance(target, tuple):
        pointer, _ = target
        pointer[0] += 0.5
    elif isinstance(target, memoryview):
        target[0] += 0.5
    elif target.dtype == np.uint32:
        target.view(np.float32)[0] += 0.5
    else:
        target[(0,) * target.ndim] += 0.5


THROUGH = [value for name, value in list(globals().items()) if name.startswith("through_")]


@pytest.mark.parametrize("through", THROUGH, ids=lambda through: through.__name__)
def test_writes_are_seen_however_they_come(through: Callable[[np.ndarray], Any]) -> None:
    layer = make_layer()
    check(layer)
    kept = through(layer.parameters["W_l0"])
    gc.collect()
    check(layer)
    before = layer.step(X)
    for _ in range(3):
        add(kept)
        check(layer)
        assert not equal(layer.step(X), before)
        before = layer.step(X)
    add(kept)
    del kept  # written, and gone before anything looked
    assert not equal(layer.step(X), before)
    check(layer)


def test_last_write_of_many_views() -> None:
    layer = make_layer(num_layers=2)
    state = {name: np.full((2, 1, 4), 0.25, np.float32) for name in layer.states}
    old, new = layer.parameters, layer.parameters
    part = new["R_l1"][:2]
    results = [layer.step(X, state)]
    old["b_l0"][0] += 1
    del old
    results.append(layer.step(X, state))
    del new
    results.append(layer.step(X, state))  # nothing written: as before
    part[:] += 1
    results.append(layer.step(X, state))
    check(layer)
    part[:] -= 0.5
    del part
    results.append(layer.step(X, state))
    check(layer)
    changed = [not equal(one, other) for one, other in itertools.pairwise(results)]
    assert changed == [True, False, True, True]


def test_views_outlive_the_layer_and_let_it_go() -> None:
    class Layer(lstmcore.Recurrent):
        pass

    layer = Layer("lstm", input_size=3, hidden_size=4)
    gone = weakref.ref(layer)
    part = layer.parameters["W_l0"][1]
    del layer
    gc.collect()
    held = gone()
    assert held is not None
    before = held.step(X)
    part[:] += 1
    assert not equal(held.step(X), before)
    del held
    gc.collect()
    assert gone() is not None
    del part
    gc.collect()
    assert gone() is None


def test_cycles_of_views() -> None:
    """The cycle is found, or lives on: the layer's results are right either way."""

    class Node:
        pass

    layer = make_layer()
    layer.step(X)
    node = Node()
    node.own, node.view = node, layer.parameters["W_l0"]  # type: ignore[attr-defined]
    node.view[0, 0] += 1  # type: ignore[attr-defined]
    before = layer.step(X)
    node.view[0, 0] += 1  # type: ignore[attr-defined]
    del node
    gc.collect()
    assert not equal(layer.step(X), before)
    check(layer)


def test_copies_have_weights_of_their_own() -> None:
    layer = make_layer()
    layer.step(X)
    view = layer.parameters["W_l0"]
    for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        before = other.step(X)
        view += 0.25
        assert equal(other.step(X), before)
        other.parameters["W_l0"][:] += 1
        assert not equal(other.step(X), before)
        check(other)
        check(layer)


def test_training_through_an_optimiser() -> None:
    from lstmcore import _core

    layer = make_layer()
    optimiser = _core.Optimiser({"solver": "sgd", "learning_rate": 0.1}, layer.parameters)
    for _ in range(3):
        before = layer.step(X)
        y, _, tape = layer.forward(SEQUENCE, training=True)
        optimiser.step(layer.backward(tape, np.ones_like(y)).parameters)
        assert not equal(layer.step(X), before)
        check(layer)
    del optimiser
    check(layer)


@pytest.mark.parametrize("cell", [cell for cell in CELLS + VARIANTS if cell.stepwise], ids=lambda cell: cell.label)
def test_step_is_a_pass_of_one_step(cell: Cell) -> None:
    """Writes interleaved with steps, from the states that the step before returned."""
    for H in (5, 8) if not cell.options else (8,):
        layer = lstmcore.Recurrent(
            cell.name, input_size=3, hidden_size=H, num_layers=2, dtype="float64",
            learn_initial_state=cell.learn_initial_state, **cell.options_for(H),
        )  # fmt: skip
        rng = np.random.default_rng(1)
        ours = theirs = {name: rng.uniform(0.1, 1, value.shape) for name, value in layer.init_state(1).items()}
        for k in range(6):
            value = rng.standard_normal((1, 3))
            y, ours = layer.step(value, ours)
            expected, theirs = layer.forward(value[None], theirs)
            assert equal(y, expected[0]), k
            assert equal(ours, theirs), k
            if k % 2 == 1:
                layer.parameters["W_l1"][:] += 0.01


def test_threads_see_the_last_write() -> None:
    """Each thread has packed weights of its own; views come and go while they step."""
    layer = make_layer()
    failures: list[str] = []
    barrier = threading.Barrier(5)

    def work() -> None:
        for _ in range(20):
            barrier.wait()  # the weights are as expected says, and stay until the next barrier
            if not equal(layer.step(X), expected):
                failures.append("step")
            barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(4)]
    expected = layer.step(X)
    for thread in threads:
        thread.start()
    for k in range(20):
        view = layer.parameters["b_l0"]
        view += 0.01 * (k + 1)
        if k % 2 == 0:
            del view
        expected = fresh(layer).step(X)
        barrier.wait()
        barrier.wait()
    for thread in threads:
        thread.join()
    assert not failures
