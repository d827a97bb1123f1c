"""How far gradients reach back, cell by cell, before any training; draws gradient_flow.png.

Gradients of a simple recurrent network vanish within some dozen steps (Hochreiter, 1991; Bengio, Simard & Frasconi,
1994); the memory cell of 1997 keeps them for as long as one likes, and a forget gate decides for how long. The picture
goes into the folder given as an argument, else into a temporary one. Needs: pip install "lstmcore[plot]".
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import lstmcore

T, H = 150, 32
X = np.random.default_rng(0).normal(size=(8, T, 4))


def layer(cell, forget_bias=None):
    made = lstmcore.Recurrent(cell, input_size=4, hidden_size=H, seed=1)
    if forget_bias is not None:
        made.parameters["b_l0"][H : 2 * H] = forget_bias  # gates are in the order of made.gates: i, f, g, o
    return made


# Label, layer, the state that carries the memory, line.
rows = [
    ("elman", layer("elman"), "h", {"color": "#d55e00"}),
    ("gru", layer("gru"), "h", {"color": "#cc79a7"}),
    ("lstm, forget bias 1", layer("lstm"), "c", {"color": "#56b4e9"}),
    ("lstm, forget bias 5", layer("lstm", forget_bias=5.0), "c", {"color": "#0072b2"}),
    ("lstm1997", layer("lstm1997"), "s", {"color": "#009e73", "linestyle": "--"}),
]

figure = Figure(figsize=(9.6, 4.2), layout="constrained")
left, right = figure.subplots(1, 2, sharex=True)
for label, recurrent, carried, line in rows:
    flow = lstmcore.gradient_flow(recurrent, X)
    memory, hidden = flow.layers[0].jacobian[carried][carried], flow.layers[0].loss["h"]
    left.plot(flow.lags, memory, linewidth=2, label=f"{label} ({carried})", **line)
    right.plot(flow.lags, hidden / hidden[0], linewidth=2, **line)
    print(f"{label:20} after 100 steps: memory {memory[100]:.1e}, gradient of the loss {hidden[100] / hidden[0]:.1e}")

left.set_title("Jacobian of the carried state,\n‖∂state$_T$ / ∂state$_t$‖ (1: the identity)", fontsize=11)
right.set_title("gradient of a loss at T with respect to h,\n‖∂loss / ∂h$_t$‖ / ‖∂loss / ∂h$_T$‖", fontsize=11)
for axes in (left, right):
    axes.set_yscale("log")
    axes.set_ylim(1e-12, 3e2)
    axes.set_xlim(0, T - 1)
    axes.set_xlabel("lag T − t")
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=5)

path = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()) / "gradient_flow.png"
figure.savefig(path, dpi=120)
print("wrote", path)
