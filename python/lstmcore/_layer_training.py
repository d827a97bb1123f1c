"""Training of networks that are put together in Python: the trainer, and the base of their estimators.

How a new estimator is made
---------------------------
1. A module that needs NumPy only, with the container of its inputs (`_layer_network.Samples`: ``lengths``,
   ``features``, ``subset``) and its network (`_layer_network.Network`, whose docstrings say what each member does):
   layers with forward and backward from C++, a head from `_dense_head`, ``parameters`` as one dict of the live arrays
   of both. `read` turns what users pass as X into the container. Name the class in `_layer_network.NETWORKS`, so that
   `load_model` finds it.
2. A class over `LayerClassifier` or `LayerRegressor` (or `LayerEstimator`, where y is neither one label nor one row of
   numbers a sample; then also `_read_targets` or `_read`, `_score_outputs`, `_make_model`, predict) with
   - ``_network``: the network's class,
   - ``_architecture``: names of the constructor parameters that a network cannot change after it was made,
   - ``_rules``: rules for parameters that `_parameters.RULES` does not have,
   - ``__init__`` with every parameter, those listed in `EpochEstimator` among them, and `_parameters.store` as its
     body; the options of optimisers and schedules that it leaves out (momentum, beta_1, …) have the values that
     SequenceClassifier gives them,
   - ``_make_network(samples, targets, weights, seed)``: a network with fresh weights for this data,
   - ``_configure(network)``: hands on what may change between two calls of fit (label smoothing, dropout),
   - ``_cost()``, where a unit of ``lengths`` takes more multiply-adds than there are weights (pixels).
   Name the class in `persistence.LAYER_ESTIMATORS` and in ``__init__._LAZY``.

Everything else is shared: fit, partial_fit, warm_start, eval_set, early stopping, callbacks, Ctrl-C, curves, files,
pickling. tests/toy_network.py and tests/toy_estimator.py are a whole example.
"""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from . import _core
from ._estimator import EpochEstimator
from ._layer_network import LayerModel, Network, Samples
from ._parameters import check_devices, check_parameters, thread_count
from ._targets import LabelTargets, NumberTargets
from .persistence import from_json, to_json

__all__ = ["LayerClassifier", "LayerEstimator", "LayerRegressor", "LayerTrainer", "plan_batches"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="LayerEstimator")
ClassifierSelf = TypeVar("ClassifierSelf", bound="LayerClassifier")
RegressorSelf = TypeVar("RegressorSelf", bound="LayerRegressor")

# Batches a window, as in train/batches.hpp, which says why.
_WINDOW = 4


