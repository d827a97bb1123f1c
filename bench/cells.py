#!/usr/bin/env python3
"""Every cell beside `lstm`, and cells that PyTorch has as Python loops only, in one run.

    python bench/cells.py [--threads 1] [--seconds 0.5] [--rows 16x100x64x64 …]

First table: time of a cell over that of `lstm` at the same N, T, I, H, and the same per multiply-add of its matrix
products, so that the second number is what the cell's element-wise work costs. Second table: a PyTorch loop over time
(eager, gradients by autograd) with the same weights over our time; outputs are compared before anything is timed.
Needs: pip install "lstmcore[bench]".
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

CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {}),
    "lstm CIFG": ("lstm", {"variant": "CIFG"}),
    "lstm layer_norm": ("lstm", {"layer_norm": True}),
    "lstm zoneout": ("lstm", {"zoneout_hidden": 0.1, "zoneout_cell": 0.1}),
    "peephole": ("peephole", {}),
    "lstm1997": ("lstm1997", {}),
    "gru": ("gru", {}),
    "gru reset_before": ("gru", {"reset_after": False}),
    "slstm": ("slstm", {}),
    "min_lstm": ("min_lstm", {}),
    "min_gru": ("min_gru", {}),
    "indrnn": ("indrnn", {}),
    "elman": ("elman", {}),
}
LOOPS = ("peephole", "lstm layer_norm", "lstm zoneout", "slstm")


def build(name: str, I: int, H: int, n_threads: int) -> Any:
    cell, options = CELLS[name]
    return lstmcore.Recurrent(cell, input_size=I, hidden_size=H, n_threads=n_threads, **options)


def ours(layer: Any, x: np.ndarray, dy: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def training() -> Any:
        _, _, tape = layer.forward(x, training=True)
        return layer.backward(tape, dy)

    return (lambda: layer.forward(x)), training


def products(name: str, I: int, H: int) -> int:
    """Multiply-adds of one step's matrix products."""
    cell = CELLS[name][0]
    gates = {"lstm": 4, "peephole": 4, "slstm": 4, "gru": 3, "lstm1997": 3, "min_lstm": 3, "min_gru": 2}.get(cell, 1)
    gates -= name == "lstm CIFG"
    return gates * H * (I + (0 if cell in ("min_lstm", "min_gru", "indrnn") else H))


class Loop(torch.nn.Module):
    """A cell over time, as PyTorch's users write it."""

    def __init__(self, name: str, layer: Any) -> None:
        super().__init__()
        self.name = name
        for key, value in layer.parameters.items():
            self.register_parameter(key, torch.nn.Parameter(torch.from_numpy(np.array(value))))

    def forward(self, x: torch.Tensor, masks: bool) -> torch.Tensor:
        p = dict(self.named_parameters())
        H = p["R_l0"].shape[1]
        zero = x.new_zeros(len(x), H)
        h, c, n, m = zero, zero, zero, zero
        if self.name == "lstm layer_norm":
            projected = torch.nn.functional.layer_norm(x @ p["W_l0"].T, (4 * H,), p["ln_x_l0"])
        else:
            projected = x @ p["W_l0"].T + p["b_l0"]
        steps = []
        for t in range(x.shape[1]):
            recurrent = h @ p["R_l0"].T
            if self.name == "lstm layer_norm":
                recurrent = torch.nn.functional.layer_norm(recurrent, (4 * H,), p["ln_r_l0"]) + p["b_l0"]
            a_i, a_f, a_g, a_o = (projected[:, t] + recurrent).chunk(4, dim=1)
            if self.name == "slstm":
                a = m + torch.nn.functional.logsigmoid(a_f)
                m = torch.where(n == 0, a_i, torch.maximum(a_i, a))
                i, f = torch.exp(a_i - m), torch.exp(a - m)
                c, n = f * c + i * torch.tanh(a_g), f * n + i
                h = torch.sigmoid(a_o) * c / n
            else:
                before = h, c
                if self.name == "peephole":
                    a_i, a_f = a_i + p["P_l0"][0] * c, a_f + p["P_l0"][1] * c
                c = torch.sigmoid(a_f) * c + torch.sigmoid(a_i) * torch.tanh(a_g)
                if self.name == "peephole":
                    a_o = a_o + p["P_l0"][2] * c
                shown = c
                if self.name == "lstm layer_norm":
                    shown = torch.nn.functional.layer_norm(c, (H,), p["ln_c_l0"], p["ln_c_b_l0"])
                h = torch.sigmoid(a_o) * torch.tanh(shown)
                if self.name == "lstm zoneout":
                    keep_h, keep_c = (
                        (torch.rand_like(zero) < 0.1).to(x.dtype) if masks else torch.full_like(zero, 0.1) for _ in "hc"
                    )
                    h, c = keep_h * before[0] + (1 - keep_h) * h, keep_c * before[1] + (1 - keep_c) * c
            steps.append(h)
        return torch.stack(steps, dim=1)


