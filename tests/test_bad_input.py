"""Every public estimator × whatever a user may pass by mistake: an error that names the argument, never a guess.

What an estimator's own tests try out is not tried again here; this is about what all have in common.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import lstmcore

RNG = np.random.default_rng(0)
SEQUENCES = RNG.normal(size=(12, 6, 2))
LABELS = np.array(["a", "b"])[np.arange(12) % 2]
STEPS = np.array(["a", "b"])[RNG.integers(2, size=(12, 6))]
NUMBERS = RNG.normal(size=12)
WORDS = ["abc", "bca", "ca", "acb", "ba", "cab"] * 2
TREES = [(RNG.normal(size=(4, 3)), np.array([-1, 0, 0, 1])) for _ in range(12)]
WAVE = np.sin(np.arange(80) / 4)
SMALL: dict[str, Any] = {"hidden_size": 4, "max_iter": 1, "random_state": 0}


class Case(NamedTuple):
    """An estimator, and data that it can be fitted on."""

    kind: str
    parameters: dict[str, Any]
    X: Any
    y: Any = None

    def new(self, **parameters: Any) -> Any:
        return getattr(lstmcore, self.kind)(**{**self.parameters, **parameters})

    def fit(self, X: Any, y: Any, **options: Any) -> Any:
        given = () if y is None else (y,)
        return self.new().fit(X, *given, **options)

    def use(self, X: Any) -> Any:
        estimator = FITTED[self.kind]
        return estimator.transform(X) if self.kind == "SequenceEncoder" else estimator.predict(X)


FRAMES: dict[str, Any] = {"hidden_channels": 2, "num_layers": 1, "max_iter": 1, "horizon": 2, "random_state": 0}
CASES = [
    Case("SequenceClassifier", SMALL, SEQUENCES, LABELS),
    Case("SequenceRegressor", SMALL, SEQUENCES, NUMBERS),
    Case("SequenceTagger", SMALL, SEQUENCES, STEPS),
    Case("SequenceTranscriber", SMALL, SEQUENCES, STEPS[:, :2]),
    Case("SequenceTranslator", SMALL, WORDS, [word.upper() for word in WORDS]),
    Case("SequenceForecaster", {**SMALL, "window": 8, "horizon": 2}, WAVE),
    Case("LanguageModel", {**SMALL, "bptt_steps": 10}, "the quick brown fox. " * 20),
    Case("SequenceEncoder", SMALL, SEQUENCES),
    Case("SequenceAnomalyDetector", SMALL, SEQUENCES),
    Case("TreeClassifier", SMALL, TREES, LABELS),
    Case("TreeRegressor", SMALL, TREES, NUMBERS),
    Case("FrameForecaster", FRAMES, RNG.random(size=(12, 5, 8, 8))),
]
FITTED = {case.kind: case.fit(case.X, case.y) for case in CASES}
each = pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])

# What NumPy and Python say of such things, none of which a user could understand.
RAW = re.compile(
    r"inhomogeneous|truth value|object has no|index out of range|too large to convert|not supported between|unsized|"
    r"^(float|int)\(\) argument|^could not convert|^setting an array|need at least one array|^Expected 2D array"
)


def refused(call: Any, *names: str) -> str:
    """The message, which begins with one of the names, or with words of scikit-learn's before one."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    pattern = r"^(Input |Found array |Complex data not supported: |Sparse data was passed for |step: )?"
    assert re.match(pattern + f"({'|'.join(names)})(?!\\w)", message), message
    assert not RAW.search(message), message
    return message


# No estimator takes any of these; what each may be given instead is its own tests' business.
BAD_X: dict[str, Any] = {
    "None": None,
    "a number": 3,
    "an array of one number": np.array(1.0),
    "bytes": b"text",
    "nothing": [],
    "no sequences": np.empty((0, 6, 2)),
    "no steps": np.empty((12, 0, 2)),
    "no features": np.empty((12, 6, 0)),
    "Nones": [None] * 12,
    "empty lists": [[]] * 12,
    "a dict": {"a": 1},
    "a set": {1, 2},
    "a class": np.ndarray,
    "a function": len,
    "a mixture": np.array([1, "a", None, 2] * 3, dtype=object),
    "a number among arrays": [SEQUENCES[0], 3.0, *SEQUENCES[2:]],
    "None among arrays": [SEQUENCES[0], None, *SEQUENCES[2:]],
    "text among arrays": [SEQUENCES[0], "x", *SEQUENCES[2:]],
    "arrays of other widths": [SEQUENCES[0], SEQUENCES[1][:, :1], *SEQUENCES[2:]],
    "complex": SEQUENCES.astype(complex),
    "dates": np.zeros((12, 6, 1), dtype="M8[D]"),
    "records": np.zeros(12, dtype=[("a", "f4"), ("b", "f4")]),
    "NaN": np.where(np.arange(144).reshape(12, 6, 2) == 30, np.nan, SEQUENCES),
    "infinity": np.where(np.arange(144).reshape(12, 6, 2) == 30, np.inf, SEQUENCES),
    "all NaN": np.full((12, 6, 2), np.nan),
    "a mask": np.ma.masked_array(SEQUENCES, mask=SEQUENCES > 1),
    "6 axes": np.ones((2, 2, 2, 2, 2, 2)),
}


