"""Measures every row of bench/run.py and draws them under the ceilings of this machine: roofline.png. Ten minutes.

python docs/figures/roofline.py docs/figures

Needs: pip install "lstmcore[bench]", and a C++ compiler for the ceilings.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(folder: str) -> None:
    with tempfile.TemporaryDirectory() as results:
        run = [sys.executable, "bench/run.py", "--only", "grid", "--seconds", "0.45", "--output", results]
        subprocess.run(run, cwd=ROOT, check=True)
        shutil.copyfile(Path(results) / "roofline.png", Path(folder) / "roofline.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/figures")
