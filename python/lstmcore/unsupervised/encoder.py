"""SequenceEncoder: sequences to features, learnt without labels."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from .._fitting import Part, Validation
from .._parameters import BFLOAT16, RULES, Rule, check_available, choice, or_none, store, weight_dtype
from .._step_estimator import as_written
from .._step_network import vocabulary_of
from .._steps import Steps, read_steps, steps_of
from .._validation import check_resolution, holds_text, read_weights
from .encoder_model import EncoderModel
from .encoder_network import MIXES, POOLINGS, TASKS, EncoderNetwork, check_cell
from .estimator import UnlabelledEstimator, without_labels
from .pieces import cut_steps
from .pretrained import network_of
from .probe import fit_mix, probe_target

if TYPE_CHECKING:
    from ..edge.quantized_model import QuantizedModel

__all__ = ["SequenceEncoder"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceEncoder")


class _LossValidation(Validation):
    """The loss on held out sequences; its negative is the score."""

    def evaluate(self, trainer: Any, core: Any) -> tuple[float, float]:
        sums = [trainer.evaluate_sums(piece.x, piece.y, piece.weights) for piece in self._pieces]
        total, weight = (float(sum(part)) for part in zip(*sums, strict=True))
        loss = total / weight if weight > 0 else 0.0
        return loss, -loss


class SequenceEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, UnlabelledEstimator):
    """Recurrent network that turns sequences into vectors, or each of their steps, for any estimator to go on with.

    It is trained without labels, on all sequences there are; the few labelled ones then train a classifier on its
    features. Or it takes the layers of an estimator that is fitted already.

    Parameters
    ----------
    pretraining : {"autoencoder", "next_step"} or None, default "autoencoder"
        What the layers are trained by. "autoencoder": a second network makes the sequence again, from its end, of the
        final states of the first (Srivastava, Mansimov & Salakhutdinov, 2015): features of the whole. "next_step": each
        step is forecast from those before, or the next token; with ``bidirectional=True`` also each from those after,
        by layers of their own, as ELMo's (Peters et al., 2018): features of steps. None: layers stay random.
    pretrained : fitted estimator or None, default None
        An estimator of lstmcore whose recurrent layers, preprocessing and vocabulary are taken, as they are; nothing is
        trained, and `pretraining` and the parameters of network and training do not matter. `clone` does not copy it.
        X then is what that estimator reads; of a `LanguageModel` of characters N texts.
    output : {"sequence", "steps"}, default "sequence"
        What `transform` gives: one vector a sequence, or one a step.
    pooling : {"last", "mean", "max"}, default "last"
        How a sequence's features come from those of its steps: those of the last (of the first for layers that read
        from the end), their mean, their maximum.
    layer_mix : {"last", "mean", "concat", "learned"}, default "last"
        Which layers features come from: the last; the mean of all; all side by side; or γ Σ s_l h_l with weights s that
        sum to 1 and a factor γ (Peters et al., 2018), found with y of `fit` together with a linear model of y.
    inputs, embedding_size, min_frequency, singleton_dropout
        Tokens instead of features, as of `SequenceTagger`; `embedding_size` is 64.
    cell, cell_options, hidden_size, num_layers
        The network, as of `SequenceTagger`.
    bidirectional : bool, default False
        Whether it also reads from the end. `step` then is not possible.
    dropout : float in [0, 1), default 0.0
        Probability with which outputs of every layer but the last are zeroed in training (Zaremba, Sutskever & Vinyals,
        2014). With one layer it has no effect, and `fit` warns.
    recurrent_dropout, variational_dropout, solver, learning_rate_init, learning_rate, alpha, batch_size, max_iter, tol
        As of `SequenceTagger`.
    early_stopping, validation_fraction, n_iter_no_change, clip_norm
        As of `SequenceTagger`.
    bptt_steps : int or None, default 100
        Sequences are trained on in pieces of at most so many steps. None: whole sequences. Features always come from
        the whole sequence.
    standardize : bool, default True
        Whether each feature is shifted and scaled to mean 0 and standard deviation 1 over all training steps.
    class_weight : None
        Nothing is classified.
    warm_start, shuffle, random_state, verbose, n_jobs, device, precision
        As of `SequenceTagger`.

    Attributes
    ----------
    model_ : lstmcore.unsupervised.encoder_model.EncoderModel
        The network; from a file, `lstmcore.load_model` gives it without scikit-learn.
    layer_weights_ : ndarray of shape (L,), or None
        γ s of `layer_mix`; None for "concat".
    n_features_in_ : int
        Features of a step (I); 1 for tokens. For a 2-D X, the number of columns, which are its steps.
    n_iter_, loss_, loss_curve_, best_loss_ : int, float, list of float, float
        Epochs trained; loss of the last epoch, of each, and the lowest: mean over steps of the squared error, in
        standard deviations of the features, or of −log p of the token.
    validation_loss_curve_, validation_scores_, best_validation_score_
        The same loss on the validation set after each epoch, and its negative. None where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from lstmcore import SequenceEncoder
    >>> t = np.arange(30)
    >>> X = [np.sin(t * rate + phase) for rate in (0.3, 0.6) for phase in range(20)]
    >>> encoder = SequenceEncoder(hidden_size=16, max_iter=20, random_state=0).fit(X)
    >>> encoder.transform(X).shape
    (40, 16)
    >>> model = make_pipeline(encoder, LogisticRegression())
    """

    _network = EncoderNetwork
    # Parameters that files leave out.
    _unsaved = ("pretrained",)
    _architecture = (
        "cell", "cell_options", "hidden_size", "num_layers", "bidirectional", "inputs", "embedding_size", "dropout",
        "variational_dropout", "recurrent_dropout", "precision", "pretraining", "layer_mix", "pooling",
    )  # fmt: skip
    _rules: Mapping[str, Rule] = {
        "pretraining": or_none(choice(*TASKS[:2])),
        "pretrained": Rule(
            "a fitted estimator of lstmcore or None", lambda value: not isinstance(value, (str, int, float))
        ),
        "output": choice("sequence", "steps"),
        "pooling": choice(*POOLINGS),
        "layer_mix": choice(*MIXES),
        "inputs": choice("auto", "features", "tokens"),
        "embedding_size": RULES["hidden_size"],
        "min_frequency": RULES["hidden_size"],
        "singleton_dropout": RULES["dropout"],
        "class_weight": Rule("None: nothing is classified", lambda value: value is None),
    }

    layer_weights_: Array | None

    pretraining: str | None
    pretrained: Any
    output: str
    pooling: str
    layer_mix: str
    inputs: str
    embedding_size: int
    min_frequency: int
    singleton_dropout: float

    def __init__(
        self,
        pretraining: str | None = "autoencoder",
        *,
        pretrained: Any = None,
        output: str = "sequence",
        pooling: str = "last",
        layer_mix: str = "last",
        inputs: str = "auto",
        embedding_size: int = 64,
        min_frequency: int = 1,
        singleton_dropout: float = 0.5,
        cell: str = "lstm",
        cell_options: dict[str, Any] | None = None,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
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
        """Trains on N sequences.

        Parameters
        ----------
        X : array (N, T, I), array or frame (N, T), or list of N arrays (T_i, I) or (T_i,); or N sequences of tokens
            As for `SequenceTagger.fit`.
        y : array-like (N,) or (N, K), or None
            Labels or numbers, read for ``layer_mix="learned"`` alone; without effect otherwise.
        sample_weight : array-like (N,), default None
            Weight of each sequence in the loss and in the standardisation, ≥ 0. None: all 1.
        eval_set : as X, or (X, None); default None
            Further sequences, on which the loss is computed after every epoch.
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
        if self.pretrained is not None:
            return self._take(X, y, sample_weight)
        if not resume and hasattr(self, "model_"):
            del self.model_
        x = self._steps(X, not resume, "X")
        weights = read_weights(sample_weight, len(x.lengths), "sample_weight")
        target = self._probe_target(y, len(x.lengths))
        if self.pretraining is None:
            self._start_untrained(x, weights)
        else:
            pieces, owner = self._cut(x, "X")
            self._train(pieces, None, None if weights is None else weights[owner], eval_set, callbacks, resume)
        self._finish(x, target, weights)
        return self

    def partial_fit(self: Self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """One pass over X, going on from the present weights; a learned mix then is that of X and y.

        Arguments as for `fit`; the first call's X decides on vocabulary and standardisation. ValueError with
        ``early_stopping=True``, or where nothing is trained.
        """
        self._check_parameters()
        if self.pretrained is not None or self.pretraining is None:
            raise ValueError("partial_fit: nothing is trained with pretrained, or pretraining=None. Use fit.")
        x = self._steps(X, not hasattr(self, "model_"), "X")
        weights = read_weights(sample_weight, len(x.lengths), "sample_weight")
        target = self._probe_target(y, len(x.lengths))
        pieces, owner = self._cut(x, "X")
        self._partial_fit(pieces, None, None, None if weights is None else weights[owner])
        self._finish(x, target, weights)
        return self

    def _cut(self, x: Steps, name: str) -> tuple[Steps, NDArray[np.int64]]:
        if self.pretraining == "next_step" and x.lengths.max() < 2:
            raise ValueError(
                f"{name}: every sequence has 1 step (a 2-D X is a table of N sequences, with 1 feature(s) here being 1 "
                "step), and pretraining='next_step' needs a next one. Use pretraining='autoencoder'."
            )
        if self.bptt_steps == 1 and self.pretraining == "next_step":
            raise ValueError("bptt_steps=1: pieces of one step have no next one. Use 2 or more, or None.")
        return cut_steps(x, self._piece_steps())

    def _start_untrained(self, x: Steps, weights: Array | None) -> None:
        from sklearn.utils.validation import check_random_state

        seed = int(check_random_state(self.random_state).randint(2**31 - 1, size=3)[0])
        self._start(x, np.zeros(len(x.lengths)), weights, seed)
        self._reset_curves()

    def _take(self: Self, X: Any, y: Any, sample_weight: Any) -> Self:
        """fit with `pretrained`."""
        network = network_of(self.pretrained, self.layer_mix, self.pooling)
        self.model_ = EncoderModel(network)
        self._built = {name: getattr(self, name) for name in self._architecture}
        x = self._read_fitted(X, "X", reset=True)
        weights = read_weights(sample_weight, len(x.lengths), "sample_weight")
        target = self._probe_target(y, len(x.lengths))
        self._reset_curves()
        self._finish(x, target, weights)
        return self

    def _probe_target(self, y: Any, count: int) -> Array | None:
        return probe_target(y, count) if self.layer_mix == "learned" else None

    def _finish(self, x: Steps, target: Array | None, weights: Array | None) -> None:
        model: Any = self.model_
        self._use_threads()
        if target is not None:
            features = np.concatenate([model.network.sequence_layers(part) for part in model.core.parts(x)])
            mix, gain = fit_mix(features, target, np.ones(len(target)) if weights is None else weights)
            model.network.constants["mix"][:] = mix
            model.network.constants["gain"][:] = gain
        self._describe()

    def _describe(self) -> None:
        network: Any = self.model_.network
        mixed = network.config["layer_mix"] != "concat"
        self.layer_weights_ = network.constants["gain"] * network.constants["mix"] if mixed else None
        self._n_features_out = network.features

    def _steps(self, X: Any, reset: bool, name: str) -> Steps:
        if not reset:
            return self._read_fitted(X, name)
        if self.inputs == "tokens" or (self.inputs == "auto" and holds_text(X)):
            self._table = False
            x = read_steps(X, name, weight_dtype(self.precision)).as_tokens(name)
            self.n_features_in_ = 1
            return x
        return steps_of(self._read_sequences(X, True, name), weight_dtype(self.precision))

    def _read_fitted(self, X: Any, name: str, reset: bool = False) -> Steps:
        """X for the fitted network; reset: it decides on n_features_in_."""
        network: Any = self.model_.network
        if network.config["vocabulary"] is not None:
            self._table, self.n_features_in_ = False, 1
            return network.read_fitted(X, name)  # type: ignore[no-any-return]
        x = steps_of(self._read_sequences(X, reset, name), self.model_.dtype)
        network.check(x, name)
        return x

    def _read_eval_set(self, eval_set: Any) -> Validation:
        x, _ = self._cut(self._read_fitted(without_labels(eval_set), "eval_set"), "eval_set")
        return self._validation(Part(x, np.zeros(len(x.lengths)), None), None)

    def _validation(self, part: Part, sample_weight: Array | None) -> Validation:
        return _LossValidation(part, self._cost(), lambda outputs: 0.0)

    def _make_network(self, samples: Steps, targets: Array, weights: Array | None, seed: int) -> EncoderNetwork:
        vocabulary, rare = None, None
        if samples.table is not None:
            vocabulary, rare = vocabulary_of(samples, weights, int(self.min_frequency))
        inputs = samples.features if vocabulary is None else int(self.embedding_size)
        task = self.pretraining or "none"
        targets_count = inputs if vocabulary is None else len(vocabulary["values"]) + 1
        config = {
            **self._network_config(inputs, 1 if task == "none" else targets_count, vocabulary),
            "bidirectional": bool(self.bidirectional) and task != "next_step",
            "task": task,
            "separate": bool(self.bidirectional) and task == "next_step",
            "layer_mix": self.layer_mix,
            "pooling": self.pooling,
        }
        network = EncoderNetwork(config, seed)
        if rare is not None:
            network.constants["rare"][1:] = rare
        elif self.standardize:
            mean, deviation = network.standardise(samples, weights)
            check_resolution(mean, deviation, config["dtype"])
        return network

    def _make_model(self, network: Any) -> EncoderModel:
        return EncoderModel(network)

    def _configure(self, network: Any) -> None:
        network.singleton_dropout = float(self.singleton_dropout)

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        check_available(parameters, precisions=BFLOAT16)
        if self.pretrained is None:
            check_cell(parameters["cell"], parameters["layer_mix"], int(parameters["num_layers"]))

    def _warn_of_settings(self) -> None:
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout={self.dropout!r} has no effect with num_layers=1: it acts between layers. Use more layers or "
                "dropout=0.0.",
                stacklevel=4,
            )

    def __sklearn_clone__(self) -> Any:
        values = self.get_params(deep=False)
        copied = {name: clone(value, safe=False) for name, value in values.items() if name != "pretrained"}
        new = type(self)(**copied, pretrained=self.pretrained)
        for name in ("_sklearn_output_config", "_metadata_requests"):
            if hasattr(self, name):
                setattr(new, name, dict(getattr(self, name)) if name.startswith("_sk") else getattr(self, name))
        return new

    # --- files -------------------------------------------------------------------------------------------------------

    def _restore_fitted(self, model: Any, fitted: dict[str, Any]) -> None:
        super()._restore_fitted(model, fitted)
        wrong = [name for name in ("layer_mix", "pooling") if self._built[name] != model.config[name]]
        if wrong:
            raise ValueError(f"architecture: {', '.join(wrong)} differ from the network's")
        self.model_ = model
        self._describe()

    # --- using -------------------------------------------------------------------------------------------------------

    def transform(self, X: Any) -> Array:
        """Features, in the precision of the network. X as for `fit`; tokens not seen there are read as unknown.

        With ``output="sequence"`` (N, W); with "steps" (N,) objects, (T_i, W) each, or (N, T, W) where X was one array
        without padding. W is `hidden_size`, doubled in both directions, times `num_layers` for ``layer_mix="concat"``.
        """
        check_is_fitted(self, "model_")
        model: Any = self.model_
        x = self._read_fitted(X, "X")
        self._use_threads()
        if self.output == "sequence":
            return model.sequence_features(x)  # type: ignore[no-any-return]
        return as_written(x, model.core.predict(x))

    def set_output(self: Self, *, transform: str | None = None) -> Self:
        """As of every transformer of scikit-learn; ValueError for frames of steps, which are no rows of a table."""
        if self.output == "steps" and transform not in (None, "default"):
            raise ValueError(f"set_output: output='steps' gives no table for transform={transform!r}. Use 'default'.")
        super().set_output(transform=transform)
        return self

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Features of the steps of a stream, one step a call.

        Parameters
        ----------
        x : array-like (I,) or (N, I), or a token or list of N tokens
            The next step of one stream, or of N streams at once.
        state : dict or None
            What the last call returned, which is not modified; None starts.

        Returns
        -------
        features : ndarray (W,) or (N, W)
            What ``output="steps"`` gives for this step.
        state : dict

        Raises
        ------
        ValueError, TypeError
            Bidirectional network, wrong number of features, a state of other streams.
        """
        check_is_fitted(self, "model_")
        return self.model_.step(x, state)  # type: ignore[attr-defined, no-any-return]

    def quantize(
        self, X_calibration: Any = None, scheme: str = "int8", *, weights: str = "int8", ranges: str = "mse"
    ) -> QuantizedModel:
        """The network in integers, as a microcontroller runs it; the estimator itself stays as it is.

        Its outputs are what `transform` gives, (W,) numbers, at every step with ``output="steps"``. Features and
        ``layer_mix="last"`` only, and in both directions not with ``pretraining="next_step"``. Parameters and errors as
        of `SequenceRegressor.quantize`.
        """
        check_is_fitted(self, "model_")
        from ..edge.api import quantize
        from ..model import Model

        network: Any = self.model_.network
        if X_calibration is not None:
            self._read_sequences(X_calibration, False, "X_calibration")
        pooling = "none" if self.output == "steps" else network.config["pooling"]
        model = Model(network.core_model(pooling))
        return quantize(model, X_calibration, scheme, weights=weights, ranges=ranges)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
