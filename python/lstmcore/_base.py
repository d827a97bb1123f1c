"""What the estimators of whole sequences share: reading data, building the model, training, streaming, saving."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_array, check_is_fitted, check_random_state, validate_data

from . import _core
from ._fitting import Part, Validation, check_callbacks, run_epochs
from ._parameters import check_available, check_parameters, thread_count
from ._validation import SequenceArrays, check_count, check_resolution, is_table, read_sequences, read_weights
from .model import Model, Stream

__all__ = ["SequenceEstimator"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceEstimator")

_TABLE_HINT = (
    " A 2-D X is a table of N sequences with the same number of steps (its columns); pass sequences of other lengths "
    "as (N, T, 1), as a list of arrays, or padded with NaN."
)


class SequenceEstimator(BaseEstimator):
    """Common part of SequenceClassifier and SequenceRegressor; not for use on its own."""

    # Constructor parameters that the methods below read; the subclasses list and document them.
    cell: str
    cell_options: dict[str, Any] | None
    hidden_size: int
    num_layers: int
    bidirectional: bool
    pooling: str
    pooling_options: dict[str, float] | None
    head_sizes: Sequence[int]
    head_activation: str
    head_dropout: float
    dropout: float
    recurrent_dropout: float
    variational_dropout: float
    zoneout_hidden: float
    zoneout_cell: float
    learn_initial_state: bool
    solver: str
    learning_rate_init: float
    learning_rate: str
    schedule_factor: float
    schedule_every: int
    momentum: float
    nesterov: bool
    beta_1: float
    beta_2: float
    rho: float
    epsilon: float
    alpha: float
    batch_size: int
    max_iter: int
    tol: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int | None
    clip_norm: float | None
    clip_value: float | None
    max_norm: float | None
    gradient_noise: float
    bptt_steps: int | None
    checkpoint_steps: int | None
    standardize: bool
    warm_start: bool
    shuffle: bool
    random_state: int | np.random.RandomState | None
    verbose: int
    n_jobs: int | None
    precision: str

    # Fitted attributes.
    model_: Model
    n_features_in_: int
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    validation_scores_: list[float] | None
    best_loss_: float
    best_validation_score_: float | None
    # Whether fit was given a table, whose number of columns then is the number of steps for good.
    _table: bool

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        """y checked: (N,) int32 class indices or (N, K) float64. reset: y decides on the classes or on K."""
        raise NotImplementedError

    def _loss_weights(self, y: Array, sample_weight: Array | None) -> Array | None:
        """Weight of each sequence in the loss."""
        return sample_weight

    def _check_training_weights(self, y: Array, weights: Array) -> None:
        """ValueError where what has a positive weight cannot be trained on."""

    def _head(self) -> tuple[str, int, str]:
        """Activation, number of outputs K, loss."""
        raise NotImplementedError

    def _target_scaling(self, y: Array, weights: Array | None) -> tuple[Array, Array]:
        """Mean and scale of the targets, (K,) each."""
        raise NotImplementedError

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        """Accuracy or R² of the model's outputs."""
        raise NotImplementedError

    def _strata(self, y: Array) -> Array | None:
        """Classes to hold out in equal parts, or None."""
        return None

    def _wrap(self, core: _core.Model) -> Model:
        """The network with what gives its outputs meaning."""
        raise NotImplementedError

    # --- fitting -----------------------------------------------------------------------------------------------------

    def fit(
        self: Self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Any = None,
    ) -> Self:
        """Trains on N labelled sequences.

        Parameters
        ----------
        X : array (N, T, I), array or frame (N, T), or list of N arrays (T_i, I) or (T_i,)
            Sequences. A tail of steps that are NaN in every feature is padding; NaN or infinity elsewhere is an error
            that names the sequence and step. (N, T) is read as (N, T, 1); its number of columns then is fixed, as for
            every scikit-learn estimator, while the other forms take sequences of any length. Frames in long format and
            sktime panels go through `lstmcore.converters`.
        y : array-like (N,), or (N, K) numbers for SequenceRegressor
            Targets.
        sample_weight : array-like (N,), default None
            Weight of each sequence in the loss and in the standardisation, ≥ 0. None: all 1.
        eval_set : (X, y) or (X, y, sample_weight), default None
            Loss and score on it are computed after every epoch. With ``early_stopping=True`` it is the set that
            decides, and no part of X is held out.
        callbacks : callable or iterable of callables, default None
            Each is called as ``callback(info)`` after every epoch, info being an `lstmcore.EpochInfo`: epoch, n_epochs,
            loss, validation_loss, validation_score, learning_rate, seconds, estimator. Training stops after an epoch
            for which one returns True.

        Returns
        -------
        self
            Also after Ctrl-C, which ends training with a warning and keeps what was learnt until then.

        Raises
        ------
        ValueError
            Data or parameters that cannot be used, or training that diverged (NaN loss); the message names the
            argument.
        NotImplementedError
            A parameter value that is planned but not available; the message says what to use instead.
        """
        self._check_parameters()
        return self._train(X, y, sample_weight, eval_set, callbacks, self.warm_start and hasattr(self, "model_"))

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
        check_parameters(type(self).__name__, parameters)
        check_available(parameters)

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
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout={self.dropout!r} has no effect with num_layers=1: it acts between layers. Use more layers or "
                "dropout=0.0.",
                stacklevel=3,
            )
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
    ) -> tuple[_core.Trainer, Part, Validation | None]:
        """Checks and converts all data, and makes the model if training does not go on with one."""
        sequences = self._read_X(X, reset=not resume)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        targets = self._read_targets(y, not resume, "y", classes)
        count = len(sequences.lengths)
        check_count(len(targets), "y", count, "X")
        sample_weight = read_weights(sample_weight, count, "sample_weight")
        weights = self._loss_weights(targets, sample_weight)
        if resume:
            self._check_resumed()

        random = check_random_state(self.random_state)
        model_seed, trainer_seed, split_seed = (int(seed) for seed in random.randint(2**31 - 1, size=3))
        train, held_out = self._split(targets, weights, split_seed, split=eval_set is None and self.early_stopping)
        core_sequences = sequences.to_core(self.precision)
        used = _only(train, weights, count)
        if used is not None and not partial:
            self._check_training_weights(targets, used)
        if not resume:
            self._start(sequences, targets, used, model_seed)
        validation = None
        if eval_set is not None:
            validation = self._read_eval_set(eval_set)
        elif held_out is not None:
            validation = self._validation(
                _part(core_sequences, targets, weights, held_out),
                None if sample_weight is None else sample_weight[held_out],
            )
        trainer = self._make_trainer(trainer_seed, reuse=partial)
        return trainer, _part(core_sequences, targets, weights, train), validation

    def _read_X(self, X: Any, reset: bool, name: str = "X") -> SequenceArrays:
        """Checked sequences; sets (reset) or checks n_features_in_ and feature_names_in_."""
        table = is_table(X, name)
        if table:
            # NaN passes here: in a row's tail it means that the sequence is shorter.
            array = check_array(X, dtype=[np.float64, np.float32], ensure_all_finite=False, input_name=name)
            if reset or self._table:
                try:
                    validate_data(self, X, reset=reset, skip_check_array=True)
                except ValueError as error:
                    if "features as input" not in str(error):
                        raise
                    raise ValueError(str(error) + _TABLE_HINT) from None
            X = array
        sequences = read_sequences(X, name)
        if reset:
            self._table = table
            if not table:
                self.n_features_in_ = sequences.features
                if hasattr(self, "feature_names_in_"):
                    del self.feature_names_in_
        elif sequences.features != self.model_.n_features:
            raise ValueError(
                f"{name} has {sequences.features} features, but {type(self).__name__} is expecting "
                f"{self.model_.n_features} features as input. Expected (N, T, {self.model_.n_features}) or a list of "
                f"(T_i, {self.model_.n_features}) arrays."
            )
        return sequences

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

    def _start(self, sequences: SequenceArrays, targets: Array, weights: Array | None, seed: int) -> None:
        """A new model with fresh weights, its preprocessing learnt from the sequences of positive weight."""
        activation, outputs, _ = self._head()
        features = sequences.features
        config = {
            "recurrent": {
                "cell": self.cell,
                "input_size": features,
                "hidden_size": int(self.hidden_size),
                "num_layers": int(self.num_layers),
                "bidirectional": bool(self.bidirectional),
                "dropout": float(self.dropout),
                "variational_dropout": float(self.variational_dropout),
                "recurrent_dropout": float(self.recurrent_dropout),
                "zoneout_hidden": float(self.zoneout_hidden),
                "zoneout_cell": float(self.zoneout_cell),
                "learn_initial_state": bool(self.learn_initial_state),
                "dtype": self.precision,
                "seed": seed,
                "n_threads": thread_count(self.n_jobs),
                "cell_options": dict(self.cell_options or {}),
            },
            "activation": activation,
            "outputs": outputs,
            **self._top_config(),
        }
        core = _core.Model(config)
        if self.standardize:
            mean, deviation = sequences.moments(weights)
            check_resolution(mean, deviation, self.precision)
            target_mean, target_scale = self._target_scaling(targets, weights)
            core.set_preprocessing(mean, _inverse(deviation), target_mean, _inverse(target_scale))
        self.model_ = self._wrap(core)
        self.n_iter_ = 0
        self.loss_ = float("nan")
        self.loss_curve_ = []
        self.validation_loss_curve_ = None
        self.validation_scores_ = None
        self.best_loss_ = float("inf")
        self.best_validation_score_ = None

    def _top_config(self) -> dict[str, Any]:
        """Pooling and hidden layers of the head as the network's configuration has them, defaults included."""
        options = {"size": 0, "patterns": 1, "beta": 0.0, "updates": 1, **(self.pooling_options or {})}
        return {
            "pooling": self.pooling,
            **{f"pooling_{name}": value for name, value in options.items()},
            "head_sizes": [int(size) for size in self.head_sizes],
            "head_activation": self.head_activation,
            "head_dropout": float(self.head_dropout),
        }

    def _check_resumed(self) -> None:
        """Architecture parameters of a model that training goes on with cannot change."""
        config = self.model_.config
        recurrent = config["recurrent"]
        for name, now in (
            ("cell", recurrent["cell"]),
            ("hidden_size", recurrent["hidden_size"]),
            ("num_layers", recurrent["num_layers"]),
            ("bidirectional", recurrent["bidirectional"]),
            ("dropout", recurrent["dropout"]),
            ("variational_dropout", recurrent["variational_dropout"]),
            ("recurrent_dropout", recurrent["recurrent_dropout"]),
            ("zoneout_hidden", recurrent["zoneout_hidden"]),
            ("zoneout_cell", recurrent["zoneout_cell"]),
            ("learn_initial_state", recurrent["learn_initial_state"]),
            ("precision", recurrent["dtype"]),
        ):
            if getattr(self, name) != now:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}, but the model to go on with has {now!r}. Set it back, or fit "
                    "anew with warm_start=False."
                )
        for name, value in self._top_config().items():
            if config[name] != value:
                raise ValueError(
                    f"{name}={value!r}, but the model to go on with has {config[name]!r}. Set it back, or fit "
                    "anew with warm_start=False."
                )
        options = recurrent["cell_options"]
        changed = [option for option, value in (self.cell_options or {}).items() if options.get(option, value) != value]
        if changed:
            raise ValueError(
                f"cell_options: {changed[0]!r} differs from the model to go on with. Fit anew with warm_start=False."
            )

    def _trainer_options(self) -> dict[str, Any]:
        return {
            "solver": self.solver,
            "learning_rate": float(self.learning_rate_init),
            "momentum": float(self.momentum),
            "nesterov": bool(self.nesterov),
            "beta_1": float(self.beta_1),
            "beta_2": float(self.beta_2),
            "epsilon": float(self.epsilon),
            "rho": float(self.rho),
            "alpha": float(self.alpha),
            "schedule": self.learning_rate,
            "epochs": int(self.max_iter),
            "schedule_factor": float(self.schedule_factor),
            "schedule_every": int(self.schedule_every),
            "tolerance": float(self.tol),
            "clip_norm": float(self.clip_norm or 0.0),
            "clip_value": float(self.clip_value or 0.0),
            "max_norm": float(self.max_norm or 0.0),
            "gradient_noise": float(self.gradient_noise),
            "label_smoothing": float(getattr(self, "label_smoothing", 0.0)),  # classifiers only
            "bptt_steps": int(self.bptt_steps or 0),
            "checkpoint_steps": int(self.checkpoint_steps or 0),
            "batch_size": int(self.batch_size),
            "shuffle": bool(self.shuffle),
            "n_threads": thread_count(self.n_jobs),
            "loss": self._head()[2],
        }

    def _make_trainer(self, seed: int, reuse: bool) -> _core.Trainer:
        """reuse: partial_fit goes on with the optimiser's running averages and schedule, unless parameters changed."""
        options = self._trainer_options()
        kept = getattr(self, "_trainer", None)
        if reuse and kept is not None and kept[0] is self.model_.core and kept[1] == options:
            trainer: _core.Trainer = kept[2]
            return trainer
        trainer = _core.Trainer(self.model_.core, {**options, "seed": seed})
        self._trainer = (self.model_.core, options, trainer)
        return trainer

    def _read_eval_set(self, eval_set: Any) -> Validation:
        if isinstance(eval_set, list) and len(eval_set) == 1 and isinstance(eval_set[0], (tuple, list)):
            eval_set = eval_set[0]
        if not isinstance(eval_set, (tuple, list)) or len(eval_set) not in (2, 3):
            raise ValueError(
                "eval_set must be (X, y) or (X, y, sample_weight). Got "
                + (f"{len(eval_set)} elements" if isinstance(eval_set, (tuple, list)) else f"{type(eval_set).__name__}")
                + " instead. Only one evaluation set is supported."
            )
        sequences = self._read_X(eval_set[0], reset=False, name="eval_set X")
        targets = self._read_targets(eval_set[1], False, "eval_set y")
        count = len(sequences.lengths)
        check_count(len(targets), "eval_set y", count, "eval_set X")
        sample_weight = read_weights(eval_set[2] if len(eval_set) == 3 else None, count, "eval_set sample_weight")
        weights = self._loss_weights(targets, sample_weight)
        return self._validation(Part(sequences.to_core(self.precision), targets, weights), sample_weight)

    def _validation(self, part: Part, sample_weight: Array | None) -> Validation:
        def score(outputs: Array) -> float:
            return self._score_outputs(outputs, part.y, sample_weight)

        return Validation(part, len(self.model_.core.get_weights()), score)

    # --- using -------------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """(N, K) of the head, in the model's dtype."""
        check_is_fitted(self, "model_")
        sequences = self._read_X(X, reset=False)
        outputs: Array = self.model_.core.predict(
            sequences.to_core(self.model_.dtype), n_threads=thread_count(self.n_jobs)
        )
        return outputs

    def step(self, x: ArrayLike, state: Stream | None = None) -> tuple[Array, Stream]:
        """Predicts along a stream, one time step a call.

        Parameters
        ----------
        x : array-like (I,) or (N, I)
            Features of the next step of one stream, or of N streams at once.
        state : Stream or None
            What the last call returned; None starts. It is updated in place; ``state.copy()`` keeps the old one.

        Returns
        -------
        output : ndarray (K,) or (N, K)
            Class probabilities (classifier) or numbers in the units of y (regressor) for the steps so far: after the
            last step of a sequence, the same that predict_proba or predict gives for the whole of it.
        state : Stream

        Raises
        ------
        ValueError
            Bidirectional model, wrong number of features, NaN or infinity.
        """
        check_is_fitted(self, "model_")
        return self.model_.step(x, state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fitted estimator to one safetensors file, atomically; read it with `lstmcore.load`.

        The file holds weights as tensors and everything else as JSON; no pickle. `lstmcore.load_model` and the C++
        `lstmcore::Model::load` read the network from it. State of the optimiser is not kept.
        """
        check_is_fitted(self, "model_")
        from .persistence import save

        save(self, path)

    def plot_learning_curve(self, ax: Any = None) -> Any:
        """Plots loss and score over the epochs with matplotlib into `ax` (None: a new figure); returns the axes."""
        check_is_fitted(self, "model_")
        from .plotting import plot_learning_curve

        return plot_learning_curve(self, ax=ax)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # The optimiser's state lives in C++ and only as long as this process.
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_trainer", None)
        return state


def _part(x: _core.Sequences, y: Array, weights: Array | None, indices: NDArray[np.int64]) -> Part:
    """The sequences that sorted indices name."""
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


def _inverse(deviation: Array) -> Array:
    """1/deviation, and 1 for constants."""
    return np.divide(1.0, deviation, out=np.ones_like(deviation), where=deviation > 0)