@each
@pytest.mark.parametrize("X", BAD_X.values(), ids=BAD_X)
def test_X(case: Case, X: Any) -> None:
    refused(lambda: case.fit(X, case.y), r"X\[\d+\]", "X")
    if not (case.kind == "SequenceForecaster" and X is None):  # goes on from the series of fit
        refused(lambda: case.use(X), r"X\[\d+\]", "X")


@each
def test_X_of_other_containers(case: Case) -> None:
    pandas = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    for X in (pandas.DataFrame({"a": ["x"] * 12}), sparse.csr_array(np.ones((12, 6)))):
        refused(lambda X=X: case.fit(X, case.y), r"X\[\d+\]", "X")
    if case.kind != "LanguageModel":  # which reads them one by one
        message = refused(lambda: case.fit((x for x in SEQUENCES), case.y), "X")
        assert "generator" in message


@each
def test_text_for_numbers(case: Case) -> None:
    if case.kind in ("LanguageModel", "SequenceTranslator"):
        return
    assert re.search("text|expected a list of trees|arrays of frames|x", refused(lambda: case.fit("text", case.y), "X"))
    if case.kind in ("SequenceTagger", "SequenceTranscriber", "SequenceEncoder"):  # these read tokens
        assert "cut it up" in refused(lambda: case.fit(["text", "more"], case.y), r"X\[0\]")
    else:
        refused(lambda: case.fit(["text", "more"], case.y), r"X\[0\]", "X")


BAD_Y: dict[str, Any] = {
    "None": None,
    "a number": 3,
    "text": "ab",
    "nothing": [],
    "too few": lambda y: y[:-1],
    "too many": lambda y: [*y, y[0]],
    "a dict": {1: 2},
    "Nones": [None] * 12,
    "NaN": np.full(12, np.nan),
    "other lengths": [[1, 2], *[[1]] * 11],
    "3 axes": np.ones((12, 6, 2)),
    "complex": np.arange(12) + 1j,
}
LABELLED = [case for case in CASES if case.y is not None]


@pytest.mark.parametrize("case", LABELLED, ids=[case.kind for case in LABELLED])
@pytest.mark.parametrize("y", BAD_Y.values(), ids=BAD_Y)
def test_y(case: Case, y: Any) -> None:
    given = y(case.y) if callable(y) else y
    if isinstance(given, list) and len(given) > 1 and case.kind in ("SequenceTranscriber", "SequenceTranslator"):
        given = given[1:] if given == BAD_Y["other lengths"] else given  # these take such
    message = r"y\[\d+\]", "y", "Input y", rf"{case.kind} requires y", "Complex data not supported"
    refused(lambda: case.new().fit(case.X, given), *message)


def test_labels_do_not_mix() -> None:
    for case in (CASES[0], CASES[9]):
        assert refused(lambda case=case: case.fit(case.X, ["a", 1] * 6), r"y\[1\]").startswith("y[1] is 1")
        assert refused(lambda case=case: case.fit(case.X, ["a", None] * 6), r"y\[1\]")


@pytest.mark.parametrize("classes", ["ab", 3, [], [None, "a", "b"], [["a", "b"]], ["a"], {"a": 1}, [np.nan, 1.0]])
@pytest.mark.parametrize("case", LABELLED, ids=[case.kind for case in LABELLED])
def test_classes_of_partial_fit(case: Case, classes: Any) -> None:
    if "Regressor" in case.kind:
        return
    if classes == ["a"] and case.kind in ("SequenceTranscriber", "SequenceTranslator"):
        refused(lambda: case.new().partial_fit(case.X, case.y, classes=classes), r"y\[\d+\]")
    else:
        refused(lambda: case.new().partial_fit(case.X, case.y, classes=classes), "classes")


@each
def test_weights(case: Case) -> None:
    if case.kind == "LanguageModel":
        return
    count = 1 if case.kind == "SequenceForecaster" else 12
    for bad in (
        np.ones(count + 1),
        np.ones((count, 1)),
        [],
        "x",
        ["1"] * count,
        [None] * count,
        -np.ones(count),
        np.zeros(count),
        np.full(count, np.inf),
        np.ones(count, dtype=complex),
    ):
        refused(lambda bad=bad: case.fit(case.X, case.y, sample_weight=bad), r"sample_weight(\[\d+\])?")


