"""Exchange of weights with PyTorch, Keras and ONNX; `Recurrent.from_torch` and its siblings are the way in.

One module a partner, each loaded on first use and none importing its partner before it is needed:

- `torch`: nn.LSTM, nn.GRU, nn.RNN, or their state dicts, both ways
- `keras`: LSTM, GRU, SimpleRNN, Bidirectional and stacks of them, reading
- `onnx_import`, `onnx_export`: the ops LSTM, GRU and RNN, both ways; `onnx_graph` evaluates what surrounds them
- `common`: what they share, first of all `Weights`, the description that every reader fills in
"""
