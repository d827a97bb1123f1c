"""A decoder that looks at a source while it steps, forward and backward, one sequence at a time.

Additive attention (Bahdanau, Cho & Bengio, 2015), before the step:
    s_j = vᵀ tanh(W_q h₋ + k_j)   a = softmax(s)   c = Σ a_j values_j   h = layers([x; c; (o₋)])   o = tanh(W_o [c; h])
Dot attention (Luong, Pham & Manning, 2015), after the step:
    h = layers([x; (o₋)])   s_j = hᵀ k_j   a = softmax(s)   c = Σ a_j values_j   o = tanh(W_o [c; h])
Without attention o = h. (o₋) is there with input feeding only. h is that of the last layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .driver import Stack
from .products import Arrays


@dataclass
class Decoder:
    """Weights: "table", "query", "score", "output", "head_W", "head_b", those of them that are needed."""

    stack: Stack
    parameters: Arrays
    weights: Arrays
    attention: str | None = None
    input_feeding: bool = False

    def attend(self, query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.attention == "additive":
            scores = np.tanh(self.weights["query"] @ query + keys) @ self.weights["score"]
        else:
            scores = keys @ query
        terms = np.exp(scores - scores.max())
        a = terms / terms.sum()
        return a, a @ values


@dataclass
class Run:
    """One sequence: what each step saved."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    state: Arrays = field(default_factory=dict)

    @property
    def outputs(self) -> np.ndarray:
        return np.array([step["o"] for step in self.steps])

    @property
    def attended(self) -> np.ndarray:
        return np.array([step["a"] for step in self.steps])


def forward(
    d: Decoder,
    tokens: np.ndarray,
    keys: np.ndarray | None,
    values: np.ndarray | None,
    state: Arrays,
    o: np.ndarray | None = None,
    sample: np.ndarray | None = None,
) -> Run:
    """tokens (T,), keys (S, A), values (S, E), state: (L, width) by name, o (P,), sample (T,)."""
    w, stack, run = d.weights, d.stack, Run()
    layers = [{name: value[layer][None] for name, value in state.items()} for layer in range(stack.num_layers)]
    o = np.zeros(stack.output_size) if o is None else o
    for t, token in enumerate(tokens.tolist()):
        if t and sample is not None and sample[t]:
            token = int(np.argmax(w["head_W"] @ o + w["head_b"]))
        step: dict[str, Any] = {"before": layers[-1]["h"][0]}
        parts = [w["table"][token]]
        if d.attention == "additive":
            step["a"], step["c"] = d.attend(step["before"], keys, values)
            parts.append(step["c"])
        if d.input_feeding:
            parts.append(o)
        x = np.concatenate(parts)[None]
        step["saved"] = []
        for layer in range(stack.num_layers):
            p = stack.of_run(d.parameters, layer, f"_l{layer}")
            layers[layer], kept = stack.module.forward(p, x, layers[layer], stack.options)
            step["saved"].append(kept)
            x = layers[layer]["h"]
        step["h"] = h = x[0]
        if d.attention == "dot":
            step["a"], step["c"] = d.attend(h, keys, values)
        o = h if d.attention is None else np.tanh(w["output"] @ np.concatenate([step["c"], h]))
        step["o"] = o
        run.steps.append(step)
        run.tokens.append(token)
    run.state = {name: np.stack([layer[name][0] for layer in layers]) for name in state}
    return run


def backward(
    d: Decoder, run: Run, d_outputs: np.ndarray, keys: np.ndarray | None, values: np.ndarray | None
) -> dict[str, Any]:
    """Gradients by name: "layers", "state", "keys", "values", and those of weights."""
    w, stack = d.weights, d.stack
    P = stack.output_size
    M = w["table"].shape[1]
    out: dict[str, Any] = {"layers": {name: np.zeros_like(value) for name, value in d.parameters.items()}}
    out |= {name: np.zeros_like(value) for name, value in w.items() if not name.startswith("head")}
    if d.attention is not None:
        out |= {"keys": np.zeros_like(keys), "values": np.zeros_like(values)}
    d_layers = [{name: np.zeros((1, width)) for name, width in stack.states().items()} for _ in range(stack.num_layers)]
    d_feed = np.zeros(P)

    def attend_back(step: dict[str, Any], query: np.ndarray, d_c: np.ndarray) -> np.ndarray:
        a = step["a"]
        out["values"] += np.outer(a, d_c)
        d_a = values @ d_c
        d_s = a * (d_a - a @ d_a)
        if d.attention == "dot":
            out["keys"] += np.outer(d_s, query)
            return keys.T @ d_s
        u = np.tanh(w["query"] @ query + keys)
        out["score"] += u.T @ d_s
        d_u = np.outer(d_s, w["score"]) * (1.0 - u * u)
        out["keys"] += d_u
        out["query"] += np.outer(d_u.sum(axis=0), query)
        return w["query"].T @ d_u.sum(axis=0)

    for t in reversed(range(len(run.steps))):
        step = run.steps[t]
        d_o = d_outputs[t] + d_feed
        if d.attention is None:
            d_h = d_o
        else:
            d_z = d_o * (1.0 - step["o"] ** 2)
            out["output"] += np.outer(d_z, np.concatenate([step["c"], step["h"]]))
            both = w["output"].T @ d_z
            d_c, d_h = both[:-P], both[-P:]
            if d.attention == "dot":
                d_h = d_h + attend_back(step, step["h"], d_c)
        d_layers[-1]["h"] = d_layers[-1]["h"] + d_h
        for layer in reversed(range(stack.num_layers)):
            p = stack.of_run(d.parameters, layer, f"_l{layer}")
            d_x, d_layers[layer], of_step = stack.module.backward(
                p, d_layers[layer], step["saved"][layer], stack.options
            )
            for kind, value in of_step.items():
                out["layers"][f"{kind}_l{layer}"] += value
            if layer:
                d_layers[layer - 1]["h"] = d_layers[layer - 1]["h"] + d_x
        d_x = d_x[0]
        out["table"][run.tokens[t]] += d_x[:M]
        d_feed = d_x[-P:] if d.input_feeding else np.zeros(P)
        if d.attention == "additive":
            E = values.shape[1]
            d_layers[-1]["h"] = d_layers[-1]["h"] + attend_back(step, step["before"], d_c + d_x[M : M + E])
    out["state"] = {name: np.stack([layer[name][0] for layer in d_layers]) for name in stack.states()}
    return out
