"""The edge runtime in this process: the very C code that devices run."""

from __future__ import annotations

from .. import _core
from .program import Program

__all__ = ["start"]


def start(program: Program) -> _core.EdgeModel:
    """A program, ready to run. ValueError for one that the runtime cannot rely on."""
    return _core.EdgeModel(program.fields())
