"""Draws the pictures of the docs, each by its own script, into docs/figures. `make figures` runs it.

    python docs/figures/draw.py              # all, about half an hour on two cores
    python docs/figures/draw.py forecast …   # only these

Needs: pip install "lstmcore[bench]", and for anomalies pip install --no-deps aeon, which carries the series.
tests/test_docs.py fails for a picture that is not in the list below.
"""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Picture → script, and what it is told: a folder or a path.
FIGURES = {
    "forecast": ("examples/forecast_series.py", "docs/figures/forecast.png"),
    "attention": ("examples/translate_dates.py", "docs/figures/attention.png"),
    "step_labels": ("docs/figures/step_labels.py", "docs/figures"),
    "gradient_flow": ("examples/gradient_flow.py", "docs/figures"),
    "tree_depth": ("docs/figures/tree_depth.py", "docs/figures"),
    "moving_digits": ("docs/figures/moving_digits.py", "docs/figures"),
    "anomalies": ("docs/figures/anomalies.py", "docs/figures"),
    "roofline": ("docs/figures/roofline.py", "docs/figures"),
    "adding_problem": ("docs/figures/adding_problem.py", "docs/figures"),
}


def main(names: list[str]) -> None:
    for name in names or FIGURES:
        if name not in FIGURES:
            sys.exit(f"no figure {name!r}; there are {', '.join(FIGURES)}")
        script, target = FIGURES[name]
        started = time.perf_counter()
        subprocess.run([sys.executable, script, target], cwd=ROOT, check=True)
        seconds = time.perf_counter() - started
        if (HERE / f"{name}.png").stat().st_mtime < time.time() - seconds - 1:
            sys.exit(f"{script} has not drawn {name}.png")
        print(f"{name}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
