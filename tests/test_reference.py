"""The NumPy reference is itself checked: against PyTorch, and its gradients against its own finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from cases import FINITE_DIFFERENCE_STEP, TOLERANCE, Case, cases, make_data
from checking import assert_all_close, assert_close
from reference import driver


@pytest.mark.parametrize("case", cases("gradients", ("float64",)), ids=lambda case: case.id)
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


@pytest.mark.parametrize("case", cases("finite_differences"), ids=lambda case: case.id)
def test_reference_gradients_are_those_of_its_forward(case: Case) -> None:
    data = make_data(case)
    stack = case.stack
    state = data.state or {name: np.zeros_like(value) for name, value in data.dstate.items()}
    dy, x = np.nan_to_num(data.dy), np.nan_to_num(data.x)

    def loss() -> float:
        y, final, _ = driver.forward(stack, data.parameters, x, data.lengths, state)
        return float((y * dy).sum() + sum((final[name] * data.dstate[name]).sum() for name in final))

    _, _, tape = driver.forward(stack, data.parameters, x, data.lengths, state)
    dx, d_initial, gradient = driver.backward(tape, dy, data.dstate)
    checked = {"x": (x, dx)}
    checked |= {f"state {name}": (state[name], d_initial[name]) for name in state}
    checked |= {name: (data.parameters[name], gradient[name]) for name in gradient}
    for name, (values, analytic) in checked.items():
        numeric = np.zeros_like(analytic)
        for index in np.ndindex(*values.shape):
            keep = values[index]
            values[index] = keep + FINITE_DIFFERENCE_STEP
            above = loss()
            values[index] = keep - FINITE_DIFFERENCE_STEP
            below = loss()
            values[index] = keep
            numeric[index] = (above - below) / (2 * FINITE_DIFFERENCE_STEP)
        assert_close(analytic, numeric, case.tolerance("finite_differences"), name)
