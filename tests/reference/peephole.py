"""LSTM whose gates see the cell (Gers & Schmidhuber, 2000), and its variants (Greff et al., 2017).

    a_i += P_i ⊙ c₋     a_f += P_f ⊙ c₋     a_o += P_o ⊙ c

and otherwise as lstm.py, where these terms stand beside the rest of the equations. P has a row for each of i, f, o that
the variant has. Variant NP has no peepholes, and is the LSTM. With CIFG, f = 1 − i sees the cell through i.
"""

from __future__ import annotations

from . import lstm
from .lstm import backward, forward, gates, states
from .products import Sizes

__all__ = ["backward", "forward", "gates", "states", "tensors"]


def tensors(options: dict, s: Sizes) -> dict[str, tuple[int, ...]]:
    rows = 0 if lstm.variant_of(options) == "NP" else len(lstm.peepholes(options))
    return lstm.tensors(options, s, peephole_rows=rows)
