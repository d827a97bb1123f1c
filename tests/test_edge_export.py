"""Exported C: it compiles without a warning, computes what Python computes, and refuses what cannot be exported."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edge_programs import CELL_OPTIONS, random_program
from lstmcore import _core
from lstmcore.edge.export import runtime_sources, write_c

CC = shutil.which("cc") or shutil.which("gcc")
CXX = shutil.which("c++") or shutil.which("g++")
STRICT = ["-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
UNDEFINED = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]

needs_compiler = pytest.mark.skipif(CC is None or CXX is None, reason="needs a C and a C++ compiler")


@functools.cache
def runtime(*options: str) -> Path:
    """The runtime compiled once for each set of options, which begin with the compiler."""
    folder = Path(tempfile.mkdtemp(prefix="lstmcore-edge-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file, text in runtime_sources().items():
        (folder / file).write_text(text)
    command = [*options, *STRICT, "-c", "-o", "runtime.o", "lstmcore_edge.c"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / "runtime.o"


def build_and_run(folder: Path, *options: str, main: str = "main.c") -> str:
    """Standard output of the program; `options` begin with the compiler."""
    name = next(p.stem for p in folder.glob("*.c") if p.stem not in ("main", "lstmcore_edge") and p.name != main)
    # `-x none`: what follows is told by its suffix again, as the object is.
    command = [*options, *STRICT, "-o", "program", main, f"{name}.c", "-x", "none", str(runtime(*options))]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(folder / "program")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def example_of(program, steps=9, seed=5):
    return np.random.default_rng(seed).normal(size=(steps, program.inputs)).astype(np.float32)


NETWORKS = {
    "one layer": {},
    "two layers, mean, hidden layers": {"layers": 2, "pooling": "mean", "head": ((6, "selu"), (7, "tanh"))},
    "both directions, max": {"layers": 2, "directions": 2, "pooling": "max"},
    "both directions, every step": {"layers": 3, "directions": 2, "pooling": "none"},
    "both directions, last": {"directions": 2, "head": ((5, "relu"),)},
    "every step": {"pooling": "none"},
}
KINDS = [("int8", "int8"), ("int8", "int4"), ("int8", "sparse"), ("int16", "int8"), ("float32", "float32")]


@needs_compiler
@pytest.mark.parametrize(("kind", "storage"), KINDS)
@pytest.mark.parametrize("network", NETWORKS)
def test_compiled_c_computes_what_python_computes(tmp_path, network, kind, storage):
    number = list(NETWORKS).index(network) + len(NETWORKS) * KINDS.index((kind, storage))
    rng = np.random.default_rng(number)
    cell, options = CELL_OPTIONS[number % len(CELL_OPTIONS)]
    program = random_program(
        rng, cell, options, kind, storage, inputs=1 + number % 6, hidden=1 + number % 9, outputs=2 + number % 4,
        softmax=number % 2 == 0, **NETWORKS[network],
    )  # fmt: skip
    example = example_of(program)
    write_c(program, tmp_path, "net", example=example)
    printed = build_and_run(tmp_path, CC, "-std=c99", *UNDEFINED)
    assert printed.startswith("self-test: passed\n")
    build_and_run(tmp_path, CXX, "-x", "c++", "-std=c++11")
    expected = _core.EdgeModel(program.fields()).run([example])
    if program.directions == 2:
        found = [float(text) for text in printed.splitlines()[1].split()]
        np.testing.assert_allclose(found, expected.ravel(), atol=5e-7)
    else:
        last = printed.splitlines()[-1]
        assert last.startswith(f"{len(example) - 1}:")
        np.testing.assert_allclose([float(text) for text in last.split()[1:]], expected[-1], atol=5e-7)


@needs_compiler
@pytest.mark.parametrize(
    ("cell", "options"), CELL_OPTIONS, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
def test_every_cell_streams_in_c_as_in_python(tmp_path, cell, options):
    program = random_program(np.random.default_rng(1), cell, options, inputs=3, hidden=6)
    example = example_of(program, steps=40)
    write_c(program, tmp_path, "net", example=example)
    lines = build_and_run(tmp_path, CC, "-std=c99", *UNDEFINED).splitlines()
    model = _core.EdgeModel(program.fields())
    state = model.make_state()
    for t, x in enumerate(example):
        expected = model.step(x, state)
        assert lines[1 + t] == f"{t}: " + " ".join(map(str, expected)), t


@needs_compiler
def test_memory_is_what_the_header_says(tmp_path):
    program = random_program(np.random.default_rng(2), "slstm", layers=2, pooling="mean", hidden=9)
    write_c(program, tmp_path, "net", example=example_of(program))
    (tmp_path / "sizes.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) {\n'
        '  (void)printf("%zu %zu", sizeof(net_state), sizeof(net_scratch));\n  return 0;\n}\n'
    )
    state, scratch = (int(n) for n in build_and_run(tmp_path, CC, "-std=c99", main="sizes.c").split())
    header = (tmp_path / "net.h").read_text()
    promised = re.search(r"RAM: (\d+) bytes of state, (\d+) of scratch", header)
    assert promised is not None
    memory = _core.EdgeModel(program.fields()).memory
    assert memory["state"] == int(promised[1])
    # A compiler may round the struct up to the alignment of its widest member.
    assert 0 <= state - memory["state"] < 8
    assert 0 <= scratch - memory["scratch"] <= 4 + 3


@needs_compiler
def test_two_models_share_one_runtime(tmp_path):
    for name, seed in (("first", 1), ("second", 2)):
        program = random_program(np.random.default_rng(seed), "gru" if seed == 1 else "lstm")
        write_c(program, tmp_path, name, example=example_of(program))
    (tmp_path / "both.c").write_text(
        '#include "first.h"\n#include "second.h"\nint main(void) { return first_self_test() + second_self_test(); }\n'
    )
    command = [CC, "-std=c99", *STRICT, "-o", "program", "both.c", "first.c", "second.c", "lstmcore_edge.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "program")], check=True)


@needs_compiler
def test_a_changed_weight_fails_the_self_test(tmp_path):
    program = random_program(np.random.default_rng(3), "lstm", hidden=8)
    write_c(program, tmp_path, "net", example=example_of(program))
    source = (tmp_path / "net.c").read_text()
    found = re.search(r"dense0_bias\[\d+\] = \{\n\s+(-?\d+),", source)
    assert found is not None
    changed = source[: found.start(1)] + str(int(found[1]) + 5000) + source[found.end(1) :]
    (tmp_path / "net.c").write_text(changed)
    subprocess.run([CC, "-o", "program", "main.c", "net.c", "lstmcore_edge.c"], cwd=tmp_path, check=True)
    done = subprocess.run([str(tmp_path / "program")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "self-test: FAILED" in done.stdout


@needs_compiler
def test_labels_and_title_cannot_break_out(tmp_path):
    program = random_program(np.random.default_rng(4), outputs=5)
    labels = ['"; int x; "', "??/", "\\", "ü\n\0", 7]
    write_c(program, tmp_path, "net", example=example_of(program), labels=labels, title="*/ int y; /* \n #error")
    (tmp_path / "labels.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) {\n  uint32_t k;\n'
        '  for (k = 0; k < NET_OUTPUTS; ++k) {\n    (void)printf("%s|", net_labels[k]);\n  }\n  return 0;\n}\n'
    )
    printed = build_and_run(tmp_path, CC, "-std=c99", "-trigraphs", main="labels.c")
    assert printed == '"; int x; "|??/|\\|ü\n|7|'


def test_weights_of_one_value_and_extreme_floats_come_through(tmp_path):
    program = random_program(np.random.default_rng(6), "lstm", kind="float32")
    matrix = program.layers[0].matrices[0]
    matrix.weights[0, :3] = [np.float32(1.17549435e-38), np.float32(-3.4028235e38), np.float32(0.1)]
    write_c(program, tmp_path, "net", example=example_of(program))
    text = (tmp_path / "net.c").read_text()
    for literal in ("1.17549435e-38F", "-3.40282347e+38F", "0.100000001F"):
        assert literal in text


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Vowels",
        "1st",
        "int",
        "class",
        "lstmcore_edge",
        "lce_x",
        "a-b",
        "a b",
        "a" * 41,
        "ü",
        "a\n",
        "../x",
        "main",
        "net;",
    ],
)
def test_names_that_c_does_not_take_are_refused(tmp_path, name):
    program = random_program(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^name: "):
        write_c(program, tmp_path / "new", name, example=example_of(program))
    assert not (tmp_path / "new").exists()


def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path):
    program = random_program(np.random.default_rng(0))
    good = example_of(program)
    with pytest.raises(TypeError, match=r"^name: expected a str, got int"):
        write_c(program, tmp_path / "new", 3, example=good)
    for example in (good[:, :1], good[:0], good[0]):
        with pytest.raises(ValueError, match=r"^example: expected shape \(T, 3\)"):
            write_c(program, tmp_path / "new", "net", example=example)
    with pytest.raises(ValueError, match=r"^example: expected finite"):
        write_c(program, tmp_path / "new", "net", example=good * np.nan)
    with pytest.raises(ValueError, match=r"^labels: expected one for each of 3 outputs, got 2"):
        write_c(program, tmp_path / "new", "net", example=good, labels=["a", "b"])
    assert not (tmp_path / "new").exists()


def test_the_same_model_gives_the_same_files(tmp_path):
    program = random_program(np.random.default_rng(0), "gru", storage="sparse", layers=2)
    for folder in ("a", "b"):
        write_c(program, tmp_path / folder, "net", example=example_of(program))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"main.c", "net.c", "net.h", "lstmcore_edge.c", "lstmcore_edge.h"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@needs_compiler
def test_the_runtime_is_freestanding(tmp_path):
    """No heap, no libm, no input or output: what copies and fills memory is all that it asks for."""
    source = runtime_sources()["lstmcore_edge.c"]
    allowed = {"string.h", "stddef.h", "stdint.h", "arm_mve.h", "arm_neon.h", "arm_acle.h", "immintrin.h"}
    assert set(re.findall(r"#include <(.*?)>", source)) <= allowed
    assert '#include "' not in source.replace('#include "lstmcore_edge.h"', "")
    for file, text in runtime_sources().items():
        (tmp_path / file).write_text(text)
    subprocess.run([CC, "-std=c99", "-O2", "-c", "lstmcore_edge.c"], cwd=tmp_path, check=True)
    listed = subprocess.run(["nm", "-u", "lstmcore_edge.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
    # On x86 the compiler's own record of what the processor has, which chooses AVX2.
    assert set(listed.stdout.split()) - {"U", "_GLOBAL_OFFSET_TABLE_"} <= {"memcpy", "memset", "memmove", "__cpu_model"}


WRAPPER = r"""
#include "net.h"
#include "lstmcore_edge.hpp"
#include <cstdio>
#include <cstring>

