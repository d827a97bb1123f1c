"""Whole fits: an estimator's fit() against the same training written as a loop in PyTorch.

Equal on both sides: data, standardisation (inside the timed part), network, head, pooling, initialisation (orthogonal
recurrent weights, forget bias 1), loss, Adam with one learning rate, clipping, batch size, number of epochs, threads.
The loop is lean: no DataLoader, the data as tensors before the first epoch, ragged batches packed.
Seeds alternate: ours, theirs, ours, theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pack_sequence

import lstmcore
from lstmcore import datasets

Array = NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """One training job; settings under the estimator's names. score: "accuracy" or "mse", on the test part."""

    name: str
    load: Callable[[int], tuple[Any, Array, Any, Array]]
    score: str
    hidden_size: int
    batch_size: int
    max_iter: int
    learning_rate_init: float = 5e-3
    bidirectional: bool = False
    clip_norm: float = 5.0
    seeds: int = 5
    steps_only: bool = False  # too short to learn anything: report the time of one optimiser step instead of a score


def recipes(quick: bool) -> list[Recipe]:
    if quick:
        return [
            Recipe("digits", lambda seed: _digits(seed, 300), "accuracy", 16, 32, 2, seeds=1),
            Recipe("Japanese Vowels", lambda _: _vowels(), "accuracy", 16, 16, 1, bidirectional=True, seeds=1),
            Recipe("adding problem T 20", lambda seed: _adding(seed, 64, 20), "mse", 16, 32, 1, seeds=1),
        ]
    return [
        Recipe("digits", lambda seed: _digits(seed, None), "accuracy", 64, 32, 20),
        Recipe("Japanese Vowels", lambda _: _vowels(), "accuracy", 64, 16, 30, bidirectional=True),
        Recipe("adding problem T 100", lambda seed: _adding(seed, 3200, 100), "mse", 64, 32, 15, seeds=3),
        *(
            Recipe(f"adding problem T {T}", lambda seed, T=T: _adding(seed, 320, T), "mse", 64, 32, 1, steps_only=True)
            for T in (400, 1000)
        ),
    ]


def _digits(seed: int, n: int | None) -> tuple[Any, Array, Any, Array]:
    from sklearn.model_selection import train_test_split

    X, y = datasets.digits_as_sequences()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
    return X_train[:n], y_train[:n], X_test, y_test


def _vowels() -> tuple[Any, Array, Any, Array]:
    return (*datasets.load_japanese_vowels("train"), *datasets.load_japanese_vowels("test"))


def _adding(seed: int, n: int, length: int) -> tuple[Any, Array, Any, Array]:
    X, y = datasets.adding_problem(n + 500, length, random_state=seed)
    return X[:n], y[:n], X[n:], y[n:]


