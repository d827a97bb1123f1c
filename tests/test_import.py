"""`import lstmcore` loads NumPy and the compiled core, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import lstmcore


def fresh(program: str) -> Any:
    """What a new interpreter prints as JSON."""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return json.loads(result.stdout)


LOADED = "import json, sys; {}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
OURS = "import json, sys; {}; print(json.dumps([name for name in sys.modules if name.startswith('lstmcore')]))"
HEAVY = {"sklearn", "scipy", "pandas", "matplotlib", "tqdm", "joblib", "sktime", "torch", "onnx", "keras"}


def test_import_loads_numpy_and_the_core_only() -> None:
    third_party = set(fresh(LOADED.format("import lstmcore"))) - set(fresh(LOADED.format("import numpy")))
    assert third_party - set(sys.stdlib_module_names) == {"lstmcore"}
    assert set(fresh(OURS.format("import lstmcore"))) == {"lstmcore", "lstmcore._core"}


@pytest.mark.parametrize(
    "use",
    [
        "Recurrent",
        "load_model",
        "Model",
        "converters",
        "metrics",
        "EpochInfo",
        "gradient_flow",
        "gate_statistics",
        "TreeRecurrent",
    ],
)
def test_what_needs_numpy_only(use: str) -> None:
    assert not HEAVY & set(fresh(LOADED.format(f"import lstmcore; lstmcore.{use}")))


def test_estimators_load_on_first_use() -> None:
    loaded = set(fresh(LOADED.format("import lstmcore; lstmcore.SequenceClassifier")))
    assert "sklearn" in loaded
    assert not {"matplotlib", "tqdm", "sktime", "torch", "onnx", "keras"} & loaded


def test_time() -> None:
    """Little more than NumPy itself takes: processor time, best of five, so that a busy machine does not matter."""
    program = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"
    ours, numpys = (min(fresh(program.format(name)) for _ in range(5)) for name in ("lstmcore", "numpy"))
    assert ours <= numpys + 0.05


def test_every_name_is_there_and_listed() -> None:
    assert set(lstmcore.__all__) <= set(dir(lstmcore))
    for name in lstmcore.__all__:
        assert getattr(lstmcore, name) is not None
    with pytest.raises(AttributeError, match="module 'lstmcore' has no attribute 'SequenceWizard'"):
        _ = lstmcore.SequenceWizard
    assert issubclass(lstmcore.ModelFileError, ValueError)
    assert set(lstmcore.cells()) >= {"lstm", "elman"}
