"""What each constructor parameter of the estimators may be. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from . import _core

__all__ = [
    "BFLOAT16",
    "FLOATS",
    "RULES",
    "Rule",
    "check_available",
    "check_devices",
    "check_network_types",
    "check_parameters",
    "choice",
    "is_real",
    "network_types",
    "or_none",
    "store",
    "thread_count",
    "weight_dtype",
]


class Rule(NamedTuple):
    """accepts(value) says whether a value is allowed, expected says it in words."""

    expected: str
    accepts: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and not np.isnan(float(value))


def _integer(least: int) -> Rule:
    return Rule(f"an int >= {least}", lambda value: _is_integer(value) and value >= least)


def _real(interval: str) -> Rule:
    """interval as in "[0, 1)", "inf" for an open end."""
    low, high = (float(bound) for bound in interval[1:-1].split(","))

    def accepts(value: Any) -> bool:
        if not is_real(value):
            return False
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        return bool(above and below)

    return Rule(f"a float in {interval}", accepts)


def choice(*names: str) -> Rule:
    return Rule("one of " + ", ".join(map(repr, names)), lambda value: isinstance(value, str) and value in names)


def or_none(rule: Rule) -> Rule:
    return Rule(f"{rule.expected} or None", lambda value: value is None or rule.accepts(value))


def _is_random_state(value: Any) -> bool:
    if isinstance(value, np.random.RandomState):
        return True
    return _is_integer(value) and 0 <= int(value) < 2**32


def _is_options(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(option, (bool, np.bool_, Integral, Real, str))
        for name, option in value.items()
    )


def _is_pooling_options(value: Any) -> bool:
    rules = {"size": _integer(1), "patterns": _integer(1), "beta": _real("(0, inf)"), "updates": _integer(0)}
    return isinstance(value, Mapping) and all(
        name in rules and rules[name].accepts(option) for name, option in value.items()
    )


def _is_sizes(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(_is_integer(size) and size >= 1 for size in value)


def _is_class_weight(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(is_real(weight) and 0 <= weight < np.inf for weight in value.values())
    return value is None or (isinstance(value, str) and value == "balanced")


_boolean = Rule("a bool", lambda value: isinstance(value, (bool, np.bool_)))

RULES: dict[str, Rule] = {
    "cell": Rule("a str, one of lstmcore.cells()", lambda value: isinstance(value, str)),
    "cell_options": or_none(Rule("a dict of option name to bool, number or str", _is_options)),
    "hidden_size": _integer(1),
    "num_layers": _integer(1),
    "bidirectional": _boolean,
    "pooling": choice("last", "mean", "max", "attention", "hopfield"),
    "pooling_options": or_none(
        Rule(
            "a dict with some of 'size' (int >= 1), 'patterns' (int >= 1), 'beta' (float > 0), 'updates' (int >= 0)",
            _is_pooling_options,
        )
    ),
    "head_sizes": Rule("a tuple or list of int >= 1", _is_sizes),
    "head_activation": choice("selu", "relu", "tanh"),
    "head_dropout": _real("[0, 1)"),
    "dropout": _real("[0, 1)"),
    "recurrent_dropout": _real("[0, 1)"),
    "variational_dropout": _real("[0, 1)"),
    "zoneout_hidden": _real("[0, 1)"),
    "zoneout_cell": _real("[0, 1)"),
    "learn_initial_state": _boolean,
    "loss": choice("squared_error", "absolute_error", "huber"),
    "huber_delta": _real("(0, inf)"),
    "solver": choice("sgd", "rmsprop", "adam", "adamw"),
    "learning_rate_init": _real("(0, inf)"),
    "learning_rate": choice("constant", "step", "cosine", "plateau"),
    "schedule_factor": _real("(0, 1]"),
    "schedule_every": _integer(1),
    "momentum": _real("[0, 1)"),
    "nesterov": _boolean,
    "beta_1": _real("[0, 1)"),
    "beta_2": _real("[0, 1)"),
    "rho": _real("[0, 1)"),
    "epsilon": _real("(0, inf)"),
    "alpha": _real("[0, inf)"),
    "batch_size": _integer(1),
    "max_iter": _integer(1),
    "tol": _real("[0, inf)"),
    "early_stopping": _boolean,
    "validation_fraction": _real("(0, 1)"),
    "n_iter_no_change": or_none(_integer(1)),
    "clip_norm": or_none(_real("(0, inf)")),
    "clip_value": or_none(_real("(0, inf)")),
    "max_norm": or_none(_real("(0, inf)")),
    "gradient_noise": _real("[0, inf)"),
    "label_smoothing": _real("[0, 1)"),
    "bptt_steps": or_none(_integer(1)),
    "checkpoint_steps": or_none(_integer(1)),
    "standardize": _boolean,
    "class_weight": Rule("None, 'balanced' or a dict of class label to weight >= 0", _is_class_weight),
    "warm_start": _boolean,
    "shuffle": _boolean,
    "random_state": or_none(Rule("an int in 0 ... 2**32 - 1, a numpy.random.RandomState", _is_random_state)),
    "verbose": Rule("a bool or an int >= 0", lambda value: isinstance(value, (bool, Integral)) and int(value) >= 0),
    "n_jobs": or_none(Rule("an int other than 0", lambda value: _is_integer(value) and value != 0)),
    "device": choice("cpu", "cuda"),
    "precision": choice("float32", "bfloat16", "float64"),
}


# Values of `precision` that an estimator may compute with: any type of weights, and products in bf16 too.
FLOATS = ("float32", "float64")
BFLOAT16 = ("float32", "bfloat16", "float64")


def check_parameters(estimator: str, parameters: Mapping[str, Any], rules: Mapping[str, Rule] | None = None) -> None:
    """Raises ValueError (TypeError for a wrong type would split one mistake in two) naming the first bad parameter.

    rules: an estimator's own, which come before those of all.
    """
    known = {**RULES, **(rules or {})}
    for name, value in parameters.items():
        rule = known[name]
        if not rule.accepts(value):
            raise ValueError(f"The {name!r} parameter of {estimator} must be {rule.expected}. Got {value!r} instead.")
        if _is_integer(value) and abs(value) >= 2**63:
            raise ValueError(f"The {name!r} parameter of {estimator} is {value}: more than 64 bits hold.")


def check_available(parameters: Mapping[str, Any], precisions: tuple[str, ...] = FLOATS) -> None:
    """Refuses what the parameters' names promise but this version does not compute. precisions: what it does."""
    cells = _core.cells()
    if parameters["cell"] not in cells:
        raise ValueError(f"cell={parameters['cell']!r} is unknown. Available: {', '.join(map(repr, cells))}.")
    check_devices(parameters, precisions)


