"""examples/long_time_lag: the paper's networks and criteria, and that both ways of training learn."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "long_time_lag"


@pytest.fixture(scope="module")
def example():
    """Its modules, which import each other as scripts of one folder do."""
    names = ("networks", "tasks", "run", "forward_in_time")
    sys.path.insert(0, str(FOLDER))
    try:
        import networks
        import run
        import tasks

        yield networks, tasks, run
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


TASKS = ["reber", "2a", "2b", "2c", "3a", "3a-1", "3b", "3c", "adding", "multiplication", "6a", "6b"]
WEIGHTS = [264, 10504, 10504, 364, 102, 102, 102, 102, 93, 93, 156, 308]  # tables 1 to 9 of the paper


@pytest.mark.parametrize(("name", "weights"), list(zip(TASKS, WEIGHTS, strict=True)))
def test_networks_have_as_many_weights_as_those_of_the_paper(example, name, weights):
    networks, tasks, _ = example
    assert list(tasks.TASKS) == TASKS
    task = tasks.TASKS[name](None, 0)
    network = networks.Network1997(task.inputs, task.outputs, task.every_step, task.setup, 0)
    assert network.count == task.weights == weights
    before = {key: w.copy() for key, w in [*network.weights.items(), ("V", network.V), ("c", network.c)]}
    X, targets = task.make(3, np.random.default_rng(0))
    for x, target in zip(X, targets, strict=True):
        outputs = network.train([x], [target])
        assert outputs[0].shape == target.shape
    # What moved is what was counted, and nothing else; a gate may by chance leave single weights alone.
    moved = sum(np.count_nonzero(w != before[key]) for key, w in [*network.weights.items(), ("V", network.V)])
    frozen = sum(np.count_nonzero(mask == 0) for mask in network.trained.values())
    assert moved <= sum(w.size for w in network.weights.values()) + network.V.size - frozen
    for key, mask in network.trained.items():
        np.testing.assert_array_equal(network.weights[key][mask == 0], before[key][mask == 0])
    if task.setup.biases != "all":
        assert not network.c.any()


def test_initial_weights_and_biases(example):
    networks, tasks, _ = example
    task = tasks.TASKS["3a"](None, 0)
    network = networks.Network1997(1, 1, False, task.setup, 5)
    assert network.weights["b_l0"].tolist()[:3] == [-1.0, -3.0, -5.0]
    assert network.weights["b_l0"].tolist()[-3:] == [-2.0, -4.0, -6.0]
    assert np.abs(network.weights["R_l0"]).max() <= 0.1
    assert np.abs(network.weights["R_l0"]).max() > 0.08


@pytest.mark.parametrize("truncated", [True, False])
def test_error_leaves_the_cells_only_with_the_full_gradient(example, truncated):
    """Gradient of the weights by finite differences, which the truncated one must not agree with."""
    networks, tasks, _ = example
    task = tasks.TASKS["6a"](20, 0)
    network = networks.Network1997(8, 4, False, dataclasses.replace(task.setup, interval=0.5, truncated=truncated), 0)
    network.setup = dataclasses.replace(network.setup, learning_rate=1.0)
    X, targets = task.make(1, np.random.default_rng(0))
    R = network.weights["R_l0"]

    def loss():
        return 0.5 * float(((network.outputs(X)[0].astype(np.float64) - targets[0]) ** 2).sum())

    expected = np.empty(R.shape)
    for index in np.ndindex(R.shape):
        value, R[index] = R[index], R[index] + 0.05
        up = loss()
        R[index] = value - np.float32(0.05)
        down = loss()
        R[index] = value
        expected[index] = (up - down) / 0.1
    before = R.copy()
    network.train(X, targets)
    off = np.abs(before - R - expected).max() / np.abs(expected).max()
    assert off < 0.02 if not truncated else off > 0.1, off


@pytest.mark.parametrize("T", [41, 32])
def test_learning_is_that_of_a_network_forward_in_time(example, T):
    """Weights after 40 strings of the Reber grammar: lstm1997 (float32) against plain NumPy without a backward pass."""
    networks, tasks, _ = example
    import forward_in_time

    task = tasks.TASKS["reber"](T, 3)
    network = networks.Network1997(7, 7, True, task.setup, 3)
    start = network.weights["W_l0"].copy()
    other = forward_in_time.ForwardInTime([network])
    X, targets = task.make(40, np.random.default_rng(3))
    for x, target in zip(X, targets, strict=True):
        (ours,) = network.train([x], [target])
        np.testing.assert_allclose(ours, other.run([x], [target])[0], rtol=0, atol=2e-6)
    W, R, b = (network.weights[name] for name in ("W_l0", "R_l0", "b_l0"))
    np.testing.assert_allclose(np.column_stack([W, R, b]), other.A[0], rtol=0, atol=5e-6)
    np.testing.assert_allclose(network.V, other.V[0, :, :-1], rtol=0, atol=5e-6)
    assert np.abs(W - start).max() > 0.05
    assert not other.V[0, :, -1].any()


def test_runs_forward_in_time_do_not_touch_each_other(example):
    networks, tasks, _ = example
    import forward_in_time

    task = tasks.TASKS["reber"](32, 0)
    options = {"output_biases": True, "every_symbol": True}
    members = [networks.Network1997(7, 7, True, task.setup, seed) for seed in range(3)]
    together = forward_in_time.ForwardInTime(members, **options)
    alone = forward_in_time.ForwardInTime(members[1:2], **options)
    X, targets = task.make(15, np.random.default_rng(0))  # of different lengths
    for k in range(0, 15, 3):
        together.run(X[k : k + 3], targets[k : k + 3])
        alone.run(X[k + 1 : k + 2], targets[k + 1 : k + 2])
    np.testing.assert_allclose(together.A[1], alone.A[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(together.V[1], alone.V[0], rtol=0, atol=1e-13)
    assert alone.V[0, :, -1].all()
    read = together.alone(1, 15).outputs(X)
    for x, y in zip(X, read, strict=True):
        np.testing.assert_allclose(y, alone.run([x])[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("practice", ["1997", "1997 without slope", "today"])
@pytest.mark.parametrize("name", ["6a", "adding"])
def test_gradient_of_the_readout(example, practice, name):
    """Of half the squared error, or the cross-entropy, by finite differences of the readout's weights."""
    networks, tasks, _ = example
    task = tasks.TASKS[name](22, 0)
    if practice != "today":
        setup = dataclasses.replace(task.setup, slope=practice == "1997")
        network = networks.Network1997(task.inputs, task.outputs, False, setup, 0)
    else:
        network = networks.NetworkToday(task.inputs, task.outputs, False, task.classes, task.today, 0)
    X, targets = task.make(4, np.random.default_rng(0))
    _, state = network.layer.forward(X)
    rows = state["h"][0].astype(np.float64)
    network.V, network.c = network.V.astype(np.float64), network.c.astype(np.float64)
    wanted = np.asarray(targets, dtype=np.float64)

    def loss():
        outputs = network.activate(network.scores(rows, None))
        if practice == "today" and task.classes:
            return -(wanted * np.log(outputs)).sum() / 4
        if practice == "1997 without slope":
            return -(wanted * np.log(outputs) + (1 - wanted) * np.log(1 - outputs)).sum()
        return 0.5 * ((outputs - wanted) ** 2).sum() / (4 if practice == "today" else 1)

    slopes = network.slope(network.activate(network.scores(rows, None)), wanted, 4)
    expected = slopes.T @ rows
    for index in np.ndindex(network.V.shape):
        value = network.V[index]
        network.V[index] = value + 1e-6
        up = loss()
        network.V[index] = value - 1e-6
        down = loss()
        network.V[index] = value
        assert abs((up - down) / 2e-6 - expected[index]) < 1e-7  # today's slopes are float32


