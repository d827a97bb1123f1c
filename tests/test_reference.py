"""The NumPy reference is itself checked: against PyTorch, its gradients against finite differences of its own forward
pass, and the truncated gradient of 1997 against the paper's rule for learning forward in time."""

from __future__ import annotations

import numpy as np
import pytest

from cases import CELLS, FINITE_DIFFERENCE_STEP, TOLERANCE, VARIANTS, Case, Cell, Data, Shape, cases, make_data
from checking import assert_all_close, assert_close
from reference import driver
from reference.activations import sigmoid


@pytest.mark.parametrize(
    "case", [case for case in cases("gradients", ("float64",)) if case.cell.torch], ids=lambda case: case.id
)
def test_reference_equals_torch(case: Case) -> None:
    from torch_modules import make_module, run_module

    module = make_module(case, data := make_data(case))
    y, final, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    dx, d_initial, gradient = driver.backward(tape, data.dy, data.dstate)
    expected = run_module(module, data)
    tolerance = TOLERANCE["reference"]["float64"]
    assert_close(y, expected.y, tolerance, "y")
    assert_all_close(final, expected.final, tolerance, "final state")
    assert_close(dx, expected.dx, tolerance, "dx")
    assert_all_close(gradient, expected.gradient, tolerance, "gradient")
    if data.state is not None:
        assert_all_close(d_initial, expected.d_initial, tolerance, "gradient of initial state")


