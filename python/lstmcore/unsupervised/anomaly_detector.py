"""SequenceAnomalyDetector: sequences, and steps of them, that do not go on as the normal ones do."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from .._fitting import Part, Validation
from .._parameters import BFLOAT16, RULES, Rule, check_available, choice, is_real, network_types, store, weight_dtype
from .._step_estimator import as_written
from .._steps import Steps, steps_of
from .._validation import check_resolution, read_weights
from .detector_model import AnomalyStream, DetectorModel
from .estimator import UnlabelledEstimator, without_labels
from .forecast_network import AGGREGATIONS, LOSSES, START, ForecastNetwork
from .pieces import Pieces, beginnings, cut_pieces, whole
from .thresholds import lower_quantile

if TYPE_CHECKING:
    from ..edge.quantized_model import QuantizedModel

__all__ = ["SequenceAnomalyDetector"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceAnomalyDetector")


_SHARE = Rule("a float in [0, 0.5]", lambda value: is_real(value) and 0.0 <= value <= 0.5)


class SequenceAnomalyDetector(OutlierMixin, UnlabelledEstimator):
    """Recurrent network that forecasts each step from those before, and finds abnormal what it could not foresee.

    Trained on normal sequences. The errors of its forecasts on normal steps are taken for a Gaussian (Malhotra et al.,
    2015); the score of a step is minus its squared Mahalanobis distance under it, divided by the number of errors: −1
    on average for normal steps. Thresholds are quantiles of the scores of normal steps, since real errors have longer
    tails than a Gaussian, and labelled anomalies, on which the paper tunes its threshold, are seldom there.

    Parameters
    ----------
    horizon : int, default 1
        Steps ahead that are forecast at each step (F). With more than one, a step is judged by all F forecasts that
        were made of it.
    loss : {"squared_error", "gaussian"}, default "squared_error"
        "squared_error": forecasts are means, and all errors count alike, but for those at a sequence's start, which are
        compared with others there. "gaussian": the network gives a mean and a standard deviation, trained by likelihood
        (Nix & Weigend, 1994), and errors count relative to that deviation: for series that are noisier at some times
        than at others, and long enough to learn when. It needs far more data.
    aggregation : {"max", "mean"}, default "max"
        What makes a sequence abnormal: its worst step, or all of its steps on average.
    contamination : float in [0, 0.5], default 0.01
        Share of sequences that `predict` calls abnormal among those that thresholds are taken from (see `fit`). 0: none
        of them, only what is worse than all.
    step_contamination : float in [0, 0.5], default 0.001
        The same of steps, for `predict_steps`.
    cell, cell_options, hidden_size, num_layers
        The network, as of `SequenceTagger`; `hidden_size` is 32.
    bidirectional : False
        A forecast cannot read from the end: nothing but False is accepted.
    pooling : None
        Steps are not pooled: nothing but None is accepted.
    dropout, recurrent_dropout, variational_dropout, solver, learning_rate_init, learning_rate, alpha, batch_size
        As of `SequenceTagger`; a sequence there is a piece of one here (`bptt_steps`).
    max_iter : int, default 100
        Epochs at most. Reaching it is no cause for a warning.
    tol, n_iter_no_change, clip_norm
        As of `SequenceTagger`.
    early_stopping : bool, default False
        Whether the loss on held out steps decides when to stop, and the weights of its best epoch are restored. They
        are `eval_set` of `fit`, or else part of the training data, from which thresholds are taken then too.
    validation_fraction : float in (0, 1), default 0.1
        Part of the training data held out for early stopping: the last pieces of each sequence where sequences are
        longer than `bptt_steps`, else whole sequences.
    bptt_steps : int or None, default 100
        Sequences are trained on in pieces of at most so many steps, each from a state of zero. None: whole sequences.
        Scores always come from the whole sequence.
    standardize : bool, default True
        Whether each feature is shifted and scaled to mean 0 and standard deviation 1 over all training steps.
    class_weight : None
        There are no classes.
    warm_start : bool, default False
        Whether `fit` goes on from the present weights, preprocessing and curves; thresholds are found anew.
    shuffle, random_state, verbose, n_jobs, device, precision
        As of `SequenceTagger`.

    Attributes
    ----------
    offset_ : float
        Score of a sequence below which `predict` calls it abnormal.
    step_offset_ : float
        Score of a step below which `predict_steps` calls it abnormal.
    model_ : lstmcore.unsupervised.detector_model.DetectorModel
        The network with its thresholds; from a file, `lstmcore.load_model` gives it without scikit-learn.
    n_features_in_ : int
        Features of a step (I). For a 2-D X, the number of columns, which are its steps.
    n_iter_, loss_, loss_curve_, best_loss_ : int, float, list of float, float
        Epochs trained; loss of the last epoch, of each, and the lowest: mean over steps, features and steps ahead, in
        squared standard deviations, or for "gaussian" minus the logarithm of the likelihood.
    validation_loss_curve_, validation_scores_, best_validation_score_
        The same loss on held out steps after each epoch, and minus the mean square of their errors, in standard
        deviations of the features, or for "gaussian" of the forecasts. None where there is no held out part.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmcore import SequenceAnomalyDetector
    >>> t = np.arange(600)
    >>> normal = np.sin(t / 4) + 0.1 * np.random.default_rng(0).normal(size=600)
    >>> detector = SequenceAnomalyDetector(hidden_size=16, max_iter=60, random_state=0).fit([normal])
    >>> series = np.sin(np.arange(200) / 4)
    >>> series[120] += 1.0
    >>> int(detector.score_steps([series])[0].argmin())
    120
    >>> detector.predict([series, normal[:200]]).tolist()
    [-1, 1]
    """

    _network = ForecastNetwork
    _architecture = (
        "cell", "cell_options", "hidden_size", "num_layers", "dropout", "variational_dropout", "recurrent_dropout",
        "horizon", "loss", "aggregation", "precision",
    )  # fmt: skip
    _rules: Mapping[str, Rule] = {
        "horizon": Rule("an int >= 1 (how many steps ahead to forecast)", RULES["hidden_size"].accepts),
        "loss": choice(*LOSSES),
        "aggregation": choice(*AGGREGATIONS),
        "contamination": _SHARE,
        "step_contamination": _SHARE,
        "bidirectional": Rule("False: a forecast cannot read from the end", lambda value: value is False),
        "pooling": Rule("None: every step is scored", lambda value: value is None),
        "class_weight": Rule("None: there are no classes", lambda value: value is None),
    }

    # Sequence of each piece, and pieces that are held out, while fit runs.
    _owner: NDArray[np.int64]
    _held_out: NDArray[np.int64] | None
    _eval: Pieces | None

    offset_: float
    step_offset_: float

    horizon: int
    loss: str
    aggregation: str
    contamination: float
    step_contamination: float
    pooling: None

    def __init__(
        self,
        horizon: int = 1,
        *,
        loss: str = "squared_error",
        aggregation: str = "max",
        contamination: float = 0.01,
        step_contamination: float = 0.001,
        cell: str = "lstm",
        cell_options: dict[str, Any] | None = None,
        hidden_size: int = 32,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        solver: str = "adam",
        learning_rate_init: float = 5e-3,
        learning_rate: str = "constant",
        alpha: float = 0.0,
        batch_size: int = 32,
        max_iter: int = 100,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 10,
        clip_norm: float | None = 5.0,
        bptt_steps: int | None = 100,
        standardize: bool = True,
        class_weight: None = None,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        store(self, locals())

    # --- fitting -----------------------------------------------------------------------------------------------------

    def fit(
        self: Self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Any = None,
    ) -> Self:
        """Trains on N normal sequences, then finds distribution of errors and thresholds.

        These come from `eval_set` if it is given; else, with ``early_stopping=True``, from the part held out; else from
        X itself, whose errors are smaller than those of new data where the network has learnt X by heart.

        Parameters
        ----------
        X : array (N, T, I), array or frame (N, T), or list of N arrays (T_i, I) or (T_i,)
            Sequences, as for `SequenceRegressor.fit`. One long series is ``[series]``.
        y : ignored
            There for scikit-learn's sake.
        sample_weight : array-like (N,), default None
            Weight of each sequence in loss, standardisation and thresholds, ≥ 0. None: all 1.
        eval_set : as X, or (X, None); default None
            Further normal sequences, on which the loss is computed after every epoch.
        callbacks : callable or iterable of callables, default None
            As of `SequenceRegressor.fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Data or parameters that cannot be used, or training that diverged; the message names the argument.
        """
        self._check_parameters()
        resume = self.warm_start and hasattr(self, "model_")
        x, pieces, weights = self._cut(X, sample_weight, resume)
        self._train(pieces, None, self._of_pieces(weights), eval_set, callbacks, resume)
        self._calibrate(x, weights)
        return self

    def partial_fit(self: Self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """One pass over X, going on from the present weights; distribution of errors and thresholds then are of X.

        Arguments as for `fit`; the first call's X decides on the standardisation. ValueError with
        ``early_stopping=True``.
        """
        self._check_parameters()
        x, pieces, weights = self._cut(X, sample_weight, hasattr(self, "model_"))
        self._partial_fit(pieces, None, None, self._of_pieces(weights))
        self._calibrate(x, weights)
        return self

    def _cut(self, X: Any, sample_weight: Any, resume: bool) -> tuple[Pieces, Pieces, Array | None]:
        """Whole sequences, pieces to train on, and the sequences' weights."""
        if not resume and hasattr(self, "model_"):
            del self.model_
        x = whole(self._steps(X, reset=not resume, name="X"))
        weights = read_weights(sample_weight, len(x.lengths), "sample_weight")
        pieces, self._owner = cut_pieces(x, self._piece_steps())
        self._held_out, self._eval = None, None
        if resume:
            self.model_.network.forget_errors()  # type: ignore[attr-defined]
        return x, pieces, weights

    def _of_pieces(self, weights: Array | None) -> Array | None:
        return None if weights is None else weights[self._owner]

    def _steps(self, X: Any, reset: bool, name: str) -> Steps:
        sequences = self._read_sequences(X, reset, name)
        return steps_of(sequences, weight_dtype(self.precision) if reset else self.model_.dtype)

    def _split(
        self, targets: Array, weights: Array | None, seed: int, split: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """The last pieces of each sequence that is cut into several are held out, or else whole sequences."""
        owner, everything = self._owner, np.arange(len(targets))
        counts = np.bincount(owner)
        if not split or (counts == 1).all():
            if split and len(everything) == 1:
                raise ValueError(
                    f"early_stopping=True cannot hold out a part of one sequence of at most bptt_steps="
                    f"{self.bptt_steps} steps. Pass eval_set, or lower bptt_steps."
                )
            train, held_out = super()._split(targets, weights, seed, split)
        else:
            position = everything - (np.cumsum(counts) - counts)[owner]
            kept = counts - np.where(counts > 1, np.maximum(1, np.rint(self.validation_fraction * counts)), 0)
            last = position >= np.maximum(kept, 1)[owner]
            train, held_out = everything[~last], everything[last]
        self._held_out = held_out
        return train, held_out

    def _read_eval_set(self, eval_set: Any) -> Validation:
        self._eval = whole(self._steps(without_labels(eval_set), reset=False, name="eval_set"))
        return self._validation(Part(self._eval, np.zeros(len(self._eval.lengths)), None), None)

    def _make_network(self, samples: Pieces, targets: Array, weights: Array | None, seed: int) -> ForecastNetwork:
        outputs = int(self.horizon) * samples.features * (2 if self.loss == "gaussian" else 1)
        config = {
            **self._network_config(samples.features, outputs),
            "horizon": int(self.horizon),
            "loss": self.loss,
            "aggregation": self.aggregation,
        }
        network = ForecastNetwork(config, seed)
        if self.standardize:
            # Pieces stand one after the other, as the steps do.
            mean, deviation = network.standardise(samples, weights)  # type: ignore[arg-type]
            check_resolution(mean, deviation, weight_dtype(self.precision))
        return network

    def _make_model(self, network: Any) -> DetectorModel:
        return DetectorModel(network)

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        check_available(parameters, precisions=BFLOAT16)

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        return float(np.mean(np.concatenate(list(outputs))))

    def _calibrate(self, x: Pieces, weights: Array | None) -> None:
        """Distribution of the errors, and thresholds. weights: (N,) of the sequences x of fit."""
        network: Any = self.model_.network
        given = np.ones(len(x.lengths)) if weights is None else weights
        steps = self._piece_steps()
        pieces, owner = cut_pieces(x, steps)
        usual = np.concatenate([np.square(item[:, 0]).mean(axis=1) for item in self._errors(pieces)])
        of_pieces = np.repeat(given[owner], pieces.lengths)
        starts, sequence = beginnings(x, steps, START)
        network.fit_start(self._errors(starts), given[sequence], float(np.average(usual, weights=of_pieces)))
        used = x if self._eval is None else self._eval
        of_sequences = given if used is x else np.ones(len(used.lengths))
        of_steps = np.repeat(of_sequences, used.lengths)
        if used is x and self._held_out is not None:
            held_out = np.zeros(len(pieces.lengths))
            held_out[self._held_out] = 1.0
            of_steps *= np.repeat(held_out, pieces.lengths)
        ends = np.cumsum(used.lengths)[:-1]
        errors = np.concatenate(self._errors(used))
        network.fit_errors(errors, of_steps)
        scores = network.step_scores(errors)
        network.constants["step_offset"][:] = lower_quantile(scores, of_steps, float(self.step_contamination))
        parts = zip(np.split(scores, ends), np.split(of_steps, ends), strict=True)
        found = [network.aggregate(part[share > 0]) if (share > 0).any() else 0.0 for part, share in parts]
        # A sequence counts as a whole, however many of its steps were held out.
        of_sequences = np.where(np.maximum.reduceat(of_steps, np.append(0, ends)) > 0, of_sequences, 0.0)
        offset = lower_quantile(np.array(found), of_sequences, float(self.contamination))
        network.constants["offset"][:] = offset
        self.offset_, self.step_offset_ = self.model_.offset, self.model_.step_offset  # type: ignore[attr-defined]
        del self._owner, self._held_out, self._eval

    def _errors(self, x: Pieces) -> list[Array]:
        network: Any = self.model_.network
        return [item for part in self.model_.core.parts(x) for item in network.errors(part)]

    # --- files -------------------------------------------------------------------------------------------------------

    def _restore_fitted(self, model: Any, fitted: dict[str, Any]) -> None:
        super()._restore_fitted(model, fitted)
        config, built = {"precision": None, **model.config}, {"precision": None, **self._built}
        built |= {"precision": None, **network_types(self._built["precision"])}
        names = ("horizon", "loss", "aggregation", "dtype", "precision")
        wrong = [name for name in names if built[name] != config[name]]
        if wrong:
            raise ValueError(f"architecture: {', '.join(wrong)} differ from the network's")
        self.offset_, self.step_offset_ = model.offset, model.step_offset

    # --- using -------------------------------------------------------------------------------------------------------

    def score_steps(self, X: Any) -> Array:
        """Score of each step, lower for what is more abnormal: (N,) objects, (T_i,) each; (N, T) for an array.

        −1 on average for normal steps; see the class. X as for `fit`.
        """
        samples, scores = self._scored(X)
        return as_written(samples, scores)

    def score_samples(self, X: Any) -> Array:
        """(N,) scores, lower for what is more abnormal: of the worst step, or of all on average. X as for `fit`."""
        _, scores = self._scored(X)
        return self.model_.sequence_scores(scores)  # type: ignore[attr-defined, no-any-return]

    def decision_function(self, X: Any) -> Array:
        """(N,) `score_samples` minus `offset_`: negative for what `predict` calls abnormal. X as for `fit`."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Array:
        """(N,) −1 for abnormal sequences, 1 for normal ones. X as for `fit`."""
        return np.where(self.decision_function(X) < 0.0, -1, 1)

    def predict_steps(self, X: Any) -> Array:
        """−1 for abnormal steps, 1 for normal ones: (N,) objects, (T_i,) each; (N, T) where X was one whole array."""
        samples, scores = self._scored(X)
        return as_written(samples, self.model_.marked(scores))  # type: ignore[attr-defined]

    def _scored(self, X: Any) -> tuple[Steps, Array]:
        check_is_fitted(self, "model_")
        samples = self._steps(X, reset=False, name="X")
        self._use_threads()
        return samples, self.model_.core.predict(whole(samples))

    def step(self, x: ArrayLike, state: AnomalyStream | None = None) -> tuple[Any, AnomalyStream]:
        """Scores a stream, one step a call, each step as it arrives.

        Parameters
        ----------
        x : array-like (I,) or (N, I); a number for one stream of one feature
            The next step of one stream, or of N streams at once.
        state : AnomalyStream or None
            What the last call returned, which is not modified; None starts.

        Returns
        -------
        score : float, or ndarray (N,)
            The same that `score_steps` gives for this step; below `step_offset_` it is abnormal.
        state : AnomalyStream

        Raises
        ------
        ValueError, TypeError
            Wrong number of features, NaN or infinity; a state of other streams.
        """
        check_is_fitted(self, "model_")
        return self.model_.step(x, state)  # type: ignore[attr-defined, no-any-return]

    def quantize(
        self, X_calibration: Any = None, scheme: str = "int8", *, weights: str = "int8", ranges: str = "mse"
    ) -> QuantizedModel:
        """The forecasting network in integers, as a microcontroller runs it; the estimator itself stays as it is.

        Its outputs at every step are the forecasts of the next `horizon` steps, in units of X, (horizon, I) one after
        the other; for the loss "gaussian" each is followed by the number r of the deviation 0.001 + log(1 + exp r), in
        standard deviations of the feature. The device compares them with what comes. Parameters and errors as of
        `SequenceRegressor.quantize`.
        """
        check_is_fitted(self, "model_")
        from ..edge.api import quantize
        from ..model import Model

        if X_calibration is not None:
            self._read_sequences(X_calibration, False, "X_calibration")
        network: Any = self.model_.network
        return quantize(Model(network.core_model()), X_calibration, scheme, weights=weights, ranges=ranges)

    def plot(self, X: Any, ax: Any = None, *, sequence: int = 0, feature: int = 0) -> Any:
        """Plots a sequence with its abnormal steps marked, and scores with threshold, with matplotlib.

        As `lstmcore.plotting.plot_anomalies`.
        """
        from ..plotting import plot_anomalies

        return plot_anomalies(self, X, ax=ax, sequence=sequence, feature=feature)
