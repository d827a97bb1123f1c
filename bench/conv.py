#!/usr/bin/env python3
"""`ConvRecurrent` against a PyTorch loop over nn.Conv2d (a ConvLSTM as its users write it), in one run.

    python bench/conv.py [--threads 1] [--seconds 1.0] [--rows 4x10x16x16x64 …]

A row is N x T x C x H x (image side), with "k5" behind it for a kernel of 5. One layer, eager, gradients by autograd;
neither side computes the gradient of x. Outputs and weight gradients are compared before anything is timed. GFLOP/s
counts the multiply-adds of the plain sums, forward three times for a training pass: what is saved by tiles counts as
speed. Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from clock import interleave

import lstmcore


class Loop(torch.nn.Module):
    """One convolution of the input and h together, then the gates."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        p = layer.parameters
        kernel = np.concatenate([p["W_l0"], p["R_l0"]], axis=1)
        rows, channels, size, _ = kernel.shape
        self.hidden = rows // 4
        self.conv = torch.nn.Conv2d(channels, rows, size, padding=size // 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(kernel))
            self.conv.bias.copy_(torch.from_numpy(np.array(p["b_l0"])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(len(x), self.hidden, *x.shape[3:])
        steps = []
        for t in range(x.shape[1]):
            i, f, g, o = self.conv(torch.cat([x[:, t], h], dim=1)).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            steps.append(h)
        return torch.stack(steps, dim=1)


def run(row: str, threads: int, seconds: float) -> str:
    sizes, _, kernel = row.partition("k")
    N, T, C, H, side = (int(part) for part in sizes.split("x"))
    size = int(kernel or 3)
    layer = lstmcore.ConvRecurrent(
        "lstm", channels=C, hidden_channels=H, height=side, width=side, kernel_size=size, n_threads=threads
    )
    loop = Loop(layer)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, T, C, side, side)).astype(np.float32)
    dy = rng.standard_normal((N, T, H, side, side)).astype(np.float32)
    xt, dyt, weights = torch.from_numpy(x), torch.from_numpy(dy), list(loop.parameters())

    def training() -> Any:
        _, _, tape = layer.forward(x, training=True)
        return layer.backward(tape, dy, input_gradient=False)

    def loop_inference() -> torch.Tensor:
        with torch.inference_mode():
            return loop(xt)

    def loop_training() -> Any:
        return torch.autograd.grad(loop(xt), weights, dyt)

    error = np.abs(loop_inference().numpy() - layer.forward(x)[0]).max()
    assert error < 1e-4, f"{row}: outputs differ by {error}"
    ours, theirs = training().parameters, loop_training()[0].numpy()
    error = np.abs(theirs[:, :C] - ours["W_l0"]).max() / np.abs(theirs).max()
    assert error < 1e-3, f"{row}: gradients differ by {error} of the largest"
    flops = 2e-9 * N * T * side * side * 4 * H * (C + H) * size * size
    cells = [row]
    for factor, calls in (
        (1, {"ours": lambda: layer.forward(x), "torch": loop_inference}),
        (3, {"ours": training, "torch": loop_training}),
    ):
        times = interleave(calls, seconds=seconds)
        a, b = (statistics.median(times[name]) for name in ("ours", "torch"))
        cells += [f"{a * 1e3:.1f}", f"{b * 1e3:.1f}", f"{b / a:.2f}", f"{factor * flops / a:.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="a peer and row, roughly")
    parser.add_argument(
        "--rows", nargs="+", default=["4x10x1x16x64", "4x10x16x16x64", "1x6x64x64x64", "4x10x16x16x64k5"]
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), ms; ratio: PyTorch over ours")
    print("| N x T x C x H x side | inference | PyTorch | ratio | GFLOP/s | training | PyTorch | ratio | GFLOP/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in options.rows:
        print(run(row, options.threads, options.seconds), flush=True)


if __name__ == "__main__":
    main()