def run(quick: bool, n_threads: int, patterns: list[str]) -> list[dict[str, Any]]:
    """Time every recipe whose name contains one of the patterns (all without patterns)."""
    torch.set_num_threads(n_threads)
    results = []
    for recipe in recipes(quick):
        if patterns and not any(pattern in recipe.name for pattern in patterns):
            continue
        sides = {"lstmcore": fit_ours, "torch": fit_torch}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        scores: dict[str, list[float]] = {name: [] for name in sides}
        data = recipe.load(0)
        for fit in sides.values():  # both libraries set themselves up at the first call
            fit(recipe, data, 0, n_threads, max_iter=1)
        for seed in range(recipe.seeds):
            data = recipe.load(seed)
            for name, fit in sides.items():
                duration, score = fit(recipe, data, seed, n_threads, max_iter=recipe.max_iter)
                seconds[name].append(duration)
                scores[name].append(score)
        n_steps = recipe.max_iter * -(-len(data[1]) // recipe.batch_size)
        results.append(
            {
                "name": recipe.name,
                "threads": n_threads,
                "settings": {
                    key: getattr(recipe, key)
                    for key in ("hidden_size", "batch_size", "max_iter", "learning_rate_init", "bidirectional")
                },
                "seconds": seconds,
                "score_name": recipe.score,
                "scores": None if recipe.steps_only else scores,
                "steps": n_steps,
                "ratio": float(np.median(seconds["torch"]) / np.median(seconds["lstmcore"])),
            }
        )
        print(f"  {recipe.name}: {_summary(results[-1])}", flush=True)
    return results


def _summary(result: dict[str, Any]) -> str:
    parts = []
    for name, seconds in result["seconds"].items():
        score = f" ({result['score_name']} {np.mean(result['scores'][name]):.4f})" if result["scores"] else ""
        parts.append(f"{name} {np.median(seconds):.2f} s{score}")
    return ", ".join(parts) + f", ratio {result['ratio']:.2f}"


def fit_ours(
    recipe: Recipe, data: Any, seed: int, n_threads: int, *, max_iter: int, precision: str = "float32"
) -> tuple[float, float]:
    """Seconds of fit(), and the score on the test part."""
    X_train, y_train, X_test, y_test = data
    kind = lstmcore.SequenceClassifier if recipe.score == "accuracy" else lstmcore.SequenceRegressor
    model = kind(
        hidden_size=recipe.hidden_size,
        bidirectional=recipe.bidirectional,
        pooling="last",
        batch_size=recipe.batch_size,
        max_iter=max_iter,
        learning_rate_init=recipe.learning_rate_init,
        clip_norm=recipe.clip_norm,
        n_iter_no_change=None,  # exactly max_iter epochs
        random_state=seed,
        n_jobs=n_threads,
        precision=precision,
    )
    start = time.perf_counter()
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    return seconds, _score(recipe, model.predict(X_test), y_test)


class _Network(torch.nn.Module):
    """LSTM, state after the last step of each direction, dense head; initialised as ours is."""

    def __init__(self, features: int, recipe: Recipe, outputs: int) -> None:
        super().__init__()
        H = recipe.hidden_size
        self.lstm = torch.nn.LSTM(features, H, batch_first=True, bidirectional=recipe.bidirectional)
        self.head = torch.nn.Linear(H * (2 if recipe.bidirectional else 1), outputs)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.data.split(H):
                    torch.nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                torch.nn.init.xavier_uniform_(parameter)
            else:
                torch.nn.init.zeros_(parameter)
                if name.startswith("bias_ih"):
                    parameter.data[H : 2 * H] = 1.0

    def forward(self, x: Any) -> torch.Tensor:
        _, (h, _) = self.lstm(x)
        out: torch.Tensor = self.head(torch.cat([*h], dim=1))
        return out


def fit_torch(recipe: Recipe, data: Any, seed: int, n_threads: int, *, max_iter: int) -> tuple[float, float]:
    """Seconds from arrays to trained network, and the score on the test part."""
    del n_threads  # set for the whole process
    X_train, y_train, X_test, y_test = data
    torch.manual_seed(seed)
    start = time.perf_counter()
    ragged = isinstance(X_train, list)
    steps = np.concatenate(X_train) if ragged else X_train.reshape(-1, X_train.shape[-1])
    mean, scale = steps.mean(axis=0), steps.std(axis=0)
    scale[scale == 0] = 1.0

    def prepare(X: Any) -> Any:
        if ragged:
            return [torch.from_numpy(((x - mean) / scale).astype(np.float32)) for x in X]
        return torch.from_numpy(((X - mean) / scale).astype(np.float32))

    def batch(x: Any, index: Array) -> Any:
        if ragged:
            return pack_sequence([x[i] for i in index], enforce_sorted=False)
        return x[torch.from_numpy(index)]

    x = prepare(X_train)
    classify = recipe.score == "accuracy"
    classes, target = np.unique(y_train, return_inverse=True) if classify else (None, y_train)
    y_mean, y_scale = (0.0, 1.0) if classify else (y_train.mean(), y_train.std())
    y = torch.from_numpy(target) if classify else torch.from_numpy(((target - y_mean) / y_scale).astype(np.float32))
    network = _Network(steps.shape[1], recipe, len(classes) if classify else 1)
    loss_of: Any = torch.nn.CrossEntropyLoss() if classify else torch.nn.MSELoss()
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate_init)
    rng = np.random.default_rng(seed)
    for _ in range(max_iter):
        order = rng.permutation(len(target))
        for first in range(0, len(order), recipe.batch_size):
            index = order[first : first + recipe.batch_size]
            optimiser.zero_grad()
            output = network(batch(x, index))
            loss = loss_of(output if classify else output[:, 0], y[torch.from_numpy(index)])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimiser.step()
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        output = network(batch(prepare(X_test), np.arange(len(y_test)))).numpy()
    predicted = classes[output.argmax(axis=1)] if classify else output[:, 0] * y_scale + y_mean
    return seconds, _score(recipe, predicted, y_test)


def _score(recipe: Recipe, predicted: Array, expected: Array) -> float:
    return float(np.mean(predicted == expected if recipe.score == "accuracy" else (predicted - expected) ** 2))
