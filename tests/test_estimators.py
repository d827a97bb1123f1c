"""SequenceClassifier and SequenceRegressor: what they learn, what they refuse, how scikit-learn uses them."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lstmcore import SequenceClassifier, SequenceRegressor
from sequences import FAST, last_value, pad, ragged, three_classes, two_classes

X = ragged(90)
Y2, Y3, YR = two_classes(X), three_classes(X), last_value(X)
X_TEST = ragged(40, seed=1)
Estimator = Any
BOTH = [pytest.param(SequenceClassifier, Y3, id="classifier"), pytest.param(SequenceRegressor, YR, id="regressor")]


def weights_of(estimator: Estimator) -> np.ndarray:
    return estimator.model_.core.get_weights()


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "max"])
def test_classifier_learns(pooling: str, bidirectional: bool) -> None:
    classifier = SequenceClassifier(**FAST | {"max_iter": 40}, pooling=pooling, bidirectional=bidirectional)
    classifier.fit(X, Y2)
    assert classifier.classes_.tolist() == ["down", "up"]
    assert classifier.score(X, Y2) > 0.93
    probabilities = classifier.predict_proba(X_TEST)
    assert probabilities.shape == (40, 2)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (classifier.predict(X_TEST) == classifier.classes_[probabilities.argmax(axis=1)]).all()
    np.testing.assert_array_equal(classifier.predict_log_proba(X_TEST), np.log(probabilities))


@pytest.mark.parametrize("solver", ["sgd", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
def test_every_solver_and_schedule_lowers_the_loss(solver: str, schedule: str) -> None:
    rate = {"sgd": 5e-2, "rmsprop": 5e-3}.get(solver, 1e-2)
    classifier = SequenceClassifier(
        **FAST | {"learning_rate_init": rate}, solver=solver, learning_rate=schedule, schedule_every=2, nesterov=True
    ).fit(X, Y3)
    assert classifier.loss_curve_[-1] < 0.9 * classifier.loss_curve_[0]


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_regressor_learns(loss: str) -> None:
    regressor = SequenceRegressor(**FAST | {"max_iter": 60}, loss=loss).fit(X, YR)
    prediction = regressor.predict(X)
    assert prediction.shape == (90,)
    assert prediction.dtype == np.float64
    assert regressor.score(X, YR) > 0.9


def test_several_targets() -> None:
    Y = np.stack([YR, -3 * YR + 1, np.full(len(YR), 5.0)], axis=1)
    regressor = SequenceRegressor(**FAST | {"max_iter": 40}).fit(X, Y)
    prediction = regressor.predict(X_TEST)
    assert prediction.shape == (40, 3)
    # A constant target has no deviation to divide by.
    np.testing.assert_allclose(prediction[:, 2], 5.0, atol=0.5)
    assert SequenceRegressor(**FAST).fit(X, YR[:, None]).predict(X_TEST).shape == (40, 1)


def test_constant_target_and_constant_feature() -> None:
    constant = [np.column_stack([x, np.full(len(x), 3.25)]) for x in X]
    regressor = SequenceRegressor(**FAST | {"max_iter": 100}).fit(constant, np.full(len(X), -2.5))
    np.testing.assert_allclose(regressor.predict(constant), -2.5, atol=0.1)


def test_standardisation_is_that_of_all_real_steps() -> None:
    padded = pad(X)
    regressor = SequenceRegressor(**FAST | {"max_iter": 1}).fit(padded, YR)
    steps = np.concatenate(X)
    preprocessing = regressor.model_.core.preprocessing
    np.testing.assert_allclose(preprocessing["input_mean"], steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(preprocessing["input_scale"], 1 / steps.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(preprocessing["output_mean"], YR.mean(), rtol=1e-12)
    np.testing.assert_allclose(preprocessing["output_scale"], 1 / YR.std(), rtol=1e-12)
    plain = SequenceRegressor(**FAST | {"max_iter": 1}, standardize=False).fit(padded, YR)
    for name, value in plain.model_.core.preprocessing.items():
        assert (value == (0 if name.endswith("mean") else 1)).all()


def test_offset_that_the_precision_cannot_resolve() -> None:
    far = [x * 1e-3 + 1e6 for x in X]
    with pytest.raises(ValueError, match=r"Feature 0 of X varies by .* float32 cannot resolve.*precision='float64'"):
        SequenceClassifier(**FAST).fit(far, Y2)
    near = SequenceClassifier(**FAST, precision="float64").fit(X, Y2)
    away = SequenceClassifier(**FAST, precision="float64").fit(far, Y2)
    np.testing.assert_allclose(near.predict_proba(X), away.predict_proba(far), atol=1e-4)


def test_precision() -> None:
    double = SequenceClassifier(**FAST, precision="float64").fit(X, Y2)
    assert weights_of(double).dtype == np.float64
    assert double.predict_proba(X).dtype == np.float64


@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_random_state(kind: Any, y: np.ndarray) -> None:
    settings = FAST | {"max_iter": 3, "num_layers": 2, "dropout": 0.3}
    first, second = kind(**settings).fit(X, y), kind(**settings | {"n_jobs": 2}).fit(X, y)
    np.testing.assert_array_equal(weights_of(first), weights_of(second))
    generator = np.random.RandomState(3)
    a = kind(**settings | {"random_state": generator}).fit(X, y)
    b = kind(**settings | {"random_state": generator}).fit(X, y)
    assert not np.array_equal(weights_of(a), weights_of(b))
    c = kind(**settings | {"random_state": None}).fit(X, y)
    d = kind(**settings | {"random_state": None}).fit(X, y)
    assert not np.array_equal(weights_of(c), weights_of(d))


def test_shuffle_and_alpha_reach_the_trainer() -> None:
    base = SequenceClassifier(**FAST | {"max_iter": 2}).fit(X, Y2)
    for change in (
        {"shuffle": False}, {"alpha": 0.1}, {"clip_norm": 1e-3}, {"clip_value": 1e-4}, {"beta_1": 0.5}, {"beta_2": 0.9},
        {"epsilon": 1e-2}, {"solver": "sgd"}, {"solver": "sgd", "momentum": 0.0}, {"solver": "rmsprop", "rho": 0.5},
        {"batch_size": 7}, {"learning_rate": "step", "schedule_every": 1}, {"learning_rate": "cosine"},
    ):  # fmt: skip
        other = SequenceClassifier(**FAST | {"max_iter": 2} | change).fit(X, Y2)
        assert not np.array_equal(weights_of(base), weights_of(other)), change


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "y"), BOTH)
def test_sample_weight_zero_is_removal(kind: Any, y: np.ndarray) -> None:
    settings = FAST | {"precision": "float64", "batch_size": 1000, "max_iter": 5}
    sample_weight = np.ones(len(X))
    sample_weight[50:] = 0
    weighted = kind(**settings).fit(X, y, sample_weight=sample_weight)
    removed = kind(**settings).fit(X[:50], y[:50])
    np.testing.assert_allclose(weights_of(weighted), weights_of(removed), rtol=1e-9, atol=1e-12)


def test_class_weight() -> None:
    codes = np.searchsorted(np.unique(Y3), Y3)
    counts = np.bincount(codes)
    settings = FAST | {"precision": "float64", "batch_size": 1000, "max_iter": 4, "standardize": False}
    balanced = SequenceClassifier(**settings, class_weight="balanced").fit(X, Y3)
    named = {10: len(Y3) / (3 * counts[0]), 20: len(Y3) / (3 * counts[1]), 30: len(Y3) / (3 * counts[2])}
    by_hand = SequenceClassifier(**settings, class_weight=named).fit(X, Y3)
    by_sample = SequenceClassifier(**settings).fit(X, Y3, sample_weight=np.array([named[label] for label in Y3]))
    np.testing.assert_allclose(weights_of(balanced), weights_of(by_hand), rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(weights_of(by_sample), weights_of(by_hand))
    with pytest.raises(ValueError, match=r"class_weight names the unknown label 40\. Known classes: 10, 20, 30"):
        SequenceClassifier(**FAST, class_weight={40: 2.0}).fit(X, Y3)
    with pytest.raises(ValueError, match="Only one class, 10, has weights other than zero"):
        SequenceClassifier(**FAST, class_weight={20: 0.0, 30: 0.0}).fit(X, Y3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(90), "sample_weight: the weights are all zero"),
        (np.ones(89), r"sample_weight has shape \(89,\). Expected \(90,\)"),
        (np.ones((90, 2)), r"sample_weight has shape \(90, 2\)"),
        (-np.ones(90), r"sample_weight\[0\] is -1. Expected finite weights >= 0"),
        (np.r_[np.ones(89), np.nan], r"sample_weight\[89\] is nan"),
        (["a"] * 90, "sample_weight is not numeric"),
    ],
)
def test_bad_sample_weight(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**FAST).fit(X, Y2, sample_weight=weights)


# --- scikit-learn -----------------------------------------------------------------------------------------------------


def test_pipeline_and_grid_search() -> None:
    first_two = FunctionTransformer(lambda sequences: [x[:, :2] for x in sequences])
    pipeline = make_pipeline(first_two, SequenceClassifier(**FAST | {"max_iter": 30}))
    assert pipeline.fit(X, Y2).score(X, Y2) > 0.85
    search = GridSearchCV(
        SequenceClassifier(**FAST | {"max_iter": 25}), {"hidden_size": [1, 12], "pooling": ["last"]}, cv=3, n_jobs=2
    ).fit(X, Y2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["hidden_size"] == 12
    assert search.predict(X_TEST).shape == (40,)
    padded = pad(X)
    assert cross_val_score(SequenceRegressor(**FAST | {"max_iter": 40}), padded, YR, cv=3).min() > 0.5


def test_metadata_routing() -> None:
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        classifier = SequenceClassifier(**FAST | {"max_iter": 2}).set_fit_request(sample_weight=True)
        classifier = classifier.set_score_request(sample_weight=False)
        search = GridSearchCV(classifier, {"hidden_size": [4]}, cv=2)
        search.fit(X, Y2, sample_weight=np.linspace(0.1, 1, len(X)))
        assert search.best_score_ > 0.3
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            GridSearchCV(SequenceClassifier(**FAST), {"hidden_size": [4]}, cv=2).fit(X, Y2, sample_weight=np.ones(90))


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_unfitted(kind: Any) -> None:
    for method, argument in (("predict", X), ("step", X[0][0]), ("save", "nowhere"), ("plot_learning_curve", None)):
        with pytest.raises(NotFittedError, match=kind.__name__):
            getattr(kind(), method)(argument)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (
            {"hidden_size": 0},
            ValueError,
            "The 'hidden_size' parameter of SequenceClassifier must be an int >= 1. Got 0 ins",
        ),
        ({"hidden_size": 2.0}, ValueError, "'hidden_size'.*Got 2.0"),
        ({"hidden_size": True}, ValueError, "'hidden_size'.*Got True"),
        ({"dropout": 1.0}, ValueError, r"'dropout'.*a float in \[0, 1\). Got 1.0"),
        ({"learning_rate_init": float("nan")}, ValueError, "'learning_rate_init'.*Got nan"),
        ({"learning_rate_init": "fast"}, ValueError, "'learning_rate_init'.*Got 'fast'"),
        ({"solver": "lbfgs"}, ValueError, "'solver'.*one of 'sgd', 'rmsprop', 'adam', 'adamw'. Got 'lbfgs'"),
        ({"random_state": -1}, ValueError, "'random_state'"),
        ({"n_jobs": 0}, ValueError, "'n_jobs'.*other than 0"),
        ({"class_weight": "even"}, ValueError, "'class_weight'"),
        ({"class_weight": {"up": -1}}, ValueError, "'class_weight'"),
        ({"cell_options": {"nonlinearity": [1]}}, ValueError, "'cell_options'"),
        ({"cell": "transformer"}, ValueError, "cell='transformer' is unknown. Available: .*'lstm'"),
        ({"pooling_options": {"size": 3}}, ValueError, "pooling_size: expected 0 with any pooling but"),
        ({"pooling": "sum"}, ValueError, "'pooling'"),
        ({"cell": "elman", "recurrent_dropout": 0.1}, ValueError, "recurrent_dropout: cell 'elman' has no candidate"),
        ({"cell": "gru", "zoneout_cell": 0.1}, ValueError, "zoneout_cell: cell 'gru' has no state besides h"),
        ({"variational_dropout": 1.0}, ValueError, "'variational_dropout'"),
        ({"learn_initial_state": "yes"}, ValueError, "'learn_initial_state'"),
        ({"bptt_steps": 0}, ValueError, "'bptt_steps'"),
        ({"label_smoothing": 1.0}, ValueError, "'label_smoothing'"),
        ({"max_norm": 0.0}, ValueError, "'max_norm'"),
        ({"gradient_noise": -1.0}, ValueError, "'gradient_noise'"),
        ({"device": "cuda"}, NotImplementedError, "device='cuda' is not implemented yet. Use 'cpu'"),
        ({"precision": "bfloat16", "cell": "mlstm"}, ValueError, "precision: bfloat16 does not work with cell 'mlstm'"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    classifier = SequenceClassifier(**parameters)  # storing is all that the constructor does
    with pytest.raises(error, match=message):
        classifier.fit(X, Y2)
    with pytest.raises(error, match=message):
        classifier.partial_fit(X, Y2, classes=["down", "up"])


def test_unknown_cell_option() -> None:
    with pytest.raises(ValueError, match="colour"):
        SequenceClassifier(**FAST, cell_options={"colour": "red"}).fit(X, Y2)
    assert SequenceClassifier(**FAST, cell="elman", cell_options={"nonlinearity": "relu"}).fit(X, Y2).n_iter_ == 12


def test_parameters_that_do_not_fit_the_estimator() -> None:
    with pytest.raises(ValueError, match="class_weight='balanced': SequenceRegressor has no classes"):
        SequenceRegressor(**FAST, class_weight="balanced").fit(X, YR)
    with pytest.warns(UserWarning, match="dropout=0.2 has no effect with num_layers=1"):
        SequenceRegressor(**FAST | {"max_iter": 1}, dropout=0.2).fit(X, YR)


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_every_parameter_is_documented_with_its_default(kind: Any) -> None:
    documented = {}
    section = kind.__doc__.split("Parameters\n")[1].split("Attributes\n")[0]
    for names, text in re.findall(r"^    (\w[\w, ]*) : (.*)$", section, flags=re.MULTILINE):
        defaults = text.split("default ")[1].split(", ")
        documented.update(zip(names.split(", "), defaults, strict=True))
    signature = inspect.signature(kind).parameters
    assert list(documented) == list(signature)
    for name, parameter in signature.items():
        assert eval(documented[name]) == parameter.default, name
    shared = "cell cell_options hidden_size num_layers bidirectional pooling dropout recurrent_dropout solver "
    shared += "learning_rate_init learning_rate alpha batch_size max_iter tol early_stopping validation_fraction "
    shared += "n_iter_no_change clip_norm bptt_steps standardize class_weight warm_start shuffle random_state "
    shared += "verbose n_jobs device precision"
    assert set(shared.split()) <= set(signature)


def test_the_two_estimators_document_shared_parameters_alike() -> None:
    def paragraphs(kind: Any) -> dict[str, str]:
        section = kind.__doc__.split("Parameters\n")[1].split("Attributes\n")[0]
        return dict(re.findall(r"^    (\w[\w, ]*) : (.*\n(?:        .*\n)+)", section, flags=re.MULTILINE))

    classifier, regressor = paragraphs(SequenceClassifier), paragraphs(SequenceRegressor)
    assert set(regressor) - set(classifier) == {"loss", "huber_delta"}
    assert set(classifier) - set(regressor) == {"label_smoothing"}
    differing = {name for name in set(classifier) & set(regressor) if classifier[name] != regressor[name]}
    assert differing == {"validation_fraction", "standardize", "class_weight"}


def test_predict_after_fork() -> None:
    """A process forked after a threaded fit must not wait for threads that it does not have."""
    program = """
import os, sys, warnings
sys.path.insert(0, sys.argv[1])
import numpy as np
from sequences import ragged, two_classes
from lstmcore import SequenceClassifier
X = ragged(300, longest=60)
classifier = SequenceClassifier(hidden_size=48, max_iter=2, n_jobs=2).fit(X, two_classes(X))
expected = classifier.predict_proba(X)
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(classifier.predict_proba(X), expected) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    folder = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([sys.executable, "-c", program, folder], check=True, timeout=300)


def test_predict_from_eight_threads() -> None:
    classifier = SequenceClassifier(**FAST).fit(X, Y2)
    expected = classifier.predict_proba(X_TEST)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not np.array_equal(classifier.predict_proba(X_TEST), expected):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_said_without_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SequenceClassifier(**FAST | {"max_iter": 1}).fit(X, Y2)
