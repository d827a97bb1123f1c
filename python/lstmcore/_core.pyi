"""Compiled core. Arrays are checked here; no numerics happen in Python.

Shape letters: T time steps, N sequences, I input features, H hidden units, L layers, D directions (1 or 2), K outputs,
P parameters in all. Arrays of bool, integers, float16, float32 and float64 are converted to the dtype in use; ones that
have it already, C-contiguous, are used in place. Complex numbers, objects and text are a TypeError, shapes that do not
fit a ValueError; each names the argument. NaN and inf in x are not looked for.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[Any]
State = dict[str, Array]

__version__: str

class ModelFileError(ValueError):
    """A file that is truncated, inconsistent, or not an lstmcore model."""

def build_info() -> dict[str, Any]:
    """version, isa (in use), isas_built, isas_usable, openmp, cuda, eigen_version, compiler.

    RuntimeError when the environment variable LSTMCORE_ISA names an engine that does not exist or cannot run here.
    """

def cells() -> dict[str, dict[str, Any]]:
    """Name -> dict(gates, states: tuples of names; options: option -> allowed values, the default first; source)."""

@final
class Tape:
    """What forward(..., training=True) saves for backward(). It keeps the layer and the input alive."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each recorded sequence: (N,), a copy."""

@final
class Gradients:
    """What backward() returns."""

    @property
    def x(self) -> Any:
        """Gradient of x, in the form that x had: array (N, T, I), or list of arrays (T_i, I)."""
    @property
    def state(self) -> State:
        """Gradient of the initial state: name -> (L*D, N, H)."""
    @property
    def parameters(self) -> dict[str, Array]:
        """Gradient of each parameter, by name: views of one flat array (their .base)."""