def chosen(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Some indices of an array: all would take minutes, and test_gradients.py checks every element on the library."""
    everywhere = list(np.ndindex(*shape))
    picked = np.random.default_rng(0).permutation(len(everywhere))[:12]
    return [everywhere[k] for k in picked]


@pytest.mark.parametrize("case", cases("finite_differences"), ids=lambda case: case.id)
def test_reference_gradients_are_those_of_its_forward(case: Case) -> None:
    data = make_data(case)
    stack, state = case.stack, data.state
    dy, x = np.nan_to_num(data.dy), np.nan_to_num(data.x)

    def loss() -> float:
        y, final, _ = driver.forward(stack, data.parameters, x, data.lengths, state)
        return float((y * dy).sum() + sum((final[name] * data.dstate[name]).sum() for name in final))

    _, _, tape = driver.forward(stack, data.parameters, x, data.lengths, state)
    dx, d_initial, gradient = driver.backward(tape, dy, data.dstate)
    assert list(gradient) == list(data.parameters)
    checked = {"x": (x, dx)}
    checked |= {f"state {name}": (value, d_initial[name]) for name, value in (state or {}).items()}
    checked |= {name: (data.parameters[name], gradient[name]) for name in gradient}
    for name, (values, analytic) in checked.items():
        numeric = analytic.copy()
        for index in chosen(values.shape):
            keep = values[index]
            values[index] = keep + FINITE_DIFFERENCE_STEP
            above = loss()
            values[index] = keep - FINITE_DIFFERENCE_STEP
            below = loss()
            values[index] = keep
            numeric[index] = (above - below) / (2 * FINITE_DIFFERENCE_STEP)
        assert_close(analytic, numeric, case.tolerance("reference_differences"), name)


@pytest.mark.parametrize("cell", [*CELLS, *VARIANTS], ids=lambda cell: cell.label)
def test_absent_state_is_zeros_or_learnt(cell: Cell) -> None:
    """The value, its gradient, and the sum of that over sequences."""
    (case, *_) = (case for case in cases("gradients", ("float64",)) if case.cell == cell and case.shape.D == 2)
    data = make_data(case)
    y, _, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths)
    _, d_initial, gradient = driver.backward(tape, data.dy, data.dstate)
    state = {name: np.zeros(shape) for name, shape in case.stack.state_shapes(case.shape.N).items()}
    if cell.learn_initial_state:
        for run, (_, _, suffix) in enumerate(case.stack.runs()):
            for name in state:
                state[name][run] = data.parameters[f"{name}0{suffix}"]
                np.testing.assert_allclose(gradient[f"{name}0{suffix}"], d_initial[name][run].sum(axis=0), rtol=1e-12)
    given, _, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths, state)
    np.testing.assert_array_equal(given, y)
    dx, again, gradient = driver.backward(tape, data.dy, data.dstate)
    assert_all_close(again, d_initial, 1e-12, "gradient of the initial state")
    if cell.learn_initial_state:
        assert not any(gradient[name].any() for name in gradient if name.split("_")[0].endswith("0"))
    assert dx.any()


# --- the truncated gradient of Hochreiter & Schmidhuber (1997) --------------------------------------------------------


def learning_forward_in_time(case: Case, data: Data) -> dict[str, np.ndarray]:
    """∂loss/∂(W, R, b) of a single layer by eligibility traces, one sequence after the other, as in the paper.

    Truncation leaves each cell with what it did itself: for every weight w of the rows of i and g, ∂s_u/∂w is
    accumulated forward in time; a weight of the rows of o has no past, and acts through h at the same step only.
    Nothing is saved and nothing runs backward.
    """
    stack, options = case.stack, case.options
    size, H = int(str(options.get("block_size", 1))), stack.hidden_size
    B, fed_back = H // size, bool(options.get("gate_recurrence", False))
    W, R, b = (data.parameters[f"{kind}_l0"] for kind in "WRb")
    weights = np.concatenate([W, R, b[:, None]], axis=1)
    gradient = np.zeros_like(weights)
    for sequence in range(case.shape.N):
        state = {name: np.zeros(width) for name, width in stack.states().items()}
        if data.state is not None:
            state = {name: data.state[name][0, sequence] for name in state}
        T = case.shape.T if data.lengths is None else int(data.lengths[sequence])
        trace_i, trace_g = (
            np.zeros((H, weights.shape[1])),
            np.zeros((H, weights.shape[1])),
        )  # ∂s_u/∂w, w in i's, g's row
        for t in range(T):
            recurrent = [state["h"], state["i"], state["o"]] if fed_back else [state["h"]]
            source = np.concatenate([data.x[sequence, t], *recurrent, [1.0]])
            a = weights @ source
            i, o = sigmoid(a[:B]), sigmoid(a[B + H :])
            s, h = np.array(state["s"]), np.zeros(H)
            last = t == T - 1
            for u in range(H):
                block = u // size
                squashed_g = sigmoid(a[B + u])
                g = 4.0 * squashed_g - 2.0
                trace_i[u] += g * i[block] * (1.0 - i[block]) * source
                trace_g[u] += i[block] * 4.0 * squashed_g * (1.0 - squashed_g) * source
                s[u] += i[block] * g
                squashed_s = sigmoid(s[u])
                h[u] = o[block] * (2.0 * squashed_s - 1.0)
                d_h = data.dy[sequence, t, u] + (data.dstate["h"][0, sequence, u] if last else 0.0)
                d_s = d_h * o[block] * 2.0 * squashed_s * (1.0 - squashed_s)
                d_s += data.dstate["s"][0, sequence, u] if last else 0.0
                gradient[block] += d_s * trace_i[u]
                gradient[B + u] += d_s * trace_g[u]
                gradient[B + H + block] += d_h * (2.0 * squashed_s - 1.0) * o[block] * (1.0 - o[block]) * source
            if fed_back and last:  # the activations of the gates are final states, too
                for block in range(B):
                    d_i, d_o = data.dstate["i"][0, sequence, block], data.dstate["o"][0, sequence, block]
                    gradient[block] += d_i * i[block] * (1.0 - i[block]) * source
                    gradient[B + H + block] += d_o * o[block] * (1.0 - o[block]) * source
            state = {"h": h, "s": s, "i": i, "o": o}
    of_W, of_R, of_b = np.split(gradient, [W.shape[1], W.shape[1] + R.shape[1]], axis=1)
    return {"W_l0": of_W, "R_l0": of_R, "b_l0": of_b[:, 0]}


@pytest.mark.parametrize("gate_recurrence", [False, True])
@pytest.mark.parametrize("block_size", [1, 2, 3])
@pytest.mark.parametrize("ragged", [False, True])
def test_truncated_gradient_is_the_rule_of_the_paper(ragged: bool, block_size: int, gate_recurrence: bool) -> None:
    options = (("block_size", block_size), ("gate_recurrence", gate_recurrence), ("gradient", "truncated"))
    case = Case(Cell("lstm1997", options), Shape(4, 9, 3, 6, ragged=ragged, initial_state=ragged), "float64")
    data = make_data(case)
    _, _, tape = driver.forward(case.stack, data.parameters, data.x, data.lengths, data.state)
    _, d_initial, gradient = driver.backward(tape, data.dy, data.dstate)
    assert_all_close(gradient, learning_forward_in_time(case, data), 1e-10, "gradient")
    assert d_initial.pop("s").all()
    assert not any(value.any() for value in d_initial.values()), "gradient of what truncation holds constant"


def test_truncation_reaches_the_layer_below() -> None:
    """dx of a step holds all that went into its pre-activations; without recurrent weights nothing is left out."""
    full, cut = (Cell("lstm1997", (("gradient", gradient),)) for gradient in ("full", "truncated"))
    shape = Shape(3, 6, 2, 4, L=2, D=2, ragged=True, initial_state=True)
    data = make_data(Case(full, shape, "float64"))
    results = {}
    for without in (False, True):
        for name, value in data.parameters.items():
            if without and name.startswith("R"):
                value[...] = 0.0
        for cell in (full, cut):
            stack = Case(cell, shape, "float64").stack
            _, _, tape = driver.forward(stack, data.parameters, data.x, data.lengths, data.state)
            results[cell, without] = driver.backward(tape, data.dy, data.dstate)
    dx, d_initial, gradient = results[cut, True]
    expected_dx, expected_d_initial, expected = results[full, True]
    assert_close(dx, expected_dx, 1e-12, "dx")
    assert_close(d_initial["s"], expected_d_initial["s"], 1e-12, "gradient of s")
    assert_all_close(gradient, expected, 1e-12, "gradient")
    assert np.abs(results[cut, False][0] - results[full, False][0]).max() > 1e-3, "nothing was truncated"
