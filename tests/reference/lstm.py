"""LSTM with forget gate (Gers, Schmidhuber & Cummins, 2000) and its variants (Greff et al., 2017).

i = σ(a_i)   f = σ(a_f)   g = tanh(a_g)   o = σ(a_o)      a = W x + R h₋ + b
c = f ⊙ c₋ + i ⊙ g
h = o ⊙ tanh(c)

NIG   i = 1                       NIAF  g = a_g
NFG   f = 1                       NOAF  h = o ⊙ c
NOG   o = 1                       CIFG  f = 1 − i
FGR   (a_i, a_f, a_o) += RG (i₋, f₋, o₋)

peepholes (tensor P, see peephole.py)
      a_i += P_i ⊙ c₋   a_f += P_f ⊙ c₋   a_o += P_o ⊙ c
projection (Sak, Senior & Beaufays, 2014)
      h = proj (o ⊙ tanh(c))
layer normalisation (Ba, Kiros & Hinton, 2016)
      a = ln_x ⊙ norm(W x) + ln_r ⊙ norm(R h₋) + b
      h = o ⊙ tanh(ln_c ⊙ norm(c) + ln_c_b)
"""

from __future__ import annotations

import numpy as np

from .activations import sigmoid
from .products import Arrays, Sizes, blocks_of, normalise, normalise_backward, preactivation, preactivation_backward

ABSENT = {"NIG": "i", "NFG": "f", "NOG": "o", "CIFG": "f"}
FED_BACK = ("i", "f", "o")


def variant_of(options: dict) -> str:
    return options.get("variant", "vanilla")


def gates(options: dict) -> tuple[str, ...]:
    return tuple(gate for gate in ("i", "f", "g", "o") if gate != ABSENT.get(variant_of(options)))


def peepholes(options: dict) -> tuple[str, ...]:
    """The gates that have a row in P."""
    return tuple(gate for gate in gates(options) if gate != "g")


def states(options: dict, s: Sizes) -> dict[str, int]:
    widths = {"h": s.P, "c": s.H}
    if variant_of(options) == "FGR":
        widths |= dict.fromkeys(FED_BACK, s.H)
    return widths


def tensors(options: dict, s: Sizes, peephole_rows: int = 0) -> dict[str, tuple[int, ...]]:
    rows = len(gates(options)) * s.H
    shapes: dict[str, tuple[int, ...]] = {"W": (rows, s.I), "R": (rows, s.P)}
    if variant_of(options) == "FGR":
        shapes["RG"] = (3 * s.H, 3 * s.H)
    shapes["b"] = (rows,)
    if peephole_rows:
        shapes["P"] = (peephole_rows, s.H)
    if options.get("proj_size", 0):
        shapes["proj"] = (s.P, s.H)
    if options.get("layer_norm", False):
        shapes |= {"ln_x": (rows,), "ln_r": (rows,), "ln_c": (s.H,), "ln_c_b": (s.H,)}
    return shapes


def forward(p: Arrays, x: np.ndarray, previous: Arrays, options: dict) -> tuple[Arrays, dict]:
    """One step: x (N, I). Returns the new state and what backward needs."""
    variant, names = variant_of(options), gates(options)
    c_previous = previous["c"]
    together, kept = preactivation(p, x, previous["h"])
    a = dict(zip(names, blocks_of(together, len(names)), strict=True))
    fed_back = None
    if variant == "FGR":
        fed_back = np.concatenate([previous[gate] for gate in FED_BACK], axis=1)
        for gate, value in zip(FED_BACK, blocks_of(fed_back @ p["RG"].T, 3), strict=True):
            a[gate] = a[gate] + value
    peephole = dict(zip(peepholes(options), p["P"], strict=True)) if "P" in p else {}
    for gate in ("i", "f"):
        if gate in peephole:
            a[gate] = a[gate] + peephole[gate] * c_previous

    one = np.ones_like(c_previous)
    i = one if variant == "NIG" else sigmoid(a["i"])
    f = one if variant == "NFG" else 1.0 - i if variant == "CIFG" else sigmoid(a["f"])
    g = a["g"] if variant == "NIAF" else np.tanh(a["g"])
    c = f * c_previous + i * g

    normed, scale = normalise(c) if "ln_c" in p else (c, None)
    argument = p["ln_c"] * normed + p["ln_c_b"] if "ln_c" in p else c
    squashed = argument if variant == "NOAF" else np.tanh(argument)
    if "o" in peephole:
        a["o"] = a["o"] + peephole["o"] * c
    o = one if variant == "NOG" else sigmoid(a["o"])
    inner = o * squashed
    state = {"h": inner @ p["proj"].T if "proj" in p else inner, "c": c}
    if variant == "FGR":
        state |= {"i": i, "f": f, "o": o}
    saved = {"c_previous": c_previous, "i": i, "f": f, "g": g, "o": o, "c": c, "squashed": squashed, "inner": inner}
    return state, {**saved, "kept": kept, "fed_back": fed_back, "normed": normed, "scale": scale, "peephole": peephole}


