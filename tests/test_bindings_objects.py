"""The compiled core's objects: who owns which memory, copies and pickles, models and their streams, trainers."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
from border import RNG, H, I, K, X, equal, make_layer, make_model, read_only
from lstmcore import _core

# --- ownership -------------------------------------------------------------------------------------------------------


def test_parameters_are_live_views_that_outlive_the_layer() -> None:
    layer = make_layer()
    before = layer.forward(X)[0]
    views = layer.parameters
    assert {name: view.shape for name, view in views.items()} == {
        "W_l0": (4 * H, I),
        "R_l0": (4 * H, H),
        "b_l0": (4 * H,),
    }
    for view in views.values():
        assert view.base is views["W_l0"].base
        assert view.flags.writeable
        assert not view.flags.owndata
    views["W_l0"][:] *= 2
    assert not equal(layer.forward(X)[0], before)
    layer.parameters["W_l0"][:] /= 2
    assert equal(layer.forward(X)[0], before)
    weights = views["W_l0"].copy()
    del layer, views["R_l0"]
    gc.collect()
    assert equal(views["W_l0"], weights)
    views["W_l0"][:] = 7
    assert views["W_l0"].min() == 7


def test_nothing_leaks() -> None:
    layer, model = make_layer(), make_model()
    trainer = _core.Trainer(model, {})
    x = X.copy()

    def work() -> None:
        _, state, tape = layer.forward(x, training=True)
        layer.backward(tape, None, state)
        layer.forward(list(x), state, training=True)
        layer.step(x[:, 0], state)
        _ = layer.parameters
        sequences = _core.Sequences(x)
        model.predict(sequences.subset([0, 1, 1]))
        model.step(x[0, 0], model.make_state().copy())
        trainer.step(sequences, [0, 1])
        trainer.gradient(sequences, [0, 1], [1, 2])
        for bad in (
            lambda: layer.forward("x"),
            lambda: layer.backward(tape, None),
            lambda: trainer.step(sequences, [K, 0]),
        ):
            with contextlib.suppress(ValueError, TypeError):
                bad()

    work()
    gc.collect()
    watched = (layer, model, trainer, x)
    before = [sys.getrefcount(each) for each in watched]
    for _ in range(10):
        work()
    gc.collect()
    assert [sys.getrefcount(each) for each in watched] == before


def test_arguments_stay_untouched_and_results_are_new() -> None:
    layer = make_layer()
    state = {name: RNG.standard_normal((1, 2, H)).astype(np.float32) for name in ("h", "c")}
    kept = copy.deepcopy(state)
    y, after = layer.step(X[:, 0], state)
    layer.forward(X, state)
    assert equal(state, kept)
    arrays = [y, *after.values(), *state.values(), *layer.step(X[:, 0], state)[1].values()]
    for index, one in enumerate(arrays):
        assert one.flags.owndata
        for other in arrays[index + 1 :]:
            assert not np.shares_memory(one, other)


def test_gradients_share_one_array() -> None:
    layer = make_layer()
    gradients = layer.backward(layer.forward(X, training=True)[2], np.ones((2, 5, H)))
    bases = {id(value.base) for value in gradients.parameters.values()}
    assert len(bases) == 1
    flat = next(iter(gradients.parameters.values())).base
    assert flat.size == sum(value.size for value in gradients.parameters.values())
    assert list(gradients.parameters) == list(layer.parameters)


def test_tapes_are_independent_and_serve_once() -> None:
    layer = make_layer()
    first_x, second_x = X, X[:, ::-1] * 2
    dy = np.ones((2, 5, H))
    alone = [layer.backward(layer.forward(x, training=True)[2], dy).parameters for x in (first_x, second_x)]
    first = layer.forward(first_x, training=True)[2]
    second = layer.forward(second_x, training=True)[2]
    assert equal(layer.backward(second, dy).parameters, alone[1])
    with pytest.raises(ValueError, match=r"^tape: used up by an earlier backward"):
        layer.backward(second, dy)
    # The memory of the used tape now serves a third pass, of another shape.
    third = layer.forward([X[0], X[1, :3], X[1, 1:]], training=True)[2]
    assert third.lengths.tolist() == [5, 3, 4]
    assert second.lengths.tolist() == [5, 5]
    assert equal(layer.backward(first, dy).parameters, alone[0])
    layer.backward(third, None)


def test_tapes_of_others_are_refused() -> None:
    layer = make_layer()
    tape = layer.forward(X, training=True)[2]
    for other in (make_layer(), make_layer(hidden_size=H + 1), make_layer(num_layers=2), copy.deepcopy(layer)):
        with pytest.raises(ValueError, match=r"^tape: recorded by another Recurrent"):
            other.backward(tape, None)
    with pytest.raises(TypeError, match=r"^tape: expected the Tape of a forward"):
        layer.backward(None, None)


def test_a_tape_keeps_what_it_needs() -> None:
    expected = make_layer()
    expected_gradient = expected.backward(expected.forward(X, training=True)[2], np.ones((2, 5, H)))
    tape = make_layer().forward(X.copy(), training=True)[2]
    gc.collect()
    np.zeros(X.shape, np.float32)  # might take the place of the input, had nobody kept it
    assert "Recurrent('lstm'" in repr(tape)
    del tape
    layer = make_layer()
    tape = layer.forward([x.copy() for x in X], training=True)[2]
    gc.collect()
    noise = [np.full((5, I), np.nan, np.float32) for _ in range(50)]
    gradients = layer.backward(tape, list(np.ones((2, 5, H))))
    assert equal(gradients.parameters, expected_gradient.parameters)
    del noise


def test_sequences_share_memory_where_they_can() -> None:
    model = make_model()
    x = X.copy()
    sequences = _core.Sequences(x)
    part = sequences.subset([1])
    x[:] = X[:, ::-1]
    assert equal(model.predict(sequences), model.predict(x))
    del sequences
    x_again = x.copy()
    del x
    gc.collect()
    assert equal(model.predict(part), model.predict(x_again[1:]))
    converted = _core.Sequences(x_again.astype(np.float64))
    expected = model.predict(converted)
    x_again[:] = 0
    assert equal(model.predict(converted), expected)


def test_subsets() -> None:
    for data in (X, list(X)):
        sequences = _core.Sequences(data, lengths=[5, 2])
        assert (len(sequences), sequences.features, sequences.dtype) == (2, I, np.float32)
        for indices, lengths in (
            ([1, 0, 1, -1], [2, 5, 2, 2]),
            (np.array([0], np.uint8), [5]),
            ([False, True], [2]),
            (np.array([True, True]), [5, 2]),
        ):
            part = sequences.subset(indices)
            assert part.lengths.tolist() == lengths
            assert part.subset([0]).lengths.tolist() == lengths[:1]
        for indices, error in (
            ([2], IndexError),
            ([-3], IndexError),
            ([], ValueError),
            ([False, False], ValueError),
            ([True], ValueError),
            ([1.0], ValueError),
            ([[1]], ValueError),
            (1, ValueError),
        ):
            with pytest.raises(error, match=r"^indices(\[0\])?: "):
                sequences.subset(indices)


def test_sequences_of_another_kind_are_refused() -> None:
    model, layer = make_model(), make_layer()
    trainer = _core.Trainer(model, {})
    double, narrow = _core.Sequences(X, dtype="float64"), _core.Sequences(X[:, :, :2])
    for call in (model.predict, layer.forward, lambda x: trainer.step(x, [0, 1])):
        with pytest.raises(TypeError, match=r"^x: Sequences of float64.*dtype='float32'"):
            call(double)
        with pytest.raises(ValueError, match=r"^x: expected 3 features, got 2: input_size is 3"):
            call(narrow)
    with pytest.raises(ValueError, match=r"^lengths: x is a Sequences, which has its own"):
        model.predict(_core.Sequences(X), lengths=[5, 5])
    with pytest.raises(TypeError, match=r"^x: expected a Sequences, got numpy.ndarray"):
        trainer.step(X, [0, 1])  # type: ignore[arg-type]


# --- pickle and copy -------------------------------------------------------------------------------------------------


class Named(_core.Recurrent):
    """A subclass with an attribute of its own."""

    label = ""


class NamedModel(_core.Model):
    """A subclass with an attribute of its own."""

    label = ""


@pytest.mark.parametrize("duplicate", [lambda o: pickle.loads(pickle.dumps(o)), copy.copy, copy.deepcopy])
def test_recurrent_copies(duplicate: Callable[[Any], Any]) -> None:
    layer = Named("elman", I, H, 2, True, 0.25, "float64", 9, 2, nonlinearity="relu")
    layer.label = "mine"
    layer.parameters["b_l0"][:] = 5
    other = duplicate(layer)
    assert type(other) is Named
    assert (other.label, repr(other), other.seed, other.n_threads) == ("mine", repr(layer), 9, 2)
    assert equal(other.parameters, layer.parameters)
    other.parameters["b_l0"][:] = 6
    assert layer.parameters["b_l0"].max() == 5


@pytest.mark.parametrize("duplicate", [lambda o: pickle.loads(pickle.dumps(o)), copy.copy, copy.deepcopy])
def test_model_copies(duplicate: Callable[[Any], Any], tmp_path: Path) -> None:
    model = make_model()
    model.set_preprocessing(np.arange(I), np.full(I, 0.1), np.zeros(K), np.ones(K))
    model.save(str(tmp_path / "m"), {"note": "text"})
    model = NamedModel.load(tmp_path / "m")
    other = duplicate(model)
    assert other.metadata == {"note": "text"}
    assert other.config == model.config
    assert equal(other.get_weights(), model.get_weights())
    assert equal(other.preprocessing, model.preprocessing)
    assert equal(other.predict(X), model.predict(X))
    other.set_weights(np.zeros_like(other.get_weights()))
    assert model.get_weights().any()

    named = NamedModel(model.config)
    named.label = "mine"
    assert type(duplicate(named)) is NamedModel
    assert duplicate(named).label == "mine"


@pytest.mark.parametrize("make", [make_layer, make_model])
def test_pickled_states_are_not_trusted(make: Callable[[], Any]) -> None:
    good = make().__getstate__()
    changes: list[Any] = [{**good, "weights": good["weights"][1:]}, {**good, "config": {}}, {**good, "attributes": 3}]
    changes += [{k: v for k, v in good.items() if k != key} for key in good]
    changes += [{**good, "weights": "text"}, {**good, "config": None}, {}, 3]
    for state in changes:
        with pytest.raises((ValueError, TypeError)):
            type(make()).__new__(type(make())).__setstate__(state)


def test_objects_bound_to_this_process_say_so() -> None:
    layer, model = make_layer(), make_model()
    tape = layer.forward(X, training=True)[2]
    objects = [
        tape,
        layer.backward(tape, None),
        _core.Sequences(X),
        model.make_state(),
        _core.Trainer(model, {}),
    ]
    for each in objects:
        for duplicate in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match=f"^{type(each).__name__} cannot be pickled: "):
                duplicate(each)


# --- model -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"extra": 1}, ValueError, "config: unknown key 'extra'; known are recurrent, pooling, activation, outputs"),
        ({"pooling": "sum"}, ValueError, "pooling: expected one of 'last', 'mean', .*, got 'sum'"),
        ({"pooling": None}, TypeError, "pooling: expected a str"),
        ({"activation": "tanh"}, ValueError, "activation: expected one of 'identity', 'softmax', got 'tanh'"),
        ({"outputs": 0}, ValueError, "outputs: expected an integer of at least 1, got 0"),
        ({"recurrent": 3}, TypeError, r"config\['recurrent'\]: expected a dict, got int"),
        ({"recurrent": {}}, TypeError, r"config\['recurrent'\]: missing required argument 'input_size'"),
        ({"recurrent": {"input_size": I, "hidden_size": H, "hidden": 4}}, ValueError, "unknown key 'hidden'"),
        (
            {"recurrent": {"input_size": I, "hidden_size": H, "cell_options": 3}},
            TypeError,
            "cell_options: expected a dict",
        ),
    ],
)
def test_model_config_is_checked(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.Model({**make_model().config, **change})
    with pytest.raises(ValueError, match=r"config: missing key 'recurrent'"):
        _core.Model({})


def test_weights_are_replaced_whole_or_not_at_all() -> None:
    model = make_model()
    before, y = model.get_weights(), model.predict(X)
    for bad, message in (
        ({"head_b": np.ones(K), "head_X": np.ones(K)}, "parameters: unknown key 'head_X'; known are W_l0,"),
        (
            {"head_b": np.ones(K), "head_W": np.ones((H, K))},
            r"parameters\['head_W'\]: expected shape \(5, 4\), got \(4, 5\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_parameters(bad)
        assert equal(model.get_weights(), before)
    with pytest.raises(ValueError, match=r"weights: expected \(P,\) = "):
        model.set_weights(before[1:])

    copies = model.parameters
    copies["head_b"][:] = 100
    assert equal(model.get_weights(), before)
    model.set_parameters({"head_b": np.arange(K)})
    assert model.parameters["head_b"].tolist() == list(range(K))
    assert equal(model.get_weights()[:-K], before[:-K])
    assert not equal(model.predict(X), y)
    model.set_weights(before.astype(np.float64))
    assert equal(model.predict(X), y)


def test_streams() -> None:
    model = make_model()
    state = model.make_state()
    outputs = [model.step(step, state) for step in X[0]]
    for steps, out in enumerate(outputs, 1):
        np.testing.assert_allclose(out, model.predict(X[:1, :steps])[0], rtol=0, atol=1e-6)

    state.reset()
    assert equal(model.step(X[0, 0], state), outputs[0])
    for duplicate in (_core.StreamState.copy, copy.copy):
        other = duplicate(state)
        assert equal(model.step(X[0, 1], other), outputs[1])
        assert equal(model.step(X[0, 2], other), outputs[2])
    assert equal(model.step(X[0, 1], state), outputs[1])

    with pytest.raises(ValueError, match=r"^state: made by another Model"):
        model.step(X[0, 0], copy.deepcopy(model).make_state())
    with pytest.raises(TypeError, match=r"^state: expected a StreamState"):
        model.step(X[0, 0], None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^x: expected \(I,\) = \(3,\), got \(1, 3\)"):
        model.step(X[0, :1], state)
    with pytest.raises(ValueError, match=r"bidirectional"):
        make_model(bidirectional=True).make_state()

    lonely = make_model().make_state()
    gc.collect()
    assert "Model('lstm'" in repr(lonely)
    lonely.copy().reset()


def change_weights(model: _core.Model) -> None:
    model.set_weights(model.get_weights() * 2)


def change_head(model: _core.Model) -> None:
    model.set_parameters({"head_W": model.parameters["head_W"] * 2})


def change_preprocessing(model: _core.Model) -> None:
    model.set_preprocessing(np.ones(I), np.full(I, 0.5), np.zeros(K), np.ones(K))


def train(model: _core.Model) -> None:
    _core.Trainer(model, {"learning_rate": 0.1}).step(_core.Sequences(X), [0, 1])


@pytest.mark.parametrize("change", [change_weights, change_head, change_preprocessing, train])
def test_streams_go_on_with_new_weights(change: Callable[[_core.Model], None]) -> None:
    model = make_model()
    state = model.make_state()
    before = model.step(X[0, 0], state)
    earlier = state.copy()
    change(model)
    assert equal(model.step(X[0, 1], state.copy()), model.step(X[0, 1], earlier))
    assert not equal(model.step(X[0, 1], state), model.step(X[0, 0], model.make_state()))  # it remembers its first step
    state.reset()
    after = model.step(X[0, 0], state)
    assert not equal(after, before)
    assert equal(after, model.step(X[0, 0], model.make_state()))
    np.testing.assert_allclose(after, model.predict(X[:1, :1])[0], rtol=0, atol=1e-6)


def test_files_that_cannot_be_reached_are_os_errors(tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(FileNotFoundError, match=r"absent") as caught:
        _core.Model.load(tmp_path / "absent")
    assert caught.value.filename == tmp_path / "absent"
    with pytest.raises(FileNotFoundError, match=r"missing"):
        model.save(tmp_path / "missing" / "m")
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    with pytest.raises(lstmcore.ModelFileError, match=r"junk"):
        _core.Model.load(tmp_path / "junk")
    for bad in (3, None, tmp_path):
        with pytest.raises((TypeError, lstmcore.ModelFileError), match=r"path|directory"):
            _core.Model.load(bad)  # type: ignore[arg-type]
    for bad in ({"a": 1}, {1: "a"}, ["a"]):
        with pytest.raises(TypeError, match=r"^metadata"):
            model.save(tmp_path / "m", bad)  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


def test_metadata_is_kept_unless_replaced(tmp_path: Path) -> None:
    model = make_model()
    assert model.metadata == {}
    model.save(tmp_path / "a", {"note": "ä", "empty": ""})
    loaded = _core.Model.load(str(tmp_path / "a"))
    assert loaded.metadata == {"note": "ä", "empty": ""}
    loaded.save(tmp_path / "b")
    assert _core.Model.load(tmp_path / "b").metadata == loaded.metadata
    loaded.save(tmp_path / "b", {})
    assert _core.Model.load(tmp_path / "b").metadata == {}


# --- trainer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"lr": 0.1},
            ValueError,
            "options: unknown key 'lr'; known are loss, huber_delta, .*learning_rate, .*n_threads",
        ),
        (
            {"loss": "mse"},
            ValueError,
            "loss: expected one of 'cross_entropy', 'squared', 'absolute', 'huber', 'quantile', 'gaussian', got 'mse'",
        ),
        ({"solver": "lbfgs"}, ValueError, "solver: expected one of 'sgd', 'rmsprop', 'adam', 'adamw', got 'lbfgs'"),
        ({"schedule": "x"}, ValueError, "schedule: expected one of 'constant', 'step', 'cosine', 'plateau', got 'x'"),
        ({"learning_rate": "a"}, TypeError, "learning_rate: expected a number, got 'a'"),
        ({"learning_rate": 0}, ValueError, "learning_rate"),
        ({"batch_size": 2.5}, TypeError, r"batch_size: expected an integer, got 2.5 \(float\)"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"shuffle": 1}, TypeError, "shuffle: expected True or False"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"seed": -1}, ValueError, "seed"),
        ({1: 2}, TypeError, "options key: expected a str"),
        (None, TypeError, "options: expected a dict, got NoneType"),
    ],
)
def test_trainer_options_are_checked(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.Trainer(make_model(), options)
    with pytest.raises(TypeError, match=r"^model: expected a Model, got int"):
        _core.Trainer(3, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("y", "weights", "error", "message"),
    [
        ([0], None, ValueError, r"y: expected one class index for each sequence, shape \(2,\), got \(1,\)"),
        ([[0], [1]], None, ValueError, r"y: .*got \(2, 1\)"),
        ([0, K], None, ValueError, r"y\[1\]: class index 5 is outside 0 … 4: the model has 5 outputs"),
        ([-1, 0], None, ValueError, r"y\[0\]: class index -1 is outside"),
        ([0, 2**40], None, ValueError, r"y\[1\]: class index 1099511627776 is outside"),
        (np.array([0, 2**64 - 1], np.uint64), None, ValueError, r"y\[1\]: "),
        (
            [0.0, 1.0],
            None,
            TypeError,
            "y: expected integer class indices for the loss cross_entropy, got dtype float64",
        ),
        ([0, 1], [1], ValueError, r"weights: expected \(N,\) = \(2,\), got \(1,\)"),
        ([0, 1], [1, -1], ValueError, r"weights\[1\]: expected 0 or more, got -1.0"),
        ([0, 1], [1, np.nan], ValueError, "weights: NaN in row 1; every value must be finite"),
        ([0, 1], [np.inf, 1], ValueError, "weights: inf in row 0"),
        ([0, 1], [0, 0], ValueError, "weights: all are zero"),
    ],
)
def test_labels_and_weights_are_checked(y: Any, weights: Any, error: type[Exception], message: str) -> None:
    model = make_model()
    trainer = _core.Trainer(model, {})
    x, before = _core.Sequences(X), model.get_weights()
    for call in (trainer.run_epoch, trainer.step, trainer.evaluate, trainer.gradient):
        with pytest.raises(error, match=f"^{message}"):
            call(x, y, weights)
    assert equal(model.get_weights(), before)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(2), r"y: expected \(N, K\) = \(2, 2\), got \(2,\)"),
        (np.ones((2, 3)), r"y: expected \(N, K\) = \(2, 2\), got \(2, 3\)"),
        ([[0, 1], [1, np.nan]], "y: NaN in row 1; every value must be finite"),
        ([[-np.inf, 1], [1, 0]], "y: inf in row 0"),
    ],
)
def test_values_are_checked(y: Any, message: str) -> None:
    model = _core.Model({"recurrent": {"input_size": I, "hidden_size": H}, "outputs": 2})
    trainer = _core.Trainer(model, {"loss": "squared"})
    for call in (trainer.run_epoch, trainer.step, trainer.evaluate, trainer.gradient):
        with pytest.raises(ValueError, match=f"^{message}"):
            call(_core.Sequences(X), y)


def test_forms_of_targets() -> None:
    x = _core.Sequences(X)
    losses = set()
    for y in (
        [0, 4],
        np.array([0, 4], np.uint8),
        np.array([0, 4], ">i4"),
        read_only(np.array([0, 4])),
        np.array([0, 9, 4])[::2],
    ):
        losses.add(_core.Trainer(make_model(), {}).evaluate(x, y, [1, 2]))
    assert len(losses) == 1


def test_trainer_keeps_its_model() -> None:
    trainer = _core.Trainer(make_model(), {"learning_rate": 0.1})
    gc.collect()
    x = _core.Sequences(X)
    before = trainer.evaluate(x, [0, 1])
    result = trainer.run_epoch(x, [0, 1])
    assert result.keys() == {"loss", "learning_rate", "sequences", "interrupted"}
    assert (result["sequences"], result["interrupted"], result["learning_rate"]) == (2, False, 0.1)
    assert trainer.evaluate(x, [0, 1]) != before
    loss, gradient = trainer.gradient(x, [0, 1])
    assert np.isfinite(loss)
    assert gradient["head_W"].shape == (K, H)
    with pytest.raises(ValueError, match=r"^monitored: NaN"):
        trainer.report(float("nan"))
