"""`datasets.make_tagged_sentences`."""

from __future__ import annotations

import numpy as np

__all__ = ["make_tagged_sentences"]

_KINDS = ("PER", "ORG", "LOC")


def make_tagged_sentences(
    n_sentences: int = 1000,
    *,
    ambiguity: float = 0.7,
    vocabulary_size: int = 600,
    random_state: int | np.random.Generator | None = None,
) -> tuple[list[list[str]], list[list[str]]]:
    """Sentences of a small grammar with their entities, in BIO labels: words to tag.

    A sentence is two to five phrases, each one to three plain words and then an entity of one to four words: a person,
    an organisation or a place. Most words of an entity are names that all kinds share, and that plain words may be too,
    so that kind and extent have to be gathered from several words. To be right on whole entities, all labels of one
    have to agree.

    Parameters
    ----------
    n_sentences : int, default 1000
        N, at least 1.
    ambiguity : float in [0, 1], default 0.7
        Probability with which a word of an entity is a name that all kinds share; otherwise it belongs to its kind.
    vocabulary_size : int, default 600
        Words in all, at least 60; half of them plain, the rest shared names and names of each kind in equal parts.
    random_state : int, numpy.random.Generator or None, default None
        The same int gives the same data.

    Returns
    -------
    X : list of N lists of str
        Words.
    y : list of N lists of str
        "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"; one a word.

    Raises
    ------
    ValueError
        An argument out of range.

    Examples
    --------
    >>> from lstmcore.datasets import make_tagged_sentences
    >>> X, y = make_tagged_sentences(100, random_state=0)
    >>> len(X), len(X[0]) == len(y[0])
    (100, True)
    """
    for name, value, least in (("n_sentences", n_sentences, 1), ("vocabulary_size", vocabulary_size, 60)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")
    if not isinstance(ambiguity, (int, float, np.number)) or isinstance(ambiguity, bool) or not 0 <= ambiguity <= 1:
        raise ValueError(f"ambiguity must be a float in [0, 1], got {ambiguity!r}")
    rng = np.random.default_rng(random_state)
    plain = [f"word{k}" for k in range(vocabulary_size // 2)]
    each = vocabulary_size // 8
    shared = [f"name{k}" for k in range(each)]
    own = {kind: [f"{kind.lower()}{k}" for k in range(each)] for kind in _KINDS}

    def pick(words: list[str]) -> str:
        # Zipf's law, roughly: some words are frequent, many are seen once or never in training.
        return words[int(len(words) * rng.random() ** 3)]

    X, y = [], []
    for _ in range(n_sentences):
        words: list[str] = []
        labels: list[str] = []
        for _ in range(rng.integers(2, 6)):
            for _ in range(rng.integers(1, 4)):
                words.append(pick(shared) if rng.random() < 0.1 else pick(plain))
                labels.append("O")
            kind = _KINDS[rng.integers(len(_KINDS))]
            for k in range(rng.integers(1, 5)):
                words.append(pick(shared if rng.random() < ambiguity else own[kind]))
                labels.append(f"{'I' if k else 'B'}-{kind}")
        X.append(words)
        y.append(labels)
    return X, y
