"""The estimator for labels of trees, or of their nodes (Tai, Socher & Manning, 2015)."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from ._labels import class_weights
from ._layer_training import LayerClassifier
from ._parameters import store
from ._tree_estimator import TreeEstimator, node_items, node_objects
from ._tree_network import NodeTargets
from ._validation import read_weights

__all__ = ["TreeClassifier"]

Array = NDArray[Any]


class TreeClassifier(TreeEstimator, LayerClassifier):
    """Classifies trees, or the nodes of trees.

    A tree is a pair (features, parents): features (M, I), and for each node the index of its parent, −1 for the root,
    which is exactly one. Nodes may stand in any order. For ``kind="nary"`` a third part is allowed, positions (M,): 0 …
    A−1 among the children of the node's parent, −1 for the root; by default siblings stand in the order of their
    indices, without gaps. X is a list of trees. y is one label a tree, or with ``targets="nodes"`` a list
    of one array a tree, (M,) labels, None or NaN for nodes without one.

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
        Part of the training trees held out for early stopping when `fit` gets no `eval_set`, the same part of every
        class where targets are of trees.
    n_iter_no_change : int or None, default 10
        Training stops when the deciding loss has not improved by `tol` for this many epochs. None: never before
        `max_iter`.
    clip_norm : float or None, default 5.0
        Gradients with a larger global L2 norm are scaled down to it (Pascanu, Mikolov & Bengio, 2013). None: off.
    label_smoothing : float in [0, 1), default 0.0
        Share of the target that is spread over all classes in training (Szegedy et al., 2016).
    standardize : bool, default True
        Whether each feature is shifted and scaled to mean 0 and standard deviation 1 over all nodes of the training
        trees. Constant ones are only shifted. The statistics are part of the model.
    class_weight : dict, "balanced" or None, default None
        Factor on the loss of each class: by label, labels not named having 1; or "balanced", which gives every class
        the same total weight. None: all 1.
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
    classes_ : ndarray of shape (K,)
        Labels, sorted: the order of the columns of `predict_proba`.
    model_ : LayerModel
        The network: `model_.parameters` holds copies of its weights by name.
    n_features_in_ : int
        Features of a node (I).
    n_iter_ : int
        Epochs trained.
    loss_, loss_curve_ : float, list of float
        Loss of the last epoch, and of each: mean over its mini-batches, penalty included.
    validation_loss_curve_, validation_scores_ : list of float, or None
        Loss and accuracy on the validation set after each epoch; None where there is none.
    best_loss_ : float
        Lowest loss of the last call of `fit`: validation loss with early stopping, else training loss.
    best_validation_score_ : float or None
        With early stopping the score of the restored weights, else the highest; None without validation set.

    Notes
    -----
    With ``targets="nodes"`` predictions are arrays of N objects, one array a tree.

    Examples
    --------
    >>> from lstmcore import TreeClassifier, datasets
    >>> X, y = datasets.make_expression_trees(60, depth=2, random_state=0)
    >>> classifier = TreeClassifier(hidden_size=16, max_iter=5, random_state=0).fit(X, y)
    >>> classifier.predict(X[:3]).shape, classifier.predict_proba(X[:3]).shape
    ((3,), (3, 2))
    """

    label_smoothing: float

    def __init__(
        self,
        kind: str = "child_sum",
        *,
        arity: int | None = None,
        targets: str = "trees",
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
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
        label_smoothing: float = 0.0,
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

    def _outputs_count(self) -> int:
        return len(self.classes_)

    def _configure(self, network: Any) -> None:
        super()._configure(network)
        network.label_smoothing = float(self.label_smoothing)

    # --- targets of nodes --------------------------------------------------------------------------------------------

    def _read_targets(self, y: Any, reset: bool, name: str, classes: Any = None) -> Array:
        if self.targets == "trees":
            return super()._read_targets(y, reset, name, classes)
        arrays = [np.asarray(labels) for labels in node_items(y, name)]
        known = []
        for n, labels in enumerate(arrays):
            if labels.ndim != 1:
                raise ValueError(f"{name}[{n}]: expected one label a node, (M,), got shape {labels.shape}")
            known.append(_labelled(labels))
        given = [labels[mask] for labels, mask in zip(arrays, known, strict=True)]
        flat = np.array([label for labels in given for label in labels.tolist()])
        if not len(flat):
            raise ValueError(f"{name}: no node has a label.")
        check_classification_targets(flat)
        # The base class decides on and checks classes; codes of all labels come from it as well.
        codes = iter(np.split(super()._read_targets(flat, reset, name, classes), np.cumsum([len(g) for g in given])))
        items = []
        for mask in known:
            values = np.full(len(mask), -1, dtype=np.int64)
            values[mask] = next(codes)
            items.append(NodeTargets(values, np.ones(len(mask))))
        return node_objects(items)

    def _loss_weights(self, y: Array, sample_weight: Array | None) -> Array | None:
        if self.targets == "trees":
            return super()._loss_weights(y, sample_weight)
        codes, weights = self._weights_of_nodes(y, sample_weight)
        factors = class_weights(self.class_weight, self.classes_, codes, weights)
        if factors is not None:
            for tree in y:
                tree.weights[:] = factors[tree.values]  # of unlabelled nodes (−1) it is not read
        return sample_weight

    def _check_training_weights(self, y: Array, weights: Array) -> None:
        if self.targets == "trees":
            super()._check_training_weights(y, weights)
        else:
            self._check_targets(y, weights)

    def _strata(self, y: Array) -> Array | None:
        return y if self.targets == "trees" else None

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        if self.targets == "trees":
            return super()._score_outputs(outputs, y, sample_weight)
        codes, weights = self._weights_of_nodes(y, sample_weight)
        found = np.concatenate([np.argmax(o[t.known], axis=1) for o, t in zip(outputs, y, strict=True)])
        return float(np.average(found == codes, weights=weights)) if len(codes) else float("nan")

    # --- using -------------------------------------------------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of `predict_proba`; a probability that rounded to 0 gives minus infinity. X as for `fit`."""
        outputs = self._outputs(X)
        with np.errstate(divide="ignore"):
            if outputs.dtype != object:
                return np.log(outputs)
            for n in range(len(outputs)):
                outputs[n] = np.log(outputs[n])
        return outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of right labels, of trees or of labelled nodes, each with its tree's weight. Arguments as for `fit`."""
        outputs = self._outputs(X)
        _, targets = self._read(X, y, reset=False)
        return self._score_outputs(outputs, targets, read_weights(sample_weight, len(targets), "sample_weight"))


def _labelled(labels: Array) -> NDArray[np.bool_]:
    """False where a label is None or NaN."""
    if labels.dtype.kind == "f":
        return ~np.isnan(labels)
    if labels.dtype.kind == "O":
        return np.array([label is not None and label == label for label in labels], dtype=bool)
    return np.ones(len(labels), dtype=bool)
