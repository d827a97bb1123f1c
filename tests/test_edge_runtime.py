"""The edge runtime, compiled in every way that this machine runs, against exact integers in NumPy."""

from __future__ import annotations

import ctypes
import functools
import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_programs import CELL_OPTIONS, random_program
from edge_runtime import Runtime, c_compilers, compiled, table
from lstmcore import _core
from reference import edge

COMPILERS = c_compilers()
pytestmark = pytest.mark.skipif(not COMPILERS, reason="needs a C compiler")
C = COMPILERS[0] if COMPILERS else "cc"
CXX = shutil.which("g++") or shutil.which("c++")
CLANG = next((path for path in COMPILERS if "clang" in Path(path).name), None)


def _machine() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return {word for line in text.splitlines() if line.startswith("flags") for word in line.split()}


#: Commands by name: every path of this processor, C and C++, with and without optimisation.
BUILDS = {
    "portable": [C, "-std=c99", "-O2", "-DLSTMCORE_EDGE_PORTABLE"],
    "portable-O0": [C, "-std=c99", "-O0", "-DLSTMCORE_EDGE_PORTABLE"],
    "O2": [C, "-std=c99", "-O2"],
    "O3-gnu": [C, "-std=gnu99", "-O3"],
    "native": [C, "-std=gnu99", "-O3", "-march=native"],
    "native-O0": [C, "-std=c99", "-O0", "-march=native"],
}
if platform.machine() == "x86_64":
    BUILDS |= {
        flag[2:]: [C, "-std=c99", "-O2", flag]
        for flag in ("-mssse3", "-msse4.1", "-mavx2")
        if flag[2:].replace(".", "_") in _machine()
    }
if CXX:
    BUILDS["cxx"] = [CXX, "-O2"]
if CLANG:
    BUILDS["clang"] = [CLANG, "-std=c99", "-O2"]
    BUILDS["clang-native"] = [CLANG, "-std=gnu99", "-O3", "-march=native"]

INTEGERS = [(kind, storage) for kind in ("int8", "int16") for storage in ("int8", "int4", "sparse")]


@functools.cache
def _library(folder: Path, name: str) -> ctypes.CDLL:
    target = folder / name
    target.mkdir()
    return compiled(target, *BUILDS[name])


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edge")
    return lambda name: _library(folder, name)


POOLINGS = ("last", "mean", "max", "none")