def backward(p: Arrays, d: Arrays, saved: dict, options: dict) -> tuple[np.ndarray, Arrays, Arrays]:
    """d: ∂loss/∂state. Returns ∂loss/∂x, ∂loss/∂(previous state) and the gradients of the parameters."""
    variant = variant_of(options)
    c_previous, i, f, g, o = (saved[name] for name in ("c_previous", "i", "f", "g", "o"))
    squashed, normed, peephole = saved["squashed"], saved["normed"], saved["peephole"]
    gradient: Arrays = {}
    d_a: Arrays = {}

    d_inner = d["h"]
    if "proj" in p:
        gradient["proj"] = d["h"].T @ saved["inner"]
        d_inner = d["h"] @ p["proj"]

    # o = σ(a_o), before c because a_o may depend on c.
    d_o = d_inner * squashed
    if variant == "FGR":
        d_o = d_o + d["o"]
    if variant != "NOG":
        d_a["o"] = d_o * o * (1.0 - o)

    # c: from the next step, from h, and from a_o.
    d_argument = d_inner * o
    if variant != "NOAF":
        d_argument = d_argument * (1.0 - squashed**2)
    d_c = d["c"] + d_argument
    if "ln_c" in p:
        gradient["ln_c"], gradient["ln_c_b"] = (d_argument * normed).sum(axis=0), d_argument.sum(axis=0)
        d_c = d["c"] + normalise_backward(d_argument * p["ln_c"], normed, saved["scale"])
    if "o" in peephole:
        d_c = d_c + peephole["o"] * d_a["o"]

    # c = f ⊙ c₋ + i ⊙ g
    d_i, d_f, d_g = d_c * g, d_c * c_previous, d_c * i
    if variant == "FGR":
        d_i, d_f = d_i + d["i"], d_f + d["f"]
    if variant == "CIFG":  # f = 1 − i
        d_i = d_i - d_f
    if variant != "NIG":
        d_a["i"] = d_i * i * (1.0 - i)
    if variant not in ("NFG", "CIFG"):
        d_a["f"] = d_f * f * (1.0 - f)
    d_a["g"] = d_g if variant == "NIAF" else d_g * (1.0 - g**2)

    d_previous = {"c": d_c * f}
    for gate in ("i", "f"):
        if gate in peephole:
            d_previous["c"] = d_previous["c"] + peephole[gate] * d_a[gate]
    if peephole:
        seen = {"i": c_previous, "f": c_previous, "o": saved["c"]}
        gradient["P"] = np.stack([(d_a[gate] * seen[gate]).sum(axis=0) for gate in peephole])
    if variant == "FGR":
        d_fed = np.concatenate([d_a[gate] for gate in FED_BACK], axis=1)
        gradient["RG"] = d_fed.T @ saved["fed_back"]
        d_previous |= dict(zip(FED_BACK, blocks_of(d_fed @ p["RG"], 3), strict=True))

    together = np.concatenate([d_a[gate] for gate in gates(options)], axis=1)
    d_x, d_previous["h"], of_products = preactivation_backward(p, together, saved["kept"])
    return d_x, d_previous, gradient | of_products
