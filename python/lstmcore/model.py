"""A trained network as read from a model file: predicts and steps with NumPy alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._labels import labels_from_json, labels_to_json
from ._layer_files import FORMAT, load_layer_model
from ._parameters import thread_count
from ._validation import read_sequences

if TYPE_CHECKING:
    from .edge.quantized_model import QuantizedModel

__all__ = ["Model", "Stream", "file_path", "load_model"]

Array = NDArray[Any]

# Keys of the model file's metadata that this module writes.
CLASSES = "classes"
TARGET = "target"
# By which the file of a quantised model is known.
QUANTIZED = "edge_program"
# The scheme of `quantize` whose result is a Model.
DYNAMIC_INT8 = "dynamic_int8"


class Stream:
    """State of N streams between calls of `Model.step`; made by the first call with ``state=None``."""

    def __init__(self, states: list[_core.StreamState], single: bool) -> None:
        self._states = states
        self._single = single

    def __len__(self) -> int:
        """N."""
        return len(self._states)

    def __repr__(self) -> str:
        return f"Stream(N={len(self)})"

    def reset(self) -> None:
        """Back to the start of a sequence."""
        for state in self._states:
            state.reset()

    def copy(self) -> Stream:
        """An independent state at the same point, to branch off from here."""
        return Stream([state.copy() for state in self._states], self._single)


class Model:
    """Recurrent layers, pooling, head and preprocessing of a fitted estimator; needs NumPy only.

    `load_model` reads one from a file; fitted estimators have one as ``model_``.

    Parameters
    ----------
    core : _core.Model
        The network.
    classes : ndarray of shape (K,) or None
        Labels of the outputs, in their order; None for regression.
    single_target : bool
        Regression on a 1-D y: `predict` returns (N,) instead of (N, 1).

    Attributes
    ----------
    core : _core.Model
        The network itself: `parameters`, `config`, `preprocessing`, `metadata`.
    classes : ndarray of shape (K,) or None
        Labels of the outputs.
    """

    def __init__(self, core: _core.Model, classes: Array | None = None, single_target: bool = False) -> None:
        self.core = core
        self.classes = classes
        self.single_target = single_target
        recurrent = core.config["recurrent"]
        # Read once: step() is called for every sample of a stream.
        self._features = int(recurrent["input_size"])
        self._dtype = str(recurrent["dtype"])
        self._bidirectional = bool(recurrent["bidirectional"])
        self._reverse = bool(recurrent["reverse"])

    @property
    def config(self) -> dict[str, Any]:
        """Architecture: dict(recurrent=dict(cell, input_size, hidden_size, …), pooling, activation, outputs)."""
        return self.core.config

    @property
    def n_features(self) -> int:
        """I."""
        return self._features

    @property
    def dtype(self) -> str:
        """Type of weights and outputs, "float32" or "float64"."""
        return self._dtype

    @property
    def parameters(self) -> dict[str, Array]:
        """Copies of the weights by name: "W_l0" [G·H, I], "R_l0" [G·H, H], "b_l0" [G·H], …, "head_W", "head_b"."""
        return self.core.parameters

    @property
    def metadata(self) -> dict[str, str]:
        """JSON texts that the file held beside the network; empty for a model that was not loaded."""
        return self.core.metadata

    def __repr__(self) -> str:
        recurrent = self.config["recurrent"]
        direction = "bidirectional " if recurrent["bidirectional"] else ""
        quantization = self.config["quantization"]
        kind = recurrent["precision"] if quantization == "none" else quantization
        return (
            f"Model({direction}{recurrent['cell']}, I={recurrent['input_size']}, H={recurrent['hidden_size']}, "
            f"L={recurrent['num_layers']}, K={self.config['outputs']}, {kind})"
        )

    def outputs(self, X: Any, n_jobs: int | None = None) -> Array:
        """What the head gives: (N, K) class probabilities, or numbers in the units of y, in the model's dtype.

        A model with pooling "none" gives them at every step: (N, T, K), zero past each length, or a list of (T_i, K).

        X: (N, T, I) array, NaN tail = shorter; (N, T) for I = 1; or list of (T_i, I) arrays.
        n_jobs: threads; None: the library decides, -1: all cores.
        """
        sequences = read_sequences(X)
        if sequences.features != self.n_features:
            raise ValueError(
                f"X has {sequences.features} features, but Model is expecting {self.n_features} features as input."
            )
        outputs: Array = self.core.predict(sequences.to_core(self.dtype), n_threads=thread_count(n_jobs))
        return outputs

    def predict(self, X: Any, n_jobs: int | None = None) -> Array:
        """What the estimator's predict gives: (N,) labels, or numbers (N,) or (N, K), float64. X as for `outputs`.

        ValueError for a model with pooling "none", whose outputs at every step `outputs` gives.
        """
        if self.config["pooling"] == "none":
            raise ValueError("predict: this model has pooling 'none', so it gives outputs at every step. Use outputs.")
        outputs = self.outputs(X, n_jobs)
        if self.config["activation"] == "softmax":
            best: Array = np.argmax(outputs, axis=1)
            labels: Array = best if self.classes is None else self.classes[best]
            return labels
        return self.as_targets(outputs)

    def predict_proba(self, X: Any, n_jobs: int | None = None) -> Array:
        """(N, K) probabilities in the order of `classes`. X as for `outputs`. AttributeError for a regression model."""
        if self.config["activation"] != "softmax":
            raise AttributeError("predict_proba: this model predicts numbers, not classes. Use predict.")
        return self.outputs(X, n_jobs)

    def as_targets(self, outputs: Array) -> Array:
        """(N, K) numbers of the head → float64 in the shape that y had."""
        values = outputs.astype(np.float64)
        return values[:, 0] if self.single_target else values

    def step(self, x: ArrayLike, state: Stream | None = None) -> tuple[Array, Stream]:
        """One time step of one or several streams.

        Parameters
        ----------
        x : (I,) or (N, I)
            Features of this step, as in a row of a sequence; NaN and infinity are refused.
        state : Stream or None
            What the last call returned; None starts a sequence. It is updated in place and returned;
            `state.copy()` before the call keeps the old one.

        Returns
        -------
        outputs : (K,) or (N, K)
            What `outputs` would give for the sequence so far.
        state : Stream
        """
        if type(state) is Stream and state._single:
            fast = self.core.try_step(x, state._states[0])  # what comes without a need for the checks below
            if fast is not None:
                return fast, state
        if self._reverse:
            raise ValueError("step: this model reads in reverse, so it needs the whole sequence. Use predict.")
        if self._bidirectional:
            raise ValueError(
                "step: this model is bidirectional, so it needs the whole sequence. Use predict, or train with "
                "bidirectional=False."
            )
        steps = x if isinstance(x, np.ndarray) and x.dtype == self._dtype else self._converted(x)
        single = steps.ndim == 1
        if single:
            steps = steps[None]
        if steps.ndim != 2 or steps.shape[1] != self._features or not len(steps):
            raise ValueError(
                f"step: x has shape {np.shape(x)}. Expected ({self._features},), or (N, {self._features}) for N."
            )
        if not np.isfinite(steps).all():
            raise ValueError("step: x contains NaN or infinity. Drop the step or fill the gap.")
        if state is None:
            state = Stream([self.core.make_state() for _ in steps], single)
        elif not isinstance(state, Stream):
            raise TypeError(
                f"step: state is of type {type(state).__name__}. Expected what the last step returned, or None."
            )
        elif len(state) != len(steps) or state._single != single:
            raise ValueError(
                f"step: state is of {len(state)} stream(s), x has shape {np.shape(x)}. Expected one row a stream."
            )
        outputs = [self.core.step(row, one) for row, one in zip(steps, state._states, strict=True)]
        return (outputs[0] if single else np.stack(outputs)), state

    def _converted(self, x: ArrayLike) -> Array:
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is found by the check for that
                return np.asarray(x, dtype=self._dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(f"step: x is not numeric: {error}. Expected numbers ({self._features},).") from error

    @overload
    def quantize(  # type: ignore[overload-overlap]
        self, X_calibration: None = None, *, scheme: Literal["dynamic_int8"]
    ) -> Model: ...

    @overload
    def quantize(
        self,
        X_calibration: Any = None,
        scheme: str = "int8",
        *,
        weights: str = "int8",
        ranges: str = "mse",
        y: Any = None,
        finetune_epochs: int = 0,
        finetune_learning_rate: float = 3e-4,
        random_state: int = 0,
    ) -> QuantizedModel: ...

    def quantize(
        self,
        X_calibration: Any = None,
        scheme: str = "int8",
        *,
        weights: str = "int8",
        ranges: str = "mse",
        y: Any = None,
        finetune_epochs: int = 0,
        finetune_learning_rate: float = 3e-4,
        random_state: int = 0,
    ) -> QuantizedModel | Model:
        """The network in integers: for microcontrollers, or with "dynamic_int8" for servers and desktops.

        As `SequenceClassifier.quantize`, which says what is what.
        """
        if scheme == DYNAMIC_INT8:
            from .inference.dynamic_int8 import quantize_dynamic

            return quantize_dynamic(
                self,
                X_calibration=X_calibration,
                weights=weights,
                ranges=ranges,
                y=y,
                finetune_epochs=finetune_epochs,
                finetune_learning_rate=finetune_learning_rate,
                random_state=random_state,
            )
        from .edge.api import quantize

        return quantize(
            self,
            X_calibration,
            scheme,
            weights=weights,
            ranges=ranges,
            y=y,
            finetune_epochs=finetune_epochs,
            finetune_learning_rate=finetune_learning_rate,
            seed=random_state,
        )

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
        """Writes one safetensors file, atomically; `load_model` and C++ read it. metadata: further JSON texts."""
        texts = {TARGET: json.dumps({"single": self.single_target})}
        if self.classes is not None:
            texts[CLASSES] = json.dumps(labels_to_json(self.classes))
        self.core.save(os.fspath(path), {**texts, **(metadata or {})})


def load_model(path: str | os.PathLike[str]) -> Any:
    """The network in a model file, for prediction with NumPy alone.

    A `Model` for sequence estimators, a `LayerModel` (_layer_network.py) for those whose network is put together from
    layers, a `QuantizedModel` for one in integers. Its `predict` gives what the estimator's did. For the estimator
    itself use `lstmcore.load`.
    Raises `lstmcore.ModelFileError` for a file that is damaged or is not a model, OSError where it cannot be read.
    """
    path = file_path(path)
    with open(path, "rb"):  # Python's own errors for a file that is missing or may not be read
        pass
    header = _file_header(path)
    if header.get("format") == FORMAT:
        if QUANTIZED in header:
            from .edge.quantized_model import QuantizedModel

            return QuantizedModel.load(path)
        return load_layer_model(path)
    core = _core.Model.load(os.fspath(path))
    classes = None
    try:
        if CLASSES in core.metadata:
            classes = labels_from_json(parse_json(core.metadata[CLASSES], CLASSES))
        target = parse_json(core.metadata.get(TARGET, "{}"), TARGET)
        single = target.get("single", False) if isinstance(target, dict) else None
        if not isinstance(single, bool):
            raise ValueError(f"metadata {TARGET!r} is not an object with a true or false 'single'")
        outputs = int(core.config["outputs"])
        if single and outputs != 1:
            raise ValueError(f"a single target is declared, but the head has {outputs} outputs")
        if classes is not None and (len(classes) != outputs or core.config["activation"] != "softmax"):
            raise ValueError(f"{len(classes)} classes for a {core.config['activation']} head of {outputs} outputs")
    except ValueError as error:
        raise _core.ModelFileError(f"{os.fspath(path)}: {error}") from error
    return Model(core, classes, single)


def file_path(path: Any) -> str:
    """A path as text; TypeError for anything else, such as a number, which open() takes for an open file and closes."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a str or os.PathLike, such as 'model.safetensors', got {path!r:.40}")
    return os.fspath(path)


def _file_header(path: str | os.PathLike[str]) -> dict[str, str]:
    """Its metadata; empty also for what is no file of ours: reading it then says what is wrong."""
    try:
        return _core.read_metadata(os.fspath(path))
    except _core.ModelFileError:
        return {}


def parse_json(text: str, key: str) -> Any:
    """Strict JSON; ValueError naming the metadata key for everything else, however deep or long."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata {key!r} is not valid JSON: {error}") from error
