#!/usr/bin/env python3
"""Training of `SequenceTagger` against the same network in PyTorch, in one run.

    python bench/tagger.py [--threads 2] [--hidden 64 128] [--sentences 1000] [--seconds 3]

A bidirectional LSTM over word embeddings with a softmax or a conditional random field at every step, on
`datasets.make_tagged_sentences`. PyTorch: nn.Embedding, nn.LSTM over packed sequences, nn.Linear, the usual batched
forward algorithm over padded sequences, Adam, clipping of the gradient's norm. Both take the same mini-batches from the
same weights; PyTorch finds its batches as padded tensors, ours makes them in the time that counts. Loss and gradients
are compared before anything is timed. Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from clock import interleave

from lstmcore import SequenceTagger, datasets
from lstmcore._layer_training import plan_batches


class Tagger(torch.nn.Module):
    """The peer, with the weights of a fitted SequenceTagger."""

    def __init__(self, p: dict[str, Any], crf: bool) -> None:
        super().__init__()
        rows, size = p["embedding"].shape
        hidden = p["R_l0"].shape[1]
        self.embedding = torch.nn.Embedding(rows, size)
        self.lstm = torch.nn.LSTM(size, hidden, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(2 * hidden, len(p["head_b"]))
        labels = len(p["head_b"])
        self.crf = crf
        if crf:
            self.transitions = torch.nn.Parameter(torch.zeros(labels, labels))
            self.start, self.end = (torch.nn.Parameter(torch.zeros(labels)) for _ in range(2))
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(p["embedding"]))
            self.head.weight.copy_(torch.from_numpy(p["head_W"]))
            self.head.bias.copy_(torch.from_numpy(p["head_b"]))
            for suffix, ours in (("", ""), ("_reverse", "_reverse")):
                for theirs, name in (("weight_ih", "W"), ("weight_hh", "R"), ("bias_ih", "b")):
                    getattr(self.lstm, f"{theirs}_l0{suffix}").copy_(torch.from_numpy(p[f"{name}_l0{ours}"]))
                getattr(self.lstm, f"bias_hh_l0{suffix}").zero_()
            if crf:
                for name in ("transitions", "start", "end"):
                    getattr(self, name).copy_(torch.from_numpy(p["crf_" + name]))

    def forward(self, words: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            self.embedding(words), lengths, batch_first=True, enforce_sorted=False
        )
        h, _ = torch.nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        scores = self.head(h)
        if not self.crf:
            return torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-1)
        return self._chain_loss(scores, lengths, labels) / lengths.sum()

    def _chain_loss(self, scores: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        steps = scores.shape[1]
        real = torch.arange(steps) < lengths[:, None]
        path = labels.clamp(min=0)
        gold = (scores.gather(2, path[:, :, None])[:, :, 0] * real).sum()
        gold = gold + (self.transitions[path[:, :-1], path[:, 1:]] * real[:, 1:]).sum()
        gold = gold + self.start[path[:, 0]].sum() + self.end[path.gather(1, lengths[:, None] - 1)].sum()
        alpha = self.start + scores[:, 0]
        for t in range(1, steps):
            following = torch.logsumexp(alpha[:, :, None] + self.transitions, dim=1) + scores[:, t]
            alpha = torch.where(real[:, t, None], following, alpha)
        return torch.logsumexp(alpha + self.end, dim=1).sum() - gold


def run(hidden: int, crf: bool, options: argparse.Namespace) -> str:
    X, y = datasets.make_tagged_sentences(options.sentences, random_state=0)
    tagger = SequenceTagger(
        crf=crf, bidirectional=True, hidden_size=hidden, max_iter=1, random_state=0, n_jobs=options.threads,
        singleton_dropout=0.0,
    )  # fmt: skip
    tagger.fit(X, y)
    network = tagger.model_.network
    samples, targets = tagger._read(X, y, reset=False)
    trainer = tagger._make_trainer(0, reuse=False)
    peer = Tagger(tagger.model_.parameters, crf)
    optimiser = torch.optim.Adam(peer.parameters(), lr=tagger.learning_rate_init)
    rows = network._vocabulary.rows(samples)[samples.grid()]
    labels = np.full(rows.shape, -1)
    for n, item in enumerate(targets):
        labels[n, : len(item.values)] = item.values
    batches = []
    for members in plan_batches(samples.lengths, None, tagger.batch_size, True, (0, 1)):
        longest = samples.lengths[members].max()
        parts = (rows[members, :longest], samples.lengths[members], labels[members, :longest])
        batches.append((members, [torch.from_numpy(part.astype(np.int64)) for part in parts]))

    members, tensors = batches[0]
    loss, share, gradients = network.loss_and_gradients(samples.subset(members), targets[members], None, 0)
    theirs = peer(*tensors)
    theirs.backward()
    pairs = {"embedding": peer.embedding.weight, "R_l0": peer.lstm.weight_hh_l0, "head_W": peer.head.weight}
    if crf:
        pairs["crf_transitions"] = peer.transitions
    assert abs(loss / share - theirs.item()) < 1e-4, f"losses {loss / share} and {theirs.item()}"
    for name, weight in pairs.items():
        error = np.abs(gradients[name] - weight.grad.numpy()).max() / np.abs(gradients[name]).max()
        assert error < 1e-3, f"{name}: gradients differ by {error} of the largest"

    def epoch() -> None:
        for _, batch in batches:
            optimiser.zero_grad()
            peer(*batch).backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), tagger.clip_norm)
            optimiser.step()

    calls = {"ours": lambda: trainer.run_epoch(samples, targets), "torch": epoch}
    times = interleave(calls, seconds=options.seconds)
    a, b = (statistics.median(times[name]) for name in ("ours", "torch"))
    top = "CRF" if crf else "softmax"
    return f"| BLSTM {hidden} + {top} | {a * 1e3:.0f} | {b * 1e3:.0f} | {b / a:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3.0, help="a peer and row, roughly")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), ms an epoch of {options.sentences} sentences; ratio: PyTorch over ours")
    print("| network | ours | PyTorch | ratio |\n|---|---|---|---|")
    for hidden in options.hidden:
        for crf in (False, True):
            print(run(hidden, crf, options), flush=True)


if __name__ == "__main__":
    main()
