"""A program as C99: constant arrays, a header with sizes and functions, the runtime, an example and a self-test.

What a device sees of a model called ``vowels``::

    vowels.h             sizes, types vowels_state and vowels_scratch, vowels_reset, vowels_step, vowels_run, …
    vowels.c             weights, tables of the model, a self-test with recorded inputs and outputs
    lstmcore_edge.h, .c  the runtime, the same for every model
    lstmcore_edge.hpp    std::array in, std::array out, for C++ programs
    main.c               an example that runs the self-test and streams the recorded inputs
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from . import templates
from .host import start
from .program import CELLS, FLOAT_CELLS, Layer, Matrix, Program, pad4

__all__ = ["runtime_sources", "write_c"]

Array = NDArray[Any]

# C99, C++17 and what the runtime's headers name: none of it may be a model's name.
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
        alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const
        constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit export
        extern false float for friend goto if inline int int8_t int16_t int32_t int64_t long main mutable
        namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
        reinterpret_cast requires restrict return short signed size_t sizeof static static_assert static_cast
        std struct switch template this thread_local throw true try typedef typeid typename uint8_t uint16_t
        uint32_t uint64_t union unsigned using virtual void volatile wchar_t while xor xor_eq
        """,
    )
)

_ACTIVATIONS = {"int8": "int8_t", "int16": "int16_t", "float32": "float"}
_FLAGS = {
    "coupled": "LSTMCORE_EDGE_COUPLED",
    "peepholes": "LSTMCORE_EDGE_PEEPHOLES",
    "relu": "LSTMCORE_EDGE_RELU",
    "exponential_forget": "LSTMCORE_EDGE_EXPONENTIAL_FORGET",
}
_NONLINEARITIES = {
    "linear": "LSTMCORE_EDGE_LINEAR",
    "relu": "LSTMCORE_EDGE_RELU_DENSE",
    "tanh": "LSTMCORE_EDGE_TANH",
    "selu": "LSTMCORE_EDGE_SELU",
}


def write_c(
    program: Program,
    folder: str | os.PathLike[str],
    name: str,
    *,
    example: Array,
    labels: Sequence[object] | None = None,
    title: str = "",
) -> list[Path]:
    """Write `program` as C99 into `folder`, which is made if need be; files of the same names are replaced.

    Parameters
    ----------
    program : Program
    folder : path
    name : str
        Begins every name in the C code: a lower-case letter, then lower-case letters, digits and underscores.
    example : ndarray (T, I)
        Features as measured, from which the self-test's inputs and outputs are recorded.
    labels : sequence, optional
        Classes in the order of the outputs; printed as text.
    title : str, optional
        One line that says what this is, for the comment at the head.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError, TypeError
        A name that C does not take, an example of the wrong shape, labels that are not one an output.
    """
    _check_name(name)
    example = np.ascontiguousarray(example, dtype=np.float32)
    if example.ndim != 2 or example.shape[0] == 0 or example.shape[1] != program.inputs:
        raise ValueError(f"example: expected shape (T, {program.inputs}) with T >= 1, got {example.shape}")
    if not np.isfinite(example).all():
        raise ValueError("example: expected finite numbers")
    if labels is not None and len(labels) != program.outputs:
        raise ValueError(f"labels: expected one for each of {program.outputs} outputs, got {len(labels)}")
    model = start(program)
    printer = _Printer(program, model, name, example, labels, " ".join(str(title).split()))
    target = Path(os.fspath(folder))
    target.mkdir(parents=True, exist_ok=True)
    source = printer.source()  # before the header, which says how many bytes its tables have
    texts = {f"{name}.h": printer.header(), f"{name}.c": source, "main.c": printer.example_program()}
    texts.update(runtime_sources())
    return [_write(target / file, text) for file, text in texts.items()]


def runtime_sources() -> dict[str, str]:
    """The runtime as two files, and its C++ wrapper: file name → text."""
    folder = Path(_core.__file__).parent / "share" / "lstmcore" / "edge"
    seen = {"lstmcore_edge.h"}

    def expanded(path: Path) -> str:
        """With each of our own headers where it is first included."""
        seen.add(path.name)

        def included(match: re.Match[str]) -> str:
            return "" if match[1] in seen else expanded(folder / match[1]) + "\n"

        return re.sub(r'^#include "(.*)"\n', included, path.read_text(encoding="utf-8"), flags=re.MULTILINE).strip()

    head = '/* lstmcore edge runtime in one file; lstmcore_edge.h describes it. */\n\n#include "lstmcore_edge.h"'
    joined = "\n\n".join([head, *(expanded(path) for path in sorted(folder.glob("*.c")))])
    sources = {"lstmcore_edge.c": joined + "\n"}
    for path in [*folder.glob("lstmcore_edge.h*")]:
        sources[path.name] = path.read_text(encoding="utf-8")
    return sources


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name: expected a str, got {type(name).__name__}")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ValueError(
            "name: expected a lower-case letter, then up to 39 lower-case letters, digits and underscores, "
            f"got {name!r:.80}"
        )
    if name in _RESERVED or name.startswith(("lstmcore", "lce_")):
        raise ValueError(f"name: {name!r} means something else in C, C++ or the runtime; choose another")


