"""A quantised network on the desktop: predictions, streams and files, computed by the code that devices run."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._labels import labels_from_json, labels_to_json
from .._parameters import thread_count
from .._validation import SequenceArrays, check_count, read_sequences, read_weights
from ..model import parse_json
from .export import write_c
from .files import read_program, write_program
from .host import start
from .program import Program
from .report import QuantizationReport

__all__ = ["QuantizedModel", "QuantizedStream"]

Array = NDArray[Any]

_Q16 = 2.0**-16
# "kind" in files → module and name of the class.
_KINDS = {
    "tagger": (".quantized_steps", "QuantizedTagger"),
    "transcriber": (".quantized_steps", "QuantizedTranscriber"),
    "forecaster": (".quantized_forecaster", "QuantizedForecaster"),
}


class QuantizedStream:
    """State of N streams between calls of `QuantizedModel.step`; made by the first call with ``state=None``."""

    def __init__(self, model: _core.EdgeModel, states: list[_core.EdgeState], single: bool) -> None:
        self._model = model
        self._states = states
        self._single = single

    def __len__(self) -> int:
        """N."""
        return len(self._states)

    def __repr__(self) -> str:
        return f"QuantizedStream(N={len(self)})"

    def reset(self) -> None:
        """Back to the start of a sequence."""
        for state in self._states:
            state.reset()

    def copy(self) -> QuantizedStream:
        """An independent state at the same point, to branch off from here."""
        return QuantizedStream(self._model, [state.copy() for state in self._states], self._single)


class QuantizedModel:
    """A trained network in integers, with the predictions that a device makes of it, to the last bit.

    ``quantize`` of fitted estimators and of `lstmcore.model.Model` returns one; `load_model` and `lstmcore.load` read
    one from a file. Needs NumPy only.

    Parameters
    ----------
    program : lstmcore.edge.program.Program
        What the runtime runs.
    classes : ndarray of shape (K,) or None
        Labels of the outputs, in their order; None for regression.
    single_target : bool
        Regression on a 1-D y: `predict` returns (N,) instead of (N, 1).
    report : lstmcore.edge.report.QuantizationReport or None
        What quantising changed.

    Attributes
    ----------
    program : lstmcore.edge.program.Program
        Integer weights, scales and sizes.
    classes_ : ndarray of shape (K,) or None
        Labels of the outputs.
    n_features_in_ : int
        I, features of a step.
    report_ : lstmcore.edge.report.QuantizationReport or None
        Ranges and errors of each layer; ``print(model.report_)`` shows a table.

    Raises
    ------
    ValueError, TypeError
        A program that the runtime cannot rely on: shapes, ranges, sums that could overflow.
    """

    #: Of subclasses, in files: their name, and arguments beyond those of this class.
    kind: str | None = None
    _more: tuple[str, ...] = ()

    def __init__(
        self,
        program: Program,
        classes: Array | None = None,
        single_target: bool = False,
        report: QuantizationReport | None = None,
    ) -> None:
        self.program = program
        self.classes_ = classes
        self.single_target = single_target
        self.report_ = report
        self.n_features_in_ = program.inputs
        self._core = start(program)
        self._check()

    def _check(self) -> None:
        """ValueError where program, classes and single_target do not fit together."""
        program, classes = self.program, self.classes_
        if classes is not None and (len(classes) != program.outputs or not program.softmax):
            raise ValueError(f"classes: {len(classes)} labels for {program.outputs} outputs, softmax={program.softmax}")
        if self.single_target and (program.softmax or program.outputs != 1):
            raise ValueError(f"single_target: {program.outputs} outputs, softmax={program.softmax}")

    @property
    def scheme(self) -> str:
        """ "int8", "int8x16" or "float32"."""
        return {"int8": "int8", "int16": "int8x16", "float32": "float32"}[self.program.kind]

    def __repr__(self) -> str:
        first = self.program.layers[0]
        direction = "bidirectional " if self.program.directions == 2 else ""
        return (
            f"{type(self).__name__}({self.scheme}, {direction}{first.cell}, I={self.program.inputs}, H={first.hidden}, "
            f"L={len(self.program.layers) // self.program.directions}, K={self.program.outputs})"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_core"]  # made from the program in a moment
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._core = start(self.program)

    # --- whole sequences ---------------------------------------------------------------------------------------------

    def predict_raw(self, X: Any, n_jobs: int | None = None) -> Array:
        """What a device gives: (N, K) int32 in Q16 (value · 2^16), float32 of a float32 model; before softmax.

        With pooling "none" (ΣT_i, K), the steps of one sequence after the other. X: (N, T, I) array, NaN tail =
        shorter; (N, T) for I = 1; or list of (T_i, I) arrays, as measured. n_jobs: threads; None: the library decides,
        -1: all cores.
        """
        return self._raw(self._read(X), n_jobs)

    def outputs(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N, K) class probabilities, or numbers in the units of y, float64. X, n_jobs: as for `predict_raw`.

        With pooling "none" at every step: (N, T, K), zero past each length, or a list of (T_i, K).
        """
        sequences = self._read(X)
        values = self._as_outputs(self._raw(sequences, n_jobs))
        if self.program.pooling != "none":
            return values
        parts = np.split(values, np.cumsum(sequences.lengths)[:-1])
        if isinstance(sequences.data, list):
            return parts  # type: ignore[return-value]
        padded = np.zeros((len(parts), sequences.data.shape[1], self.program.outputs))
        for to, part in zip(padded, parts, strict=True):
            to[: len(part)] = part
        return padded

    def predict(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N,) labels, the first of equals, or numbers (N,) or (N, K), float64. X, n_jobs: as for `predict_raw`.

        ValueError for a model with pooling "none", whose outputs at every step `outputs` gives.
        """
        if self.program.pooling == "none":
            raise ValueError("predict: this model has pooling 'none', so it gives outputs at every step. Use outputs.")
        raw = self.predict_raw(X, n_jobs)
        if self.program.softmax:
            best: Array = np.argmax(raw, axis=1)
            labels: Array = best if self.classes_ is None else self.classes_[best]
            return labels
        values = self._as_outputs(raw)
        return values[:, 0] if self.single_target else values

    def predict_proba(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N, K) probabilities in the order of `classes_`, float64: the softmax of the device's logits.

        AttributeError for a regression model.
        """
        if not self.program.softmax:
            raise AttributeError("predict_proba: this model predicts numbers, not classes. Use predict.")
        return self.outputs(X, n_jobs)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy of a classifier, R² of a regressor (mean over targets). X: see `predict_raw`; y: (N,) or (N, K)."""
        predicted = self.predict(X)
        truth = np.asarray(y)
        check_count(len(truth) if truth.ndim else 0, "y", len(predicted), "X")
        weights = read_weights(sample_weight, len(predicted), "sample_weight")
        if self.program.softmax:
            return float(np.average(predicted == truth, weights=weights))
        if truth.shape != predicted.shape:
            raise ValueError(f"y has shape {truth.shape}. Expected {predicted.shape}.")
        return r_squared(truth, predicted, weights)

    def _read(self, X: Any) -> SequenceArrays:
        sequences = read_sequences(X)
        if sequences.features != self.n_features_in_:
            raise ValueError(
                f"X has {sequences.features} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input."
            )
        return sequences

    def _raw(self, sequences: SequenceArrays, n_jobs: int | None) -> Array:
        raw: Array = self._core.run(sequences.to_core("float32"), n_threads=thread_count(n_jobs))
        return raw

    def _as_outputs(self, raw: Array) -> Array:
        """(…, K) as the device gives it → probabilities, or numbers in the units of y."""
        scores = self._scores(raw)
        if self.program.softmax:
            terms = np.exp(scores - scores.max(axis=-1, keepdims=True))
            probabilities: Array = terms / terms.sum(axis=-1, keepdims=True)
            return probabilities
        targets: Array = scores * self.program.output_scale + self.program.output_mean
        return targets

    def _scores(self, raw: Array) -> Array:
        """(…, K) as the device gives it → what the head's last layer gives."""
        scores: Array = raw.astype(np.float64) * (1.0 if self.program.kind == "float32" else _Q16)
        return scores

    # --- streams -----------------------------------------------------------------------------------------------------

    def step(self, x: ArrayLike, state: QuantizedStream | None = None) -> tuple[Array, QuantizedStream]:
        """One time step of one or several streams.

        Parameters
        ----------
        x : (I,) or (N, I)
            Features of this step as measured; NaN and infinity are refused.
        state : QuantizedStream or None
            What the last call returned; None starts a sequence. It is updated in place and returned.

        Returns
        -------
        outputs : (K,) or (N, K)
            What `outputs` would give for the sequence so far.
        state : QuantizedStream

        Raises
        ------
        ValueError
            Bidirectional model, wrong number of features or streams, NaN or infinity.
        """
        if self.program.directions == 2:
            raise ValueError(
                "step: this model is bidirectional, so it needs the whole sequence. Use predict, or train with "
                "bidirectional=False."
            )
        steps = np.asarray(x, dtype=np.float32)
        single = steps.ndim == 1
        if single:
            steps = steps[None]
        if steps.ndim != 2 or steps.shape[1] != self.n_features_in_:
            expected = self.n_features_in_
            raise ValueError(f"step: x has shape {np.shape(x)}. Expected ({expected},), or (N, {expected}) for N.")
        if not np.isfinite(steps).all():
            raise ValueError("step: x contains NaN or infinity. Drop the step or fill the gap.")
        if state is None:
            state = QuantizedStream(self._core, [self._core.make_state() for _ in steps], single)
        elif not isinstance(state, QuantizedStream):
            raise TypeError(
                f"step: state is of type {type(state).__name__}. Expected what the last step returned, or None."
            )
        elif state._model is not self._core or len(state) != len(steps) or state._single != single:
            raise ValueError(
                f"step: state is of {len(state)} stream(s) of {'this' if state._model is self._core else 'another'} "
                f"model, x has shape {np.shape(x)}. Expected one row a stream."
            )
        raw = np.stack([self._core.step(row, one) for row, one in zip(steps, state._states, strict=True)])
        outputs = self._as_outputs(raw)
        return (outputs[0] if single else outputs), state

    # --- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file, atomically; `lstmcore.load` and `load_model` read it."""
        x = _test_input(self.program)
        write_program(self.program, path, json.dumps(self._document(), allow_nan=False), (x, self._core.run([x])))

    def _document(self) -> dict[str, Any]:
        """What the file says beside the program; further entries are arguments of the class."""
        return {
            "single": bool(self.single_target),
            "classes": None if self.classes_ is None else labels_to_json(self.classes_),
            "report": None if self.report_ is None else self.report_.to_json(),
            **({} if self.kind is None else {"kind": self.kind}),
        }

    def _export_labels(self) -> list[Any] | None:
        """One for each output of the device."""
        return None if self.classes_ is None else self.classes_.tolist()

    def export_c(
        self, folder: str | os.PathLike[str], name: str = "model", *, example: ArrayLike | None = None
    ) -> list[Path]:
        """Writes the network as C99 for any compiler and chip: docs/edge.md.

        Parameters
        ----------
        folder : path
            Made if need be; files of the same names are replaced: ``<name>.h``, ``<name>.c``, ``lstmcore_edge.h``,
            ``lstmcore_edge.c``, ``lstmcore_edge.hpp`` and ``main.c``.
        name : str, default "model"
            Begins every name in the C code: a lower-case letter, then lower-case letters, digits and underscores.
        example : array-like of shape (T, I), optional
            Features as measured, from which the self-test's inputs and outputs are recorded; a pattern over the range
            of the inputs by default.

        Returns
        -------
        list of pathlib.Path
            The files written.

        Raises
        ------
        ValueError, TypeError
            A name that C does not take, an example of the wrong shape.
        """
        return write_c(
            self.program,
            folder,
            name,
            example=_test_input(self.program) if example is None else np.asarray(example),
            labels=self._export_labels(),
            title=repr(self),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> QuantizedModel:
        """The model that `save` wrote, of the class that wrote it.

        Raises `lstmcore.ModelFileError` for a file that is damaged or another kind of file, OSError where it cannot be
        read.
        """
        program, text, (x, recorded) = read_program(path)
        try:
            document = parse_json(text, "quantized")
            if not isinstance(document, dict) or not {"single", "classes", "report"} <= set(document):
                raise ValueError("metadata 'quantized' is not an object with 'single', 'classes' and 'report'")
            if not isinstance(document["single"], bool):
                raise ValueError("metadata 'quantized': 'single' is neither true nor false")
            classes = None if document["classes"] is None else labels_from_json(document["classes"])
            report = None if document["report"] is None else QuantizationReport.from_json(document["report"])
            kind = _class_of(document.get("kind"))
            more = {name: document[name] for name in set(document) - {"single", "classes", "report", "kind"}}
            if set(more) != set(kind._more):
                raise ValueError(
                    f"metadata 'quantized': {', '.join(sorted(more)) or 'nothing'} is told beyond the rest"
                )
            model = kind(program, classes, document["single"], report, **more)
            found = model._core.run([x])
            close = np.array_equal(found, recorded) if program.kind != "float32" else _close(found, recorded)
            if not close:
                raise ValueError("the network does not reproduce the test vector in the file")
        except (TypeError, ValueError) as error:
            raise _core.ModelFileError(f"{os.fspath(path)}: {error}") from error
        return model


def _class_of(kind: Any) -> type[QuantizedModel]:
    """The class that a file's "kind" means."""
    if kind is None:
        return QuantizedModel
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"metadata 'quantized': kind {kind!r}; known are {', '.join(_KINDS)}")
    home, name = _KINDS[kind]
    made: type[QuantizedModel] = getattr(importlib.import_module(home, __package__), name)
    return made


