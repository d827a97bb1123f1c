"""The border between Python and C++: what comes in, what is refused and how, who owns what, and who may run at once.

Numbers are checked elsewhere; here they only serve to show that the right memory was read and written.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import gc
import inspect
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from lstmcore import _core

I, H, K = 3, 4, 5

RNG = np.random.default_rng(0)
X = RNG.integers(-8, 9, size=(2, 5, I)).astype(np.float32)  # small integers: exact in every dtype below
LISTED = [X[0], X[1, :2]]


def make_layer(**arguments: Any) -> _core.Recurrent:
    return _core.Recurrent(**{"input_size": I, "hidden_size": H, "seed": 3, **arguments})


def make_model(**recurrent: Any) -> _core.Model:
    settings = {"cell": "lstm", "input_size": I, "hidden_size": H, **recurrent}
    return _core.Model({"recurrent": settings, "pooling": "mean", "activation": "softmax", "outputs": K})


def equal(one: Any, other: Any) -> bool:
    """Nested results, to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


# --- the stub says what the module has -------------------------------------------------------------------------------

STUB = ast.parse((Path(_core.__file__).parent / "_core.pyi").read_text(encoding="utf-8"))


def public(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    named = (ast.ClassDef, ast.FunctionDef)
    return {node.name: node for node in body if isinstance(node, named) and not node.name.startswith("_")}


def test_stub_names_everything_and_nothing_else() -> None:
    assert set(public(STUB.body)) == {name for name in vars(_core) if not name.startswith("_")}
    for name, node in public(STUB.body).items():
        if isinstance(node, ast.ClassDef) and name != "ModelFileError":
            assert set(public(node.body)) == {n for n in vars(getattr(_core, name)) if not n.startswith("_")}, name


def stub_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for name, node in public(STUB.body).items():
        if isinstance(node, ast.FunctionDef):
            yield name, node
        elif isinstance(node, ast.ClassDef):
            for inner, function in public(node.body).items():
                decorators = [d.id for d in function.decorator_list if isinstance(d, ast.Name)]  # type: ignore[attr-defined]
                if isinstance(function, ast.FunctionDef) and "property" not in decorators:
                    yield f"{name}.{inner}", function


@pytest.mark.parametrize(
    ("name", "function"), stub_functions(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_stub_and_text_signatures_agree(name: str, function: ast.FunctionDef) -> None:
    target: Any = _core
    for part in name.split("."):
        target = getattr(target, part)
    signature = inspect.signature(target)
    assert list(signature.parameters) == [argument.arg for argument in function.args.args]
    defaults = [p.default for p in signature.parameters.values() if p.default is not p.empty]
    assert defaults == [ast.literal_eval(default) for default in function.args.defaults]


def test_signatures_are_what_the_module_takes() -> None:
    state = make_layer().init_state(2)
    y, after, tape = make_layer().forward(x=X, state=state, lengths=[5, 2], training=True)
    assert y.shape == (2, 5, H)
    assert after.keys() == state.keys()
    make_layer().step(x=X[:, 0], state=state)
    with pytest.raises(TypeError):
        make_layer().forward(X, hidden=state)


def test_every_docstring_has_content() -> None:
    for name, node in public(STUB.body).items():
        target = getattr(_core, name)
        assert target.__doc__, name
        if isinstance(node, ast.ClassDef) and name != "ModelFileError":
            for inner in public(node.body):
                doc = getattr(target, inner).__doc__
                assert doc, f"{name}.{inner}"
                assert "--\n\n" not in doc, f"{name}.{inner}: its text signature was not understood"


# --- arrays that work ------------------------------------------------------------------------------------------------


class Subclass(np.ndarray):
    """An ndarray by another name."""


class Convertible:
    """Knows how to become an array, and is none."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


def misaligned(array: np.ndarray) -> np.ndarray:
    raw = np.frombuffer(b"\0" + array.tobytes(), np.uint8)
    return raw[1:].view(array.dtype).reshape(array.shape)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    **{
        name: lambda array, name=name: array.astype(name)
        for name in (
            "float16",
            "float32",
            "float64",
            "longdouble",
            "int8",
            "int16",
            "int32",
            "int64",
            ">f4",
            ">f8",
            ">i4",
        )
    },
    "column-major": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "reversed": lambda array: np.ascontiguousarray(array[::-1])[::-1],
    "transposed": lambda array: np.ascontiguousarray(array.swapaxes(0, -1)).swapaxes(0, -1),
    "misaligned": misaligned,
    "read-only": read_only,
    "subclass": lambda array: array.view(Subclass),
    "memoryview": lambda array: memoryview(np.ascontiguousarray(array)),
    "__array__": Convertible,
}


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
    with pytest.raises(TypeError, match="^dy: x was a list of sequences, so expected a list of 2 arrays"):
        layer.backward(tape, np.zeros((2, 5, 2 * H)))
    with pytest.raises(ValueError, match="^dy: expected 2 arrays, got 1"):
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


# --- ownership -------------------------------------------------------------------------------------------------------


def test_parameters_are_live_views_that_outlive_the_layer() -> None:
    layer = make_layer()
    before = layer.forward(X)[0]
    views = layer.parameters
    assert {name: view.shape for name, view in views.items()} == {
        "W_l0": (4 * H, I),
        "R_l0": (4 * H, H),
        "b_l0": (4 * H,),
    }
    for view in views.values():
        assert view.base is layer
        assert view.flags.writeable
    views["W_l0"][:] *= 2
    assert not equal(layer.forward(X)[0], before)
    layer.parameters["W_l0"][:] /= 2
    assert equal(layer.forward(X)[0], before)
    weights = views["W_l0"].copy()
    del layer, views["R_l0"]
    gc.collect()
    assert equal(views["W_l0"], weights)
    views["W_l0"][:] = 7
    assert views["b_l0"].base.parameters["W_l0"].min() == 7


def test_nothing_leaks() -> None:
    layer, model = make_layer(), make_model()
    trainer = _core.Trainer(model, {})
    x = X.copy()

    def work() -> None:
        _, state, tape = layer.forward(x, training=True)
        layer.backward(tape, None, state)
        layer.forward(list(x), state, training=True)
        layer.step(x[:, 0], state)
        _ = layer.parameters
        sequences = _core.Sequences(x)
        model.predict(sequences.subset([0, 1, 1]))
        model.step(x[0, 0], model.make_state().copy())
        trainer.step(sequences, [0, 1])
        trainer.gradient(sequences, [0, 1], [1, 2])
        for bad in (
            lambda: layer.forward("x"),
            lambda: layer.backward(tape, None),
            lambda: trainer.step(sequences, [K, 0]),
        ):
            with contextlib.suppress(ValueError, TypeError):
                bad()

    work()
    gc.collect()
    watched = (layer, model, trainer, x)
    before = [sys.getrefcount(each) for each in watched]
    for _ in range(10):
        work()
    gc.collect()
    assert [sys.getrefcount(each) for each in watched] == before


def test_arguments_stay_untouched_and_results_are_new() -> None:
    layer = make_layer()
    state = {name: RNG.standard_normal((1, 2, H)).astype(np.float32) for name in ("h", "c")}
    kept = copy.deepcopy(state)
    y, after = layer.step(X[:, 0], state)
    layer.forward(X, state)
    assert equal(state, kept)
    arrays = [y, *after.values(), *state.values(), *layer.step(X[:, 0], state)[1].values()]
    for index, one in enumerate(arrays):
        assert one.flags.owndata
        for other in arrays[index + 1 :]:
            assert not np.shares_memory(one, other)


def test_gradients_share_one_array() -> None:
    layer = make_layer()
    gradients = layer.backward(layer.forward(X, training=True)[2], np.ones((2, 5, H)))
    bases = {id(value.base) for value in gradients.parameters.values()}
    assert len(bases) == 1
    flat = next(iter(gradients.parameters.values())).base
    assert flat.size == sum(value.size for value in gradients.parameters.values())
    assert list(gradients.parameters) == list(layer.parameters)


def test_tapes_are_independent_and_serve_once() -> None:
    layer = make_layer()
    first_x, second_x = X, X[:, ::-1] * 2
    dy = np.ones((2, 5, H))
    alone = [layer.backward(layer.forward(x, training=True)[2], dy).parameters for x in (first_x, second_x)]
    first = layer.forward(first_x, training=True)[2]
    second = layer.forward(second_x, training=True)[2]
    assert equal(layer.backward(second, dy).parameters, alone[1])
    with pytest.raises(ValueError, match="^tape: used up by an earlier backward"):
        layer.backward(second, dy)
    # The memory of the used tape now serves a third pass, of another shape.
    third = layer.forward([X[0], X[1, :3], X[1, 1:]], training=True)[2]
    assert third.lengths.tolist() == [5, 3, 4]
    assert second.lengths.tolist() == [5, 5]
    assert equal(layer.backward(first, dy).parameters, alone[0])
    layer.backward(third, None)


def test_tapes_of_others_are_refused() -> None:
    layer = make_layer()
    tape = layer.forward(X, training=True)[2]
    for other in (make_layer(), make_layer(hidden_size=H + 1), make_layer(num_layers=2), copy.deepcopy(layer)):
        with pytest.raises(ValueError, match="^tape: recorded by another Recurrent"):
            other.backward(tape, None)
    with pytest.raises(TypeError, match="^tape: expected the Tape of a forward"):
        layer.backward(None, None)


def test_a_tape_keeps_what_it_needs() -> None:
    expected = make_layer()
    expected_gradient = expected.backward(expected.forward(X, training=True)[2], np.ones((2, 5, H)))
    tape = make_layer().forward(X.copy(), training=True)[2]
    gc.collect()
    np.zeros(X.shape, np.float32)  # might take the place of the input, had nobody kept it
    assert "Recurrent('lstm'" in repr(tape)
    del tape
    layer = make_layer()
    tape = layer.forward([x.copy() for x in X], training=True)[2]
    gc.collect()
    noise = [np.full((5, I), np.nan, np.float32) for _ in range(50)]
    gradients = layer.backward(tape, list(np.ones((2, 5, H))))
    assert equal(gradients.parameters, expected_gradient.parameters)
    del noise


def test_sequences_share_memory_where_they_can() -> None:
    model = make_model()
    x = X.copy()
    sequences = _core.Sequences(x)
    part = sequences.subset([1])
    x[:] = X[:, ::-1]
    assert equal(model.predict(sequences), model.predict(x))
    del sequences
    x_again = x.copy()
    del x
    gc.collect()
    assert equal(model.predict(part), model.predict(x_again[1:]))
    converted = _core.Sequences(x_again.astype(np.float64))
    expected = model.predict(converted)
    x_again[:] = 0
    assert equal(model.predict(converted), expected)


def test_subsets() -> None:
    for data in (X, list(X)):
        sequences = _core.Sequences(data, lengths=[5, 2])
        assert (len(sequences), sequences.features, sequences.dtype) == (2, I, np.float32)
        for indices, lengths in (
            ([1, 0, 1, -1], [2, 5, 2, 2]),
            (np.array([0], np.uint8), [5]),
            ([False, True], [2]),
            (np.array([True, True]), [5, 2]),
        ):
            part = sequences.subset(indices)
            assert part.lengths.tolist() == lengths
            assert part.subset([0]).lengths.tolist() == lengths[:1]
        for indices, error in (
            ([2], IndexError),
            ([-3], IndexError),
            ([], ValueError),
            ([False, False], ValueError),
            ([True], ValueError),
            ([1.0], ValueError),
            ([[1]], ValueError),
            (1, ValueError),
        ):
            with pytest.raises(error, match=r"^indices(\[0\])?: "):
                sequences.subset(indices)


def test_sequences_of_another_kind_are_refused() -> None:
    model, layer = make_model(), make_layer()
    trainer = _core.Trainer(model, {})
    double, narrow = _core.Sequences(X, dtype="float64"), _core.Sequences(X[:, :, :2])
    for call in (model.predict, layer.forward, lambda x: trainer.step(x, [0, 1])):
        with pytest.raises(TypeError, match="^x: Sequences of float64.*dtype='float32'"):
            call(double)
        with pytest.raises(ValueError, match="^x: expected 3 features, got 2: input_size is 3"):
            call(narrow)
    with pytest.raises(ValueError, match="^lengths: x is a Sequences, which has its own"):
        model.predict(_core.Sequences(X), lengths=[5, 5])
    with pytest.raises(TypeError, match="^x: expected a Sequences, got numpy.ndarray"):
        trainer.step(X, [0, 1])  # type: ignore[arg-type]


# --- objects that are not whole --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Recurrent", "Model", "Tape", "Gradients", "Sequences", "StreamState", "Trainer"])
def test_objects_without_init_are_errors(name: str) -> None:
    type_ = getattr(_core, name)
    empty = type_.__new__(type_)
    for attribute in public(next(n for n in STUB.body if isinstance(n, ast.ClassDef) and n.name == name).body):
        with pytest.raises(TypeError, match="has not run on this object|incompatible function arguments|missing"):
            value = getattr(empty, attribute)
            parameters = inspect.signature(value).parameters
            value(*[None] * len(parameters))
    with pytest.raises(TypeError, match="has not run on this object"):
        repr(empty)


def test_subclasses() -> None:
    class Early(_core.Recurrent):
        def __init__(self) -> None:
            _ = self.gates

    class Never(_core.Recurrent):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="has not run on this object"):
        Early()
    with pytest.raises(TypeError, match=r"__init__\(\) must be called"):
        Never()
    for final in (_core.Tape, _core.Gradients, _core.Sequences, _core.StreamState, _core.Trainer):
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Derived", (final,), {})


# --- pickle and copy -------------------------------------------------------------------------------------------------


class Named(_core.Recurrent):
    """A subclass with an attribute of its own."""

    label = ""


class NamedModel(_core.Model):
    """A subclass with an attribute of its own."""

    label = ""


@pytest.mark.parametrize("duplicate", [lambda o: pickle.loads(pickle.dumps(o)), copy.copy, copy.deepcopy])
def test_recurrent_copies(duplicate: Callable[[Any], Any]) -> None:
    layer = Named("elman", I, H, 2, True, 0.25, "float64", 9, 2, nonlinearity="relu")
    layer.label = "mine"
    layer.parameters["b_l0"][:] = 5
    other = duplicate(layer)
    assert type(other) is Named
    assert (other.label, repr(other), other.seed, other.n_threads) == ("mine", repr(layer), 9, 2)
    assert equal(other.parameters, layer.parameters)
    other.parameters["b_l0"][:] = 6
    assert layer.parameters["b_l0"].max() == 5


@pytest.mark.parametrize("duplicate", [lambda o: pickle.loads(pickle.dumps(o)), copy.copy, copy.deepcopy])
def test_model_copies(duplicate: Callable[[Any], Any], tmp_path: Path) -> None:
    model = make_model()
    model.set_preprocessing(np.arange(I), np.full(I, 0.1), np.zeros(K), np.ones(K))
    model.save(str(tmp_path / "m"), {"note": "text"})
    model = NamedModel.load(tmp_path / "m")
    other = duplicate(model)
    assert other.metadata == {"note": "text"}
    assert other.config == model.config
    assert equal(other.get_weights(), model.get_weights())
    assert equal(other.preprocessing, model.preprocessing)
    assert equal(other.predict(X), model.predict(X))
    other.set_weights(np.zeros_like(other.get_weights()))
    assert model.get_weights().any()

    named = NamedModel(model.config)
    named.label = "mine"
    assert type(duplicate(named)) is NamedModel
    assert duplicate(named).label == "mine"


@pytest.mark.parametrize("make", [make_layer, make_model])
def test_pickled_states_are_not_trusted(make: Callable[[], Any]) -> None:
    good = make().__getstate__()
    changes: list[Any] = [{**good, "weights": good["weights"][1:]}, {**good, "config": {}}, {**good, "attributes": 3}]
    changes += [{k: v for k, v in good.items() if k != key} for key in good]
    changes += [{**good, "weights": "text"}, {**good, "config": None}, {}, 3]
    for state in changes:
        with pytest.raises((ValueError, TypeError)):
            type(make()).__new__(type(make())).__setstate__(state)


def test_objects_bound_to_this_process_say_so() -> None:
    layer, model = make_layer(), make_model()
    tape = layer.forward(X, training=True)[2]
    objects = [
        tape,
        layer.backward(tape, None),
        _core.Sequences(X),
        model.make_state(),
        _core.Trainer(model, {}),
    ]
    for each in objects:
        for duplicate in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match=f"^{type(each).__name__} cannot be pickled: "):
                duplicate(each)


# --- model -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"extra": 1}, ValueError, "config: unknown key 'extra'; known are recurrent, pooling, activation, outputs"),
        ({"pooling": "sum"}, ValueError, "pooling: expected one of 'last', 'mean', 'max', got 'sum'"),
        ({"pooling": None}, TypeError, "pooling: expected a str"),
        ({"activation": "tanh"}, ValueError, "activation: expected one of 'identity', 'softmax', got 'tanh'"),
        ({"outputs": 0}, ValueError, "outputs: expected an integer of at least 1, got 0"),
        ({"recurrent": 3}, TypeError, r"config\['recurrent'\]: expected a dict, got int"),
        ({"recurrent": {}}, TypeError, r"config\['recurrent'\]: missing required argument 'input_size'"),
        ({"recurrent": {"input_size": I, "hidden_size": H, "hidden": 4}}, ValueError, "unknown key 'hidden'"),
        (
            {"recurrent": {"input_size": I, "hidden_size": H, "cell_options": 3}},
            TypeError,
            "cell_options: expected a dict",
        ),
    ],
)
def test_model_config_is_checked(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.Model({**make_model().config, **change})
    with pytest.raises(ValueError, match="config: missing key 'recurrent'"):
        _core.Model({})


def test_weights_are_replaced_whole_or_not_at_all() -> None:
    model = make_model()
    before, y = model.get_weights(), model.predict(X)
    for bad, message in (
        ({"head_b": np.ones(K), "head_X": np.ones(K)}, "parameters: unknown name 'head_X'; known are W_l0,"),
        (
            {"head_b": np.ones(K), "head_W": np.ones((H, K))},
            r"parameters\['head_W'\]: expected shape \(5, 4\), got \(4, 5\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_parameters(bad)
        assert equal(model.get_weights(), before)
    with pytest.raises(ValueError, match=r"weights: expected \(P,\) = "):
        model.set_weights(before[1:])

    copies = model.parameters
    copies["head_b"][:] = 100
    assert equal(model.get_weights(), before)
    model.set_parameters({"head_b": np.arange(K)})
    assert model.parameters["head_b"].tolist() == list(range(K))
    assert equal(model.get_weights()[:-K], before[:-K])
    assert not equal(model.predict(X), y)
    model.set_weights(before.astype(np.float64))
    assert equal(model.predict(X), y)


def test_streams() -> None:
    model = make_model()
    state = model.make_state()
    outputs = [model.step(step, state) for step in X[0]]
    for steps, out in enumerate(outputs, 1):
        np.testing.assert_allclose(out, model.predict(X[:1, :steps])[0], rtol=0, atol=1e-6)

    state.reset()
    assert equal(model.step(X[0, 0], state), outputs[0])
    for duplicate in (_core.StreamState.copy, copy.copy):
        other = duplicate(state)
        assert equal(model.step(X[0, 1], other), outputs[1])
        assert equal(model.step(X[0, 2], other), outputs[2])
    assert equal(model.step(X[0, 1], state), outputs[1])

    with pytest.raises(ValueError, match="^state: made by another Model"):
        model.step(X[0, 0], copy.deepcopy(model).make_state())
    with pytest.raises(TypeError, match="^state: expected a StreamState"):
        model.step(X[0, 0], None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^x: expected \(I,\) = \(3,\), got \(1, 3\)"):
        model.step(X[0, :1], state)
    with pytest.raises(ValueError, match="bidirectional"):
        make_model(bidirectional=True).make_state()

    lonely = make_model().make_state()
    gc.collect()
    assert "Model('lstm'" in repr(lonely)
    lonely.copy().reset()


def test_streams_see_new_weights() -> None:
    model = make_model()
    state = model.make_state()
    model.step(X[0, 0], state)
    model.set_weights(model.get_weights() * 2)
    state.reset()
    np.testing.assert_allclose(model.step(X[0, 0], state), model.predict(X[:1, :1])[0], rtol=0, atol=1e-6)


def test_files_that_cannot_be_reached_are_os_errors(tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(FileNotFoundError, match="absent") as caught:
        _core.Model.load(tmp_path / "absent")
    assert caught.value.filename == tmp_path / "absent"
    with pytest.raises(FileNotFoundError, match="missing"):
        model.save(tmp_path / "missing" / "m")
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    with pytest.raises(lstmcore.ModelFileError, match="junk"):
        _core.Model.load(tmp_path / "junk")
    for bad in (3, None, tmp_path):
        with pytest.raises((TypeError, lstmcore.ModelFileError), match=r"path|directory"):
            _core.Model.load(bad)  # type: ignore[arg-type]
    for bad in ({"a": 1}, {1: "a"}, ["a"]):
        with pytest.raises(TypeError, match="^metadata"):
            model.save(tmp_path / "m", bad)  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


def test_metadata_is_kept_unless_replaced(tmp_path: Path) -> None:
    model = make_model()
    assert model.metadata == {}
    model.save(tmp_path / "a", {"note": "ä", "empty": ""})
    loaded = _core.Model.load(str(tmp_path / "a"))
    assert loaded.metadata == {"note": "ä", "empty": ""}
    loaded.save(tmp_path / "b")
    assert _core.Model.load(tmp_path / "b").metadata == loaded.metadata
    loaded.save(tmp_path / "b", {})
    assert _core.Model.load(tmp_path / "b").metadata == {}


# --- trainer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"lr": 0.1},
            ValueError,
            "options: unknown key 'lr'; known are loss, huber_delta, .*learning_rate, .*n_threads",
        ),
        (
            {"loss": "mse"},
            ValueError,
            "loss: expected one of 'cross_entropy', 'squared', 'absolute', 'huber', got 'mse'",
        ),
        ({"solver": "lbfgs"}, ValueError, "solver: expected one of 'sgd', 'rmsprop', 'adam', 'adamw', got 'lbfgs'"),
        ({"schedule": "x"}, ValueError, "schedule: expected one of 'constant', 'step', 'cosine', 'plateau', got 'x'"),
        ({"learning_rate": "a"}, TypeError, "learning_rate: expected a number, got 'a'"),
        ({"learning_rate": 0}, ValueError, "learning_rate"),
        ({"batch_size": 2.5}, TypeError, r"batch_size: expected an integer, got 2.5 \(float\)"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"shuffle": 1}, TypeError, "shuffle: expected True or False"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"seed": -1}, ValueError, "seed"),
        ({1: 2}, TypeError, "options key: expected a str"),
        (None, TypeError, "options: expected a dict, got NoneType"),
    ],
)
def test_trainer_options_are_checked(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.Trainer(make_model(), options)
    with pytest.raises(TypeError, match="^model: expected a Model, got int"):
        _core.Trainer(3, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("y", "weights", "error", "message"),
    [
        ([0], None, ValueError, r"y: expected one class index for each sequence, shape \(2,\), got \(1,\)"),
        ([[0], [1]], None, ValueError, r"y: .*got \(2, 1\)"),
        ([0, K], None, ValueError, r"y\[1\]: class index 5 is outside 0 … 4: the model has 5 outputs"),
        ([-1, 0], None, ValueError, r"y\[0\]: class index -1 is outside"),
        ([0, 2**40], None, ValueError, r"y\[1\]: class index 1099511627776 is outside"),
        (np.array([0, 2**64 - 1], np.uint64), None, ValueError, r"y\[1\]: "),
        (
            [0.0, 1.0],
            None,
            TypeError,
            "y: expected integer class indices for the loss cross_entropy, got dtype float64",
        ),
        ([0, 1], [1], ValueError, r"weights: expected \(N,\) = \(2,\), got \(1,\)"),
        ([0, 1], [1, -1], ValueError, r"weights\[1\]: expected 0 or more, got -1.0"),
        ([0, 1], [1, np.nan], ValueError, "weights: NaN in row 1; every value must be finite"),
        ([0, 1], [np.inf, 1], ValueError, "weights: inf in row 0"),
        ([0, 1], [0, 0], ValueError, "weights: all are zero"),
    ],
)
def test_labels_and_weights_are_checked(y: Any, weights: Any, error: type[Exception], message: str) -> None:
    model = make_model()
    trainer = _core.Trainer(model, {})
    x, before = _core.Sequences(X), model.get_weights()
    for call in (trainer.run_epoch, trainer.step, trainer.evaluate, trainer.gradient):
        with pytest.raises(error, match=f"^{message}"):
            call(x, y, weights)
    assert equal(model.get_weights(), before)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(2), r"y: expected \(N, K\) = \(2, 2\), got \(2,\)"),
        (np.ones((2, 3)), r"y: expected \(N, K\) = \(2, 2\), got \(2, 3\)"),
        ([[0, 1], [1, np.nan]], "y: NaN in row 1; every value must be finite"),
        ([[-np.inf, 1], [1, 0]], "y: inf in row 0"),
    ],
)
def test_values_are_checked(y: Any, message: str) -> None:
    model = _core.Model({"recurrent": {"input_size": I, "hidden_size": H}, "outputs": 2})
    trainer = _core.Trainer(model, {"loss": "squared"})
    for call in (trainer.run_epoch, trainer.step, trainer.evaluate, trainer.gradient):
        with pytest.raises(ValueError, match=f"^{message}"):
            call(_core.Sequences(X), y)


def test_forms_of_targets() -> None:
    x = _core.Sequences(X)
    losses = set()
    for y in (
        [0, 4],
        np.array([0, 4], np.uint8),
        np.array([0, 4], ">i4"),
        read_only(np.array([0, 4])),
        np.array([0, 9, 4])[::2],
    ):
        losses.add(_core.Trainer(make_model(), {}).evaluate(x, y, [1, 2]))
    assert len(losses) == 1


def test_trainer_keeps_its_model() -> None:
    trainer = _core.Trainer(make_model(), {"learning_rate": 0.1})
    gc.collect()
    x = _core.Sequences(X)
    before = trainer.evaluate(x, [0, 1])
    result = trainer.run_epoch(x, [0, 1])
    assert result.keys() == {"loss", "learning_rate", "sequences", "interrupted"}
    assert (result["sequences"], result["interrupted"], result["learning_rate"]) == (2, False, 0.1)
    assert trainer.evaluate(x, [0, 1]) != before
    loss, gradient = trainer.gradient(x, [0, 1])
    assert np.isfinite(loss)
    assert gradient["head_W"].shape == (K, H)
    with pytest.raises(ValueError, match="^monitored: NaN"):
        trainer.report(float("nan"))


# --- threads and signals ---------------------------------------------------------------------------------------------

LONG = {"input_size": I, "hidden_size": 64, "n_threads": 1}


def long_training() -> tuple[_core.Model, _core.Trainer, _core.Sequences, np.ndarray]:
    """An epoch of several seconds in small steps."""
    model = _core.Model({"recurrent": LONG, "activation": "softmax", "outputs": 2})
    x = np.tile(X[:1, :1], (20000, 50, 1))
    return model, _core.Trainer(model, {"batch_size": 8}), _core.Sequences(x), np.zeros(len(x), np.int32)


def ticks_while(work: Callable[[], Any]) -> int:
    """How often this thread gets to run while another one works."""
    done = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    count = 0
    while not done.wait(0.001):
        count += 1
    thread.join()
    return count


def test_the_gil_is_released() -> None:
    layer = _core.Recurrent(**{**LONG, "hidden_size": 256})
    model = _core.Model({"recurrent": {**LONG, "hidden_size": 256}, "activation": "softmax", "outputs": 2})
    trainer = _core.Trainer(model, {})
    x = np.tile(X[:1, :1], (16, 400, 1))
    sequences, y = _core.Sequences(x), np.zeros(16, int)
    tape = layer.forward(x, training=True)[2]
    dy = np.ones((16, 400, 256), np.float32)
    for work in (
        lambda: layer.forward(x),
        lambda: layer.backward(tape, dy),
        lambda: model.predict(sequences),
        lambda: trainer.step(sequences, y),
    ):
        assert ticks_while(work) >= 5


def test_training_needs_the_model_alone() -> None:
    model, trainer, x, y = long_training()
    started, errors = threading.Event(), []

    def train() -> None:
        started.set()
        trainer.run_epoch(x.subset(np.arange(4000)), y[:4000])

    thread = threading.Thread(target=train)
    thread.start()
    started.wait()
    time.sleep(0.05)
    calls: list[Callable[[], Any]] = [
        lambda: model.predict(X),
        model.get_weights,
        model.make_state,
        lambda: model.set_weights(np.zeros(1)),
        lambda: model.set_parameters({}),
        lambda: pickle.dumps(model),
        lambda: trainer.evaluate(x.subset([0]), y[:1]),
        lambda: trainer.report(1.0),
        lambda: _core.Trainer(model, {}),
    ]
    for call in calls:
        try:
            call()
        except (RuntimeError, ValueError) as error:
            errors.append(error)
    still_training = thread.is_alive()
    thread.join()
    assert still_training
    assert len(errors) == len(calls)
    assert (
        sum("is busy with another call" in str(error) for error in errors) == len(calls) - 1
    )  # all but the wrong shape
    assert np.isfinite(model.predict(X)).all()


def test_one_stream_belongs_to_one_thread_at_a_time() -> None:
    """Many threads step one stream: each step either happens whole or is refused."""
    model = _core.Model({"recurrent": {"input_size": I, "hidden_size": 256}, "outputs": 1, "pooling": "mean"})
    state = model.make_state()

    def work(_: int) -> int:
        refused = 0
        for _ in range(50):
            try:
                model.step(X[0, 0], state)
            except RuntimeError:
                refused += 1
        return refused

    with ThreadPoolExecutor(8) as pool:
        refused = sum(pool.map(work, range(8)))
    expected = model.make_state()
    for _ in range(400 - refused):
        out = model.step(X[0, 0], expected)
    assert equal(model.step(X[0, 0], state), model.step(X[0, 0], expected))
    assert np.isfinite(out).all()


def test_eight_threads_use_everything_at_once() -> None:
    layer, model = make_layer(num_layers=2), make_model()
    data = [RNG.standard_normal((2, 30, I)).astype(np.float32) for _ in range(8)]

    def work(x: np.ndarray) -> list[Any]:
        y, state, tape = layer.forward(x, training=True)
        gradients = layer.backward(tape, y)
        stream = model.make_state()
        return [
            y,
            state,
            gradients.x,
            gradients.parameters,
            layer.forward(list(x)),
            list(layer.step(x[:, 0])),
            model.predict(x),
            [model.step(step, stream) for step in x[0]],
        ]

    expected = [work(x) for x in data]
    barrier = threading.Barrier(8)

    def repeat(index: int) -> bool:
        barrier.wait()
        return all(equal(work(data[index]), expected[index]) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(repeat, range(8))) == [True] * 8


class Stop(Exception):
    """What a signal handler of a user might raise."""


@contextlib.contextmanager
def alarm(handler: Callable[..., Any], after: float) -> Iterator[None]:
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop])
def test_signal_handlers_stop_an_epoch(error: type[BaseException]) -> None:
    model, trainer, x, y = long_training()
    fired: list[float] = []

    def handler(*_: Any) -> None:
        fired.append(time.perf_counter())
        raise error

    with alarm(handler, 0.2), pytest.raises(error):
        trainer.run_epoch(x, y)
    assert time.perf_counter() - fired[0] < 0.2
    weights = model.get_weights()
    assert np.isfinite(weights).all()
    assert trainer.run_epoch(x.subset(np.arange(16)), y[:16])["sequences"] == 16
    assert not equal(model.get_weights(), weights)


def test_signal_handlers_that_return_let_training_go_on() -> None:
    model, trainer, x, y = long_training()
    seen: list[str] = []

    def handler(*_: Any) -> None:
        try:
            model.predict(X)
        except RuntimeError as error:  # an error and no deadlock: the epoch below has the model
            seen.append(str(error))

    with alarm(handler, 0.05):
        result = trainer.run_epoch(x.subset(np.arange(4000)), y[:4000])
    assert result["sequences"] == 4000
    assert not result["interrupted"]
    assert len(seen) == 1
    assert "is busy with another call" in seen[0]
