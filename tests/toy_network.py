"""A whole Network in plain NumPy: bags of rows, their mean, one hidden layer, a head."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmcore._dense_head import cross_entropy, dense_backward, dense_forward, dense_init, numeric_loss, softmax

Array = np.ndarray


class Bags:
    """N bags of (n_i, I) rows, in the network's dtype."""

    def __init__(self, rows: list[Array]) -> None:
        self.rows = rows

    @property
    def lengths(self) -> Array:
        return np.array([len(rows) for rows in self.rows])

    @property
    def features(self) -> int:
        return self.rows[0].shape[1]

    def subset(self, indices: Array) -> Bags:
        return Bags([self.rows[n] for n in indices])

    def means(self) -> Array:
        return np.stack([rows.mean(axis=0) for rows in self.rows])


class ToyNetwork:
    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        self.config = dict(config)
        self.n_threads: int | None = None
        self.label_smoothing = 0.0
        self.dropout = 0.0
        self.seen: list[int] = []
        dtype = config["dtype"]
        self.parameters = dense_init(seed, config["inputs"], config["hidden"], dtype, "")
        self.parameters |= dense_init(seed + 1, config["hidden"], config["outputs"], dtype)
        self.constants = {"mean": np.zeros(config["inputs"]), "scale": np.ones(config["inputs"])}
        if not config["classifies"]:
            self.constants |= {"y_mean": np.zeros(config["outputs"]), "y_scale": np.ones(config["outputs"])}

    def forward(self, x: Bags) -> tuple[Array, Array, Array]:
        p = self.parameters
        inputs = ((x.means() - self.constants["mean"]) * self.constants["scale"]).astype(p["W"].dtype)
        hidden = np.tanh(dense_forward(inputs, p["W"], p["b"]))
        return inputs, hidden, dense_forward(hidden, p["head_W"], p["head_b"])

    def loss_and_gradients(
        self, x: Bags, y: Array, weights: Array | None, seed: int, training: bool = True
    ) -> tuple[float, float, dict[str, Array]]:
        inputs, hidden, scores = self.forward(x)
        mask = np.ones_like(hidden)
        if training:
            self.seen.append(len(x.rows))
            mask = (np.random.RandomState(seed % 2**32).random_sample(hidden.shape) >= self.dropout).astype(
                hidden.dtype
            )
            scores = dense_forward(hidden * mask, self.parameters["head_W"], self.parameters["head_b"])
        if self.config["classifies"]:
            smoothing = self.label_smoothing if training else 0.0
            total, weight, d_scores = cross_entropy(scores, y, weights, smoothing)
        else:
            target = (y - self.constants["y_mean"]) * self.constants["y_scale"]
            total, weight, d_scores = numeric_loss(scores, target, weights)
        d_hidden, d_head_W, d_head_b = dense_backward(hidden * mask, self.parameters["head_W"], d_scores)
        _, d_W, d_b = dense_backward(inputs, self.parameters["W"], d_hidden * mask * (1 - hidden**2))
        return total, weight, {"W": d_W, "b": d_b, "head_W": d_head_W, "head_b": d_head_b}

    def outputs(self, x: Bags) -> Array:
        scores = self.forward(x)[2]
        if self.config["classifies"]:
            return softmax(scores)
        return (scores / self.constants["y_scale"] + self.constants["y_mean"]).astype(scores.dtype)

    def check(self, x: Bags, name: str) -> None:
        if x.features != self.config["inputs"]:
            raise ValueError(f"{name} has {x.features} columns, expected {self.config['inputs']}")

    def test_input(self) -> Bags:
        random = np.random.RandomState(0)
        return Bags([random.randn(n, self.config["inputs"]).astype(self.config["dtype"]) for n in (1, 3)])

    @classmethod
    def read(cls, X: Any, name: str, dtype: str) -> Bags:
        if not isinstance(X, (list, tuple)) or not X:
            raise TypeError(f"{name}: expected a list of (n_i, I) arrays, got {type(X).__name__}")
        rows = [np.asarray(x, dtype=dtype) for x in X]
        for n, bag in enumerate(rows):
            if bag.ndim != 2 or bag.shape[1:] != rows[0].shape[1:] or not bag.size:
                raise ValueError(f"{name}[{n}] has shape {bag.shape}, expected (n, I)")
            if not np.isfinite(bag).all():
                raise ValueError(f"{name}[{n}] contains NaN or infinity")
        return Bags(rows)

    @classmethod
    def shapes(cls, config: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]], str]:
        if set(config) != {"inputs", "hidden", "outputs", "classifies", "dtype"}:
            raise ValueError("config: unexpected entries")
        sizes = [config[name] for name in ("inputs", "hidden", "outputs")]
        if not all(isinstance(size, int) and size > 0 for size in sizes) or config["dtype"] not in (
            "float32",
            "float64",
        ):
            raise ValueError("config: expected sizes above 0 and a dtype")
        I, H, K = sizes
        constants: dict[str, tuple[int, ...]] = {"mean": (I,), "scale": (I,)}
        if not config["classifies"]:
            constants |= {"y_mean": (K,), "y_scale": (K,)}
        return {"W": (H, I), "b": (H,), "head_W": (K, H), "head_b": (K,)}, constants, config["dtype"]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ToyNetwork:
        return cls(config)