def test_recent_criterion(example):
    _, tasks, _ = example
    criterion = tasks.Recent(0.04, wrong=0, mean=0.01, window=5)
    zero = [np.zeros(2)]

    def seen(*errors):
        for error in errors:
            criterion.seen([np.array([0.0, error])], zero)
        return criterion.met(None)

    assert not seen(0.0, 0.0, 0.0, 0.0)  # too few
    assert seen(0.0)
    assert not seen(0.05)
    assert not seen(0.0, 0.0, 0.0, 0.0)
    assert seen(0.0)  # the wrong one has left the window
    assert not seen(0.03, 0.03, 0.03, 0.03, 0.03)  # all right, but 0.015 off on average over both outputs
    assert not seen(float("nan"))
    lenient = tasks.Recent(0.04, wrong=2, window=5)
    for error in (0.05, 0.0, 0.05, 0.0, 0.0):
        lenient.seen([np.array([error])], [np.zeros(1)])
    assert lenient.met(None)
    for _ in range(3):
        lenient.seen([np.array([0.05])], [np.zeros(1)])
    assert not lenient.met(None)
    steps = tasks.Recent(0.25, window=1)
    steps.seen([np.array([[0.9, 0.9], [0.1, 0.2]])], [np.zeros((2, 2))])
    assert steps.met(None)  # the last step counts


def test_tested_criterion(example):
    _, tasks, _ = example
    tried = []
    criterion = tasks.Tested(lambda network: tried.append(network) or True, every=3, limit=0.2, streak=2)
    met = []
    for k, error in enumerate((0.0, 0.0, 0.3, 0.0, 0.0)):
        criterion.seen([np.array([error])], [np.zeros(1)])
        met.append(criterion.met(k))
    assert met == [False, False, False, False, True]
    assert tried == [4]


@pytest.mark.parametrize(("practice", "name"), [("1997", "6a"), ("today", "6a"), ("today", "adding")])
def test_the_command(practice, name):
    command = [sys.executable, "-W", "error", str(FOLDER / "run.py"), "--task", name, "--T", "24", "--seeds", "2"]
    done = subprocess.run(
        [*command, "--practice", practice, "--limit", "40"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith("seed 1: not solved after 40 sequences")
    assert "| 0 of 2 | - | - |" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--task", "adding", "--T", "5"], "length must be an int of at least 22"),
        (["--task", "reber", "--T", "40"], "must be 41"),
        (["--learning-rate", "nan"], "--learning-rate must be a number above 0"),
        (["--first-seed", "-1"], "--first-seed must be at least 0"),
        (["--practice", "1997", "--cell", "gru"], "the paper's are fixed"),
        (["--practice", "today", "--no-slope"], "--no-slope and --full-gradient are for --practice 1997"),
        (["--full-gradient"], "--no-slope and --full-gradient are for --practice 1997"),
    ],
)
def test_wrong_arguments_are_named(example, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit):
        example[2].main()
    assert message in capsys.readouterr().err


def test_temporal_order_is_learnt_as_today(example):
    """Over 20 steps, to the paper's criterion: 2000 sequences in a row right."""
    networks, tasks, run = example
    task = tasks.TASKS["6a"](20, 0)
    network = networks.NetworkToday(task.inputs, task.outputs, False, True, task.today, 0)
    result = run.train(task, network, task.today.batch_size, 0, 10_000, 1.0)
    assert result.solved, result
    assert result.wrong < 0.01