@each
def test_eval_set_and_callbacks(case: Case) -> None:
    names = r"eval_set(\[\d+\])?( [Xy](\[\d+\])?)?"
    for bad in (3, {"a": 1}, (), ([], case.y), (None, None), [(case.X, case.y)] * 2, (case.X, case.y, 1, 2)):
        refused(lambda bad=bad: case.fit(case.X, case.y, eval_set=bad), names)
    for bad in (3, "x", [1]):
        refused(lambda bad=bad: case.fit(case.X, case.y, callbacks=bad), r"callbacks(\[\d+\])?")

    def fail(info: Any) -> None:
        raise ZeroDivisionError(info.epoch)

    with pytest.raises(ZeroDivisionError):
        case.fit(case.X, case.y, callbacks=fail)


@pytest.mark.parametrize("kind", ["SequenceEncoder", "SequenceAnomalyDetector"])
def test_labels_in_an_eval_set_are_not_ignored(kind: str) -> None:
    case = next(case for case in CASES if case.kind == kind)
    case.fit(case.X, None, eval_set=case.X)
    case.fit(case.X, None, eval_set=(case.X, None))
    for bad in ((case.X, LABELS), (case.X, LABELS, NUMBERS), (list(case.X), LABELS)):
        assert "Pass X alone" in refused(lambda bad=bad: case.fit(case.X, None, eval_set=bad), "eval_set")


@each
def test_parameters(case: Case) -> None:
    """None of the values is right for more than a few parameters, and none may end in anything but a named refusal."""
    for name in case.new().get_params():
        for value in (object, np.array([1, 2]), 1j, b"x", -1, 10**30, "", float("nan"), [[]], {"no": 1}, {1, 2}):
            message = ""
            try:
                case.new(**{name: value}).fit(case.X, *(() if case.y is None else (case.y,)))
            except (ValueError, TypeError, NotImplementedError) as error:
                message = str(error)
            assert not message or re.search(rf"\b{name}\b", message), f"{name}={value!r}: {message}"
            assert not RAW.search(message), f"{name}={value!r}: {message}"


@each
def test_unfitted(case: Case) -> None:
    new, methods = (
        case.new(),
        ("predict", "transform", "predict_proba", "score_samples", "step", "generate", "quantize"),
    )
    for name in methods:
        if hasattr(new, name):
            with pytest.raises(NotFittedError):
                getattr(new, name)(case.X)
    with pytest.raises(NotFittedError):
        new.save("nowhere.safetensors")


@each
def test_what_is_missing_says_what_to_do(case: Case) -> None:
    fitted = FITTED[case.kind]
    for name, found in (("step", "predict|Predict|Call"), ("quantize", "load_model")):
        if not hasattr(fitted, name):
            with pytest.raises(AttributeError, match=found):
                getattr(fitted, name)
    with pytest.raises(AttributeError, match=f"'{case.kind}' object has no attribute 'fitt'$"):
        _ = fitted.fitt


@each
def test_step(case: Case) -> None:
    fitted, text = FITTED[case.kind], case.kind == "LanguageModel"
    if not hasattr(fitted, "step"):
        return
    good: Any = "t" if text else 0.5 if case.kind == "SequenceForecaster" else [0.5, 1.0]
    fitted.step(good)
    for bad in (
        None,
        [],
        [[]],
        [1j, 1.0],
        [np.nan, 1.0],
        [1e300, 1.0],
        np.zeros((2, 2, 2)),
        np.zeros((0, 2)),
        {"a": 1},
    ):
        refused(lambda bad=bad: fitted.step(bad), "x")
    refused(lambda: fitted.step("text"), "x")
    state = fitted.step(["t", "q"] if text else np.ones((2, 1 if case.kind == "SequenceForecaster" else 2)))[1]
    refused(lambda: fitted.step(good, state), "state")
    for bad in (3, "x", {"h": None}, {"h": np.ones(3)}, [{}], [1]):
        refused(lambda bad=bad: fitted.step(good, bad), "state")


@each
def test_quantize(case: Case) -> None:
    fitted = FITTED[case.kind]
    if not hasattr(fitted, "quantize"):
        return
    name = "X" if case.kind == "SequenceForecaster" else "X_calibration"
    for bad in ([], "x", np.ones((3, 4, 5)), np.full((3, 4, 2), np.nan), {"a": 1}):
        refused(lambda bad=bad: fitted.quantize(bad), name)
    for options in ({"scheme": "int4"}, {"scheme": None}, {"weights": "x"}, {"ranges": "x"}):
        refused(lambda options=options: fitted.quantize(case.X, **options), "quantize")


