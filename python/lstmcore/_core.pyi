"""Compiled core. Arrays are checked here; no numerics happen in Python."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
State = dict[str, Array]

__version__: str

class ModelFileError(ValueError): ...

def build_info() -> dict[str, Any]: ...
def cells() -> dict[str, dict[str, Any]]: ...

@final
class Tape:
    @property
    def lengths(self) -> Array: ...

@final
class Gradients:
    x: Array | list[Array]
    state: State
    parameters: dict[str, Array]

@final
class Sequences:
    """N sequences in one dtype, checked, contiguous and kept alive.

    data: (N, T, features) array, or a list of (T_i, features) arrays; lengths: (N,) integers or None.
    """

    def __init__(self, data: Array | Sequence[Array], lengths: ArrayLike | None = None, dtype: str = "float32") -> None: ...
    def __len__(self) -> int: ...
    @property
    def lengths(self) -> NDArray[np.int64]: ...
    @property
    def features(self) -> int: ...
    def subset(self, indices: ArrayLike) -> Sequences:
        """The named sequences, sharing memory."""

class Recurrent:
    def __init__(
        self,
        cell: str = "lstm",
        input_size: int = ...,
        hidden_size: int = ...,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dtype: str = "float32",
        seed: int = 0,
        n_threads: int | None = None,
        **cell_options: bool | int | float | str,
    ) -> None: ...
    @property
    def cell(self) -> str: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def bidirectional(self) -> bool: ...
    @property
    def dropout(self) -> float: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def n_threads(self) -> int | None: ...
    @property
    def cell_options(self) -> dict[str, bool | int | float | str]: ...
    @property
    def gates(self) -> tuple[str, ...]: ...
    @property
    def states(self) -> tuple[str, ...]: ...
    @property
    def parameters(self) -> dict[str, Array]: ...
    def forward(
        self,
        x: ArrayLike | Sequence[Array],
        state: State | None = None,
        lengths: ArrayLike | None = None,
        training: bool = False,
    ) -> Any: ...
    def backward(self, tape: Tape, dy: Any, dstate: State | None = None) -> Gradients: ...
    def step(self, x: ArrayLike, state: State | None = None) -> tuple[Array, State]: ...
    def init_state(self, N: int) -> State: ...

@final
class StreamState:
    def reset(self) -> None: ...
    def copy(self) -> StreamState: ...

class Model:
    """config: dict(recurrent=dict(cell=…, input_size=…, …as Recurrent, cell_options=dict),
    pooling="last"|"mean"|"max", activation="identity"|"softmax", outputs=K)."""

    def __init__(self, config: dict[str, Any]) -> None: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def gates(self) -> tuple[str, ...]: ...
    @property
    def parameters(self) -> dict[str, Array]:
        """Copies of the named tensors."""
    def get_weights(self) -> Array:
        """Copy of the flat parameter vector."""
    def set_weights(self, weights: Array) -> None: ...
    def set_parameters(self, parameters: dict[str, Array]) -> None: ...
    @property
    def preprocessing(self) -> dict[str, NDArray[np.float64]]:
        """input_mean, input_scale [I]; output_mean, output_scale [K]."""
    def set_preprocessing(self, input_mean: ArrayLike, input_scale: ArrayLike, output_mean: ArrayLike, output_scale: ArrayLike) -> None: ...
    def predict(self, x: Sequences | ArrayLike | Sequence[Array], lengths: ArrayLike | None = None, n_threads: int | None = None) -> Array:
        """(N, K): probabilities for a softmax head, numbers for an identity head."""
    def make_state(self) -> StreamState: ...
    def step(self, x: ArrayLike, state: StreamState) -> Array:
        """One step of one stream: x (I,) → (K,); state is updated in place."""
    @property
    def metadata(self) -> dict[str, str]: ...
    def save(self, path: str, metadata: dict[str, str] | None = None) -> None: ...
    @staticmethod
    def load(path: str) -> Model: ...

@final
class Trainer:
    """options: the fields of lstmcore::TrainerConfig by name; loss in "cross_entropy", "squared", "absolute", "huber";
    solver in "sgd", "rmsprop", "adam", "adamw"; schedule in "constant", "step", "cosine", "plateau"."""

    def __init__(self, model: Model, options: dict[str, Any]) -> None: ...
    def run_epoch(self, x: Sequences, y: Array, weights: Array | None = None) -> dict[str, Any]:
        """y: (N,) int32 class indices for cross_entropy, else (N, K) float64 in original units; weights (N,) float64.
        Returns dict(loss, learning_rate, sequences, interrupted); on Ctrl-C interrupted is True and the
        pending KeyboardInterrupt is raised by the caller's next bytecode. GIL released."""
    def step(self, x: Sequences, y: Array, weights: Array | None = None) -> float: ...
    def evaluate(self, x: Sequences, y: Array, weights: Array | None = None) -> float:
        """Mean loss without dropout; no update."""
    def gradient(self, x: Sequences, y: Array, weights: Array | None = None) -> tuple[float, dict[str, Array]]: ...
    def report(self, monitored: float) -> None: ...
