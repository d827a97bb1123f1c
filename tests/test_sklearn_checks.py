"""scikit-learn's own checks of what an estimator must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from lstmcore import (
    LanguageModel,
    SequenceAnomalyDetector,
    SequenceClassifier,
    SequenceEncoder,
    SequenceRegressor,
    SequenceTagger,
    SequenceTranscriber,
    SequenceTranslator,
)

# Small networks that learn the checks' problems in little time.
QUICK: dict[str, Any] = {"hidden_size": 8, "max_iter": 200, "learning_rate_init": 3e-2, "n_jobs": 1}
# A weight of 2 and a sequence given twice are the same where mini-batches cannot separate the two: one batch.
EXACT: dict[str, Any] = QUICK | {"precision": "float64", "batch_size": 1000}
# These after few epochs: scores of a detector that has learnt its few sequences by heart are quotients of tiny errors.
SETTINGS = [(kind, values) for values in (EXACT, QUICK) for kind in (SequenceClassifier, SequenceRegressor)]
WITHOUT_LABELS = (SequenceAnomalyDetector, SequenceEncoder)
SETTINGS += [(kind, values | {"max_iter": 10}) for values in (EXACT, QUICK) for kind in WITHOUT_LABELS]


def expected_failures(estimator: Any) -> dict[str, str]:
    """Check → why it cannot pass. Empty for EXACT."""
    if estimator.precision == "float64":
        return {}
    return {
        "check_sample_weight_equivalence_on_dense_data": "compares two trainings within 1e-7, which is one rounding of "
        "float32 (1.2e-7): sums over 30 sequences and over 12 weighted ones are rounded differently",
    }


@parametrize_with_checks(
    [kind(**settings) for kind, settings in SETTINGS],
    expected_failed_checks=expected_failures,
)
def test_sklearn_check(estimator: Any, check: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # or scikit-learn skips its check of array API inputs
    check(estimator)


# Those of the checks that estimators of steps and of text can be put to: all others fit on one label a sequence.
TAGGER_CHECKS = (
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_mixin_order",
    "check_estimators_unfitted",
    "check_fit_check_is_fitted",
)


@pytest.mark.parametrize("kind", [LanguageModel, SequenceTagger, SequenceTranscriber, SequenceTranslator])
@pytest.mark.parametrize("name", TAGGER_CHECKS)
def test_step_estimator_check(name: str, kind: Any) -> None:
    from sklearn.utils import estimator_checks

    if name == "check_fit_check_is_fitted":
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        if kind is LanguageModel:
            model = kind(hidden_size=4, max_iter=1, bptt_steps=4)
            with pytest.raises(NotFittedError):
                check_is_fitted(model)
            check_is_fitted(model.fit("some text"))
            return
        tagger = kind(hidden_size=4, max_iter=1)
        with pytest.raises(NotFittedError):
            check_is_fitted(tagger)
        check_is_fitted(tagger.fit([["a", "b"]], [["x", "y"]]))
        return
    getattr(estimator_checks, name)(kind.__name__, kind())
