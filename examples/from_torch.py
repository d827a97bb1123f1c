"""Take over an LSTM trained in PyTorch, and give one back. Needs: pip install torch."""

import numpy as np
import torch

import lstmcore

module = torch.nn.LSTM(input_size=12, hidden_size=32, num_layers=2, bidirectional=True, batch_first=True)
layer = lstmcore.Recurrent.from_torch(module)

x = np.random.default_rng(0).standard_normal((4, 20, 12)).astype("float32")
y, state = layer.forward(x)
with torch.no_grad():
    expected, (h, c) = module(torch.from_numpy(x))
print("largest difference of outputs:", float(np.abs(y - expected.numpy()).max()))
print("largest difference of final cell states:", float(np.abs(state["c"] - c.numpy()).max()))

back = layer.to_torch()  # a torch.nn.LSTM again
with torch.no_grad():
    again = back(torch.from_numpy(x))[0].numpy()
assert np.allclose(again, y, atol=1e-5)
