"""forward(codes=…): steps with the same input are computed once, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstmcore
from cases import CELLS, LSTM, Case, Cell, Data, Shape, make_data
from checking import assert_all_bitwise, assert_all_close, assert_bitwise, assert_close
from layers import Pass, as_list, make_layer, run_layer

TOLERANCE = {"float32": 2e-5, "float64": 1e-13}
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.label)
each_dtype = pytest.mark.parametrize("dtype", sorted(TOLERANCE))


def embedded(case: Case, symbols: int) -> tuple[Data, np.ndarray]:
    """The case's data with rows of an embedding for x, and the codes of its steps."""
    data = make_data(case)
    random = np.random.default_rng(7)
    codes = random.integers(symbols, size=data.x.shape[:2])
    table = random.standard_normal((symbols, data.x.shape[2])).astype(data.x.dtype)
    data.x = table[codes]
    if data.lengths is not None:
        for row, codes_of_row, length in zip(data.x, codes, data.lengths, strict=True):
            row[length:] = np.nan
            codes_of_row[length:] = -1
    return data, codes


def run(layer: Any, data: Data, codes: np.ndarray | None) -> Pass:
    return run_layer(layer, data, codes=codes)


def by_code(dx: np.ndarray, codes: np.ndarray) -> np.ndarray:
    total = np.zeros((codes.max() + 1, dx.shape[-1]))
    np.add.at(total, codes[codes >= 0], dx[codes >= 0])
    return total


def compare(found: Pass, expected: Pass, codes: np.ndarray, dtype: str) -> None:
    for name in expected.arrays:
        if name == "y" or name.startswith("final."):
            assert_bitwise(found.arrays[name], expected.arrays[name], name)
        elif name != "dx":
            assert_close(found.arrays[name], expected.arrays[name], TOLERANCE[dtype], name)
    sums = [by_code(each.arrays["dx"], codes) for each in (found, expected)]
    assert_close(sums[0], sums[1], TOLERANCE[dtype], "dx by code")


@each_dtype
@each_cell
@pytest.mark.parametrize(
    "shape",
    [
        Shape(3, 17, 5, 8, ragged=True, initial_state=True),
        Shape(1, 30, 7, 24),
        Shape(9, 12, 6, 32, L=2, D=2, ragged=True, initial_state=True),
    ],
    ids=lambda shape: shape.label,
)
def test_results_are_those_without_codes(cell: Cell, shape: Shape, dtype: str) -> None:
    case = Case(cell, shape, dtype)
    data, codes = embedded(case, symbols=6)
    layer = make_layer(case, data)
    expected = run(layer, data, None)
    found = run(layer, data, codes)
    compare(found, expected, codes, dtype)
    y, _ = layer.forward(data.x, state=data.state, lengths=data.lengths, codes=codes)
    assert_bitwise(y, expected.arrays["y"], "y without a tape")


def test_gradient_of_x_lies_at_one_step_of_each_code() -> None:
    case = Case(LSTM, Shape(4, 25, 5, 8), "float64")
    data, codes = embedded(case, symbols=6)
    dx = run(make_layer(case, data), data, codes).arrays["dx"]
    steps = {int(code): np.count_nonzero(np.abs(dx[codes == code]).sum(axis=1)) for code in np.unique(codes)}
    assert steps == dict.fromkeys(range(6), 1)


@each_dtype
def test_codes_that_hardly_repeat(dtype: str) -> None:
    case = Case(LSTM, Shape(3, 9, 4, 8), dtype)
    data, codes = embedded(case, symbols=200)
    layer = make_layer(case, data)
    assert len(np.unique(codes)) > 0.75 * codes.size
    assert_all_bitwise(run(layer, data, codes).arrays, run(layer, data, None).arrays, "as if without codes")


@pytest.mark.parametrize("options", [{"variational_dropout": 0.3}, {"dropout": 0.4}, {"recurrent_dropout": 0.3}])
def test_dropout(options: dict[str, float]) -> None:
    case = Case(LSTM, Shape(5, 14, 6, 16, L=2, ragged=True), "float64")
    data, codes = embedded(case, symbols=5)
    expected = run(make_layer(case, data, **options), data, None)
    compare(run(make_layer(case, data, **options), data, codes), expected, codes, "float64")


