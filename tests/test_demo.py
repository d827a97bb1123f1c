"""The command line, and the demonstration from data to streamed probabilities."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import lstmcore
from lstmcore import _cli, datasets, demo

pytest.importorskip("sklearn")

# Results do not depend on the number of threads, but on a machine busy with other tests one thread is much quicker.
ONE_THREAD = ("--threads", "1")


def has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


needs_demo_extra = pytest.mark.skipif(not has("sktime", "matplotlib", "tqdm"), reason='needs "lstmcore[demo]"')


@needs_demo_extra
def test_demo_trains_saves_reloads_and_streams(tmp_path):
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "lstmcore", "demo", *ONE_THREAD, "--epochs", "12", "--seed", "1"]
    command += ["--output", str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {file.name for file in folder.iterdir()} == {
        *("model.safetensors", "streaming.safetensors", "learning-curve.png", "confusion-matrix.png")
    }
    printed = done.stdout
    found = re.search(r"Test accuracy (\d\.\d+) \((\d+) of 370\)", printed)
    assert found is not None, printed
    assert float(found[1]) > 0.9
    assert "predictions bitwise equal" in printed
    assert "predict_proba: the same" in printed
    # The matrix that was printed: its diagonal adds up to the number of right answers.
    rows = re.findall(r"^ {3}(\d) ((?: +[\d·]+){9}) +\d\.\d{3}$", printed, flags=re.MULTILINE)
    assert len(rows) == 9
    cells = np.array([[0 if cell == "·" else int(cell) for cell in row.split()] for _, row in rows])
    assert np.trace(cells) == int(found[2])
    assert cells.sum() == 370
    assert "epoch" in done.stderr  # the progress bar
    # The file is the model that was reported.
    X, y = datasets.load_japanese_vowels("test")
    assert int((lstmcore.load(folder / "model.safetensors").predict(X) == y).sum()) == int(found[2])


@needs_demo_extra
def test_demo_accuracy_over_five_seeds(capsys):
    """What the demonstration promises: at least 0.97 as the mean of five seeds, with its own settings."""
    assert demo.run(n_seeds=5, n_threads=1) == 0
    printed = capsys.readouterr().out
    accuracies = [float(text) for text in re.findall(r"^seed \d: test accuracy (\S+),", printed, flags=re.MULTILINE)]
    assert len(accuracies) == 5
    assert len(set(accuracies)) > 1  # the seed has an effect
    assert np.mean(accuracies) >= 0.97, printed


def test_synthetic_demo_needs_no_further_package(tmp_path):
    # As on a machine with NumPy and scikit-learn only.
    code = (
        "import sys\n"
        "for name in ('sktime', 'matplotlib', 'tqdm', 'pandas'): sys.modules[name] = None\n"
        "from lstmcore import _cli\n"
        "options = ['--synthetic', '--threads', '1', '--epochs', '1']\n"
        f"sys.exit(_cli.main(['demo', *options, '--output', {str(tmp_path)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No plots: matplotlib is not installed" in done.stdout
    assert "predictions bitwise equal" in done.stdout
    assert "predict_proba: the same" in done.stdout
    assert {file.name for file in tmp_path.iterdir()} == {"model.safetensors"}


def test_synthetic_demo_bridges_the_lag(capsys):
    assert demo.run(synthetic=True, n_seeds=2, n_threads=1) == 0
    printed = capsys.readouterr().out
    accuracies = [float(text) for text in re.findall(r"test accuracy (\S+),", printed)]
    assert len(accuracies) == 2
    assert min(accuracies) >= 0.99, printed  # chance: 0.25


@pytest.mark.parametrize("missing", ["sktime", "matplotlib", "sklearn"])
def test_missing_packages_are_named_with_the_command_to_install_them(missing, monkeypatch, capsys, tmp_path):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find_spec(name))
    assert demo.run(output=str(tmp_path / "none")) == 2
    printed = capsys.readouterr()
    assert 'pip install "lstmcore[demo]"' in printed.err
    assert ("scikit-learn" if missing == "sklearn" else missing) in printed.err
    assert printed.out == ""
    assert not (tmp_path / "none").exists()


def test_a_difference_is_reported_and_fails(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(np, "array_equal", lambda a, b: False)
    assert demo.run(synthetic=True, epochs=1, n_threads=1, output=str(tmp_path)) == 1
    assert "predictions NOT EQUAL" in capsys.readouterr().out


def test_info_reports_build_cells_and_packages(capsys):
    assert _cli.main(["info", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["lstmcore"]["version"] == lstmcore.__version__
    assert report["lstmcore"]["isa"] in report["lstmcore"]["isas_built"]
    assert set(report["cells"]) == set(lstmcore.cells())
    assert report["packages"]["numpy"] == np.__version__
    assert _cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"^  version +{re.escape(lstmcore.__version__)}$", text, flags=re.MULTILINE)
    assert all(name in text for name in lstmcore.cells())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command"),
        (["train"], "train"),
        (["demo", "--epochs", "0"], "--epochs: expected an integer of at least 1, got '0'"),
        (["demo", "--seed", "-1"], "--seed: expected an integer of at least 0"),
        (["demo", "--seeds", "two"], "--seeds: expected an integer of at least 1, got 'two'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        _cli.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "demo" in text
    assert "info" in text