def _networks():
    """A network for every cell, option, kind and storage; sizes, layers, directions, pooling and head vary."""
    sizes = [(1, 1), (3, 5), (4, 4), (2, 3), (9, 17), (17, 6), (5, 33), (12, 8)]
    heads = [(), ((5, "tanh"),), ((6, "selu"), (3, "relu")), ((4, "linear"), (9, "selu"), (2, "tanh"))]
    number = 0
    for cell, options in CELL_OPTIONS:
        for kind, storage in INTEGERS:
            for half in range(2):
                inputs, hidden = sizes[number % len(sizes)]
                yield number, {
                    "cell": cell, "options": options, "kind": kind, "storage": storage, "inputs": inputs,
                    "hidden": hidden, "layers": 1 + number // 3 % 3, "directions": 1 + half,
                    "pooling": POOLINGS[number // 2 % 4], "head": heads[number % 4], "outputs": 1 + number % 6,
                }  # fmt: skip
                number += 1


NETWORKS = dict(_networks())


@functools.cache
def _expected(number: int):
    program = random_program(np.random.default_rng(number), **NETWORKS[number])
    rng = np.random.default_rng(1000 + number)
    limit = program.input_limit
    x = rng.integers(-limit, limit + 1, (11, program.inputs))
    x[4:7] = rng.choice([-limit, limit], (3, program.inputs))
    return program, x, edge.run(program, x)


@pytest.mark.parametrize("build", BUILDS)
def test_integers_agree_to_the_bit(libraries, build):
    library = libraries(build)
    moved = 0
    for number in NETWORKS:
        program, x, expected = _expected(number)
        runtime = Runtime(library, program)
        runtime.reset()
        np.testing.assert_array_equal(runtime.run(x), expected, err_msg=f"network {number}: {NETWORKS[number]}")
        moved += len(np.unique(expected)) > 1 or expected.size == 1
        runtime.reset()
        np.testing.assert_array_equal(runtime.run(x), expected)
    assert moved > len(NETWORKS) * 0.8  # outputs that are all alike show nothing; sparse heads may be empty


@pytest.mark.parametrize("build", BUILDS)
def test_a_step_at_a_time_is_the_whole_sequence(libraries, build):
    library = libraries(build)
    for number in NETWORKS:
        program, x, expected = _expected(number)
        if program.directions == 1:
            runtime = Runtime(library, program)
            runtime.reset()
            outputs = [runtime.step(row) for row in x]
            np.testing.assert_array_equal(outputs if program.pooling == "none" else outputs[-1], expected)


@pytest.mark.parametrize("build", BUILDS)
def test_many_columns(libraries, build):
    """More blocks than any path takes at a time, every remainder; sums near 2^31."""
    for kind, storage in INTEGERS:
        for inputs in (61, 64, 65, 70, 76):
            rng = np.random.default_rng(inputs)
            program = random_program(rng, "lstm", kind=kind, storage=storage, inputs=inputs, hidden=20)
            x = rng.choice([-program.input_limit, program.input_limit], (5, inputs))
            runtime = Runtime(libraries(build), program)
            runtime.reset()
            np.testing.assert_array_equal(runtime.run(x), edge.run(program, x))


FLOATS = [
    (cell, options, {"layers": 1 + n % 2, "directions": 1 + n // 2 % 2, "pooling": POOLINGS[n % 4]})
    for n, (cell, options) in enumerate(CELL_OPTIONS)
]


@pytest.mark.parametrize(("cell", "options", "shape"), FLOATS)
def test_float32(libraries, cell, options, shape):
    for inputs, hidden in ((1, 1), (3, 5), (9, 17), (8, 12)):
        program = random_program(
            np.random.default_rng(hidden), cell, options, "float32", inputs=inputs, hidden=hidden,
            head=((6, "selu"), (5, "tanh"), (4, "relu")), **shape,
        )  # fmt: skip
        if "relu" in options:  # no growth without bound
            program = replace(program, layers=tuple(
                replace(each, matrices=tuple(replace(m, weights=m.weights * np.float32(0.2)) for m in each.matrices))
                for each in program.layers
            ))  # fmt: skip
        x = np.random.default_rng(1).normal(size=(9, inputs)).astype(np.float32)
        outputs = {}
        for build in BUILDS:
            runtime = Runtime(libraries(build), program)
            runtime.reset()
            outputs[build] = runtime.run(x)
        expected = edge.float_run(program, x)
        np.testing.assert_allclose(outputs["portable"], expected, rtol=2e-5, atol=1e-5)
        for build, values in outputs.items():
            np.testing.assert_array_equal(values.view(np.int32), outputs["portable"].view(np.int32), err_msg=build)


def test_tables_are_what_they_say(libraries):
    library = libraries("portable")
    np.testing.assert_array_equal(table(library, "lce_tanh_half", 193), edge.TANH_HALF)
    np.testing.assert_array_equal(table(library, "lce_log1p_exp", 193), edge.LOG1P_EXP)
    np.testing.assert_array_equal(table(library, "lce_exp2", 65), edge.EXP2)


def test_accuracy_of_the_functions():
    """The integer functions of the reference, which the runtime agrees with, against float64."""
    x = np.arange(-14 * 4096, 14 * 4096 + 1)
    real = x / 4096
    assert np.abs(edge.logistic(x) / 2**15 - 1 / (1 + np.exp(-real))).max() < 6e-5
    assert np.abs(edge.tanh(x) / 2**15 - np.tanh(real)).max() < 1.2e-4
    assert np.abs(edge.log_logistic(x) / 2**12 + np.logaddexp(0, -real)).max() < 3.5e-4
    down = x[x <= 0]
    assert np.abs(edge.exp(down) / 2**15 - np.exp(down / 4096)).max() < 2e-4
    np.testing.assert_array_equal(edge.logistic(x) + edge.logistic(-x), 2**15)
    for rising in (edge.logistic(x), edge.tanh(x), edge.exp(down)):
        assert np.all(np.diff(rising) >= 0)


@pytest.mark.parametrize("build", BUILDS)
def test_probabilities(libraries, build):
    library = libraries(build)
    rng = np.random.default_rng(4)
    for count in (1, 2, 3, 10, 1000):
        for reach in (2**12, 2**17, 2**20, 2**29 - 1):
            logits = rng.integers(-reach, reach + 1, count).astype(np.int32)
            found = np.zeros(count, np.uint16)
            integers = ctypes.c_void_p(logits.ctypes.data)
            library.lstmcore_edge_softmax(integers, count, ctypes.c_void_p(found.ctypes.data))
            np.testing.assert_array_equal(found, edge.softmax(logits))
            assert library.lstmcore_edge_argmax(integers, count) == logits.argmax()
            exact = np.exp((logits - logits.max()) / 65536)
            assert np.abs(found / 2**15 - exact / exact.sum()).max() < 4e-4
            real = (logits / 65536).astype(np.float32)
            floats = np.zeros(count, np.float32)
            given = ctypes.c_void_p(real.ctypes.data)
            library.lstmcore_edge_softmax_float(given, count, ctypes.c_void_p(floats.ctypes.data))
            exact = np.exp(real.astype(np.float64) - real.max())
            np.testing.assert_allclose(floats, exact / exact.sum(), rtol=2e-6, atol=1e-35)
    equal = np.array([3, 7, 7, 1], np.int32)
    assert library.lstmcore_edge_argmax(ctypes.c_void_p(equal.ctypes.data), 4) == 1


@pytest.mark.parametrize("build", BUILDS)
def test_features_become_activations(libraries, build):
    for kind in ("int8", "int16"):
        program = random_program(np.random.default_rng(2), kind=kind, inputs=5)
        scale = np.array([1, 2, 0.5, 3.7, 1e3], np.float32)
        program = replace(program, centre=np.array([0, 0.5, -1, 1e-3, 2], np.float32), scale=scale)
        values = np.random.default_rng(3).normal(size=(200, 5)) * 100
        values[:50] = np.arange(-25, 25)[:, None] / 2  # halves
        values[50:56] = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40])[:, None]
        x = values.astype(np.float32)
        with np.errstate(all="ignore"):
            expected = edge.quantised(program, x)
        np.testing.assert_array_equal(Runtime(libraries(build), program).quantise(x), expected)


def test_refused_calls_change_nothing(libraries):
    program = random_program(np.random.default_rng(6), directions=2, layers=2, pooling="max")
    runtime = Runtime(libraries("portable"), program)
    runtime.reset()
    before = [part.copy() for part in runtime.parts]
    x = np.zeros((4, program.inputs), np.int8)
    for steps, count in ((0, 1000), (4, 0), (4, 31)):
        failed = runtime.library.lstmcore_edge_run(
            ctypes.byref(runtime.model), ctypes.byref(runtime.memory), ctypes.c_void_p(x.ctypes.data), steps,
            ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(count), ctypes.c_void_p(x.ctypes.data),
        )  # fmt: skip
        assert failed == -1
    for part, old in zip(runtime.parts, before, strict=True):
        np.testing.assert_array_equal(part, old)


def test_steps_are_counted_without_end(libraries):
    """2^32 steps without a reset: the count stays, and no division by zero follows."""
    program = random_program(np.random.default_rng(8), pooling="mean")
    runtime = Runtime(libraries("portable"), program)
    runtime.reset()
    runtime.step(np.ones(program.inputs))
    runtime.parts[4][0] = 2**32 - 2
    for _ in range(4):
        runtime.step(np.ones(program.inputs))
    assert runtime.parts[4][0] == 2**32 - 1


def _worst(program, rng):
    """The same program with every weight, bias and multiplier at the end of its range."""

    def matrix(m):
        most = 7 if m.storage == "int4" else 127
        weights = np.where(m.weights != 0, rng.choice([-most, most], m.weights.shape), 0).astype(np.int8)
        multiplier = np.full(m.multiplier.shape, 2**30 - 1, np.int32)
        limit = max(program.input_limit, *(each.limit for each in program.layers))
        sums = np.abs(weights.astype(np.int64)).sum(1) * limit * (16 if m.storage == "int4" else 1)
        bias = (2**31 - 1 - sums) * rng.choice([-1, 1], len(sums))
        return replace(m, weights=weights, multiplier=multiplier, bias=bias.astype(np.int32), shift=0)

    layers = []
    for each in program.layers:
        peepholes = each.peepholes
        if peepholes is not None:
            peepholes = rng.choice([-32767, 32767], peepholes.shape).astype(np.int16)
        cell_bits = int(rng.choice([4, 15]))
        layers.append(replace(
            each, matrices=tuple(map(matrix, each.matrices)), peepholes=peepholes, cell_bits=cell_bits,
            peephole_bits=13 - cell_bits if cell_bits == 4 else 1, output_multiplier=65535,
        ))  # fmt: skip
    dense = tuple(replace(each, matrix=matrix(each.matrix)) for each in program.dense)
    return replace(program, layers=tuple(layers), dense=dense)


def test_no_overflow_at_the_ends_of_every_range(tmp_path, capfd):
    """Undefined behaviour is looked for in the portable build with everything saturated; values stay exact."""
    library = compiled(tmp_path, C, "-std=c99", "-O1", "-g", "-DLSTMCORE_EDGE_PORTABLE", "-fsanitize=undefined")
    for number, (cell, options) in enumerate(CELL_OPTIONS * 2):
        for kind, storage in INTEGERS:
            rng = np.random.default_rng(number)
            program = random_program(
                rng, cell, options, kind, storage, inputs=3, hidden=5, pooling="mean", head=((4, "selu"), (4, "tanh")),
            )  # fmt: skip
            program = _worst(program, rng)
            limit = program.input_limit
            x = rng.choice([-limit, limit], (40, 3))
            runtime = Runtime(library, program)
            runtime.reset()
            np.testing.assert_array_equal(runtime.run(x), edge.run(program, x))
    assert "runtime error" not in capfd.readouterr().err


def test_a_million_steps(tmp_path, capfd):
    library = compiled(tmp_path, C, "-std=c99", "-O2", "-DLSTMCORE_EDGE_PORTABLE", "-fsanitize=undefined")
    for cell, options in (("lstm", frozenset()), ("gru", frozenset()), ("slstm", frozenset({"exponential_forget"}))):
        rng = np.random.default_rng(3)
        program = _worst(random_program(rng, cell, options, inputs=1, hidden=1, outputs=1, pooling="mean"), rng)
        runtime = Runtime(library, program)
        runtime.reset()
        x = np.tile(rng.choice([-127, 127], (1000, 1)), (500, 1))  # run twice
        runtime.run(x)
        assert np.all(np.isfinite(runtime.run(x)))
        for part in runtime.parts[:2]:
            assert np.abs(part.astype(np.int64)).max(initial=0) <= 32767
    assert "runtime error" not in capfd.readouterr().err


@pytest.mark.parametrize(("storage", "lowest", "expected"), [("int8", -128, "-127 ... 127"), ("int4", -8, "-7 ... 7")])
def test_weights_without_a_negative_are_refused(storage, lowest, expected):
    """Fast products take signs of int8 weights, int4 times 16."""
    program = random_program(np.random.default_rng(1), "elman", storage=storage)
    (matrix,) = program.layers[0].matrices
    weights = matrix.weights.copy()
    weights[0, 0] = lowest
    bias, multiplier = np.zeros_like(matrix.bias), matrix.multiplier
    layer = replace(program.layers[0], matrices=(replace(matrix, weights=weights, bias=bias, multiplier=multiplier),))
    with pytest.raises(ValueError, match=re.escape(expected)):
        _core.EdgeModel(replace(program, layers=(layer,)).fields())