def plan_batches(
    lengths: NDArray[np.int64], weights: Array | None, batch_size: int, shuffle: bool, seed: tuple[int, int]
) -> list[NDArray[np.int64]]:
    """Members of each mini-batch of an epoch, like train/batches.hpp: in windows of 4 batches, by similar length.

    lengths: (N,); weights: (N,) or None, samples of weight 0 are left out; shuffle False: in the order of the data, the
    remainder last. seed: of this epoch.
    """
    order = np.arange(len(lengths)) if weights is None else np.flatnonzero(weights)
    size = min(batch_size, len(order))
    if not shuffle:
        return [order[start : start + size] for start in range(0, len(order), size)]
    random = np.random.RandomState(seed)
    random.shuffle(order)
    stride = len(order) if len(order) // _WINDOW < size else _WINDOW * size
    batches = []
    for start in range(0, len(order), stride):
        window = order[start : start + stride]
        window = window[np.argsort(lengths[window], kind="stable")]
        # The one short batch stands anywhere in its window, or the longest samples would always be in it.
        count = -(-len(window) // size)
        short = random.randint(count)
        cuts = np.arange(1, count) * size
        if len(window) % size:
            cuts[short:] -= size - len(window) % size
        batches += np.split(window, cuts)
    return [batches[k] for k in random.permutation(len(batches))]


class LayerTrainer:
    """Optimiser, schedule and mini-batches for one network: what run_epochs asks of a `_core.Trainer`.

    Parameters
    ----------
    network : Network
        Trained in place.
    options : dict
        Those of `_core.Optimiser`, batch_size and shuffle.
    seed : int
        Of the order of samples, dropout and gradient noise.
    """

    def __init__(self, network: Network, options: Mapping[str, Any], seed: int) -> None:
        options = dict(options)
        self._batch_size = int(options.pop("batch_size"))
        self._shuffle = bool(options.pop("shuffle"))
        self._network = network
        self._seed = seed
        self._optimiser = _core.Optimiser({**options, "seed": seed}, network.parameters)
        self._passes = 0
        self._epochs = 0

    def run_epoch(self, x: Samples, y: Any, weights: Array | None = None) -> dict[str, Any]:
        """One pass over the data in mini-batches: dict(loss, learning_rate, sequences, interrupted).

        y: N entries, indexed as an array; weights: (N,) ≥ 0, None for ones. loss: weighted mean, penalty included.
        Ctrl-C ends the pass: interrupted is True and the weights are those after the last whole mini-batch.
        RuntimeError where loss or gradient is NaN or infinite, with the weights from before that mini-batch.
        """
        # Numbered by passes begun, so that an epoch after an interrupted one draws a new order.
        self._passes += 1
        batches = plan_batches(x.lengths, weights, self._batch_size, self._shuffle, (self._seed, self._passes))
        rate = self._optimiser.learning_rate
        total = weight = 0.0
        samples = 0
        interrupted = False
        try:
            for batch in batches:
                chosen = None if weights is None else weights[batch]
                with np.errstate(all="ignore"):  # divergence is seen in the loss and the gradient
                    loss, share, gradients = self._network.loss_and_gradients(
                        x.subset(batch), y[batch], chosen, self._next_seed()
                    )
                if not np.isfinite(loss):
                    raise RuntimeError(
                        f"the loss became NaN or infinite in epoch {self._epochs + 1}; the weights are those before "
                        f"this mini-batch; lower learning_rate ({rate:g} now) or clip_norm"
                    )
                penalty = self._optimiser.penalty()
                self._optimiser.step(gradients)
                total += loss + share * penalty
                weight += share
                samples += len(batch)
        except KeyboardInterrupt:
            interrupted = True
        if not interrupted:
            self._optimiser.epoch_finished()
            self._epochs += 1
        mean = total / weight if weight > 0 else 0.0
        return {"loss": mean, "learning_rate": rate, "sequences": samples, "interrupted": interrupted}

    def evaluate(self, x: Samples, y: Any, weights: Array | None = None) -> float:
        """Mean loss without dropout and penalty."""
        total, weight = self.evaluate_sums(x, y, weights)
        return total / weight if weight > 0 else 0.0

    def evaluate_sums(self, x: Samples, y: Any, weights: Array | None = None) -> tuple[float, float]:
        """Σ w l and Σ w, as the network weighs: without dropout and penalty."""
        order = np.argsort(x.lengths, kind="stable")
        total = weight = 0.0
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            chosen = None if weights is None else weights[batch]
            with np.errstate(all="ignore"):
                loss, share, _ = self._network.loss_and_gradients(x.subset(batch), y[batch], chosen, 0, training=False)
            total += loss
            weight += share
        return total, weight

    def report(self, monitored: float) -> None:
        """The quantity that the plateau schedule watches (lower is better), once an epoch."""
        self._optimiser.report(monitored)

    def _next_seed(self) -> int:
        """Of this step's dropout masks."""
        return int(np.random.SeedSequence((self._seed, self._optimiser.steps)).generate_state(1, np.uint64)[0])


class LayerEstimator(EpochEstimator):
    """Base of the estimators whose network is put together in Python; not for use on its own. See the module."""

    _network: ClassVar[Any]
    _architecture: ClassVar[tuple[str, ...]]

    model_: LayerModel
    # Values of the parameters that _architecture names, as the network was made with.
    _built: dict[str, Any]

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def _make_network(self, samples: Any, targets: Array, weights: Array | None, seed: int) -> Network:
        """A network with fresh weights; constants from the samples whose weight is positive (None: all alike)."""
        raise NotImplementedError

    def _make_model(self, network: Network) -> LayerModel:
        """The network with what gives its outputs meaning."""
        raise NotImplementedError

    def _configure(self, network: Network) -> None:
        """Hands on parameters that may change from one call of fit to the next."""

    # --- fitting -----------------------------------------------------------------------------------------------------

    def fit(
        self: Self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Any = None,
    ) -> Self:
        """Trains on N samples.

        Parameters
        ----------
        X : N samples
            As the class says.
        y : N targets
            As the class says.
        sample_weight : array-like (N,), default None
            Weight of each sample in the loss and in the standardisation, ≥ 0. None: all 1.
        eval_set : (X, y) or (X, y, sample_weight), default None
            Loss and score on it are computed after every epoch. With ``early_stopping=True`` it is the set that
            decides, and no part of X is held out.
        callbacks : callable or iterable of callables, default None
            Each is called as ``callback(info)`` after every epoch, info being an `lstmcore.EpochInfo`. Training stops
            after an epoch for which one returns True.

        Returns
        -------
        self
            Also after Ctrl-C, which ends training with a warning and keeps what was learnt until then.

        Raises
        ------
        ValueError
            Data or parameters that cannot be used, or training that diverged; the message names the argument.
        NotImplementedError
            A parameter value that is planned but not available; the message says what to use instead.
        """
        self._check_parameters()
        return self._train(X, y, sample_weight, eval_set, callbacks, self.warm_start and hasattr(self, "model_"))

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        check_devices(parameters)

    def _read_X(self, X: Any, reset: bool, name: str = "X") -> Any:
        precision = self.precision if reset else self.model_.dtype
        samples = self._network.read(X, name, precision)
        if reset:
            self.n_features_in_ = int(samples.features)
            return samples
        if samples.features != self.n_features_in_:
            raise ValueError(
                f"{name} has {samples.features} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        self.model_.network.check(samples, name)
        return samples

    def _for_core(self, samples: Any) -> Any:
        return samples

    def _start(self, samples: Any, targets: Array, weights: Array | None, seed: int) -> None:
        network = self._make_network(samples, targets, weights, seed)
        self._built = {name: getattr(self, name) for name in self._architecture}
        self.model_ = self._make_model(network)

    def _check_resumed(self) -> None:
        for name, value in self._built.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}, but the model to go on with has {value!r}. Set it back, or fit "
                    "anew with warm_start=False."
                )

    def _trainer_options(self) -> dict[str, Any]:
        return {**self._optimiser_options(), "batch_size": int(self.batch_size), "shuffle": bool(self.shuffle)}

    def _make_trainer(self, seed: int, reuse: bool) -> Any:
        self._configure(self.model_.network)
        self._use_threads()
        return super()._make_trainer(seed, reuse)

    def _new_trainer(self, options: dict[str, Any], seed: int) -> LayerTrainer:
        return LayerTrainer(self.model_.network, options, seed)

    def _use_threads(self) -> None:
        self.model_.network.n_threads = thread_count(self.n_jobs)
        self.model_.core.batch_size = int(self.batch_size)

    # --- files -------------------------------------------------------------------------------------------------------

    def _fitted_document(self) -> dict[str, Any]:
        return {
            "n_features_in_": int(self.n_features_in_),
            "architecture": {name: to_json(name, value) for name, value in self._built.items()},
        }

    def _restore_fitted(self, model: LayerModel, fitted: dict[str, Any]) -> None:
        if type(model.network) is not self._network:
            raise ValueError(f"{type(self).__name__} with a {type(model.network).__name__}")
        features = int(model.network.test_input().features)
        if fitted.get("n_features_in_") != features:
            raise ValueError(f"n_features_in_ is {fitted.get('n_features_in_')!r}, the network has {features} inputs")
        self._restore_architecture(fitted)
        self.n_features_in_ = features

    def _restore_architecture(self, fitted: dict[str, Any]) -> None:
        architecture = fitted.get("architecture")
        if not isinstance(architecture, dict) or set(architecture) != set(self._architecture):
            raise ValueError(f"architecture is not an object with {', '.join(self._architecture)}")
        built = {name: from_json(name, value) for name, value in architecture.items()}
        check_parameters(type(self).__name__, built, self._rules)
        self._built = built

    # --- using -------------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """What the network predicts, N along the first axis, in the model's dtype."""
        check_is_fitted(self, "model_")
        samples = self._read_X(X, reset=False)
        self._use_threads()
        return self.model_.core.predict(samples)


