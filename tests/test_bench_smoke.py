"""The benchmark runs from end to end on tiny shapes, and its peers agree on what they compute."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the benchmark needs torch"),
    pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="the benchmark needs scikit-learn"),
]
HAS_ONNX = all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    done = run("--quick", "--only", "grid", "--threads", "1,2", "--output", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "results.json").read_text()), folder, done


def test_every_row_was_measured_by_every_peer_with_both_numbers_of_threads(grid):
    results, _, _ = grid
    assert {row["threads"] for row in results["rows"]} == {1, 2}
    for row in results["rows"]:
        expected = {"lstmcore", "torch"}
        if row["kind"] == "ragged":
            expected.add("torch padded")
        if HAS_ONNX and row["mode"] == "inference":
            expected |= {"onnxruntime", "onnxruntime int8"} if row["cell"] == "lstm" else {"onnxruntime"}
        assert set(row["ms"]) == expected
        assert all(milliseconds > 0 for milliseconds in row["ms"].values())
        for peer, ratio in row["ratio"].items():
            assert ratio == pytest.approx(row["ms"][peer] / row["ms"]["lstmcore"])
    measured = {(row["kind"], row["mode"]) for row in results["rows"]}
    assert measured == {
        *(("sequence", mode) for mode in ("inference", "training")),
        *(("ragged", mode) for mode in ("inference", "training")),
        ("step", "inference"),
    }


@pytest.mark.skipif(shutil.which("cmake") is None, reason="ceilings are measured by a program that CMake builds")
def test_every_row_has_its_floor(grid):
    results, folder, done = grid
    assert [c["threads"] for c in results["ceilings"]] == [1, 2], done.stderr
    for ceiling in results["ceilings"]:
        assert ceiling["gflops"] > 0
        assert [size for size, _ in ceiling["read"]] == [1 << k for k in (14, 16, 18, 20, 22, 24, 26)]
    for row in results["rows"]:
        found = row["roofline"]
        assert found["fraction"] == pytest.approx(found["floor_ms"] / row["ms"]["lstmcore"])
    assert "of the floor" in (folder / "tables.md").read_text(encoding="utf-8")
    assert (folder / "roofline.png").stat().st_size > 10_000


def test_the_floor_of_a_row(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import roofline

    row = {"cell": "gru", "N": 2, "T": 5, "I": 4, "H": 8, "num_layers": 2, "bidirectional": True, "kind": "sequence"}
    operations = 2 * 2 * 3 * 8 * ((4 + 8) + (16 + 8)) * 2 * 5
    moved = 2 * 2 * 4 * 3 * 8 * 8 * 5
    assert roofline.work({**row, "mode": "inference"}) == (operations, moved, 4 * 3 * 8 * 8)
    assert roofline.work({**row, "mode": "training"})[:2] == (3 * operations, 2 * moved)
    assert roofline.work({**row, "mode": "inference"}, 7)[0] == operations * 7 / 10
    ceiling = {"threads": 1, "gflops": 10.0, "read": [[100, 8.0], [10_000, 2.0]]}
    assert roofline.bandwidth(ceiling, 1) == 8.0
    assert roofline.bandwidth(ceiling, 1000) == pytest.approx(5.0)
    assert roofline.bandwidth(ceiling, 1e9) == 2.0
    found = roofline.annotate({**row, "mode": "inference", "ms": {"lstmcore": 0.01}}, ceiling)
    floors = operations / 10e6, moved / 1e6 / roofline.bandwidth(ceiling, 768)
    assert found["bound"] == ("arithmetic" if floors[0] > floors[1] else "weights")
    assert found["floor_ms"] == pytest.approx(max(floors))
    assert found["gflops"] == pytest.approx(operations / 1e4)


def test_peers_agree(grid):
    results, _, _ = grid
    for row in results["rows"]:
        assert row["disagreement"] == []
        assert row["error"]["lstmcore"] < 1e-5, row["name"]  # outputs; for training, all gradients as well
        if "onnxruntime" in row["ratio"]:
            assert row["error"]["onnxruntime"] < 1e-5


def test_geometric_means_tables_and_plots(grid):
    results, folder, done = grid
    rows = [r for r in results["rows"] if (r["group"], r["mode"], r["threads"]) == ("grid", "inference", 1)]
    assert len(rows) == 2
    expected = (rows[0]["ratio"]["torch"] * rows[1]["ratio"]["torch"]) ** 0.5
    means = {(m["group"], m["threads"], m["mode"], m["peer"]): m["ratio"] for m in results["geomean"]}
    assert means["grid", 1, "inference", "torch"] == pytest.approx(expected)
    table = (folder / "tables.md").read_text()
    assert table in done.stdout
    assert f"({expected:.2f})" in table
    if importlib.util.find_spec("matplotlib") is not None:
        assert (folder / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_differs_is_an_error(tmp_path):
    # The weights of ours are disturbed: the run must say so and fail.
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(BENCH)!r})
        import rows, run, peers_ours
        init = peers_ours.Peer.__init__
        def disturbed(self, problem, n_threads):
            init(self, problem, n_threads)
            self.layer.parameters["R_l0"][0, 0] += 0.1
        peers_ours.Peer.__init__ = disturbed
        row = rows.select(["4x20x32x32"], quick=True)[0]
        entries = run.measure_row(row, 1, 0.01, True)
        assert [entry["disagreement"] for entry in entries] == [["lstmcore"], ["lstmcore"]], entries
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFER: lstmcore" in done.stdout


def test_fits_and_footprint(tmp_path):
    names = ["digits", "adding"] + (["Vowels"] if importlib.util.find_spec("sktime") is not None else [])
    rows = [argument for name in names for argument in ("--rows", name)]
    done = run("--quick", "--only", "fits", "--only", "import", "--threads", "1", *rows, "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["fits"]) == len(names)
    for fit in results["fits"]:
        assert set(fit["seconds"]) == set(fit["scores"]) == {"lstmcore", "torch"}
        assert all(seconds > 0 for side in fit["seconds"].values() for seconds in side)
    sizes = {entry["name"]: entry for entry in results["import"]}
    assert {"numpy", "lstmcore", "torch"} <= set(sizes)
    assert 0 < sizes["lstmcore"]["bytes"] < sizes["torch"]["bytes"]
    assert 0 < sizes["lstmcore"]["seconds"] < sizes["torch"]["seconds"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "--threads: expected positive numbers"),
        (["--threads", "one"], "--threads: expected positive numbers"),
        (["--quick", "--only", "grid", "--rows", "9999"], "--rows: nothing contains '9999'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path):
    done = run(*arguments, "--output", str(tmp_path / "none"))
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "none").exists()


def test_trees():
    """Which compares outputs and gradients before it times anything."""
    command = [
        sys.executable,
        str(BENCH / "trees.py"),
        "--sizes",
        "3",
        "--trees",
        "2",
        "--nodes",
        "6",
        "--seconds",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["child_sum", "nary"]


def test_translator():
    """Which compares loss and gradients before it times anything."""
    command = [
        sys.executable,
        str(BENCH / "translator.py"),
        "--hidden",
        "6",
        "--pairs",
        "40",
        "--seconds",
        "0",
        "--threads",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines()[3:]]
    assert rows == ["additive 6", "general 6", "general, fed 6", "none 6"]


def test_dynamic_int8():
    command = [sys.executable, str(BENCH / "dynamic_int8.py"), "--quick", "--no-scores", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    assert [line[0] for line in lines] == ["lstm 1x20x16x16", "lstm 4x20x32x32", "lstm 3x7x5x13", "gru 3x12x8x16"]
    assert all(float(line[2]) > 0 and float(line[3]) > 0 and 0 < float(line[7]) < 0.02 for line in lines)
    assert all((line[4] != "") == (HAS_ONNX and line[0].startswith("lstm")) for line in lines)


def test_bfloat16():
    command = [sys.executable, str(BENCH / "bfloat16.py"), "--quick", "--no-steps", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    names = ("lstm 1x20x16x16", "lstm 4x20x32x32", "lstm 3x7x5x13", "gru 3x12x8x16")
    assert [line[0] for line in lines[2:10]] == [name for name in names for _ in range(2)]
    assert all(float(cell) > 0 for line in lines[2:10] for cell in line[3:])
    assert [line[0] for line in lines[13:]] == ["digits, accuracy", "adding problem T 20, mse"]


def test_language_models():
    """Which compares losses and gradients before it times anything."""
    options = "--threads 1 --shapes 8x3x7 --symbols 12 --chunks 2 --length 5 --seconds 0"
    command = [sys.executable, str(BENCH / "language.py"), *options.split()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[3].startswith("| 8 | 3 | 7 | 1 |")
