"""The layers of PyTorch that compute the same, and their results in our layout and names. Skips without PyTorch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from cases import Case, Data

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # threads that spin between such small products only slow a busy machine down

# Names of PyTorch by ours. Where we have no bR, its second bias is ours added to the first.
KINDS = {"W": "weight_ih", "R": "weight_hh", "b": "bias_ih", "bR": "bias_hh", "proj": "weight_hr"}
OPTIONS = ("nonlinearity", "proj_size")  # of our cells, under the same name in PyTorch


@dataclass
class Result:
    y: np.ndarray
    final: dict[str, np.ndarray]
    dx: np.ndarray
    d_initial: dict[str, np.ndarray]
    gradient: dict[str, np.ndarray]


def make_module(case: Case, data: Data) -> Any:
    """The module of a case, with the case's weights; where we have one bias, half of it goes to either of PyTorch."""
    s = case.shape
    extra = {name: value for name, value in case.options.items() if name in OPTIONS}
    module = getattr(torch.nn, str(case.cell.torch))(
        s.I, s.H, s.L, batch_first=True, bidirectional=s.D == 2, dtype=getattr(torch, case.dtype), **extra
    )
    with torch.no_grad():
        for name, value in data.parameters.items():
            kind, suffix = name.split("_", 1)
            if kind == "b" and f"bR_{suffix}" not in data.parameters:
                value = value / 2
                getattr(module, f"bias_hh_{suffix}").copy_(torch.from_numpy(value))
            getattr(module, f"{KINDS[kind]}_{suffix}").copy_(torch.from_numpy(value))
    return module


def run_module(module: Any, data: Data) -> Result:
    """Forward and backward of a module on ragged or plain data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
        return _run(module, data)


def _run(module: Any, data: Data) -> Result:
    T = data.x.shape[1]
    names = list(data.dstate)
    x = torch.from_numpy(np.nan_to_num(data.x)).requires_grad_()
    initial = [
        torch.from_numpy(np.zeros_like(data.dstate[name]) if data.state is None else data.state[name].copy())
        for name in names
    ]
    for value in initial:
        value.requires_grad_()
    state = tuple(initial) if len(initial) > 1 else initial[0]
    if data.lengths is None:
        y, final = module(x, state)
    else:
        lengths = torch.from_numpy(np.asarray(data.lengths, dtype=np.int64))
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed_y, final = module(packed, state)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_y, batch_first=True, total_length=T)
    final = list(final) if len(initial) > 1 else [final]
    loss = (y * torch.from_numpy(np.nan_to_num(data.dy))).sum()
    for value, name in zip(final, names, strict=True):
        loss = loss + (value * torch.from_numpy(data.dstate[name])).sum()
    module.zero_grad()
    loss.backward()
    gradient = {}
    for name in data.parameters:
        kind, suffix = name.split("_", 1)
        gradient[name] = getattr(module, f"{KINDS[kind]}_{suffix}").grad.numpy()
    return Result(
        y=y.detach().numpy(),
        final={name: value.detach().numpy() for name, value in zip(names, final, strict=True)},
        dx=x.grad.numpy(),
        d_initial={name: value.grad.numpy() for name, value in zip(names, initial, strict=True)},
        gradient=gradient,
    )
