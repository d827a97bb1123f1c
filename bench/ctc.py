#!/usr/bin/env python3
"""CTC loss and gradient with respect to the logits against torch.nn.functional.ctc_loss, in one run.

    python bench/ctc.py [--threads 2] [--seconds 2]

N 32, T 200, K 40, 30 labels each. PyTorch: log_softmax, ctc_loss and autograd. Both float32; loss and gradient are
compared with PyTorch's in float64 before anything is timed. Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from clock import interleave

from lstmcore import _core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="a peer, roughly")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    N, T, K, L = 32, 200, 40, 30
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((N, T, K)).astype(np.float32)
    labels, counts = rng.integers(1, K, N * L), np.full(N, L)
    x = torch.from_numpy(logits).requires_grad_()
    targets, lengths, sizes = torch.from_numpy(labels), torch.full((N,), T), torch.from_numpy(counts)

    def ours() -> Any:
        return _core.ctc_loss(logits, labels, counts, n_threads=options.threads)

    def peer(x: torch.Tensor) -> Any:
        log_p = torch.log_softmax(x, 2).transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(log_p, targets, lengths, sizes, reduction="sum")
        return loss, torch.autograd.grad(loss, x)[0]

    losses, gradient = ours()
    wide = torch.from_numpy(logits.astype(np.float64)).requires_grad_()
    loss, slopes = peer(wide)
    assert abs(losses.sum() / loss.item() - 1.0) < 1e-10
    assert np.abs(gradient - slopes.numpy()).max() < 1e-6
    rounding = np.abs(peer(x)[1].numpy() - slopes.numpy()).max()
    times = interleave({"ours": ours, "torch": lambda: peer(x)}, seconds=options.seconds)
    a, b = (statistics.median(times[name]) for name in ("ours", "torch"))
    print(f"{options.threads} thread(s), N {N}, T {T}, K {K}, {L} labels: {a * 1e3:.2f} ms, PyTorch {b * 1e3:.2f} ms")
    error = np.abs(gradient - slopes.numpy()).max()
    print(f"ratio {b / a:.2f}; largest error of the gradient {error:.1e}, PyTorch {rounding:.1e}")


if __name__ == "__main__":
    main()