using Network = lstmcore::edge::Network<net_traits>;

int main() {
  static_assert(Network::inputs == NET_INPUTS && Network::outputs == NET_OUTPUTS);
  static Network network;
  std::array<Network::Activations, NET_TEST_STEPS> x{};
  std::memcpy(x.data(), net_test_x, sizeof(x));
  const auto out = network.run_quantised(x);
  if (sizeof(out) != sizeof(net_test_out) || std::memcmp(&out, net_test_out, sizeof(out)) != 0) return 1;
  if constexpr (Network::streams) {
    network.reset();
    Network::Outputs last{};
    for (const auto& row : x) last = network.step_quantised(row);
    const std::size_t before = sizeof(net_test_out) / sizeof(*net_test_out) - NET_OUTPUTS;
    if (std::memcmp(&last, net_test_out + before, sizeof(last)) != 0) return 2;
    Network::Features zeros{};
    network.advance(zeros);
    const auto next = network.step(zeros);
    if (Network::argmax(next) >= Network::outputs) return 3;
    double sum = 0;
    for (const auto p : Network::softmax(next)) sum += static_cast<double>(p);
    std::printf("%.6f\n", sum);
  }
  return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("kind", ["int8", "int16", "float32"])
@pytest.mark.parametrize("network", NETWORKS)
def test_cxx_wrapper(tmp_path, network, kind):
    program = random_program(np.random.default_rng(4), "lstm", kind=kind, **NETWORKS[network])
    write_c(program, tmp_path, name="net", example=example_of(program))
    (tmp_path / "wrapper.cpp").write_text(WRAPPER, encoding="utf-8")
    (tmp_path / "main.c").unlink()
    printed = build_and_run(tmp_path, CXX, "-x", "c++", "-std=c++17", main="wrapper.cpp")
    if program.directions == 1:
        assert float(printed) == pytest.approx(1 if kind == "float32" else 32768, rel=1e-3)


# What the example projects of docs/edge.md find on their systems, as far as they use it.
ARDUINO = """
#include <cstdint>
#include <cstdio>
struct Port {
  void begin(int) {}
  operator bool() { return true; }
  void println(const char *text) { std::puts(text); }
  template <class T> void print(T) {}
};
extern Port Serial;
inline unsigned long micros() { return 0; }
inline void delay(int) {}
"""
ZEPHYR = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#define printk printf
static inline uint32_t k_cycle_get_32(void) { return 0; }
static inline void k_msleep(int milliseconds) { exit(milliseconds == 1000 ? 0 : 1); }
"""
DEVICES = Path(__file__).resolve().parent.parent / "examples" / "devices"


@needs_compiler
def test_projects_for_devices_build_and_run(tmp_path):
    program = random_program(np.random.default_rng(0), inputs=12, hidden=16, outputs=9)
    write_c(program, tmp_path, "vowels", example=example_of(program))
    (tmp_path / "zephyr" / "sys").mkdir(parents=True)
    (tmp_path / "zephyr" / "kernel.h").write_text(ZEPHYR)
    (tmp_path / "zephyr" / "sys" / "printk.h").write_text("")
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    (tmp_path / "loop.cpp").write_text(
        "Port Serial;\nvoid setup();\nvoid loop();\nint main() {\n  setup();\n  loop();\n}\n"
    )
    model = ["-I.", "-x", "none", "vowels.o", "lstmcore_edge.o"]
    zephyr = [CC, "-std=gnu11", "-I.", str(DEVICES / "zephyr" / "src" / "main.c"), *model]
    sketch = ["-include", "Arduino.h", "-x", "c++", str(DEVICES / "arduino" / "vowels" / "vowels.ino"), "loop.cpp"]
    subprocess.run([CC, "-std=c99", "-O1", "-c", "vowels.c", "lstmcore_edge.c"], cwd=tmp_path, check=True)
    for command in (zephyr, [CXX, "-std=gnu++11", *sketch, *model]):
        built = [*command, "-Wall", "-Wextra", "-Werror", "-o", "project"]
        subprocess.run(built, cwd=tmp_path, check=True)
        done = subprocess.run([str(tmp_path / "project")], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("self-test passed\n")
