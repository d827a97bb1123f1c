"""Layers with 8-bit weights whose activations are rounded as they come: `quantize(scheme="dynamic_int8")`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..model import DYNAMIC_INT8, Model

__all__ = ["quantize_dynamic"]


def quantize_dynamic(model: Model, **given: Any) -> Model:
    """The network with W and R of its layers as 8-bit integers, one scale a row; all else stays as it is.

    given: the other arguments of ``quantize`` whose values are not their defaults, which this scheme has no use for.
    ValueError for those, and for a network that it cannot do.
    """
    if given:
        name = next(iter(given))
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
    config["recurrent"]["dtype"] = "float32"
    try:
        core = _core.Model({**config, "quantization": DYNAMIC_INT8})
    except ValueError as error:
        raise ValueError(f"quantize: {error}.") from None
    core.set_weights(weights)
    core.set_preprocessing(**model.core.preprocessing)
    return Model(core, model.classes, model.single_target)
