"""Processes and threads around the library: fork after threaded work, and many Python threads on one object."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cases import LSTM, Case, Shape, make_data
from checking import assert_all_bitwise, assert_bitwise
from layers import make_layer, run_layer
from lstmcore import _core

# Large enough that several threads are worth it, so that the pool of threads exists before the fork.
CASE = Case(LSTM, Shape(96, 20, 16, 128, D=2, ragged=True, initial_state=True), "float32")

# A hang in the child must fail the test and not hang it, hence a process of its own and a watch over it.
_PRELUDE = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from layers import run_layer, make_layer
from cases import make_data
from test_fork import CASE, make_model, make_sequences

def in_child(work, seconds=60):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 3
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang"
"""

_FORWARD = """
data = make_data(CASE)
layer = make_layer(CASE, data, n_threads=2)
expected = run_layer(layer, data).arrays
same = lambda: all(np.array_equal(v, expected[k]) for k, v in run_layer(layer, data).arrays.items())
fresh = lambda: all(
    np.array_equal(v, expected[k]) for k, v in run_layer(make_layer(CASE, data, n_threads=2), data).arrays.items()
)
assert same()
print(in_child(same), in_child(fresh), in_child(lambda: in_child(same) == 0), same())
"""

_PREDICT = """
model, trainer = make_model()
x, y = make_sequences()
trainer.run_epoch(x, y)
expected = model.predict(x, n_threads=2)
same = lambda: np.array_equal(model.predict(x, n_threads=2), expected)
learn = lambda: np.isfinite(trainer.run_epoch(x, y)["loss"])
print(in_child(same), in_child(learn), same(), in_child(same))
"""

_POOL = """
import multiprocessing
data = make_data(CASE)
layer = make_layer(CASE, data, n_threads=2)
expected = layer.forward(data.x, lengths=data.lengths)[0]
def work(_):
    return np.array_equal(layer.forward(data.x, lengths=data.lengths)[0], expected)
def pool():
    with multiprocessing.get_context("fork").Pool(3) as workers:
        return workers.map_async(work, range(6)).get(50) == [True] * 6
print(in_child(pool))
"""

_THREAD = """
import threading
data = make_data(CASE)
layer = make_layer(CASE, data, n_threads=2)
expected = layer.forward(data.x, lengths=data.lengths)[0]
stop = False
def busy():
    while not stop:
        layer.forward(data.x, lengths=data.lengths)
threads = [threading.Thread(target=busy) for _ in range(3)]
[thread.start() for thread in threads]
work = lambda: np.array_equal(layer.forward(data.x, lengths=data.lengths)[0], expected)
results = {in_child(work) for _ in range(10)}
stop = True
[thread.join() for thread in threads]
print(results)
"""


def make_model(n_threads: int = 2) -> tuple[_core.Model, _core.Trainer]:
    recurrent = {"cell": "lstm", "input_size": 16, "hidden_size": 128, "bidirectional": True, "n_threads": n_threads}
    model = _core.Model({"recurrent": recurrent, "pooling": "mean", "activation": "softmax", "outputs": 5})
    return model, _core.Trainer(model, {"loss": "cross_entropy", "batch_size": 32, "n_threads": n_threads})


def make_sequences() -> tuple[_core.Sequences, np.ndarray]:
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((length, 16)).astype(np.float32) for length in rng.integers(1, 21, size=96)]
    return _core.Sequences(x), rng.integers(0, 5, size=96).astype(np.int32)


@pytest.mark.skipif(sys.platform != "linux", reason="fork after threads is a matter of Linux")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (_FORWARD, "0 0 0 True"),
        (_PREDICT, "0 0 True 0"),
        (_POOL, "0"),
        (_THREAD, "{0}"),
    ],
    ids=["forward and backward", "predict and train", "pool of processes", "fork while threads work"],
)
def test_work_in_a_forked_process(script: str, expected: str) -> None:
    # Python 3.12 warns about every fork of a process with threads; that it works is what this test shows.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c"]
    program = _PRELUDE.format(tests=str(Path(__file__).parent)) + script
    done = subprocess.run([*command, program], capture_output=True, text=True, timeout=400)
    assert done.stdout == f"{expected}\n", done.stderr[-3000:]


def in_threads(work, count: int = 8) -> list:
    """work(index) in so many Python threads that start together."""
    barrier = threading.Barrier(count)

    def run(index: int):
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_python_threads_share_a_layer(n_threads: int) -> None:
    """Eight threads, each with data of its own, forward and backward on one layer at once."""
    layer = make_layer(CASE, make_data(CASE), n_threads=n_threads)
    data = [make_data(CASE, seed=index) for index in range(8)]
    expected = [run_layer(layer, one).arrays for one in data]

    def work(index: int) -> list[dict[str, np.ndarray]]:
        return [run_layer(layer, data[index]).arrays for _ in range(5)]

    for index, results in enumerate(in_threads(work)):
        for result in results:
            assert_all_bitwise(result, expected[index], f"thread {index}")


@pytest.mark.parametrize("n_threads", [1, 2])
def test_python_threads_share_a_model(n_threads: int) -> None:
    model, trainer = make_model(n_threads)
    x, y = make_sequences()
    trainer.run_epoch(x, y)
    expected = model.predict(x)
    parts = [np.arange(index, 96, 8) for index in range(8)]

    def work(index: int) -> list[np.ndarray]:
        return [model.predict(x.subset(parts[index])) for _ in range(10)]

    for index, results in enumerate(in_threads(work)):
        for result in results:
            assert_bitwise(result, expected[parts[index]], f"thread {index}")


def test_python_threads_train_models_of_their_own() -> None:
    x, y = make_sequences()

    def work(index: int) -> np.ndarray:
        model, trainer = make_model()
        trainer.run_epoch(x, y)
        return model.get_weights()

    alone = work(0)
    for index, weights in enumerate(in_threads(work)):
        assert_bitwise(weights, alone, f"thread {index}")
