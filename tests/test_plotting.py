"""Plots show the recorded numbers, leave no global state, and say what is missing."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lstmcore import plotting


def fitted(**more):
    return SimpleNamespace(loss_curve_=[1.0, 0.5, 0.4, 0.35], **more)


def lines(ax):
    return {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.get_lines()}


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


def test_learning_curve_draws_the_training_loss_by_epoch(matplotlib):
    ax = plotting.plot_learning_curve(fitted(validation_loss_curve_=None))
    assert lines(ax) == {"training": ([1, 2, 3, 4], [1.0, 0.5, 0.4, 0.35])}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")


def test_learning_curve_marks_the_best_validation_epoch(matplotlib):
    ax = plotting.plot_learning_curve(fitted(validation_loss_curve_=[0.9, 0.6, 0.55, 0.7]))
    drawn = lines(ax)
    assert drawn["validation"][1] == [0.9, 0.6, 0.55, 0.7]
    assert drawn["best: 0.55 (epoch 3)"] == ([3], [0.55])


def test_learning_curve_of_scores_has_its_best_at_the_top(matplotlib):
    ax = plotting.plot_learning_curve(fitted(validation_scores_=[0.5, 0.9, 0.8, 0.9]), quantity="score")
    assert lines(ax)["best: 0.9 (epoch 2)"] == ([2], [0.9])
    assert "training" not in lines(ax)


def test_learning_curve_draws_into_given_axes(matplotlib):
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.add_subplot()
    assert plotting.plot_learning_curve(fitted(), ax) is ax
    assert len(figure.axes) == 1


def test_one_epoch_and_nan_losses_can_be_drawn(matplotlib, tmp_path):
    ax = plotting.plot_learning_curve(SimpleNamespace(loss_curve_=[0.3]))
    ax.figure.savefig(tmp_path / "one.png")
    ax = plotting.plot_learning_curve(
        SimpleNamespace(loss_curve_=[1.0, np.nan, 0.5], validation_loss_curve_=[np.nan, 2.0, 1.0])
    )
    ax.figure.savefig(tmp_path / "nan.png")
    assert "best: 1 (epoch 3)" in lines(ax)
    ax = plotting.plot_learning_curve(SimpleNamespace(loss_curve_=[np.nan] * 3, validation_loss_curve_=[np.nan] * 3))
    ax.figure.savefig(tmp_path / "all-nan.png")


def test_learning_curve_names_what_is_missing(matplotlib):
    with pytest.raises(ValueError, match="fit"):
        plotting.plot_learning_curve(SimpleNamespace())
    with pytest.raises(ValueError, match="eval_set"):
        plotting.plot_learning_curve(fitted(), quantity="score")
    with pytest.raises(ValueError, match="quantity"):
        plotting.plot_learning_curve(fitted(), quantity="accuracy")  # type: ignore[arg-type]


Y_TRUE = ["b", "a", "a", "c", "a"]
Y_PRED = ["b", "a", "b", "a", "a"]


def test_confusion_matrix_agrees_with_scikit_learn(matplotlib):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    expected = metrics.confusion_matrix(y_true, y_pred, labels=[4, 3, 2, 1, 0])
    counts, names = plotting._confusion(y_true, y_pred, [4, 3, 2, 1, 0])
    np.testing.assert_array_equal(counts, expected)
    assert names == ["4", "3", "2", "1", "0"]


def test_confusion_matrix_plot_writes_counts_into_cells(matplotlib, tmp_path):
    ax = plotting.plot_confusion_matrix(Y_TRUE, Y_PRED)
    cells = {tuple(int(v) for v in text.get_position()): text.get_text() for text in ax.texts}
    assert cells == {(0, 0): "2", (1, 0): "1", (1, 1): "1", (0, 2): "1"}  # (column, row): rows are the truth
    np.testing.assert_allclose(ax.images[0].get_array(), [[2 / 3, 1 / 3, 0], [0, 1, 0], [1, 0, 0]])
    assert ax.get_title() == "accuracy 0.600 (3 of 5)"
    normalized = plotting.plot_confusion_matrix(Y_TRUE, Y_PRED, normalize=True)
    assert sorted(text.get_text() for text in normalized.texts) == ["0.33", "0.67", "1.00", "1.00"]
    normalized.figure.savefig(tmp_path / "confusion.png")


def test_confusion_matrix_text():
    assert plotting.confusion_matrix_text(Y_TRUE, Y_PRED).splitlines() == [
        "      predicted",
        "true   a  b  c   recall",
        "   a   2  1  ·    0.667",
        "   b   ·  1  ·    1.000",
        "   c   1  ·  ·    0.000",
    ]


def test_confusion_matrix_refuses_wrong_input():
    with pytest.raises(ValueError, match=r"y_true and y_pred.*\(2,\).*\(1,\)"):
        plotting.confusion_matrix_text([1, 2], [1])
    with pytest.raises(ValueError, match="not empty"):
        plotting.confusion_matrix_text([], [])
    with pytest.raises(ValueError, match=r"y_pred holds classes.*\[3\]"):
        plotting.confusion_matrix_text([1, 2], [1, 3], labels=[1, 2])
    with pytest.raises(ValueError, match="repeat"):
        plotting.confusion_matrix_text([1, 2], [1, 2], labels=[1, 1, 2])


def test_plots_never_import_pyplot(matplotlib, tmp_path):
    code = f"""if True:
        import sys
        from types import SimpleNamespace
        from lstmcore import plotting
        assert "matplotlib" not in sys.modules
        ax = plotting.plot_learning_curve(SimpleNamespace(loss_curve_=[2.0, 1.0]))
        ax.figure.savefig({str(tmp_path / "curve.png")!r})
        plotting.plot_confusion_matrix([1, 2], [1, 1]).figure.savefig({str(tmp_path / "confusion.png")!r})
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plotting.plot_learning_curve(fitted())
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plotting.plot_confusion_matrix(Y_TRUE, Y_PRED)
