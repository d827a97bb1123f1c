"""`quantize`: a fitted model, calibration data → a `QuantizedModel`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._unrolled import read_targets
from .._validation import SequenceArrays, read_sequences
from ..model import DYNAMIC_INT8, Model
from .calibration import RANGES, Observed, observe
from .finetune import finetune
from .integers import WEIGHTS, zero_blocks
from .measure import layer_reports
from .network import EdgeNetwork, read_edge_network
from .program import Program
from .quantise import SCHEMES, float_program, integer_program
from .quantized_model import QuantizedModel, r_squared
from .report import LayerReport, QuantizationReport

__all__ = ["quantize"]

Array = NDArray[Any]

# Below this share of zero blocks in the recurrent layers, sparse storage costs more than it saves.
_PRUNED_FROM = 0.3


def quantize(
    model: Model,
    X_calibration: Any = None,
    scheme: str = "int8",
    *,
    weights: str = "int8",
    ranges: str = "mse",
    y: Any = None,
    finetune_epochs: int = 0,
    finetune_learning_rate: float = 3e-4,
    training: dict[str, Any] | None = None,
    seed: int = 0,
) -> QuantizedModel:
    """As `SequenceEstimator.quantize` says. training: options of fine-tuning's trainer beyond those of a plain head."""
    if scheme == DYNAMIC_INT8:
        raise ValueError(
            f"quantize: scheme={DYNAMIC_INT8!r} is there for SequenceClassifier, SequenceRegressor and lstmcore.Model "
            f"only. Use {', '.join(map(repr, SCHEMES))}."
        )
    if model.config["quantization"] != "none":
        raise ValueError(
            f"quantize: this model is quantised already ({model.config['quantization']}). Quantise the one that it was "
            "made of."
        )
    schemes = (*SCHEMES, DYNAMIC_INT8)
    for name, value, known in (("scheme", scheme, schemes), ("weights", weights, WEIGHTS), ("ranges", ranges, RANGES)):
        if value not in known:
            raise ValueError(f"quantize: {name}={value!r}. Expected one of {', '.join(map(repr, known))}.")
    if isinstance(finetune_epochs, bool) or not isinstance(finetune_epochs, (int, np.integer)) or finetune_epochs < 0:
        raise ValueError(f"quantize: finetune_epochs={finetune_epochs!r}. Expected an int >= 0.")
    if not (isinstance(finetune_learning_rate, (int, float)) and 0 < finetune_learning_rate < math.inf):
        raise ValueError(f"quantize: finetune_learning_rate={finetune_learning_rate!r}. Expected a number > 0.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"quantize: random_state={seed!r}. Expected an int >= 0.")
    if scheme == "float32" and (weights != "int8" or finetune_epochs):
        raise ValueError("quantize: scheme='float32' has no integers, so neither weights nor finetune_epochs.")
    network = read_edge_network(model)
    sequences = None
    if X_calibration is not None:
        sequences = read_sequences(X_calibration, "X_calibration")
        if sequences.features != model.n_features:
            raise ValueError(
                f"X_calibration has {sequences.features} features, but the model is expecting {model.n_features} "
                "features as input."
            )
    elif scheme != "float32":
        raise ValueError(
            f"quantize: scheme={scheme!r} needs X_calibration, a few hundred typical sequences, to find its ranges."
        )
    if finetune_epochs and network.pooling == "none":
        raise ValueError("quantize: finetune_epochs: a model with pooling 'none' cannot be trained.")
    if finetune_epochs and y is None:
        raise ValueError("quantize: finetune_epochs needs y, the targets of X_calibration.")
    if sequences is None:
        if y is not None:
            raise ValueError("quantize: y was given without X_calibration.")
        report = QuantizationReport(scheme, "float32", ranges, 0, 0, (), math.nan, math.nan, math.nan)
        return QuantizedModel(float_program(network), model.classes, model.single_target, report)
    X = [np.asarray(x[:length]) for x, length in zip(sequences.data, sequences.lengths, strict=True)]
    if y is not None:
        read_targets(y, len(X), model)
    losses: tuple[float, ...] = ()
    tuned, seen = network, observe(network, X)
    if scheme == "float32":
        program = float_program(network)
    else:

        def make(given: EdgeNetwork, observed: Observed) -> Program:
            return integer_program(given, observed, SCHEMES[scheme], "int4" if weights == "int4" else "int8", ranges)

        ranged = seen
        if finetune_epochs:
            tuned, ranged, losses = finetune(
                network,
                seen,
                make,
                X,
                _training_targets(y, len(X), model),
                weights=weights,
                epochs=int(finetune_epochs),
                learning_rate=finetune_learning_rate,
                training=training or {},
                seed=seed,
            )
            seen = observe(tuned, X)
        program = make(tuned, ranged)
        if weights == "sparse":
            _check_pruned(program)
    layers = layer_reports(tuned, seen, program, X)
    result = QuantizedModel(program, model.classes, model.single_target)
    result.report_ = _report(result, network, sequences, y, scheme, weights, ranges, layers, losses)
    return result


def _training_targets(y: Any, count: int, model: Model) -> Array:
    """(N,) indices of classes, or (N, K) numbers as they are."""
    if model.config["activation"] == "softmax":
        return read_targets(y, count, model)
    return np.asarray(y, dtype=np.float64).reshape(count, -1)


def _check_pruned(program: Program) -> None:
    shares = [zero_blocks(matrix.weights) for layer in program.layers for matrix in layer.matrices]
    if max(shares) < _PRUNED_FROM:
        raise ValueError(
            f"quantize: weights='sparse', but at most {max(shares):.0%} of a matrix's 4×4 blocks are zero. Train with "
            "the callback lstmcore.BlockPruning, or use weights='int8'."
        )


def _report(
    result: QuantizedModel,
    network: EdgeNetwork,
    sequences: SequenceArrays,
    y: Any,
    scheme: str,
    weights: str,
    ranges: str,
    layers: tuple[LayerReport, ...],
    losses: tuple[float, ...],
) -> QuantizationReport:
    agreement = before = after = math.nan
    if network.pooling != "none":
        X = sequences.data
        if not isinstance(X, list):
            X = [x[:n] for x, n in zip(X, sequences.lengths, strict=True)]
        expected, found = network.model.predict(X), result.predict(X)
        agreement = _score(network.softmax, expected, found)
        if y is not None:
            truth = np.asarray(y)
            if not network.softmax:
                truth = truth.reshape(expected.shape)
            before, after = _score(network.softmax, truth, expected), _score(network.softmax, truth, found)
    return QuantizationReport(
        scheme=scheme,
        weights="float32" if scheme == "float32" else weights,
        ranges=ranges,
        n_sequences=len(sequences.lengths),
        n_steps=int(sequences.lengths.sum()),
        layers=layers,
        agreement=agreement,
        float_score=before,
        score=after,
        finetune_losses=losses,
    )


def _score(softmax: bool, truth: Array, found: Array) -> float:
    return float(np.mean(truth == found)) if softmax else r_squared(truth, found)
