"""A reader and writer of model files in plain Python, from docs/model-file.md: tests take files apart with it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I8": np.dtype("i1"), "U8": np.dtype("u1")}


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header as parsed JSON, and the bytes of the tensors."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: dict[str, Any] | str | bytes, tensors: bytes) -> bytes:
    if isinstance(header, dict):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + tensors


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata."""
    header, data = split(path.read_bytes())
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def _fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def checksum(header: dict[str, Any], tensors: bytes) -> str:
    hashed = b""
    for name, value in sorted(header["__metadata__"].items(), key=lambda item: item[0].encode()):
        if name != "checksum":
            hashed += _text(name) + _text(value)
    for name, entry in sorted(header.items(), key=lambda item: item[0].encode()):
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            shape = entry["shape"]
            hashed += _text(name) + _text(entry["dtype"]) + struct.pack(f"<{1 + len(shape)}Q", len(shape), *shape)
            hashed += struct.pack("<Q", _fnv1a(tensors[begin:end]))
    return f"fnv1a64:{_fnv1a(hashed):016x}"


def sealed(header: dict[str, Any], tensors: bytes) -> bytes:
    """A file whose checksum is right, so that whatever else is wrong with it is what a reader finds."""
    header = {**header, "__metadata__": dict(header["__metadata__"])}
    header["__metadata__"]["checksum"] = checksum(header, tensors)
    return join(header, tensors)
