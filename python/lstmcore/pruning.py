"""Pruning while training: blocks of 4×4 weights become zero, more and more of them.

A chip gains nothing from single zeros, but it can leave out whole blocks: those of the edge runtime are four units of
one gate by four columns (`weights="sparse"` of ``quantize``).
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._fitting import EpochInfo

__all__ = ["BlockPruning", "block_numbers"]

Array = NDArray[Any]

_CELLS = ("elman", "lstm", "peephole", "gru", "slstm")


class BlockPruning:
    """Callback of ``fit`` that prunes recurrent layers in blocks of 4×4 by magnitude, gradually.

    After the epochs begin, begin + 1, … end the blocks of the smallest norm become zero in each matrix, and stay zero:
    of all its blocks the share

        sparsity · (1 − (1 − (epoch − begin + 1) / (end − begin + 1))³)

    (Zhu & Gupta, 2017, eq. 1; blocks as Narang, Undersander & Diamos, 2017). The network learns on around the gaps, so
    let it train for some epochs after `end`, and set ``n_iter_no_change=None`` so that it does not stop before.

    Parameters
    ----------
    sparsity : float in (0, 1)
        Share of the blocks that are zero in the end.
    begin : int, default 1
        Epoch after which pruning begins, counted from 1.
    end : int or None, default None
        Epoch after which `sparsity` is reached. None: ¾ of ``max_iter``.
    input_weights : bool, default False
        Whether W of the first layer is pruned too. R of all layers and W of those above always are; a first layer has
        few columns, which all carry something.

    Attributes
    ----------
    sparsity_ : float
        Share of the blocks that are zero now, in all pruned matrices together.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmcore import BlockPruning, SequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 10, 3))
    >>> y = (X[:, -1, 0] > 0).astype(int)
    >>> pruning = BlockPruning(sparsity=0.5)
    >>> model = SequenceClassifier(hidden_size=16, max_iter=8, random_state=0).fit(X, y, callbacks=pruning)
    >>> round(pruning.sparsity_, 2)
    0.5
    """

    def __init__(self, sparsity: float, *, begin: int = 1, end: int | None = None, input_weights: bool = False) -> None:
        if not _is_number(sparsity) or not 0.0 < sparsity < 1.0:
            raise ValueError(f"BlockPruning: sparsity={sparsity!r}. Expected a number in (0, 1).")
        if not _is_epoch(begin):
            raise ValueError(f"BlockPruning: begin={begin!r}. Expected an int >= 1.")
        if end is not None and not _is_epoch(end):
            raise ValueError(f"BlockPruning: end={end!r}. Expected an int >= 1, or None.")
        if end is not None and end < begin:
            raise ValueError(f"BlockPruning: end={end!r} is before begin={begin!r}.")
        self.sparsity = sparsity
        self.begin = begin
        self.end = end
        self.input_weights = input_weights
        self.sparsity_ = 0.0

    def __repr__(self) -> str:
        return f"BlockPruning(sparsity={self.sparsity!r}, begin={self.begin!r}, end={self.end!r})"

    def __call__(self, info: EpochInfo) -> None:
        """Called by fit after each epoch. ValueError for an estimator that cannot be pruned."""
        estimator = info.estimator
        cell = getattr(estimator, "cell", None)
        if cell not in _CELLS:
            raise ValueError(f"BlockPruning: cell={cell!r} cannot be pruned. Use one of {', '.join(_CELLS)}.")
        if estimator.early_stopping:
            raise ValueError(
                "BlockPruning: with early_stopping=True the weights of an epoch with less pruning may come back. Use "
                "early_stopping=False."
            )
        share = self._share(info.epoch, info.n_epochs)
        if share == 0.0:
            return
        core, _, trainer = estimator._trainer
        masks: dict[str, NDArray[np.bool_]] = {}
        zero = total = 0
        for name, weights in core.parameters.items():
            if self._prunes(name):
                blocks = block_numbers(name, weights, core.config["recurrent"])
                masks[name], gone, count = _mask(weights, blocks, share)
                zero, total = zero + gone, total + count
        trainer.set_mask(masks)
        self.sparsity_ = zero / total

    def _share(self, epoch: int, n_epochs: int) -> float:
        end = max(self.begin, (3 * n_epochs) // 4) if self.end is None else self.end
        if epoch < self.begin:
            return 0.0
        left = 0.0 if epoch >= end else 1.0 - (epoch - self.begin + 1) / (end - self.begin + 1)
        return float(self.sparsity) * (1.0 - left**3)

    def _prunes(self, name: str) -> bool:
        if name.startswith("R_l"):
            return True
        return name.startswith("W_l") and (self.input_weights or not name.startswith("W_l0"))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_epoch(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def block_numbers(name: str, weights: Array, recurrent: dict[str, Any]) -> NDArray[np.int64]:
    """For each weight of a tensor W or R, (gates·H, columns), the number of the 4×4 block that it is in.

    Four units of one gate, four columns of x or h. With heads R is block-diagonal: (gates·H, H/heads).
    """
    H = int(recurrent["hidden_size"])
    rows, columns = (np.arange(extent) for extent in weights.shape)
    gate, unit = rows // H, rows % H
    column = np.broadcast_to(columns, weights.shape)
    if name.startswith("R"):
        width = weights.shape[1]
        column = column + (unit // width * width)[:, None]
    across = -(-(H if name.startswith("R") else weights.shape[1]) // 4)
    numbers: NDArray[np.int64] = ((gate * -(-H // 4) + unit // 4) * across)[:, None] + column // 4
    return numbers


def _mask(weights: Array, blocks: NDArray[np.int64], share: float) -> tuple[NDArray[np.bool_], int, int]:
    """Which weights stay, how many blocks go, and how many there are: those of the smallest norm go."""
    present, place = np.unique(blocks, return_inverse=True)
    place = place.reshape(weights.shape)
    norms = np.bincount(place.ravel(), weights=np.square(weights.astype(np.float64)).ravel())
    gone = round(share * len(present))
    keep = np.ones(len(present), dtype=bool)
    keep[np.argsort(norms, kind="stable")[:gone]] = False
    return keep[place], gone, len(present)