@pytest.mark.parametrize("shape", [Shape(64, 30, 16, 64, ragged=True), Shape(24, 20, 128, 128), Shape(2, 40, 64, 256)])
def test_number_of_threads(shape: Shape) -> None:
    case = Case(LSTM, shape, "float32")
    data, codes = embedded(case, symbols=40 if shape.N > 2 else 20)
    one = run(make_layer(case, data, n_threads=1), data, codes)
    for n_threads in (2, 3, None):
        several = run(make_layer(case, data, n_threads=n_threads), data, codes)
        assert_all_bitwise(several.arrays, one.arrays, f"n_threads={n_threads}")


def test_lists_and_other_integers() -> None:
    case = Case(LSTM, Shape(4, 15, 3, 8, ragged=True), "float64")
    data, codes = embedded(case, symbols=4)
    layer = make_layer(case, data)
    expected = run(layer, data, codes)
    assert data.lengths is not None
    x = as_list(data.x, data.lengths)
    for kind in (np.uint8, np.int16, np.int64, np.uint64):
        y, _, tape = layer.forward(
            x, state=data.state, training=True, codes=[row.astype(kind) for row in as_list(codes, data.lengths)]
        )
        gradients = layer.backward(tape, as_list(data.dy, data.lengths), dstate=data.dstate)
        for n, length in enumerate(data.lengths):
            assert_bitwise(y[n], expected.arrays["y"][n, :length], "y")
            assert_bitwise(gradients.x[n], expected.arrays["dx"][n, :length], "dx")
        parameters = {f"gradient.{name}": value for name, value in gradients.parameters.items()}
        assert_all_close(parameters, {name: expected.arrays[name] for name in parameters}, 0.0, "parameters")


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (np.zeros((2, 4)), ValueError, r"codes: expected integers, got dtype float64"),
        (np.zeros((2, 3), np.int32), ValueError, r"codes: expected \(N, T\) = \(2, 4\), got \(2, 3\)"),
        (np.zeros(8, np.int32), ValueError, r"codes: expected \(N, T\) = \(2, 4\), got \(8,\)"),
        (np.full((2, 4), -3), ValueError, r"codes of sequence 0: expected numbers of at least 0, got -3"),
        (np.full((2, 4), 2**31), ValueError, r"codes: expected integers below 2\^31, got 2147483648"),
        (np.full((2, 4), 2**63, np.uint64), ValueError, r"codes: expected integers below 2\^31"),
        ("abcd", TypeError, r"codes: expected an array of integers, got str"),
    ],
)
def test_wrong_codes(codes: Any, error: type[Exception], message: str) -> None:
    layer = lstmcore.Recurrent("lstm", 3, 5)
    with pytest.raises(error, match=message):
        layer.forward(np.zeros((2, 4, 3)), codes=codes)
    if isinstance(codes, np.ndarray) and codes.shape == (2, 4):
        with pytest.raises(error, match=message.replace("codes: ", r"codes\[0\]: ")):
            layer.forward([np.zeros((4, 3))] * 2, codes=list(codes))


def test_codes_of_lists_have_their_form() -> None:
    layer = lstmcore.Recurrent("lstm", 3, 5)
    x = [np.zeros((4, 3)), np.zeros((2, 3))]
    with pytest.raises(TypeError, match=r"codes: x was a list of sequences, so expected a list of 2 vectors"):
        layer.forward(x, codes=np.zeros((2, 4), np.int32))
    with pytest.raises(ValueError, match=r"codes: expected 2 vectors, got 1"):
        layer.forward(x, codes=[np.zeros(4, np.int32)])
    with pytest.raises(ValueError, match=r"codes\[1\]: expected \(T,\) = \(2,\), got \(4,\)"):
        layer.forward(x, codes=[np.zeros(4, np.int32)] * 2)


def test_huge_codes_are_taken_as_they_come() -> None:
    case = Case(LSTM, Shape(3, 9, 4, 8), "float64")
    data, codes = embedded(case, symbols=4)
    layer = make_layer(case, data)
    found = run(layer, data, codes + (2**31 - 5))
    assert_all_bitwise(found.arrays, run(layer, data, None).arrays, "as if without codes")
