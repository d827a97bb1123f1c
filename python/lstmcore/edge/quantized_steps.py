"""Quantised networks with an output at every step: of SequenceTagger and SequenceTranscriber. NumPy only.

Shape letters: N sequences, T time steps, I input features, K labels.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._step_model import StepModel
from .._steps import object_array
from .._validation import SequenceArrays, check_count, read_weights
from ..metrics import edit_distance
from ..model import Model
from .api import quantize
from .program import Program
from .quantized_model import QuantizedModel
from .report import QuantizationReport

__all__ = ["QuantizedTagger", "QuantizedTranscriber", "quantize_steps"]

Array = NDArray[Any]


class QuantizedTagger(QuantizedModel):
    """A trained SequenceTagger in integers: a label for every step, with the predictions that a device makes of it.

    `SequenceTagger.quantize` returns one, `lstmcore.load` reads one from a file. Everything else is as for
    `lstmcore.QuantizedModel`; `outputs` and `predict_proba` are the same.
    """

    kind = "tagger"

    def _check(self) -> None:
        if self.classes_ is None or not self.program.softmax or self.program.pooling != "none" or self.single_target:
            raise ValueError(f"{self.kind}: a network without labels at every step")
        if len(self.classes_) != self._labels_count():
            raise ValueError(f"classes: {len(self.classes_)} labels for {self.program.outputs} outputs")

    def _labels_count(self) -> int:
        return self.program.outputs

    @property
    def _names(self) -> Array:
        assert self.classes_ is not None
        return self.classes_

    def predict(self, X: Any, n_jobs: int | None = None) -> Array:
        """Labels of all steps: (N,) objects, (T_i,) each; (N, T) where X is one array without padding.

        X, n_jobs: as for `predict_raw`.
        """
        sequences = self._read(X)
        found = [self._names[np.argmax(item, axis=1)] for item in self._logits(sequences, n_jobs)]
        return _as_written(sequences, found)

    def predict_proba(self, X: Any, n_jobs: int | None = None) -> Array:
        """Probability of each label at each step: (N,) objects, (T_i, K) each; or (N, T, K). Ordered as `classes_`."""
        sequences = self._read(X)
        count = self._labels_count()
        found = [self._as_outputs(item)[:, :count] for item in self._logits(sequences, n_jobs)]
        return _as_written(sequences, found)

    def outputs(self, X: Any, n_jobs: int | None = None) -> Array:
        """As `predict_proba`."""
        return self.predict_proba(X, n_jobs)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Share of steps for which `predict` has the right label. y: N sequences of labels, one a step."""
        sequences = self._read(X)
        found = [self._names[np.argmax(item, axis=1)] for item in self._logits(sequences, None)]
        check_count(len(y), "y", len(found), "X")
        for n, (labels, path) in enumerate(zip(y, found, strict=True)):
            if len(labels) < len(path):
                raise ValueError(f"y[{n}] has {len(labels)} labels, but X[{n}] has {len(path)} steps.")
        weights = read_weights(sample_weight, len(found), "sample_weight")
        steps = np.repeat(np.ones(len(found)) if weights is None else weights, [len(path) for path in found])
        right = [np.asarray(labels)[: len(path)] == path for labels, path in zip(y, found, strict=True)]
        return float(np.average(np.concatenate(right), weights=steps))

    def step(self, x: ArrayLike, state: Any = None) -> tuple[Array, Any]:
        """One time step of one or several streams: probabilities (K,) or (N, K) of this step's label, and the state.

        x, state, errors: as of `QuantizedModel.step`.
        """
        outputs, state = super().step(x, state)
        return outputs[..., : self._labels_count()], state

    def _logits(self, sequences: SequenceArrays, n_jobs: int | None) -> list[Array]:
        """(T_i, outputs) of each sequence, as the device gives them."""
        return np.split(self._raw(sequences, n_jobs), np.cumsum(sequences.lengths)[:-1])


