"""Quantisation-aware fine-tuning: training in which every forward pass sees the rounded weights.

The straight-through estimator (Bengio, Léonard & Courville, 2013; for whole networks Jacob et al., 2018): forward and
backward use weights as integers will have them, and the gradient goes to the float weights as if it were theirs. Inputs
are rounded too. Outputs of layers and cell states are not: a cell's activations stay floats within a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..model import Model
from .calibration import Observed, observe
from .host import start
from .integers import zero_blocks
from .network import EdgeNetwork, read_edge_network
from .program import Program
from .rounding import rounded, row_groups

__all__ = ["finetune"]

Array = NDArray[Any]

_BATCH = 32
_CLIP_NORM = 5.0


def finetune(
    network: EdgeNetwork,
    seen: Observed,
    make: Callable[[EdgeNetwork, Observed], Program],
    X: list[Array],
    targets: Array,
    *,
    weights: str,
    epochs: int,
    learning_rate: float,
    training: dict[str, Any],
    seed: int,
) -> tuple[EdgeNetwork, Observed, tuple[float, ...]]:
    """A copy of the network, its float weights trained for being rounded.

    Parameters
    ----------
    seen : what `observe` saw of the network on X
    make : network and what was seen of it → the program whose rounding training sees
    X : list of (T_i, I) arrays, as measured
    targets : (N,) indices of classes, or (N, K) numbers as the user has them
    weights : "int8", "int4" or "sparse"
        Weights that are zero stay zero with "sparse", and wherever the program leaves blocks of zeros out.
    epochs, learning_rate, seed
    training : options of the trainer, as loss and label_smoothing

    Returns
    -------
    network, seen, losses
        seen: on which the ranges of the rounding depend that training saw last: a program with other ranges would round
        otherwise. losses: mean loss of each epoch, with rounded weights.
    """
    # Dropout would draw the same masks for every batch, and the rounding is noise enough.
    config = network.model.config
    off: dict[str, Any] = dict.fromkeys(("dropout", "variational_dropout", "recurrent_dropout"), 0.0)
    off["precision"] = None
    core = _core.Model({**config, "recurrent": {**config["recurrent"], **off}, "head_dropout": 0.0})
    core.set_weights(network.model.core.get_weights())
    core.set_preprocessing(**network.model.core.preprocessing)
    model = Model(core, network.model.classes, network.model.single_target)
    storage = "int4" if weights == "int4" else "int8"
    program = make(network, seen)
    groups = row_groups(network, program, seen)
    parameters = {name: value.copy() for name, value in core.parameters.items()}
    kept = {name: parameters[name] != 0 for name in _pruned(program, weights, parameters)}

    options = {"learning_rate": learning_rate, "schedule": "cosine", "epochs": epochs, "clip_norm": _CLIP_NORM}
    optimiser = _core.Optimiser(options, parameters)
    trainer = _core.Trainer(core, {"loss": "cross_entropy" if network.softmax else "squared", **training})
    dtype = network.model.dtype
    runtime = start(program)
    data = _core.Sequences([_seen(runtime, program, x).astype(dtype) for x in X], dtype=dtype)
    lengths = np.array([len(x) for x in X])
    random = np.random.RandomState(seed % 2**32)
    losses = []
    for epoch in range(epochs):
        if 0 < epoch <= epochs // 2:  # ranges follow the weights, and then stay for them to settle
            core.set_parameters({**parameters, **rounded(parameters, groups, storage)})
            now = read_edge_network(model)
            seen = observe(now, X)
            groups = row_groups(now, make(now, seen), seen)
        total = 0.0
        for batch in _batches(lengths, random):
            core.set_parameters({**parameters, **rounded(parameters, groups, storage)})
            value, gradient = trainer.gradient(data.subset(batch), targets[batch])
            if not np.isfinite(value):
                raise ValueError("quantize: fine-tuning diverged. Lower finetune_learning_rate.")
            for name, mask in kept.items():
                gradient[name][...] *= mask
            optimiser.step(gradient)
            for name, mask in kept.items():
                parameters[name] *= mask
            total += value * len(batch)
        optimiser.epoch_finished()
        losses.append(total / len(X))
    core.set_parameters(parameters)
    return read_edge_network(model), seen, tuple(losses)


def _pruned(program: Program, weights: str, parameters: dict[str, Array]) -> list[str]:
    """Tensors whose zeros are there to stay."""
    matrices = [matrix for layer in program.layers for matrix in layer.matrices]
    if weights != "sparse" and not any(matrix.storage == "sparse" for matrix in matrices):
        return []
    if all(zero_blocks(matrix.weights) == 0 for matrix in matrices):
        return []
    return [name for name, value in parameters.items() if name[0] in "WR" and value.ndim == 2]


def _seen(runtime: _core.EdgeModel, program: Program, x: Array) -> Array:
    """x (T, I) as the integers of the input stand for it."""
    activations = runtime.quantise(np.ascontiguousarray(x, dtype=np.float32))
    result: Array = activations / program.scale.astype(np.float64) + program.centre
    return result


def _batches(lengths: Array, random: np.random.RandomState) -> list[Array]:
    """Sequences of similar length together, in a new order each time."""
    shuffled = random.permutation(len(lengths))
    order = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    batches = [order[k : k + _BATCH] for k in range(0, len(order), _BATCH)]
    return [batches[k] for k in random.permutation(len(batches))]
