"""A language model of Python: learns to write source code from the modules of the standard library.

Characters are predicted one by one; every 20th module is kept back, and how well it is foretold is measured in bits
per character (the text itself takes 8, its letters' frequencies alone about 4.7). Ten seconds by default, enough for
indentation and keywords; for good ones give it minutes, with 570 seconds it came to 1.55 bits on two cores:
python examples/language_model.py --seconds 570
Needs: pip install "lstmcore[sklearn]".
"""

import argparse
import string
import sysconfig
import time
from pathlib import Path

import numpy as np

from lstmcore import LanguageModel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seconds", type=float, default=10.0, help="of training")
parser.add_argument("--hidden", type=int, default=None, help="units; default: 128, or 256 for trainings over a minute")
options = parser.parse_args()
is_long = options.seconds > 60

library = Path(sysconfig.get_path("stdlib"))
apart = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
paths = sorted(path for path in library.rglob("*.py") if not apart & set(path.relative_to(library).parts))
modules = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
held_out = [text[:20_000] for text in modules[::20]] if is_long else [text[:2000] for text in modules[::20]]
training = [text for n, text in enumerate(modules) if n % 20 and text]

model = LanguageModel(
    vocabulary=list(string.printable),
    hidden_size=options.hidden or (256 if is_long else 128),
    batch_size=32,
    bptt_steps=100 if is_long else 64,
    clip_norm=1.0,
    random_state=0,
)
start = time.perf_counter()
random = np.random.default_rng(0)
symbols = 0
while (share := (time.perf_counter() - start) / options.seconds) < 1.0:
    # Smaller steps towards the end, where they settle.
    rate = 4e-3 if share < 0.5 else 2e-3 if share < 0.75 else 5e-4
    model.set_params(learning_rate_init=rate)
    chosen = random.choice(len(training), size=10 if is_long else 3, replace=False)
    model.partial_fit([training[n] for n in chosen])
    symbols += sum(len(training[n]) for n in chosen)
    if is_long and len(model.loss_curve_) % 20 == 0:
        bits = model.loss_ / np.log(2.0)
        print(
            f"{time.perf_counter() - start:4.0f} s: {symbols / 1e6:5.1f} million characters, {bits:.2f} bits",
            flush=True,
        )

seconds = time.perf_counter() - start
print(f"{symbols:,} characters in {seconds:.0f} s; {len(held_out)} modules kept back:")
print(f"{model.bits_per_character(held_out):.3f} bits per character\n")
print("def " + model.generate("def ", 400, temperature=0.7, random_state=1))
