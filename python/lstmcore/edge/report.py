"""What quantising changed: ranges, errors of weights and outputs, values that were cut off, scores.

Shape letters: T time steps, N sequences, H hidden units, D directions, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LayerReport", "QuantizationReport", "errors"]

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerReport:
    """One layer of a quantised model against the float network, on the calibration data.

    name: "input", "layer 0", …, "head layer 0", …, "head".
    largest: largest magnitude of its float outputs (of the input: largest distance from the centre, standardised).
    covered: largest magnitude that its integers stand for; 0 for the head, which has no such end.
    weight_error_max, weight_error_rms: of its weights, relative to the largest weight of the row.
    output_error_max, output_error_rms: of its outputs, in their own units, errors of the layers below included.
    saturated, values: how many of its float outputs lie beyond what its integers cover and so are cut off, and how many
        outputs there are.
    zero_blocks: share of the 4×4 blocks of its weights that are zero.
    weight_bytes: of its weights as stored on the device, with lists of blocks, biases and multipliers.
    """

    name: str
    largest: float
    covered: float
    weight_error_max: float
    weight_error_rms: float
    output_error_max: float
    output_error_rms: float
    saturated: int
    values: int
    zero_blocks: float
    weight_bytes: int


@dataclass(frozen=True)
class QuantizationReport:
    """scheme, weights, ranges: as `quantize` was called. n_sequences, n_steps: of the calibration data.

    layers: input, recurrent layers, layers of the head; after fine-tuning against the fine-tuned float network.
    agreement: share of calibration sequences with the class that the float model given predicts (classifiers), or R²
        of the quantised predictions against the float ones (regressors); NaN without calibration data.
    float_score, score: accuracy or R² of both models against y; NaN where `quantize` got no y.
    finetune_losses: mean training loss of each epoch of fine-tuning.
    """

    scheme: str
    weights: str
    ranges: str
    n_sequences: int
    n_steps: int
    layers: tuple[LayerReport, ...]
    agreement: float
    float_score: float
    score: float
    finetune_losses: tuple[float, ...] = ()

    def __iter__(self) -> Iterator[LayerReport]:
        return iter(self.layers)

    @property
    def weight_bytes(self) -> int:
        """Of all layers."""
        return sum(layer.weight_bytes for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it; NaN is null."""
        document = asdict(self)
        for key in ("agreement", "float_score", "score"):
            document[key] = None if math.isnan(document[key]) else document[key]
        document["layers"] = [asdict(layer) for layer in self.layers]
        document["finetune_losses"] = list(self.finetune_losses)
        return document

    @classmethod
    def from_json(cls, document: Any) -> QuantizationReport:
        """Inverse of `to_json`; ValueError for anything else."""
        values = _checked(cls, document)
        rows = values["layers"]
        if not isinstance(rows, list):
            raise ValueError("report: layers is not a list")
        losses = values["finetune_losses"]
        if not isinstance(losses, list) or not all(isinstance(loss, float) for loss in losses):
            raise ValueError("report: finetune_losses is not a list of numbers")
        values["layers"] = tuple(LayerReport(**_checked(LayerReport, row)) for row in rows)
        values["finetune_losses"] = tuple(losses)
        return cls(**values)

    def __str__(self) -> str:
        """A table."""
        head = f"{self.scheme}, weights {self.weights}"
        if self.n_sequences:
            head += f", ranges by {self.ranges} from {self.n_sequences} sequences of {self.n_steps} steps in all"
        lines = [head]
        names = (
            "layer",
            "largest",
            "covered",
            "weight error max",
            "rms",
            "output error max",
            "rms",
            "cut off",
            "bytes",
        )
        rows = [names]
        for layer in self.layers:
            share = layer.saturated / layer.values if layer.values else 0.0
            rows.append(
                (
                    layer.name,
                    f"{layer.largest:.3g}",
                    f"{layer.covered:.3g}" if layer.covered else "",
                    f"{layer.weight_error_max:.2%}",
                    f"{layer.weight_error_rms:.2%}",
                    f"{layer.output_error_max:.2g}",
                    f"{layer.output_error_rms:.2g}",
                    f"{share:.2%}",
                    str(layer.weight_bytes),
                )
            )
        widths = [max(len(row[k]) for row in rows) for k in range(len(names))]
        for row in rows:
            cells = [
                row[0].ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  ".join(cells).rstrip())
        if not math.isnan(self.agreement):
            lines.append(f"agreement with the float model: {self.agreement:.4f}")
        if not math.isnan(self.score):
            lines.append(f"score: {self.score:.4f}, of the float model {self.float_score:.4f}")
        return "\n".join(lines)


def _checked(kind: Any, document: Any) -> dict[str, Any]:
    """The fields of a dataclass from JSON, with the types that they are declared with."""
    names = {field.name: field.type for field in fields(kind)}
    if not isinstance(document, dict) or set(document) != set(names):
        raise ValueError(f"report: expected an object with {', '.join(names)}")
    values = dict(document)
    for name, declared in names.items():
        value = values[name]
        if declared == "float":
            if value is None:
                values[name] = math.nan
            elif isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"report: {name} is {value!r}, expected a number")
            else:
                values[name] = float(value)
        elif declared in ("int", "str") and type(value).__name__ != declared:
            raise ValueError(f"report: {name} is {value!r}, expected {declared}")
    return values


def errors(found: Array, expected: Array) -> tuple[float, float]:
    """Largest and root mean square difference; zeros for no values."""
    if not found.size:
        return 0.0, 0.0
    difference = found - expected
    return float(np.abs(difference).max()), float(np.sqrt(np.mean(np.square(difference))))
