"""SequenceRegressor: one or several numbers for a whole sequence."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from . import _core
from ._base import Self, SequenceEstimator
from ._parameters import store
from ._targets import NumberTargets
from .model import Model

__all__ = ["SequenceRegressor"]

Array = NDArray[Any]

# Names of the losses here, as scikit-learn has them → in the engine.
_LOSSES = {"squared_error": "squared", "absolute_error": "absolute", "huber": "huber"}


class SequenceRegressor(RegressorMixin, NumberTargets, SequenceEstimator):
    """Recurrent network that gives a whole sequence one or several numbers.

    Recurrent layers, pooling over time, a dense head; trained by backpropagation through time. Recurrent weights start
    orthogonal (Saxe, McClelland & Ganguli, 2014) and forget-gate biases at 1 (Jozefowicz, Zaremba & Sutskever, 2015).

    Parameters
    ----------
    cell : str, default "lstm"
        Recurrent cell, one of `lstmcore.cells()`: "lstm" (Gers, Schmidhuber & Cummins, 2000), "elman" (Elman, 1990), …
    cell_options : dict or None, default None
        Options of the cell, e.g. ``{"nonlinearity": "relu"}`` for "elman"; `lstmcore.cells()` lists them. None: the
        cell's defaults.
    hidden_size : int, default 64
        Units of each layer and direction (H).
    num_layers : int, default 1
        Recurrent layers, each reading the outputs of the one below (L).
    bidirectional : bool, default False
        Whether every layer also reads from the end, its outputs concatenated (Schuster & Paliwal, 1997). `step` then is
        not possible.
    pooling : {"last", "mean", "max", "attention", "hopfield"}, default "last"
        How the outputs of the last layer over time become one vector: those of the last step (for the reverse
        direction: of the step it ends on), their mean, or their maximum; "attention": their mean with weights
        softmax(v·tanh(W h + b)) over the steps, learnt (Bahdanau, Cho & Bengio, 2015; Yang et al., 2016); "hopfield":
        learnt patterns that retrieve from the steps as from a modern Hopfield network (Ramsauer et al., 2021).
    pooling_options : dict or None, default None
        Of "attention" and "hopfield": ``size``, the width of scores, or of keys and values (default: that of the
        outputs). Of "hopfield" also: ``patterns``, learnt patterns, whose retrieved values stand side by side (1);
        ``beta``, inverse temperature (1/√size); ``updates``, times that a pattern moves to what it retrieves before it
        reads (1; 0: it only reads, and `step` is possible).
    head_sizes : tuple or list of int, default ()
        Units of each hidden layer of the dense head, between pooling and outputs.
    head_activation : {"selu", "relu", "tanh"}, default "selu"
        Of the head's hidden layers; "selu" with initial weights as it needs them (Klambauer et al., 2017).
    head_dropout : float in [0, 1), default 0.0
        Probability with which outputs of the head's hidden layers are dropped in training: alpha dropout for "selu"
        (Klambauer et al., 2017), else they become 0. Needs `head_sizes`.
    dropout : float in [0, 1), default 0.0
        Probability with which outputs of every layer but the last are zeroed in training (Zaremba, Sutskever & Vinyals,
        2014). With one layer it has no effect, and `fit` warns.
    recurrent_dropout : float in [0, 1), default 0.0
        Dropout on the cell's candidate in training (Semeniuta, Severyn & Barth, 2016); "elman" and "indrnn" have none.
    variational_dropout : float in [0, 1), default 0.0
        Dropout in training with one mask a sequence for all its steps, on each layer's input and on h where it enters
        the recurrent weights (Gal & Ghahramani, 2016).
    zoneout_hidden, zoneout_cell : float in [0, 1), default 0.0, 0.0
        Probability with which a unit's h, or its other states, keep the value of the step before in training; their
        expectation in prediction (Krueger et al., 2017).
    learn_initial_state : bool, default False
        Whether the state that sequences start from is learnt too, instead of being zero.
    loss : {"squared_error", "absolute_error", "huber"}, default "squared_error"
        Mean over sequences and targets of e², ``|e|``, or Huber's (1964): ½e² up to `huber_delta`, linear beyond. e
        is in units of the standardised targets.
    huber_delta : float, default 1.0
        Of the loss "huber": in standard deviations of y with ``standardize=True``, else in units of y.
    solver : {"sgd", "rmsprop", "adam", "adamw"}, default "adam"
        Stochastic gradient descent with momentum, RMSProp (Tieleman & Hinton, 2012), Adam (Kingma & Ba, 2015), AdamW
        (Loshchilov & Hutter, 2019).
    learning_rate_init : float, default 5e-3
        Step size of the solver in the first epoch.
    learning_rate : {"constant", "step", "cosine", "plateau"}, default "constant"
        How the step size changes: not at all; times `schedule_factor` every `schedule_every` epochs; from
        `learning_rate_init` towards 0 over `max_iter` epochs along half a cosine (Loshchilov & Hutter, 2017); times
        `schedule_factor` when the validation loss (training loss where there is no validation set) has not improved by
        `tol` for `schedule_every` epochs.
    schedule_factor : float in (0, 1], default 0.5
        Of the schedules "step" and "plateau".
    schedule_every : int, default 10
        Epochs, of the schedules "step" and "plateau".
    momentum : float in [0, 1), default 0.9
        Of the solver "sgd".
    nesterov : bool, default False
        Nesterov's momentum (Sutskever et al., 2013) for the solver "sgd".
    beta_1, beta_2 : float in [0, 1), default 0.9, 0.999
        Decay of the running mean of the gradient and of its square, of "adam" and "adamw".
    rho : float in [0, 1), default 0.99
        Decay of the running mean of the squared gradient, of "rmsprop".
    epsilon : float, default 1e-8
        Added to the denominators of "rmsprop", "adam" and "adamw".
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
        (Prechelt, 1998). The set is `eval_set` of `fit`, or else `validation_fraction` of the training data. False: the
        training loss decides, and the last weights stay.
    validation_fraction : float in (0, 1), default 0.1
        Part of the training data held out for early stopping when `fit` gets no `eval_set`.
    n_iter_no_change : int or None, default 10
        Training stops when the deciding loss has not improved by `tol` for this many epochs. None: never before
        `max_iter`.
    clip_norm : float or None, default 5.0
        Gradients with a larger global L2 norm are scaled down to it (Pascanu, Mikolov & Bengio, 2013). None: off.
    clip_value : float or None, default None
        Every element of the gradient is limited to ± this. None: off.
    max_norm : float or None, default None
        Upper bound for the norm of each row of every weight matrix (Srivastava et al., 2014). None: off.
    gradient_noise : float, default 0.0
        η of Gaussian noise on the clipped gradient, of variance η / (1 + step)^0.55 (Neelakantan et al., 2015).
    bptt_steps : int or None, default None
        Truncated backpropagation through time (Williams & Peng, 1990): states are carried through whole sequences,
        gradients flow back over windows of this many steps. None: whole sequences.
    checkpoint_steps : int or None, default None
        For very long sequences: training records windows of this many steps one at a time, which bounds memory for one
        more forward pass (Chen et al., 2016). The gradient is the same. Not with `bidirectional`, nor with the poolings
        "attention" and "hopfield". None: whole sequences are recorded.
    standardize : bool, default True
        Whether each feature is shifted and scaled to mean 0 and standard deviation 1 over all steps of the training
        sequences; and each target likewise, training and losses being on standardised targets and predictions in the
        units of y. Constant ones are only shifted. The statistics are part of the model.
    class_weight : dict, "balanced" or None, default None
        For classifiers: must be None here. (Both estimators take the same parameters where they can.)
    warm_start : bool, default False
        Whether `fit` goes on from the present weights, preprocessing and curves instead of starting anew.
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
    model_ : lstmcore.model.Model
        The network: `model_.parameters` holds copies of its weights by name.
    n_features_in_ : int
        Features of a step (I). For a 2-D X, the number of columns, which are its steps.
    feature_names_in_ : ndarray of str
        Names of the columns; only where X was a frame with names of columns.
    n_iter_ : int
        Epochs trained.
    loss_ : float
        Loss of the last epoch (on standardised targets), mean over its mini-batches, penalty included.
    loss_curve_ : list of float
        The same for each epoch.
    validation_loss_curve_, validation_scores_ : list of float, or None
        Loss and R² on the validation set after each epoch; None where there is none.
    best_loss_ : float
        Lowest loss of the last call of `fit`: validation loss with early stopping, else training loss.
    best_validation_score_ : float or None
        With early stopping the score of the restored weights, else the highest; None without validation set.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmcore import SequenceRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(5, 20), 3)) for _ in range(60)]
    >>> y = np.array([x[:, 0].mean() for x in X])
    >>> regressor = SequenceRegressor(hidden_size=16, pooling="mean", random_state=0).fit(X, y)
    >>> regressor.predict(X[:3]).shape
    (3,)
    """

    loss: str
    huber_delta: float
    class_weight: dict[Any, float] | str | None

    def __init__(
        self,
        cell: str = "lstm",
        *,
        cell_options: dict[str, Any] | None = None,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        pooling_options: dict[str, float] | None = None,
        head_sizes: Sequence[int] = (),
        head_activation: str = "selu",
        head_dropout: float = 0.0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        zoneout_hidden: float = 0.0,
        zoneout_cell: float = 0.0,
        learn_initial_state: bool = False,
        loss: str = "squared_error",
        huber_delta: float = 1.0,
        solver: str = "adam",
        learning_rate_init: float = 5e-3,
        learning_rate: str = "constant",
        schedule_factor: float = 0.5,
        schedule_every: int = 10,
        momentum: float = 0.9,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        rho: float = 0.99,
        epsilon: float = 1e-8,
        alpha: float = 0.0,
        batch_size: int = 32,
        max_iter: int = 100,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 10,
        clip_norm: float | None = 5.0,
        clip_value: float | None = None,
        max_norm: float | None = None,
        gradient_noise: float = 0.0,
        bptt_steps: int | None = None,
        checkpoint_steps: int | None = None,
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

    def partial_fit(self: Self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """One pass over X in mini-batches, going on from the present weights and state of the optimiser.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. The first call's X and y decide on the standardisation.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            With ``early_stopping=True``, or a number of targets other than in the first call.
        """
        return self._partial_fit(X, y, None, sample_weight)

    def predict(self, X: Any) -> Array:
        """Numbers for each sequence: (N,) where y was 1-D, else (N, K); float64, in the units of y. X as for `fit`."""
        outputs = self._outputs(X)
        return self.model_.as_targets(outputs)

    # --- what SequenceEstimator asks for -----------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.class_weight is not None:
            raise ValueError(
                f"class_weight={self.class_weight!r}: SequenceRegressor has no classes. Use sample_weight of fit."
            )

    def _head(self) -> tuple[str, int, str]:
        return "identity", self._n_targets, _LOSSES[self.loss]

    def _trainer_options(self) -> dict[str, Any]:
        return {**super()._trainer_options(), "huber_delta": float(self.huber_delta)}

    def _wrap(self, core: _core.Model) -> Model:
        return Model(core, single_target=self._single)

    def _restore_fitted(self, model: Model, fitted: dict[str, Any]) -> None:
        if model.config["activation"] != "identity":
            raise ValueError("SequenceRegressor with a head for classes")
        self._single = model.single_target
        self._n_targets = int(model.config["outputs"])
        super()._restore_fitted(model, fitted)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
