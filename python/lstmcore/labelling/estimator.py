"""`StepLabels`: quantising and pictures of SequenceTagger and SequenceTranscriber."""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import Any, ClassVar

from sklearn.utils.validation import check_is_fitted

__all__ = ["StepLabels"]


class StepLabels:
    """Mixin for a `StepEstimator` whose network gives each label a probability at every step."""

    # Class in edge.quantized_steps of what `quantize` returns.
    _quantized: ClassVar[str]

    def quantize(
        self,
        X_calibration: Any = None,
        scheme: str = "int8",
        *,
        weights: str = "int8",
        ranges: str = "mse",
        y: Any = None,
    ) -> Any:
        """The fitted network in integers, as a microcontroller runs it; the estimator itself stays as it is.

        Networks of features, of any number of layers and directions, with the cells that `SequenceClassifier.quantize`
        names. Tokens and ``crf=True`` are refused.

        Parameters
        ----------
        X_calibration : as X of `fit`, default None
            A few hundred typical sequences, as measured: what they reach decides on the ranges of integers. May be None
            for "float32" only.
        scheme, weights, ranges
            As of `SequenceClassifier.quantize`.
        y : as for `fit`, default None
            Labels of X_calibration, for scores in the report.

        Returns
        -------
        lstmcore.QuantizedModel
            With the same predict, predict_proba, score and step, and `export_c`; ``report_`` says what quantising
            changed.

        Raises
        ------
        ValueError
            Arguments, data or a network that cannot be quantised; the message says what to do instead.
        """
        check_is_fitted(self, "model_")
        from ..edge import quantized_steps

        if X_calibration is not None:
            self._fitted_samples(X_calibration, "X_calibration")  # type: ignore[attr-defined]
        made = getattr(quantized_steps, self._quantized)
        options = {"scheme": scheme, "weights": weights, "ranges": ranges}
        return quantized_steps.quantize_steps(self, made, X_calibration, y, options)

    def plot_labels(self, X: Any, y: Any = None, ax: Any = None, *, sequence: int = 0) -> Any:
        """Plots the probability of each label along one sequence with matplotlib: `lstmcore.plotting.plot_labels`."""
        from ..plotting import plot_labels

        return plot_labels(self, X, y, ax=ax, sequence=sequence)
