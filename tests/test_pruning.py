"""Weights fixed at zero, and blocks of them pruned while training."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lstmcore import BlockPruning, SequenceClassifier, _core
from lstmcore.edge.integers import zero_blocks
from lstmcore.edge.network import read_edge_network
from lstmcore.pruning import block_numbers
from quantised import make_data, make_model


def make_problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80, 12, 3))
    return X, (X[:, -3:, 0].sum(axis=1) > 0).astype(int)


# ---- the mask of a trainer


@pytest.mark.parametrize("solver", ["sgd", "rmsprop", "adam", "adamw"])
def test_masked_weights_are_zero_after_every_step(solver: str) -> None:
    model = make_model("lstm").core
    X = _core.Sequences(make_data(), dtype="float64")
    y = np.arange(len(make_data())) % 3
    trainer = _core.Trainer(model, {"solver": solver, "alpha": 0.01, "gradient_noise": 0.1, "max_norm": 1.0})
    trainer.step(X, y)  # momentum from before pushes on
    rng = np.random.default_rng(0)
    masks = {name: rng.random(size=model.parameters[name].shape) < 0.5 for name in ("W_l0", "R_l0", "head_W")}
    trainer.set_mask(masks)
    before = model.parameters
    for name, mask in masks.items():
        assert (before[name][~mask] == 0).all()
        assert (before[name][mask] != 0).all()
    for _ in range(3):
        trainer.step(X, y)
        trainer.run_epoch(X, y)
        for name, mask in masks.items():
            assert (model.parameters[name][~mask] == 0).all()
    after = model.parameters
    assert all((after[name][mask] != before[name][mask]).all() for name, mask in masks.items())
    assert (after["b_l0"] != before["b_l0"]).all()
    trainer.set_mask(None)
    trainer.step(X, y)
    assert (model.parameters["R_l0"][~masks["R_l0"]] != 0).all()


def test_a_mask_of_ones_changes_nothing() -> None:
    X = _core.Sequences(make_data(), dtype="float64")
    y = np.arange(40) % 3
    found = []
    for masked in (False, True):
        model = make_model("gru").core
        trainer = _core.Trainer(model, {})
        if masked:
            trainer.set_mask({"R_l0": np.ones(model.parameters["R_l0"].shape, dtype=bool)})
        trainer.run_epoch(X, y)
        found.append(model.get_weights())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        ({"R_l9": np.ones((24, 6), dtype=bool)}, ValueError, "no tensor 'R_l9'"),
        ({"R_l0": np.ones((6, 24), dtype=bool)}, ValueError, r"expected shape \(24, 6\)"),
        ({"R_l0": np.ones(144, dtype=bool)}, ValueError, r"expected shape \(24, 6\)"),
        ({"R_l0": np.ones((24, 6))}, TypeError, "ndarray of bool"),
        ({"R_l0": None}, TypeError, "ndarray of bool"),
        ([1], TypeError, "masks"),
    ],
)
def test_masks_that_are_refused(masks: Any, error: type[Exception], message: str) -> None:
    trainer = _core.Trainer(make_model("lstm").core, {})
    with pytest.raises(error, match=message):
        trainer.set_mask(masks)


# ---- blocks


@pytest.mark.parametrize(
    ("cell", "options", "hidden"),
    [
        ("lstm", {}, 10),
        ("gru", {}, 8),
        ("gru", {"reset_after": False}, 9),
        ("slstm", {"heads": 2}, 12),
        ("elman", {}, 7),
    ],
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_blocks_are_those_of_the_runtime(cell: str, options: dict[str, Any], hidden: int, bidirectional: bool) -> None:
    """One block zeroed in the tensors is one more block of zeros in the runtime's matrix, and nothing else."""
    model = make_model(cell, options, hidden_size=hidden, num_layers=2, bidirectional=bidirectional)

    def tiles() -> np.ndarray:
        found = []
        for run in read_edge_network(model).runs:
            for part in run.parts:
                rows, _ = part.rows(np.ones(1), np.ones(1))
                groups, blocks = rows.shape[0] // 4, rows.shape[1] // 4
                found.append(rows.reshape(groups, 4, blocks, 4).any(axis=(1, 3)).ravel())
        return np.concatenate(found)

    for name in ("W_l0", "R_l0", "W_l1", "R_l1") + (("R_l1_reverse",) if bidirectional else ()):
        whole = model.parameters[name]
        numbers = block_numbers(name, whole, model.config["recurrent"])
        full = tiles()
        for block in np.unique(numbers)[::3]:
            model.core.set_parameters({name: np.where(numbers == block, 0.0, whole)})
            assert (full & ~tiles()).sum() == 1
            assert not (tiles() & ~full).any()
        model.core.set_parameters({name: whole})


