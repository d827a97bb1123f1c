"""Networks that are put together in Python from layers with forward and backward; needs NumPy only.

`Network` says what such a network must have, `LayerModel` is one with what gives its outputs meaning: the counterpart
of `lstmcore.model.Model`, which fitted estimators have as ``model_`` and `lstmcore.load_model` returns.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["NETWORKS", "LayerModel", "Network", "NetworkCore", "Samples", "network_class"]

Array = NDArray[Any]

# Name of the class → module of this package that has it: what a model file may name.
NETWORKS: dict[str, str] = {
    "EncoderNetwork": ".unsupervised.encoder_network",
    "ForecastNetwork": ".unsupervised.forecast_network",
    "FrameNetwork": "._frame_network",
    "LanguageNetwork": ".language.network",
    "TaggerNetwork": "._tagger_network",
    "TranscriberNetwork": "._transcriber_network",
    "TranslatorNetwork": ".translation.network",
    "TreeNetwork": "._tree_network",
}


def network_class(name: str) -> Any:
    """The class that a model file names; ValueError for one that is not ours."""
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(NETWORKS) or 'none'}")
    return getattr(importlib.import_module(NETWORKS[name], __package__), name)


class Samples(Protocol):
    """N inputs of a network, checked and in its dtype: sequences of frames, trees, …"""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,): a measure of each one's work, such as steps or nodes; mini-batches put similar ones together."""

    @property
    def features(self) -> int:
        """What becomes n_features_in_: numbers a step, a node, a pixel."""

    def subset(self, indices: NDArray[np.int64]) -> Samples:
        """The named samples, in this order."""


