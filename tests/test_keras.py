"""`Recurrent.from_keras`: against Keras itself where it is installed, against its equations in NumPy everywhere."""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Any

import numpy as np
import pytest

import lstmcore
from checking import assert_all_bitwise, assert_close

# --- Keras' equations -------------------------------------------------------------------------------------------------

GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-a))


def config(kind: str, size: int, **changes: Any) -> dict[str, Any]:
    """What get_config() of a layer says, as far as it matters."""
    found = {
        "name": kind.lower(),
        "units": size,
        "activation": "tanh",
        "use_bias": True,
        "return_sequences": True,
        "go_backwards": False,
        "stateful": False,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
    }
    if kind != "SimpleRNN":
        found["recurrent_activation"] = "sigmoid"
    if kind == "GRU":
        found["reset_after"] = True
    return {**found, **changes}


def arrays(kind: str, features: int, units: int, seed: int = 0, two_biases: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    columns = GATES[kind] * units
    shapes = [(features, columns), (units, columns), (2, columns) if two_biases else (columns,)]
    return [rng.standard_normal(shape) for shape in shapes]


def run(kind: str, weights: list[np.ndarray], x: np.ndarray, activation: Any = np.tanh) -> np.ndarray:
    """Outputs (N, T, units) of one direction: the steps of keras.layers.LSTMCell, GRUCell and SimpleRNNCell."""
    kernel, recurrent_kernel, bias = weights
    units = recurrent_kernel.shape[0]
    h = c = np.zeros((len(x), units))
    outputs = []
    for t in range(x.shape[1]):
        if kind == "LSTM":
            i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif kind == "GRU":
            of_input, of_h = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
            x_z, x_r, x_h = np.split(x[:, t] @ kernel + of_input, 3, axis=1)
            h_z, h_r, h_h = np.split(h @ recurrent_kernel + of_h, 3, axis=1)
            z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
            if bias.ndim == 1:
                h_h, r = (r * h) @ recurrent_kernel[:, 2 * units :], np.ones_like(r)
            h = z * h + (1 - z) * np.tanh(x_h + r * h_h)
        else:
            h = activation(x[:, t] @ kernel + h @ recurrent_kernel + bias)
        outputs.append(h)
    return np.stack(outputs, axis=1)


CASES = [
    ("LSTM", {}),
    ("GRU", {"reset_after": True}),
    ("GRU", {"reset_after": False}),
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "relu"}),
]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "changes"), CASES, ids=str)
def test_configs_and_arrays(kind: str, changes: dict[str, Any], bidirectional: bool) -> None:
    x = np.random.default_rng(1).standard_normal((2, 6, 3))
    units, D = 4, 1 + bidirectional
    activation = np.tanh if changes.get("activation") != "relu" else lambda a: np.maximum(a, 0.0)
    two_biases = changes.get("reset_after", False)
    configs, weights, above = [], [], x
    for k in range(2):
        one = config(kind, units, **changes)
        each = [arrays(kind, above.shape[2], units, 10 * k + d, two_biases) for d in range(D)]
        outputs = run(kind, each[0], above, activation)
        if bidirectional:
            backward = run(kind, each[1], above[:, ::-1], activation)[:, ::-1]
            outputs = np.concatenate([outputs, backward], axis=2)
            one = {"name": "both", "layer": {"class_name": kind, "config": one}, "merge_mode": "concat"}
        above = outputs
        configs.append(one)
        weights.append([array for direction in each for array in direction])
    layer = lstmcore.Recurrent.from_keras(configs, weights)
    assert (layer.num_layers, layer.bidirectional, layer.dtype) == (2, bidirectional, np.float64)
    assert_close(layer.forward(x)[0], above, 1e-12, "y")
    named = [{"class_name": "Bidirectional" if bidirectional else kind, "config": one} for one in configs]
    again = lstmcore.Recurrent.from_keras(named, weights)
    assert_all_bitwise(again.parameters, layer.parameters, "parameters")
    alone = lstmcore.Recurrent.from_keras(configs[0], weights[0], dtype="float32")
    assert (alone.num_layers, alone.dtype) == (1, np.float32)


@pytest.mark.parametrize("kind", GATES)
def test_without_bias(kind: str) -> None:
    layer = lstmcore.Recurrent.from_keras(config(kind, 4, use_bias=False), arrays(kind, 3, 4)[:2])
    assert not any(value.any() for name, value in layer.parameters.items() if name.startswith("b"))


