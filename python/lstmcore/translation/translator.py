"""SequenceTranslator: from a sequence to another one of any length."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .._layer_network import LayerModel, Network
from .._layer_training import LayerTrainer
from .._parameters import FLOATS, RULES, Rule, choice, or_none, store
from .._step_estimator import StepEstimator
from .._steps import Steps, as_list
from .._targets import LabelSequences, check_first_classes
from .._validation import read_weights
from .model import TranslatorModel, as_sequences
from .network import LONGEST, TranslatorNetwork
from .training import SamplingTrainer

__all__ = ["SequenceTranslator", "Translation"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="SequenceTranslator")

_SHARE = Rule("a float in [0, 1]", lambda value: RULES["alpha"].accepts(value) and value <= 1)


class Translation(NamedTuple):
    """One hypothesis of `SequenceTranslator.decode`."""

    #: A text, or an array of tokens (L,), as predict gives it.
    output: Any
    #: log probability / ((5 + |y|) / 6)^length_penalty, the end being counted in both.
    score: float
    #: (L, S) weight of each step of X for each token, rows summing up to 1; None where not asked for.
    attention: Array | None


class SequenceTranslator(LabelSequences, StepEstimator):
    """Recurrent encoder-decoder network with attention: turns a sequence into another one of any length.

    An encoder reads X; a decoder then writes y token by token, each time looking at the encoder's outputs, until it
    writes the end (Sutskever, Vinyals & Le, 2014; Bahdanau, Cho & Bengio, 2015; Luong, Pham & Manning, 2015). The loss
    is the mean cross-entropy of the tokens of y and of their ends, the decoder reading the right tokens before each
    (teacher forcing).

    X is N sequences of tokens or of features: a text is the sequence of its characters, a list of str or (with
    ``inputs="tokens"``) of int one of tokens, an array (T_i, I) one of features. y is N texts, for sequences of
    characters, or N sequences of tokens, str or int.

    Parameters
    ----------
    cell : str, default "lstm"
        Recurrent cell of encoder and decoder, one of `lstmcore.cells()` but "mlstm" and "xlstm".
    attention : {"additive", "dot", "general"} or None, default "additive"
        How the decoder looks at the encoder's outputs v_j. "additive": before each step, with scores
        vᵀ tanh(W_q h + W_k v_j + b) of the top layer's h; the step reads the mean of the v_j under softmax of the
        scores (Bahdanau et al., 2015). "dot": after each step, with scores hᵀ v_j; "general": hᵀ W_k v_j (Luong et al.,
        2015). In all three the next token is predicted from tanh(W [context; h]). None: not at all; all that the
        decoder knows is the encoder's final state.
    attention_size : int or None, default None
        Length of W_q h (A) with "additive"; None: hidden_size.
    input_feeding : bool, default False
        Whether each step also reads what the token before was predicted from (Luong et al., 2015).
    beam_width : int, default 1
        Hypotheses that `predict` follows at a time. 1: the most probable token at each step.
    length_penalty : float >= 0, default 0.6
        Exponent α of the length penalty ``((5 + |y|) / 6)^α`` by which log probabilities are divided in beam search
        (Wu et al., 2016). 0: none, which favours short outputs.
    max_length : int or None, default None
        Tokens that a prediction may have at most. None: twice the longest y of fit, or 16.
    scheduled_sampling : float in [0, 1], default 0.0
        Probability with which the decoder reads, in training, the token that it finds most probable itself instead of
        the right one (Bengio, Vinyals, Jaitly & Shazeer, 2015).
    sampling_schedule : {"linear", "inverse_sigmoid", "constant"}, default "linear"
        How that probability comes about over `max_iter` epochs: rising evenly from 0; rising as
        1 / (1 + exp(6 − 12 u)), u being the share of epochs that are done; at once.
    label_smoothing : float in [0, 1), default 0.0
        Share of the target that is spread over all tokens (Szegedy et al., 2016).
    inputs : {"auto", "features", "tokens"}, default "auto"
        What X holds. "auto": tokens where it is text, else features. Integers are tokens with "tokens" only.
    embedding_size : int, default 64
        Of tokens: numbers that each becomes, learnt.
    target_embedding_size : int or None, default None
        The same for tokens of y, as the decoder reads them; None: embedding_size.
    min_frequency : int, default 1
        Tokens of X that occur less often in the training data have no embedding of their own, but that of unknown ones.
    singleton_dropout : float in [0, 1), default 0.5
        Probability with which a token that occurs once in the training data is read as unknown in training, so that
        the embedding of unknown ones is learnt (Lample et al., 2016).
    cell_options : dict or None, default None
        Options of the cell; `lstmcore.cells()` lists them. None: the cell's defaults.
    hidden_size : int, default 128
        Units of each layer and direction (H).
    num_layers : int, default 1
        Recurrent layers of the encoder, and of the decoder.
    bidirectional : bool, default True
        Whether the encoder also reads from the end (Schuster & Paliwal, 1997). The decoder then starts from
        h = tanh(W [h_forward; h_reverse]), and for "lstm" and "peephole" c = W [c_forward; c_reverse], layer by layer;
        else from the encoder's final state. Not together with attention="dot".
    pooling : None
        Steps are not pooled: nothing but None is accepted.
    dropout : float in [0, 1), default 0.0
        Probability with which outputs of every layer are zeroed in training, where the next layer, attention or the
        dense layer reads them (Zaremba, Sutskever & Vinyals, 2014).
    recurrent_dropout : float in [0, 1), default 0.0
        Dropout on the cell's candidate in training (Semeniuta, Severyn & Barth, 2016).
    variational_dropout : float in [0, 1), default 0.0
        Dropout with one mask a sequence, on each layer's input and on h (Gal & Ghahramani, 2016).
    solver : {"sgd", "rmsprop", "adam", "adamw"}, default "adam"
        As for SequenceClassifier, momentum being 0.9.
    learning_rate_init : float, default 2e-3
        Step size of the solver in the first epoch.
    learning_rate : {"constant", "step", "cosine", "plateau"}, default "constant"
        How the step size changes: not at all; halved every 10 epochs; towards 0 over `max_iter` epochs along half a
        cosine (Loshchilov & Hutter, 2017); halved when the validation loss (training loss where there is no validation
        set) has not improved by `tol` for 10 epochs.
    alpha : float, default 0.0
        L2 penalty ½·alpha·‖w‖² on the weights, not the biases; for "adamw" the decoupled weight decay.
    batch_size : int, default 32
        Sequences in a mini-batch. Sequences of similar length are put together.
    max_iter : int, default 50
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
        Truncated backpropagation is not available for this estimator.
    standardize : bool, default True
        Whether each feature is shifted and scaled to mean 0 and standard deviation 1 over all steps of the training
        sequences. Constant ones are only shifted. Tokens have no scale.
    warm_start : bool, default False
        Whether `fit` goes on from the present weights, vocabulary, preprocessing and curves.
    shuffle : bool, default True
        Whether each epoch takes the sequences in a new order.
    random_state : int, RandomState or None, default None
        Decides initial weights, held-out part, order of sequences, dropout and sampling. With an int, fits on the same
        data give the same weights to the last bit, for any `n_jobs`.
    verbose : int, default 0
        1: a progress bar with loss and validation score (tqdm; without it as 2). 2: a line for each epoch.
    n_jobs : int or None, default None
        Threads; -1: all cores, None: OMP_NUM_THREADS, or else all cores. Small models use fewer.
    device : {"cpu", "cuda"}, default "cpu"
        "cuda" is not available yet.
    precision : {"float32", "bfloat16", "float64"}, default "float32"
        Type of weights and arithmetic. "bfloat16" is not available yet.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Tokens of y, sorted: the order of the columns of `predict_proba`.
    model_ : lstmcore.translation.model.TranslatorModel
        The network: `model_.parameters` holds copies of its weights by name.
    n_features_in_ : int
        Features of a step (I); 1 for tokens.
    n_iter_, loss_, loss_curve_, best_loss_ : int, float, list of float, float
        Epochs trained; loss of the last epoch, of each, and the lowest: mean over tokens, penalty included.
    validation_loss_curve_, validation_scores_, best_validation_score_
        Loss, and share of right greedy predictions, on the validation set after each epoch; with early stopping the
        score of the restored weights. None where there is none.

    Notes
    -----
    Predictions are an array of N texts where y was texts, else of N objects, an array of tokens each. A token of X
    that training did not bring is read as unknown; one of y is an error.

    Examples
    --------
    >>> from lstmcore import SequenceTranslator
    >>> words = ["abc", "bca", "ca", "acb", "ba", "cab", "bac", "cb"]
    >>> translator = SequenceTranslator(hidden_size=32, batch_size=8, learning_rate_init=0.02, random_state=0)
    >>> translator.fit(words, [word.upper() for word in words]).predict(["cab", "ba"])
    array(['CAB', 'BA'], dtype='<U3')
    """

    _network = TranslatorNetwork
    _absent: ClassVar[Mapping[str, str]] = {
        "quantize": "the integer runtime has neither embeddings nor attention. For a smaller and faster model lower "
        "hidden_size; lstmcore.load_model runs a saved one with NumPy alone.",
        "step": "the first token is written after the whole source was read. Use predict; for outputs while a sequence "
        "comes, SequenceTagger (one a step) or SequenceTranscriber (in order, but fewer).",
    }
    _architecture: ClassVar[tuple[str, ...]] = (
        *StepEstimator._architecture, "attention", "attention_size", "input_feeding", "target_embedding_size",
    )  # fmt: skip
    _rules: Mapping[str, Rule] = {
        **StepEstimator._rules,
        "attention": or_none(choice("additive", "dot", "general")),
        "attention_size": or_none(RULES["hidden_size"]),
        "input_feeding": RULES["bidirectional"],
        "beam_width": RULES["hidden_size"],
        "length_penalty": RULES["alpha"],
        "max_length": or_none(
            Rule(f"an int in 1 ... {LONGEST}", lambda value: RULES["hidden_size"].accepts(value) and value <= LONGEST)
        ),
        "scheduled_sampling": _SHARE,
        "sampling_schedule": choice("linear", "inverse_sigmoid", "constant"),
        "target_embedding_size": or_none(RULES["hidden_size"]),
    }

    attention: str | None
    attention_size: int | None
    input_feeding: bool
    beam_width: int
    length_penalty: float
    max_length: int | None
    scheduled_sampling: float
    sampling_schedule: str
    label_smoothing: float
    target_embedding_size: int | None

    def __init__(
        self,
        cell: str = "lstm",
        *,
        attention: str | None = "additive",
        attention_size: int | None = None,
        input_feeding: bool = False,
        beam_width: int = 1,
        length_penalty: float = 0.6,
        max_length: int | None = None,
        scheduled_sampling: float = 0.0,
        sampling_schedule: str = "linear",
        label_smoothing: float = 0.0,
        inputs: str = "auto",
        embedding_size: int = 64,
        target_embedding_size: int | None = None,
        min_frequency: int = 1,
        singleton_dropout: float = 0.5,
        cell_options: dict[str, Any] | None = None,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        solver: str = "adam",
        learning_rate_init: float = 2e-3,
        learning_rate: str = "constant",
        alpha: float = 0.0,
        batch_size: int = 32,
        max_iter: int = 50,
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

    _precisions: ClassVar[tuple[str, ...]] = FLOATS

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        super()._check_available(parameters)
        if self.cell in ("mlstm", "xlstm"):
            raise ValueError(
                f"cell={self.cell!r} takes many steps at once, but a decoder makes one after the other. Use another, "
                "such as 'lstm' or 'slstm'."
            )
        if self.attention == "dot" and self.bidirectional:
            raise ValueError(
                "attention='dot' compares the decoder's state with the encoder's outputs, which two directions make "
                "twice as wide. Use attention='general' or 'additive', or bidirectional=False."
            )
        if self.attention_size is not None and self.attention != "additive":
            raise ValueError(
                f"attention_size={self.attention_size!r} is of attention='additive' only, and attention is "
                f"{self.attention!r}. Use None."
            )

    def _outputs_count(self) -> int:
        return len(self.classes_) + 1

    def _more_config(self) -> dict[str, Any]:
        size = None
        if self.attention == "additive":
            size = int(self.hidden_size if self.attention_size is None else self.attention_size)
        embedding = self.embedding_size if self.target_embedding_size is None else self.target_embedding_size
        return {
            "attention": self.attention,
            "attention_size": size,
            "input_feeding": bool(self.input_feeding),
            "target_embedding_size": int(embedding),
            "max_length": min(LONGEST, max(16, 2 * self._longest)),
            "joined": self._joined,
        }

    def _make_model(self, network: Network) -> LayerModel:
        return TranslatorModel(network, classes=self.classes_)

    def _configure(self, network: Any) -> None:
        super()._configure(network)
        network.label_smoothing = float(self.label_smoothing)
        network.sampling = 0.0

    def _new_trainer(self, options: dict[str, Any], seed: int) -> LayerTrainer:
        share, schedule, epochs = float(self.scheduled_sampling), self.sampling_schedule, int(self.max_iter)
        return SamplingTrainer(self.model_.network, options, seed, share, schedule, epochs)

    def _make_trainer(self, seed: int, reuse: bool) -> Any:
        trainer = super()._make_trainer(seed, reuse)
        if isinstance(trainer, SamplingTrainer):  # partial_fit may go on with one that was made for other values
            trainer.share, trainer.schedule = float(self.scheduled_sampling), self.sampling_schedule
        return trainer

    # --- data --------------------------------------------------------------------------------------------------------

    def _read_X(self, X: Any, reset: bool, name: str = "X") -> Steps:
        if isinstance(X, str):
            raise TypeError(f"{name} is one text. Expected a sequence of them: [{name}] is one sample.")
        return super()._read_X(X, reset, name)

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        y = as_list(y)
        items = y if isinstance(y, (list, tuple, np.ndarray)) else []
        joined = len(items) > 0 and all(isinstance(item, str) for item in items)
        if joined:
            y = [list(str(item)) for item in items]
        elif any(isinstance(item, str) for item in items):
            raise TypeError(f"{name}: texts do not mix with sequences of tokens. Use list(…) for each text.")
        if reset:
            self._joined = joined
        elif joined and not self._fitted_joined():
            raise TypeError(f"{name} holds texts, but the model was trained on sequences of tokens.")
        found = self._read_label_sequences(y, reset, name, classes)
        if reset:
            self._longest = max((len(item) for item in found), default=0)
            if self._longest > LONGEST:
                raise ValueError(f"{name}: a sequence has {self._longest} tokens, at most {LONGEST} are possible.")
        return found

    def _fitted_joined(self) -> bool:
        if hasattr(self, "model_"):
            return bool(self.model_.config["joined"])
        return self._joined

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        return _matches([np.argmax(item, axis=1) for item in outputs], y, sample_weight)

    # --- using -------------------------------------------------------------------------------------------------------

    def partial_fit(
        self: Self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One pass over X in mini-batches, going on from the present weights and state of the optimiser.

        classes: all tokens of y that any call will bring; needed in the first call, whose X decides on vocabulary and
        standardisation, and whose y on the default of `max_length`. The rest as for `fit`. ValueError with
        ``early_stopping=True``.
        """
        check_first_classes(self, classes)
        return self._partial_fit(X, y, classes, sample_weight)

    def predict(self, X: Any) -> Array:
        """The best hypothesis for each sequence that a search of width `beam_width` finds.

        (N,) texts where y of fit was texts; else (N,) objects, tokens (L_i,) each. X as for `fit`.
        """
        samples = self._fitted_samples(X)
        return self.model_.labels(samples, **self._search())  # type: ignore[attr-defined, no-any-return]

    def _search(self) -> dict[str, Any]:
        self._check_parameters()
        longest = None if self.max_length is None else int(self.max_length)
        return {"max_length": longest, "beam_width": int(self.beam_width), "alpha": float(self.length_penalty)}

    def predict_proba(self, X: Any) -> Array:
        """Probability of each token at each step of the greedy prediction: (N,) objects, (L_i, K) each.

        The columns are ordered as `classes_`; what is missing to 1 is the probability of the end. X as for `fit`.
        """
        samples = self._fitted_samples(X)
        result: Array = self.model_.core.predict(samples)
        return result

    def decode(
        self, X: Any, beam_width: int | None = None, n_best: int = 1, return_attention: bool = False
    ) -> list[list[Translation]]:
        """Hypotheses that a beam search finds.

        Parameters
        ----------
        X : as for `fit`
        beam_width : int, optional
            Hypotheses that are followed at a time; by default `beam_width`, but `n_best` at least.
        n_best : int, default 1
            How many to return of each sequence, at most.
        return_attention : bool, default False
            Whether to return the attention weights.

        Returns
        -------
        list of N lists of Translation
            The best first: output, score, attention.

        Raises
        ------
        ValueError
            `n_best` larger than `beam_width`, or `return_attention` for a model without attention.
        """
        check_is_fitted(self, "model_")
        for name, value in (("beam_width", beam_width), ("n_best", n_best)):
            if not RULES["hidden_size"].accepts(value) and not (name == "beam_width" and value is None):
                raise ValueError(f"{name}: expected an int >= 1, got {value!r}")
        if not RULES["shuffle"].accepts(return_attention):
            raise ValueError(f"return_attention: expected True or False, got {return_attention!r}")
        attention = bool(return_attention)
        options = self._search()
        width = max(options["beam_width"], n_best) if beam_width is None else int(beam_width)
        if n_best > width:
            raise ValueError(f"n_best={n_best} hypotheses need a beam_width of at least as many, got {width}.")
        if attention and self.model_.config["attention"] is None:
            raise ValueError("return_attention: this model has attention=None. Fit with another attention.")
        samples = self._fitted_samples(X)
        model: Any = self.model_
        joined = self._fitted_joined()
        result = []
        for part in model.core.parts(samples, model._together):
            with np.errstate(all="ignore"):  # weights that have grown too large show in the outputs
                found = model.network.hypotheses(
                    part, options["max_length"], width, options["alpha"], bool(return_attention)
                )
            for items in found:
                outputs = as_sequences([self.classes_[item.tokens] for item in items[:n_best]], joined)
                best = zip(outputs.tolist() if joined else outputs, items, strict=False)
                result.append([Translation(output, item.score, item.attention) for output, item in best])
        return result

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Share of the sequences that `predict` gets wholly right. Arguments as for `fit`.

        `lstmcore.metrics.label_error_rate(y, translator.predict(X))` is the token error rate.
        """
        check_is_fitted(self, "model_")
        samples, targets = self._read(X, y, reset=False)
        self._use_threads()
        weights = read_weights(sample_weight, len(targets), "sample_weight")
        found = self.model_.codes(samples, **self._search())  # type: ignore[attr-defined]
        return _matches(found, targets, weights)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags


def _matches(found: Any, y: Array, sample_weight: Array | None) -> float:
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    right = np.array([np.array_equal(a, b) for a, b in zip(found, y, strict=True)], dtype=np.float64)
    return float(weights @ right) / max(float(weights.sum()), 1e-300)
