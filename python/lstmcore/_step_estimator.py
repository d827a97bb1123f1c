"""What estimators with an output at every step share: parameters, reading X, the network's configuration, streams."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._layer_training import LayerEstimator
from ._parameters import BFLOAT16, RULES, Rule, check_available, choice, network_types, weight_dtype
from ._step_network import vocabulary_of
from ._steps import Steps
from ._validation import check_resolution

__all__ = ["RecurrentParameters", "StepEstimator", "as_written"]

Array = NDArray[Any]

_ARCHITECTURE = (
    "cell", "cell_options", "hidden_size", "num_layers", "bidirectional", "inputs", "embedding_size", "dropout",
    "variational_dropout", "recurrent_dropout", "precision",
)  # fmt: skip


class RecurrentParameters:
    """Constructor parameters of estimators over recurrent layers; the classes list and document them."""

    cell: str
    cell_options: dict[str, Any] | None
    hidden_size: int
    num_layers: int
    bidirectional: bool
    dropout: float
    recurrent_dropout: float
    variational_dropout: float
    precision: str

    def _network_config(self, inputs: int, outputs: int, vocabulary: Any = None) -> dict[str, Any]:
        """The entries that every StepNetwork's config has; inputs: of the layers."""
        return {
            "cell": self.cell,
            "cell_options": dict(self.cell_options or {}),
            "inputs": inputs,
            "hidden_size": int(self.hidden_size),
            "num_layers": int(self.num_layers),
            "bidirectional": bool(self.bidirectional),
            "outputs": outputs,
            "dropout": float(self.dropout),
            "variational_dropout": float(self.variational_dropout),
            "recurrent_dropout": float(self.recurrent_dropout),
            "vocabulary": vocabulary,
            "embedding_size": None if vocabulary is None else inputs,
            **network_types(self.precision),
        }


class StepEstimator(RecurrentParameters, LayerEstimator):
    """Base of SequenceTagger and its like; not for use on its own."""

    _architecture: ClassVar[tuple[str, ...]] = _ARCHITECTURE
    _rules: Mapping[str, Rule] = {
        "inputs": choice("auto", "features", "tokens"),
        "embedding_size": RULES["hidden_size"],
        "min_frequency": RULES["hidden_size"],
        "singleton_dropout": RULES["dropout"],
        "pooling": Rule("None: outputs are those of all steps", lambda value: value is None),
    }

    inputs: str
    embedding_size: int
    min_frequency: int
    singleton_dropout: float
    pooling: None
    bptt_steps: int | None
    standardize: bool

    # Values of `precision` that the network can compute with.
    _precisions: ClassVar[tuple[str, ...]] = BFLOAT16

    def _outputs_count(self) -> int:
        raise NotImplementedError

    def _more_config(self) -> dict[str, Any]:
        """Entries of the network's config beyond those of StepNetwork."""
        return {}

    def _check_available(self, parameters: Mapping[str, Any]) -> None:
        check_available(parameters, self._precisions)
        if parameters["bptt_steps"] is not None:
            raise NotImplementedError(
                f"bptt_steps={parameters['bptt_steps']!r} is not implemented for {type(self).__name__} yet. Use None: "
                "gradients flow back over whole sequences."
            )

    def _read_X(self, X: Any, reset: bool, name: str = "X") -> Steps:
        samples: Steps = self._network.read(X, name, weight_dtype(self.precision) if reset else self.model_.dtype)
        if not reset:
            return self.model_.network.prepare(samples, name)  # type: ignore[attr-defined, no-any-return]
        if samples.table is not None and self.inputs == "features":
            raise ValueError(
                f"{name} holds text, {str(samples.table[0])!r}, but inputs='features' asks for numbers. Use "
                "inputs='tokens' or 'auto'."
            )
        if self.inputs == "tokens":
            samples = samples.as_tokens(name)
        self.n_features_in_ = samples.features
        return samples

    def _make_network(self, samples: Steps, targets: Array, weights: Array | None, seed: int) -> Any:
        vocabulary, rare = None, None
        if samples.table is not None:
            vocabulary, rare = vocabulary_of(samples, weights, int(self.min_frequency))
        inputs = samples.features if vocabulary is None else int(self.embedding_size)
        config = {**self._network_config(inputs, self._outputs_count(), vocabulary), **self._more_config()}
        network = self._network(config, seed)
        if rare is not None:
            network.constants["rare"][1:] = rare
        elif self.standardize:
            mean, deviation = network.standardise(samples, weights)
            check_resolution(mean, deviation, config["dtype"])
        return network

    def _configure(self, network: Any) -> None:
        network.singleton_dropout = float(self.singleton_dropout)

    def _cost(self) -> float:
        parameters = self.model_.network.parameters
        return float(sum(value.size for name, value in parameters.items() if name != "embedding"))

    def _restore_fitted(self, model: Any, fitted: dict[str, Any]) -> None:
        super()._restore_fitted(model, fitted)
        found = model.network.config.get("precision", model.dtype)
        if self._built["precision"] != found:
            raise ValueError(f"precision={self._built['precision']!r} for a network of {found}")

    def _fitted_samples(self, X: Any, name: str = "X") -> Steps:
        """X for the fitted model."""
        check_is_fitted(self, "model_")
        samples = self._read_X(X, reset=False, name=name)
        self._use_threads()
        return samples


def as_written(X: Steps, items: Array) -> Array:
    """(N,) objects of T entries each; (N, T, …) where X came as one array without padding."""
    return np.stack(list(items)) if X.whole else items
