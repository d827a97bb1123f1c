"""PyTorch on one row: the module as a user would call it, gradients through autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from problem import Array, Outcome, Problem
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

NAME = "torch"


def version() -> str:
    return str(torch.__version__)


class Peer:
    """Ragged rows have two ways: "torch" packs the batch, "torch padded" computes the padding as well.

    The padded way gives the right outputs at real steps of forward-only networks, but final states that have run on
    into the padding.
    """

    def __init__(self, problem: Problem, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self.problem = problem
        self.module = problem.module
        self.module.flatten_parameters()
        self.x = torch.from_numpy(problem.x)
        self.x_leaf = self.x.clone().requires_grad_()
        self.dy = torch.from_numpy(problem.dy)
        self.lengths = None if problem.lengths is None else torch.from_numpy(problem.lengths)
        self.leaves = [self.x_leaf, *self.module.parameters()]

    def inference(self) -> dict[str, Callable[[], Any]]:
        module, x = self.module, self.x
        state: Any = None
        if self.problem.row.kind == "step":
            states = [torch.from_numpy(value) for value in self.problem.state.values()]
            state = tuple(states) if len(states) > 1 else states[0]

        def plain() -> Any:
            with torch.inference_mode():
                return module(x, state)[0]

        def packed() -> Any:
            with torch.inference_mode():
                return self._packed(x)

        return {NAME: plain} if self.lengths is None else {NAME: packed, f"{NAME} padded": plain}

    def training(self) -> dict[str, Callable[[], Any]]:
        if self.problem.row.kind == "step":
            return {}
        module, x, dy, leaves = self.module, self.x_leaf, self.dy, self.leaves

        # torch.autograd.grad rather than backward(): no accumulation into .grad and nothing to zero, its quickest way.
        def plain() -> Any:
            y = module(x)[0]
            return y, torch.autograd.grad(y, leaves, dy)

        def packed() -> Any:
            y = self._packed(x)
            return y, torch.autograd.grad(y, leaves, dy)

        return {NAME: plain} if self.lengths is None else {NAME: packed, f"{NAME} padded": plain}

    def _packed(self, x: torch.Tensor) -> torch.Tensor:
        assert self.lengths is not None
        batch = pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.module(batch)[0], batch_first=True)[0]

    def outcome(self, mode: str, result: Any) -> Outcome:
        y = result if mode == "inference" else result[0]
        out = Outcome(y=y.detach().numpy().copy())
        if self.problem.row.kind == "step":
            out.y = out.y[:, 0]
        for n, length in enumerate([] if self.problem.lengths is None else self.problem.lengths):
            out.y[n, length:] = 0.0  # what the padded way computed there has no meaning
        if mode == "training":
            dx, *gradients = (gradient.numpy() for gradient in result[1])
            out.dx = dx
            names = [name for name, _ in self.module.named_parameters()]
            out.parameters = _our_names(names, gradients, both_biases=self.problem.row.cell == "gru")
        return out


def _our_names(names: list[str], gradients: list[Array], both_biases: bool) -> dict[str, Array]:
    """Gradients under our names. PyTorch keeps two biases; where their gradients are the same, we keep one."""
    kinds = {"weight_ih": "W", "weight_hh": "R", "bias_ih": "b"} | ({"bias_hh": "bR"} if both_biases else {})
    named: dict[str, Array] = {}
    for name, gradient in zip(names, gradients, strict=True):
        kind, _, rest = name.partition("_l")
        if kind in kinds:
            named[f"{kinds[kind]}_l{rest}"] = np.asarray(gradient)
    return named
