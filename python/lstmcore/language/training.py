"""Truncated backpropagation through time over streams of symbols, with states that are carried on. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .corpus import END, Corpus
from .model import State
from .network import Chunk, LanguageNetwork

__all__ = ["LanguageTrainer", "StreamValidation", "document_losses", "stream_chunks"]

Array = NDArray[Any]


def stream_chunks(corpus: Corpus, lanes: int, steps: int, separate: bool) -> Iterator[Chunk]:
    """The corpus cut into `lanes` parts of equal length that are read side by side, `steps` symbols of each at a time.

    separate: a sequence begins from zeros after each END; else states go on across documents. Every prediction is in
    exactly one chunk.
    """
    total = corpus.predictions
    lanes = min(lanes, total)
    edges = np.arange(lanes + 1) * total // lanes
    readers = [corpus.reader(lanes) for _ in range(lanes)]
    order = np.arange(lanes)
    for first in range(0, int(np.diff(edges).max()), steps):
        starts = edges[:-1] + first
        stops = np.minimum(starts + steps, edges[1:])
        # Lanes differ by one symbol at most, so only the very last chunk may lack some.
        active = order[starts < stops]
        counts = (stops - starts)[active]
        whole = corpus.windows(starts[active], int(counts[0]) + 1) if (counts == counts[0]).all() else None
        if whole is not None:
            inputs, targets = whole[:, :-1].ravel(), whole[:, 1:].ravel()
        else:
            pieces = [readers[b](int(starts[b]), int(stops[b]) + 1) for b in active]
            inputs = np.concatenate([piece[:-1] for piece in pieces])
            targets = np.concatenate([piece[1:] for piece in pieces])
        begins = np.cumsum(counts) - counts
        yield _chunk(inputs, targets, begins, active, separate)


def _chunk(inputs: Array, targets: Array, begins: Array, lanes: Array, separate: bool) -> Chunk:
    """begins: where the piece of each lane begins."""
    fresh = np.zeros(len(inputs), dtype=bool)
    if separate:
        fresh = inputs == END
    cut = fresh.copy()
    cut[begins] = True
    starts = np.flatnonzero(cut)
    lengths = np.diff(np.append(starts, len(inputs)))
    carried = np.full(len(starts), -1, dtype=np.int64)
    firsts = np.searchsorted(starts, begins)
    carried[firsts] = np.where(fresh[begins], -1, lanes)
    return Chunk(inputs, targets, lengths, carried, np.append(firsts[1:], len(starts)) - 1)


class LanguageTrainer:
    """Optimiser, schedule and chunks for one network: what run_epochs asks of a `_core.Trainer`.

    options: those of `_core.Optimiser`, batch_size (lanes), bptt_steps and shuffle. seed: of dropout, of samples and of
    the order of documents.
    """

    def __init__(self, network: LanguageNetwork, options: Mapping[str, Any], seed: int) -> None:
        options = dict(options)
        self._lanes = int(options.pop("batch_size"))
        self._steps = int(options.pop("bptt_steps"))
        self._shuffle = bool(options.pop("shuffle"))
        self._network = network
        self._seed = seed
        self._optimiser = _core.Optimiser({**options, "seed": seed}, network.parameters)
        self._passes = 0
        self._epochs = 0

    def run_epoch(self, x: Corpus, y: Any = None, weights: Any = None) -> dict[str, Any]:
        """One pass: dict(loss, learning_rate, sequences, interrupted). loss: nats a symbol, penalty included.

        Ctrl-C ends the pass: interrupted is True and the weights are those after the last whole chunk. RuntimeError
        where loss or gradient is NaN or infinite, with the weights from before that chunk.
        """
        self._passes += 1
        rate = self._optimiser.learning_rate
        if self._shuffle and x.in_memory and len(x.ends) > 1:
            x = x.documents(np.random.RandomState((self._seed, self._passes)).permutation(len(x.ends)))
        total, count, interrupted = 0.0, 0, False
        state: State | None = None
        try:
            for chunk in stream_chunks(x, self._lanes_for(x), self._steps, self._separate):
                with np.errstate(all="ignore"):  # divergence is seen in the loss and the gradient
                    loss, state, gradients = self._network.chunk_loss(chunk, state, self._next_seed())
                if not np.isfinite(loss):
                    raise RuntimeError(
                        f"the loss became NaN or infinite in epoch {self._epochs + 1}; the weights are those before "
                        f"this chunk; lower learning_rate ({rate:g} now) or clip_norm"
                    )
                penalty = self._optimiser.penalty()
                self._optimiser.step(gradients)
                total += loss + len(chunk.inputs) * penalty
                count += len(chunk.inputs)
        except KeyboardInterrupt:
            interrupted = True
        if not interrupted:
            self._optimiser.epoch_finished()
            self._epochs += 1
        mean = total / count if count else 0.0
        return {"loss": mean, "learning_rate": rate, "sequences": count, "interrupted": interrupted}

    def evaluate_sums(self, x: Corpus) -> tuple[float, float]:
        """Σ −log p and the number of predictions, by the full softmax, in lanes as training reads them."""
        total = 0.0
        state: State | None = None
        for chunk in stream_chunks(x, self._lanes_for(x), self._steps, self._separate):
            with np.errstate(all="ignore"):
                loss, state, _ = self._network.chunk_loss(chunk, state, 0, training=False)
            total += loss
        return total, float(x.predictions)

    def report(self, monitored: float) -> None:
        """The quantity that the plateau schedule watches (lower is better), once an epoch."""
        self._optimiser.report(monitored)

    @property
    def _separate(self) -> bool:
        return bool(self._network.config["documents"] == "separate")

    def _lanes_for(self, x: Corpus) -> int:
        """No lane is shorter than a chunk: what is read from zeros all the time teaches little of the past."""
        return max(1, min(self._lanes, x.predictions // self._steps))

    def _next_seed(self) -> int:
        """Of this step's random numbers."""
        return int(np.random.SeedSequence((self._seed, self._optimiser.steps)).generate_state(1, np.uint64)[0])


