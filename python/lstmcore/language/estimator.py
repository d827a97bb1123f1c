"""LanguageModel: the next symbol of a text."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, check_random_state

from .._fitting import Part
from .._layer_network import LayerModel
from .._layer_training import LayerEstimator
from .._parameters import RULES, Rule, store
from .._step_estimator import RecurrentParameters
from .corpus import NAMES, Corpus, read_corpus
from .model import SymbolModel
from .network import LanguageNetwork
from .settings import RULES_OF_LANGUAGE, check_settings, choose_labels, network_config
from .training import LanguageTrainer, StreamValidation, document_losses

__all__ = ["LanguageModel"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="LanguageModel")

# Symbols that are read at once where a text is only evaluated.
_EVALUATED = 256


class LanguageModel(RecurrentParameters, LayerEstimator):
    """Recurrent network that predicts the next symbol, character or token, of a text.

    Embedding, recurrent layers and a softmax over all symbols (Mikolov et al., 2010; Zaremba, Sutskever & Vinyals,
    2014), trained on streams of text by truncated backpropagation through time with states that are carried on. X is
    one text, a list of texts or of lists of tokens, a `pathlib.Path` or open file that may be larger than memory, or
    any iterable of these; each text is a document.

    Parameters
    ----------
    cell : str, default "lstm"
        Recurrent cell, one of `lstmcore.cells()`.
    unit : {"character", "token"}, default "character"
        What a symbol is.
    tokenizer : callable, regular expression (str) or None, default None
        What cuts text into tokens: called with a text, it gives them; an expression gives its matches. None: words and
        everything else that is not a space. Only for ``unit="token"``; lists of tokens are taken as they are.
    documents : {"separate", "joined"}, default "separate"
        Whether each document is read from a fresh state, or as the continuation of the one before it. Either way its
        end, "<eod>", is a symbol that is predicted.
    vocabulary : list of str or None, default None
        The symbols. None: those of the training data.
    min_frequency : int, default 1
        Symbols that occur less often in the training data are read and predicted as "<unk>". With 1, "<unk>" does not
        occur in training, and new symbols are a surprise without bound.
    max_vocabulary : int or None, default None
        Only so many symbols, the most frequent ones, beside "<eod>" and "<unk>". None: all.
    embedding_size : int or None, default None
        Numbers that each symbol becomes, learnt (E). None: 64; with `tie_weights` as many as the layers' outputs.
    tie_weights : bool, default False
        Whether the softmax has the embedding as its weights (Inan, Khosravi & Socher, 2017; Press & Wolf, 2017),
        through a learnt projection where sizes differ.
    softmax : {"full", "adaptive", "sampled"}, default "full"
        "adaptive": rarer symbols in clusters that are predicted from fewer numbers (Grave et al., 2017); "sampled":
        training compares with `n_samples` symbols only (Jean, Cho, Memisevic & Bengio, 2015). For vocabularies of tens
        of thousands. Losses on validation sets, `score` and predictions are those of all symbols always.
    cutoffs : list of int or None, default None
        Adaptive softmax: number of symbols, by falling frequency, before each cluster. None: a tenth and a half of
        all.
    n_samples : int, default 1024
        Sampled softmax: distinct symbols drawn for each chunk, log-uniformly by rank; at most half the vocabulary.
    cell_options : dict or None, default None
        Options of the cell; `lstmcore.cells()` lists them. None: the cell's defaults.
    hidden_size : int, default 128
        Units of each layer (H).
    num_layers : int, default 1
        Recurrent layers, each reading the outputs of the one below.
    bidirectional : False
        A layer that reads from the end would read what it is to predict: nothing but False is accepted.
    dropout : float in [0, 1), default 0.0
        Probability with which outputs of every layer are zeroed in training (Zaremba, Sutskever & Vinyals, 2014).
    recurrent_dropout : float in [0, 1), default 0.0
        Dropout on the cell's candidate in training (Semeniuta, Severyn & Barth, 2016).
    variational_dropout : float in [0, 1), default 0.0
        Dropout with one mask a chunk, on each layer's input and on h (Gal & Ghahramani, 2016).
    solver : {"sgd", "rmsprop", "adam", "adamw"}, default "adam"
        As for SequenceClassifier, momentum being 0.9.
    learning_rate_init : float, default 3e-3
        Step size of the solver in the first epoch.
    learning_rate : {"constant", "step", "cosine", "plateau"}, default "constant"
        How the step size changes: not at all; halved every 10 epochs; towards 0 over `max_iter` epochs along half a
        cosine (Loshchilov & Hutter, 2017); halved when the validation loss (training loss where there is no validation
        set) has not improved by `tol` for 10 epochs.
    alpha : float, default 0.0
        L2 penalty ½·alpha·‖w‖² on the weights, not the biases; for "adamw" the decoupled weight decay.
    batch_size : int, default 32
        Lanes: equal parts of the text that are read side by side. Short texts have fewer, none shorter than a chunk.
    bptt_steps : int, default 64
        Symbols of each lane in a chunk, after which weights change. Gradients end there, states go on (Werbos, 1990;
        Williams & Peng, 1990).
    max_iter : int, default 10
        Epochs at most. Reaching it is no cause for a warning.
    tol : float, default 1e-4
        By how much a loss must fall to count as improvement.
    early_stopping : bool, default False
        Whether the loss on a validation set decides when to stop, and the weights of its best epoch are restored
        (Prechelt, 1998). The set is `eval_set` of `fit`, or else `validation_fraction` of the documents, or of one text
        its end.
    validation_fraction : float in (0, 1), default 0.1
        Part of the training data held out for early stopping when `fit` gets no `eval_set`.
    n_iter_no_change : int or None, default 10
        Training stops when the deciding loss has not improved by `tol` for this many epochs. None: never.
    clip_norm : float or None, default 5.0
        Gradients with a larger global L2 norm are scaled down to it (Pascanu, Mikolov & Bengio, 2013). None: off.
    warm_start : bool, default False
        Whether `fit` goes on from the present weights, vocabulary and curves.
    shuffle : bool, default True
        Whether each epoch takes the documents in a new order. More than 4 million symbols stay in theirs.
    random_state : int, RandomState or None, default None
        Decides initial weights, held-out part, order of documents, dropout and samples. With an int, fits on the same
        data give the same weights to the last bit, for any `n_jobs`.
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
    classes_ : ndarray of shape (V,)
        Symbols: "<eod>", "<unk>", then by falling frequency. The order of the columns of `predict_proba`.
    model_ : lstmcore.language.model.SymbolModel
        The network: `model_.parameters` holds copies of its weights by name.
    n_features_in_ : int
        1: a symbol a step.
    n_iter_, loss_, loss_curve_, best_loss_ : int, float, list of float, float
        Epochs trained; loss of the last epoch, of each, and the lowest: −log p of a symbol in nats, penalty included.
    validation_loss_curve_, validation_scores_, best_validation_score_
        Loss on the validation set after each epoch, and the same with the other sign. None where there is none.

    Notes
    -----
    Text is read once, and more than 4 million symbols are kept in a temporary file (4 bytes each; the folder is that of
    `tempfile`), so memory does not grow with the text. Vocabularies come from the whole of it.

    Examples
    --------
    >>> from lstmcore import LanguageModel
    >>> text = "the quick brown fox jumps over the lazy dog. " * 40
    >>> model = LanguageModel(hidden_size=32, bptt_steps=20, batch_size=4, max_iter=30, random_state=0).fit(text)
    >>> model.generate("the quick ", 20, temperature=0)
    'brown fox jumps over'
    """

    _network = LanguageNetwork
    _architecture = (
        "cell", "cell_options", "hidden_size", "num_layers", "unit", "documents", "embedding_size", "tie_weights",
        "softmax", "dropout", "variational_dropout", "recurrent_dropout", "precision",
    )  # fmt: skip
    _rules: Mapping[str, Rule] = RULES_OF_LANGUAGE
    _absent: ClassVar[Mapping[str, str]] = {
        "quantize": "the integer runtime has no embeddings and no softmax over a vocabulary. For a smaller and faster "
        "model lower hidden_size, or use softmax='adaptive'; lstmcore.load_model runs a saved one with NumPy alone."
    }

    classes_: Array

    unit: str
    tokenizer: str | Callable[[str], Iterable[str]] | None
    documents: str
    vocabulary: Sequence[str] | None
    min_frequency: int
    max_vocabulary: int | None
    embedding_size: int | None
    tie_weights: bool
    softmax: str
    cutoffs: Sequence[int] | None
    n_samples: int
    bptt_steps: int

    def __init__(
        self,
        cell: str = "lstm",
        *,
        unit: str = "character",
        tokenizer: str | Callable[[str], Iterable[str]] | None = None,
        documents: str = "separate",
        vocabulary: Sequence[str] | None = None,
        min_frequency: int = 1,
        max_vocabulary: int | None = None,
        embedding_size: int | None = None,
        tie_weights: bool = False,
        softmax: str = "full",
        cutoffs: Sequence[int] | None = None,
        n_samples: int = 1024,
        cell_options: dict[str, Any] | None = None,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        solver: str = "adam",
        learning_rate_init: float = 3e-3,
        learning_rate: str = "constant",
        alpha: float = 0.0,
        batch_size: int = 32,
        bptt_steps: int = 64,
        max_iter: int = 10,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 10,
        clip_norm: float | None = 5.0,
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

    def fit(self: Self, X: Any, y: None = None, eval_set: Any = None, callbacks: Any = None) -> Self:  # type: ignore[override]
        """Trains on texts.

        Parameters
        ----------
        X : str, path, open file, or iterable of str, paths, open files or lists of str
            One text or several, as the class says; a generator is read once. A str is always text: for the name of a
            file pass ``pathlib.Path(name)``, read as UTF-8.
        y : None
            There is no target but the text.
        eval_set : as X, default None
            Texts whose loss is computed after every epoch. With ``early_stopping=True`` they decide.
        callbacks : callable or iterable of callables, default None
            Each is called as ``callback(info)`` after every epoch, info being an `lstmcore.EpochInfo`. Training stops
            after an epoch for which one returns True.

        Returns
        -------
        self
            Also after Ctrl-C, which ends training with a warning and keeps what was learnt until then.

        Raises
        ------
        ValueError, TypeError
            Data or parameters that cannot be used, or training that diverged; the message names the argument.
        NotImplementedError
            A parameter value that is planned but not available; the message says what to use instead.
        """
        self._check_parameters()
        return self._train(X, y, None, eval_set, callbacks, self.warm_start and hasattr(self, "model_"))

    def partial_fit(self: Self, X: Any, y: None = None) -> Self:
        """One pass over X, going on from the present weights and state of the optimiser; X as for `fit`.

        The first call decides on the vocabulary: that of its X, or the parameter `vocabulary`. ValueError with
        ``early_stopping=True``.
        """
        return self._partial_fit(X, y, None, None)

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        check_settings(parameters)

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, eval_set: Any, resume: bool, partial: bool, classes: Any
    ) -> tuple[Part, Any, Any]:
        if y is not None and not isinstance(y, (list, tuple, np.ndarray)) and not hasattr(y, "__array__"):
            raise TypeError(f"y: a language model has no target but the text; expected None, got {type(y).__name__}")
        corpus = read_corpus(X, "X", self.unit, self.tokenizer)
        steps = int(self.bptt_steps)
        if not partial and corpus.predictions < steps:
            raise ValueError(
                f"X has {corpus.predictions} symbols, ends of documents included, and a chunk has "
                f"bptt_steps={steps}. Pass more text, or lower bptt_steps."
            )
        if resume:
            self._check_resumed()
        random = check_random_state(self.random_state)
        model_seed, trainer_seed, split_seed = (int(seed) for seed in random.randint(2**31 - 1, size=3))
        if not resume:
            self._begin(corpus, model_seed)
            self._reset_curves()
        network: Any = self.model_.network
        self._configure(network)
        corpus.encode(network.vocabulary)
        validation = None
        if eval_set is not None:
            held_out = read_corpus(eval_set, "eval_set", self.unit, self.tokenizer)
            held_out.encode(network.vocabulary)
            validation = StreamValidation(held_out)
        elif self.early_stopping:
            corpus, held_out = self._hold_out(corpus, split_seed)
            validation = StreamValidation(held_out)
        return self._make_trainer(trainer_seed, reuse=partial), Part(corpus, None, None), validation  # type: ignore[arg-type]

    def _begin(self, corpus: Corpus, seed: int) -> None:
        counts = corpus.counts()
        labels = [*NAMES, *choose_labels(self.get_params(deep=False), counts)]
        config = network_config(self.get_params(deep=False), labels)
        network = LanguageNetwork(config, seed)
        of_labels = np.array([counts.get(label, 0) for label in labels], dtype=np.int64)
        known = set(labels)
        of_labels[0] += len(corpus.ends)
        of_labels[1] += sum(count for label, count in counts.items() if label not in known)
        network.start_from(of_labels)
        self._built = {name: getattr(self, name) for name in self._architecture}
        self.classes_ = np.array(labels, dtype=object)
        self.n_features_in_ = 1
        self.model_ = self._make_model(network)

    def _hold_out(self, corpus: Corpus, seed: int) -> tuple[Corpus, Corpus]:
        """Documents, or of one text or of one too long for memory the end."""
        fraction = float(self.validation_fraction)
        count = len(corpus.ends)
        if corpus.in_memory and count > 1:
            order = np.random.RandomState(seed).permutation(count)
            cut = min(max(1, round(fraction * count)), count - 1)
            return corpus.documents(np.sort(order[cut:])), corpus.documents(np.sort(order[:cut]))
        total = corpus.predictions
        cut = total - max(1, round(fraction * total))
        if cut < 1:
            raise ValueError(
                f"early_stopping=True cannot hold out validation_fraction={fraction} of {total} symbols. Pass eval_set."
            )
        return corpus.part(0, cut), corpus.part(cut, total)

    def _make_model(self, network: Any) -> LayerModel:
        return SymbolModel(network, classes=self.classes_)

    def _configure(self, network: Any) -> None:
        network.samples = int(self.n_samples)
        network.tokenizer = self.tokenizer

    def _trainer_options(self) -> dict[str, Any]:
        return {**super()._trainer_options(), "bptt_steps": int(self.bptt_steps)}

    def _new_trainer(self, options: dict[str, Any], seed: int) -> Any:
        return LanguageTrainer(self.model_.network, options, seed)  # type: ignore[arg-type]

    def _restore_fitted(self, model: Any, fitted: dict[str, Any]) -> None:
        super()._restore_fitted(model, fitted)
        config = model.network.config
        for name in ("unit", "documents", "softmax", "tie_weights"):
            if self._built[name] != config[name]:
                raise ValueError(f"{name}={self._built[name]!r}, but the network has {config[name]!r}")
        if not np.array_equal(model.classes, np.array(model.network.vocabulary.labels, dtype=object)):
            raise ValueError("classes are not the symbols of the network")
        self._configure(model.network)

    # --- how good ----------------------------------------------------------------------------------------------------

    def score(self, X: Any, y: None = None) -> float:
        """Mean of log p (nats) over all symbols of X and the ends of its documents; the higher, the better.

        Each document is read from its own beginning, with everything before a symbol. X as for `fit`. Symbols that the
        vocabulary does not have are read, and predicted, as "<unk>".
        """
        corpus, sums = self._losses(X)
        return float(-sums.sum() / corpus.predictions)

    def perplexity(self, X: Any) -> float:
        """exp of the mean −log p: among how many equally likely symbols the model chooses. X as for `fit`."""
        return float(np.exp(-self.score(X)))

    def bits_per_character(self, X: Any) -> float:
        """−log₂ p of X, divided by its characters. X as for `fit`, but text: lists of tokens have no characters."""
        corpus, sums = self._losses(X)
        if corpus.characters == 0:
            raise ValueError("X: bits_per_character needs text; lists of tokens have no characters. Use perplexity.")
        return float(sums.sum() / np.log(2.0) / corpus.characters)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """log p (nats) of each document with its end, (D,). X as for `fit`; ``documents="joined"`` has no such."""
        check_is_fitted(self, "model_")
        if self.model_.config["documents"] == "joined":
            raise ValueError("score_samples: with documents='joined' a document has no beginning. Use score.")
        return -self._losses(X)[1]

    def _losses(self, X: Any) -> tuple[Corpus, NDArray[np.float64]]:
        check_is_fitted(self, "model_")
        network: Any = self.model_.network
        corpus = read_corpus(X, "X", network.config["unit"], network.tokenizer)
        corpus.encode(network.vocabulary)
        self._use_threads()
        separate = network.config["documents"] == "separate"
        return corpus, document_losses(network, corpus, int(self.batch_size), _EVALUATED, separate)

    # --- using -------------------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (N, V) of the symbol after each of N texts, ordered as `classes_`.

        X: a text (then N is 1) or a list of texts; with ``unit="token"`` also lists of tokens. "" is the beginning.
        """
        check_is_fitted(self, "model_")
        self._use_threads()
        return self.model_.core.predict(self.model_.contexts(X, self.n_jobs))  # type: ignore[attr-defined]

    def predict(self, X: Any) -> Array:
        """The most probable symbol after each of N texts, (N,); X as for `predict_proba`."""
        probabilities = self.predict_proba(X)
        return self.model_.as_predictions(probabilities)

    def generate(
        self,
        prompt: Any = "",
        length: int = 200,
        *,
        n_texts: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stop: str | Sequence[Any] | None = None,
        end: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Goes on with a text, symbol by symbol, each drawn from what the model predicts.

        Parameters
        ----------
        prompt : str or list of tokens, or list of several, default ""
            What the text begins with. "" begins a document. Several are gone on with at once.
        length : int, default 200
            Symbols at most.
        n_texts : int or None, default None
            So many different texts from one prompt. None: one.
        temperature : float, default 1.0
            Below 1 the probable becomes more probable; 0: always the most probable symbol.
        top_k : int or None, default None
            Draws among the k most probable symbols only (Fan, Lewis & Dauphin, 2018).
        top_p : float in (0, 1], default 1.0
            Draws among the fewest symbols that reach this probability together (Holtzman et al., 2020).
        stop : str, list of str or of lists of tokens, or None
            Text after which to stop; it is part of what is returned.
        end : bool, default True
            Whether the model may end the document. False: "<eod>" is never drawn.
        random_state : int, RandomState or None, default None
            Decides what is drawn; None: that of the model, if it is an int, else anew.

        Returns
        -------
        str, or list of tokens for ``unit="token"``
            What comes after the prompt; a list of such for several prompts or with `n_texts`. "<unk>" is never drawn.
        """
        check_is_fitted(self, "model_")
        if random_state is None:
            random_state = self.random_state
        if not RULES["random_state"].accepts(random_state):
            raise ValueError(f"random_state: expected {RULES['random_state'].expected}, got {random_state!r}")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return self.model_.generate(  # type: ignore[attr-defined]
            prompt,
            length,
            n_texts=n_texts,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop,
            end=end,
            seed=seed,
            n_jobs=self.n_jobs,
        )

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Reads streams symbol by symbol.

        Parameters
        ----------
        x : str, or list of N str
            The next symbol of one stream, or of N streams at once; "<eod>" where a document begins.
        state : dict or None
            What the last call returned, which is not modified; None starts.

        Returns
        -------
        probabilities : ndarray (V,) or (N, V)
            Of the symbol that follows, ordered as `classes_`.
        state : dict
        """
        check_is_fitted(self, "model_")
        return self.model_.step(x, state)  # type: ignore[attr-defined, no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.target_tags.required = False
        return tags
