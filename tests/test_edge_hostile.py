"""Programs that nobody should run: every field wrong in every way that comes to mind, and at random."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_programs import CELL_OPTIONS, random_program
from lstmcore import _core

KINDS = [("int8", "int8"), ("int8", "int4"), ("int16", "sparse"), ("float32", "float32")]


def program_fields(kind: str = "int8", storage: str = "int8", cell: str = "lstm", **network: Any) -> dict[str, Any]:
    options = next(options for name, options in CELL_OPTIONS if name == cell)
    network = {"layers": 2, "head": ((5, "selu"),), **network}
    return random_program(np.random.default_rng(7), cell, options, kind, storage, **network).fields()


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys and indices that lead to every value."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


def get(fields: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        fields = fields[key]
    return fields


def changed(fields: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(fields)
    get(result, path[:-1])[path[-1]] = value
    return result


def wrong(value: Any) -> list[Any]:
    """Other values in place of this one."""
    if isinstance(value, np.ndarray):
        longer = np.concatenate([value, value[:1]])
        others = [
            longer,
            value[:-1],
            value[:0],
            value[:, None],
            value.astype(np.float64),
            value.astype(object),
            "array",
        ]
        if value.dtype.kind in "iu":
            for extreme in (np.iinfo(value.dtype).min, np.iinfo(value.dtype).max):
                others.append(np.full_like(value, extreme))
        else:
            others += [np.full_like(value, bad) for bad in (np.nan, np.inf, 3e38)]
        return [*others, None]
    if isinstance(value, bool) or value is None:
        return [3, "x", np.zeros(3)]
    if isinstance(value, int):
        return [value + 1, value - 1, -1, 0, 2**31, 2**32 + value, 2**63 - 1, -(2**63), 2**70, 1.5, "1", None, True]
    if isinstance(value, str):
        return ["", value + "x", value.upper(), "\0", 3, None, b"int8"]
    if isinstance(value, list):
        return [[], value[:-1] if value else ["x"], [*value, *value[:1], None], None, {}, "xyz"]
    return [None, {}, [], 3]


def try_out(fields: dict[str, Any]) -> bool:
    """Whether a program was taken; one that was must run."""
    try:
        model = _core.EdgeModel(fields)
    except (ValueError, TypeError):
        return False
    features = len(fields["centre"])  # checked by now
    x = np.random.default_rng(0).normal(scale=100, size=(20, features)).astype(np.float32)
    model.run([x, x[:1]])
    return True


@pytest.mark.parametrize(("kind", "storage"), KINDS)
def test_every_field_in_turn(kind, storage):
    fields = program_fields(kind, storage)
    assert try_out(fields)
    taken = refused = 0
    for path in paths(fields):
        for value in wrong(get(fields, path)):
            if try_out(changed(fields, path, value)):
                taken += 1
            else:
                refused += 1
    # Some changes make another sound program: another bias, a smaller scale; float32 has no use for some fields.
    assert refused > 3 * taken


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "slstm", "elman"])
def test_fields_of_other_cells(cell):
    fields = program_fields(cell=cell, layers=1, head=())
    for path in paths(fields):
        for value in wrong(get(fields, path)):
            try_out(changed(fields, path, value))


@pytest.mark.parametrize(("kind", "storage"), KINDS)
def test_keys_missing_and_unknown(kind, storage):
    fields = program_fields(kind, storage)
    for path in paths(fields):
        if isinstance(path[-1], str):
            without = copy.deepcopy(fields)
            del get(without, path[:-1])[path[-1]]
            with pytest.raises(ValueError, match="missing"):
                _core.EdgeModel(without)
            misspelt = copy.deepcopy(fields)
            get(misspelt, path[:-1])[path[-1] + "s"] = 0
            with pytest.raises(ValueError, match=f"{path[-1]}s"):
                _core.EdgeModel(misspelt)


@pytest.mark.parametrize("seed", range(5))
def test_many_fields_at_random(seed):
    rng = np.random.default_rng(seed)
    kind, storage = KINDS[seed % len(KINDS)]
    fields = program_fields(kind, storage, cell=CELL_OPTIONS[seed][0])
    every = list(paths(fields))
    for _ in range(150):
        result = fields
        for _ in range(int(rng.integers(1, 4))):
            path = every[int(rng.integers(len(every)))]
            try:
                value = get(result, path)
            except (KeyError, IndexError, TypeError):
                continue
            if isinstance(value, np.ndarray) and value.size and rng.random() < 0.5:
                value = value.copy()
                raw = value.view(np.uint8)
                raw[rng.integers(raw.size, size=3)] = rng.integers(256, size=3)
                result = changed(result, path, value)
            else:
                others = wrong(value)
                result = changed(result, path, others[int(rng.integers(len(others)))])
        try_out(result)


def sparse_fields() -> tuple[dict[str, Any], dict[str, Any]]:
    """A program and the fields of its first matrix, which is sparse and has two blocks in some group."""
    fields = program_fields("int8", "sparse", hidden=9)
    return fields, fields["layers"][0]["matrices"][0]


def test_sparse_blocks_must_ascend():
    fields, matrix = sparse_fields()
    starts, columns = matrix["block_starts"], matrix["block_columns"].copy()
    group = int(np.flatnonzero(np.diff(starts.astype(np.int64)) >= 2)[0])
    at = int(starts[group])
    columns[[at, at + 1]] = columns[[at + 1, at]]
    matrix["block_columns"] = columns
    with pytest.raises(ValueError, match="ascending"):
        _core.EdgeModel(fields)


def test_first_blocks_and_shift_belong_together():
    fields = program_fields()
    matrix = fields["layers"][0]["matrices"][0]
    for blocks, shift in ((0, 1), (1, 0), (matrix["columns"] // 4, 1), (1, 16)):
        matrix["first_blocks"], matrix["first_shift"] = blocks, shift
        with pytest.raises(ValueError, match=r"first_(blocks|shift)"):
            _core.EdgeModel(fields)


def test_a_sum_that_could_overflow_names_its_row():
    fields = program_fields(layers=1)
    matrix = fields["layers"][0]["matrices"][0]
    bias = matrix["bias"].copy()
    bias[6] = (2**31 - 1) >> matrix["first_shift"]
    matrix["bias"] = bias
    with pytest.raises(ValueError, match=r"layers\[0\]\.matrices\[0\]: row 6 can reach a sum of"):
        _core.EdgeModel(fields)
