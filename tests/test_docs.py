"""The docs hold: examples in docstrings and pages run, links lead somewhere, pictures have scripts."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONAL = {"sktime", "sklearn", "pandas", "matplotlib", "torch", "onnx", "keras", "statsmodels", "safetensors", "tqdm"}


def script(path: str) -> Any:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- docstrings ------------------------------------------------------------------------------------------------------

MODULES = sorted(
    info.name for info in pkgutil.walk_packages(lstmcore.__path__, "lstmcore.") if "__main__" not in info.name
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of every docstring, compiled code's too."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
    if ">>>" not in (
        inspect.getsource(module) if hasattr(module, "__file__") and module.__file__.endswith("py") else ""
    ):
        return
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module)
    assert result.attempted > 0, "examples that doctest does not find"
    assert result.failed == 0


def test_every_estimator_shows_its_use() -> None:
    base = pytest.importorskip("sklearn.base").BaseEstimator
    classes = [getattr(lstmcore, name) for name in lstmcore.__all__]
    estimators = [item for item in classes if inspect.isclass(item) and issubclass(item, base)]
    assert len(estimators) >= 8
    for item in estimators:
        assert ">>>" in (item.__doc__ or ""), f"{item.__name__} has no example in its docstring"


@pytest.mark.parametrize("name", [name for name in lstmcore.__all__ if name != "__version__"])
def test_everything_public_is_documented(name: str) -> None:
    value = getattr(lstmcore, name)
    assert inspect.getdoc(value)
    for method, function in inspect.getmembers(value, inspect.isfunction) if inspect.isclass(value) else ():
        if not method.startswith("_") and function.__module__.startswith("lstmcore"):
            assert inspect.getdoc(function), f"{name}.{method} has no docstring"


# --- Python in pages -------------------------------------------------------------------------------------------------

# What a page takes for granted: the reader's data. Blocks of a page run one after the other; epochs are cut down to
# two. A block that cannot run says so in the line above it: <!-- not run: why -->
SEQUENCES = """
rng = np.random.default_rng(0)
X = [rng.normal(size=(n, 12)) for n in rng.integers(5, 9, 60)]
y = np.array(["a", "b", "c"])[np.arange(60) % 3]
X_train, y_train, X_test, y_test = X[:40], y[:40], X[40:], y[40:]
x = X[0][0]
"""
CLASSIFIER = SEQUENCES + "model = classifier = lstmcore.SequenceClassifier(hidden_size=4, max_iter=2).fit(X, y)\n"
SERIES = """
rng = np.random.default_rng(0)
series = y = np.sin(np.arange(120) / 2) + rng.normal(0, 0.1, 120)
new_steps, other = series[:5], series[:60]
weather, calendar, calendar_ahead = rng.normal(size=(120, 2)), rng.normal(size=(120, 1)), rng.normal(size=(12, 1))
other_weather, other_calendar = rng.normal(size=(60, 2)), rng.normal(size=(72, 1))
"""
PREPARE = {
    "README.md": "",
    "anomalies": SEQUENCES + "X_normal = X\n",
    "encoding": SEQUENCES,
    "diagnostics": CLASSIFIER + 'layer = lstmcore.Recurrent("lstm", input_size=12, hidden_size=4)\n',
    "edge": CLASSIFIER,
    "forecasting": SERIES,
    "frames": """
X = np.random.default_rng(0).random((4, 20, 8, 8))
x, dy = np.zeros((1, 2, 3, 64, 64), "float32"), np.zeros((1, 2, 16, 64, 64), "float32")
""",
    "getting-started": SEQUENCES
    + """
import pandas as pd
frame = pd.DataFrame({"patient": [1, 1, 2], "hour": [0, 1, 0], "pulse": [60.0, 61, 62], "pressure": [1.0, 2, 3]})
outcome, numbers, sensor = pd.Series([0, 1], index=[1, 2]), np.arange(40.0), np.ones((3, 12))
lengths, dy = np.array([4, 6]), np.ones((2, 6, 128), "float32")
""",
    "language-modelling": """
from pathlib import Path
Path("book.txt").write_text("It was a dark and stormy night. " * 20, encoding="utf-8")
Path("another.txt").write_text("It was a night.", encoding="utf-8")
""",
    "model-file": CLASSIFIER + 'model.save("model.safetensors")\n',
    "quantisation": CLASSIFIER,
    "dynamic-int8": CLASSIFIER,
    "bfloat16": "rng = np.random.default_rng(0)\nX_train = X_test = rng.normal(size=(20, 6, 4))\n"
    "y_train = y_test = np.arange(20) % 2\nx = np.ones((2, 6, 4), dtype='float32')\n",
    "tagging": "",
    "transcribing": """
