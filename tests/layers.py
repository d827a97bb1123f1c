"""lstmcore layers made from rows of the case table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import lstmcore
from cases import Case, Data


def make_layer(case: Case, data: Data, **arguments: Any) -> Any:
    """The layer of a case with the case's weights."""
    layer = lstmcore.Recurrent(**{**case.layer_arguments(), **arguments})
    parameters = layer.parameters
    assert [(name, value.shape) for name, value in parameters.items()] == list(case.stack.shapes().items())
    for name, value in data.parameters.items():
        parameters[name][...] = value
    return layer


@dataclass
class Pass:
    """Results of one forward and backward pass, as plain arrays by name."""

    arrays: dict[str, np.ndarray]

    def named(self, prefix: str) -> dict[str, np.ndarray]:
        return {name[len(prefix) :]: value for name, value in self.arrays.items() if name.startswith(prefix)}


def run_layer(layer: Any, data: Data, **arguments: Any) -> Pass:
    """Forward with a tape, then backward; everything that came out. arguments: further ones of forward."""
    y, final, tape = layer.forward(data.x, state=data.state, lengths=data.lengths, training=True, **arguments)
    gradients = layer.backward(tape, data.dy, dstate=data.dstate)
    arrays = {"y": y, "dx": gradients.x}
    arrays |= {f"final.{name}": value for name, value in final.items()}
    arrays |= {f"d_initial.{name}": value for name, value in gradients.state.items()}
    arrays |= {f"gradient.{name}": value for name, value in gradients.parameters.items()}
    return Pass({name: np.array(value) for name, value in arrays.items()})


def as_list(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """(N, T, …) as N arrays (T_i, …) of their own memory."""
    return [np.array(row[:length]) for row, length in zip(values, lengths, strict=True)]
