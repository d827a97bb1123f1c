#!/usr/bin/env python3
"""mLSTM and sLSTM beside PyTorch, chunk sizes, and how time grows with T, in one run.

    python bench/xlstm.py [--threads 1] [--seconds 1.0] [--only peers chunks growth]

The mLSTM layer (projections, memory, output gate) runs against the chunkwise form of Beck et al. (2025) in plain
PyTorch operations, gradients by autograd, at the chunk size that is fastest there; the sLSTM against a loop over time.
Outputs and gradients are compared before anything is timed. Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from clock import interleave

import lstmcore

Tensor = torch.Tensor


def chunkwise(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, S: int) -> Tensor:
    """h before the output gate: q, k, v (N, heads, T, d), i, f (N, heads, T), T a multiple of S."""
    N, heads, T, d = q.shape
    chunks = T // S
    k = k / d**0.5
    q, k, v = (a.reshape(N, heads, chunks, S, d) for a in (q, k, v))
    i = i.reshape(N, heads, chunks, S)
    b = torch.nn.functional.logsigmoid(f).reshape(N, heads, chunks, S).cumsum(-1)
    total = b[..., -1]
    into = total[..., None] - b + i
    C, n, m = q.new_zeros(N, heads, d, d), q.new_zeros(N, heads, d), q.new_zeros(N, heads)
    before = []
    for c in range(chunks):  # the states between chunks, one after the other
        before.append((C, n, m))
        m_next = torch.maximum(total[:, :, c] + m, into[:, :, c].amax(-1))
        keep = torch.exp(total[:, :, c] + m - m_next)
        weighted = k[:, :, c] * torch.exp(into[:, :, c] - m_next[..., None])[..., None]
        C = keep[..., None, None] * C + weighted.transpose(-1, -2) @ v[:, :, c]
        n = keep[..., None] * n + weighted.sum(-2)
        m = m_next
    C, n, m = (torch.stack(parts, dim=2) for parts in zip(*before, strict=True))
    D = b[..., :, None] - b[..., None, :] + i[..., None, :]  # inside all chunks at once
    D = D.masked_fill(torch.ones(S, S, dtype=torch.bool).triu(1), -torch.inf)
    across = b + m[..., None]
    m_row = torch.maximum(D.amax(-1), across)
    weights = (q @ k.transpose(-1, -2)) * torch.exp(D - m_row[..., None])
    q = q * torch.exp(across - m_row)[..., None]
    s = weights.sum(-1) + (q @ n[..., None]).squeeze(-1)
    h = (weights @ v + q @ C) / torch.maximum(s.abs(), torch.exp(-m_row))[..., None]
    return h.reshape(N, heads, T, d)


class TorchMlstm(torch.nn.Module):
    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.W = torch.nn.Parameter(torch.tensor(layer.parameters["W_l0"]))
        self.b = torch.nn.Parameter(torch.tensor(layer.parameters["b_l0"]))
        self.S = 64

    def forward(self, x: Tensor) -> Tensor:
        N, T, _ = x.shape
        H = (len(self.b) - 2 * self.heads) // 4
        a = torch.nn.functional.linear(x, self.W, self.b)
        q, k, v, i, f, o = a.split([H, H, H, self.heads, self.heads, H], dim=-1)
        q, k, v = (part.reshape(N, T, self.heads, -1).transpose(1, 2) for part in (q, k, v))
        h = chunkwise(q, k, v, i.transpose(1, 2), f.transpose(1, 2), self.S)
        return torch.sigmoid(o) * h.transpose(1, 2).reshape(N, T, H)


class TorchSlstm(torch.nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        for name, value in layer.parameters.items():
            setattr(self, name, torch.nn.Parameter(torch.tensor(value)))

    def forward(self, x: Tensor) -> Tensor:
        H = self.R_l0.shape[1]
        a = torch.nn.functional.linear(x, self.W_l0, self.b_l0)
        h = c = n = m = x.new_zeros(len(x), H)
        outputs = []
        for t in range(x.shape[1]):
            i, f, z, o = (a[:, t] + h @ self.R_l0.T).chunk(4, dim=1)
            log_f = torch.nn.functional.logsigmoid(f) + m
            m = torch.maximum(i, log_f) if t else i
            i, f = torch.exp(i - m), torch.exp(log_f - m)
            c, n = f * c + i * torch.tanh(z), f * n + i
            h = torch.sigmoid(o) * c / n
            outputs.append(h)
        return torch.stack(outputs, dim=1)


Pair = tuple[Callable[[], Any], Callable[[], Any]]


def ours(layer: Any, x: np.ndarray, dy: np.ndarray) -> Pair:
    def training() -> Any:
        _, _, tape = layer.forward(x, training=True)
        return layer.backward(tape, dy)

    return (lambda: layer.forward(x)), training


def theirs(module: torch.nn.Module, x: np.ndarray, dy: np.ndarray) -> Pair:
    inputs, d_outputs = torch.tensor(x), torch.tensor(dy)

    def inference() -> Any:
        with torch.no_grad():
            return module(inputs)

    def training() -> Any:
        module.zero_grad(set_to_none=True)
        leaf = inputs.clone().requires_grad_(True)
        module(leaf).backward(d_outputs)
        return leaf.grad

    return inference, training


def data(N: int, T: int, I: int, H: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, T, I)).astype("f"), rng.standard_normal((N, T, H)).astype("f")


def mlstm(I: int, H: int, heads: int, n_threads: int, **options: Any) -> Any:
    layer = lstmcore.Recurrent("mlstm", input_size=I, hidden_size=H, heads=heads, n_threads=n_threads, **options)
    rng = np.random.default_rng(1)
    for value in layer.parameters.values():  # gates that do something
        value += rng.standard_normal(value.shape).astype("f") * 0.05
    return layer


def compare(mine: Pair, other: Pair, name: str) -> None:
    y, g = np.asarray(mine[0]()[0]), mine[1]().x
    for ours_, theirs_, what in ((y, other[0](), "outputs"), (g, other[1](), "gradients")):
        value = theirs_.detach().numpy()
        error = float(np.abs(ours_ - value).max() / np.abs(value).max())
        if not error < 2e-3:
            raise SystemExit(f"{name}: {what} differ by {error:.2g}")


def medians(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    return {name: statistics.median(times) * 1e3 for name, times in interleave(calls, seconds=seconds).items()}


def peers(options: argparse.Namespace) -> None:
    print("| layer | N | T | I | H | mode | ours ms | PyTorch ms | ratio |\n|---|---|---|---|---|---|---|---|---|")
    for N, T, I, heads, d in options.mlstm:
        H = heads * d
        layer = mlstm(I, H, heads, options.threads)
        x, dy = data(N, T, I, H)
        mine, module = ours(layer, x, dy), TorchMlstm(layer, heads)
        other = theirs(module, x, dy)
        compare(mine, other, "mlstm")
        best = {}
        for S in (32, 64, 128, 256):
            if T % S == 0:
                module.S = S
                best[S] = medians({"torch": other[1]}, options.seconds / 4)["torch"]
        module.S = min(best, key=best.__getitem__)
        for mode, index in (("inference", 0), ("training", 1)):
            ms = medians({"ours": mine[index], "torch": other[index]}, options.seconds)
            label = f"mlstm, {heads} heads of {d} (PyTorch: chunks of {module.S})"
            row = f"| {label} | {N} | {T} | {I} | {H} | {mode} | {ms['ours']:.2f} | {ms['torch']:.2f} "
            print(f"{row}| {ms['torch'] / ms['ours']:.2f} |", flush=True)
    for N, T, H in options.slstm:
        layer = lstmcore.Recurrent("slstm", input_size=H, hidden_size=H, n_threads=options.threads)
        x, dy = data(N, T, H, H)
        mine, other = ours(layer, x, dy), theirs(TorchSlstm(layer), x, dy)
        compare(mine, other, "slstm")
        for mode, index in (("inference", 0), ("training", 1)):
            ms = medians({"ours": mine[index], "torch": other[index]}, options.seconds)
            row = f"| slstm | {N} | {T} | {H} | {H} | {mode} | {ms['ours']:.2f} | {ms['torch']:.2f} "
            print(f"{row}| {ms['torch'] / ms['ours']:.1f} |", flush=True)


def chunks(options: argparse.Namespace) -> None:
    sizes = (1, 8, 16, 32, 48, 64, 96, 128, 256, 512)
    print("\nms by chunk size, forward and backward, T 2048\n| head width | " + " | ".join(map(str, sizes)) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for d in (16, 32, 64, 128):
        x, dy = data(1, 2048, 4 * d, 4 * d)
        calls = {str(S): ours(mlstm(4 * d, 4 * d, 4, options.threads, chunk_size=S), x, dy)[1] for S in sizes}
        ms = medians(calls, options.seconds / 3)
        print(f"| {d} | " + " | ".join(f"{ms[str(S)]:.1f}" for S in sizes) + " |", flush=True)


def growth(options: argparse.Namespace) -> None:
    layer = mlstm(256, 256, 4, options.threads)
    lengths = (1024, 2048, 4096, 8192, 16384)
    print("\nmlstm, 4 heads of 64: µs a step, forward and backward\n| T | " + " | ".join(map(str, lengths)) + " |")
    print("|---" * (len(lengths) + 1) + "|")
    calls = {str(T): ours(layer, *data(1, T, 256, 256))[1] for T in lengths}
    ms = medians(calls, options.seconds)
    print("| | " + " | ".join(f"{1e3 * ms[str(T)] / T:.2f}" for T in lengths) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement and peer")
    parser.add_argument(
        "--only", nargs="+", choices=("peers", "chunks", "growth"), default=("peers", "chunks", "growth")
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.mlstm = [(1, 64, 3, 2, 8)]
    if not options.quick:  # with few features the memory is nearly all there is, with I = H the projections weigh more
        options.mlstm = [(1, 2048, 16, 4, 64), (1, 2048, 256, 4, 64), (4, 512, 16, 4, 32), (8, 256, 16, 4, 64)]
    options.slstm = [(2, 5, 8)] if options.quick else [(1, 100, 64), (16, 100, 64), (32, 100, 128)]
    for name in options.only:
        {"peers": peers, "chunks": chunks, "growth": growth}[name](options)


if __name__ == "__main__":
    main()
