"""Which cells solve the adding problem over 400 steps? Trains each and draws adding_problem.png.

Add the two marked numbers of a sequence; the answer 1 for everything has a mean squared error of 1/6. Every block of
training is fresh data, so that nothing can be learnt by heart. Takes some minutes. Needs: pip install "lstmcore[demo]".

    python docs/figures/adding_problem.py [folder] [cell …]
"""

import sys
import time
from pathlib import Path

import numpy as np

from lstmcore import SequenceRegressor
from lstmcore.datasets import adding_problem

LENGTH, BLOCK, BLOCKS, SOLVED = 400, 1600, 100, 0.01
CELLS = ("lstm", "gru", "peephole", "slstm", "elman")

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
cells = tuple(sys.argv[2:]) or CELLS
X_test, y_test = adding_problem(1000, LENGTH, random_state=2**31)
curves = {}
for cell in cells:
    start = time.perf_counter()
    model = SequenceRegressor(
        cell, hidden_size=64, learning_rate_init=1e-2, clip_norm=1.0, batch_size=32, standardize=False, random_state=0
    )
    errors = []
    for block in range(BLOCKS):
        model.partial_fit(*adding_problem(BLOCK, LENGTH, random_state=block))
        errors.append(float(np.mean((model.predict(X_test) - y_test) ** 2)))
        if max(errors[-3:]) < SOLVED and len(errors) >= 3:
            break
    curves[cell] = errors
    verdict = "solved" if errors[-1] < SOLVED else "not solved"
    print(f"{cell:10} {verdict} after {len(errors) * BLOCK:6} sequences, test MSE {errors[-1]:.4f}, "
          f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip

import matplotlib  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for (cell, errors), style in zip(curves.items(), ("-", "--", "-.", ":", "-"), strict=False):
    axes.semilogy(np.arange(1, len(errors) + 1) * BLOCK / 1000, errors, style, label=cell)
axes.axhline(1 / 6, color="0.6", linewidth=0.8)
axes.text(axes.get_xlim()[1], 1 / 6, "always answering 1 ", va="top", ha="right", fontsize=8, color="0.4")
axes.axhline(SOLVED, color="0.6", linewidth=0.8, linestyle="dotted")
axes.text(axes.get_xlim()[1], SOLVED, "solved ", va="bottom", ha="right", fontsize=8, color="0.4")
axes.set(
    xlabel="training sequences (thousands)", ylabel="test mean squared error", title=f"Adding problem, T = {LENGTH}"
)
axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.02))
figure.savefig(folder / "adding_problem.png", dpi=150)
