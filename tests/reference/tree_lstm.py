"""The tree-LSTM of Tai, Socher & Manning (2015), node by node, after equations 2 to 14 of the paper.

Children are lists of (position, node); kind "child_sum" does not look at positions. Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .activations import sigmoid


@dataclass
class Node:
    """What forward leaves of one node."""

    children: list[tuple[int, int]]
    i: np.ndarray
    f: dict[int, np.ndarray]  # child node -> forget gate
    u: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray


def children_of(parents: np.ndarray, positions: np.ndarray | None) -> list[list[tuple[int, int]]]:
    children: list[list[tuple[int, int]]] = [[] for _ in parents]
    for node, parent in enumerate(parents):
        if parent >= 0:
            siblings = children[parent]
            siblings.append((len(siblings) if positions is None else int(positions[node]), node))
    return children


def bottom_up(parents: np.ndarray, children: list[list[tuple[int, int]]]) -> list[int]:
    """Every node after its children."""
    order: list[int] = []
    stack = [node for node, parent in enumerate(parents) if parent < 0]
    while stack:
        node = stack.pop()
        order.append(node)
        stack += [child for _, child in children[node]]
    return order[::-1]


class TreeLstm:
    def __init__(self, kind: str, hidden: int, arity: int | None, parameters: dict[str, np.ndarray]) -> None:
        self.kind, self.H, self.A = kind, hidden, arity or 1
        H, A = self.H, self.A
        W, b = (np.asarray(parameters[name], dtype=np.float64).reshape(4, H, -1) for name in ("W", "b"))
        U = np.asarray(parameters["U"], dtype=np.float64)
        if kind == "child_sum":
            blocks = U.reshape(4, 1, H, H)
            self.U = {"i": blocks[0], "u": blocks[2], "o": blocks[3]}
            self.U_f = blocks[1:2]
        else:  # [gate or child k, child l, H, H]
            blocks = U.reshape(3 + A, H, A, H).transpose(0, 2, 1, 3)
            self.U = {"i": blocks[0], "u": blocks[1 + A], "o": blocks[2 + A]}
            self.U_f = blocks[1 : 1 + A]
        self.W = dict(zip("ifuo", W, strict=True))
        self.b = dict(zip("ifuo", b[:, :, 0], strict=True))

    def forward(
        self, x: np.ndarray, parents: np.ndarray, positions: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        self.x = np.asarray(x, dtype=np.float64)
        children = children_of(parents, positions)
        self.order = bottom_up(parents, children)
        self.nodes: dict[int, Node] = {}
        for m in self.order:
            h = {k: self.nodes[k].h for _, k in children[m]}
            pre = {gate: self.W[gate] @ self.x[m] + self.b[gate] for gate in "ifuo"}
            for gate, blocks in self.U.items():
                for place, k in children[m]:
                    pre[gate] = pre[gate] + self._block(blocks, place) @ h[k]
            i, u, o = sigmoid(pre["i"]), np.tanh(pre["u"]), sigmoid(pre["o"])
            c = i * u
            f = {}
            for place, k in children[m]:
                a = pre["f"].copy()
                if self.kind == "child_sum":
                    a += self.U_f[0, 0] @ h[k]
                else:
                    for other, l in children[m]:
                        a += self.U_f[place, other] @ h[l]
                f[k] = sigmoid(a)
                c = c + f[k] * self.nodes[k].c
            self.nodes[m] = Node(children[m], i, f, u, o, c, o * np.tanh(c))
        rows = range(len(self.x))
        return np.array([self.nodes[m].h for m in rows]), np.array([self.nodes[m].c for m in rows])

    def backward(self, dh: np.ndarray, dc: np.ndarray | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        dh = np.array(dh, dtype=np.float64)
        dc = np.zeros_like(dh) if dc is None else np.array(dc, dtype=np.float64)
        dx = np.zeros_like(self.x)
        dW = {gate: np.zeros_like(self.W[gate]) for gate in "ifuo"}
        db = {gate: np.zeros(self.H) for gate in "ifuo"}
        dU = {gate: np.zeros_like(blocks) for gate, blocks in self.U.items()}
        dU_f = np.zeros_like(self.U_f)
        for m in reversed(self.order):
            node = self.nodes[m]
            tanh_c = np.tanh(node.c)
            dc[m] += dh[m] * node.o * (1 - tanh_c**2)
            d = {
                "i": dc[m] * node.u * node.i * (1 - node.i),
                "f": np.zeros(self.H),
                "u": dc[m] * node.i * (1 - node.u**2),
                "o": dh[m] * tanh_c * node.o * (1 - node.o),
            }
            for place, k in node.children:
                f = node.f[k]
                d_f = dc[m] * self.nodes[k].c * f * (1 - f)
                dc[k] += dc[m] * f
                d["f"] += d_f
                if self.kind == "child_sum":
                    dU_f[0, 0] += np.outer(d_f, self.nodes[k].h)
                    dh[k] += self.U_f[0, 0].T @ d_f
                else:
                    for other, l in node.children:
                        dU_f[place, other] += np.outer(d_f, self.nodes[l].h)
                        dh[l] += self.U_f[place, other].T @ d_f
            for gate, blocks in self.U.items():
                for place, k in node.children:
                    self._block(dU[gate], place)[...] += np.outer(d[gate], self.nodes[k].h)
                    dh[k] += self._block(blocks, place).T @ d[gate]
            for gate in "ifuo":
                dW[gate] += np.outer(d[gate], self.x[m])
                db[gate] += d[gate]
                dx[m] += self.W[gate].T @ d[gate]
        blocks = np.concatenate([dU["i"][None], dU_f, dU["u"][None], dU["o"][None]])
        gradients = {
            "W": np.concatenate([dW[gate] for gate in "ifuo"]),
            "U": blocks.transpose(0, 2, 1, 3).reshape(blocks.shape[0] * self.H, -1),
            "b": np.concatenate([db[gate] for gate in "ifuo"]),
        }
        return dx, gradients

    def _block(self, blocks: np.ndarray, place: int) -> np.ndarray:
        return blocks[0 if self.kind == "child_sum" else place]