def test_pruning_follows_its_schedule_and_keeps_zeros() -> None:
    X, y = make_problem()
    seen: list[float] = []
    zeros: list[set[tuple[int, int]]] = []
    pruning = BlockPruning(0.75, begin=2, end=6)

    def watch(info: Any) -> None:
        R = info.estimator.model_.parameters["R_l0"]
        seen.append(pruning.sparsity_)
        zeros.append(set(zip(*(axis.tolist() for axis in np.nonzero(R == 0)), strict=True)))

    model = SequenceClassifier(hidden_size=16, max_iter=10, n_iter_no_change=None, random_state=0)
    model.fit(X, y, callbacks=[pruning, watch])
    expected = [0.75 * (1 - (1 - min((e - 1) / 5, 1)) ** 3) if e >= 2 else 0.0 for e in range(1, 11)]
    np.testing.assert_allclose(seen, expected, atol=0.5 / 64)
    assert all(before <= after for before, after in itertools.pairwise(zeros))
    assert len(zeros[-1]) == 0.75 * 64 * 16
    assert zeros[5] == zeros[-1]
    assert (model.model_.parameters["W_l0"] != 0).all()
    assert model.score(X, y) > 0.8


def test_the_smallest_blocks_go() -> None:
    X, y = make_problem()
    kept: list[np.ndarray] = []
    pruning = BlockPruning(0.5, begin=1, end=1, input_weights=True)

    def before(info: Any) -> None:
        if info.epoch == 1:
            kept.extend(info.estimator.model_.parameters[name] for name in ("R_l0", "W_l0"))

    model = SequenceClassifier("gru", hidden_size=8, max_iter=1, random_state=0).fit(X, y, callbacks=[before, pruning])
    for name, weights in zip(("R_l0", "W_l0"), kept, strict=True):
        numbers = block_numbers(name, weights, model.model_.config["recurrent"])
        now = model.model_.parameters[name]
        norms = {block: np.linalg.norm(weights[numbers == block]) for block in np.unique(numbers).tolist()}
        gone = {block for block in norms if not now[numbers == block].any()}
        assert len(gone) == len(norms) // 2
        assert max(norms[b] for b in gone) <= min(norms[b] for b in norms if b not in gone)


@pytest.mark.parametrize(("cell", "options"), [("lstm", {}), ("gru", {}), ("slstm", {"heads": 2}), ("peephole", {})])
def test_pruned_networks_are_sparse_on_the_device(cell: str, options: dict[str, Any]) -> None:
    X, y = make_problem()
    model = SequenceClassifier(
        cell, cell_options=options, hidden_size=16, max_iter=6, n_iter_no_change=None, num_layers=2, random_state=0
    ).fit(X, y, callbacks=BlockPruning(0.75))
    quantised = model.quantize(X, weights="sparse")
    plain = model.quantize(X)
    np.testing.assert_array_equal(quantised.predict_raw(X), plain.predict_raw(X))
    for layer in quantised.program.layers:
        for matrix in layer.matrices:
            assert matrix.storage == ("sparse" if zero_blocks(matrix.weights) >= 0.3 else "int8")
        assert layer.matrices[-1].storage == "sparse"
    assert quantised.report_.layers[1].zero_blocks > 0.4
    assert (
        quantised.report_.weight_bytes
        == plain.report_.weight_bytes
        < 0.7
        * sum(matrix.weights.size + 8 * len(matrix.bias) for layer in plain.program.layers for matrix in layer.matrices)
    )
    for run, layer in zip(read_edge_network(model.model_).runs, quantised.program.layers, strict=True):
        for part, matrix in zip(run.parts, layer.matrices, strict=True):
            rows, _ = part.rows(np.ones(1), np.ones(1))
            assert not matrix.weights[rows == 0].any()
            assert zero_blocks(matrix.weights) >= zero_blocks(rows) > 0 or part.h is None
    # Fine-tuning leaves the gaps as they are.
    tuned = model.quantize(X, weights="sparse", y=y, finetune_epochs=2)
    for before, after in zip(quantised.program.layers, tuned.program.layers, strict=True):
        for one, other in zip(before.matrices, after.matrices, strict=True):
            assert zero_blocks(other.weights) >= zero_blocks(one.weights)


def test_block_diagonal_heads_are_sparse_by_themselves() -> None:
    model = make_model("slstm", {"heads": 4}, hidden_size=32)
    quantised = model.quantize(make_data())
    assert quantised.program.layers[0].matrices[0].storage == "sparse"
    assert quantised.program.dense[0].matrix.storage == "int8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 0.0}, "sparsity=0.0"),
        ({"sparsity": 1.0}, "sparsity=1.0"),
        ({"sparsity": float("nan")}, "sparsity=nan"),
        ({"sparsity": True}, "sparsity=True"),
        ({"sparsity": 0.5, "begin": 0}, "begin=0"),
        ({"sparsity": 0.5, "end": 1.5}, "end=1.5"),
        ({"sparsity": 0.5, "begin": 3, "end": 2}, "end=2 is before begin=3"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlockPruning(**arguments)


def test_estimators_that_are_refused() -> None:
    X, y = make_problem()
    with pytest.raises(ValueError, match="cell='min_gru' cannot be pruned"):
        SequenceClassifier("min_gru", hidden_size=4, max_iter=1).fit(X, y, callbacks=BlockPruning(0.5))
    with pytest.raises(ValueError, match="early_stopping=False"):
        SequenceClassifier(hidden_size=4, max_iter=1, early_stopping=True).fit(X, y, callbacks=BlockPruning(0.5))
