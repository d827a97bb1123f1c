"""Forecast the next frames of flying digits with a convolutional LSTM, small enough to train in seconds.

docs/frames.md has the whole experiment. Needs: pip install "lstmcore[sklearn]".
"""

import tempfile
from pathlib import Path

import lstmcore
from lstmcore.datasets import make_moving_digits

N_SEEN, HORIZON = 6, 4

X_train = make_moving_digits(160, N_SEEN + HORIZON, size=24, n_digits=1, split="train", random_state=0)
X_test = make_moving_digits(40, N_SEEN + HORIZON, size=24, n_digits=1, split="test", random_state=1)

forecaster = lstmcore.FrameForecaster(
    hidden_channels=16,
    num_layers=1,
    patch_size=2,  # 24 × 24 pixels become 12 × 12 with 4 channels
    horizon=HORIZON,
    loss="cross_entropy",  # frames are in [0, 1]
    learning_rate_init=1e-2,
    max_iter=12,
    random_state=0,
)
forecaster.fit(X_train)  # the last HORIZON frames of each sequence are the target
print(f"skill against repeating the last frame: {forecaster.score(X_test):.3f}")

future = forecaster.predict(X_test[:, :N_SEEN])
print("forecast:", future.shape)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "frames.safetensors"
    forecaster.save(path)
    assert (lstmcore.load(path).predict(X_test[:, :N_SEEN]) == future).all()

# The same layers by themselves: forward, backward and single steps.
layer = lstmcore.ConvRecurrent("peephole", channels=1, hidden_channels=8, height=24, width=24, kernel_size=5)
y, state, tape = layer.forward(X_train[:2, :, None], training=True)
gradients = layer.backward(tape, dy=y)
print("outputs:", y.shape, "gradient of the peepholes:", gradients.parameters["P_l0"].shape)