def _write(path: Path, text: str) -> Path:
    """All or nothing: a reader sees the old file or the whole new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _text(value: object) -> str:
    """A C string literal in ASCII, without trigraphs; octal escapes end after three digits, whatever follows."""
    pieces = []
    for byte in str(value).encode("utf-8", "surrogatepass"):
        character = chr(byte)
        if character in '"\\?':
            pieces.append("\\" + character)
        elif 32 <= byte < 127:
            pieces.append(character)
        else:
            pieces.append(f"\\{byte:03o}")
    return '"' + "".join(pieces) + '"'


def _comment(text: str) -> str:
    """Within /* … */: printable ASCII that cannot close it."""
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in text).replace("*/", "* /").replace("/*", "/ *")[:200]


def _number(value: Any) -> str:
    """A float of which C reads the same bits: nine digits are enough for any."""
    text = f"{float(np.float32(value)):.9g}"
    return (text if any(c in text for c in ".e") else text + ".0") + "F"


def _values(values: Array) -> Iterable[str]:
    if values.dtype == np.float32:
        return (_number(value) for value in values)
    if values.dtype == np.int32:
        # −2147483648 is not a literal in C: a minus before a number that does not fit.
        return ("(-2147483647 - 1)" if value == -(2**31) else str(value) for value in values.tolist())
    return (f"{value}U" if values.dtype == np.uint32 else str(value) for value in values.tolist())


_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t", "int32": "int32_t",
          "uint32": "uint32_t", "float32": "float"}  # fmt: skip


def _array(name: str, values: Array) -> str:
    """A constant array; name: with its type."""
    lines, line = [], "   "
    for text in _values(values):
        if len(line) + len(text) + 2 > 118:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return f"const {name}[{values.size}] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


class _Printer:
    """The texts of one export."""

    def __init__(
        self,
        program: Program,
        model: _core.EdgeModel,
        name: str,
        example: Array,
        labels: Sequence[object] | None,
        title: str,
    ) -> None:
        self.program, self.model, self.name, self.labels, self.title = program, model, name, labels, title
        self.upper = name.upper()
        self.activation = _ACTIVATIONS[program.kind]
        self.real = program.kind == "float32"
        self.output = "float" if self.real else "int32_t"
        self.test_x = model.quantise(example)
        self.test_out = model.run([example])
        self.arrays: list[str] = []
        self.weight_bytes = 0

    # Sizes, as the runtime counts them.

    def sizes(self, layer: Layer) -> tuple[int, int, int, int]:
        """x_width, h_width, cell_width, stabiliser_width."""
        h_width = pad4(layer.hidden)
        cells, stabilisers = (FLOAT_CELLS[layer.cell], 0) if self.real else CELLS[layer.cell][1:]
        return pad4(layer.inputs), h_width, cells * h_width, stabilisers * h_width

    def counts(self) -> dict[str, int]:
        program = self.program
        x_widths, h_widths, cells, stabilisers = zip(*(self.sizes(layer) for layer in program.layers), strict=True)
        pooled = pad4(program.directions * program.layers[-1].hidden)
        hidden = max((4 * dense.matrix.groups for dense in program.dense[:-1]), default=0)
        layers = len(program.layers) // program.directions
        kept = layers - 1 + (program.pooling == "none")
        return {
            "activations": sum(x_widths) + sum(h_widths),
            "cells": sum(cells),
            "stabilisers": sum(stabilisers),
            "pooled": pooled,
            "next": max(h_widths),
            "scratch": max(*h_widths, pooled) + 2 * hidden,
            "buffer": 0 if program.directions == 1 else min(kept, 2) * pooled,
        }

    # name.c

    def array(self, name: str, values: Array | None) -> str:
        """Prints an array of constants once; its name, or NULL."""
        if values is None or values.size == 0:
            return "NULL"
        self.weight_bytes += values.nbytes
        self.arrays.append("static " + _array(f"{_TYPES[values.dtype.name]} {name}", values))
        return name

    def matrix(self, name: str, matrix: Matrix) -> str:
        weights, starts, columns = matrix.packed()
        storage = {"int8": "", "int4": "_int4", "sparse": "_sparse", "float32": ""}[matrix.storage]
        product = "float" if self.real else f"{self.program.kind}{storage}"
        fields = [
            f"lstmcore_edge_product_{product}",
            self.array(f"{name}_weights", weights if weights.size else np.zeros(16, weights.dtype)),
            self.array(f"{name}_bias", None if self.real else matrix.bias),
            self.array(f"{name}_multiplier", matrix.multiplier),
            self.array(f"{name}_float_bias", matrix.bias if self.real else None),
            self.array(f"{name}_starts", starts),
            self.array(f"{name}_columns", columns),
            *(f"{count}U" for count in (matrix.groups, matrix.blocks, matrix.shift)),
            *(f"{count}U" for count in (matrix.first_blocks, matrix.first_shift)),
        ]
        return "{" + ", ".join(fields) + "}"

    def layers(self) -> str:
        """The tables of all layers; their arrays and matrices are printed on the way."""
        at = {"activations": 0, "cells": 0, "stabilisers": 0}
        entries = []
        for number, layer in enumerate(self.program.layers):
            name = f"layer{number}"
            matrices = ",\n    ".join(self.matrix(f"{name}_{m}", matrix) for m, matrix in enumerate(layer.matrices))
            self.arrays.append(f"static const lstmcore_edge_matrix {name}_matrices[] = {{\n    {matrices}}};\n")
            x_width, h_width, cells, stabilisers = self.sizes(layer)
            initial_h = layer.initial_h
            if initial_h is not None:
                initial_h = initial_h.astype(
                    {"int8": np.int8, "int16": np.int16, "float32": np.float32}[self.program.kind]
                )
            peepholes = self.array(f"{name}_peepholes", layer.peepholes)
            fields = [
                f"lstmcore_edge_{layer.cell}{'_float' if self.real else ''}",
                f"{name}_matrices",
                "NULL" if self.real else peepholes,
                peepholes if self.real else "NULL",
                self.array(f"{name}_initial_h", initial_h),
                self.array(f"{name}_initial_cells", layer.initial_cells),
                self.array(f"{name}_initial_stabilisers", None if self.real else layer.initial_stabilisers),
                *(f"{count}U" for count in (layer.inputs, layer.hidden, x_width, h_width)),
                *(f"{count}U" for count in (cells, stabilisers)),
                *(f"{count}U" for count in at.values()),
                *(str(value) for value in (layer.limit, layer.output_multiplier)),
                *(f"{count}U" for count in (layer.output_shift, layer.cell_bits, layer.peephole_bits)),
                " | ".join(f"(uint32_t){_FLAGS[option]}" for option in sorted(layer.options)) or "0U",
            ]
            entries.append("    {" + ",\n     ".join(fields) + "}")
            at["activations"] += x_width + h_width
            at["cells"] += cells
            at["stabilisers"] += stabilisers
        return ",\n".join(entries)

    def dense(self) -> str:
        entries = []
        for number, dense in enumerate(self.program.dense):
            last = number + 1 == len(self.program.dense)
            fields = [
                f"lstmcore_edge_{'output' if last else 'hidden'}{'_float' if self.real else ''}",
                self.matrix(f"dense{number}", dense.matrix),
                f"{dense.outputs}U",
                f"(uint32_t){_NONLINEARITIES[dense.activation]}",
                str(dense.limit),
                str(dense.output_multiplier),
                f"{dense.output_shift}U",
            ]
            entries.append("    {" + ", ".join(fields) + "}")
        return ",\n".join(entries)

    def source(self) -> str:
        program, counts = self.program, self.counts()
        self.arrays.clear()
        self.weight_bytes = 0
        layers, dense = self.layers(), self.dense()
        centre, scale = self.array("centre", program.centre), self.array("scale", program.scale)
        pooling = {"mean": ("lstmcore_edge_mean", "lstmcore_edge_mean_finish"),
                   "max": ("lstmcore_edge_max", "lstmcore_edge_max_finish")}.get(program.pooling)  # fmt: skip
        suffix = "_float" if self.real else ""
        pool, finish = (f"{function}{suffix}" for function in pooling) if pooling else ("NULL", "NULL")
        kind = {"int8": "INT8", "int16": "INT16", "float32": "FLOAT32"}[program.kind]
        model = ",\n    ".join(
            [
                f"layers, dense, {pool}, {finish}, {centre}, {scale}",
                f"{len(program.layers) // program.directions}U, {program.directions}U, {len(program.dense)}U",
                f"{self.upper}_INPUTS, {self.upper}_OUTPUTS",
                f"(uint32_t)LSTMCORE_EDGE_{kind}, (uint32_t)LSTMCORE_EDGE_{program.pooling.upper()}",
                str(program.input_limit),
                f"{counts['activations']}U, {counts['cells']}U, {counts['stabilisers']}U",
                f"{counts['pooled']}U, {counts['next']}U, {counts['scratch']}U",
            ]
        )
        values = {
            "name": self.name,
            "upper": self.upper,
            "title": _comment(self.title),
            "arrays": "\n".join(self.arrays),
            "layers": layers,
            "dense": dense,
            "model": model,
            "cells": "state->cells" if counts["cells"] else "NULL",
            "stabilisers": "state->stabilisers" if counts["stabilisers"] else "NULL",
            "pooled": "state->pooled" if pooling else "NULL",
            "steps": "&state->steps" if pooling else "NULL",
        }
        return templates.source(values, self.functions(), self.self_test())

    def functions(self) -> str:
        parts = [templates.RUN_BOTH if self.program.directions == 2 else templates.STEP_AND_RUN]
        if self.program.softmax:
            parts.append(templates.CLASSES_FLOAT if self.real else templates.CLASSES)
            if self.labels is not None:
                quoted = ",\n    ".join(_text(label) for label in self.labels)
                parts.append(f"const char *const {self.name}_labels[{self.upper}_OUTPUTS] = {{\n    {quoted}}};\n")
        else:
            unit = 1.0 if self.real else 2.0**-16
            scale = np.asarray(self.program.output_scale, dtype=np.float64) * unit
            for what, numbers in (("scale", scale), ("mean", self.program.output_mean)):
                listed = ", ".join(_number(np.float32(number)) for number in np.asarray(numbers, dtype=np.float64))
                parts.append(f"static const float output_{what}[{self.upper}_OUTPUTS] = {{{listed}}};\n")
            parts.append(templates.VALUE)
        return templates.fill("\n".join(parts), self.macros())

    def self_test(self) -> str:
        recorded = [(f"{self.name}_activation {self.name}_test_x", self.test_x),
                    (f"{self.name}_output {self.name}_test_out", self.test_out)]  # fmt: skip
        arrays = "\n".join(_array(name, np.ascontiguousarray(values).ravel()) for name, values in recorded)
        call = templates.TEST_CALL_BOTH if self.program.directions == 2 else templates.TEST_CALL
        call = templates.fill(call, self.macros())
        return templates.fill(templates.SELF_TEST, {**self.macros(), "arrays": arrays, "call": call})

    def macros(self) -> dict[str, str]:
        return {
            "name": self.name,
            "upper": self.upper,
            "steps": str(self.test_x.shape[0]),
            "outputs": str(self.test_out.size),
        }

    # name.h, main.c

    def header(self) -> str:
        counts, program = self.counts(), self.program
        memory = self.model.memory
        members = []
        if program.pooling == "mean":
            members.append(f"  {'float' if self.real else 'int64_t'} pooled[{counts['pooled']}];")
        if counts["stabilisers"]:
            members.append(f"  int32_t stabilisers[{counts['stabilisers']}];")
        members.append("  uint32_t steps;")  # always there: what follows begins at a multiple of four bytes
        members.append(f"  {self.name}_activation activations[{counts['activations']}];")
        if program.pooling == "max":
            members.append(f"  {self.name}_activation pooled[{counts['pooled']}];")
        if counts["cells"]:
            members.append(f"  {'float' if self.real else 'int16_t'} cells[{counts['cells']}];")
        values = {
            **self.macros(),
            "title": _comment(self.title),
            "shape": _comment(self.shape()),
            "inputs": str(program.inputs),
            "count": str(program.outputs),
            "activation": self.activation,
            "output": self.output,
            "members": "\n".join(members),
            "scratch": str(counts["scratch"]),
            "state_bytes": str(memory["state"] + (0 if program.pooling in ("mean", "max") else 4)),
            "scratch_bytes": str(memory["scratch"]),
            "weight_bytes": str(self.weight_bytes),
            "buffer": str(counts["buffer"]),
            "every_step": "true" if program.pooling == "none" else "false",
        }
        parts = templates.header_parts(program.directions == 2, program.softmax, self.labels is not None, self.real)
        if program.pooling == "none":
            values["outputs_of_run"] = f"[steps·{self.upper}_OUTPUTS]"
        else:
            values["outputs_of_run"] = f"[{self.upper}_OUTPUTS]"
        return templates.fill(parts, values)

    def shape(self) -> str:
        program = self.program
        layers = program.layers[:: program.directions]
        cells = ", ".join(f"{layer.cell} {layer.inputs} -> {layer.hidden}" for layer in layers)
        both = ", both directions" if program.directions == 2 else ""
        head = ", ".join(str(dense.outputs) for dense in program.dense)
        return f"{cells}{both}; pooling {program.pooling}; dense {head}; {program.kind} activations"

    def example_program(self) -> str:
        text = templates.MAIN_BOTH if self.program.directions == 2 else templates.MAIN
        printed = {True: ("%.6f", "(double)"), False: ("%ld", "(long)")}[self.real]
        return templates.fill(text, {**self.macros(), "format": printed[0], "cast": printed[1]})
