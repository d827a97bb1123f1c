"""Scores of label sequences, and scorers of them for GridSearchCV. NumPy only.

y_true and y_pred are N sequences of labels: lists, arrays, or arrays of N arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "bio_constraints",
    "edit_distance",
    "entities",
    "entity_f1_score",
    "entity_f1_scorer",
    "flat_accuracy_score",
    "flat_accuracy_scorer",
    "label_error_rate",
]

Entity = tuple[int, int, str]

_OUTSIDE = "O"


def _parts(label: Any, prefixes: str) -> tuple[str, str]:
    """("B", "PER") of "B-PER", ("O", "") of "O"; ValueError for what is neither."""
    if isinstance(label, str):
        prefix, dash, kind = label.partition("-")
        if label == _OUTSIDE:
            return _OUTSIDE, ""
        if len(prefix) == 1 and prefix in prefixes and dash and kind:
            return prefix, kind
    expected = ", ".join(f"'{prefix}-…'" for prefix in prefixes)
    raise ValueError(f"the label {label!r} is none of 'O', {expected}")


def entities(labels: Sequence[str]) -> list[Entity]:
    """Entities in one sequence of BIO or BIOES labels.

    Parameters
    ----------
    labels : sequence of str
        "B-x" begins an entity of kind x, "I-x" continues it, "E-x" ends it, "S-x" is one of a single step, "O" is none.
        As in the CoNLL evaluation (Tjong Kim Sang & De Meulder, 2003), "I-x" or "E-x" where no entity of kind x goes on
        begins one.

    Returns
    -------
    list of (first step, one past the last step, kind)

    Raises
    ------
    ValueError
        Another label.

    Examples
    --------
    >>> from lstmcore.metrics import entities
    >>> entities(["B-PER", "I-PER", "O", "B-LOC"])
    [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    found: list[Entity] = []
    open_kind, start = "", 0
    for t, label in enumerate(labels):
        prefix, kind = _parts(label, "BIES")
        goes_on = prefix in "IE" and kind == open_kind
        if open_kind and not goes_on:
            found.append((start, t, open_kind))
            open_kind = ""
        if prefix != _OUTSIDE and not goes_on:
            open_kind, start = kind, t
        if prefix in "ES":
            found.append((start, t + 1, open_kind))
            open_kind = ""
    if open_kind:
        found.append((start, len(labels), open_kind))
    return found


def _pairs(y_true: Any, y_pred: Any) -> Iterable[tuple[list[Any], list[Any]]]:
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true has {len(y_true)} sequences, y_pred {len(y_pred)}")
    if len(y_true) == 0:
        raise ValueError("y_true has no sequence.")
    for n, (true, pred) in enumerate(zip(y_true, y_pred, strict=True)):
        if isinstance(true, str) or isinstance(pred, str) or np.ndim(true) == 0 or np.ndim(pred) == 0:
            raise TypeError(f"y_true[{n}] and y_pred[{n}]: expected sequences of labels, one label a step")
        if len(true) < len(pred):
            raise ValueError(f"y_true[{n}] has {len(true)} labels, y_pred[{n}] {len(pred)}")
        # Labels of padded steps, which predictions do not have.
        yield np.asarray(true).tolist()[: len(pred)], np.asarray(pred).tolist()


def entity_f1_score(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    """F₁ of whole entities: those found with the right first step, last step and kind, over all sequences together.

    Parameters
    ----------
    y_true, y_pred : N sequences of BIO or BIOES labels (see `entities`)
    sample_weight : (N,), default None
        Weight of each sequence's entities.

    Returns
    -------
    float
        2·right / (entities in y_true + entities in y_pred); 1 where there are none in either.

    Raises
    ------
    ValueError, TypeError
        Labels of another form, or numbers of sequences or steps that differ.
    """
    weights = np.ones(len(y_true)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (len(y_true),):
        raise ValueError(f"sample_weight has shape {weights.shape}, expected ({len(y_true)},)")
    right = either = 0.0
    for weight, (true, pred) in zip(weights.tolist(), _pairs(y_true, y_pred), strict=True):
        expected, found = set(entities(true)), set(entities(pred))
        right += weight * len(expected & found)
        either += weight * (len(expected) + len(found))
    return 2.0 * right / either if either > 0 else 1.0


def flat_accuracy_score(y_true: Any, y_pred: Any) -> float:
    """Share of steps with the right label, over all sequences together."""
    right = total = 0
    for true, pred in _pairs(y_true, y_pred):
        right += sum(a == b for a, b in zip(true, pred, strict=True))
        total += len(pred)
    return right / total


def entity_f1_scorer(estimator: Any, X: Any, y: Any) -> float:
    """`entity_f1_score` of what the estimator predicts: ``GridSearchCV(…, scoring=entity_f1_scorer)``."""
    return entity_f1_score(y, estimator.predict(X))


def flat_accuracy_scorer(estimator: Any, X: Any, y: Any) -> float:
    """`flat_accuracy_score` of what the estimator predicts, as a scorer."""
    return flat_accuracy_score(y, estimator.predict(X))


def bio_constraints(labels: Iterable[str], scheme: str = "bio") -> list[tuple[str | None, str | None]]:
    """Transitions that a labelling scheme forbids, as SequenceTagger(constraints=…) takes them.

    Parameters
    ----------
    labels : iterable of str
        All labels: "O", "B-x", "I-x", and with "bioes" also "E-x" and "S-x".
    scheme : {"bio", "bioes"}, default "bio"
        "bio" (IOB2, Ramshaw & Marcus, 1995; Tjong Kim Sang & Veenstra, 1999): "I-x" comes only after "B-x" or "I-x".
        "bioes": an entity is "S-x", or "B-x", any number of "I-x", "E-x".

    Returns
    -------
    list of (from, to)
        Labels; from None is the beginning of a sequence, to None its end.

    Examples
    --------
    >>> from lstmcore.metrics import bio_constraints
    >>> bio_constraints(["O", "B-x", "I-x"])
    [('O', 'I-x'), (None, 'I-x')]
    """
    if scheme not in ("bio", "bioes"):
        raise ValueError(f"scheme: expected 'bio' or 'bioes', got {scheme!r}")
    names = list(dict.fromkeys(labels))
    parts = {name: _parts(name, "BI" if scheme == "bio" else "BIES") for name in names}

    def inside(name: str) -> str:
        """The kind of entity that has to go on, or may go on ("bio"), after a label."""
        prefix, kind = parts[name]
        return kind if prefix in "BI" else ""

    def wrong(first: str | None, second: str | None) -> bool:
        kind = inside(first) if first is not None else ""
        if second is None:
            return scheme == "bioes" and bool(kind)
        goes_on = parts[second][0] in "IE"
        if goes_on:
            return parts[second][1] != kind
        return scheme == "bioes" and bool(kind)

    found: list[tuple[str | None, str | None]] = [(a, b) for a in names for b in names if wrong(a, b)]
    found += [(None, b) for b in names if wrong(None, b)]
    found += [(a, None) for a in names if wrong(a, None)]
    return found


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Insertions, deletions and substitutions that turn a into b, at least (Levenshtein, 1966).

    Examples
    --------
    >>> from lstmcore.metrics import edit_distance
    >>> edit_distance("kitten", "sitting")
    3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, z in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != z))
    return row[-1]


def label_error_rate(y_true: Any, y_pred: Any) -> float:
    """Edit distances between predicted and right label sequences, by labels in y_true, over all sequences together.

    ValueError where y_true has no labels at all, or another number of sequences than y_pred.
    """
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true has {len(y_true)} sequences, y_pred {len(y_pred)}")
    labels = sum(len(item) for item in y_true)
    if labels == 0:
        raise ValueError("y_true has no labels.")
    return sum(edit_distance(list(a), list(b)) for a, b in zip(y_true, y_pred, strict=True)) / labels
