#!/usr/bin/env python3
"""Tree-LSTM, forward and backward, against PyTorch in the two ways that its users write it, in one run.

    python bench/trees.py [--threads 1] [--sizes 64 128 256] [--trees 25 256] [--nodes 50] [--seconds 1]

"loop": node by node, as most published code has it; timed on a sixteenth of the trees, its time times 16. "levels": all
nodes of a depth of all trees as one product, with what the trees' shapes tell (indices, sorted x) prepared outside
the clock. lstmcore gets features and parents, and sorts inside the clock. "GFLOP/s": products that a pass cannot do
without, over its time. Results are compared before anything is timed.
Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from clock import interleave

import lstmcore

Pass = Callable[[], "list[np.ndarray]"]


def random_forest(trees: int, nodes: int, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Parents, and position among siblings: each new node takes a free place of the tree, all equally likely."""
    parents, positions = [], []
    for tree in range(trees):
        start = tree * nodes
        parents.append(-1)
        positions.append(-1)
        free = [(start, place) for place in range(most)]
        for node in range(start + 1, start + nodes):
            parent, place = free.pop(rng.integers(len(free)))
            parents.append(parent)
            positions.append(place)
            free += [(node, place) for place in range(most)]
    return np.array(parents), np.array(positions)


def weights(layer: Any) -> list[torch.Tensor]:
    return [torch.from_numpy(np.array(layer.parameters[name])).requires_grad_() for name in ("W", "U", "b")]


def ours(layer: Any, x: np.ndarray, parents: np.ndarray, positions: np.ndarray | None, dh: np.ndarray) -> Pass:
    def run() -> list[np.ndarray]:
        h, _, tape = layer.forward(x, parents, positions, training=True)
        gradients = layer.backward(tape, dh)
        return [h, gradients.x, *gradients.parameters.values()]

    return run


def loop(layer: Any, x: np.ndarray, parents: np.ndarray, positions: np.ndarray | None, dh: np.ndarray) -> Pass:
    """One node at a time, children first."""
    W, U, b = weights(layer)
    H = layer.hidden_size
    children: list[list[int]] = [[] for _ in parents]
    for node, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(node)
    given, dh_given = torch.from_numpy(x), torch.from_numpy(dh)
    zero = torch.zeros(H)

    def child_sum(xs: torch.Tensor) -> list[torch.Tensor]:
        W_iou, b_iou = torch.cat([W[:H], W[2 * H :]]), torch.cat([b[:H], b[2 * H :]])
        U_iou, W_f, U_f, b_f = torch.cat([U[:H], U[2 * H :]]), W[H : 2 * H], U[H : 2 * H], b[H : 2 * H]
        h: list[Any] = [None] * len(x)
        c: list[Any] = [None] * len(x)
        for m in reversed(range(len(x))):  # children have larger numbers
            below = children[m]
            a = W_iou @ xs[m] + b_iou
            kept: Any = 0
            if below:
                h_k = torch.stack([h[k] for k in below])
                a = a + U_iou @ h_k.sum(0)
                f = torch.sigmoid(W_f @ xs[m] + h_k @ U_f.T + b_f)
                kept = (f * torch.stack([c[k] for k in below])).sum(0)
            i, u, o = a.split(H)
            c[m] = torch.sigmoid(i) * torch.tanh(u) + kept
            h[m] = torch.sigmoid(o) * torch.tanh(c[m])
        return h

    def nary(xs: torch.Tensor) -> list[torch.Tensor]:
        A = layer.arity
        h: list[Any] = [None] * len(x)
        c: list[Any] = [None] * len(x)
        for m in reversed(range(len(x))):
            a = W @ xs[m] + b
            i, f, u, o = a.split(H)
            kept: Any = 0
            if children[m]:
                assert positions is not None
                places = {int(positions[k]): k for k in children[m]}
                fed = U @ torch.cat([h[places[l]] if l in places else zero for l in range(A)])
                i, u, o = i + fed[:H], u + fed[(1 + A) * H : (2 + A) * H], o + fed[(2 + A) * H :]
                for l, k in places.items():
                    kept = kept + torch.sigmoid(f + fed[(1 + l) * H : (2 + l) * H]) * c[k]
            c[m] = torch.sigmoid(i) * torch.tanh(u) + kept
            h[m] = torch.sigmoid(o) * torch.tanh(c[m])
        return h

    def run() -> list[np.ndarray]:
        xs = given.clone().requires_grad_()
        h = torch.stack((nary if layer.arity else child_sum)(xs))
        gradients = torch.autograd.grad(h, [xs, W, U, b], dh_given)
        return [t.detach().numpy() for t in (h, *gradients)]

    return run


