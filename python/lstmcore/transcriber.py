"""SequenceTranscriber: a shorter sequence of labels, without alignment."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from . import _core
from ._layer_network import LayerModel, Network
from ._parameters import RULES, Rule, choice, store
from ._step_estimator import StepEstimator, as_written
from ._step_model import StepModel
from ._steps import Steps
from ._targets import LabelSequences, check_first_classes
from ._transcriber_network import TranscriberNetwork
from ._validation import read_weights
from .labelling.estimator import StepLabels
from .metrics import edit_distance

__all__ = ["SequenceTranscriber"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceTranscriber")


class SequenceTranscriber(StepLabels, LabelSequences, StepEstimator):
    """Recurrent network that turns a sequence into a shorter sequence of labels, learnt without alignment.

    Connectionist temporal classification (Graves, Fernández, Gomez & Schmidhuber, 2006): at every step the network
    gives each label a probability, and one to no label; the loss is −log of the probability of y, summed
    over all ways to spread its labels over the steps. X as for SequenceTagger; y is N sequences of labels, each at most
    as long as its sequence of steps, a step more for each label that equals the one before it.

    Parameters
    ----------
    cell : str, default "lstm"
        Recurrent cell, one of `lstmcore.cells()`.
    decoder : {"greedy", "beam"}, default "greedy"
        How `predict` reads the probabilities: "greedy": the most probable of each step, repeats merged (best path);
        "beam": the label sequence of highest total probability that a prefix beam search finds (Hannun et al., 2014).
    beam_width : int, default 16
        Of "beam" and of `decode`: label sequences that are followed at a time.
    inputs : {"auto", "features", "tokens"}, default "auto"
        What X holds. "auto": tokens where it is text, else features. Integers are tokens with "tokens" only.
    embedding_size : int, default 64
        Of tokens: numbers that each becomes, learnt.
    min_frequency : int, default 1
        Tokens that occur less often in the training data have no embedding of their own, but that of unknown tokens.
    singleton_dropout : float in [0, 1), default 0.5
        Probability with which a token that occurs once in the training data is read as unknown in training, so that
        the embedding of unknown ones is learnt (Lample et al., 2016).
    cell_options : dict or None, default None
        Options of the cell; `lstmcore.cells()` lists them. None: the cell's defaults.
    hidden_size : int, default 64
        Units of each layer and direction (H).
    num_layers : int, default 1
        Recurrent layers, each reading the outputs of the one below.
    bidirectional : bool, default False
        Whether every layer also reads from the end (Schuster & Paliwal, 1997). `step` then is not possible.
    pooling : None
        Steps are not pooled: nothing but None is accepted.
    dropout : float in [0, 1), default 0.0
        Probability with which outputs of every layer are zeroed in training, where the next layer or the dense layer
        reads them (Zaremba, Sutskever & Vinyals, 2014).
    recurrent_dropout : float in [0, 1), default 0.0
        Dropout on the cell's candidate in training (Semeniuta, Severyn & Barth, 2016).
    variational_dropout : float in [0, 1), default 0.0
        Dropout with one mask a sequence, on each layer's input and on h (Gal & Ghahramani, 2016).
    solver : {"sgd", "rmsprop", "adam", "adamw"}, default "adam"
        As for SequenceClassifier, momentum being 0.9.
    learning_rate_init : float, default 5e-3
        Step size of the solver in the first epoch.
    learning_rate : {"constant", "step", "cosine", "plateau"}, default "constant"
        How the step size changes: not at all; halved every 10 epochs; towards 0 over `max_iter` epochs along half a
        cosine (Loshchilov & Hutter, 2017); halved when the validation loss (training loss where there is no validation
        set) has not improved by `tol` for 10 epochs.
    alpha : float, default 0.0
        L2 penalty ½·alpha·‖w‖² on the weights, not the biases; for "adamw" the decoupled weight decay.
    batch_size : int, default 32
        Sequences in a mini-batch. Sequences of similar length are put together.
    max_iter : int, default 100
        Epochs at most. Reaching it is no cause for a warning.
    tol : float, default 1e-4
        By how much a loss must fall to count as improvement.
    early_stopping : bool, default False
        Whether the loss on a validation set decides when to stop, and the weights of its best epoch are restored
        (Prechelt, 1998). The set is `eval_set` of `fit`, or else `validation_fraction` of the training data.
    validation_fraction : float in (0, 1), default 0.1
        Part of the training sequences held out for early stopping when `fit` gets no `eval_set`.
    n_iter_no_change : int or None, default 10
        Training stops when the deciding loss has not improved by `tol` for this many epochs. None: never.
    clip_norm : float or None, default 5.0
        Gradients with a larger global L2 norm are scaled down to it (Pascanu, Mikolov & Bengio, 2013). None: off.
    bptt_steps : None
        Truncated backpropagation is not available for this estimator yet.
    standardize : bool, default True
        Whether each feature is shifted and scaled to mean 0 and standard deviation 1 over all steps of the training
        sequences. Constant ones are only shifted. Tokens have no scale.
    warm_start : bool, default False
        Whether `fit` goes on from the present weights, vocabulary, preprocessing and curves.
    shuffle : bool, default True
        Whether each epoch takes the sequences in a new order.
    random_state : int, RandomState or None, default None
        Decides initial weights, held-out part, order of sequences and dropout. With an int, fits on the same data give
        the same weights to the last bit, for any `n_jobs`.
    verbose : int, default 0
        1: a progress bar with loss and validation score (tqdm; without it as 2). 2: a line for each epoch.
    n_jobs : int or None, default None
        Threads; -1: all cores, None: OMP_NUM_THREADS, or else all cores. Small models use fewer.
    device : {"cpu", "cuda"}, default "cpu"
        "cuda" is not available yet.
    precision : {"float32", "bfloat16", "float64"}, default "float32"
        Type of weights and arithmetic. "bfloat16": float32 with the layers' products in bf16 (docs/bfloat16.md); not
        with the cells "mlstm" and "xlstm".

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Labels, sorted: the order of the columns of `predict_proba`.
    model_ : lstmcore._step_model.StepModel
        The network: `model_.parameters` holds copies of its weights by name; the last row of "head_W" is that of no
        label.
    n_features_in_ : int
        Features of a step (I); 1 for tokens.
    n_iter_, loss_, loss_curve_, best_loss_ : int, float, list of float, float
        Epochs trained; loss of the last epoch, of each, and the lowest: mean over sequences, penalty included.
    validation_loss_curve_, validation_scores_, best_validation_score_
        Loss and score (best path) on the validation set after each epoch; with early stopping the score of the restored
        weights. None where there is none.

    Notes
    -----
    Predictions are arrays of N objects, an array of labels each.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmcore import SequenceTranscriber
    >>> rng = np.random.default_rng(0)
    >>> y = [rng.integers(3, size=rng.integers(1, 4)) for _ in range(60)]
    >>> X = [np.eye(4)[[step for label in labels for step in (label, label, 3)]] for labels in y]
    >>> transcriber = SequenceTranscriber(hidden_size=16, learning_rate_init=0.03, max_iter=40, random_state=0)
    >>> transcriber.fit(X, y).score(X, y) > 0.9
    True
    """

    _network = TranscriberNetwork
    _quantized = "QuantizedTranscriber"
    _rules: Mapping[str, Rule] = {
        **StepEstimator._rules,
        "decoder": choice("greedy", "beam"),
        "beam_width": RULES["hidden_size"],
    }

    decoder: str
    beam_width: int

    def __init__(
        self,
        cell: str = "lstm",
        *,
        decoder: str = "greedy",
        beam_width: int = 16,
        inputs: str = "auto",
        embedding_size: int = 64,
        min_frequency: int = 1,
        singleton_dropout: float = 0.5,
        cell_options: dict[str, Any] | None = None,
        hidden_size: int = 64,
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
        bptt_steps: int | None = None,
        standardize: bool = True,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        store(self, locals())

    # --- the network -------------------------------------------------------------------------------------------------

    def _outputs_count(self) -> int:
        return len(self.classes_) + 1

    def _make_model(self, network: Network) -> LayerModel:
        return StepModel(network, classes=self.classes_)

    # --- targets -----------------------------------------------------------------------------------------------------

    def _read(self, X: Any, y: Any, reset: bool, prefix: str = "", classes: Any = None) -> tuple[Steps, Array]:
        samples: Steps
        samples, targets = super()._read(X, y, reset, prefix, classes)
        for n, (item, length) in enumerate(zip(targets, samples.lengths.tolist(), strict=True)):
            needed = len(item) + int(np.count_nonzero(item[1:] == item[:-1]))
            if needed > length:
                raise ValueError(
                    f"{prefix}y[{n}] has {len(item)} labels, which need at least {needed} steps (one more between "
                    f"equal neighbours), but {prefix}X[{n}] has {length}. Leave it out, or give X more steps."
                )
        return samples, targets

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        if isinstance(y, (list, tuple, np.ndarray)):
            for n, labels in enumerate(y):
                if isinstance(labels, str):
                    raise TypeError(
                        f"{name}[{n}] is one text. Expected a sequence of labels: list({labels[:20]!r}), for example."
                    )
        return self._read_label_sequences(y, reset, name, classes)

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        blank = len(self.classes_)
        full = [np.concatenate([item, 1.0 - item.sum(axis=1, keepdims=True)], axis=1) for item in outputs]
        return _right(_core.ctc_greedy(full, blank), y, sample_weight)

    # --- using -------------------------------------------------------------------------------------------------------

    def partial_fit(
        self: Self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One pass over X in mini-batches, going on from the present weights and state of the optimiser.

        classes: all labels that any call will bring; needed in the first call, whose X decides on vocabulary and
        standardisation. The rest as for `fit`. ValueError with ``early_stopping=True``.
        """
        check_first_classes(self, classes)
        return self._partial_fit(X, y, classes, sample_weight)

    def predict(self, X: Any) -> Array:
        """Labels of each sequence: (N,) objects, (L_i,) each. X as for `fit`."""
        samples = self._fitted_samples(X)
        return self.model_.labels(samples, beam_width=self._width())  # type: ignore[attr-defined, no-any-return]

    def _width(self) -> int:
        return int(self.beam_width) if self.decoder == "beam" else 0

    def predict_proba(self, X: Any) -> Array:
        """Probability of each label at each step: (N,) objects, (T_i, K) each; or (N, T, K). Ordered as `classes_`.

        What is missing to 1 is the probability of no label. X as for `fit`.
        """
        samples = self._fitted_samples(X)
        return as_written(samples, self.model_.core.predict(samples))

    def decode(
        self, X: Any, score: Callable[[tuple[Any, ...], Any], float] | None = None
    ) -> list[list[tuple[Array, float]]]:
        """Label sequences that a prefix beam search of width `beam_width` finds.

        Parameters
        ----------
        X : as for `fit`
        score : callable, optional
            ``score(prefix, label)``: log score to add where `label` follows the tuple `prefix`, such as a language
            model's; minus infinity forbids. Called once for each prefix met.

        Returns
        -------
        list of N lists of (labels, score)
            The best first: labels (L,), and their log probability over the alignments followed, with what the callback
            gave.
        """
        samples = self._fitted_samples(X)
        labels, network = self.classes_, self.model_.network
        names = labels.tolist()
        told = None
        if score is not None:
            if not callable(score):
                raise TypeError(f"score: expected a callable of prefix and label, or None, got {type(score).__name__}")

            def told(prefix: tuple[int, ...], label: int) -> float:
                return score(tuple(names[k] for k in prefix), names[label])

        found = network.hypotheses(samples, int(self.beam_width), told)  # type: ignore[attr-defined]
        return [[(labels[item], total) for item, total in beams] for beams in found]

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """1 − label error rate of `predict`: insertions, deletions and substitutions by labels in y, all together.

        1 is perfect; below 0 where there are more errors than labels. `lstmcore.metrics.label_error_rate` is the rate.
        Arguments as for `fit`.
        """
        samples = self._fitted_samples(X)
        _, targets = self._read(X, y, reset=False)
        weights = read_weights(sample_weight, len(targets), "sample_weight")
        found = self.model_.codes(samples, beam_width=self._width())  # type: ignore[attr-defined]
        return _right(found, targets, weights)

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Probabilities along a stream, one step a call: (K,) or (N, K), as predict_proba has them, and the state.

        x: array-like (I,) or (N, I), or a token or list of N tokens; state: what the last call returned, None starts.
        ValueError for a bidirectional model, which needs whole sequences.
        """
        check_is_fitted(self, "model_")
        return self.model_.step(x, state)  # type: ignore[attr-defined, no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags


def _right(found: Any, y: Array, sample_weight: Array | None) -> float:
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    errors = np.array([edit_distance(a.tolist(), b.tolist()) for a, b in zip(y, found, strict=True)], dtype=np.float64)
    labels = np.array([len(item) for item in y], dtype=np.float64)
    return 1.0 - float(weights @ errors) / max(float(weights @ labels), 1e-300)