class StreamValidation:
    """Texts on which loss and score are computed after every epoch: what run_epochs asks of a `_fitting.Validation`."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def evaluate(self, trainer: LanguageTrainer, core: Any) -> tuple[float, float]:
        """Loss (nats a symbol) and score, which is the same with the other sign."""
        total, count = trainer.evaluate_sums(self._corpus)
        return total / count, -total / count


def document_losses(
    network: LanguageNetwork, corpus: Corpus, at_once: int, steps: int, separate: bool
) -> NDArray[np.float64]:
    """(D,) Σ −log p of each document's symbols and its END, each from its own beginning; joined: one for the stream.

    Documents of similar length are read side by side.
    """
    edges = np.concatenate([[0], corpus.ends]) if separate else np.array([0, corpus.predictions])
    starts, lengths = edges[:-1], np.diff(edges)
    order = np.argsort(-lengths, kind="stable")
    sums = np.zeros(len(lengths))
    for group in np.split(order, range(at_once, len(order), at_once)):
        state: State | None = None
        readers = [corpus.reader(len(group)) for _ in group]
        for first in range(0, int(lengths[group[0]]), steps):
            # Longest first, so those that go on are the first ones.
            count = int(np.count_nonzero(lengths[group] > first))
            if state is not None:
                state = {name: np.ascontiguousarray(value[:, :count]) for name, value in state.items()}
            sizes = np.minimum(steps, lengths[group[:count]] - first)
            pieces = [
                readers[k](int(starts[n]) + first, int(starts[n]) + first + int(size) + 1)
                for k, (n, size) in enumerate(zip(group[:count], sizes, strict=True))
            ]
            inputs = np.concatenate([piece[:-1] for piece in pieces])
            targets = np.concatenate([piece[1:] for piece in pieces])
            losses, state = network.token_losses(inputs, targets, sizes, state)
            sums[group[:count]] += np.add.reduceat(losses, np.cumsum(sizes) - sizes)
    return sums
