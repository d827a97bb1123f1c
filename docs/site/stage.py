"""Lays out the pages of the docs site for Sphinx: `make docs` runs it, then Sphinx over what it wrote.

    python docs/site/stage.py build/docs-source          # needs the installed lstmcore

README.md, CHANGELOG.md, CONTRIBUTING.md and docs/*.md stay plain Markdown that reads well in the repository. Here they
are copied with the paths that they have there; every other file or folder that they link to gets a page with its
source, and so do all examples and the C++ headers. A link to nothing is an error. The reference of the Python API has
a page for each public name, the list of which is made by looking into the package.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Parts of the navigation, in order; what a part does not name is put under the last.
GUIDE = {
    "First steps": ("getting-started", "cells", "heads"),
    "Estimators": (
        "estimators",
        "tagging",
        "transcribing",
        "translating",
        "language-modelling",
        "forecasting",
        "anomalies",
        "encoding",
        "frames",
        "trees",
    ),
    "Networks inside": ("diagnostics", "long-time-lags", "probes", "interchange"),
    "Small devices": ("edge", "quantisation", "edge-benchmarks"),
    "More": ("bfloat16", "dynamic-int8", "benchmarks", "performance", "model-file"),
}
LANGUAGES = {
    ".py": "python", ".cpp": "cpp", ".hpp": "cpp", ".ino": "cpp", ".h": "c", ".c": "c", ".md": "markdown",
    ".cmake": "cmake", "CMakeLists.txt": "cmake", ".yml": "yaml", ".yaml": "yaml", ".toml": "toml",
}  # fmt: skip
IMAGES = {".png", ".svg"}
# Ways of a link in Markdown: [text](target), with an anchor or a title perhaps; not in code.
LINK = re.compile(r"(?P<before>!?\[[^\]]*\]\()(?P<target>[^()\s#]*)(?P<anchor>#[^()\s]*)?(?P<after>\))")
FENCE = re.compile(r"^\s*(```+|~~~+)")


def pages() -> list[str]:
    """Markdown files of the repository that are pages, as paths in it."""
    texts = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
    return texts + sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


def links(text: str) -> list[re.Match[str]]:
    """Links outside of code."""
    found, fence = [], ""
    position = 0
    for line in text.splitlines(keepends=True):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and not line.startswith("    "):
            code = [(m.start(), m.end()) for m in re.finditer(r"`[^`]+`", line)]
            for match in LINK.finditer(text, position, position + len(line)):
                at = match.start("target") - position
                if not any(start < at < end for start, end in code):
                    found.append(match)
        position += len(line)
    return found


def is_external(target: str) -> bool:
    return re.match(r"[a-z]+:", target) is not None


class Site:
    """Files to be written, by path below the output folder."""

    def __init__(self) -> None:
        self.files: dict[str, str | bytes] = {}
        self.errors: list[str] = []
        self._waiting: list[str] = []  # sources that have no page yet
        self._sources: dict[str, str] = {}  # path in the repository → page

    # --- pages of the repository -------------------------------------------------------------------------------------

    def page_of(self, path: str) -> str:
        return "index.md" if path == "README.md" else path

    def add_markdown(self, path: str) -> None:
        text = (ROOT / path).read_text(encoding="utf-8")
        parts, position = [], 0
        for match in links(text):
            target = self.resolved(path, match["target"], match["anchor"] or "")
            parts += [text[position : match.start("target")], target]
            position = match.end("anchor") if match["anchor"] else match.end("target")
        self.files[self.page_of(path)] = "".join(parts) + text[position:]

    def resolved(self, page: str, target: str, anchor: str) -> str:
        """The link as it has to be in the site."""
        if is_external(target) or not target:
            return target + anchor
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        file = ROOT / path
        if path.startswith("..") or not file.exists():
            self.errors.append(f"{page}: link to {target}, which does not exist")
            return target
        if path in pages():
            found = self.page_of(path)
        elif file.suffix in IMAGES:
            found = path
            self.files[path] = file.read_bytes()
        else:
            found = self.source_page(path)
        start = posixpath.dirname(self.page_of(page)) or "."
        return posixpath.relpath(found, start) + anchor

    # --- pages of sources --------------------------------------------------------------------------------------------

    def source_page(self, path: str) -> str:
        """Page that shows a file, or lists a folder."""
        if path not in self._sources:
            self._sources[path] = path + ("/index.md" if (ROOT / path).is_dir() else ".md")
            self._waiting.append(path)
        return self._sources[path]

    def add_sources(self) -> None:
        while self._waiting:
            path = self._waiting.pop()
            self.files[self._sources[path]] = self.folder(path) if (ROOT / path).is_dir() else self.source(path)

    def folder(self, path: str) -> str:
        """A list of what is in it, with what each file says of itself."""
        lines = [f"# {path}", ""]
        for item in sorted((ROOT / path).iterdir(), key=lambda item: (item.is_dir(), item.name)):
            if item.name.startswith((".", "__")) or item.suffix in {".pyc", *IMAGES}:
                continue
            found = posixpath.relpath(self.source_page(f"{path}/{item.name}"), path)
            summary = "" if item.is_dir() else summary_of(item)
            lines.append(f"- [{item.name}]({found})" + (f": {summary}" if summary else ""))
        return "---\norphan: true\n---\n" + "\n".join(lines) + "\n"

    def source(self, path: str) -> str:
        text = (ROOT / path).read_text(encoding="utf-8").rstrip("\n")
        name = PurePosixPath(path)
        language = LANGUAGES.get(name.name, LANGUAGES.get(name.suffix, "text"))
        return f"---\norphan: true\n---\n# {path}\n\n``````{language}\n{text}\n``````\n"

    # --- reference ---------------------------------------------------------------------------------------------------

    def add_reference(self) -> None:
        groups = public_names()
        lines = ["# Python reference", "", "Made from the docstrings of the package."]
        names = []
        for title, members in groups.items():
            lines += ["", f"## {title}", "", "| | |", "|---|---|"]
            for name, value in members.items():
                lines.append(f"| [{name}]({name}.md) | {first_line(value)} |")
                self.files[f"api/{name}.md"] = reference_page(name, value)
                names.append(name)
        self.files["api/index.md"] = "\n".join(lines) + "\n" + toctree(names, hidden=True)

    def add_headers(self) -> None:
        folder = "cpp/include/lstmcore"
        lines = [
            "# C++ reference", "",
            "What each header declares, with its documentation. `#include <lstmcore/lstmcore.hpp>` has them all; how",
            "to find the library with CMake says the [first page](../index.md#c). Whole programs:", "",
        ]  # fmt: skip
        for path in sorted((ROOT / "cpp/examples").iterdir()):
            lines.append(f"- [{path.name}](../{self.source_page(f'cpp/examples/{path.name}')}): {summary_of(path)}")
        lines += ["", "| header | |", "|---|---|"]
        for path in sorted((ROOT / folder).glob("*.hpp")):
            page = f"cpp/{path.stem}"
            lines.append(f"| [lstmcore/{path.name}]({path.stem}.md) | {summary_of(path)} |")
            text = path.read_text(encoding="utf-8").rstrip("\n")
            self.files[f"{page}.md"] = f"# lstmcore/{path.name}\n\n``````cpp\n{text}\n``````\n"
        names = [path.stem for path in sorted((ROOT / folder).glob("*.hpp"))]
        self.files["cpp/index.md"] = "\n".join(lines) + "\n" + toctree(names, hidden=True)

    def add_gallery(self) -> None:
        lines = ["# Examples", "", "Whole programs, each of which a test runs.", ""]
        folders = sorted({path.parent for path in (ROOT / "examples").rglob("*") if path.is_file()})
        for folder in folders:
            path = folder.relative_to(ROOT).as_posix()
            if path != "examples":
                lines += ["", f"## {path.removeprefix('examples/')}", ""]
            for item in sorted(folder.iterdir()):
                if item.is_file() and item.suffix != ".pyc":
                    page = self.source_page(item.relative_to(ROOT).as_posix())
                    lines.append(f"- [{item.name}]({posixpath.relpath(page, 'examples')}): {summary_of(item)}")
        lines += ["", "## Figures of these pages", "", "Scripts that draw them, by `make figures`.", ""]
        for item in sorted((ROOT / "docs/figures").glob("*.py")):
            lines.append(f"- [{item.name}](../{self.source_page(f'docs/figures/{item.name}')}): {summary_of(item)}")
        self._sources["examples"] = "examples/index.md"
        self.files["examples/index.md"] = "\n".join(lines) + "\n"

    # --- all of it ---------------------------------------------------------------------------------------------------

    def build(self) -> None:
        self.add_gallery()
        for path in pages():
            self.add_markdown(path)
        self.add_reference()
        self.add_headers()
        self.add_sources()
        have = {PurePosixPath(path).stem for path in pages() if path.startswith("docs/")}
        listed = {name for names in GUIDE.values() for name in names}
        trees = []
        for title, names in GUIDE.items():
            more = sorted(have - listed) if title == "More" else []
            trees.append(
                toctree([f"docs/{name}" for name in (*names, *more) if name in have], caption=title, hidden=True)
            )
        last = ["examples/index", "api/index", "cpp/index", "CONTRIBUTING", "CHANGELOG"]
        trees.append(toctree(last, caption="Reference", hidden=True))
        self.files["index.md"] = str(self.files["index.md"]) + "\n".join(trees)

    def write(self, folder: Path) -> None:
        """Only what has changed, so that Sphinx reads only that again; what is no longer there goes."""
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if path.relative_to(folder).as_posix() not in self.files:
                path.unlink()
        for name, content in self.files.items():
            data = content if isinstance(content, bytes) else content.encode()
            path = folder / name
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def toctree(names: list[str], caption: str = "", hidden: bool = False) -> str:
    options = [f":caption: {caption}"] * bool(caption) + [":hidden:"] * hidden
    return "\n".join(["", "```{toctree}", *options, "", *names, "```", ""])


def summary_of(path: Path) -> str:
    """First sentence or line of the comment or docstring that a file begins with."""
    if path.suffix not in {".py", ".cpp", ".hpp", ".c", ".h", ".ino"}:
        return ""
    lines = path.read_text(encoding="utf-8").lstrip().removeprefix('"""').splitlines()
    text = ""
    for line in lines:
        line = line.strip().removeprefix("/*").removeprefix("//").strip(" /*")
        if not line or line.startswith("#"):
            break
        text += " " + line
        if re.search(r"[.:]( |$|\"\"\")", text):
            break
    return re.split(r"(?<=[.;:]) |\"\"\"", text.strip())[0].rstrip(":;")


