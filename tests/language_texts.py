"""What the tests of language models share: texts, quick settings, a small network."""

from __future__ import annotations

import string
from typing import Any

from numpy.typing import NDArray

from lstmcore.language.corpus import Vocabulary, read_corpus
from lstmcore.language.network import vocabulary_to_json

Array = NDArray[Any]

FOX = "the quick brown fox jumps over the lazy dog. "
NAMES = ["ada", "bob", "carl", "dora", "emil", "frida", "gus"] * 6
QUICK: dict[str, Any] = {
    "hidden_size": 12, "embedding_size": 6, "bptt_steps": 8, "batch_size": 4, "max_iter": 3, "random_state": 0,
    "n_jobs": 1,
}  # fmt: skip


def corpus_of(texts: Any, unit: str = "character", labels: str | list[str] = string.ascii_lowercase + ". ") -> Any:
    corpus = read_corpus(texts, "X", unit, None)
    corpus.encode(Vocabulary(list(labels)))
    return corpus


CONFIG: dict[str, Any] = {
    "cell": "lstm", "cell_options": {}, "embedding_size": 3, "hidden_size": 4, "num_layers": 1, "dropout": 0.0,
    "variational_dropout": 0.0, "recurrent_dropout": 0.0, "unit": "character", "documents": "separate",
    "vocabulary": vocabulary_to_json(["<eod>", "<unk>", *"abcdefg"]), "tie_weights": False, "softmax": "full",
    "cutoffs": [], "dtype": "float64",
}  # fmt: skip
