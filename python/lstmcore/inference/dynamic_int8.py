"""Layers with 8-bit weights whose activations are rounded as they come: `quantize(scheme="dynamic_int8")`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..model import DYNAMIC_INT8, Model

__all__ = ["quantize_dynamic"]

# The other arguments of `quantize`, which this scheme has no use for, and their defaults.
_OTHERS: dict[str, Any] = {
    "X_calibration": None,
    "weights": "int8",
    "ranges": "mse",
    "y": None,
    "finetune_epochs": 0,
    "finetune_learning_rate": 3e-4,
    "random_state": 0,
}


def quantize_dynamic(model: Model, **given: Any) -> Model:
    """The network with W and R of its layers as 8-bit integers, one scale a row; all else stays as it is.

    given: the other arguments of ``quantize``, all of them; ValueError for one that is not its default, and for a
    network that this cannot be done to.
    """
    for name, default in _OTHERS.items():
        value = given[name]
        # Data are never compared element by element.
        if value is not default and not (isinstance(value, (str, int, float)) and value == default):
            raise ValueError(
                f"quantize: scheme={DYNAMIC_INT8!r} rounds activations by what they are when they come, so it takes no "
                f"{name}. Leave it out, or use scheme='int8'."
            )
    config = model.config
    if config["quantization"] != "none":
        raise ValueError(f"quantize: this model is quantised already ({config['quantization']}).")
    with np.errstate(over="ignore"):
        weights = model.core.get_weights().astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError("quantize: the model has weights that are not finite (in float32). Train it anew.")
    config["recurrent"] |= {"dtype": "float32", "precision": None}
    try:
        core = _core.Model({**config, "quantization": DYNAMIC_INT8})
    except ValueError as error:
        raise ValueError(f"quantize: {error}.") from None
    core.set_weights(weights)
    core.set_preprocessing(**model.core.preprocessing)
    return Model(core, model.classes, model.single_target)
