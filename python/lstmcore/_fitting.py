"""The loop over epochs: progress, validation, early stopping, callbacks.

An epoch itself is a trainer's: `_core.Trainer` for a `_core.Model`, which runs in C++, or a trainer and a core with the
same methods, `_layer_training.LayerTrainer` and `_layer_network.NetworkCore`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpochInfo", "Part", "Validation", "check_callbacks", "run_epochs"]

Array = NDArray[Any]
Callback = Callable[["EpochInfo"], Any]


@dataclass(frozen=True)
class EpochInfo:
    """What a callback of `fit` is given after each epoch."""

    epoch: int  #: epochs trained so far, this one included; starts at 1, goes on counting with warm_start
    n_epochs: int  #: the number at which training ends at the latest
    loss: float  #: mean loss over the epoch's mini-batches, penalty included
    validation_loss: float | None  #: on eval_set or the held-out part; None where there is neither
    validation_score: float | None  #: accuracy or R² on the same
    learning_rate: float  #: used in this epoch
    seconds: float  #: that the epoch took, validation included
    estimator: Any  #: being fitted; predicts with the weights as they are now


class Part(NamedTuple):
    """Samples with targets. weights: (N,) of the loss, or None for ones."""

    x: Any  #: _core.Sequences or its like: `lengths` and `subset(indices)`
    y: Array
    weights: NDArray[np.float64] | None


class Validation:
    """Sequences on which loss and score are computed after every epoch. score: (N, K) outputs → accuracy or R².

    They are worked off in pieces of a few milliseconds each, because Ctrl-C takes effect between two calls into C++.
    """

    # Multiply-adds of one piece, and those that a step costs beside its matrix products.
    _PIECE, _STEP = 1e8, 2e3

    def __init__(self, part: Part, cost: float, score: Callable[[Array], float]) -> None:
        """cost: multiply-adds of one unit of length."""
        self._score = score
        lengths = part.x.lengths
        order = np.argsort(lengths, kind="stable")
        number = np.cumsum(lengths[order]) * (cost + self._STEP) // self._PIECE
        self._indices = np.split(order, np.flatnonzero(np.diff(number)) + 1)
        self._pieces = [
            Part(part.x.subset(index), part.y[index], None if part.weights is None else part.weights[index])
            for index in self._indices
        ]
        self._count = len(lengths)

    def evaluate(self, trainer: Any, core: Any) -> tuple[float, float]:
        """Loss (weighted mean, without penalty and dropout) and score."""
        total = weight = 0.0
        outputs: Array | None = None
        for index, (x, y, weights) in zip(self._indices, self._pieces, strict=True):
            part_total, share = _loss_sums(trainer, x, y, weights)
            total += part_total
            weight += share
            part = core.predict(x)
            if outputs is None:
                outputs = np.empty((self._count, *part.shape[1:]), dtype=part.dtype)
            outputs[index] = part
        assert outputs is not None  # there is at least one sequence
        return total / weight, float(self._score(outputs))


def _loss_sums(trainer: Any, x: Any, y: Array, weights: Array | None) -> tuple[float, float]:
    """Σ w l and Σ w. A LayerTrainer says itself what w is: one sample may hold many targets."""
    if hasattr(trainer, "evaluate_sums"):
        total, weight = trainer.evaluate_sums(x, y, weights)
        return float(total), float(weight)
    share = float(len(y) if weights is None else weights.sum())
    return (share * float(trainer.evaluate(x, y, weights)) if share > 0 else 0.0), share


def check_callbacks(callbacks: Any) -> list[Callback]:
    """callbacks as a list; TypeError for what cannot be called."""
    if callbacks is None:
        return []
    if callable(callbacks):
        return [callbacks]
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a callable or an iterable of callables. Got {callbacks!r} instead.")
    listed = list(callbacks)
    for position, callback in enumerate(listed):
        if not callable(callback):
            raise TypeError(f"callbacks[{position}] must be callable with an EpochInfo. Got {callback!r} instead.")
    return listed


def run_epochs(
    estimator: Any,
    trainer: Any,
    train: Part,
    validation: Validation | None,
    n_epochs: int,
    callbacks: list[Callback],
    partial: bool = False,
) -> None:
    """Trains estimator.model_ and keeps its fitted attributes up to date after every epoch.

    partial: for partial_fit; no stopping rule applies. On Ctrl-C, what was learnt so far is kept and a warning given.
    """
    restores = bool(estimator.early_stopping) and not partial
    patience = None if partial else estimator.n_iter_no_change
    watch = _Watch(estimator.model_.core, float(estimator.tol), patience, restores)
    first = len(estimator.loss_curve_)
    progress = _Progress(type(estimator).__name__, int(estimator.verbose), n_epochs, silent=partial)
    with progress:
        try:
            for epoch in range(first + 1, first + n_epochs + 1):
                info = _one_epoch(estimator, trainer, train, validation, epoch, first + n_epochs, watch)
                if info is None:
                    break
                progress.update(info)
                # Every callback is called, also after one has asked to stop.
                answers = [callback(info) for callback in callbacks]
                if any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers):
                    progress.say(f"Stopped by a callback after epoch {epoch}.")
                    break
                if watch.exhausted:
                    what = "Validation loss" if restores else "Training loss"
                    progress.say(
                        f"{what} did not improve by tol={watch.tol:g} in {watch.patience} epochs: stopped after epoch "
                        f"{epoch}."
                    )
                    break
        except KeyboardInterrupt:
            done = len(estimator.loss_curve_) - first
            warnings.warn(
                f"Training was interrupted after {done} of {n_epochs} epochs. The estimator keeps what it has learnt.",
                stacklevel=4,
            )
        finally:
            best = watch.restore()
            if best is not None:
                estimator.best_validation_score_ = best.validation_score
                if best.epoch != len(estimator.loss_curve_):
                    progress.say(
                        f"Weights of epoch {best.epoch} restored (validation loss {best.validation_loss:.4g})."
                    )


def _one_epoch(
    estimator: Any,
    trainer: Any,
    train: Part,
    validation: Validation | None,
    epoch: int,
    n_epochs: int,
    watch: _Watch,
) -> EpochInfo | None:
    """None where training cannot go on but the best weights are kept."""
    start = time.perf_counter()
    core: Any = estimator.model_.core
    before = core.get_weights()
    try:
        result = trainer.run_epoch(train.x, train.y, train.weights)
    except RuntimeError as error:
        if "NaN or infinite" not in str(error):
            raise
        core.set_weights(before)
        message = (
            f"Training diverged in epoch {epoch}: {error}. In terms of parameters: lower "
            f"learning_rate_init={estimator.learning_rate_init:g} or clip_norm={estimator.clip_norm!r}, or rescale the "
            "data."
        )
        if watch.best is None:
            raise ValueError(message + f" The weights of epoch {epoch - 1} are kept.") from error
        warnings.warn(message + " The best weights so far are kept.", stacklevel=5)
        return None
    if result["interrupted"]:
        raise KeyboardInterrupt
    loss = float(result["loss"])
    validation_loss = validation_score = None
    if validation is not None:
        validation_loss, validation_score = validation.evaluate(trainer, core)
    trainer.report(loss if validation_loss is None else validation_loss)
    seconds = time.perf_counter() - start
    rate = float(result["learning_rate"])
    info = EpochInfo(epoch, n_epochs, loss, validation_loss, validation_score, rate, seconds, estimator)
    _record(estimator, info)
    watch.see(info)
    estimator.best_loss_ = watch.best_loss
    return info


def _record(estimator: Any, info: EpochInfo) -> None:
    estimator.loss_ = info.loss
    estimator.loss_curve_.append(info.loss)
    estimator.n_iter_ = len(estimator.loss_curve_)
    for name, value in (
        ("validation_loss_curve_", info.validation_loss),
        ("validation_scores_", info.validation_score),
    ):
        curve = getattr(estimator, name)
        if value is None and curve is None:
            continue
        # Epochs without validation are NaN, so that all curves have one entry an epoch.
        curve = [] if curve is None else curve
        curve.extend([float("nan")] * (info.epoch - 1 - len(curve)))
        curve.append(float("nan") if value is None else value)
        setattr(estimator, name, curve)
    if info.validation_score is not None:
        best = estimator.best_validation_score_
        estimator.best_validation_score_ = info.validation_score if best is None else max(best, info.validation_score)


class _Watch:
    """The monitored loss: the best so far, its weights, and how long it has not improved."""

    def __init__(self, core: Any, tol: float, patience: int | None, restores: bool) -> None:
        self.tol = tol
        self.patience = patience
        self.best: EpochInfo | None = None
        self.best_loss = float("inf")
        self._core = core
        self._restores = restores
        self._weights: Array | None = None
        # Compared with the last loss that was better by tol, so that many small improvements add up to one.
        self._reference = float("inf")
        self._stale = 0

    def see(self, info: EpochInfo) -> None:
        monitored = info.validation_loss if self._restores and info.validation_loss is not None else info.loss
        if monitored < self.best_loss:
            self.best_loss = monitored
            if self._restores:
                self.best = info
                self._weights = self._core.get_weights()
        if monitored < self._reference - self.tol:
            self._reference = monitored
            self._stale = 0
        else:
            self._stale += 1

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self._stale >= self.patience

    def restore(self) -> EpochInfo | None:
        if self._weights is not None:
            self._core.set_weights(self._weights)
        return self.best


class _Progress:
    """verbose=1: a tqdm bar, or lines where tqdm is not installed; verbose ≥ 2: a line an epoch."""

    def __init__(self, title: str, verbose: int, n_epochs: int, silent: bool = False) -> None:
        self._title = title
        self._bar: Any = None
        self._lines = verbose >= 2 or (verbose == 1 and silent)
        if verbose == 1 and not silent:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                self._lines = True
            else:
                self._bar = tqdm(total=n_epochs, desc=title, unit="epoch", dynamic_ncols=True)
        self._speaks = self._bar is not None or self._lines

    def __enter__(self) -> _Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, info: EpochInfo) -> None:
        fields = [f"loss {info.loss:.4f}"]
        if info.validation_loss is not None:
            fields.append(f"validation loss {info.validation_loss:.4f}")
        if info.validation_score is not None:
            fields.append(f"score {info.validation_score:.4f}")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(fields), refresh=False)
            self._bar.update()
        elif self._lines:
            fields.append(f"rate {info.learning_rate:.2g}")
            fields.append(f"{info.seconds:.2f} s")
            print(f"{self._title}: epoch {info.epoch}/{info.n_epochs}, " + ", ".join(fields), flush=True)

    def say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(f"{self._title}: {text}")
        elif self._speaks:
            print(f"{self._title}: {text}", flush=True)
