#!/usr/bin/env python3
"""Training and text generation of `LanguageModel` against the same network in PyTorch, in one run.

    python bench/language.py [--threads 1 2] [--shapes 64x16x35 128x32x64 256x32x100] [--symbols 98] [--seconds 2]

Embedding, LSTM, linear layer, cross-entropy, states carried from chunk to chunk, clipping of the gradient's norm, Adam.
PyTorch: nn.Embedding, nn.LSTM, nn.Linear, cross_entropy, clip_grad_norm_, optim.Adam, states detached between chunks;
it finds its chunks as tensors, ours makes them in the time that counts. Both begin with the same weights, and loss and
gradients are compared before anything is timed. A shape is hidden size x lanes x steps; the embedding has 64 columns.
Generation: one text, symbol by symbol, drawn from the softmax. Needs: pip install "lstmcore[bench]".
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from clock import interleave

from lstmcore import LanguageModel
from lstmcore.language.corpus import read_corpus
from lstmcore.language.training import stream_chunks


class Peer(torch.nn.Module):
    """The network in PyTorch, with the weights of a fitted LanguageModel."""

    def __init__(self, p: dict[str, Any]) -> None:
        super().__init__()
        symbols, size = p["embedding"].shape
        hidden = p["R_l0"].shape[1]
        self.embedding = torch.nn.Embedding(symbols, size)
        self.lstm = torch.nn.LSTM(size, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, symbols)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(p["embedding"]))
            self.head.weight.copy_(torch.from_numpy(p["head_W"]))
            self.head.bias.copy_(torch.from_numpy(p["head_b"]))
            for theirs, name in (("weight_ih", "W"), ("weight_hh", "R"), ("bias_ih", "b")):
                getattr(self.lstm, f"{theirs}_l0").copy_(torch.from_numpy(p[f"{name}_l0"]))
            self.lstm.bias_hh_l0.zero_()

    def forward(self, codes: torch.Tensor, targets: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        h, state = self.lstm(self.embedding(codes), state)
        return torch.nn.functional.cross_entropy(self.head(h).flatten(0, 1), targets.flatten()), state

    @torch.no_grad()
    def generate(self, code: int, length: int) -> list[int]:
        state, found = None, []
        x = torch.tensor([[code]])
        for _ in range(length):
            h, state = self.lstm(self.embedding(x), state)
            x = torch.multinomial(torch.softmax(self.head(h[:, 0]), dim=1), 1)
            found.append(int(x))
        return found


def fitted(hidden: int, lanes: int, steps: int, options: argparse.Namespace, threads: int) -> tuple[LanguageModel, Any]:
    rng = np.random.default_rng(0)
    symbols = [chr(0x100 + k) for k in range(options.symbols - 2)]
    text = "".join(symbols) + "".join(rng.choice(symbols, size=lanes * steps * options.chunks - len(symbols)))
    model = LanguageModel(
        documents="joined", hidden_size=hidden, batch_size=lanes, bptt_steps=steps, max_iter=1, random_state=0,
        n_jobs=threads,
    ).fit(text)  # fmt: skip
    corpus = read_corpus(text[:-1], "text", "character", None)
    corpus.encode(model.model_.network.vocabulary)
    return model, corpus


def run(hidden: int, lanes: int, steps: int, threads: int, options: argparse.Namespace) -> str:
    torch.set_num_threads(threads)
    model, corpus = fitted(hidden, lanes, steps, options, threads)
    network = model.model_.network
    peer = Peer(model.model_.parameters)
    optimiser = torch.optim.Adam(peer.parameters(), lr=model.learning_rate_init)
    chunks = list(stream_chunks(corpus, lanes, steps, separate=False))
    tensors = [
        [torch.from_numpy(part.reshape(lanes, -1).astype(np.int64)) for part in (chunk.inputs, chunk.targets)]
        for chunk in chunks
    ]

    loss, _, gradients = network.chunk_loss(chunks[0], None, 0)
    theirs, _ = peer(*tensors[0], None)
    theirs.backward()
    assert abs(loss / len(chunks[0].inputs) - theirs.item()) < 1e-4, "losses differ"
    for name, weight in (
        ("embedding", peer.embedding.weight),
        ("R_l0", peer.lstm.weight_hh_l0),
        ("head_W", peer.head.weight),
    ):
        error = np.abs(gradients[name] - weight.grad.numpy()).max() / np.abs(gradients[name]).max()
        assert error < 1e-3, f"{name}: gradients differ by {error} of the largest"

    trainer = model._make_trainer(0, reuse=False)

    def epoch() -> None:
        state = None
        for codes, targets in tensors:
            optimiser.zero_grad()
            loss, state = peer(codes, targets, state)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), model.clip_norm)
            optimiser.step()
            state = tuple(part.detach() for part in state)

    count = corpus.predictions
    times = interleave({"ours": lambda: trainer.run_epoch(corpus), "torch": epoch}, seconds=options.seconds)
    a, b = (statistics.median(times[name]) for name in ("ours", "torch"))
    texts = {
        "ours": lambda: model.generate("", options.length, end=False, random_state=0),
        "torch": lambda: peer.generate(0, options.length),
    }
    times = interleave(texts, seconds=options.seconds)
    c, d = (statistics.median(times[name]) / options.length for name in ("ours", "torch"))
    return (
        f"| {hidden} | {lanes} | {steps} | {threads} | {count / a:,.0f} | {count / b:,.0f} | {b / a:.2f} | "
        f"{1 / c:,.0f} | {1 / d:,.0f} | {d / c:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--shapes",
        nargs="+",
        default=[f"{h}x{n}x{t}" for h in (64, 128, 256) for n, t in ((16, 35), (32, 64), (32, 100))],
    )
    parser.add_argument("--symbols", type=int, default=98, help="in the vocabulary")
    parser.add_argument("--chunks", type=int, default=10, help="of an epoch")
    parser.add_argument("--length", type=int, default=500, help="of a generated text")
    parser.add_argument("--seconds", type=float, default=2.0, help="a peer and measurement, roughly")
    options = parser.parse_args()
    print("symbols a second: training, then generation; ratios: ours over PyTorch")
    print("| hidden | lanes | steps | threads | ours | PyTorch | ratio | ours | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for threads in options.threads:
        for shape in options.shapes:
            print(run(*map(int, shape.split("x")), threads, options), flush=True)


if __name__ == "__main__":
    main()