class Network(Protocol):
    """Layers and head, their weights, and how they are differentiated.

    Losses are weighted means over samples: Σ w l / Σ w. A batch is what `Samples.subset` makes.
    """

    #: Upper bound for threads; None: the library decides. Set before each use; results must not depend on it.
    n_threads: int | None

    @property
    def parameters(self) -> dict[str, Array]:
        """The live weights by name, C-contiguous, all of one dtype (float32 or float64): written to from outside.

        Matrices and kernels have the axis that counts units first; names starting with "P_" are peepholes. The penalty
        alpha and the bound max_norm apply to arrays of two or more axes but not to peepholes.
        """

    @property
    def constants(self) -> dict[str, Array]:
        """What is learnt from data once and not trained, float64: means and scales; live too. May be empty.

        No name is among those of `parameters` too.
        """

    @property
    def config(self) -> dict[str, Any]:
        """The architecture as JSON can hold it: what `shapes` and `from_config` need."""

    def loss_and_gradients(
        self, x: Any, y: Any, weights: NDArray[np.float64] | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        """(Σ w l, Σ w, gradient of Σ w l / Σ w by name) of one batch, without penalty.

        weights: (N,), None for ones. seed: decides dropout masks. training False: neither dropout nor label smoothing,
        and the gradients may be left out ({}).
        """

    def outputs(self, x: Any) -> Array:
        """What the network predicts for N samples, N along the first axis: probabilities, or numbers in units of y.

        Outputs of different sizes come as an object array (N,) of arrays.
        """

    def check(self, x: Any, name: str) -> None:
        """ValueError naming the argument where samples of this kind do not fit this network."""

    def test_input(self) -> Any:
        """A small batch that is always the same, for the test vector of the model file: random, from a fixed seed.

        Use numpy.random.RandomState, whose stream never changes.
        """

    @classmethod
    def read(cls, X: Any, name: str, dtype: str) -> Any:
        """X as users hold it → Samples; ValueError or TypeError naming the argument, the sample and what is wrong."""

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]], str]:
        """Shapes of `parameters` and of `constants`, and the dtype, that a config leads to.

        The config may come from a hostile file: ValueError for whatever is missing, superfluous or out of range, and no
        memory in proportion to numbers in it.
        """

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A network of this architecture with any weights, for a config that `shapes` has accepted."""


class NetworkCore:
    """A network's weights as one vector, and its outputs: what run_epochs asks of a `_core.Model`.

    batch_size: samples that are predicted at once, which bounds memory.
    """

    def __init__(self, network: Network, batch_size: int = 32) -> None:
        self.network = network
        self.batch_size = batch_size

    def get_weights(self) -> Array:
        """Copy of all weights, (P,)."""
        return np.concatenate([value.ravel() for value in self.network.parameters.values()])

    def set_weights(self, weights: Array) -> None:
        """Replaces all weights, in the order of get_weights()."""
        parameters = self.network.parameters
        count = sum(value.size for value in parameters.values())
        if weights.shape != (count,):
            raise ValueError(f"weights: expected shape ({count},), got {weights.shape}")
        at = 0
        for value in parameters.values():
            value[...] = weights[at : at + value.size].reshape(value.shape)
            at += value.size

    def parts(self, x: Any, least: int = 1) -> list[Any]:
        """Samples in batches of batch_size, or of `least` where that is more."""
        count, size = len(x.lengths), max(self.batch_size, least)
        if count <= size:
            return [x]
        return [x.subset(np.arange(start, min(start + size, count))) for start in range(0, count, size)]

    def predict(self, x: Any) -> Array:
        """Outputs for samples."""
        with np.errstate(all="ignore"):  # weights that have grown too large show in the outputs
            outputs = [self.network.outputs(part) for part in self.parts(x)]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


class LayerModel:
    """A trained network with what gives its outputs meaning; needs NumPy only.

    Parameters
    ----------
    network : Network
    classes : ndarray of shape (K,) or None
        Labels of the outputs, in their order; None for numbers.
    single_target : bool
        Numbers for a 1-D y: `predict` returns (N,) instead of (N, 1).

    Attributes
    ----------
    network, classes, single_target
        As given.
    core : NetworkCore
        The weights as a vector.
    """

    def __init__(self, network: Network, classes: Array | None = None, single_target: bool = False) -> None:
        self.network = network
        self.core = NetworkCore(network)
        self.classes = classes
        self.single_target = single_target
        self.metadata: dict[str, str] = {}

    @property
    def config(self) -> dict[str, Any]:
        """Architecture of the network."""
        return self.network.config

    @property
    def parameters(self) -> dict[str, Array]:
        """Copies of the weights by name."""
        return {name: value.copy() for name, value in self.network.parameters.items()}

    @property
    def dtype(self) -> str:
        """Type of weights and outputs, "float32" or "float64"."""
        return str(next(iter(self.network.parameters.values())).dtype)

    def __repr__(self) -> str:
        return f"LayerModel({type(self.network).__name__}, {len(self.core.get_weights())} weights, {self.dtype})"

    def outputs(self, X: Any, n_jobs: int | None = None) -> Array:
        """Probabilities (N, K), or numbers in the units of y. X: as for the estimator's predict.

        n_jobs: threads; None: the library decides, -1: all cores.
        """
        from ._parameters import thread_count

        x = self.network.read(X, "X", self.dtype)
        self.network.check(x, "X")
        self.network.n_threads = thread_count(n_jobs)
        return self.core.predict(x)

    def predict(self, X: Any, n_jobs: int | None = None) -> Array:
        """What the estimator's predict gives: labels, or numbers as float64. X as for `outputs`."""
        return self.as_predictions(self.outputs(X, n_jobs))

    def predict_proba(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N, K) probabilities in the order of `classes`. AttributeError for a network that predicts numbers."""
        if self.classes is None:
            raise AttributeError("predict_proba: this model predicts numbers, not classes. Use predict.")
        return self.outputs(X, n_jobs)

    def as_predictions(self, outputs: Array) -> Array:
        """Outputs → labels, or float64 in the shape that y had."""
        if outputs.dtype == object:
            items = np.empty(len(outputs), dtype=object)
            for n, item in enumerate(outputs):
                items[n] = self.as_predictions(item)
            return items
        if self.classes is not None:
            labels: Array = self.classes[np.argmax(outputs, axis=-1)]
            return labels
        values = outputs.astype(np.float64)
        return values[..., 0] if self.single_target else values

    def __getstate__(self) -> dict[str, Any]:
        network = self.network
        return {
            "kind": type(network),
            "config": network.config,
            "parameters": self.parameters,
            "constants": {name: np.array(value) for name, value in network.constants.items()},
            "classes": self.classes,
            "single_target": self.single_target,
            "metadata": self.metadata,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        network = restore(state["kind"], state["config"], state["parameters"], state["constants"])
        LayerModel.__init__(self, network, state["classes"], state["single_target"])
        self.metadata = state["metadata"]


def restore(
    kind: Any, config: dict[str, Any], parameters: Mapping[str, ArrayLike], constants: Mapping[str, ArrayLike]
) -> Any:
    """A network of this class with these weights; ValueError where they do not fit its architecture."""
    shapes, constant_shapes, dtype = kind.shapes(config)
    for given, expected, type_, what in (
        (parameters, shapes, dtype, "parameter"),
        (constants, constant_shapes, "float64", "constant"),
    ):
        for name in given.keys() ^ expected.keys():
            raise ValueError(f"{what} {name!r} {'is missing' if name in expected else 'is unknown'}")
        for name, value in given.items():
            array = np.asarray(value)
            if array.shape != tuple(expected[name]) or array.dtype != type_:
                raise ValueError(
                    f"{what} {name!r}: expected {type_} of shape {tuple(expected[name])}, "
                    f"got {array.dtype} of shape {array.shape}"
                )
    network = kind.from_config(config)
    for target, source in ((network.parameters, parameters), (network.constants, constants)):
        for name, value in source.items():
            target[name][...] = value
    return network
