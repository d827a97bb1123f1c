"""What every estimator that trains in epochs shares, whatever its data and its network are."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, check_random_state

from ._fitting import Part, Validation, check_callbacks, run_epochs
from ._parameters import Rule, check_parameters, thread_count
from ._validation import check_count, read_weights

__all__ = ["EpochEstimator"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="EpochEstimator")

# Options of the optimiser that an estimator need not have as parameters, and their values then.
_OPTIONAL: dict[str, Any] = {
    "momentum": 0.9,
    "nesterov": False,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-8,
    "rho": 0.99,
    "schedule_factor": 0.5,
    "schedule_every": 10,
    "clip_value": None,
    "max_norm": None,
    "gradient_noise": 0.0,
}


class EpochEstimator(BaseEstimator):
    """fit, partial_fit, warm start, validation, early stopping and files; not for use on its own."""

    # Rules for constructor parameters that _parameters.RULES does not have, or has otherwise.
    _rules: Mapping[str, Rule] = {}
    # Methods that other estimators have and this one has not → why, and what to do instead.
    _absent: ClassVar[Mapping[str, str]] = {}

    # Constructor parameters that the methods below read; the subclasses list and document them.
    solver: str
    learning_rate_init: float
    learning_rate: str
    alpha: float
    batch_size: int
    max_iter: int
    tol: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int | None
    clip_norm: float | None
    warm_start: bool
    shuffle: bool
    random_state: int | np.random.RandomState | None
    verbose: int
    n_jobs: int | None
    device: str
    precision: str

    # Fitted attributes.
    model_: Any
    n_features_in_: int
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    validation_scores_: list[float] | None
    best_loss_: float
    best_validation_score_: float | None

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def _read_X(self, X: Any, reset: bool, name: str = "X") -> Any:
        """Checked samples with `lengths` (N,); sets (reset) or checks n_features_in_."""
        raise NotImplementedError

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        """y checked, N entries: (N,) int32 class indices, or (N, K) float64, …

        reset: y decides on the classes or on K.
        """
        raise NotImplementedError

    def _read(self, X: Any, y: Any, reset: bool, prefix: str = "", classes: Any = None) -> tuple[Any, Array]:
        """Samples and targets, as many of the one as of the other. prefix: of the arguments' names in errors."""
        samples = self._read_X(X, reset, prefix + "X")
        if y is None and not prefix:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        targets = self._read_targets(y, reset, prefix + "y", classes)
        check_count(len(targets), prefix + "y", len(samples.lengths), prefix + "X")
        return samples, targets

    def _for_core(self, samples: Any) -> Any:
        """Samples as the network takes them: with `lengths` and `subset(indices)`."""
        raise NotImplementedError

    def _loss_weights(self, y: Array, sample_weight: Array | None) -> Array | None:
        """Weight of each sample in the loss."""
        return sample_weight

    def _check_training_weights(self, y: Array, weights: Array) -> None:
        """ValueError where what has a positive weight cannot be trained on."""

    def _start(self, samples: Any, targets: Array, weights: Array | None, seed: int) -> None:
        """Sets model_ to one with fresh weights, its preprocessing learnt from the samples of positive weight."""
        raise NotImplementedError

    def _check_resumed(self) -> None:
        """ValueError for parameters that do not fit the model to go on with."""
        raise NotImplementedError

    def _trainer_options(self) -> dict[str, Any]:
        raise NotImplementedError

    def _new_trainer(self, options: dict[str, Any], seed: int) -> Any:
        """What run_epochs trains model_ with: a _core.Trainer or its like."""
        raise NotImplementedError

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        """Accuracy or R² of the model's outputs."""
        raise NotImplementedError

    def _strata(self, y: Array) -> Array | None:
        """Classes to hold out in equal parts, or None."""
        return None

    def _cost(self) -> float:
        """Multiply-adds that one unit of a sample's length takes, roughly."""
        return float(len(self.model_.core.get_weights()))

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        """Refuses values that are planned but not computed yet."""

    def _fitted_document(self) -> dict[str, Any]:
        """Fitted attributes for a model file, as JSON can hold them, beside those of every estimator."""
        raise NotImplementedError

    def _restore_fitted(self, model: Any, fitted: dict[str, Any]) -> None:
        """Sets these attributes from a file that anyone may have written; ValueError for whatever is wrong with it."""
        raise NotImplementedError

    def _warn_of_settings(self) -> None:
        """Warns of parameters without effect; four levels below the user's call."""

    # --- fitting -----------------------------------------------------------------------------------------------------

    def _partial_fit(self: Self, X: Any, y: Any, classes: Any, sample_weight: ArrayLike | None) -> Self:
        self._check_parameters()
        if self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True: it makes one pass over X. Use early_stopping=False, "
                "or fit with warm_start=True."
            )
        return self._train(X, y, sample_weight, None, None, hasattr(self, "model_"), partial=True, classes=classes)

    def _check_parameters(self) -> None:
        parameters = self.get_params(deep=False)
        check_parameters(type(self).__name__, parameters, self._rules)
        self._check_available(parameters)

    def _train(
        self: Self,
        X: Any,
        y: Any,
        sample_weight: Any,
        eval_set: Any,
        callbacks: Any,
        resume: bool,
        partial: bool = False,
        classes: Any = None,
    ) -> Self:
        callables = check_callbacks(callbacks)
        self._warn_of_settings()
        try:
            trainer, train, validation = self._prepare(X, y, sample_weight, eval_set, resume, partial, classes)
        except BaseException:
            # Classes and features may be those of the new data already, so an old model would answer wrongly.
            if not resume and hasattr(self, "model_"):
                del self.model_
            raise
        run_epochs(self, trainer, train, validation, 1 if partial else self.max_iter, callables, partial)
        return self

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, eval_set: Any, resume: bool, partial: bool, classes: Any
    ) -> tuple[Any, Part, Validation | None]:
        """Checks and converts all data, and makes the model if training does not go on with one."""
        samples, targets = self._read(X, y, reset=not resume, classes=classes)
        count = len(samples.lengths)
        sample_weight = read_weights(sample_weight, count, "sample_weight")
        weights = self._loss_weights(targets, sample_weight)
        if resume:
            self._check_resumed()

        random = check_random_state(self.random_state)
        model_seed, trainer_seed, split_seed = (int(seed) for seed in random.randint(2**31 - 1, size=3))
        train, held_out = self._split(targets, weights, split_seed, split=eval_set is None and self.early_stopping)
        core_samples = self._for_core(samples)
        used = _only(train, weights, count)
        if used is not None and not partial:
            self._check_training_weights(targets, used)
        if not resume:
            self._start(samples, targets, used, model_seed)
            self._reset_curves()
        validation = None
        if eval_set is not None:
            validation = self._read_eval_set(eval_set)
        elif held_out is not None:
            validation = self._validation(
                _part(core_samples, targets, weights, held_out),
                None if sample_weight is None else sample_weight[held_out],
            )
        trainer = self._make_trainer(trainer_seed, reuse=partial)
        return trainer, _part(core_samples, targets, weights, train), validation

    def _reset_curves(self) -> None:
        self.n_iter_ = 0
        self.loss_ = float("nan")
        self.loss_curve_ = []
        self.validation_loss_curve_ = None
        self.validation_scores_ = None
        self.best_loss_ = float("inf")
        self.best_validation_score_ = None

    def _split(
        self, targets: Array, weights: Array | None, seed: int, split: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Indices to train on and, if asked for, to hold out."""
        everything = np.arange(len(targets))
        if not split:
            return everything, None
        try:
            train, held_out = train_test_split(
                everything, test_size=self.validation_fraction, random_state=seed, stratify=self._strata(targets)
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping=True cannot hold out validation_fraction={self.validation_fraction} of "
                f"{len(targets)} sequences: {error} Raise validation_fraction, or pass eval_set."
            ) from error
        for part, name in ((train, "training"), (held_out, "validation")):
            if weights is not None and not np.any(weights[part] > 0):
                raise ValueError(
                    f"The sample weights of the {name} part are all zero. Pass eval_set, or another random_state."
                )
        return np.sort(train), np.sort(held_out)

    def _optimiser_options(self) -> dict[str, Any]:
        """As _core.Optimiser and _core.Trainer call them."""
        optional = {name: getattr(self, name, value) for name, value in _OPTIONAL.items()}
        return {
            "solver": self.solver,
            "learning_rate": float(self.learning_rate_init),
            "momentum": float(optional["momentum"]),
            "nesterov": bool(optional["nesterov"]),
            "beta_1": float(optional["beta_1"]),
            "beta_2": float(optional["beta_2"]),
            "epsilon": float(optional["epsilon"]),
            "rho": float(optional["rho"]),
            "alpha": float(self.alpha),
            "schedule": self.learning_rate,
            "epochs": int(self.max_iter),
            "schedule_factor": float(optional["schedule_factor"]),
            "schedule_every": int(optional["schedule_every"]),
            "tolerance": float(self.tol),
            "clip_norm": float(self.clip_norm or 0.0),
            "clip_value": float(optional["clip_value"] or 0.0),
            "max_norm": float(optional["max_norm"] or 0.0),
            "gradient_noise": float(optional["gradient_noise"]),
            "n_threads": thread_count(self.n_jobs),
        }

    def _make_trainer(self, seed: int, reuse: bool) -> Any:
        """reuse: partial_fit goes on with the optimiser's running averages and schedule, unless parameters changed."""
        options = self._trainer_options()
        kept = getattr(self, "_trainer", None)
        if reuse and kept is not None and kept[0] is self.model_.core and kept[1] == options:
            return kept[2]
        trainer = self._new_trainer(options, seed)
        self._trainer = (self.model_.core, options, trainer)
        return trainer

    def _read_eval_set(self, eval_set: Any) -> Validation:
        if isinstance(eval_set, list) and len(eval_set) == 1 and isinstance(eval_set[0], (tuple, list)):
            eval_set = eval_set[0]
        sets = isinstance(eval_set, list) and len(eval_set) > 1 and all(isinstance(item, tuple) for item in eval_set)
        if not isinstance(eval_set, (tuple, list)) or len(eval_set) not in (2, 3) or sets:
            elements = f"{len(eval_set)} elements" if isinstance(eval_set, (tuple, list)) else type(eval_set).__name__
            raise ValueError(
                "eval_set must be (X, y) or (X, y, sample_weight). Got "
                + (f"a list of {len(eval_set)} tuples" if sets else elements)
                + " instead. Only one evaluation set is supported."
            )
        samples, targets = self._read(eval_set[0], eval_set[1], reset=False, prefix="eval_set ")
        count = len(samples.lengths)
        sample_weight = read_weights(eval_set[2] if len(eval_set) == 3 else None, count, "eval_set sample_weight")
        weights = self._loss_weights(targets, sample_weight)
        return self._validation(Part(self._for_core(samples), targets, weights), sample_weight)

    def _validation(self, part: Part, sample_weight: Array | None) -> Validation:
        def score(outputs: Array) -> float:
            return self._score_outputs(outputs, part.y, sample_weight)

        return Validation(part, self._cost(), score)

    # --- using -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fitted estimator to one safetensors file, atomically; read it with `lstmcore.load`.

        The file holds weights as tensors and everything else as JSON; no pickle. `lstmcore.load_model`, and for
        sequence estimators the C++ `lstmcore::Model::load`, read the network from it. State of the optimiser is not
        kept.

        path: str or os.PathLike. `lstmcore.ModelFileError` or OSError where it cannot be written, ValueError for labels
        or parameters that JSON cannot hold.
        """
        check_is_fitted(self, "model_")
        from .persistence import save

        save(self, path)

    def plot_learning_curve(self, ax: Any = None) -> Any:
        """Plots loss and score over the epochs with matplotlib into `ax` (None: a new figure); returns the axes."""
        check_is_fitted(self, "model_")
        from .plotting import plot_learning_curve

        return plot_learning_curve(self, ax=ax)

    if not TYPE_CHECKING:  # or no misspelt attribute would be found

        def __getattr__(self, name: str) -> Any:
            # Reached only for what does not exist; hasattr stays False.
            reason = type(self)._absent.get(name)
            more = "" if reason is None else f": {reason}"
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{more}", name=name, obj=self)

    def __getstate__(self) -> dict[str, Any]:
        # The optimiser's state lives in C++ and only as long as this process.
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_trainer", None)
        return state


def _part(x: Any, y: Array, weights: Array | None, indices: NDArray[np.int64]) -> Part:
    """The samples that sorted indices name."""
    if len(indices) == len(y):
        return Part(x, y, weights)
    return Part(x.subset(indices), y[indices], None if weights is None else weights[indices])


def _only(indices: NDArray[np.int64], weights: Array | None, count: int) -> Array | None:
    """weights, zero outside indices; None where all are used alike."""
    if len(indices) == count:
        return weights
    used = np.zeros(count)
    used[indices] = 1.0 if weights is None else weights[indices]
    return used
