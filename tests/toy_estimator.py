"""Estimators over LayerEstimator for the network of toy_network.py."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lstmcore._layer_training import LayerClassifier, LayerRegressor
from lstmcore._parameters import Rule
from toy_network import Bags, ToyNetwork

Array = np.ndarray


class _Toy:
    _network = ToyNetwork
    _architecture = ("hidden_size", "precision")
    _rules: ClassVar[dict[str, Rule]] = {"noise": Rule("a float in [0, 1)", lambda value: 0 <= value < 1)}

    def _sizes(self) -> tuple[int, bool]:
        raise NotImplementedError

    def _make_network(self, samples: Bags, targets: Array, weights: Array | None, seed: int) -> ToyNetwork:
        outputs, classifies = self._sizes()
        config = {"inputs": samples.features, "hidden": self.hidden_size, "outputs": outputs}
        network = ToyNetwork(config | {"classifies": classifies, "dtype": self.precision}, seed)
        means = samples.means().astype(np.float64)
        if self.standardize:
            network.constants["mean"][:] = np.average(means, axis=0, weights=weights)
            network.constants["scale"][:] = 1 / np.sqrt(
                np.average((means - means.mean(0)) ** 2, axis=0, weights=weights)
            )
            if not classifies:
                mean, deviation = self._target_scaling(targets, weights)
                network.constants["y_mean"][:], network.constants["y_scale"][:] = mean, 1 / deviation
        return network

    def _configure(self, network: ToyNetwork) -> None:
        network.dropout = self.noise


class ToyClassifier(_Toy, LayerClassifier):
    def __init__(
        self,
        *,
        hidden_size: Any = 8,
        noise: Any = 0.0,
        solver: Any = "adam",
        learning_rate_init: Any = 0.02,
        learning_rate: Any = "constant",
        alpha: Any = 0.0,
        batch_size: Any = 16,
        max_iter: Any = 12,
        tol: Any = 0.0001,
        early_stopping: Any = False,
        validation_fraction: Any = 0.2,
        n_iter_no_change: Any = 10,
        clip_norm: Any = 5.0,
        standardize: Any = True,
        warm_start: Any = False,
        shuffle: Any = True,
        random_state: Any = 0,
        verbose: Any = 0,
        n_jobs: Any = 1,
        device: Any = "cpu",
        precision: Any = "float64",
        class_weight: Any = None,
        label_smoothing: Any = 0.0,
    ) -> None:
        self.hidden_size = hidden_size
        self.noise = noise
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.clip_norm = clip_norm
        self.standardize = standardize
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.random_state = random_state
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.device = device
        self.precision = precision
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing

    def _sizes(self) -> tuple[int, bool]:
        return len(self.classes_), True

    def _configure(self, network: ToyNetwork) -> None:
        super()._configure(network)
        network.label_smoothing = self.label_smoothing


class ToyRegressor(_Toy, LayerRegressor):
    def __init__(
        self,
        *,
        hidden_size: Any = 8,
        noise: Any = 0.0,
        solver: Any = "adam",
        learning_rate_init: Any = 0.02,
        learning_rate: Any = "constant",
        alpha: Any = 0.0,
        batch_size: Any = 16,
        max_iter: Any = 12,
        tol: Any = 0.0001,
        early_stopping: Any = False,
        validation_fraction: Any = 0.2,
        n_iter_no_change: Any = 10,
        clip_norm: Any = 5.0,
        standardize: Any = True,
        warm_start: Any = False,
        shuffle: Any = True,
        random_state: Any = 0,
        verbose: Any = 0,
        n_jobs: Any = 1,
        device: Any = "cpu",
        precision: Any = "float64",
    ) -> None:
        self.hidden_size = hidden_size
        self.noise = noise
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.clip_norm = clip_norm
        self.standardize = standardize
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.random_state = random_state
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.device = device
        self.precision = precision

    def _sizes(self) -> tuple[int, bool]:
        return self._n_targets, False