class QuantizedTranscriber(QuantizedTagger):
    """A trained SequenceTranscriber in integers: what a device gives at every step, and label sequences read from it.

    `SequenceTranscriber.quantize` returns one, `lstmcore.load` reads one from a file. The device computes the outputs,
    of which the last is that of no label (the blank). Reading them by best path, which merges repeats and drops blanks,
    or by beam search, happens here.
    """

    kind = "transcriber"
    _more = ("beam_width",)

    def __init__(
        self,
        program: Program,
        classes: Array | None = None,
        single_target: bool = False,
        report: QuantizationReport | None = None,
        beam_width: int = 0,
    ) -> None:
        super().__init__(program, classes, single_target, report)
        if type(beam_width) is not int or not 0 <= beam_width < 2**31:
            raise ValueError(f"beam_width: expected an int >= 0 (0: best path), got {beam_width!r}")
        self.beam_width = beam_width

    def _labels_count(self) -> int:
        return self.program.outputs - 1

    def predict(self, X: Any, n_jobs: int | None = None) -> Array:
        """Labels of each sequence: (N,) objects, (L_i,) each. X, n_jobs: as for `predict_raw`."""
        sequences = self._read(X)
        scores, blank = [self._scores(item) for item in self._logits(sequences, n_jobs)], self._labels_count()
        if not self.beam_width:
            return object_array(self._names[item] for item in _core.ctc_greedy(scores, blank))
        beams = _core.ctc_beam(scores, blank, self.beam_width, None)
        return object_array(self._names[found[0][0] if found else np.zeros(0, dtype=np.int32)] for found in beams)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """1 − label error rate of `predict`, as of `SequenceTranscriber.score`. y: N sequences of labels."""
        found = self.predict(X)
        check_count(len(y), "y", len(found), "X")
        weights = read_weights(sample_weight, len(found), "sample_weight")
        each = np.ones(len(found)) if weights is None else weights
        errors = [edit_distance(np.asarray(a).tolist(), b.tolist()) for a, b in zip(y, found, strict=True)]
        labels = float(each @ [len(item) for item in y])
        if labels == 0.0:
            raise ValueError("y has no labels.")
        return 1.0 - float(each @ errors) / labels

    def _export_labels(self) -> list[Any]:
        return [*self._names.tolist(), ""]

    def _document(self) -> dict[str, Any]:
        return {**super()._document(), "beam_width": self.beam_width}


def _as_written(sequences: SequenceArrays, items: list[Array]) -> Array:
    """(N,) objects of T entries each; (N, T, …) where X came as one array without padding."""
    data = sequences.data
    whole = not isinstance(data, list) and bool((sequences.lengths == data.shape[1]).all())
    return np.stack(items) if whole else object_array(items)


def as_plain_model(step_model: StepModel) -> Model:
    """A network of steps as a Model with pooling "none"; ValueError, saying what to do, for what is more than that."""
    config = step_model.network.config
    if config.get("crf"):
        raise ValueError(
            "quantize: crf=True does not run on the edge runtime: it ends at the outputs of each step. Fit with "
            "crf=False, or find the best path on the host from the outputs of such a model."
        )
    if config["vocabulary"] is not None:
        raise ValueError(
            "quantize: a model of tokens does not run on the edge runtime, which has no embeddings. Look the tokens up "
            "yourself, one vector of features for each, and fit on these with inputs='features'."
        )
    names = ("cell", "cell_options", "hidden_size", "num_layers", "bidirectional", "dtype")
    recurrent = {name: config[name] for name in names} | {"input_size": config["inputs"], "seed": 0}
    outputs = config["outputs"]
    core = _core.Model({"recurrent": recurrent, "pooling": "none", "activation": "softmax", "outputs": outputs})
    core.set_parameters(dict(step_model.network.parameters))
    constants = step_model.network.constants
    core.set_preprocessing(constants["mean"], constants["scale"], np.zeros(outputs), np.ones(outputs))
    return Model(core)


def quantize_steps(estimator: Any, made: type[QuantizedTagger], X: Any, y: Any, options: dict[str, Any]) -> Any:
    """`StepEstimator.quantize`: a fitted estimator as a model of class `made`. options: scheme, weights, ranges."""
    if X is None and y is not None:
        raise ValueError("quantize: y was given without X_calibration.")
    plain = quantize(as_plain_model(estimator.model_), X, **options)
    more = {"beam_width": int(estimator.beam_width) if estimator.decoder == "beam" else 0} if made._more else {}
    model = made(plain.program, estimator.classes_, False, plain.report_, **more)
    if X is not None and plain.report_ is not None:
        expected, before, after = estimator.predict(X), math.nan, math.nan
        if y is not None:
            before, after = estimator.score(X, y), model.score(X, y)
        agreement = model.score(X, expected) if any(len(labels) for labels in expected) else math.nan
        model.report_ = replace(plain.report_, agreement=agreement, float_score=before, score=after)
    return model
