"""Train a GRU to hear digits in a stream of speech, quantise it, and measure both on speakers it has never heard.

python examples/spoken_digits/train.py [--words 1500] [--output spoken-digits]

Writes FOLDER/digits.safetensors (the quantised model) and FOLDER/stream.f32 (a minute of test features for listen.c).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from speech import SPEAKERS, UNHEARD, Recording, excerpts, heard, record, score

import lstmcore


def stream(step: Callable[..., Any], recording: Recording) -> np.ndarray:
    """(T, K) probabilities of a stream without any reset."""
    state = None
    rows = []
    for x in recording.features:
        row, state = step(x, state)
        rows.append(row)
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=1500, help="spoken for training; a fifth of that for the test")
    parser.add_argument("--output", type=Path, default=Path("spoken-digits"), metavar="FOLDER")
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    training, test = record(options.words, SPEAKERS, seed=0), record(options.words // 5, UNHEARD, seed=1)
    X, y = excerpts(training, 4 * options.words, seed=0)
    X_test, y_test = excerpts(test, options.words, seed=1)
    model = lstmcore.SequenceClassifier(
        cell="gru",
        hidden_size=48,
        max_iter=options.epochs,
        batch_size=64,
        learning_rate_init=4e-3,
        learning_rate="cosine",
        random_state=0,
    ).fit(X, y)
    quantised = model.quantize(X[:500], scheme="int8", y=y[:500])
    print(quantised.report_)

    for name, estimator in (("float32", model), ("int8", quantised)):
        result = score(heard(stream(estimator.step, test), model.classes_), test)
        listed = ", ".join(f"{key} {value:.3g}" for key, value in result.items())
        print(f"{name:8} excerpts {estimator.score(X_test, y_test):.3f}, stream: {listed}")

    quantised.save(options.output / "digits.safetensors")
    minute = test.features[:3000]
    minute.astype("<f4").tofile(options.output / "stream.f32")
    for t, word in heard(stream(quantised.step, test)[: len(minute)], model.classes_):
        print(f"{t / 50:6.2f} s  {word}")


if __name__ == "__main__":
    main()
