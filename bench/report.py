#!/usr/bin/env python3
"""Tables (Markdown) and plots (PNG) of what run.py measured.

python bench/report.py bench/results        reads results.json there, writes tables.md, grid.png, fits.png beside it
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

OURS = "lstmcore"
MODES = {"inference": "inference", "training": "forward + backward"}
# Colours that stay apart for colour-blind readers (Okabe & Ito 2008), and a shape each for grey print.
STYLES = {
    "torch": ("#d55e00", "o"),
    "torch padded": ("#cc79a7", "s"),
    "onnxruntime": ("#0072b2", "^"),
    "onnxruntime int8": ("#009e73", "D"),
}
INK, GRID = "#333333", "#dddddd"


# Groups of rows with a mean of their own.
MEANS = {"grid": "GEOMEAN of the grid", "off": "GEOMEAN off the grid"}


def geometric_means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric mean of the ratios peer / ours over the rows of a group, a mode, number of threads and peer."""
    means = []
    for (threads, mode), group in itertools.product(_combinations(rows), MEANS):
        chosen = [r for r in rows if (r["threads"], r["mode"], r["group"]) == (threads, mode, group)]
        for peer in _peers(chosen):
            ratios = [row["ratio"][peer] for row in chosen if peer in row["ratio"]]
            means.append(
                {
                    "group": group,
                    "threads": threads,
                    "mode": mode,
                    "peer": peer,
                    "ratio": statistics.geometric_mean(ratios),
                    "lowest": min(ratios),
                    "rows": len(ratios),
                }
            )
    return means


def tables(results: dict[str, Any]) -> str:
    """All tables as Markdown; a ratio above 1 says that lstmcore is the quicker one."""
    meta = results["meta"]
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    parts = [
        f"{meta['cpu']}, {meta['cpus']} CPUs; Python {meta['python']}; {versions}; {meta['when']}",
        "Times are medians; in brackets, how many times as long as lstmcore: above 1, lstmcore is quicker. "
        "Shapes are N x T x I x H.",
    ]
    for threads, mode in _combinations(results["rows"]):
        chosen = [row for row in results["rows"] if (row["threads"], row["mode"]) == (threads, mode)]
        peers = _peers(chosen)
        roofline = any("roofline" in row for row in chosen)
        lines = [
            [
                *(row["name"], _milliseconds(row["ms"][OURS])),
                *(_roofline_cells(row) if roofline else ()),
                *(_cell(row, peer) for peer in peers),
            ]
            for row in chosen
        ]
        for group, title in MEANS.items():
            where = (group, threads, mode)
            mean = {m["peer"]: m["ratio"] for m in results["geomean"] if (m["group"], m["threads"], m["mode"]) == where}
            if mean:
                empty = [""] * (1 + 3 * roofline)
                lines.append([f"**{title}**", *empty, *(f"**({mean[p]:.2f})**" if p in mean else "" for p in peers)])
        title = f"### {MODES[mode].capitalize()}, {threads} thread{'s' * (threads > 1)} (ms)"
        extra = ["GFLOP/s", "GB/s", "of the floor"] if roofline else []
        parts.append(f"{title}\n\n" + _markdown(["network", OURS, *extra, *peers], lines))
    if results.get("ceilings"):
        sizes = [size for size, _ in results["ceilings"][0]["read"]]
        header = ["threads", "GFLOP/s", *(f"GB/s, {_size(size)} a thread" for size in sizes)]
        lines = [
            [str(c["threads"]), f"{c['gflops']:.0f}", *(f"{rate:.0f}" for _, rate in c["read"])]
            for c in results["ceilings"]
        ]
        text = "Multiply-adds in registers, and reading memory of one size over and over: bench/native/ceilings.cpp."
        parts.append(f"### Ceilings of this machine\n\n{text}\n\n" + _markdown(header, lines))
    if results.get("steps"):
        lines = [[s["cell"], str(s["I"]), str(s["H"]), f"{s['us']:.3g}"] for s in results["steps"]]
        parts.append("### One step from C++, Model::step (µs)\n\n" + _markdown(["cell", "I", "H", OURS], lines))
    if results.get("python_steps"):
        lines = [
            [s["cell"], str(s["I"]), str(s["H"]), *(f"{value:.3g}" for value in s["us"].values())]
            for s in results["python_steps"]
        ]
        header = ["cell", "I", "H", *results["python_steps"][0]["us"]]
        parts.append("### One step from Python (µs)\n\n" + _markdown(header, lines))
    if results["fits"]:
        lines = []
        for fit in results["fits"]:
            seconds = {name: statistics.median(values) for name, values in fit["seconds"].items()}
            if fit["scores"]:
                score = {name: _score(fit, name) for name in fit["scores"]}
                runs = len(fit["seconds"][OURS])
                what = f"{fit['score_name']}, mean of {runs} seed{'s' * (runs > 1)}"
                unit = {name: f"{value:.2f} s" for name, value in seconds.items()}
            else:
                score, what = {OURS: "", "torch": ""}, "one optimiser step"
                unit = {name: f"{1e3 * value / fit['steps']:.2f} ms" for name, value in seconds.items()}
            lines.append(
                [
                    *(fit["name"], str(fit["threads"]), unit[OURS], unit["torch"], f"{fit['ratio']:.2f}"),
                    *(score[OURS], score["torch"], what),
                ]
            )
        header = ["fit", "threads", OURS, "torch", "ratio", f"{OURS} score", "torch score", ""]
        parts.append("### Whole fits\n\n" + _markdown(header, lines))
    if results["import"]:
        lines = [[e["name"], f"{e['seconds']:.3f} s", f"{e['bytes'] / 1e6:.1f} MB"] for e in results["import"]]
        parts.append("### Import and installed size\n\n" + _markdown(["library", "import", "installed"], lines))
    return "\n\n".join(parts) + "\n"


