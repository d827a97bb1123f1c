"""Forecasts of moving digits by FrameForecaster, by a plain LSTM and by repetition; draws moving_digits.png.

Frames of 32 × 32 pixels and not the generator's 64, six seen and six forecast, so that it takes minutes on two cores.
Every block of training is fresh data; the test digits are others than those of training. The plain LSTM reads
flattened frames and gives all six at once; it is trained on the same data and, to have a similar time, on seven times
as much beyond. Needs: pip install "lstmcore[demo]".

    python docs/figures/moving_digits.py [folder]
"""

import sys
import time
from pathlib import Path

import numpy as np

from lstmcore import FrameForecaster, SequenceRegressor
from lstmcore.datasets import make_moving_digits

SIZE, SEEN, HORIZON = 32, 6, 6
BLOCK, BLOCKS, MORE = 800, 24, 8


def frames(count, split, seed):
    return make_moving_digits(count, SEEN + HORIZON, SIZE, split=split, random_state=seed)


def flat(X):
    return X.reshape(len(X), X.shape[1], -1)


def train(name, model, fit, blocks):
    start, losses = time.perf_counter(), []
    for block in range(blocks):
        fit(model, frames(BLOCK, "train", block))
        losses.append(model.loss_)
        if (block + 1) % (blocks // 6) == 0:
            print(f"{name}: block {block + 1}, loss {losses[-1]:.4f}", flush=True)
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
convolutional = FrameForecaster(
    hidden_channels=24,
    num_layers=2,
    patch_size=2,
    horizon=HORIZON,
    learning_rate_init=5e-3,
    learning_rate="cosine",
    max_iter=BLOCKS,
    batch_size=4,
    random_state=0,
)
plain = SequenceRegressor(
    hidden_size=256,
    learning_rate_init=1e-3,
    learning_rate="cosine",
    max_iter=BLOCKS * MORE,
    batch_size=16,
    standardize=False,
    random_state=0,
)
train("FrameForecaster", convolutional, lambda model, X: model.partial_fit(X), BLOCKS)
train(
    "plain LSTM",
    plain,
    lambda model, X: model.partial_fit(flat(X[:, :SEEN]), flat(X[:, SEEN:]).reshape(len(X), -1)),
    BLOCKS * MORE,
)

X_test = frames(500, "test", 2**31)
past, future = X_test[:, :SEEN], X_test[:, SEEN:]
forecasts = {
    "FrameForecaster": convolutional.predict(past),
    "plain LSTM": plain.predict(flat(past)).reshape(future.shape),
    "last frame": np.repeat(past[:, -1:], HORIZON, axis=1),
    "mean frame": np.broadcast_to(frames(BLOCK, "train", 0).mean(axis=(0, 1)), future.shape),
}
print("squared error a frame, summed over pixels: all, then by step")
for name, forecast in forecasts.items():
    errors = np.square(forecast.astype(float) - future).sum(axis=(2, 3)).mean(axis=0)
    print(f"{name:16} {errors.mean():6.2f}  " + " ".join(f"{error:6.2f}" for error in errors), flush=True)
print(f"skill of FrameForecaster: {convolutional.score(X_test):.3f}")

import matplotlib  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

shown = (0, 1)
rows = [("truth", X_test), *((name, forecasts[name]) for name in ("FrameForecaster", "plain LSTM"))]
figure, grid = plt.subplots(
    len(shown) * len(rows),
    SEEN + HORIZON,
    figsize=(10, 0.86 * len(shown) * len(rows)),
    gridspec_kw={"wspace": 0.06, "hspace": 0.06},
)
for axes in grid.flat:
    axes.axis("off")
for i, n in enumerate(shown):
    for k, (name, values) in enumerate(rows):
        line = grid[i * len(rows) + k]
        first = 0 if name == "truth" else SEEN
        for t, image in enumerate(values[n], start=first):
            line[t].imshow(image, cmap="gray_r", vmin=0, vmax=1)
            line[t].add_patch(plt.Rectangle((-0.5, -0.5), SIZE, SIZE, fill=False, color="0.8", linewidth=0.6))
        line[max(first - 1, 0)].text(
            -0.15 if first == 0 else 0.9,
            0.5,
            name,
            transform=line[max(first - 1, 0)].transAxes,
            va="center",
            ha="right",
        )
for t in range(SEEN + HORIZON):
    text = f"seen {t + 1}" if t < SEEN else f"+{t - SEEN + 1}"
    grid[0, t].set_title(text, fontsize=9)
figure.savefig(folder / "moving_digits.png", dpi=110, bbox_inches="tight")
