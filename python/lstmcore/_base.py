"""What the estimators of whole sequences share: reading data, building the model, training, streaming, saving."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from . import _core
from ._estimator import EpochEstimator
from ._parameters import BFLOAT16, check_available, thread_count, weight_dtype
from ._validation import SequenceArrays, check_numbers, check_resolution, is_table, read_sequences
from .model import DYNAMIC_INT8, Model, Stream

if TYPE_CHECKING:
    from .edge.quantized_model import QuantizedModel

__all__ = ["SequenceEstimator", "SequenceReader"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceEstimator")

_TABLE_HINT = (
    " A 2-D X is a table of N sequences with the same number of steps (its columns); pass sequences of other lengths "
    "as (N, T, 1), as a list of arrays, or padded with NaN."
)


class SequenceReader:
    """Reads X as N sequences of features, or as the table that scikit-learn's own checks hold it for."""

    n_features_in_: int
    feature_names_in_: Array
    # Whether fit was given a table, whose number of columns then is the number of steps for good.
    _table: bool

    def _step_features(self) -> int:
        """I of the fitted model."""
        raise NotImplementedError

    def _read_sequences(self, X: Any, reset: bool, name: str = "X") -> SequenceArrays:
        """Checked sequences; sets (reset) or checks n_features_in_ and feature_names_in_."""
        check_numbers(X, name)
        table = is_table(X, name)
        if table:
            try:
                # NaN passes here: in a row's tail it means that the sequence is shorter.
                array = check_array(X, dtype=[np.float64, np.float32], ensure_all_finite=False, input_name=name)
            except (TypeError, ValueError) as error:
                message = str(error)
                if message.startswith("Found array with"):
                    raise ValueError(message.replace("array", f"array {name}", 1)) from error
                if message.startswith(("could not convert", "float()", "Cannot cast")):
                    raise type(error)(f"{name} is not numeric: {error}") from error
                raise
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
        elif sequences.features != (expected := self._step_features()):
            raise ValueError(
                f"{name} has {sequences.features} features, but {type(self).__name__} is expecting {expected} features "
                f"as input. Expected (N, T, {expected}) or a list of (T_i, {expected}) arrays."
            )
        return sequences

    def _reader_document(self) -> dict[str, Any]:
        """For a model file."""
        return {
            "n_features_in_": int(self.n_features_in_),
            "feature_names_in_": [str(name) for name in getattr(self, "feature_names_in_", ())] or None,
            "table": bool(self._table),
        }

    def _restore_reader(self, features: int, fitted: dict[str, Any]) -> None:
        """From such a file, for a network of so many features a step; ValueError for what is wrong with it."""
        count, names, table = (fitted.get(key) for key in ("n_features_in_", "feature_names_in_", "table"))
        if not isinstance(count, int) or isinstance(count, bool) or count < 1 or not isinstance(table, bool):
            raise ValueError("n_features_in_ is not a number of features, or 'table' not true or false")
        expected = 1 if table else count
        if features != expected:
            raise ValueError(f"{expected} feature(s) declared, but the network has {features} inputs")
        self.n_features_in_ = count
        self._table = table
        if names is not None:
            if not isinstance(names, list) or len(names) != count or not all(isinstance(text, str) for text in names):
                raise ValueError(f"feature_names_in_ is not a list of {count} names")
            self.feature_names_in_ = np.array(names, dtype=object)