def _roofline_cells(row: dict[str, Any]) -> list[str]:
    found = row.get("roofline")
    if found is None:
        return ["", "", ""]
    return [f"{found['gflops']:.1f}", f"{found['gbs']:.1f}", f"{found['fraction']:.0%} ({found['bound']})"]


def _size(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} kB"


def write(results: dict[str, Any], folder: Path) -> None:
    """tables.md and, where matplotlib is installed, grid.png, roofline.png and fits.png."""
    (folder / "tables.md").write_text(tables(results), encoding="utf-8")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        print("no plots: matplotlib is not installed", file=sys.stderr)
        return
    if results["rows"]:
        _plot_rows(results, folder / "grid.png")
    if results.get("ceilings"):
        _plot_roofline(results, folder / "roofline.png")
    if results["fits"]:
        _plot_fits(results, folder / "fits.png")


def _plot_rows(results: dict[str, Any], path: Path) -> None:
    """A panel a number of threads and mode; a line a network; a mark a peer at its time as a multiple of ours."""
    from matplotlib.figure import Figure

    rows = results["rows"]
    combinations = _combinations(rows)
    threads = sorted({t for t, _ in combinations})
    modes = [mode for mode in MODES if any(m == mode for _, m in combinations)]
    names = list(dict.fromkeys(row["name"] for row in rows))
    every_ratio = [ratio for row in rows for ratio in row["ratio"].values()]
    low, high = min(0.8, *every_ratio) / 1.15, max(1.25, *every_ratio) * 1.15
    figure = Figure(
        figsize=(2.9 + 3.6 * len(modes), 1.7 + len(threads) * (0.7 + 0.27 * len(names))), layout="constrained"
    )
    panels = figure.subplots(len(threads), len(modes), squeeze=False, sharex=True, sharey=True)
    for row_of_panels, n_threads in zip(panels, threads, strict=True):
        for axes, mode in zip(row_of_panels, modes, strict=True):
            axes.axvspan(low, 1.0, color="#f3f3f3", zorder=0)
            axes.axvline(1.0, color=INK, linewidth=1, zorder=1)
            for peer, (colour, marker) in STYLES.items():
                found = {
                    names.index(row["name"]): row["ratio"][peer]
                    for row in rows
                    if (row["threads"], row["mode"]) == (n_threads, mode) and peer in row["ratio"]
                }
                axes.plot(
                    list(found.values()),
                    list(found),
                    marker,
                    color=colour,
                    markersize=6 + (marker == "^"),
                    markeredgecolor="white",
                    zorder=3,
                )
            axes.set_xscale("log")
            axes.set_xlim(low, high)
            axes.set_yticks(range(len(names)), names, fontsize=8)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.grid(color=GRID, linewidth=0.7)
            axes.set_axisbelow(True)
            axes.tick_params(length=0)
            axes.set_title(f"{MODES[mode]}, {n_threads} thread{'s' * (n_threads > 1)}", fontsize=10, color=INK)
            _ratio_ticks(axes, low, high)
            for spine in axes.spines.values():
                spine.set_visible(False)
    present = _peers(rows)
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], color=STYLES[p][0], marker=STYLES[p][1], linestyle="", markersize=6) for p in present]
    figure.legend(marks, present, loc="outside upper center", ncols=len(present), frameon=False, fontsize=9)
    figure.supxlabel(
        "time of the peer / time of lstmcore (right of the line: lstmcore is quicker)", fontsize=9, color=INK
    )
    figure.savefig(path, dpi=150)


