"""What the estimators for trees share: parameters, the network, targets of nodes."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._forest import Trees
from ._layer_network import LayerModel
from ._layer_training import LayerClassifier
from ._parameters import RULES, Rule, choice, or_none
from ._tree_network import NodeTargets, TreeNetwork
from ._validation import moments

__all__ = ["TreeEstimator", "node_items", "node_objects", "standardise"]

Array = NDArray[Any]


class TreeEstimator:
    """What both estimators share; comes before LayerClassifier or LayerRegressor in their bases."""

    _network: ClassVar[Any] = TreeNetwork
    _architecture: ClassVar[tuple[str, ...]] = ("kind", "arity", "targets", "hidden_size", "num_layers", "precision")
    _absent: ClassVar[Mapping[str, str]] = {
        "quantize": "the integer runtime has no trees. lstmcore.load_model runs a saved model with NumPy alone.",
        "step": "a tree has no order in time. Use predict.",
    }
    _rules: Mapping[str, Rule] = {
        "kind": choice("child_sum", "nary"),
        "arity": or_none(RULES["hidden_size"]),
        "targets": choice("trees", "nodes"),
    }

    kind: str
    arity: int | None
    targets: str
    hidden_size: int
    num_layers: int
    dropout: float
    standardize: bool
    precision: str
    model_: LayerModel

    def _outputs_count(self) -> int:
        raise NotImplementedError

    def _check_available(self, parameters: Any) -> None:
        super()._check_available(parameters)  # type: ignore[misc]
        if parameters["kind"] == "child_sum" and parameters["arity"] is not None:
            raise ValueError(
                f"arity={parameters['arity']!r} has no meaning for kind='child_sum', which takes any number of "
                "children. Use arity=None, or kind='nary'."
            )

    def _make_network(self, samples: Trees, targets: Array, weights: Array | None, seed: int) -> TreeNetwork:
        arity = self.arity
        if self.kind == "nary" and arity is None:
            most = int(samples.children().max())
            if samples.positions is not None:
                most = max(most, int(samples.positions.max()) + 1)
            arity = max(most, 1)
        config = {
            "kind": self.kind,
            "inputs": samples.features,
            "hidden": int(self.hidden_size),
            "layers": int(self.num_layers),
            "arity": None if arity is None else int(arity),
            "outputs": self._outputs_count(),
            "classifies": isinstance(self, LayerClassifier),
            "targets": self.targets,
            "dtype": self.precision,
        }
        network = TreeNetwork(config, seed)
        network.check(samples, "X")
        if self.standardize:
            of_nodes = None if weights is None else np.repeat(weights, samples.sizes)
            standardise(network, samples.x.astype(np.float64), of_nodes, "")
        return network

    def _configure(self, network: Any) -> None:
        network.dropout = float(self.dropout)

    def _read(self, X: Any, y: Any, reset: bool, prefix: str = "", classes: Any = None) -> tuple[Trees, Array]:
        samples: Trees
        samples, targets = super()._read(X, y, reset, prefix, classes)  # type: ignore[misc]
        if self.targets == "nodes":
            for n, (tree, size) in enumerate(zip(targets, samples.sizes.tolist(), strict=True)):
                if len(tree.values) != size:
                    raise ValueError(
                        f"{prefix}y[{n}] has {len(tree.values)} entries, but {prefix}X[{n}] has {size} nodes."
                    )
        return samples, targets

    def _weights_of_nodes(self, y: Array, sample_weight: Array | None) -> tuple[Array, Array | None]:
        """Values of all nodes that have one, and their weights."""
        values = np.concatenate([tree.values[tree.known] for tree in y])
        if sample_weight is None:
            return values, None
        return values, np.repeat(sample_weight, [int(tree.known.sum()) for tree in y])

    def _check_targets(self, y: Array, weights: Array) -> None:
        if not any(tree.known.any() for tree, weight in zip(y, weights, strict=True) if weight > 0):
            raise ValueError("No node that y gives a target for has a sample_weight above 0.")


def node_items(y: Any, name: str) -> list[Any]:
    """Targets of nodes: one array-like a tree."""
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype == object:
        y = list(y)
    if not isinstance(y, (list, tuple)):
        raise TypeError(f"{name}: with targets='nodes' expected a list of one array a tree, got {type(y).__name__}")
    return list(y)


def node_objects(items: list[NodeTargets]) -> Array:
    result = np.empty(len(items), dtype=object)
    for n, item in enumerate(items):
        result[n] = item
    return result


def standardise(network: TreeNetwork, values: Array, weights: Array | None, prefix: str) -> None:
    """Sets the network's mean and scale: (M, …) float64 values to mean 0 and deviation 1, constant ones to 0."""
    mean, deviation = moments(values, weights)
    network.constants[prefix + "mean"][:] = mean
    network.constants[prefix + "scale"][:] = 1.0 / np.where(deviation > 0.0, deviation, 1.0)