def test_dropout() -> None:
    weights = arrays("GRU", 3, 4, two_biases=True)
    same, different = config("GRU", 4, dropout=0.25, recurrent_dropout=0.25), config("GRU", 4, dropout=0.25)
    assert lstmcore.Recurrent.from_keras(same, weights).variational_dropout == 0.25
    assert lstmcore.Recurrent.from_keras(same, weights, variational_dropout=0.5).variational_dropout == 0.5
    with pytest.raises(ValueError, match=r"dropout, recurrent_dropout: the layers have 0\.0, 0\.25.*variational_drop"):
        lstmcore.Recurrent.from_keras(different, weights)
    assert lstmcore.Recurrent.from_keras(different, weights, variational_dropout=0.0).variational_dropout == 0.0


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("LSTM", {"activation": "relu"}, "activation='relu' is not supported; expected 'tanh'"),
        ("LSTM", {"activation": {"class_name": "function", "config": "gelu"}}, "activation='gelu'"),
        ("LSTM", {"recurrent_activation": "hard_sigmoid"}, "recurrent_activation='hard_sigmoid'.*expected 'sigmoid'"),
        ("GRU", {"recurrent_activation": "relu"}, "recurrent_activation='relu'"),
        ("SimpleRNN", {"activation": "sigmoid"}, "activation='sigmoid' is not supported; expected 'tanh', 'relu'"),
        ("LSTM", {"go_backwards": True}, "go_backwards=True is not supported; .*reversed in time"),
        ("GRU", {"stateful": True}, r"stateful=True is not supported; .*forward\(\)"),
        ("LSTM", {"peephole": True}, "peephole=True is not known"),
        ("LSTM", {"units": 0}, "units should be a positive integer, got 0"),
        ("LSTM", {"units": 5}, r"kernel of .*: expected shape \(3, 20\), got \(3, 16\)"),
        ("LSTM", {"use_bias": False}, "expected kernel, recurrent_kernel, got 3 arrays"),
        ("GRU", {"reset_after": False}, r"bias of .*: expected shape \(12,\), got \(2, 12\)"),
    ],
    ids=str,
)
def test_configs_that_are_refused(kind: str, changes: dict[str, Any], message: str) -> None:
    weights = arrays(kind, 3, 4, two_biases=kind == "GRU")
    with pytest.raises(ValueError, match=rf"layer_or_config \({kind.lower()}\).*{message}|{message}"):
        lstmcore.Recurrent.from_keras(config(kind, 4, **changes), weights)


def test_what_does_not_matter_is_accepted() -> None:
    weights = arrays("LSTM", 3, 4)
    neutral = {"time_major": True, "implementation": 2, "unroll": True, "return_state": True, "unit_forget_bias": True}
    neutral |= {"kernel_regularizer": {"class_name": "L2"}, "batch_input_shape": (None, 5, 3), "new_in_keras_9": None}
    neutral |= {"activation": {"class_name": "function", "config": "tanh"}, "recurrent_activation": sigmoid}
    expected = lstmcore.Recurrent.from_keras(config("LSTM", 4), weights)
    layer = lstmcore.Recurrent.from_keras(config("LSTM", 4, **neutral), weights)
    assert_all_bitwise(layer.parameters, expected.parameters, "parameters")


