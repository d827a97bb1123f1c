"""Writes the table of cells in README.md, between its markers, by trying out every combination.

    python docs/make_cell_table.py            # needs the installed lstmcore, torch and onnx

tests/test_cell_table.py fails where the table and what the library does have come apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lstmcore

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- cells: made by docs/make_cell_table.py -->", "<!-- end of cells -->"
YES, NO = "✓", "–"

# Column → arguments of Recurrent that try it.
ARGUMENTS: dict[str, dict[str, object]] = {
    "layer_norm": {"layer_norm": True},
    "proj_size": {"proj_size": 2},
    "recurrent_dropout": {"recurrent_dropout": 0.3},
    "zoneout_cell": {"zoneout_cell": 0.3},
}


def recurrent(cell: str, **arguments: object) -> lstmcore.Recurrent:
    return lstmcore.Recurrent(cell, input_size=3, hidden_size=4, seed=1, **arguments)  # type: ignore[arg-type]


def run(layer: lstmcore.Recurrent) -> np.ndarray:
    """Outputs in inference, after a training pass forward and backward, all of it finite."""
    x = np.random.default_rng(0).normal(size=(5, 6, 3))
    y, _, tape = layer.forward(x, training=True)
    gradients = layer.backward(tape, np.ones_like(y))
    assert all(np.isfinite(value).all() for value in gradients.parameters.values())
    outputs: np.ndarray = layer.forward(x)[0]
    assert np.isfinite(outputs).all()
    return outputs


def can(attempt: Callable[[], object], message: str) -> bool:
    """Whether an attempt succeeds; one that does not must be refused with a ValueError that says why."""
    try:
        attempt()
    except ValueError as error:
        if re.search(message, str(error)) is None:
            raise
        return False
    return True


def try_argument(cell: str, column: str) -> str:
    plain = run(recurrent(cell))

    def attempt() -> None:
        layer = recurrent(cell, **ARGUMENTS[column])
        same = layer.parameters.keys() == recurrent(cell).parameters.keys()
        if column == "recurrent_dropout":
            x = np.ones((5, 6, 3))
            assert (layer.forward(x, training=True)[0] != layer.forward(x)[0]).any(), "accepted and ignored"
        else:
            outputs = run(layer)
            assert not same or (outputs != plain).any(), "accepted and ignored"

    return YES if can(attempt, rf"{column}.* has no |has no option '{column}'") else NO


def try_partner(cell: str, column: str) -> str:
    """Where weights go both ways, the layer that comes back is the same cell with the same outputs."""
    layer = recurrent(cell)
    if column == "Keras":
        return "in" if cell in {read_keras(kind).cell for kind in KERAS} else NO
    write, read = {"PyTorch": ("to_torch", "from_torch"), "ONNX": ("to_onnx", "from_onnx")}[column]
    if not can(lambda: getattr(layer, write)(), f"has no layer for cell '{cell}'"):
        return NO
    back = getattr(lstmcore.Recurrent, read)(getattr(layer, write)())
    np.testing.assert_allclose(run(back), run(layer), rtol=1e-5, atol=1e-6)
    return "in, out" if back.cell == cell else "out"


KERAS = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def read_keras(kind: str) -> lstmcore.Recurrent:
    """From a config and arrays, so that Keras is not needed."""
    config: dict[str, object] = {"units": 4, "activation": "tanh", "use_bias": True}
    if kind != "SimpleRNN":
        config["recurrent_activation"] = "sigmoid"
    if kind == "GRU":
        config["reset_after"] = False
    rows = 4 * KERAS[kind]
    weights = [np.ones((3, rows)), np.ones((4, rows)), np.ones(rows)]
    return lstmcore.Recurrent.from_keras({"class_name": kind, "config": config}, weights)


COLUMNS: dict[str, Callable[[str, str], str]] = {
    **dict.fromkeys(ARGUMENTS, try_argument),
    **dict.fromkeys(("PyTorch", "Keras", "ONNX"), try_partner),
}


def first_columns(cell: str) -> list[str]:
    """Name, gates, states, and the options that have no column of their own, by what the registry says."""
    info = lstmcore.cells()[cell]
    options = [f"`{name}`" for name in info["options"] if name not in ARGUMENTS]
    return [f"`{cell}`", ", ".join(info["gates"]), ", ".join(info["states"]), ", ".join(options) or NO]


def make_table() -> str:
    header = ["cell", "gates", "states", "options", *(f"`{name}`" if name in ARGUMENTS else name for name in COLUMNS)]
    lines = [header, ["---"] * len(header)]
    for cell in lstmcore.cells():
        lines.append([*first_columns(cell), *(attempt(cell, column) for column, attempt in COLUMNS.items())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replaced(text: str, table: str) -> str:
    """README's text with another table."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(replaced(README.read_text(encoding="utf-8"), make_table()), encoding="utf-8")
