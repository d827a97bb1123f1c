"""FrameForecaster: the next frames of a sequence of frames."""

# mypy: allow-subclassing-any, allow-untyped-calls
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._frame_network import CELLS, LOSSES, FrameNetwork, Frames
from ._layer_network import LayerModel
from ._layer_training import LayerEstimator
from ._parameters import Rule, store
from ._validation import check_count

__all__ = ["FrameForecaster"]

Array = NDArray[Any]
Self = TypeVar("Self", bound="FrameForecaster")


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_odd(value: Any) -> bool:
    return _is_integer(value) and value >= 1 and value % 2 == 1


def _is_size(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _one_of(names: tuple[str, ...]) -> Rule:
    return Rule("one of " + ", ".join(map(repr, names)), lambda value: isinstance(value, str) and value in names)


_RULES = {
    "cell": _one_of(CELLS),
    "loss": _one_of(LOSSES),
    "hidden_channels": Rule("an int >= 1", _is_size),
    "kernel_size": Rule("an odd int >= 1", _is_odd),
    "num_layers": Rule("an int in 1 ... 1000", lambda value: _is_size(value) and value <= 1000),
    "dilation": Rule("an int >= 1", _is_size),
    "patch_size": Rule("an int >= 1", _is_size),
    "horizon": Rule("an int >= 1", _is_size),
}


class FrameForecaster(LayerEstimator):
    """Forecasts the next frames of image sequences: encoder and forecaster of ConvLSTM layers (Shi et al., 2015).

    A stack of convolutional recurrent layers reads the past frames. A second stack starts from its states, layer by
    layer, and runs `horizon` steps without input; a convolution of 1 × 1 over the hidden states of all its layers gives
    one frame a step. Trained by backpropagation through time over both.

    Parameters
    ----------
    cell : {"lstm", "peephole", "gru"}, default "lstm"
        Cell of all layers, as of `lstmcore.ConvRecurrent`. The paper's is "peephole".
    hidden_channels : int, default 32
        Channels of each layer's states (H).
    kernel_size : int, default 3
        Side of the convolutions' windows, odd.
    num_layers : int, default 2
        Layers of encoder and forecaster each (L).
    dilation : int, default 1
        Distance of a window's taps in pixels.
    patch_size : int, default 1
        Frames are cut into patches of so many pixels squared, whose pixels become channels: layers then work on smaller
        images, in a fraction of the time (the paper: 4). Must divide height and width.
    horizon : int, default 10
        Frames that are forecast (F).
    loss : {"squared", "cross_entropy"}, default "squared"
        Mean over frames and pixels of the squared error (of standardised frames), or of the binary cross-entropy of a
        sigmoid output (the paper's), for frames in [0, 1].
    solver : {"sgd", "rmsprop", "adam", "adamw"}, default "adam"
        As `SequenceRegressor`.
    learning_rate_init : float, default 2e-3
        Step size of the solver in the first epoch.
    learning_rate : {"constant", "step", "cosine", "plateau"}, default "constant"
        As `SequenceRegressor`.
    alpha : float, default 0.0
        L2 penalty on kernels; with "adamw" decoupled weight decay.
    batch_size : int, default 16
        Sequences of a mini-batch.
    max_iter : int, default 20
        Epochs.
    tol, early_stopping, validation_fraction, n_iter_no_change
        As `SequenceRegressor`; early stopping watches `score`.
    clip_norm : float or None, default 5.0
        Bound of the gradient's norm (Pascanu, Mikolov & Bengio, 2013).
    standardize : bool, default True
        Whether each channel is shifted and scaled to mean 0 and deviation 1 over the training frames before the layers
        read it; with "squared" the target too, and forecasts come back in the units of the frames.
    warm_start, shuffle, random_state, verbose, n_jobs, device, precision
        As `SequenceRegressor`.

    Attributes
    ----------
    model_ : LayerModel
        The trained network.
    n_features_in_ : int
        Numbers in a frame, C·Y·X.
    n_iter_, loss_, loss_curve_, validation_loss_curve_, validation_scores_, best_loss_, best_validation_score_
        As of `SequenceRegressor`.

    Notes
    -----
    X is an array (N, T, C, Y, X) or (N, T, Y, X), or a list of (T_i, C, Y, X) or (T_i, Y, X) arrays: N sequences of T
    frames with C channels, Y rows and X columns.

    Examples
    --------
    >>> from lstmcore import FrameForecaster
    >>> from lstmcore.datasets import make_moving_digits
    >>> X = make_moving_digits(32, n_frames=8, size=32, random_state=0)
    >>> forecaster = FrameForecaster(hidden_channels=8, patch_size=4, horizon=3, max_iter=2, random_state=0).fit(X)
    >>> forecaster.predict(X[:, :5]).shape
    (32, 3, 32, 32)
    """

    _network = FrameNetwork
    _absent: ClassVar[Mapping[str, str]] = {
        "quantize": "the integer runtime has no convolutions. lstmcore.load_model runs a saved model with NumPy alone.",
        "step": "a forecast starts from a sequence of frames. Call predict with the last of them, x[None].",
    }
    _architecture = (
        "cell",
        "hidden_channels",
        "kernel_size",
        "num_layers",
        "dilation",
        "patch_size",
        "horizon",
        "loss",
        "standardize",
        "precision",
    )
    _rules = _RULES

    cell: str
    hidden_channels: int
    kernel_size: int
    num_layers: int
    dilation: int
    patch_size: int
    horizon: int
    loss: str
    standardize: bool

    def __init__(
        self,
        *,
        cell: str = "lstm",
        hidden_channels: int = 32,
        kernel_size: int = 3,
        num_layers: int = 2,
        dilation: int = 1,
        patch_size: int = 1,
        horizon: int = 10,
        loss: str = "squared",
        solver: str = "adam",
        learning_rate_init: float = 2e-3,
        learning_rate: str = "constant",
        alpha: float = 0.0,
        batch_size: int = 16,
        max_iter: int = 20,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 10,
        clip_norm: float | None = 5.0,
        standardize: bool = True,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        store(self, locals())

    # --- fitting -----------------------------------------------------------------------------------------------------

    def fit(
        self: Self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Any = None,
    ) -> Self:
        """Trains on N sequences of frames.

        Parameters
        ----------
        X : ndarray (N, T, C, Y, X) or (N, T, Y, X), or list of (T_i, C, Y, X) or (T_i, Y, X) arrays
            Finite numbers; with ``loss="cross_entropy"`` in [0, 1].
        y : ndarray (N, horizon, C, Y, X) or (N, horizon, Y, X), or None
            What follows each sequence. None: the last `horizon` frames of each sequence of X are what is to be
            forecast from those before, at least one.
        sample_weight : array-like (N,), default None
            Weight of each sequence in the loss, ≥ 0. None: all 1.
        eval_set : (X, y) or (X, y, sample_weight), default None
            As of `SequenceRegressor.fit`; y may be None as above.
        callbacks : callable or iterable of callables, default None
            As of `SequenceRegressor.fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Data or parameters that cannot be used, or training that diverged; the message names the argument.
        """
        return super().fit(X, y, sample_weight, eval_set, callbacks)

    def partial_fit(self: Self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """One pass over X in mini-batches, going on from the present weights and state of the optimiser.

        Arguments as for `fit`; the first call's X decides on the standardisation. ValueError with
        ``early_stopping=True``.
        """
        return self._partial_fit(X, y, None, sample_weight)

    def _read(self, X: Any, y: Any, reset: bool, prefix: str = "", classes: Any = None) -> tuple[Frames, Array]:
        """The frames that are read, and (N, 1 + horizon, C, Y, X): the last of them and those that follow."""
        horizon = self.horizon if reset else self.model_.config["horizon"]
        samples: Frames = self._read_X(X, reset, prefix + "X")
        patch = self.patch_size
        if reset and (samples.shape[1] % patch or samples.shape[2] % patch):
            raise ValueError(
                f"{prefix}X: frames of {samples.shape[1]} x {samples.shape[2]} cannot be cut into patches of "
                f"patch_size={patch}"
            )
        if y is None:
            short = np.flatnonzero(samples.lengths <= horizon)
            if len(short):
                raise ValueError(
                    f"{prefix}X: sequence {short[0]} has {samples.lengths[short[0]]} frames. Without y the last "
                    f"horizon={horizon} are to be forecast, so at least {horizon + 1} are needed."
                )
            samples, following = samples.until(horizon)
        else:
            targets = FrameNetwork.read(y, prefix + "y", "float64" if reset else self.model_.dtype)
            check_count(len(targets.items), prefix + "y", len(samples.items), prefix + "X")
            for n, item in enumerate(targets.items):
                if item.shape != (horizon, *samples.shape):
                    raise ValueError(
                        f"{prefix}y: sequence {n} has shape {item.shape} (frames, channels, rows, columns), expected "
                        f"{(horizon, *samples.shape)} with horizon={horizon}"
                    )
            following = np.stack(list(targets.items)).astype(samples.last().dtype)
        everything = np.concatenate([samples.last()[:, None], following], axis=1)
        if self.loss == "cross_entropy":
            for n, item in enumerate(samples.items):
                low, high = min(item.min(), everything[n].min()), max(item.max(), everything[n].max())
                if low < 0 or high > 1:
                    raise ValueError(
                        f"{prefix}X, y: loss='cross_entropy' needs frames in [0, 1]; sequence {n} has values from "
                        f"{low:g} to {high:g}"
                    )
        return samples, everything

    def _make_network(self, samples: Frames, targets: Array, weights: Array | None, seed: int) -> FrameNetwork:
        channels, height, width = samples.shape
        config = {name: getattr(self, name) for name in self._architecture if name not in ("standardize", "precision")}
        config |= {"channels": channels, "height": height, "width": width, "dtype": self.precision}
        config = {name: int(value) if _is_integer(value) else str(value) for name, value in config.items()}
        FrameNetwork.shapes(config)
        network = FrameNetwork(config, seed)
        if self.standardize:
            used = [item for n, item in enumerate(samples.items) if weights is None or weights[n] > 0]
            count = sum(item.shape[0] for item in used) * height * width
            mean = sum(item.sum(axis=(0, 2, 3), dtype=np.float64) for item in used) / count
            centre = mean.reshape(-1, 1, 1)
            variance = sum(np.square(item - centre).sum(axis=(0, 2, 3), dtype=np.float64) for item in used) / count
            network.constants["mean"][:] = mean
            # A channel that never changes is left as it is.
            network.constants["scale"][:] = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 1)
        return network

    def _make_model(self, network: Any) -> LayerModel:
        return LayerModel(network)

    def _cost(self) -> float:
        config = self.model_.config
        patch, hidden = config["patch_size"], config["hidden_channels"]
        pixels = config["height"] * config["width"] / patch**2
        taps = config["kernel_size"] ** 2
        return float(8 * pixels * taps * hidden * (hidden + config["channels"] * patch**2) * config["num_layers"])

    def _restore_fitted(self, model: LayerModel, fitted: dict[str, Any]) -> None:
        super()._restore_fitted(model, fitted)
        wrong = [name for name, value in self._built.items() if model.config.get(name, value) != value]
        if wrong:
            raise ValueError(f"architecture: {', '.join(wrong)} differ from the network's")

    # --- using -------------------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """The `horizon` frames that follow each sequence: (N, horizon, C, Y, X), float64.

        X as for `fit`, every frame of it being the past; without an axis for C, forecasts have none either.
        """
        outputs = self._outputs(X)
        return self.model_.as_predictions(outputs)

    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Skill against persistence: 1 − MSE / MSE of repeating the last frame seen.

        1 for a perfect forecast, 0 for one no better than the last frame, negative for a worse one. Arguments as for
        `fit`, y None: the last `horizon` frames of X are what is forecast. Frames that never change give 0 for a
        forecast that is exact, else minus infinity.
        """
        from sklearn.utils.validation import check_is_fitted

        from ._validation import read_weights

        check_is_fitted(self, "model_")
        samples, targets = self._read(X, y, reset=False)
        weights = read_weights(sample_weight, len(targets), "sample_weight")
        self._use_threads()
        return self._score_outputs(self.model_.core.predict(samples), targets, weights)

    def _score_outputs(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        following = y[:, 1:].astype(np.float64)
        axes = tuple(range(1, following.ndim))
        error = np.square(outputs.reshape(following.shape) - following).mean(axis=axes)
        persistence = np.square(y[:, :1] - following).mean(axis=axes)
        total, reference = (float(np.average(each, weights=sample_weight)) for each in (error, persistence))
        if reference == 0.0:
            return 0.0 if total == 0.0 else float("-inf")
        return 1.0 - total / reference
