#!/usr/bin/env python3
"""Training of `SequenceTranslator` against the same network in PyTorch, in one run.

    python bench/translator.py [--threads 2] [--hidden 64 128] [--pairs 1000] [--seconds 3]

Dates to ISO 8601, character by character: a bidirectional LSTM as encoder, a decoder of one LSTM layer with attention,
teacher forcing. PyTorch: nn.Embedding, nn.LSTM over packed sequences for the encoder; the decoder is nn.LSTM over all
steps where attention comes after it, and a loop over nn.LSTMCell where each step reads what the one before made; Adam,
clipping of the gradient's norm. Both take the same mini-batches from the same weights; PyTorch finds its batches as
padded tensors, ours makes them in the time that counts. Loss and gradients are compared before anything is timed.
Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from clock import interleave

from lstmcore import SequenceTranslator, datasets
from lstmcore._layer_training import plan_batches

SETTINGS: dict[str, dict[str, Any]] = {
    "additive": {"attention": "additive"},
    "general": {"attention": "general"},
    "general, fed": {"attention": "general", "input_feeding": True},
    "none": {"attention": None},
}


class Translator(torch.nn.Module):
    """The peer, with the weights of a fitted SequenceTranslator."""

    def __init__(self, p: dict[str, Any], attention: str | None, feeds: bool) -> None:
        super().__init__()
        rows, size = p["embedding"].shape
        hidden = p["R_l0"].shape[1]
        self.attention, self.feeds = attention, feeds
        self.embedding = torch.nn.Embedding(rows, size)
        self.encoder = torch.nn.LSTM(size, hidden, batch_first=True, bidirectional=True)
        self.table = torch.nn.Embedding(*p["target_embedding"].shape)
        width = p["W_l0_decoder"].shape[1]
        self.steps = attention == "additive" or feeds
        kind = torch.nn.LSTMCell if self.steps else torch.nn.LSTM
        self.decoder = kind(width, hidden) if self.steps else kind(width, hidden, batch_first=True)
        self.bridge = torch.nn.ModuleDict({name: torch.nn.Linear(2 * hidden, hidden) for name in "hc"})
        self.head = torch.nn.Linear(hidden, len(p["head_b"]))
        if attention is not None:
            self.keys = torch.nn.Linear(2 * hidden, hidden, bias=attention == "additive")
            self.output = torch.nn.Linear(3 * hidden, hidden, bias=False)
        if attention == "additive":
            self.query = torch.nn.Linear(hidden, hidden, bias=False)
            self.score = torch.nn.Linear(hidden, 1, bias=False)
        self.pairs = {"embedding": self.embedding.weight, "target_embedding": self.table.weight}
        cell = "" if self.steps else "_l0"
        for theirs, ours in (("weight_ih", "W"), ("weight_hh", "R"), ("bias_ih", "b")):
            self.pairs[f"{ours}_l0_decoder"] = getattr(self.decoder, theirs + cell)
            for suffix in ("", "_reverse"):
                self.pairs[f"{ours}_l0{suffix}"] = getattr(self.encoder, f"{theirs}_l0{suffix}")
        for name, layer in (("bridge_h", self.bridge["h"]), ("bridge_c", self.bridge["c"])):
            self.pairs |= {f"{name}_W_l0": layer.weight, f"{name}_b_l0": layer.bias}
        self.pairs |= {"head_W": self.head.weight, "head_b": self.head.bias}
        if attention is not None:
            self.pairs |= {"attention_key_W": self.keys.weight, "attention_output": self.output.weight}
        if attention == "additive":
            self.pairs |= {"attention_key_b": self.keys.bias, "attention_query": self.query.weight}
            self.pairs["attention_score"] = self.score.weight
        assert set(self.pairs) == set(p)
        with torch.no_grad():
            for name, weight in self.pairs.items():
                weight.copy_(torch.from_numpy(p[name]).reshape(weight.shape))
            for module, suffixes in ((self.encoder, ("_l0", "_l0_reverse")), (self.decoder, (cell,))):
                for suffix in suffixes:
                    getattr(module, "bias_hh" + suffix).zero_()

    def attend(self, h: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """Contexts (N, T, 2H) for h (N, T, H)."""
        if self.attention == "additive":
            scores = self.score(torch.tanh(self.query(h)[:, :, None] + keys[:, None]))[..., 0]
        else:
            scores = h @ keys.transpose(1, 2)
        return torch.softmax(scores.masked_fill(past[:, None], -torch.inf), dim=-1) @ values

    def forward(
        self, words: torch.Tensor, lengths: torch.Tensor, tokens: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            self.embedding(words), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, (h, c) = self.encoder(packed)
        values, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
        h = torch.tanh(self.bridge["h"](torch.cat([h[0], h[1]], dim=1)))
        c = self.bridge["c"](torch.cat([c[0], c[1]], dim=1))
        past = torch.arange(values.shape[1]) >= lengths[:, None]
        keys = self.keys(values) if self.attention is not None else values
        x = self.table(tokens)
        if not self.steps:
            hs, _ = self.decoder(x, (h[None], c[None]))
            o = hs
            if self.attention is not None:
                o = torch.tanh(self.output(torch.cat([self.attend(hs, keys, values, past), hs], dim=-1)))
        else:
            each, before = [], torch.zeros_like(h)
            for t in range(x.shape[1]):
                parts = [x[:, t]]
                if self.attention == "additive":
                    context = self.attend(h[:, None], keys, values, past)[:, 0]
                    parts.append(context)
                if self.feeds:
                    parts.append(before)
                h, c = self.decoder(torch.cat(parts, dim=1), (h, c))
                if self.attention != "additive":
                    context = self.attend(h[:, None], keys, values, past)[:, 0]
                before = torch.tanh(self.output(torch.cat([context, h], dim=1)))
                each.append(before)
            o = torch.stack(each, dim=1)
        return torch.nn.functional.cross_entropy(self.head(o).flatten(0, 1), targets.flatten(), ignore_index=-1)


def run(name: str, hidden: int, options: argparse.Namespace) -> str:
    X, y = datasets.make_dates(options.pairs, random_state=0)
    translator = SequenceTranslator(
        hidden_size=hidden, max_iter=1, random_state=0, n_jobs=options.threads, singleton_dropout=0.0, **SETTINGS[name]
    )
    translator.fit(X, y)
    network = translator.model_.network
    samples, targets = translator._read(X, y, reset=False)
    trainer = translator._make_trainer(0, reuse=False)
    peer = Translator(translator.model_.parameters, translator.attention, translator.input_feeding)
    optimiser = torch.optim.Adam(peer.parameters(), lr=translator.learning_rate_init)
    rows = network._vocabulary.rows(samples)[samples.grid()]
    steps = max(map(len, targets)) + 1
    written = np.full((len(targets), steps), -1)
    read = np.zeros((len(targets), steps), dtype=np.int64)
    for n, item in enumerate(targets):
        written[n, : len(item) + 1] = [*(item + 1), 0]
        read[n, 1 : len(item) + 1] = item + 1
    batches = []
    for members in plan_batches(samples.lengths, None, translator.batch_size, True, (0, 1)):
        longest = samples.lengths[members].max()
        parts = (rows[members, :longest], samples.lengths[members], read[members], written[members])
        batches.append((members, [torch.from_numpy(part.astype(np.int64)) for part in parts]))

    members, tensors = batches[0]
    loss, share, gradients = network.loss_and_gradients(samples.subset(members), targets[members], None, 0)
    theirs = peer(*tensors)
    theirs.backward()
    assert abs(loss / share - theirs.item()) < 1e-4, f"losses {loss / share} and {theirs.item()}"
    for weight_name, weight in peer.pairs.items():
        found = gradients[weight_name]
        error = np.abs(found.reshape(weight.shape) - weight.grad.numpy()).max() / np.abs(found).max()
        assert error < 1e-3, f"{weight_name}: gradients differ by {error} of the largest"

    def epoch() -> None:
        for _, batch in batches:
            optimiser.zero_grad()
            peer(*batch).backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), translator.clip_norm)
            optimiser.step()

    calls = {"ours": lambda: trainer.run_epoch(samples, targets), "torch": epoch}
    times = interleave(calls, seconds=options.seconds)
    a, b = (statistics.median(times[which]) for which in ("ours", "torch"))
    return f"| {name} {hidden} | {len(X) / a:.0f} | {len(X) / b:.0f} | {b / a:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3.0, help="a peer and row, roughly")
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), training pairs a second; ratio: ours over PyTorch")
    print("| attention, units | ours | PyTorch | ratio |\n|---|---|---|---|")
    for name in options.only:
        for hidden in options.hidden:
            print(run(name, hidden, options), flush=True)


if __name__ == "__main__":
    main()
