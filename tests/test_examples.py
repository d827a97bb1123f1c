"""Every example runs as it stands."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))
NEEDS = {
    "classify_sequences.py": ("sktime", "matplotlib"),
    "detect_anomalies.py": ("sktime", "matplotlib"),
    "from_torch.py": ("torch",),
    "gradient_flow.py": ("matplotlib",),
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path):
    needs = ("sklearn", *NEEDS.get(path.name, ()))
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # quickest on a machine that is busy with other tests
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    for accuracy in re.findall(r"test accuracy (\S+)", done.stdout):
        assert float(accuracy) > 0.9, done.stdout


def test_examples_were_found():
    assert len(EXAMPLES) == 15