def median_ms(times: list[float]) -> float:
    return statistics.median(times) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="a peer and row, roughly")
    parser.add_argument("--rows", nargs="+", default=["1x100x64x64", "16x100x64x64", "32x100x128x128"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    for row in options.rows:
        N, T, I, H = (int(part) for part in row.split("x"))
        x = rng.standard_normal((N, T, I)).astype(np.float32)
        dy = np.ones((N, T, H), dtype=np.float32)
        layers = {name: build(name, I, H, options.threads) for name in CELLS}
        calls = {name: ours(layer, x, dy) for name, layer in layers.items()}
        forward = interleave({name: call[0] for name, call in calls.items()}, seconds=options.seconds)
        training = interleave({name: call[1] for name, call in calls.items()}, seconds=options.seconds)
        print(f"\n{row}, {options.threads} thread(s): ms and ratio to lstm; the same per multiply-add of the products")
        print(f"| {'cell':18} | inference | / lstm | per product | forward+backward | / lstm | per product |")
        print("|---|---|---|---|---|---|---|")
        for name in CELLS:
            work = products("lstm", I, H) / products(name, I, H)
            a, b = median_ms(forward[name]), median_ms(training[name])
            ra, rb = a / median_ms(forward["lstm"]), b / median_ms(training["lstm"])
            print(f"| {name:18} | {a:.3f} | {ra:.2f} | {ra * work:.2f} | {b:.3f} | {rb:.2f} | {rb * work:.2f} |")
        print(f"\n{row}: PyTorch loop (eager) over ours")
        print("| cell               | inference | forward+backward |")
        print("|---|---|---|")
        for name in LOOPS:
            loop, xt, dyt = Loop(name, layers[name]), torch.from_numpy(x), torch.from_numpy(dy)
            xg = xt.clone().requires_grad_()
            leaves = [xg, *loop.parameters()]

            def loop_inference(loop: Any = loop, xt: Any = xt) -> Any:
                with torch.inference_mode():
                    return loop(xt, False)

            def loop_training(loop: Any = loop, xg: Any = xg, leaves: Any = leaves, dyt: Any = dyt) -> Any:
                return torch.autograd.grad(loop(xg, True), leaves, dyt)

            error = np.abs(loop_inference().numpy() - layers[name].forward(x)[0]).max()
            # Layer normalisation multiplies rounding where the deviation is small.
            assert error < (1e-3 if "norm" in name else 1e-4), f"{name}: outputs differ by {error}"
            a = interleave({"ours": calls[name][0], "torch": loop_inference}, seconds=options.seconds)
            b = interleave({"ours": calls[name][1], "torch": loop_training}, seconds=options.seconds)
            ratio = [median_ms(times["torch"]) / median_ms(times["ours"]) for times in (a, b)]
            print(f"| {name:18} | {ratio[0]:.1f} | {ratio[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
