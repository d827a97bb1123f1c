"""Training with scheduled sampling (Bengio, Vinyals, Jaitly & Shazeer, 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from .._layer_training import LayerTrainer

__all__ = ["SamplingTrainer"]

Array = NDArray[Any]


class SamplingTrainer(LayerTrainer):
    """Sets the probability of scheduled sampling before each epoch."""

    def __init__(
        self, network: Any, options: Mapping[str, Any], seed: int, share: float, schedule: str, epochs: int
    ) -> None:
        super().__init__(network, options, seed)
        self.share, self.schedule, self.epochs = share, schedule, epochs

    def run_epoch(self, x: Any, y: Any, weights: Array | None = None) -> dict[str, Any]:
        done = min(1.0, self._epochs / max(1, self.epochs - 1))
        factor = {"constant": 1.0, "linear": done, "inverse_sigmoid": 1.0 / (1.0 + math.exp(6.0 - 12.0 * done))}
        network: Any = self._network
        network.sampling = self.share * factor[self.schedule]
        return super().run_epoch(x, y, weights)
