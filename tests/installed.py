"""What the tests of the built package share: where its libraries are, and what binutils say about them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import lstmcore

PACKAGE = Path(lstmcore.__file__).parent
LIB = PACKAGE / "lib"
LIBRARY = LIB / "liblstmcore.so"
ENGINES = sorted(LIB.glob("liblstmcore_engine_*.so"))


def binutil(tool: str, *arguments: str | Path) -> str:
    """Output of nm or readelf, which come with every compiler."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    return subprocess.run([tool, *arguments], check=True, capture_output=True, text=True).stdout


def core() -> Path:
    (path,) = PACKAGE.glob("_core*.so")
    return path


def needed(path: Path) -> list[str]:
    """Libraries that a library asks the loader for."""
    lines = binutil("readelf", "-d", path).splitlines()
    return [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]


def sanitized() -> bool:
    """Whether the installed package was built with a sanitizer, which adds symbols, sections and size."""
    return any(name.startswith(("libasan", "libubsan", "libtsan")) for name in needed(LIBRARY))
