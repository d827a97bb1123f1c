"""The estimator for numbers of trees, or of their nodes (Tai, Socher & Manning, 2015)."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._forest import Trees
from ._layer_network import LayerModel
from ._layer_training import LayerRegressor
from ._parameters import store
from ._tree_estimator import TreeEstimator, node_items, node_objects, standardise
from ._tree_network import NodeTargets, TreeNetwork
from ._validation import read_weights

__all__ = ["TreeRegressor"]

Array = NDArray[Any]

_LOSSES = {"squared_error": "squared", "absolute_error": "absolute", "huber": "huber"}


class TreeRegressor(TreeEstimator, LayerRegressor):
    """Predicts one or several numbers for trees, or for the nodes of trees.

    A tree is a pair (features, parents): features (M, I), and for each node the index of its parent, −1 for the root,
    which is exactly one. Nodes may stand in any order. For ``kind="nary"`` a third part is allowed, positions (M,): 0 …
    A−1 among the children of the node's parent, −1 for the root; by default siblings stand in the order of their
    indices, without gaps. X is a list of trees. y is one number (or row of numbers) a tree, or with ``targets="nodes"``
    a list of one array a tree, (M,) or (M, K) numbers, None or NaN for nodes without one.

    Parameters
    ----------
    kind : {"child_sum", "nary"}, default "child_sum"
        Tree-LSTM of Tai, Socher & Manning (2015): "child_sum" adds up the h of any number of children, whose order does
        not matter; "nary" has weights of its own for each child's position.
    arity : int or None, default None
        For "nary": the most children that a node may have (A). None: as many as the training trees need.
    targets : {"trees", "nodes"}, default "trees"
        Whether y has one entry a tree, which the root predicts, or one a node.
    hidden_size : int, default 64
        Units of each layer (H).
    num_layers : int, default 1
        Tree-LSTM layers, each reading the outputs of the one below at the same node.
    dropout : float in [0, 1), default 0.0
        Probability with which outputs of a layer are zeroed in training where the next layer or the head reads them
        (Zaremba, Sutskever & Vinyals, 2014).
    loss : {"squared_error", "absolute_error", "huber"}, default "squared_error"
        Of the (standardised) targets.
    huber_delta : float, default 1.0
        Where the loss "huber" becomes linear (Huber, 1964).
    solver : {"sgd", "rmsprop", "adam", "adamw"}, default "adam"
        Stochastic gradient descent with momentum 0.9, RMSProp (Tieleman & Hinton, 2012), Adam (Kingma & Ba, 2015),
        AdamW (Loshchilov & Hutter, 2019).
    learning_rate_init : float, default 5e-3
        Step size of the solver in the first epoch.
    learning_rate : {"constant", "step", "cosine", "plateau"}, default "constant"
        How the step size changes: not at all; halved every 10 epochs; towards 0 over `max_iter` epochs along half a
        cosine (Loshchilov & Hutter, 2017); halved when the validation loss (training loss where there is no validation
        set) has not improved by `tol` for 10 epochs.
    alpha : float, default 0.0
        L2 penalty ½·alpha·‖w‖² on the weights, not the biases; for "adamw" the decoupled weight decay.
    batch_size : int, default 32
        Trees in a mini-batch. Trees of similar size are put together.
    max_iter : int, default 100
        Epochs at most. Reaching it is no cause for a warning.
    tol : float, default 1e-4
        By how much a loss must fall to count as improvement.
    early_stopping : bool, default False
        Whether the loss on a validation set decides when to stop, and the weights of its best epoch are restored
        (Prechelt, 1998). The set is `eval_set` of `fit`, or else `validation_fraction` of the training data. False: the
        training loss decides, and the last weights stay.
    validation_fraction : float in (0, 1), default 0.1
        Part of the training trees held out for early stopping when `fit` gets no `eval_set`.
    n_iter_no_change : int or None, default 10
        Training stops when the deciding loss has not improved by `tol` for this many epochs. None: never before
        `max_iter`.
    clip_norm : float or None, default 5.0
        Gradients with a larger global L2 norm are scaled down to it (Pascanu, Mikolov & Bengio, 2013). None: off.
    standardize : bool, default True
        Whether each feature is shifted and scaled to mean 0 and standard deviation 1 over all nodes of the training
        trees, and each target likewise, losses being on standardised targets. Constant ones are only shifted. The
        statistics are part of the model.
    warm_start : bool, default False
        Whether `fit` goes on from the present weights, preprocessing and curves instead of starting anew.
    shuffle : bool, default True
        Whether each epoch takes the trees in a new order.
    random_state : int, RandomState or None, default None
        Decides initial weights, held-out part, order of trees and dropout. With an int, fits on the same data give the
        same weights to the last bit, for any `n_jobs`.
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
    model_ : LayerModel
        The network: `model_.parameters` holds copies of its weights by name.
    n_features_in_ : int
        Features of a node (I).
    n_iter_ : int
        Epochs trained.
    loss_, loss_curve_ : float, list of float
        Loss of the last epoch, and of each: mean over its mini-batches, penalty included.
    validation_loss_curve_, validation_scores_ : list of float, or None
        Loss and R² on the validation set after each epoch; None where there is none.
    best_loss_ : float
        Lowest loss of the last call of `fit`: validation loss with early stopping, else training loss.
    best_validation_score_ : float or None
        With early stopping the score of the restored weights, else the highest; None without validation set.

    Notes
    -----
    With ``targets="nodes"`` predictions are arrays of N objects, one array a tree.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmcore import TreeRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [(rng.normal(size=(4, 2)), [-1, 0, 0, 1]) for _ in range(60)]
    >>> y = np.array([features[:, 0].sum() for features, _ in X])
    >>> TreeRegressor(hidden_size=16, max_iter=5, random_state=0).fit(X, y).predict(X[:3]).shape
    (3,)
    """

    loss: str
    huber_delta: float

    def __init__(
        self,
        kind: str = "child_sum",
        *,
        arity: int | None = None,
        targets: str = "trees",
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
        loss: str = "squared_error",
        huber_delta: float = 1.0,
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

    def _outputs_count(self) -> int:
        return self._n_targets

    def _configure(self, network: Any) -> None:
        super()._configure(network)
        network.loss = _LOSSES[self.loss]
        network.huber_delta = float(self.huber_delta)

    def _make_network(self, samples: Trees, targets: Array, weights: Array | None, seed: int) -> TreeNetwork:
        network = super()._make_network(samples, targets, weights, seed)
        if self.standardize:
            values = targets
            if self.targets == "nodes":
                values, weights = self._weights_of_nodes(targets, weights)
            standardise(network, values, weights, "y_")
        return network

    # --- targets of nodes --------------------------------------------------------------------------------------------

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        if self.targets == "trees":
            return super()._read_targets(y, reset, name, classes)
        arrays: list[Array] = []
        for n, values in enumerate(node_items(y, name)):
            try:
                array = np.array(values, dtype=np.float64)  # None becomes NaN
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}[{n}] is not numeric: {error}") from error
            if array.ndim not in (1, 2) or array.ndim != (arrays[0].ndim if arrays else array.ndim):
                raise ValueError(f"{name}[{n}]: expected (M,) or (M, K), the same for all trees; got {array.shape}")
            arrays.append(array)
        flat = np.concatenate([a.reshape(len(a), -1) for a in arrays]) if arrays else np.empty((0, 1))
        known = ~np.isnan(flat).all(axis=1)
        if not known.any():
            raise ValueError(f"{name}: no node has a target.")
        # The base class decides on and checks K; NaN beside numbers of one node, and infinity, are its errors.
        super()._read_targets(flat[known][:, 0] if arrays[0].ndim == 1 else flat[known], reset, name)
        return node_objects([NodeTargets(a.reshape(len(a), -1), np.ones(len(a))) for a in arrays])

    def _check_training_weights(self, y: Array, weights: Array) -> None:
        if self.targets == "nodes":
            self._check_targets(y, weights)

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        if self.targets == "nodes":
            outputs = np.concatenate([o[t.known] for o, t in zip(outputs, y, strict=True)])
            y, sample_weight = self._weights_of_nodes(y, sample_weight)
        return super()._score_outputs(outputs, y, sample_weight)

    # --- using -------------------------------------------------------------------------------------------------------

    def _restore_fitted(self, model: LayerModel, fitted: dict[str, Any]) -> None:
        super(LayerRegressor, self)._restore_fitted(model, fitted)
        self._single = model.single_target
        self._n_targets = int(model.network.config["outputs"])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R², mean over the targets, of trees or of nodes that y has a target for, each with its tree's weight.

        Arguments as for `fit`.
        """
        outputs = self._outputs(X)
        _, targets = self._read(X, y, reset=False)
        return self._score_outputs(outputs, targets, read_weights(sample_weight, len(targets), "sample_weight"))