def check_devices(parameters: Mapping[str, Any], precisions: tuple[str, ...] = FLOATS) -> None:
    """NotImplementedError for devices and types that are planned but not available."""
    allowed = {"device": ("cpu",), "precision": precisions}
    for name, values in allowed.items():
        if parameters[name] not in values:
            raise NotImplementedError(
                f"{name}={parameters[name]!r} is not implemented yet. Use {' or '.join(map(repr, values))}."
            )


def store(estimator: Any, arguments: dict[str, Any]) -> None:
    """locals() of a constructor as attributes of the same names, which is all that scikit-learn lets one do."""
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


def weight_dtype(precision: str) -> str:
    """Type of weights, inputs and outputs."""
    return "float32" if precision == "bfloat16" else precision


def network_types(precision: str) -> dict[str, str]:
    """What the configuration of a network put together in Python says of types: "dtype", and with bf16 "precision"."""
    types = {"dtype": weight_dtype(precision)}
    return types | {"precision": precision} if precision == "bfloat16" else types


def check_network_types(config: Mapping[str, Any]) -> None:
    """ValueError unless a configuration from anywhere has what `network_types` gives."""
    if config["dtype"] not in FLOATS:
        raise ValueError(f"config: dtype: expected 'float32' or 'float64', got {config['dtype']!r}")
    if config.get("precision", "bfloat16") != "bfloat16":
        raise ValueError(f"config: precision: expected 'bfloat16', or no such entry, got {config['precision']!r}")


def thread_count(n_jobs: int | None) -> int | None:
    """Threads for n_jobs as joblib counts: -1 all cores of this process, -2 all but one; None: the library decides."""
    if n_jobs is None:
        return None
    if not (_is_integer(n_jobs) and n_jobs != 0):
        raise ValueError(f"The 'n_jobs' parameter must be {RULES['n_jobs'].expected}. Got {n_jobs!r} instead.")
    if n_jobs > 0:
        return int(n_jobs)
    return max(1, _core_count() + 1 + int(n_jobs))


def _core_count() -> int:
    import os

    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
