"""The demonstration behind ``python -m lstmcore demo``: train, judge, save, reload, stream.

Two tasks. Japanese Vowels: who of nine speakers said /ae/, from ragged recordings. ``--synthetic``: temporal order,
where the answer hangs on two steps that are about 100 steps apart (see :mod:`lstmcore.datasets`).

A bidirectional network, as trained on the vowels, reads a sequence from both ends and so needs all of it before it can
answer: it cannot be streamed. For the part where one sequence is fed step by step a second, forward-only network is
trained there. The synthetic task has a forward-only network from the start.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lstmcore
from lstmcore import datasets
from lstmcore.plotting import confusion_matrix_text, plot_confusion_matrix, plot_learning_curve

__all__ = ["run"]

Sequences = list[NDArray[np.float64]]


@dataclass(frozen=True)
class _Task:
    """Data, and the settings of SequenceClassifier that suit them."""

    title: str
    noun: str  # what one class is
    X_train: Sequences
    y_train: NDArray[Any]
    X_test: Sequences
    y_test: NDArray[Any]
    settings: dict[str, Any]


def run(
    *,
    synthetic: bool = False,
    output: str = "lstmcore-demo",
    seed: int = 0,
    n_seeds: int = 1,
    epochs: int | None = None,
    n_threads: int | None = None,
) -> int:
    """Run the demonstration; prints what it does and returns the exit status (0: everything held).

    Parameters
    ----------
    synthetic : bool, default False
        The generated long-lag task instead of Japanese Vowels.
    output : path, default "lstmcore-demo"
        Folder for the model file and the plots; made if missing.
    seed : int, default 0
        First random_state; also that of generated data.
    n_seeds : int, default 1
        Train so many seeds and report each accuracy and their mean.
    epochs : int, optional
        Passes over the training data; default as chosen for the task.
    n_threads : int, optional
        Threads of the engine; default all.
    """
    missing = _missing_packages(synthetic)
    if missing:
        print(f"This demonstration needs {' and '.join(missing)}, not installed here:", file=sys.stderr)
        print('    pip install "lstmcore[demo]"', file=sys.stderr)
        if not synthetic:
            print("or, without it:    python -m lstmcore demo --synthetic", file=sys.stderr)
        return 2
    build = lstmcore.build_info()
    print(f"lstmcore {lstmcore.__version__}, engine {build['isa']}")
    task = _temporal_order(seed) if synthetic else _japanese_vowels()
    print(task.title)
    settings = {**task.settings, "n_iter_no_change": None, "n_jobs": n_threads}
    if epochs is not None:
        settings["max_iter"] = epochs
    if n_seeds > 1:
        return _run_seeds(task, settings, range(seed, seed + n_seeds))

    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    model = _train(task, {**settings, "random_state": seed}, verbose=1, watch=True)
    predicted = model.predict(task.X_test)
    correct = int((predicted == task.y_test).sum())
    print(f"\nTest accuracy {correct / len(predicted):.4f} ({correct} of {len(predicted)})\n")
    print(confusion_matrix_text(task.y_test, predicted, labels=model.classes_) + "\n")
    _write_plots(folder, model, task.y_test, predicted)
    path = folder / "model.safetensors"
    reloaded_equal = _save_and_reload(path, model, task)
    if model.bidirectional:
        model = _train(task, {**settings, "bidirectional": False, "random_state": seed}, verbose=1, watch=False)
        print(f"its test accuracy: {model.score(task.X_test, task.y_test):.4f}")
        path = folder / "streaming.safetensors"
        model.save(path)
    streamed_equal = _stream(path, model, task)
    return 0 if reloaded_equal and streamed_equal else 1


def _missing_packages(synthetic: bool) -> list[str]:
    needed = {"sklearn": "scikit-learn"}
    if not synthetic:
        needed |= {"sktime": "sktime (its data files)", "matplotlib": "matplotlib", "tqdm": "tqdm"}
    return [name for module, name in needed.items() if importlib.util.find_spec(module) is None]


def _japanese_vowels() -> _Task:
    X_train, y_train = datasets.load_japanese_vowels("train")
    X_test, y_test = datasets.load_japanese_vowels("test")
    lengths = [len(x) for x in X_train + X_test]
    return _Task(
        title=f"Japanese Vowels (Kudo, Toyama & Shimbo 1999): {len(X_train)} training and {len(X_test)} test "
        f"utterances, {min(lengths)} to {max(lengths)} frames of 12 features, 9 speakers",
        noun="speaker",
        X_train=X_train,
        y_train=y_train,
        X_test=X_test,
        y_test=y_test,
        settings={"hidden_size": 64, "bidirectional": True, "pooling": "max", "batch_size": 16, "max_iter": 30},
    )


def _temporal_order(seed: int) -> _Task:
    X, y = datasets.temporal_order(2500, 200, random_state=seed)
    return _Task(
        title="Temporal order (Hochreiter & Schmidhuber 1997, experiment 6a): 2000 training and 500 test sequences of "
        "200 to 220 steps;\nthe class is the order of two symbols that are 80 to 120 steps apart",
        noun="order",
        X_train=X[:2000],
        y_train=y[:2000],
        X_test=X[2000:],
        y_test=y[2000:],
        # Mean over time: the first symbol has still to be remembered until the second, about 100 steps on, but not the
        # outcome until the end. With pooling "last" some seeds need far more epochs or never get there; "max" learns it
        # too, but not always as soon (eight seeds each).
        settings={"hidden_size": 32, "bidirectional": False, "pooling": "mean", "batch_size": 32, "max_iter": 10},
    )


def _train(task: _Task, settings: dict[str, Any], *, verbose: int, watch: bool) -> Any:
    """A fitted SequenceClassifier. watch: record the test loss of each epoch for the plot; nothing is chosen by it."""
    model = lstmcore.SequenceClassifier(**settings, verbose=verbose)
    direction = "bidirectional" if settings["bidirectional"] else "forward-only"
    if verbose:
        print(f"\nTraining a {direction} LSTM of {settings['hidden_size']} units, {settings['max_iter']} epochs")
    start = time.perf_counter()
    model.fit(task.X_train, task.y_train, eval_set=(task.X_test, task.y_test) if watch else None)
    if verbose:
        print(f"trained in {time.perf_counter() - start:.1f} s")
    return model


def _run_seeds(task: _Task, settings: dict[str, Any], seeds: Sequence[int]) -> int:
    accuracies = []
    for seed in seeds:
        start = time.perf_counter()
        model = _train(task, {**settings, "random_state": seed}, verbose=0, watch=False)
        seconds = time.perf_counter() - start
        accuracies.append(float(np.mean(model.predict(task.X_test) == task.y_test)))
        print(f"seed {seed}: test accuracy {accuracies[-1]:.4f}, trained in {seconds:.1f} s", flush=True)
    print(f"mean of {len(accuracies)} seeds: {np.mean(accuracies):.4f} (lowest {min(accuracies):.4f})")
    return 0


def _write_plots(folder: Path, model: Any, y_true: NDArray[Any], y_pred: NDArray[Any]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        print("No plots: matplotlib is not installed (pip install matplotlib)")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    loss, score = figure.subplots(1, 2)
    plot_learning_curve(model, loss)
    plot_learning_curve(model, score, quantity="score")
    score.set_ylabel("accuracy")
    for axes in (loss, score):  # the evaluation set of this fit is the test part
        for line in axes.get_lines():
            if line.get_label() == "validation":
                line.set_label("test")
        axes.legend(frameon=False)
    figure.savefig(folder / "learning-curve.png", dpi=150)
    side = 1.6 + 0.42 * max(len(model.classes_), 6)
    figure = Figure(figsize=(side, side), layout="constrained")
    plot_confusion_matrix(y_true, y_pred, figure.add_subplot(), labels=model.classes_)
    figure.savefig(folder / "confusion-matrix.png", dpi=150)
    print(f"Plots: {folder / 'learning-curve.png'}, {folder / 'confusion-matrix.png'}")


def _save_and_reload(path: Path, model: Any, task: _Task) -> bool:
    model.save(path)
    reloaded = lstmcore.load(path)
    equal = np.array_equal(reloaded.predict_proba(task.X_test), model.predict_proba(task.X_test))
    verdict = "bitwise equal" if equal else "NOT EQUAL"
    print(
        f"Model: {path} ({path.stat().st_size / 1024:.0f} KiB); loaded again, {len(task.X_test)} predictions {verdict}"
    )
    return equal


def _stream(path: Path, model: Any, task: _Task) -> bool:
    """Feed one test sequence step by step to what `load_model` reads from the file of a forward-only model."""
    X, y = task.X_test, task.y_test
    longest = int(np.argmax([len(x) for x in X]))
    sequence, truth = X[longest], y[longest]
    print(f"\nStreaming one test sequence of {len(sequence)} steps (true {task.noun}: {truth}), a step at a time:")
    network = lstmcore.load_model(path)
    state = None
    shown = set(np.linspace(0, len(sequence) - 1, 8).round().astype(int).tolist())
    probabilities = np.empty(0)
    for t, x in enumerate(sequence):
        probabilities, state = network.step(x, state)
        if t in shown:
            best = int(np.argmax(probabilities))
            bar = "█" * round(30 * float(probabilities[best]))
            print(f"  step {t + 1:3d}  {task.noun} {model.classes_[best]}  {probabilities[best]:.3f}  {bar}")
    batch = model.predict_proba([sequence])[0]
    difference = float(np.abs(probabilities - batch).max())
    equal = difference <= 1e-5
    verdict = "the same" if equal else "NOT THE SAME"
    print(f"last streamed probabilities and those of predict_proba: {verdict} (largest difference {difference:.1e})")
    return equal
