"""The compiled core among threads and signals: the GIL, who may run at once, and what stops an epoch."""

from __future__ import annotations

import contextlib
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from border import RNG, I, X, equal, make_layer, make_model
from lstmcore import _core

# --- threads and signals ---------------------------------------------------------------------------------------------

LONG = {"input_size": I, "hidden_size": 64, "n_threads": 1}


def long_training() -> tuple[_core.Model, _core.Trainer, _core.Sequences, np.ndarray]:
    """An epoch of several seconds in small steps."""
    model = _core.Model({"recurrent": LONG, "activation": "softmax", "outputs": 2})
    x = np.tile(X[:1, :1], (20000, 50, 1))
    return model, _core.Trainer(model, {"batch_size": 8}), _core.Sequences(x), np.zeros(len(x), np.int32)


def ticks_while(work: Callable[[], Any]) -> int:
    """How often this thread gets to run while another one works."""
    done = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    count = 0
    while not done.wait(0.001):
        count += 1
    thread.join()
    return count


def test_the_gil_is_released() -> None:
    layer = _core.Recurrent(**{**LONG, "hidden_size": 256})
    model = _core.Model({"recurrent": {**LONG, "hidden_size": 256}, "activation": "softmax", "outputs": 2})
    trainer = _core.Trainer(model, {})
    x = np.tile(X[:1, :1], (16, 400, 1))
    sequences, y = _core.Sequences(x), np.zeros(16, int)
    tape = layer.forward(x, training=True)[2]
    dy = np.ones((16, 400, 256), np.float32)
    for work in (
        lambda: layer.forward(x),
        lambda: layer.backward(tape, dy),
        lambda: model.predict(sequences),
        lambda: trainer.step(sequences, y),
    ):
        assert ticks_while(work) >= 5


def test_training_needs_the_model_alone() -> None:
    model, trainer, x, y = long_training()
    started, errors = threading.Event(), []

    def train() -> None:
        started.set()
        trainer.run_epoch(x.subset(np.arange(4000)), y[:4000])

    thread = threading.Thread(target=train)
    thread.start()
    started.wait()
    time.sleep(0.05)
    calls: list[Callable[[], Any]] = [
        lambda: model.predict(X),
        model.get_weights,
        model.make_state,
        lambda: model.set_weights(np.zeros(1)),
        lambda: model.set_parameters({}),
        lambda: pickle.dumps(model),
        lambda: trainer.evaluate(x.subset([0]), y[:1]),
        lambda: trainer.report(1.0),
        lambda: _core.Trainer(model, {}),
    ]
    for call in calls:
        try:
            call()
        except (RuntimeError, ValueError) as error:
            errors.append(error)
    still_training = thread.is_alive()
    thread.join()
    assert still_training
    assert len(errors) == len(calls)
    assert (
        sum("is busy with another call" in str(error) for error in errors) == len(calls) - 1
    )  # all but the wrong shape
    assert np.isfinite(model.predict(X)).all()


def test_one_stream_belongs_to_one_thread_at_a_time() -> None:
    """Many threads step one stream: each step either happens whole or is refused."""
    model = _core.Model({"recurrent": {"input_size": I, "hidden_size": 256}, "outputs": 1, "pooling": "mean"})
    state = model.make_state()

    def work(_: int) -> int:
        refused = 0
        for _ in range(50):
            try:
                model.step(X[0, 0], state)
            except RuntimeError:
                refused += 1
        return refused

    with ThreadPoolExecutor(8) as pool:
        refused = sum(pool.map(work, range(8)))
    expected = model.make_state()
    for _ in range(400 - refused):
        out = model.step(X[0, 0], expected)
    assert equal(model.step(X[0, 0], state), model.step(X[0, 0], expected))
    assert np.isfinite(out).all()


def test_eight_threads_use_everything_at_once() -> None:
    layer, model = make_layer(num_layers=2), make_model()
    data = [RNG.standard_normal((2, 30, I)).astype(np.float32) for _ in range(8)]

    def work(x: np.ndarray) -> list[Any]:
        y, state, tape = layer.forward(x, training=True)
        gradients = layer.backward(tape, y)
        stream = model.make_state()
        return [
            y,
            state,
            gradients.x,
            gradients.parameters,
            layer.forward(list(x)),
            list(layer.step(x[:, 0])),
            model.predict(x),
            [model.step(step, stream) for step in x[0]],
        ]

    expected = [work(x) for x in data]
    barrier = threading.Barrier(8)

    def repeat(index: int) -> bool:
        barrier.wait()
        return all(equal(work(data[index]), expected[index]) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(repeat, range(8))) == [True] * 8


class Stop(Exception):
    """What a signal handler of a user might raise."""


@contextlib.contextmanager
def alarm(handler: Callable[..., Any], after: float) -> Iterator[None]:
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop])
def test_signal_handlers_stop_an_epoch(error: type[BaseException]) -> None:
    model, trainer, x, y = long_training()
    fired: list[float] = []

    def handler(*_: Any) -> None:
        fired.append(time.perf_counter())
        raise error

    with alarm(handler, 0.2), pytest.raises(error):
        trainer.run_epoch(x, y)
    assert time.perf_counter() - fired[0] < 2  # the epoch takes longer; how prompt it is, test_train.py says
    weights = model.get_weights()
    assert np.isfinite(weights).all()
    assert trainer.run_epoch(x.subset(np.arange(16)), y[:16])["sequences"] == 16
    assert not equal(model.get_weights(), weights)


def test_signal_handlers_that_return_let_training_go_on() -> None:
    model, trainer, x, y = long_training()
    seen: list[str] = []

    def handler(*_: Any) -> None:
        try:
            model.predict(X)
        except RuntimeError as error:  # an error and no deadlock: the epoch below has the model
            seen.append(str(error))

    with alarm(handler, 0.05):
        result = trainer.run_epoch(x.subset(np.arange(4000)), y[:4000])
    assert result["sequences"] == 4000
    assert not result["interrupted"]
    assert len(seen) == 1
    assert "is busy with another call" in seen[0]