class LayerClassifier(ClassifierMixin, LabelTargets, LayerEstimator):
    """One label a sample, from outputs (N, K) that are probabilities."""

    def _make_model(self, network: Network) -> LayerModel:
        return LayerModel(network, classes=self.classes_)

    def partial_fit(
        self: ClassifierSelf,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> ClassifierSelf:
        """One pass over X in mini-batches, going on from the present weights and state of the optimiser.

        classes: all labels that any call will bring; needed in the first call. The rest as for `fit`. ValueError with
        ``early_stopping=True`` or ``class_weight="balanced"``.
        """
        self._check_partial(classes)
        return self._partial_fit(X, y, classes, sample_weight)

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class: (N, K), in the order of `classes_`. X as for `fit`."""
        return self._outputs(X)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of `predict_proba`; a probability that rounded to 0 gives minus infinity. X as for `fit`."""
        with np.errstate(divide="ignore"):
            result: Array = np.log(self._outputs(X))
        return result

    def predict(self, X: Any) -> Array:
        """Most probable label of each sample: (N,). X as for `fit`."""
        outputs = self._outputs(X)
        return self.model_.as_predictions(outputs)


class LayerRegressor(RegressorMixin, NumberTargets, LayerEstimator):
    """One or several numbers a sample, from outputs (N, K) in the units of y."""

    def _make_model(self, network: Network) -> LayerModel:
        return LayerModel(network, single_target=self._single)

    def _restore_fitted(self, model: LayerModel, fitted: dict[str, Any]) -> None:
        super()._restore_fitted(model, fitted)
        self._single = model.single_target
        self._n_targets = int(model.network.outputs(model.network.test_input()).shape[-1])

    def partial_fit(self: RegressorSelf, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> RegressorSelf:
        """One pass over X in mini-batches, going on from the present weights and state of the optimiser.

        Arguments as for `fit`; the first call's X and y decide on the standardisation. ValueError with
        ``early_stopping=True``.
        """
        return self._partial_fit(X, y, None, sample_weight)

    def predict(self, X: Any) -> Array:
        """Numbers for each sample: (N,) where y was 1-D, else (N, K); float64, in the units of y. X as for `fit`."""
        outputs = self._outputs(X)
        return self.model_.as_predictions(outputs)