def test_stacks_and_pairs_that_are_refused() -> None:
    first, second = arrays("LSTM", 3, 4), arrays("LSTM", 4, 4)
    plain = config("LSTM", 4)
    gru = config("GRU", 4)
    backward = {"class_name": "LSTM", "config": config("LSTM", 4, go_backwards=True)}
    forward = {"class_name": "LSTM", "config": plain}
    for layers, weights, message in (
        ([], None, "the list is empty"),
        ([plain, plain], [first], "expected one list of arrays for each of 2 layers, got 1"),
        (plain, None, "weights: needed with a config"),
        ([plain, plain], None, r"weights: needed with a config \(layer_or_config\[0\]\)"),
        (plain, [], "got 0 arrays; build the layer first"),
        (plain, first[:2], "expected kernel, recurrent_kernel, bias, got 2 arrays"),
        (plain, [first[0][0], *first[1:]], r"kernel of .*: expected shape \(features, 16\)"),
        (plain, [first[0], first[1].T, first[2]], "recurrent_kernel of .*: expected shape"),
        (plain, [first[0].astype(int), *first[1:]], "kernel of .*: expected floating-point weights, got int64"),
        (plain, [first[0].astype(np.float16), *first[1:]], "dtype: the weights are float16 and float64"),
        ([config("LSTM", 4, return_sequences=False), plain], [first, second], "return_sequences=False"),
        ([plain, plain], [first, first], "kernel reads 3 features, but what it is given has 4"),
        ([plain, gru], [first, arrays("GRU", 4, 4, two_biases=True)], "same cell in every layer, got 'gru'"),
        ([plain, config("LSTM", 5)], [first, arrays("LSTM", 4, 5)], "same units in every layer, got 5 after 4"),
        ([plain, {"layer": forward}], [first, second * 2], "same directions in every layer, got 2 after 1"),
        ({"layer": forward, "merge_mode": "sum"}, first * 2, "merge_mode='sum' is not supported; expected 'concat'"),
        ({"layer": forward}, first, "got 3 arrays; not 2 equal parts"),
        ({"layer": forward, "backward_layer": forward}, first * 2, "backward_layer has go_backwards=False"),
        ({"layer": {"layer": forward}}, first * 2, "a Bidirectional inside a Bidirectional"),
        ({"layer": 3}, first * 2, "with an entry 'layer'"),
        ({"class_name": "ConvLSTM2D", "config": {}}, first, "class_name 'ConvLSTM2D' is not supported; expected LSTM"),
        ({"filters": 3}, first, "expected the config of LSTM.*it has entries 'filters'"),
    ):
        with pytest.raises(ValueError, match=message):
            lstmcore.Recurrent.from_keras(layers, weights)
    both = lstmcore.Recurrent.from_keras({"layer": forward, "backward_layer": backward}, first * 2)
    assert both.bidirectional
    for given in (3, None, np.zeros(3), object()):
        with pytest.raises(TypeError, match="layer_or_config: expected a Keras layer"):
            lstmcore.Recurrent.from_keras(given)
    with pytest.raises(TypeError, match="expected a list of arrays, got ndarray"):
        lstmcore.Recurrent.from_keras(plain, first[0])
    with pytest.raises(TypeError, match="'config' should be a dict"):
        lstmcore.Recurrent.from_keras({"class_name": "LSTM", "config": None}, first)
    with pytest.raises(TypeError, match="hidden_size"):
        lstmcore.Recurrent.from_keras(plain, first, hidden_size=3)


# --- Keras itself -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras with the backend that is installed."""
    if "KERAS_BACKEND" not in os.environ and importlib.util.find_spec("tensorflow") is None:
        os.environ["KERAS_BACKEND"] = "torch" if importlib.util.find_spec("torch") else "numpy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the backends' imports
        return pytest.importorskip("keras")


# Keras' own, of converting tensors to arrays.
quiet = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@quiet
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "changes"), CASES, ids=str)
def test_layers(keras: Any, kind: str, changes: dict[str, Any], bidirectional: bool, depth: int) -> None:
    layers = []
    for k in range(depth):
        layer = getattr(keras.layers, kind)(
            4,
            return_sequences=True,
            bias_initializer=keras.initializers.RandomNormal(seed=k),
            recurrent_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=k),
            **changes,
        )
        layers.append(keras.layers.Bidirectional(layer) if bidirectional else layer)
    x = np.random.default_rng(0).standard_normal((3, 6, 5)).astype(np.float32)
    expected: Any = x
    for layer in layers:
        expected = layer(expected)
    expected = keras.ops.convert_to_numpy(expected)
    taken = lstmcore.Recurrent.from_keras(layers if depth > 1 else layers[0])
    assert (taken.num_layers, taken.bidirectional, taken.dtype) == (depth, bidirectional, np.float32)
    assert_close(taken.forward(x)[0], expected, 1e-5, "y")
    weights = [layer.get_weights() for layer in layers]
    configs = [keras.layers.serialize(layer) for layer in layers]
    again = lstmcore.Recurrent.from_keras(configs, weights)
    assert_all_bitwise(again.parameters, taken.parameters, "parameters")
    bare = lstmcore.Recurrent.from_keras([layer.get_config() for layer in layers], weights)
    assert_all_bitwise(bare.parameters, taken.parameters, "parameters")


@quiet
def test_other_layers_are_refused(keras: Any) -> None:
    with pytest.raises(ValueError, match="build the layer first"):
        lstmcore.Recurrent.from_keras(keras.layers.LSTM(3))
    model = keras.Sequential([keras.layers.Input((5, 2)), keras.layers.LSTM(3)])
    for given in (model, keras.layers.Dense(3), keras.layers.RNN(keras.layers.LSTMCell(3))):
        with pytest.raises(TypeError, match=r"expected LSTM, GRU, SimpleRNN.*list of its recurrent layers"):
            lstmcore.Recurrent.from_keras(given)
    assert lstmcore.Recurrent.from_keras(model.layers).hidden_size == 3
    built = keras.layers.LSTM(3, recurrent_activation="hard_sigmoid")
    built.build((None, 5, 2))
    with pytest.raises(ValueError, match="recurrent_activation='hard_sigmoid'"):
        lstmcore.Recurrent.from_keras(built)