def levels(layer: Any, x: np.ndarray, parents: np.ndarray, positions: np.ndarray | None, dh: np.ndarray) -> Pass:
    """All nodes of one depth at once: their children are exactly the nodes one deeper."""
    W, U, b = weights(layer)
    H, A = layer.hidden_size, layer.arity
    M = len(parents)
    depth = np.zeros(M, dtype=int)
    for node in range(M):
        if parents[node] >= 0:
            depth[node] = depth[parents[node]] + 1
    leaf = np.ones(M, dtype=bool)
    leaf[parents[parents >= 0]] = False
    order = np.lexsort((leaf, depth))  # by depth, nodes with children first
    row = np.argsort(order)
    bounds = np.searchsorted(depth[order], np.arange(depth.max() + 2))
    plan = []
    for first, last in itertools.pairwise(bounds):
        nodes = order[first:last]
        inner = int((~leaf[nodes]).sum())
        above = torch.from_numpy(row[parents[nodes]] - (bounds[depth[nodes[0]] - 1] if depth[nodes[0]] else 0))
        places = torch.from_numpy(positions[nodes]) if positions is not None else None
        plan.append((slice(int(first), int(last)), inner, above, places))
    given = torch.from_numpy(x[order])
    dh_given = [torch.from_numpy(dh[order])[rows] for rows, *_ in plan]
    back = torch.from_numpy(row)

    def forward(xs: torch.Tensor) -> list[torch.Tensor]:
        projected = (torch.addmm(b, xs, W.T)).split([rows.stop - rows.start for rows, *_ in plan])
        U_iou = torch.cat([U[:H], U[-2 * H :]]).T
        U_f = U[H : -2 * H].T
        out: list[torch.Tensor] = []
        h, c, edge = xs.new_zeros(0, H), xs.new_zeros(0, H), (torch.zeros(0, dtype=torch.long), None)
        for level in reversed(range(len(plan))):
            _, inner, above, places = plan[level]
            i, f, u, o = projected[level].split(H, dim=1)
            a = torch.cat([i, u, o], dim=1)
            kept = None
            if inner:
                below, at = edge
                if A is None:
                    fed = xs.new_zeros(inner, H).index_add(0, below, h)
                    forget = torch.sigmoid(f[:inner].index_select(0, below) + h @ U_f)
                else:
                    fed = xs.new_zeros(inner * A, H).index_copy(0, below * A + at, h).view(inner, A * H)
                    pre = (fed @ U_f).view(inner * A, H).index_select(0, below * A + at)
                    forget = torch.sigmoid(f[:inner].index_select(0, below) + pre)
                a = torch.cat([torch.addmm(a[:inner], fed, U_iou), a[inner:]])
                kept = xs.new_zeros(len(a), H).index_add(0, below, forget * c)
            i, u, o = a.split(H, dim=1)
            c = torch.sigmoid(i) * torch.tanh(u)
            c = c if kept is None else c + kept
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
            edge = (above, places)
        return out[::-1]

    def run() -> list[np.ndarray]:
        xs = given.clone().requires_grad_()
        h = forward(xs)
        dx, *gradients = torch.autograd.grad(h, [xs, W, U, b], dh_given)
        return [t.detach().numpy() for t in (torch.cat(h)[back], dx[back], *gradients)]

    return run


def compare(results: dict[str, list[np.ndarray]]) -> None:
    expected = results.pop("ours")
    for name, values in results.items():
        for value, ours_value in zip(values, expected, strict=True):
            error = np.abs(value - ours_value).max() / np.abs(ours_value).max()
            assert error < 1e-4, f"{name} differs by {error:.2g}"


def products(layer: Any, parents: np.ndarray) -> float:
    """Floating-point operations of forward and backward: of W, less the forget gates of leaves, and of U for children
    that exist."""
    I, H = layer.input_size, layer.hidden_size
    children = np.bincount(parents[parents >= 0], minlength=len(parents))
    inner, edges = int((children > 0).sum()), int(children.sum())
    node = (3 * inner + edges) if layer.arity is None else int((children * (3 + children)).sum())
    return 2.0 * 3 * H * ((3 * len(parents) + inner) * I + node * H)


def measure(kind: str, H: int, trees: int, options: argparse.Namespace) -> tuple[float, float, float, float]:
    """Median milliseconds of ours, loop and levels for the whole forest; GFLOP/s of ours."""
    rng = np.random.default_rng(0)
    arity = 2 if kind == "nary" else None
    layer = lstmcore.TreeRecurrent(kind, input_size=H, hidden_size=H, arity=arity, n_threads=options.threads)
    parents, positions = random_forest(trees, options.nodes, arity or 3, rng)
    x = rng.standard_normal((len(parents), H)).astype(np.float32)
    dh = rng.standard_normal((len(parents), H)).astype(np.float32)
    places = positions if arity else None
    part = slice(0, max(1, trees // 16) * options.nodes)
    some = (x[part], parents[part], None if places is None else places[part], dh[part])
    compare({"ours": ours(layer, *some)(), "loop": loop(layer, *some)(), "levels": levels(layer, *some)()})
    calls: dict[str, Callable[[], object]] = {
        "ours": ours(layer, x, parents, places, dh),
        "levels": levels(layer, x, parents, places, dh),
        "loop": loop(layer, *some),
    }
    times = {name: statistics.median(t) * 1e3 for name, t in interleave(calls, seconds=options.seconds).items()}
    gflops = products(layer, parents) / times["ours"] / 1e6
    return times["ours"], times["loop"] * len(parents) / len(some[1]), times["levels"], gflops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], help="I = H")
    parser.add_argument("--trees", type=int, nargs="+", default=[25, 256], help="in a batch; 25 is that of the paper")
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each peer, at least")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"trees of {options.nodes} nodes, forward and backward, {options.threads} thread(s), "
          f"{lstmcore.build_info()['isa']}, torch {torch.__version__}")  # fmt: skip
    print(f"{'kind':<10} {'trees':>5} {'I = H':>5} {'ours ms':>9} {'loop ms':>9} {'levels ms':>9} {'vs loop':>8} "
          f"{'vs levels':>9} {'GFLOP/s':>8}")  # fmt: skip
    for kind, trees, H in itertools.product(("child_sum", "nary"), options.trees, options.sizes):
        mine, nodewise, batched, gflops = measure(kind, H, trees, options)
        print(f"{kind:<10} {trees:>5} {H:>5} {mine:>9.2f} {nodewise:>9.0f} {batched:>9.2f} {nodewise / mine:>8.1f} "
              f"{batched / mine:>9.2f} {gflops:>8.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