def first_line(value: Any) -> str:
    text = inspect.getdoc(value) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def public_names() -> dict[str, dict[str, Any]]:
    """Everything that users may call: what lstmcore.__all__ names, and what else public modules say in theirs."""
    from sklearn.base import BaseEstimator

    import lstmcore

    groups: dict[str, dict[str, Any]] = {
        "Estimators": {},
        "Layers, models and other classes": {},
        "Functions": {},
        "Modules": {},
    }
    seen: set[int] = set()
    for name in lstmcore.__all__:
        value = getattr(lstmcore, name)
        seen.add(id(value))
        if inspect.ismodule(value):
            groups["Modules"][name] = value
        elif inspect.isclass(value):
            estimator = issubclass(value, BaseEstimator)
            groups["Estimators" if estimator else "Layers, models and other classes"][name] = value
        elif callable(value):
            groups["Functions"][name] = value
    for info in pkgutil.walk_packages(lstmcore.__path__, "lstmcore."):
        name = info.name.removeprefix("lstmcore.")
        if (
            name in groups["Modules"]
            or any(part.startswith("_") for part in name.split("."))
            or name.startswith("edge")
        ):
            continue
        module = importlib.import_module(info.name)
        of_users = [getattr(module, item) for item in getattr(module, "__all__", ())]
        if any(id(item) not in seen and is_of_users(item) for item in of_users):
            groups["Modules"][name] = module
    return groups


def is_of_users(item: Any) -> bool:
    """Classes that users make themselves, by scikit-learn's or sktime's rules; other modules help the estimators."""
    return inspect.isclass(item) and hasattr(item, "get_params")


def reference_page(name: str, value: Any) -> str:
    if inspect.ismodule(value):
        members = [f"lstmcore.{name}.{item}" for item in value.__all__]
        body = [f".. automodule:: lstmcore.{name}", "   :no-members:", ""]
        for member in members:
            item = getattr(value, member.rpartition(".")[2])
            body += [*directive(member, item), ""]
    else:
        body = directive(f"lstmcore.{name}", value)
    return f"# {name}\n\n```{{eval-rst}}\n" + "\n".join(body) + "\n```\n"


def directive(full: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {full}", "   :members:", "   :inherited-members:", "   :member-order: bysource"]
    kind: Callable[[Any], bool] = callable
    return [f".. autofunction:: {full}"] if kind(value) else [f".. autodata:: {full}"]


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    site = Site()
    site.build()
    if site.errors:
        sys.exit("\n".join(site.errors))
    site.write(folder)
    print(f"{len(site.files)} files in {os.path.relpath(folder)}")


if __name__ == "__main__":
    main()