@final
class Sequences:
    """N sequences in one dtype, checked, contiguous and kept alive.

    data: (N, T, features) array, or a list of (T_i, features) arrays; lengths: (N,) integers or None.
    Data of this dtype that is C-contiguous already is not copied: later changes of the caller's array show.
    """

    def __init__(
        self,
        data: ArrayLike | Sequence[ArrayLike] | Sequences,
        lengths: ArrayLike | None = None,
        dtype: DTypeLike = "float32",
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each sequence: (N,), a copy."""
    @property
    def features(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def subset(self, indices: ArrayLike) -> Sequences:
        """The named sequences, sharing memory. indices: integers (repeats allowed), or one bool for each sequence."""

class Recurrent:
    """A stack of recurrent layers. All methods may run at once from several threads; they release the GIL."""

    def __init__(
        self,
        cell: str = "lstm",
        input_size: int = ...,
        hidden_size: int = ...,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        n_threads: int | None = None,
        variational_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout_hidden: float = 0.0,
        zoneout_cell: float = 0.0,
        learn_initial_state: bool = False,
        reverse: bool = False,
        precision: str | None = None,
        **cell_options: bool | int | float | str,
    ) -> None:
        """input_size and hidden_size are required; cell options are those that cells() lists."""
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
    def reverse(self) -> bool: ...
    @property
    def dropout(self) -> float: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def n_threads(self) -> int | None:
        """Upper bound; may be set, but not while another thread uses the layer."""
    @n_threads.setter
    def n_threads(self, value: int | None) -> None: ...
    @property
    def precision(self) -> str:
        """Of products: "bfloat16", or the dtype."""
    @property
    def variational_dropout(self) -> float: ...
    @property
    def recurrent_dropout(self) -> float: ...
    @property
    def zoneout_hidden(self) -> float: ...
    @property
    def zoneout_cell(self) -> float: ...
    @property
    def learn_initial_state(self) -> bool: ...
    @property
    def cell_options(self) -> dict[str, bool | int | float | str]: ...
    @property
    def gates(self) -> tuple[str, ...]:
        """Order of the row blocks of W, R and b."""
    @property
    def states(self) -> tuple[str, ...]:
        """Keys of state dicts."""
    @property
    def parameters(self) -> dict[str, Array]:
        """Name -> writable view of the live weights: "W_l0", "R_l0", "b_l0", "W_l0_reverse", … A new dict each time."""
    def forward(
        self,
        x: ArrayLike | Sequence[ArrayLike] | Sequences,
        state: State | None = None,
        lengths: ArrayLike | None = None,
        training: bool = False,
        codes: ArrayLike | Sequence[ArrayLike] | None = None,
    ) -> Any:
        """(y, state), or (y, state, tape) with training=True.

        y: (N, T, D*H), zero past each length; or a list of (T_i, D*H) where x was a list. state: name -> (L*D, N, H).
        """
    def backward(self, tape: Tape, dy: Any, dstate: State | None = None) -> Gradients:
        """Gradients of a scalar loss; dy in y's form, None for zeros. A tape serves once.

        Weights and input must be as they were in forward().
        """
    def step(self, x: ArrayLike, state: State | None = None) -> tuple[Array, State]:
        """One step of N streams, D = 1: x (N, I) -> y (N, H) and a new state; the given one is not modified."""
    def init_state(self, N: int) -> State:
        """Zeros, or the learnt initial state: name -> (L*D, N, width of the state)."""

@final
class ConvTape:
    """What ConvRecurrent.forward(..., training=True) saves for backward(). It keeps the layer and the input alive."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each recorded sequence: (N,), a copy."""

class ConvRecurrent:
    """A stack of convolutional recurrent layers. All methods may run at once from several threads."""

    def __init__(
        self,
        cell: str = "lstm",
        channels: int = ...,
        hidden_channels: int = ...,
        height: int = ...,
        width: int = ...,
        kernel_size: int = 3,
        dilation: int = 1,
        num_layers: int = 1,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        """channels, hidden_channels, height and width are required."""
    @property
    def cell(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def hidden_channels(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def kernel_size(self) -> int: ...
    @property
    def dilation(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def n_threads(self) -> int | None:
        """Upper bound; may be set."""
    @n_threads.setter
    def n_threads(self, value: int | None) -> None: ...
    @property
    def gates(self) -> tuple[str, ...]:
        """Order of the row blocks of W, R and b."""
    @property
    def states(self) -> tuple[str, ...]:
        """Keys of state dicts."""
    @property
    def parameters(self) -> dict[str, Array]:
        """Name -> writable view of the live weights: "W_l0" (G*H, C, k, k), "R_l0", "b_l0", … A new dict each time."""
    def forward(
        self,
        x: ArrayLike | Sequence[ArrayLike],
        state: State | None = None,
        lengths: ArrayLike | None = None,
        training: bool = False,
    ) -> Any:
        """x: (N, T, C, Y, X), or a list of (T_i, C, Y, X). (y, state), or (y, state, tape) with training=True.

        y: (N, T, H, Y, X), zero past each length; or a list of (T_i, H, Y, X). state: name -> (L, N, H, Y, X).
        """
    def backward(self, tape: ConvTape, dy: Any, dstate: State | None = None, input_gradient: bool = True) -> Gradients:
        """Gradients of a scalar loss; dy in y's form, None for zeros. A tape serves once.

        Without input_gradient the gradient of x is left out (None), and its convolution saved.
        """
    def step(self, x: ArrayLike, state: State | None = None) -> tuple[Array, State]:
        """One step of N streams: x (N, C, Y, X) -> y (N, H, Y, X) and a new state; the given one is not modified."""
    def init_state(self, N: int) -> State:
        """Zeros: name -> (L, N, H, Y, X)."""

@final
class StreamState:
    """Streaming state of one stream, for Model.step()."""

    def reset(self) -> None:
        """Back to the start of a sequence."""
    def copy(self) -> StreamState:
        """A state of the same model that continues from here on its own."""

class Model:
    """config: dict(recurrent=dict(cell=…, input_size=…, …as Recurrent, cell_options=dict),
    pooling="last"|"mean"|"max"|"attention"|"hopfield"|"none", activation="identity"|"softmax", outputs=K).

    More of config: pooling_size (0: D*H) for attention and hopfield; pooling_patterns=1, pooling_beta (0.0:
    1/sqrt(size)), pooling_updates=1 for hopfield; head_sizes=[], head_activation="selu"|"relu"|"tanh",
    head_dropout=0.0; quantization='none' or 'dynamic_int8' (8-bit W and R, for prediction only).

    Several threads may predict at once; training and changes of weights need the model alone, and a call that comes
    meanwhile raises RuntimeError.
    """

    def __init__(self, config: dict[str, Any]) -> None: ...
    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration, defaults included: a new dict that Model() takes."""
    @property
    def gates(self) -> tuple[str, ...]: ...
    @property
    def parameters(self) -> dict[str, Array]:
        """Copies of the named tensors."""
    def get_weights(self) -> Array:
        """Copy of the flat parameter vector (P,)."""
    def set_weights(self, weights: ArrayLike) -> None:
        """Replaces all parameters, in the order of get_weights()."""
    def set_parameters(self, parameters: dict[str, Array]) -> None:
        """Replaces the tensors that the dict names; others keep their values. All or none are replaced."""
    @property
    def preprocessing(self) -> dict[str, NDArray[np.float64]]:
        """Copies: input_mean, input_scale (I,); output_mean, output_scale (K,)."""
    def set_preprocessing(
        self, input_mean: ArrayLike, input_scale: ArrayLike, output_mean: ArrayLike, output_scale: ArrayLike
    ) -> None:
        """x -> (x - input_mean) * input_scale; identity heads: the inverse of y -> (y - output_mean) * output_scale."""
    def predict(
        self,
        x: Sequences | ArrayLike | Sequence[ArrayLike],
        lengths: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> Any:
        """(N, K): probabilities for a softmax head, numbers for an identity head.

        With pooling "none" outputs at every step: (N, T, K) for an array, a list of (T_i, K) for everything else.
        """
    def make_state(self) -> StreamState: ...
    def step(self, x: ArrayLike, state: StreamState) -> Array:
        """One step of one stream: x (I,) → (K,); state is updated in place."""
    def try_step(self, x: object, state: StreamState) -> Array | None:
        """step(); None unless x is a C-contiguous array (I,) of the model's dtype, all finite."""
    @staticmethod
    def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name that a model of this configuration has, without making it."""
    @property
    def metadata(self) -> dict[str, str]:
        """Texts that the file carried beside the network: a new dict."""
    def save(self, path: str | PathLike[str], metadata: dict[str, str] | None = None) -> None:
        """Writes the model file atomically; metadata: texts kept beside the network, by default those in metadata."""
    @staticmethod
    def load(path: str | PathLike[str]) -> Model:
        """ModelFileError for anything that is not a whole, consistent model; OSError when the file cannot be read."""

@final
class Trainer:
    """options: the fields of lstmcore::TrainerConfig by name; loss in "cross_entropy", "squared", "absolute", "huber",
    "quantile", "gaussian";
    solver in "sgd", "rmsprop", "adam", "adamw"; schedule in "constant", "step", "cosine", "plateau".

    Keeps the model alive, and needs it alone while a method runs. In the main thread Ctrl-C stops training after the
    mini-batch at hand and raises KeyboardInterrupt; the weights are those after the last whole mini-batch.
    """

    def __init__(self, model: Model, options: dict[str, Any]) -> None: ...
    def run_epoch(self, x: Sequences, y: ArrayLike, weights: ArrayLike | None = None) -> dict[str, Any]:
        """y: (N,) class indices for cross_entropy, else (N, K) numbers in original units; weights (N,), each >= 0.

        Returns dict(loss, learning_rate, sequences, interrupted). GIL released.
        """
    def step(self, x: Sequences, y: ArrayLike, weights: ArrayLike | None = None) -> float:
        """One optimiser step on exactly these sequences; their mean loss before it."""
    def evaluate(self, x: Sequences, y: ArrayLike, weights: ArrayLike | None = None) -> float:
        """Mean loss without dropout and penalty; no update."""
    def gradient(self, x: Sequences, y: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, dict[str, Array]]:
        """Loss and gradient of one batch, by parameter name; no update."""
    def report(self, monitored: float) -> None:
        """The quantity that the plateau schedule watches (lower is better), once an epoch."""
    def set_mask(self, masks: dict[str, NDArray[np.bool_]] | None) -> None:
        """Fixes weights at zero where a mask is False, now and after every further step; None: all are free."""

@final
class TreeTape:
    """What TreeRecurrent.forward(..., training=True) saves for backward(). It keeps the layer alive."""

    @property
    def nodes(self) -> int:
        """M of the recorded forest."""

@final
class TreeGradients:
    """What TreeRecurrent.backward() returns."""

    @property
    def x(self) -> Array:
        """Gradient of x: (M, I)."""
    @property
    def parameters(self) -> dict[str, Array]:
        """Gradient of each parameter, by name: views of one flat array (their .base)."""

class TreeRecurrent:
    """A tree-LSTM (Tai, Socher & Manning 2015) over a forest of M nodes.

    All methods may run at once from several threads; they release the GIL.
    """

    def __init__(
        self,
        kind: str = "child_sum",
        input_size: int = ...,
        hidden_size: int = ...,
        arity: int | None = None,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        """input_size and hidden_size are required, and with kind "nary" arity."""
    @property
    def kind(self) -> str: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def arity(self) -> int | None: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def n_threads(self) -> int | None:
        """May be set, but not while another thread runs this layer."""
    @n_threads.setter
    def n_threads(self, value: int | None) -> None: ...
    @property
    def gates(self) -> tuple[str, ...]:
        """Order of the row blocks of W and b: i, f, u, o."""
    @property
    def parameters(self) -> dict[str, Array]:
        """Name -> writable view of the live weights: "W", "U", "b". A new dict each time."""
    def forward(
        self, x: ArrayLike, parents: ArrayLike, positions: ArrayLike | None = None, training: bool = False
    ) -> Any:
        """(h, state), or (h, state, tape) with training=True: h (M, H) of every node, state "h" and "c".

        x: (M, I); parents: (M,) integers, -1 for a root; positions: (M,) among siblings, -1 for a root.
        """
    def backward(self, tape: TreeTape, dh: ArrayLike | None, dc: ArrayLike | None = None) -> TreeGradients:
        """Gradients of a scalar loss; dh, dc (M, H), None for zeros. A tape serves once."""

class Optimiser:
    """What Trainer does with a gradient, for weights that live in arrays.

    config: those options of Trainer that concern a step; parameters: float32 or float64, C-contiguous, writable,
    updated in place. alpha and max_norm apply to arrays of two or more axes, the first of which counts units, but not
    to "P_…".
    """

    def __init__(self, config: dict[str, Any], parameters: dict[str, Array]) -> None: ...
    def step(self, gradients: dict[str, Array]) -> float:
        """Clips, adds noise, updates, bounds rows; the gradient's norm before clipping.

        gradients: one for each parameter, without the penalty. RuntimeError "… NaN or infinite …" leaves all as it was.
        """
    def penalty(self) -> float:
        """½·alpha·Σw², which belongs to the loss; 0 for adamw."""
    @property
    def learning_rate(self) -> float:
        """Of the epoch that runs now."""
    @property
    def steps(self) -> int:
        """Steps done."""
    def epoch_finished(self) -> None:
        """Moves the schedule on."""
    def report(self, monitored: float) -> None:
        """The quantity that the plateau schedule watches (lower is better), once an epoch."""

def write_tensors(path: str | PathLike[str], tensors: dict[str, Array], metadata: dict[str, str]) -> None:
    """Writes one safetensors file, atomically; arrays of float32 or float64, finite, not empty.

    OSError where the folder cannot be written to; "format", "format_version", "lstmcore_version" and "checksum" are the
    file's own.
    """

def read_tensors(path: str | PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata of a file of write_tensors().

    ModelFileError for anything else, OSError when it cannot be read.
    """

def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """Metadata of any safetensors file, "format" and the like included; nothing else is looked at."""

def dense_forward(x: ArrayLike, W: Array, b: ArrayLike, n_threads: int | None = None) -> Array:
    """x Wᵀ + b: x (..., H), W (K, H), whose dtype is that of everything."""

def dense_backward(x: ArrayLike, W: Array, dy: ArrayLike, n_threads: int | None = None) -> tuple[Array, Array, Array]:
    """(dx, dW, db) of dense_forward."""

def embed(table: Array, codes: ArrayLike) -> Array:
    """table (V, E), codes (R,) integers in 0 … V-1 -> (R, E)."""

def embed_backward(codes: ArrayLike, d_rows: Array, symbols: int, n_threads: int | None = None) -> Array:
    """Gradient (symbols, E) of the table: each symbol's sum of d_rows (R, E), in their order."""

def softmax_loss(
    x: ArrayLike,
    W: Array,
    b: ArrayLike,
    labels: ArrayLike,
    scale: float = 1.0,
    gradient: bool = True,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], Any, Any, Any]:
    """(losses (R,), dx, dW, db): -log softmax(x Wᵀ + b)[label] of each row, gradients of scale times their sum."""

def sampled_softmax_loss(
    x: ArrayLike,
    W: Array,
    b: ArrayLike,
    labels: ArrayLike,
    samples: ArrayLike,
    log_expected: ArrayLike,
    label_log_expected: ArrayLike,
    scale: float = 1.0,
    gradient: bool = True,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], Any, Any, Any]:
    """The same over each row's label and distinct samples (S,), scores lowered by the log of the expected draws."""

def log_probabilities(
    x: Array, output: Sequence[tuple[Array | None, Array, Array]], n_threads: int | None = None
) -> Array:
    """x (R, H) -> log p (R, V); output: (projection or None, W, b), several for an adaptive softmax."""

def generate(
    layer: Recurrent,
    table: Array,
    output: Sequence[tuple[Array | None, Array, Array]],
    first: ArrayLike,
    state: dict[str, Array],
    length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    forbidden: ArrayLike = (),
    stops: list[Any] = [],
) -> tuple[list[NDArray[np.int32]], dict[str, Array]]:
    """Symbols drawn one after another for N texts, and the states after them."""

@final
class DecoderTape:
    """What decode(..., training=True) saves for decode_backward()."""

def decode(
    layer: Recurrent,
    weights: Mapping[str, Array],
    tokens: ArrayLike,
    lengths: ArrayLike,
    attention: str | None = None,
    values: ArrayLike | None = None,
    keys: ArrayLike | None = None,
    source_lengths: ArrayLike | None = None,
    input_feeding: bool = False,
    state: Mapping[str, ArrayLike] | None = None,
    output: ArrayLike | None = None,
    owners: ArrayLike | None = None,
    sample: ArrayLike | None = None,
    want_weights: bool = False,
    training: bool = False,
) -> dict[str, Any]:
    """Runs a Recurrent as a decoder with attention: "outputs" (N, T, P), "state", "tokens", and "weights" and "tape".

    weights: "table" (V, M), "output" (P, E + P), "query" (A, P), "score" (A,), "head_W" (V, P), "head_b" (V,), those
    that are needed; tokens (N, T); values (N, S, E); keys (N, S, A).
    """

def decode_backward(tape: DecoderTape, d_outputs: ArrayLike) -> dict[str, Any]:
    """Gradients of "layers" and "state" by name, and of "table", "output", "query", "score", "values" and "keys"."""

def crf_loss(
    emissions: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike,
    transitions: Array,
    start: ArrayLike,
    end: ArrayLike,
    lengths: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    gradient: bool = True,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], Any]:
    """(losses (N,), gradient of their sum): dict of 'emissions', 'transitions', 'start', 'end', or None.

    emissions (N, T, K) or list of (T_i, K); labels and weights: of all steps, one sequence after the other; minus
    infinity in transitions (K, K), start or end (K,) forbids.
    """

def crf_marginals(
    emissions: ArrayLike | Sequence[ArrayLike],
    transitions: Array,
    start: ArrayLike,
    end: ArrayLike,
    lengths: ArrayLike | None = None,
    n_threads: int | None = None,
) -> tuple[Any, NDArray[np.float64]]:
    """(probability of each label at each step in the emissions' form, log partition function (N,))."""

def crf_decode(
    emissions: ArrayLike | Sequence[ArrayLike],
    transitions: Array,
    start: ArrayLike,
    end: ArrayLike,
    lengths: ArrayLike | None = None,
    n_threads: int | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """(labels of all steps, one sequence after the other; scores (N,) of these paths)."""

def ctc_loss(
    logits: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike,
    counts: ArrayLike,
    blank: int = 0,
    lengths: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    gradient: bool = True,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], Any]:
    """(losses (N,), gradient of their sum in the logits' form, or None); counts (N,): labels of each sequence."""

def ctc_greedy(
    logits: ArrayLike | Sequence[ArrayLike], blank: int = 0, lengths: ArrayLike | None = None
) -> list[NDArray[np.int32]]:
    """The most probable output of each step, repeats merged and blanks dropped."""

def ctc_beam(
    logits: ArrayLike | Sequence[ArrayLike],
    blank: int = 0,
    width: int = 16,
    score: Callable[[tuple[int, ...], int], float] | None = None,
    lengths: ArrayLike | None = None,
) -> list[list[tuple[NDArray[np.int32], float]]]:
    """Prefix beam search: for each sequence (labels, score), the best first."""

class EdgeState:
    """State and scratch of one stream of an EdgeModel."""

    def reset(self) -> None:
        """Back to the start of a sequence."""
    def copy(self) -> EdgeState:
        """An independent state at the same point."""
    def bytes(self) -> bytes:
        """All that outlives a step, as a device has it in memory."""

class EdgeModel:
    """A quantised network, run by the C99 runtime that a device runs, bit for bit.

    program: `lstmcore.edge.program.Program.fields()`. ValueError or TypeError for anything in it that the runtime
    cannot rely on: shapes, ranges, sums that could overflow.
    """

    def __init__(self, program: dict[str, Any]) -> None: ...
    def run(self, x: Any, lengths: ArrayLike | None = None, n_threads: int | None = None) -> Array:
        """Outputs (N, K), with pooling "none" (ΣT_i, K), int32 or float32 of whole sequences as measured."""
    def quantise(self, x: ArrayLike) -> Array:
        """Rows of features as measured (M, I) to the activations (M, I) that the network reads."""
    def make_state(self) -> EdgeState: ...
    def step(self, x: ArrayLike, state: EdgeState) -> Array:
        """One time step: x (I,) as measured, outputs (K,) for the sequence so far."""
    @property
    def memory(self) -> dict[str, int]:
        """Bytes that a device needs: "state", "scratch", "buffer_per_step"."""
