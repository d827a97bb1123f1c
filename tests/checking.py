"""Comparisons that tests share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest error divided by the largest magnitude expected; infinite when anything is not finite."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return np.inf
    error = float(np.abs(actual - expected).max(initial=0.0))
    scale = float(np.abs(expected).max(initial=0.0))
    return error if error == 0.0 else error / scale if scale > 0.0 else np.inf


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float, name: str) -> None:
    assert np.shape(actual) == np.shape(expected), f"{name}: shape {np.shape(actual)}, expected {np.shape(expected)}"
    error = relative_error(actual, expected)
    assert error <= tolerance, f"{name}: relative error {error:.3g} exceeds {tolerance:.3g}"


def assert_all_close(
    actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float, name: str
) -> None:
    assert list(actual) == list(expected), f"{name}: {list(actual)}, expected {list(expected)}"
    for key, value in expected.items():
        assert_close(actual[key], value, tolerance, f"{name}[{key}]")


def assert_bitwise(actual: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Equal in type, shape and every bit (so that −0 and 0 differ, and NaN equals itself)."""
    actual, expected = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    assert actual.dtype == expected.dtype, f"{name}: {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    if actual.tobytes() != expected.tobytes():
        different, error = int((actual != expected).sum()), relative_error(actual, expected)
        raise AssertionError(f"{name}: {different} of {actual.size} elements differ, relative error {error:.3g}")


def assert_all_bitwise(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], name: str) -> None:
    assert list(actual) == list(expected), f"{name}: {list(actual)}, expected {list(expected)}"
    for key, value in expected.items():
        assert_bitwise(actual[key], value, f"{name}[{key}]")
