"""lstmcore on one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from problem import Outcome, Problem

import lstmcore

NAME = "lstmcore"


def version() -> str:
    return f"{lstmcore.__version__} ({lstmcore.build_info()['isa']})"


class Peer:
    """The network with the weights of the problem's PyTorch module."""

    def __init__(self, problem: Problem, n_threads: int) -> None:
        self.problem = problem
        self.layer: Any = lstmcore.Recurrent.from_torch(problem.module, n_threads=n_threads)

    def inference(self) -> dict[str, Callable[[], Any]]:
        layer, x, lengths = self.layer, self.problem.x, self.problem.lengths
        if self.problem.row.kind == "step":
            step, state = x[:, 0].copy(), self.problem.state
            return {NAME: lambda: layer.step(step, state)}
        return {NAME: lambda: layer.forward(x, lengths=lengths)}

    def training(self) -> dict[str, Callable[[], Any]]:
        if self.problem.row.kind == "step":
            return {}
        layer, x, lengths, dy = self.layer, self.problem.x, self.problem.lengths, self.problem.dy

        def forward_backward() -> Any:
            y, _, tape = layer.forward(x, lengths=lengths, training=True)
            return y, layer.backward(tape, dy)

        return {NAME: forward_backward}

    def outcome(self, mode: str, result: Any) -> Outcome:
        if mode == "inference":
            return Outcome(y=np.asarray(result[0]))
        y, gradients = result
        return Outcome(y=np.asarray(y), dx=np.asarray(gradients.x), parameters=dict(gradients.parameters))