@each
def test_files(case: Case, tmp_path: Path) -> None:
    fitted, path = FITTED[case.kind], tmp_path / "model.safetensors"
    for bad in (None, 0, ["a"]):
        refused(lambda bad=bad: fitted.save(bad), "path")
        refused(lambda bad=bad: lstmcore.load(bad), "path")
    for place in (tmp_path, "/proc/model.safetensors", tmp_path / "no" / "model.safetensors", ""):
        with pytest.raises((lstmcore.ModelFileError, OSError)):
            fitted.save(place)
    fitted.save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole + b"x", b"x" * 100, whole[:-8] + bytes(8)[:7] + b"\x01"):
        path.write_bytes(damaged)
        for load in (lstmcore.load, lstmcore.load_model):
            with pytest.raises(lstmcore.ModelFileError):
                load(path)


# Arguments of methods that only some have: kind, call of a fitted one with a bad value, name of the argument.
METHODS: list[tuple[str, Any, str]] = [
    ("SequenceTranslator", lambda e, v: e.decode(WORDS, v), "beam_width"),
    ("SequenceTranslator", lambda e, v: e.decode(WORDS, n_best=v), "n_best"),
    ("SequenceTranslator", lambda e, v: e.decode(WORDS, return_attention=v), "return_attention"),
    ("SequenceTranscriber", lambda e, v: e.decode(SEQUENCES, v), "score"),
    ("SequenceForecaster", lambda e, v: e.update(v), "X"),
    ("SequenceForecaster", lambda e, v: e.predict(future=v), "future"),
    ("SequenceForecaster", lambda e, v: e.step(0.5, past=v), "past"),
    ("SequenceForecaster", lambda e, v: e.backtest(WAVE, n_origins=v), "n_origins"),
    ("SequenceForecaster", lambda e, v: e.backtest(WAVE, step=v), "step"),
    ("SequenceForecaster", lambda e, v: e.backtest(WAVE, season_length=v), "season_length"),
    ("SequenceForecaster", lambda e, v: e.backtest(WAVE, refit=v), "refit"),
    *[
        ("LanguageModel", lambda e, v, name=name: e.generate("the", **{"length": 3, name: v}), name)
        for name in ("length", "n_texts", "temperature", "top_k", "top_p", "stop", "end", "random_state")
    ],
    ("LanguageModel", lambda e, v: e.generate(v, 3), "prompt"),
    ("LanguageModel", lambda e, v: e.score(v), "X"),
]


@pytest.mark.parametrize(("kind", "call", "name"), METHODS, ids=[f"{kind}-{name}" for kind, _, name in METHODS])
def test_arguments_of_methods(kind: str, call: Any, name: str) -> None:
    for bad in (-1, 1.5 + 1j, {"a": 1}, np.array([[0.1, "x"]], dtype=object), b"x"):
        refused(lambda bad=bad: call(FITTED[kind], bad), rf"{name}(\[\d+\])?")


def test_levels_of_distributions() -> None:
    forecaster = lstmcore.SequenceForecaster(8, 2, loss="gaussian", **SMALL).fit(WAVE)
    for bad in (0, "x", [], ["a"], [0.5, 1.0], [True], {"a": 1}, 1.5):
        refused(lambda bad=bad: forecaster.predict_quantiles(quantiles=bad), "quantiles")
    for bad in (0, 1, "x", [0.5], True, float("nan")):
        refused(lambda bad=bad: forecaster.predict_interval(coverage=bad), "coverage")


def test_arguments_of_plots() -> None:
    pytest.importorskip("matplotlib")
    tagger, detector = FITTED["SequenceTagger"], FITTED["SequenceAnomalyDetector"]
    for bad in (-1, 12, 1.5, "x", True, [0], None):
        refused(lambda bad=bad: tagger.plot_labels(SEQUENCES, sequence=bad), "sequence")
        refused(lambda bad=bad: detector.plot(SEQUENCES, sequence=bad), "sequence")
        refused(lambda bad=bad: detector.plot(SEQUENCES, feature=bad), "feature")
    for bad in (3, "x", []):
        refused(lambda bad=bad: tagger.plot_labels(SEQUENCES, ax=bad), "ax")
        refused(lambda bad=bad: tagger.plot_learning_curve(bad), "ax")
        refused(lambda bad=bad: detector.plot(SEQUENCES, ax=bad), "ax")
    refused(lambda: tagger.plot_labels(SEQUENCES, 3), "y")
