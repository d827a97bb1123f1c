"""The layer itself: forward, backward, and gradient descent written by hand. Needs NumPy only.

A network learns to echo its input two steps later.
"""

import numpy as np

import lstmcore

rng = np.random.default_rng(0)
layer = lstmcore.Recurrent("lstm", input_size=1, hidden_size=16, seed=0)
readout = rng.normal(0, 0.2, (1, 16)).astype("float32")
weights = {**layer.parameters, "readout": readout}  # views: changing these changes the layer
average = {name: np.zeros_like(w) for name, w in weights.items()}

for step in range(401):
    x = rng.uniform(-1, 1, (32, 12, 1)).astype("float32")  # (sequences, steps, features)
    y, state, tape = layer.forward(x, training=True)
    error = y[:, 2:] @ readout.T - x[:, :-2]
    loss = float((error**2).mean())

    d_prediction = 2 * error / error.size
    dy = np.zeros_like(y)
    dy[:, 2:] = d_prediction @ readout
    gradients = layer.backward(tape, dy).parameters
    gradients["readout"] = np.tensordot(d_prediction, y[:, 2:], axes=((0, 1), (0, 1)))

    for name, w in weights.items():  # RMSProp
        average[name] = 0.95 * average[name] + 0.05 * gradients[name] ** 2
        w -= 0.004 * gradients[name] / (np.sqrt(average[name]) + 1e-6)
    if step % 100 == 0:
        print(f"step {step:3d}: mean squared error {loss:.4f}")

assert loss < 0.05