def _plot_roofline(results: dict[str, Any], path: Path) -> None:
    """A panel a number of threads: operations a second over operations a byte of recurrent weights read."""
    import roofline
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 4.6 * len(results["ceilings"]), 4.2), layout="constrained")
    panels = figure.subplots(1, len(results["ceilings"]), squeeze=False, sharey=True)[0]
    for axes, ceiling in zip(panels, results["ceilings"], strict=True):
        rows = [r for r in results["rows"] if r["threads"] == ceiling["threads"] and "roofline" in r]
        intensities = [r["roofline"]["intensity"] for r in rows]
        xs = [min(intensities) / 2 * (max(intensities) / min(intensities) * 4) ** (k / 100) for k in range(101)]
        for size, label in ((1 << 14, "16 kB"), (1 << 18, "256 kB"), (1 << 24, "16 MB")):
            rate = roofline.bandwidth(ceiling, size * ceiling["threads"])
            axes.plot(xs, [min(ceiling["gflops"], rate * x) for x in xs], color=GRID, linewidth=1.2, zorder=1)
            axes.annotate(
                f"{label} a thread, {rate:.0f} GB/s", (xs[3], rate * xs[3]), fontsize=6, color=INK, rotation=38
            )
        for peer, (colour, marker) in {OURS: (INK, "*"), **STYLES}.items():
            points = [(r["roofline"]["intensity"], _rate(r, peer)) for r in rows if peer in r["ms"]]
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                marker,
                color=colour,
                markersize=9 if peer == OURS else 5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                zorder=4 if peer == OURS else 3,
                label=peer if points else None,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(0.05, 2 * ceiling["gflops"])
        axes.set_title(f"{ceiling['threads']} thread{'s' * (ceiling['threads'] > 1)}", fontsize=10, color=INK)
        axes.grid(color="#eeeeee", linewidth=0.7)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    figure.supxlabel("operations a byte of recurrent weights read", fontsize=9, color=INK)
    panels[0].set_ylabel("GFLOP/s", fontsize=9, color=INK)
    figure.savefig(path, dpi=150)


def _rate(row: dict[str, Any], peer: str) -> float:
    return float(row["roofline"]["gflops"] * row["ms"][OURS] / row["ms"][peer])


def _plot_fits(results: dict[str, Any], path: Path) -> None:
    """Two bars a fit and number of threads: seconds of ours and of the PyTorch loop, as shares of the latter."""
    from matplotlib.figure import Figure

    fits = results["fits"]
    figure = Figure(figsize=(7.6, 1.0 + 0.62 * len(fits)), layout="constrained")
    axes = figure.add_subplot()
    for line, fit in enumerate(fits):
        theirs = statistics.median(fit["seconds"]["torch"])
        for name, offset, colour in ((OURS, -0.19, "#0072b2"), ("torch", 0.19, "#d9a07a")):
            seconds = statistics.median(fit["seconds"][name])
            axes.barh(line + offset, seconds / theirs, height=0.34, color=colour, label=name if line == 0 else None)
            score = f", {fit['score_name']} {_score(fit, name)}" if fit["scores"] else ""
            axes.text(
                seconds / theirs + 0.01, line + offset, f"{seconds:.2f} s{score}", va="center", fontsize=8, color=INK
            )
    labels = [f"{fit['name']}, {fit['threads']} thread{'s' * (fit['threads'] > 1)}" for fit in fits]
    axes.set_yticks(range(len(fits)), labels, fontsize=9)
    axes.set_ylim(len(fits) - 0.45, -0.55)
    widest = max(1.0, *(1 / fit["ratio"] for fit in fits))
    axes.set_xlim(0, 1.45 * widest)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("time of fit() relative to the PyTorch loop", fontsize=9, color=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def _score(fit: dict[str, Any], name: str) -> str:
    mean = statistics.mean(fit["scores"][name])
    return f"{mean:.3f}" if fit["score_name"] == "accuracy" else f"{mean:.1e}"


def _ratio_ticks(axes: Any, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= t <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}" for tick in ticks], fontsize=8)


def _combinations(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    found = {(row["threads"], row["mode"]) for row in rows}
    return sorted(found, key=lambda combination: (combination[0], list(MODES).index(combination[1])))


def _peers(rows: list[dict[str, Any]]) -> list[str]:
    found = {peer for row in rows for peer in row["ratio"]}
    return [peer for peer in STYLES if peer in found] + sorted(found - STYLES.keys())


def _cell(row: dict[str, Any], peer: str) -> str:
    return f"{_milliseconds(row['ms'][peer])} ({row['ratio'][peer]:.2f})" if peer in row["ratio"] else ""


def _milliseconds(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 3
    return f"{value:.{min(digits, 5)}f}"


def _markdown(header: list[str], lines: Iterable[list[str]]) -> str:
    body = [header, *lines]
    widths = [max(len(line[k]) for line in body) for k in range(len(header))]
    widths = [max(width, 3) for width in widths]

    def one(line: list[str]) -> str:
        first, *rest = [
            text.ljust(w) if k == 0 else text.rjust(w) for k, (text, w) in enumerate(zip(line, widths, strict=True))
        ]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if k == 0 else "-" * (w + 1) + ":" for k, w in enumerate(widths)) + "|"
    return "\n".join([one(header), rule, *(one(line) for line in body[1:])])


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    write(results, folder)
    print(tables(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
