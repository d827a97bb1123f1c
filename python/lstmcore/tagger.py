"""SequenceTagger: a label for every step."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ._labels import class_weights
from ._layer_network import LayerModel, Network
from ._parameters import RULES, Rule, store
from ._step_estimator import StepEstimator, as_written
from ._step_model import StepModel
from ._steps import Steps, object_array
from ._tagger_network import StepTargets, TaggerNetwork
from ._targets import check_first_classes, check_same_classes, distinct_classes
from ._validation import read_weights
from .labelling.estimator import StepLabels
from .metrics import bio_constraints

__all__ = ["SequenceTagger"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceTagger")


def _are_constraints(value: Any) -> bool:
    if value is None or (isinstance(value, str) and value in ("bio", "bioes")):
        return True
    return isinstance(value, (list, tuple)) and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in value)


class SequenceTagger(StepLabels, StepEstimator):
    """Recurrent network that gives every step of a sequence a label.

    Recurrent layers and a dense layer at every step, with softmax, or with a linear-chain conditional random field
    (Lafferty, McCallum & Pereira, 2001) on top, which scores whole label sequences: with ``bidirectional=True,
    crf=True`` the BLSTM-CRF of Huang, Xu & Yu (2015). X holds features, as for SequenceClassifier, or tokens, text or
    integers, which get an embedding. y has one label for every step.

    Parameters
    ----------
    cell : str, default "lstm"
        Recurrent cell, one of `lstmcore.cells()`.
    crf : bool, default False
        Whether a conditional random field takes the place of the softmax: learnt scores for transitions from label to
        label and for first and last labels, trained by the exact likelihood; `predict` then gives the most probable
        sequence (Viterbi, 1967), `predict_proba` the marginals.
    constraints : {"bio", "bioes"}, list of (from, to), or None, default None
        Transitions that `crf` forbids. A pair of labels: to may not follow from; from None: to may not be first; to
        None: from may not be last. "bio", "bioes": those that the labelling scheme excludes
        (`lstmcore.metrics.bio_constraints`).
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
    class_weight : dict, "balanced" or None, default None
        Factor on the loss of each step, by its label; labels not named have 1. "balanced": every label gets the same
        total weight. With `crf` the loss of a step is −log p(label | label before, X), whose sum is that of the chain.
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
        The network: `model_.parameters` holds copies of its weights by name, with `crf` "crf_transitions" (K, K), from
        row to column, "crf_start" and "crf_end" (K,) among them.
    n_features_in_ : int
        Features of a step (I); 1 for tokens.
    n_iter_, loss_, loss_curve_, best_loss_ : int, float, list of float, float
        Epochs trained; loss of the last epoch, of each, and the lowest: mean over steps, penalty included.
    validation_loss_curve_, validation_scores_, best_validation_score_
        Loss and accuracy on the validation set after each epoch, of the labels that are most probable at each step;
        with early stopping the score of the restored weights. None where there is none.

    Notes
    -----
    Predictions are arrays of N objects, one array (T_i,) a sequence; (N, T) where X was one array without padding.

    Examples
    --------
    >>> from lstmcore import SequenceTagger
    >>> X = [["Ada", "met", "Bob", "Ross"], ["rain", "fell"]] * 8
    >>> y = [["B", "O", "B", "I"], ["O", "O"]] * 8
    >>> tagger = SequenceTagger(crf=True, hidden_size=8, max_iter=30, random_state=0).fit(X, y)
    >>> tagger.predict([["Bob", "met", "Ada"]])[0].tolist()
    ['B', 'O', 'B']
    """

    _network = TaggerNetwork
    _quantized = "QuantizedTagger"
    _architecture = (*StepEstimator._architecture, "crf", "constraints")
    _rules: Mapping[str, Rule] = {
        **StepEstimator._rules,
        "crf": RULES["standardize"],
        "constraints": Rule("None, 'bio', 'bioes' or a list of pairs of labels (from, to)", _are_constraints),
    }

    class_weight: dict[Any, float] | str | None
    classes_: Array

    crf: bool
    constraints: Any

    def __init__(
        self,
        cell: str = "lstm",
        *,
        crf: bool = False,
        constraints: Any = None,
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
        class_weight: dict[Any, float] | str | None = None,
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
        return len(self.classes_)

    def _more_config(self) -> dict[str, Any]:
        return {"crf": bool(self.crf)}

    def _make_model(self, network: Network) -> LayerModel:
        return StepModel(network, classes=self.classes_)

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        super()._check_available(parameters)
        if parameters["constraints"] is not None and not parameters["crf"]:
            raise ValueError("constraints need crf=True: a softmax decides on every step by itself.")

    def _make_network(self, samples: Steps, targets: Array, weights: Array | None, seed: int) -> TaggerNetwork:
        network: TaggerNetwork = super()._make_network(samples, targets, weights, seed)
        for name, value in self._allowed().items():
            network.constants[name][...] = value
        return network

    def _allowed(self) -> dict[str, Array]:
        """The network's constants that say what is allowed."""
        if not self.crf or self.constraints is None:
            return {}
        labels = self.classes_.tolist()
        if isinstance(self.constraints, str):
            try:
                pairs: Any = bio_constraints(labels, self.constraints)
            except ValueError as error:
                raise ValueError(f"constraints={self.constraints!r}: {error}") from error
        else:
            pairs = self.constraints
        index = {label: k for k, label in enumerate(labels)}
        count = len(labels)
        allowed = {"allowed_" + name: np.ones(count) for name in ("start", "end")}
        allowed["allowed_transitions"] = np.ones((count, count))
        for first, second in pairs:
            for label in (first, second):
                if label is not None and label not in index:
                    raise ValueError(f"constraints: the label {label!r} does not occur in y")
            if first is None and second is None:
                raise ValueError("constraints: the pair (None, None) names no label")
            if first is None:
                allowed["allowed_start"][index[second]] = 0.0
            elif second is None:
                allowed["allowed_end"][index[first]] = 0.0
            else:
                allowed["allowed_transitions"][index[first], index[second]] = 0.0
        return allowed

    # --- targets -----------------------------------------------------------------------------------------------------

    def _read(self, X: Any, y: Any, reset: bool, prefix: str = "", classes: Any = None) -> tuple[Steps, Array]:
        samples: Steps
        samples, targets = super()._read(X, y, reset, prefix, classes)
        sizes = zip(samples.lengths.tolist(), samples.extents.tolist(), strict=True)
        for n, (item, (length, extent)) in enumerate(zip(targets, sizes, strict=True)):
            if len(item.values) not in (length, extent):
                raise ValueError(
                    f"{prefix}y[{n}] has {len(item.values)} labels, but {prefix}X[{n}] has {length} steps. Expected "
                    "one label a step."
                )
            targets[n] = StepTargets(item.values[:length], item.weights[:length])  # without those of padding
        self._check_paths(targets, prefix + "y", reset)
        return samples, targets

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        if isinstance(y, str) or not (isinstance(y, (list, tuple)) or hasattr(y, "__array__")):
            raise TypeError(f"{name}: expected N sequences of labels, got {type(y).__name__}")
        arrays = []
        for n, labels in enumerate(y):
            array = np.asarray(labels)
            if isinstance(labels, str) or array.ndim != 1:
                raise ValueError(f"{name}[{n}]: expected one label a step, (T,), got {repr(labels)[:60]}")
            if array.dtype.kind == "U" and not all(isinstance(label, str) for label in labels):
                raise ValueError(f"{name}[{n}]: every step needs a label, and text does not mix with others")
            arrays.append(array)
        if not any(len(array) for array in arrays):
            raise ValueError(f"{name} has no labels.")
        flat = np.array([label for array in arrays for label in array.tolist()])
        if flat.dtype.kind in "US" and not all(array.dtype.kind in "USO" for array in arrays if len(array)):
            raise ValueError(f"{name}: labels that are text do not mix with others")
        if flat.dtype.kind == "O" or (flat.dtype.kind == "f" and not np.isfinite(flat).all()):
            raise ValueError(f"{name}: every step needs a label, text or an integer; None and NaN are none")
        check_classification_targets(flat)
        known, codes = np.unique(flat, return_inverse=True)
        if reset:
            self.classes_ = known if classes is None else distinct_classes(classes, least=2)
            if len(self.classes_) < 2:
                raise ValueError(f"{name} has only one label, {known.tolist()[0]!r}: at least 2 classes are needed.")
        elif classes is not None:
            check_same_classes(classes, self.classes_)
        ends = np.cumsum([len(array) for array in arrays])
        places = {label: k for k, label in enumerate(self.classes_.tolist())}
        table = np.array([places.get(label, -1) for label in known.tolist()], dtype=np.int32)
        found = table[codes.reshape(-1)]
        if (found < 0).any():
            at = int(np.argmax(found < 0))
            n = int(np.searchsorted(ends, at, side="right"))
            step = at - (int(ends[n - 1]) if n else 0)
            raise ValueError(
                f"{name}[{n}], step {step}: the label {flat[at].item()!r} is unknown. Known labels: "
                f"{', '.join(map(repr, self.classes_.tolist()[:10]))}."
            )
        return object_array(StepTargets(part, np.ones(len(part))) for part in np.split(found, ends[:-1]))

    def _check_paths(self, targets: Array, name: str, reset: bool) -> None:
        """ValueError where y breaks the constraints: its likelihood would be 0."""
        allowed = self._allowed()
        if not allowed:
            return
        labels = self.classes_.tolist()
        hint = "Mend y, or leave it out of constraints."
        for n, item in enumerate(targets):
            path = item.values
            if not len(path):
                continue
            if not allowed["allowed_start"][path[0]]:
                raise ValueError(f"{name}[{n}] begins with {labels[path[0]]!r}, which constraints forbid. {hint}")
            if not allowed["allowed_end"][path[-1]]:
                raise ValueError(f"{name}[{n}] ends with {labels[path[-1]]!r}, which constraints forbid. {hint}")
            wrong = allowed["allowed_transitions"][path[:-1], path[1:]] == 0.0
            if wrong.any():
                t = int(np.argmax(wrong)) + 1
                raise ValueError(
                    f"{name}[{n}], step {t}: {labels[path[t]]!r} after {labels[path[t - 1]]!r}, which constraints "
                    f"forbid. {hint}"
                )

    def _loss_weights(self, y: Array, sample_weight: Array | None) -> Array | None:
        of_steps = None
        if sample_weight is not None:
            of_steps = np.repeat(sample_weight, [len(item.values) for item in y])
        codes = np.concatenate([item.values for item in y])
        factors = class_weights(self.class_weight, self.classes_, codes, of_steps)
        for item in y:
            item.weights[:] = 1.0 if factors is None else factors[item.values]
        return sample_weight

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        return _accuracy([np.argmax(item, axis=1) for item in outputs], y, sample_weight)

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
        standardisation. The rest as for `fit`. ValueError with ``early_stopping=True`` or ``class_weight="balanced"``.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit: the labels' shares in all the data are not "
                "known. Compute the weights and pass them as a dict."
            )
        check_first_classes(self, classes)
        return self._partial_fit(X, y, classes, sample_weight)

    def predict(self, X: Any) -> Array:
        """Labels of all steps: (N,) objects, (T_i,) each; (N, T) where X is one array without padding.

        With `crf` the most probable sequence of labels as a whole, otherwise the most probable label of each step.
        X as for `fit`; tokens that training did not have are read as unknown.
        """
        samples = self._fitted_samples(X)
        return as_written(samples, self.model_.labels(samples))  # type: ignore[attr-defined]

    def predict_proba(self, X: Any) -> Array:
        """Probability of each label at each step: (N,) objects, (T_i, K) each; or (N, T, K). Ordered as `classes_`.

        With `crf` marginals, given the whole sequence. X as for `fit`.
        """
        samples = self._fitted_samples(X)
        return as_written(samples, self.model_.core.predict(samples))

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Share of steps for which `predict` has the right label, each with its sequence's weight.

        Arguments as for `fit`. For entities see `lstmcore.metrics.entity_f1_score` and, for GridSearchCV,
        ``scoring=entity_f1_scorer``.
        """
        samples = self._fitted_samples(X)
        _, targets = self._read(X, y, reset=False)
        weights = read_weights(sample_weight, len(targets), "sample_weight")
        return _accuracy(self.model_.codes(samples), targets, weights)  # type: ignore[attr-defined]

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Labels a stream, one step a call.

        Parameters
        ----------
        x : array-like (I,) or (N, I), or a token or list of N tokens
            The next step of one stream, or of N streams at once.
        state : dict or None
            What the last call returned, which is not modified; None starts.

        Returns
        -------
        probabilities : ndarray (K,) or (N, K)
            Of the labels of this step, the same that predict_proba gives for it.
        state : dict

        Raises
        ------
        ValueError
            Bidirectional model or conditional random field, which need whole sequences; wrong features.
        """
        check_is_fitted(self, "model_")
        return self.model_.step(x, state)  # type: ignore[attr-defined, no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags


def _accuracy(found: list[Array], y: Array, sample_weight: Array | None) -> float:
    right = np.array([np.count_nonzero(a == b.values) for a, b in zip(found, y, strict=True)], dtype=np.float64)
    steps = np.array([len(item.values) for item in y], dtype=np.float64)
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    return float(weights @ right / (weights @ steps))
