"""Forms of X and y that the estimators and `Model` take, and the messages for those that they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstmcore import Model, SequenceClassifier, SequenceRegressor
from sequences import FAST, last_value, pad, ragged, two_classes

X = ragged(40)
Y = two_classes(X)
CLASSIFIER = SequenceClassifier(**FAST).fit(X, Y)
EXPECTED = CLASSIFIER.predict_proba(X)
EVEN = np.random.default_rng(2).normal(size=(30, 6, 2))  # (N, T, I), no padding
TABLE = EVEN[:, :, 0]
Y_EVEN = (EVEN[:, -1, 0] > 0).astype(int)


def both(X: Any, classifier: SequenceClassifier = CLASSIFIER) -> NDArray[Any]:
    """Probabilities by the estimator, checked against those of its NumPy-only model."""
    probabilities = classifier.predict_proba(X)
    np.testing.assert_array_equal(classifier.model_.predict_proba(X), probabilities)
    return probabilities


# --- what works -------------------------------------------------------------------------------------------------------


def test_forms_of_ragged_data_agree() -> None:
    objects = np.empty(len(X), dtype=object)
    objects[:] = X
    read_only = pad(X)
    read_only.setflags(write=False)
    for same in (
        X,
        tuple(X),
        objects,
        pad(X),
        read_only,
        np.asfortranarray(pad(X)),
        pad(X)[:, ::1],
        [x.tolist() for x in X],
    ):
        np.testing.assert_array_equal(both(same), EXPECTED)
        # Each form trains the same weights too.
        weights = SequenceClassifier(**FAST | {"max_iter": 2}).fit(same, Y).model_.core.get_weights()
        np.testing.assert_array_equal(
            weights, SequenceClassifier(**FAST | {"max_iter": 2}).fit(X, Y).model_.core.get_weights()
        )
    backwards = np.concatenate([pad(X)[:, :, ::-1]], axis=1)[:, :, ::-1]  # negative strides
    np.testing.assert_array_equal(both(backwards), EXPECTED)


def test_nan_tail_within_a_list() -> None:
    np.testing.assert_array_equal(both(list(pad(X))), EXPECTED)


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(both(torch.from_numpy(pad(X))), EXPECTED)
    np.testing.assert_array_equal(both([torch.from_numpy(x) for x in X]), EXPECTED)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "longdouble", ">f8", ">f4", "i1", "i8", "u2", "?", "O"])
def test_types_of_numbers(dtype: str) -> None:
    numbers = [np.round(4 * x) % 2 if dtype in ("?", "u2") else np.round(4 * x) for x in X]
    expected = both(numbers)
    np.testing.assert_array_equal(both([x.astype(dtype) for x in numbers]), expected)
    padded = pad(numbers, fill=0.0)[:, :3]
    np.testing.assert_array_equal(both(padded.astype(dtype)), both(padded))
    assert SequenceClassifier(**FAST | {"max_iter": 1}).fit([x.astype(dtype) for x in numbers], Y).n_iter_ == 1


def test_table_is_one_feature() -> None:
    from_table = SequenceClassifier(**FAST).fit(TABLE, Y_EVEN)
    from_array = SequenceClassifier(**FAST).fit(TABLE[:, :, None], Y_EVEN)
    from_list = SequenceClassifier(**FAST).fit(list(TABLE), Y_EVEN)
    from_rows = SequenceClassifier(**FAST).fit(TABLE.tolist(), Y_EVEN)
    expected = from_array.predict_proba(TABLE[:, :, None])
    for classifier in (from_table, from_array, from_list, from_rows):
        for form in (TABLE, TABLE[:, :, None], list(TABLE), TABLE.tolist()):
            np.testing.assert_array_equal(classifier.predict_proba(form), expected)
    assert from_table.n_features_in_ == from_rows.n_features_in_ == 6
    assert from_array.n_features_in_ == from_list.n_features_in_ == 1
    # Fitted on a table: tables keep their width, sequences need not.
    with pytest.raises(
        ValueError, match=r"X has 5 features, but SequenceClassifier is expecting 6 features.*\(N, T, 1\)"
    ):
        from_table.predict(TABLE[:, :5])
    np.testing.assert_array_equal(from_table.predict_proba(TABLE[:, :5, None]), from_array.predict_proba(TABLE[:, :5]))
    shorter = TABLE.copy()
    shorter[:, 5:] = np.nan
    np.testing.assert_array_equal(from_table.predict_proba(shorter), from_array.predict_proba(TABLE[:, :5]))


def test_frame_is_a_table_with_names() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(TABLE, columns=[f"t{t}" for t in range(6)])
    classifier = SequenceClassifier(**FAST).fit(frame, pd.Series(Y_EVEN))
    assert classifier.feature_names_in_.tolist() == list(frame.columns)
    np.testing.assert_array_equal(
        classifier.predict_proba(frame), SequenceClassifier(**FAST).fit(TABLE, Y_EVEN).predict_proba(TABLE)
    )
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(frame[frame.columns[::-1]])
    classifier.fit(TABLE[:, :, None], Y_EVEN)
    assert not hasattr(classifier, "feature_names_in_")


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"]),
        np.array(["no", "yes"], dtype=object),
        np.array([False, True]),
        np.array([-1, 1]),
        np.array([3, 7], dtype=np.uint8),
        np.array([0.0, 2.0]),
    ],
    ids=["text", "object", "bool", "negative", "unsigned", "float"],
)
def test_types_of_labels(labels: NDArray[Any]) -> None:
    y = labels[Y_EVEN]
    classifier = SequenceClassifier(**FAST).fit(EVEN, y, eval_set=(EVEN, y))
    predicted = classifier.predict(EVEN)
    assert classifier.classes_.dtype == predicted.dtype == labels.dtype
    assert set(predicted.tolist()) <= set(labels.tolist())
    np.testing.assert_array_equal(
        classifier.predict_proba(EVEN), SequenceClassifier(**FAST).fit(EVEN, Y_EVEN).predict_proba(EVEN)
    )


def test_inputs_are_left_as_they_were() -> None:
    given, y, sample_weight = pad(X), Y.copy(), np.linspace(1, 2, len(X))
    copies = given.copy(), y.copy(), sample_weight.copy()
    SequenceClassifier(**FAST, early_stopping=True, class_weight="balanced").fit(given, y, sample_weight=sample_weight)
    for now, before in zip((given, y, sample_weight), copies, strict=True):
        np.testing.assert_array_equal(now, before)


# --- streaming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_streaming_ends_at_the_prediction(kind: Any, pooling: str) -> None:
    y = Y if kind is SequenceClassifier else last_value(X)
    estimator = kind(**FAST | {"max_iter": 3}, pooling=pooling, num_layers=2).fit(X, y)
    whole = estimator.predict_proba(X) if kind is SequenceClassifier else estimator.predict(X)[:, None]
    for n in (0, 7):
        state = None
        for x in X[n]:
            output, state = estimator.step(x, state)
        np.testing.assert_allclose(output, whole[n], rtol=2e-6)
    state.reset()
    first, state = estimator.step(X[0][0], state)
    np.testing.assert_array_equal(first, estimator.step(X[0][0])[0])


def test_several_streams_and_branches() -> None:
    state = None
    for t in range(3):
        outputs, state = CLASSIFIER.step(np.stack([x[t] for x in X]), state)
    assert outputs.shape == (40, 2)
    assert len(state) == 40
    np.testing.assert_allclose(outputs, CLASSIFIER.predict_proba([x[:3] for x in X]), rtol=1e-5)
    branch = state.copy()
    after, _ = CLASSIFIER.step(np.ones((40, 3)), state)
    other, _ = CLASSIFIER.step(np.zeros((40, 3)), branch)
    assert not np.array_equal(after, other)
    again, _ = CLASSIFIER.step(np.ones((40, 3)), state)
    assert not np.array_equal(after, again)


def test_streaming_errors() -> None:
    state = CLASSIFIER.step(X[0][0])[1]
    for x, given, message in (
        (np.ones(4), None, r"step: x has shape \(4,\). Expected \(3,\)"),
        (np.ones((2, 3, 1)), None, r"step: x has shape \(2, 3, 1\)"),
        ([1.0, np.nan, 0.0], None, "step: x contains NaN or infinity"),
        (np.ones((2, 3)), state, r"step: state is of 1 stream\(s\), x has shape \(2, 3\)"),
        (np.ones((1, 3)), state, "step: state is of 1 stream"),
    ):
        with pytest.raises(ValueError, match=message):
            CLASSIFIER.step(x, given)
    with pytest.raises(TypeError, match="step: state is of type int"):
        CLASSIFIER.step(np.ones(3), 5)
    with pytest.raises(ValueError, match="another Model"):
        SequenceClassifier(**FAST | {"max_iter": 1}).fit(X, Y).step(X[0][0], state)
    both_ways = SequenceClassifier(**FAST | {"max_iter": 1}, bidirectional=True).fit(X, Y)
    with pytest.raises(ValueError, match=r"bidirectional, so it needs the whole sequence. Use predict"):
        both_ways.step(X[0][0])


# --- what does not work -----------------------------------------------------------------------------------------------


def changed(n: int, t: int, i: int, value: float) -> list[NDArray[np.float64]]:
    copies = [x.copy() for x in X]
    copies[n][t, i] = value
    return copies


BAD = {
    "gap": (
        changed(5, 1, 2, np.nan),
        r"X: sequence 5, step 1, feature 2 contains NaN.*padding only where every feature",
    ),
    "leading": (pad(changed(4, 0, 0, np.nan)), "X: sequence 4, step 0, feature 0 contains NaN"),
    "infinity": (changed(6, 2, 1, np.inf), "X: sequence 6, step 2, feature 1 contains infinity"),
    "minus infinity": (pad(changed(6, 2, 1, -np.inf)), "X: sequence 6, step 2, feature 1 contains infinity"),
    "partial tail": (
        changed(9, len(X[9]) - 1, 0, np.nan),
        f"X: sequence 9, step {len(X[9]) - 1}, feature 0 contains NaN",
    ),
    "too large": (changed(3, 0, 1, 1e39), r"X: sequence 3, step 0, feature 1 is too large for dtype\('float32'\)"),
    "all NaN": ([*X[:8], np.full((4, 3), np.nan), *X[9:]], "X: sequence 8 has no real step"),
    "all NaN in an array": (np.full((40, 5, 3), np.nan), "X: sequence 0 has no real step"),
    "empty sequence": ([*X[:8], np.empty((0, 3)), *X[9:]], "X: sequence 8 has no real step"),
    "no steps": (np.empty((40, 0, 3)), r"X with 0 step\(s\)"),
    "no features": (np.empty((40, 5, 0)), r"0 feature\(s\)"),
    "no features in a list": ([np.empty((5, 0))] * 40, r"X\[0\] with 0 feature\(s\)"),
    "no sequences": ([], "0 sample|at least one|Expected 2D array"),
    "no sequences in an array": (np.empty((0, 5, 3)), r"0 sample\(s\)"),
    "one feature less": ([*X[:8], X[8][:, :2], *X[9:]], r"X\[8\] has 2 feature\(s\), but X\[0\] has 3"),
    "4-D": (np.ones((40, 2, 2, 2)), "X has 4 dimensions"),
    "3-D in a list": ([np.ones((2, 2, 2))] * 40, r"X\[0\] has 3 dimensions"),
    "complex": (np.ones((40, 5, 3), dtype=complex), "Complex data not supported"),
    "complex in a list": ([x + 1j for x in X], r"Complex data not supported: X\[0\]"),
    "text": (np.full((40, 5, 3), "1.0"), "X holds text. Expected numbers"),
    "dates": ([x.astype("datetime64[s]") for x in X], r"X\[0\] has dtype datetime64"),
    "words": (np.full((40, 5, 3), "a", dtype=object), "X has dtype object and is not numeric"),
    "one sequence": (X[0][:, 0], "Reshape your data"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_bad_X(bad: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**FAST).fit(bad, Y)
    with pytest.raises(ValueError, match=message):
        CLASSIFIER.predict(bad)
    with pytest.raises(ValueError, match=message):
        CLASSIFIER.model_.predict(bad)


def test_wrong_number_of_features() -> None:
    two = [x[:, :2] for x in X]
    for bad in (two, pad(two)):
        with pytest.raises(
            ValueError, match="X has 2 features, but SequenceClassifier is expecting 3 features as input"
        ):
            CLASSIFIER.predict(bad)
        with pytest.raises(ValueError, match="X has 2 features, but Model is expecting 3 features as input"):
            CLASSIFIER.model_.predict(bad)
    with pytest.raises(ValueError, match="X has 1 features, but SequenceClassifier is expecting 3 features as input"):
        CLASSIFIER.predict(TABLE)


def test_sparse() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for attempt in (SequenceClassifier(**FAST).fit, lambda X, y: CLASSIFIER.model_.predict(X)):
        with pytest.raises(TypeError, match=r"[Ss]parse data was passed"):
            attempt(sparse.csr_array(np.ones((30, 6))), Y_EVEN)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:-1], "y has 39 entries, but X has 40 sequences"),
        (None, "requires y to be passed, but the target y is None"),
        (["same"] * 40, "y has only one class, 'same': at least 2 classes"),
        (np.linspace(0, 1, 40), "Unknown label type: continuous"),
        (np.r_[np.zeros(39), np.nan], "y contains NaN"),
        (np.zeros((40, 2)), "y should be a 1d array"),
    ],
)
def test_bad_labels(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**FAST).fit(X, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(39), "y has 39 entries, but X has 40 sequences"),
        (np.r_[np.ones(39), np.inf], "y contains infinity"),
        (np.ones((40, 2, 2)), r"y has 3 dimensions|Found array with dim 3"),
        (["a"] * 40, "could not convert string to float"),
        (np.empty((40, 0)), "0 feature|0 targets"),
    ],
)
def test_bad_numbers(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceRegressor(**FAST).fit(X, y)


def test_number_of_targets_stays() -> None:
    regressor = SequenceRegressor(**FAST | {"max_iter": 1}, warm_start=True).fit(X, last_value(X))
    with pytest.raises(ValueError, match="y has 2 targets, but the model was fitted on 1"):
        regressor.fit(X, np.ones((40, 2)))
    with pytest.raises(ValueError, match="eval_set y has 2 targets"):
        regressor.fit(X, last_value(X), eval_set=(X, np.ones((40, 2))))


def test_model_without_classes() -> None:
    model = Model(CLASSIFIER.model_.core)
    np.testing.assert_array_equal(CLASSIFIER.classes_[model.predict(X)], CLASSIFIER.predict(X))
    assert "I=3, H=12, L=1, K=2, float32" in repr(model)
    regressor = SequenceRegressor(**FAST | {"max_iter": 1}).fit(X, last_value(X))
    np.testing.assert_array_equal(regressor.model_.predict(X, n_jobs=2), regressor.predict(X))
    with pytest.raises(AttributeError, match="predicts numbers, not classes"):
        regressor.model_.predict_proba(X)
    with pytest.raises(ValueError, match="'n_jobs' parameter must be"):
        model.predict(X, n_jobs=0)
