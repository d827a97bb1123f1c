"""The border between Python and C++: which arguments work, and which are refused by name.

Numbers are checked elsewhere; here they only serve to show that the right memory was read and written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from border import FORMS, LISTED, RNG, Convertible, H, I, K, X, equal, make_layer, make_model
from lstmcore import _core

# --- arrays that work ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_array_gives_the_same(form: str, dtype: str) -> None:
    convert = FORMS[form]
    layer = make_layer(dtype=dtype)
    state = {name: np.full((1, 2, H), value) for name, value in (("h", 1), ("c", 2))}
    dy = RNG.integers(-8, 9, size=(2, 5, H))
    expected_y, expected_state, tape = layer.forward(X, state, training=True)
    expected = layer.backward(tape, dy, state)

    y, after, tape = layer.forward(convert(X), {k: convert(v) for k, v in state.items()}, training=True)
    gradients = layer.backward(tape, convert(dy.astype(np.float32)), {k: convert(v) for k, v in state.items()})
    assert y.dtype == dtype
    assert equal(y, expected_y)
    assert equal(after, expected_state)
    assert equal(gradients.x, expected.x)
    assert equal(gradients.state, expected.state)
    assert equal(gradients.parameters, expected.parameters)
    assert equal(layer.step(convert(X[:, 0]), state), layer.step(X[:, 0], state))

    listed = layer.forward([convert(x) for x in LISTED])
    assert equal(listed, layer.forward(LISTED))
    assert equal(listed, layer.forward(tuple(LISTED)))

    model = make_model(dtype=dtype)
    assert equal(model.predict(convert(X)), model.predict(X))
    assert equal(model.step(convert(X[0, 0]), model.make_state()), model.step(X[0, 0], model.make_state()))


def test_bool_and_nested_lists() -> None:
    layer = make_layer()
    ones = X > 0
    assert equal(layer.forward(ones), layer.forward(ones.astype(np.float32)))
    nested = [x.tolist() for x in LISTED]
    assert equal(layer.forward(nested), layer.forward(LISTED))


@pytest.mark.parametrize(
    "lengths", [[5, 2], (5, 2), np.array([5, 2], np.uint8), np.array([5, 2], ">i8"), Convertible(np.array([5, 2]))]
)
def test_forms_of_lengths(lengths: Any) -> None:
    layer = make_layer()
    assert equal(layer.forward(X, lengths=lengths), layer.forward(X, lengths=np.array([5, 2])))


def test_lists_and_arrays_agree() -> None:
    layer = make_layer(bidirectional=True, num_layers=2)
    dy = RNG.standard_normal((2, 5, 2 * H)).astype(np.float32)
    y, state, tape = layer.forward(X, lengths=[5, 2], training=True)
    dense = layer.backward(tape, dy)
    assert not y[1, 2:].any()
    assert not dense.x[1, 2:].any()
    assert tape.lengths.tolist() == [5, 2]

    listed_y, listed_state, tape = layer.forward(LISTED, training=True)
    listed = layer.backward(tape, [dy[0], dy[1, :2]])
    assert isinstance(listed_y, list)
    assert isinstance(listed.x, list)
    assert equal(listed_y, [y[0], y[1, :2]])
    assert equal(listed.x, [dense.x[0], dense.x[1, :2]])
    assert equal(listed_state, state)
    assert equal(listed.parameters, dense.parameters)

    # A list with lengths: as much of each array as its length says, zeros behind.
    cut_y, cut_state, tape = layer.forward([X[0], X[1]], lengths=[5, 2], training=True)
    cut = layer.backward(tape, [dy[0], dy[1]])
    assert equal(cut_y, [y[0], y[1]])
    assert equal(cut.x, [dense.x[0], dense.x[1]])
    assert equal(cut_state, state)


def test_gradients_past_the_end_are_ignored_even_when_not_finite() -> None:
    layer = make_layer()
    dy = np.ones((2, 5, H), np.float32)
    gradients = layer.backward(layer.forward(X, lengths=[5, 2], training=True)[2], dy)
    dy[1, 2:] = np.nan
    again = layer.backward(layer.forward(X, lengths=[5, 2], training=True)[2], dy)
    assert equal(again.x, gradients.x)
    assert equal(again.parameters, gradients.parameters)


def test_no_gradient_of_y_means_zeros() -> None:
    layer = make_layer()
    dstate = {"h": np.ones((1, 2, H)), "c": np.ones((1, 2, H))}
    without = layer.backward(layer.forward(X, training=True)[2], None, dstate)
    zeros = layer.backward(layer.forward(X, training=True)[2], np.zeros((2, 5, H)), dstate)
    assert equal(without.parameters, zeros.parameters)
    assert any(value.any() for value in without.parameters.values())


def test_sequences_serve_a_layer_too() -> None:
    layer = make_layer()
    assert equal(layer.forward(_core.Sequences(X, [5, 2])), layer.forward(X, lengths=[5, 2]))
    assert equal(layer.forward(_core.Sequences(LISTED)), layer.forward(LISTED))


# --- what is refused, everywhere by name -----------------------------------------------------------------------------

NOT_NUMBERS: dict[str, Any] = {
    "complex": X.astype(complex),
    "object": X.astype(object),
    "str": X.astype(str),
    "bytes": X.astype(bytes),
    "datetime64": np.zeros(X.shape, "datetime64[s]"),
    "structured": np.zeros(X.shape, [("a", "f4")]),
    "masked": np.ma.masked_array(X, X > 0),
    "text": "text",
    "None": None,
    "dict": {"x": X},
    "ragged object": np.array([X[0], X[1, :2]], dtype=object),
}


@pytest.mark.parametrize("kind", NOT_NUMBERS)
def test_what_is_not_numbers_is_refused_everywhere(kind: str) -> None:
    bad = NOT_NUMBERS[kind]
    layer, model = make_layer(), make_model()
    trainer = _core.Trainer(model, {})
    squared = _core.Trainer(_core.Model({"recurrent": {"input_size": I, "hidden_size": H}}), {"loss": "squared"})
    x = _core.Sequences(X)
    calls: dict[str, Callable[[], Any]] = {
        "x": lambda: layer.forward(bad),
        "x ": lambda: layer.step(bad),
        "x  ": lambda: model.predict(bad),
        "x   ": lambda: model.step(bad, model.make_state()),
        "data": lambda: _core.Sequences(bad),
        r"x\[1\]": lambda: layer.forward([X[0], bad]),
        r"state\['c'\]": lambda: layer.forward(X, {"h": np.zeros((1, 2, H)), "c": bad}),
        r"dstate\['h'\]": lambda: layer.backward(
            layer.forward(X, training=True)[2], None, {"h": bad, "c": np.zeros((1, 2, H))}
        ),
        r"state\['h'\] ": lambda: layer.step(X[:, 0], {"h": bad, "c": np.zeros((1, 2, H))}),
        r"dy\[0\]": lambda: layer.backward(layer.forward([X[0]], training=True)[2], [bad]),
        "indices": lambda: x.subset(bad),
        "weights": lambda: model.set_weights(bad),
        r"parameters\['head_b'\]": lambda: model.set_parameters({"head_b": bad}),
        "input_scale": lambda: model.set_preprocessing(np.zeros(I), bad, np.zeros(K), np.ones(K)),
        "y": lambda: trainer.step(x, bad),
        "y ": lambda: squared.step(x, bad),
    }
    if bad is not None:
        calls["dy"] = lambda: layer.backward(layer.forward(X, training=True)[2], bad)
        calls["lengths"] = lambda: layer.forward(X, lengths=bad)
        calls["weights "] = lambda: trainer.step(x, [0, 1], bad)
    for argument, call in calls.items():
        with pytest.raises(TypeError, match=f"^{argument.strip()}: "):
            call()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((4, 7, 11)), r"x: expected \(N, T, 3\), got \(4, 7, 11\): input_size is 3"),
        (np.ones((7, I)), r"x: expected \(N, T, 3\), got \(7, 3\); one sequence alone is x\[None\]"),
        (np.ones((1, 1, 7, I)), r"x: expected \(N, T, 3\), got \(1, 1, 7, 3\)"),
        (3.5, r"x: expected \(N, T, 3\), got \(\)"),
        (np.ones((0, 7, I)), r"x: empty, shape \(0, 7, 3\)"),
        (np.ones((7, 0, I)), r"x: empty, shape \(7, 0, 3\)"),
        ([], "x: empty list"),
        ((), "x: empty list"),
        ([X[0], np.ones((2, 2))], r"x\[1\]: expected \(T, 3\), got \(2, 2\): input_size is 3"),
        ([np.ones(I)], r"x\[0\]: expected \(T, 3\), got \(3,\)"),
        ([X], r"x\[0\]: expected \(T, 3\), got \(2, 5, 3\)"),
        ([X[0], np.ones((0, I))], r"x\[1\]: empty sequence, shape \(0, 3\)"),
        ([[[1, 2, 3], [1, 2]]], r"x\[0\]: list cannot be read as an array"),
    ],
)
def test_shapes_of_x(bad: Any, message: str) -> None:
    for call in (make_layer().forward, make_model().predict):
        with pytest.raises(ValueError, match=f"^{message}"):
            call(bad)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5], r"expected \(2,\), got \(1,\)"),
        ([[5, 2]], r"expected \(2,\), got \(1, 2\)"),
        (5, r"expected \(2,\), got \(\)"),
        ([], r"expected \(2,\), got \(0,\)"),
        ([5, 2.0], "expected integers, got dtype float64"),
        ([True, True], "expected integers, got dtype bool"),
        ([5, 2**63], "expected"),
    ],
)
def test_lengths_that_do_not_fit(lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^lengths(\\[1\\])?: {message}"):
        make_layer().forward(X, lengths=lengths)


@pytest.mark.parametrize("wrong", [0, -1, 6, -(2**63)])
def test_lengths_out_of_range(wrong: int) -> None:
    for data in (X, list(X)):
        with pytest.raises(ValueError, match=rf"^lengths\[1\]: expected 1 … 5 \(the steps that x has\), got {wrong}$"):
            make_layer().forward(data, lengths=[5, wrong])


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({}, ValueError, r"exactly the keys \('h', 'c'\), got \(\)"),
        ({"h": np.zeros((1, 2, H))}, ValueError, r"exactly the keys \('h', 'c'\), got \('h',\)"),
        ({"h": 0, "c": 0, "m": 0}, ValueError, r"got \('h', 'c', 'm'\)"),
        ({"h": 0, "C": 0}, ValueError, r"got \('h', 'C'\)"),
        ({1: 0, 2: 0}, ValueError, r"got \(1, 2\)"),
        ([np.zeros((1, 2, H))] * 2, TypeError, "expected a dict of arrays or None, got list"),
    ],
)
def test_states_need_exactly_the_keys(state: Any, error: type[Exception], message: str) -> None:
    layer = make_layer()
    for name, call in {
        "state": lambda: layer.forward(X, state),
        "dstate": lambda: layer.backward(layer.forward(X, training=True)[2], None, state),
        "state ": lambda: layer.step(X[:, 0], state),
    }.items():
        with pytest.raises(error, match=f"^{name.strip()}: .*{message}"):
            call()


def test_shapes_of_states_and_gradients() -> None:
    layer = make_layer(bidirectional=True)
    wrong = {"h": np.zeros((2, 2, H)), "c": np.zeros((1, 2, H))}
    with pytest.raises(ValueError, match=r"^state\['c'\]: expected \(L\*D, N, H\) = \(2, 2, 4\), got \(1, 2, 4\)"):
        layer.forward(X, wrong)
    _, _, tape = layer.forward(X, training=True)
    with pytest.raises(ValueError, match=r"^dstate\['c'\]: expected"):
        layer.backward(tape, None, wrong)
    with pytest.raises(ValueError, match=r"^dy: expected \(N, T, D\*H\) = \(2, 5, 8\), got \(2, 5, 4\)"):
        layer.backward(tape, np.zeros((2, 5, H)))
    _, _, tape = layer.forward(LISTED, training=True)
    with pytest.raises(TypeError, match=r"^dy: x was a list of sequences, so expected a list of 2 arrays"):
        layer.backward(tape, np.zeros((2, 5, 2 * H)))
    with pytest.raises(ValueError, match=r"^dy: expected 2 arrays, got 1"):
        layer.backward(tape, [np.zeros((5, 2 * H))])
    with pytest.raises(ValueError, match=r"^dy\[1\]: expected \(T, D\*H\) = \(2, 8\), got \(5, 8\)"):
        layer.backward(tape, [np.zeros((5, 2 * H))] * 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_size": True}, TypeError, r"input_size: expected an integer, got True \(bool\)"),
        ({"input_size": 3.0}, TypeError, r"input_size: expected an integer, got 3.0 \(float\)"),
        ({"hidden_size": "4"}, TypeError, r"hidden_size: expected an integer, got '4' \(str\)"),
        ({"hidden_size": None}, TypeError, "Recurrent: missing required argument 'hidden_size'"),
        ({"num_layers": 0}, ValueError, "num_layers: expected an integer of at least 1, got 0"),
        ({"num_layers": 2**70}, ValueError, "num_layers: expected an integer of at least 1, got 2*"),
        ({"bidirectional": 1}, TypeError, "bidirectional: expected True or False, got 1"),
        ({"dropout": "x"}, TypeError, "dropout: expected a number, got 'x'"),
        ({"dropout": True}, TypeError, "dropout: expected a number, got True"),
        ({"dtype": "float16"}, ValueError, "dtype: expected 'float32' or 'float64', got 'float16'"),
        ({"dtype": ">f4"}, ValueError, "dtype: expected 'float32' or 'float64', got '>f4'"),
        ({"dtype": "no"}, ValueError, "dtype: expected 'float32' or 'float64', got 'no'"),
        ({"dtype": None}, ValueError, "dtype: expected 'float32' or 'float64', got None"),
        ({"seed": -1}, ValueError, r"seed: expected an integer from 0 to 2\*\*64 - 1, got -1"),
        ({"seed": 2**64}, ValueError, r"seed: expected an integer from 0 to 2\*\*64 - 1"),
        ({"n_threads": 0}, ValueError, "n_threads: expected an integer from 1"),
        ({"cell": 3}, TypeError, r"cell: expected a str, got 3 \(int\)"),
        ({"peephole": True}, ValueError, "peephole"),
        (
            {"peephole": None},
            TypeError,
            r"cell_options\['peephole'\]: expected a bool, int, float or str, got NoneType",
        ),
        ({"peephole": 2**64}, ValueError, r"cell_options\['peephole'\]: expected an integer of 64 bits"),
    ],
)
def test_constructor_names_the_argument(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_layer(**arguments)


def test_numpy_scalars_are_numbers() -> None:
    layer = _core.Recurrent(
        "elman",
        np.int64(I),
        np.uint8(H),
        np.int32(2),
        np.bool_(True),
        np.float32(0.5),
        np.float64,
        np.uint64(2**64 - 1),
        np.int16(2),
        nonlinearity=np.str_("relu"),
    )
    assert (layer.input_size, layer.hidden_size, layer.num_layers, layer.bidirectional) == (I, H, 2, True)
    assert (layer.dropout, layer.dtype, layer.seed, layer.n_threads) == (0.5, np.float64, 2**64 - 1, 2)
    assert layer.cell_options == {"nonlinearity": "relu"}
    assert (layer.cell, layer.gates, layer.states) == ("elman", ("a",), ("h",))
    assert repr(layer) == (
        "Recurrent('elman', input_size=3, hidden_size=4, num_layers=2, bidirectional=True, dropout=0.5, "
        "dtype='float64', nonlinearity='relu')"
    )
    assert make_layer().n_threads is None