class SequenceEstimator(SequenceReader, EpochEstimator):
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
    schedule_factor: float
    schedule_every: int
    momentum: float
    nesterov: bool
    beta_1: float
    beta_2: float
    rho: float
    epsilon: float
    clip_value: float | None
    max_norm: float | None
    gradient_noise: float
    bptt_steps: int | None
    checkpoint_steps: int | None
    standardize: bool

    # Fitted attributes.
    model_: Model

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def _head(self) -> tuple[str, int, str]:
        """Activation, number of outputs K, loss."""
        raise NotImplementedError

    def _target_scaling(self, y: Array, weights: Array | None) -> tuple[Array, Array]:
        """Mean and scale of the targets, (K,) each."""
        raise NotImplementedError

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

    def _step_features(self) -> int:
        return int(self.model_.n_features)

    def _read_X(self, X: Any, reset: bool, name: str = "X") -> SequenceArrays:
        return self._read_sequences(X, reset, name)

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
                "dtype": weight_dtype(self.precision),
                "precision": self.precision,
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
            check_resolution(mean, deviation, weight_dtype(self.precision))
            target_mean, target_scale = self._target_scaling(targets, weights)
            core.set_preprocessing(mean, _inverse(deviation), target_mean, _inverse(target_scale))
        self.model_ = self._wrap(core)

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
            ("precision", recurrent["precision"]),
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
            **self._optimiser_options(),
            "label_smoothing": float(getattr(self, "label_smoothing", 0.0)),  # classifiers only
            "bptt_steps": int(self.bptt_steps or 0),
            "checkpoint_steps": int(self.checkpoint_steps or 0),
            "batch_size": int(self.batch_size),
            "shuffle": bool(self.shuffle),
            "loss": self._head()[2],
        }

    def _new_trainer(self, options: dict[str, Any], seed: int) -> _core.Trainer:
        return _core.Trainer(self.model_.core, {**options, "seed": seed})

    def _for_core(self, samples: SequenceArrays) -> _core.Sequences:
        return samples.to_core(weight_dtype(self.precision))

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        check_available(parameters, precisions=BFLOAT16)

    def _warn_of_settings(self) -> None:
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout={self.dropout!r} has no effect with num_layers=1: it acts between layers. Use more layers or "
                "dropout=0.0.",
                stacklevel=4,
            )

    # --- files -------------------------------------------------------------------------------------------------------

    def _fitted_document(self) -> dict[str, Any]:
        return self._reader_document()

    def _restore_fitted(self, model: Model, fitted: dict[str, Any]) -> None:
        self._restore_reader(model.n_features, fitted)

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
        if "model_" not in vars(self):  # many times as fast as check_is_fitted, which raises
            check_is_fitted(self, "model_")
        return self.model_.step(x, state)

    @overload
    def quantize(  # type: ignore[overload-overlap]
        self, X_calibration: None = None, *, scheme: Literal["dynamic_int8"]
    ) -> Model: ...

    @overload
    def quantize(
        self,
        X_calibration: Any = None,
        scheme: str = "int8",
        *,
        weights: str = "int8",
        ranges: str = "mse",
        y: Any = None,
        finetune_epochs: int = 0,
        finetune_learning_rate: float = 3e-4,
        random_state: int = 0,
    ) -> QuantizedModel: ...

    def quantize(
        self,
        X_calibration: Any = None,
        scheme: str = "int8",
        *,
        weights: str = "int8",
        ranges: str = "mse",
        y: Any = None,
        finetune_epochs: int = 0,
        finetune_learning_rate: float = 3e-4,
        random_state: int = 0,
    ) -> QuantizedModel | Model:
        """The fitted network in integers; the estimator itself stays as it is.

        As a microcontroller runs it, or with scheme "dynamic_int8" for servers and desktops: W and R of the layers are
        8-bit integers with a scale for each row, what they are multiplied with is rounded to 8 bits by a scale for each
        sequence and step, sums are exact and all else is float32. It needs no data and takes no further argument.

        Cells elman, lstm and peephole (variants vanilla, CIFG and, of peephole, NP), gru and slstm, any number of
        layers and directions, poolings last, mean and max, and the whole head. "dynamic_int8" knows the same
        cells, `gru` with reset_after=True only, in all variants of `lstm` and `peephole`, and every pooling. What else
        there is, is refused.

        Parameters
        ----------
        X_calibration : as X of `fit`, default None
            A few hundred typical sequences, as measured: what they reach decides on the ranges of integers. None for
            "float32", if you like, and for "dynamic_int8".
        scheme : {"int8", "int8x16", "float32", "dynamic_int8"}, default "int8"
            Integers of inputs and outputs of layers: 8 or 16 bits. Weights have 8 bits in both, cell states 16.
            "float32" is the same network for chips with floating point. "dynamic_int8": as said above.
        weights : {"int8", "int4", "sparse"}, default "int8"
            8 or 4 bits with one scale for each row; "sparse" leaves out blocks of 4×4 zeros, which training with
            `lstmcore.BlockPruning` makes. "int8" does so too in matrices where 30% of the blocks are zero.
        ranges : {"mse", "percentile", "max"}, default "mse"
            The largest number that integers cover: where rounding and cutting off together lose least by squares,
            99.95% of all magnitudes, or the largest.
        y : array-like, default None
            Targets of X_calibration: needed for fine-tuning, and for scores in the report.
        finetune_epochs : int, default 0
            Epochs of training on X_calibration and y in which every forward pass sees rounded weights and inputs, and
            the gradient goes to the weights as if they were not rounded (straight-through; Bengio, Léonard &
            Courville, 2013). Outputs of layers are not rounded in it, and nothing is dropped.
        finetune_learning_rate : float, default 3e-4
            Step size of Adam in fine-tuning, falling to 0 along half a cosine.
        random_state : int, default 0
            Order of sequences in fine-tuning.

        Returns
        -------
        lstmcore.QuantizedModel, or lstmcore.Model for "dynamic_int8"
            With the same predict, predict_proba, step and save, a `QuantizedModel` with score too; its ``report_`` says
            what quantising changed.

        Raises
        ------
        ValueError
            Arguments, data or a network that cannot be quantised; the message says what to do instead.
        """
        check_is_fitted(self, "model_")
        if scheme == DYNAMIC_INT8:
            from .inference.dynamic_int8 import quantize_dynamic

            return quantize_dynamic(
                self.model_,
                X_calibration=X_calibration,
                weights=weights,
                ranges=ranges,
                y=y,
                finetune_epochs=finetune_epochs,
                finetune_learning_rate=finetune_learning_rate,
                random_state=random_state,
            )
        from .edge.api import quantize

        if X_calibration is not None:
            self._read_X(X_calibration, reset=False, name="X_calibration")
        options = self._trainer_options()
        return quantize(
            self.model_,
            X_calibration,
            scheme,
            weights=weights,
            ranges=ranges,
            y=y,
            finetune_epochs=finetune_epochs,
            finetune_learning_rate=finetune_learning_rate,
            training={name: options[name] for name in ("loss", "label_smoothing", "huber_delta") if name in options},
            seed=random_state,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _inverse(deviation: Array) -> Array:
    """1/deviation, and 1 for constants."""
    return np.divide(1.0, deviation, out=np.ones_like(deviation), where=deviation > 0)