rng = np.random.default_rng(0)
X = X_new = [rng.normal(size=(n, 3)) for n in rng.integers(8, 12, 20)]
y = y_new = [["a", "b"]] * 20
""",
    "translating": """
X, y = lstmcore.datasets.make_dates(40, random_state=0)
X_new, y_new, text = X[:5], y[:5], X[0]
""",
    "trees": "",
}
BETWEEN = {
    # Before the block of this number: a page talks about several data sets.
    ("getting-started", 1): SEQUENCES,
    ("getting-started", 4): SEQUENCES + "classifier = SequenceClassifier(max_iter=2).fit(X_train, y_train)\n",
    ("getting-started", 5): 'x = np.ones((2, 6, 12), "float32")\nimport torch\ntorch_module = torch.nn.LSTM(2, 3)\n',
    ("getting-started", 6): SEQUENCES,
}
BLOCK = re.compile(r"(?P<mark><!-- not run: [^\n]+ -->\n+)?```python\n(?P<code>.*?)```", re.DOTALL)


def name_of(page: Path) -> str:
    return page.name if page.parent == ROOT else page.stem


def blocks(page: Path) -> list[tuple[bool, str]]:
    """(whether it is to run, code) of each block."""
    found = [(match["mark"] is None, match["code"]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    assert len(found) == page.read_text(encoding="utf-8").count("```python"), "a block that this test does not find"
    return found


@pytest.mark.filterwarnings("ignore:.*has not converged", "ignore:.*epochs")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_python_in_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    name = name_of(page)
    hint = (
        f"test_docs.py: PREPARE[{name!r}] gives what a page takes for granted; <!-- not run: why --> leaves a block out"
    )
    namespace: dict[str, Any] = {"np": np, "lstmcore": lstmcore}
    try:
        exec(PREPARE.get(name, ""), namespace)
        for k, (runs, code) in enumerate(blocks(page)):
            exec(BETWEEN.get((name, k), ""), namespace)
            code = re.sub(r"max_iter=\d+", "max_iter=2", code).replace(" …", "")
            if runs:
                exec(compile(textwrap.dedent(code), f"{name}, block {k}", "exec"), namespace)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}. {hint}") from error


# --- pictures and links ----------------------------------------------------------------------------------------------


def test_pictures_have_scripts() -> None:
    figures = script("docs/figures/draw.py").FIGURES
    shown = {path for page in PAGES for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))}
    assert shown == {f"figures/{name}.png" for name in figures}, "every picture of a page needs a line in draw.py"
    assert {path.stem for path in (ROOT / "docs").rglob("*.png")} == set(figures), "a picture that no script draws"
    for name, (path, _) in figures.items():
        assert f"{name}.png" in (ROOT / path).read_text(encoding="utf-8"), f"{path} does not draw {name}.png"


def test_site_is_complete() -> None:
    """All pages, a page for every public name, and no link to nothing; the site itself is built by `make docs`."""
    pytest.importorskip("sklearn")
    stage = script("docs/site/stage.py")
    try:
        site = stage.Site()
        site.build()
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    assert site.errors == []
    names = [name for name in lstmcore.__all__ if name != "__version__"]
    assert {f"api/{name}.md" for name in names} <= set(site.files)
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(site.files)
    assert {f"cpp/{path.stem}.md" for path in (ROOT / "cpp/include/lstmcore").glob("*.hpp")} <= set(site.files)
    assert {f"examples/{path.name}.md" for path in (ROOT / "examples").glob("*.py")} <= set(site.files)
    listed = "\n".join(str(content) for name, content in site.files.items() if name.endswith("index.md"))
    assert all(f"docs/{page.stem}\n" in listed for page in PAGES[1:])


def test_site_names_dead_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = script("docs/site/stage.py")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/a.md) [b](gone.md)\n\n```\n[c](code.md)\n```\n`[d](code.md)`\n")
    (tmp_path / "docs/a.md").write_text(
        "# A\n\n[up](../README.md#x), [out](https://example.org), ![p](../missing.png)\n"
    )
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    site = stage.Site()
    for path in ("README.md", "docs/a.md"):
        site.add_markdown(path)
    assert [error.partition(",")[0] for error in site.errors] == [
        "README.md: link to gone.md",
        "docs/a.md: link to ../missing.png",
    ]
    assert "[up](../index.md#x)" in site.files["docs/a.md"]
