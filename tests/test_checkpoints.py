"""BPTT with checkpoints along time: the gradient of a whole tape, for every cell, from a fraction of its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmcore import SequenceClassifier, _core
from sequences import FAST, ragged, three_classes

I, H, K = 3, 6, 4
LENGTHS = (29, 4, 12, 1, 24, 17)


def make(cell: str = "lstm", pooling: str = "mean", **recurrent: Any) -> _core.Model:
    config = {"cell": cell, "input_size": I, "hidden_size": H, "dtype": "float64", "seed": 3, "num_layers": 2}
    return _core.Model({"recurrent": config | recurrent, "pooling": pooling, "activation": "softmax", "outputs": K})


def data(dtype: str = "float64") -> tuple[_core.Sequences, np.ndarray]:
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((length, I)) for length in LENGTHS]
    return _core.Sequences(x, dtype=dtype), rng.integers(0, K, size=len(x)).astype(np.int32)


def gradient(model: _core.Model, **options: Any) -> tuple[float, np.ndarray]:
    loss, parts = _core.Trainer(model, options).gradient(*data())
    return loss, np.concatenate([part.ravel() for part in parts.values()])


@pytest.mark.parametrize("steps", [1, 5, 12, 29, 100])
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_the_gradient_is_that_of_a_whole_tape(pooling: str, steps: int) -> None:
    whole, cut = gradient(make(pooling=pooling)), gradient(make(pooling=pooling), checkpoint_steps=steps)
    assert cut[0] == pytest.approx(whole[0], rel=1e-14)
    np.testing.assert_allclose(cut[1], whole[1], atol=1e-13 * np.abs(whole[1]).max())


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("elman", {}),
        ("lstm1997", {"gate_recurrence": True, "block_size": 2}),
        ("lstm1997", {"gradient": "truncated"}),
        ("lstm", {"variant": "FGR"}),
        ("lstm", {"proj_size": 4, "layer_norm": True}),
        ("peephole", {}),
        ("gru", {}),
        ("gru", {"reset_after": False}),
        ("slstm", {"heads": 3}),
        ("min_lstm", {}),
        ("min_gru", {}),
        ("indrnn", {"nonlinearity": "tanh"}),
    ],
)
@pytest.mark.parametrize("learns", [False, True])
def test_every_cell(cell: str, options: dict[str, Any], learns: bool) -> None:
    def model() -> _core.Model:
        made = make(cell, cell_options=options, learn_initial_state=learns)
        made.set_weights(np.random.default_rng(1).uniform(-0.5, 0.5, made.get_weights().size))
        if cell == "slstm" and learns:
            for name, value in made.parameters.items():
                if name.startswith("n0"):
                    value[...] = 1.0
            made.set_weights(made.get_weights())
        return made

    whole, cut = gradient(model()), gradient(model(), checkpoint_steps=7)
    np.testing.assert_allclose(cut[1], whole[1], atol=1e-12 * np.abs(whole[1]).max())


@pytest.mark.parametrize(("bptt_steps", "checkpoint_steps"), [(4, 8), (4, 4), (4, 3), (5, 12), (30, 7)])
def test_with_truncated_bptt(bptt_steps: int, checkpoint_steps: int) -> None:
    whole = gradient(make(), bptt_steps=bptt_steps)
    cut = gradient(make(), bptt_steps=bptt_steps, checkpoint_steps=checkpoint_steps)
    np.testing.assert_allclose(cut[1], whole[1], atol=1e-13 * np.abs(whole[1]).max())
    assert np.abs(gradient(make())[1] - whole[1]).max() > 1e-4 or bptt_steps == 30


def test_regularisers_draw_the_same_masks_twice() -> None:
    """The gradient of a pass with masks is that of its loss: both forward runs of a window saw the same ones."""
    settings = {"variational_dropout": 0.2, "zoneout_hidden": 0.1, "zoneout_cell": 0.1, "recurrent_dropout": 0.1}
    settings["dropout"] = 0.2
    model = make(**settings)
    trainer = _core.Trainer(model, {"checkpoint_steps": 6, "seed": 2})
    x, y = data()
    _, parts = trainer.gradient(x, y)
    slopes = np.concatenate([part.ravel() for part in parts.values()])
    weights = model.get_weights()
    for k in np.random.default_rng(0).choice(weights.size, 30, replace=False):
        change = np.zeros_like(weights)
        change[k] = 1e-5
        loss = []
        for sign in (1, -1):
            model.set_weights(weights + sign * change)
            loss.append(trainer.gradient(x, y)[0])  # draws the masks of the next step, which has not come
        assert slopes[k] == pytest.approx((loss[0] - loss[1]) / 2e-5, abs=1e-8, rel=1e-6)


def test_threads_do_not_matter() -> None:
    results = []
    for n_threads in (1, 2):
        model = make("gru", hidden_size=64, n_threads=n_threads)
        results.append(gradient(model, checkpoint_steps=5, n_threads=n_threads)[1])
    np.testing.assert_array_equal(results[0], results[1])


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match=r"checkpoint_steps: .*bidirectional"):
        _core.Trainer(make(bidirectional=True), {"checkpoint_steps": 5})
    with pytest.raises(ValueError, match=r"checkpoint_steps: .*pooling"):
        _core.Trainer(make(pooling="attention"), {"checkpoint_steps": 5})
    with pytest.raises(ValueError, match="checkpoint_steps: expected 0"):
        _core.Trainer(make(), {"checkpoint_steps": -1})


def test_estimator() -> None:
    x = ragged(60)
    y = three_classes(x)
    whole = SequenceClassifier(**FAST | {"max_iter": 20}, precision="float64").fit(x, y)
    cut = SequenceClassifier(**FAST | {"max_iter": 20}, precision="float64", checkpoint_steps=3)
    np.testing.assert_allclose(cut.fit(x, y).loss_curve_, whole.loss_curve_, rtol=1e-6)
    with pytest.raises(ValueError, match="checkpoint_steps"):
        SequenceClassifier(**FAST, checkpoint_steps=0).fit(x, y)