def _close(found: Array, recorded: Array) -> bool:
    """Another machine rounds floats differently."""
    return found.shape == recorded.shape and bool(np.allclose(found, recorded, rtol=1e-4, atol=1e-4))


def _test_input(program: Program) -> Array:
    """(16, I): a fixed pattern over the range of the inputs, so that most of the network takes part."""
    steps, features = np.meshgrid(np.arange(16), np.arange(program.inputs), indexing="ij")
    pattern = ((7 * steps + 5 * features + 3 * steps * features) % 17 - 8) / 8.0
    reach = max(program.input_limit, 1)
    with np.errstate(all="ignore"):
        x = (program.centre + pattern * reach / np.where(program.scale == 0, 1, program.scale)).astype(np.float32)
    return np.ascontiguousarray(np.nan_to_num(x))


def r_squared(truth: Array, predicted: Array, weights: Array | None = None) -> float:
    """Mean over targets of 1 − residual / total sum of squares; a constant target counts 1 if met exactly, else 0."""
    truth, predicted = (np.asarray(v, dtype=np.float64).reshape(len(truth), -1) for v in (truth, predicted))
    weight = np.ones(len(truth)) if weights is None else weights
    residual = weight @ np.square(truth - predicted)
    total = weight @ np.square(truth - np.average(truth, axis=0, weights=weight))
    share = np.divide(residual, total, out=np.where(residual > 0, 1.0, 0.0), where=total > 0)
    return float(np.mean(1.0 - share))
