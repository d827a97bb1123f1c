"""The recurrent layer: `_core.Recurrent` and its exchange of weights with PyTorch.

Shape letters: T time steps, N sequences, I input features, H hidden units, G gates, L layers, D directions.

PyTorch's layers have the same rows in the same order as ours (LSTM: i, f, g, o), so weights move unchanged except for
the bias: PyTorch adds two, `bias_ih` and `bias_hh`, where one says the same. Reading adds them; writing puts the bias
into `bias_ih` and zeros into `bias_hh`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = ["Recurrent"]

Array = NDArray[Any]

_SUPPORTED = "torch.nn.LSTM and torch.nn.RNN (nonlinearity 'tanh' or 'relu')"
_NONLINEARITIES = ("tanh", "relu")
# Field `mode` of PyTorch's modules → cell, nonlinearity.
_MODES: dict[str, tuple[str, str | None]] = {
    "LSTM": ("lstm", None),
    "RNN_TANH": ("elman", "tanh"),
    "RNN_RELU": ("elman", "relu"),
}
_CELL_OF_GATES = {4: "lstm", 1: "elman"}
# Tensors of PyTorch whose sum is ours, by kind; the first receives ours in to_torch, the second zeros.
_TORCH_KINDS = {"W": ("weight_ih",), "R": ("weight_hh",), "b": ("bias_ih", "bias_hh")}
_KEY = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)_l(\d+)(_reverse)?")


class Recurrent(_core.Recurrent):
    """A stack of recurrent layers with forward, backward and streaming step.

    Parameters
    ----------
    cell : str, default "lstm"
        One of `lstmcore.cells()`.
    input_size, hidden_size : int
        I and H.
    num_layers : int, default 1
        L; every layer but the first reads all D·H outputs of the one below.
    bidirectional : bool, default False
        Whether a second set of weights reads each sequence from its end; outputs are concatenated (D = 2).
    dropout : float in [0, 1), default 0.0
        On the outputs of every layer but the last, in passes with ``training=True`` (Zaremba et al., 2014).
    dtype : {"float32", "float64"}, default "float32"
        Of weights, inputs, outputs and states.
    seed : int, default 0
        Of the initial weights and of dropout.
    n_threads : int or None
        Upper bound; None follows OMP_NUM_THREADS, else all cores. Results do not depend on it.
    **cell_options
        Options of the cell, e.g. ``nonlinearity="relu"`` for "elman"; see `lstmcore.cells()`.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Views of the live weights: "W_l0" (G·H, I), "R_l0" (G·H, H), "b_l0" (G·H,), then "W_l0_reverse", … and "W_l1", …
    gates : tuple of str
        Order of the row blocks of W, R and b.

    Examples
    --------
    >>> import numpy as np, lstmcore
    >>> layer = lstmcore.Recurrent("lstm", input_size=3, hidden_size=8)
    >>> y, state = layer.forward(np.ones((2, 5, 3), dtype="float32"))
    >>> y.shape, state["c"].shape
    ((2, 5, 8), (1, 2, 8))
    """

    @classmethod
    def from_torch(
        cls,
        module_or_state_dict: Any,
        *,
        prefix: str = "",
        nonlinearity: str | None = None,
        dropout: float | None = None,
        dtype: str | None = None,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> Recurrent:
        """A layer with the weights of a PyTorch layer; PyTorch itself is not needed for a dict of NumPy arrays.

        Parameters
        ----------
        module_or_state_dict : torch.nn.LSTM, torch.nn.RNN or mapping of str to tensor or ndarray
            Sizes, layers and directions are read from the weights. ``bias=False`` becomes a bias of zeros, and
            ``batch_first`` does not matter: it says how PyTorch reads its input, ours is always (N, T, I).
        prefix : str, default ""
            Only entries of a mapping whose name starts with this are read, e.g. ``"encoder.lstm."``.
        nonlinearity : {"tanh", "relu"}, optional
            Needed for a mapping with the weights of an nn.RNN, which does not say it; otherwise omit it.
        dropout : float, optional
            Default: the module's; 0 for a mapping.
        dtype : {"float32", "float64"}, optional
            Default: that of the weights. Needed for weights of any other type (float16, bfloat16).
        seed, n_threads
            As in the constructor; the seed is that of dropout only.

        Raises
        ------
        TypeError
            When what came is neither a supported module nor a mapping.
        ValueError
            For GRU weights and projections (`proj_size`), which this version does not have; for missing, unknown or
            wrongly shaped entries; and for arguments that contradict the weights.
        """
        source = module_or_state_dict
        mode: str | None = None
        if isinstance(source, Mapping):
            named = {key[len(prefix) :]: value for key, value in source.items() if key.startswith(prefix)}
            if not named:
                raise ValueError(
                    f"prefix: no entry of the state_dict starts with {prefix!r}; it has {_listing(source)}"
                )
        else:
            mode = _mode_of(source)
            if prefix:
                raise ValueError(f"prefix={prefix!r} selects entries of a state_dict, but a module was given; omit it")
            named = dict(source.state_dict())
            if dropout is None:
                dropout = float(source.dropout)
        layers, bidirectional = _check_keys(named, with_prefix_hint=not prefix)
        cell, input_size, hidden_size = _sizes(named)
        if mode is not None:
            nonlinearity = _agree(nonlinearity, mode)
        arrays = {key: _to_numpy(value) for key, value in named.items()}
        dtype = _dtype_of(arrays, named, dtype)
        options: dict[str, str] = {}
        if cell == "elman":
            if nonlinearity not in _NONLINEARITIES:
                raise ValueError(
                    f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}; "
                    "the weights of an nn.RNN do not say which one it uses"
                )
            options["nonlinearity"] = nonlinearity
        elif nonlinearity is not None and mode is None:
            raise ValueError(
                f"nonlinearity={nonlinearity!r} applies to nn.RNN, but these are weights of an LSTM; omit it"
            )
        layer = cls(
            cell,
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=layers,
            bidirectional=bidirectional,
            dropout=0.0 if dropout is None else dropout,
            dtype=dtype,
            seed=seed,
            n_threads=n_threads,
            **options,
        )
        for name, weight in layer.parameters.items():
            kind, suffix = name.split("_", 1)
            total = np.zeros(weight.shape)
            for torch_kind in _TORCH_KINDS[kind]:
                value = arrays.get(f"{torch_kind}_{suffix}", total)  # absent: bias=False
                if value.shape != weight.shape:
                    raise ValueError(f"{torch_kind}_{suffix}: expected shape {weight.shape}, got {value.shape}")
                total = total + value
            weight[...] = total
        return layer

    def to_torch(self) -> Any:
        """A torch.nn.LSTM or torch.nn.RNN with these weights and ``batch_first=True``.

        Our bias goes into ``bias_ih``, zeros into ``bias_hh``. Dropout is kept. Later changes on one side do not
        reach the other.

        Raises
        ------
        ImportError
            Without PyTorch.
        ValueError
            For a cell or an option that PyTorch does not have.
        """
        try:
            torch: Any = importlib.import_module("torch")
        except ImportError as error:
            raise ImportError("to_torch() needs PyTorch; install it, e.g. with 'pip install torch'") from error
        options = dict(self.cell_options)
        extra: dict[str, Any] = {}
        if self.cell == "elman":
            extra["nonlinearity"] = options.pop("nonlinearity", "tanh")
        if self.cell not in ("lstm", "elman") or options:
            described = f"cell {self.cell!r}" + (f" with {options}" if options else "")
            raise ValueError(f"to_torch: PyTorch has no layer for {described}; it has lstm and elman")
        # PyTorch warns about dropout on a single layer, where it does nothing.
        module = (torch.nn.LSTM if self.cell == "lstm" else torch.nn.RNN)(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            batch_first=True,
            bidirectional=self.bidirectional,
            dropout=self.dropout if self.num_layers > 1 else 0.0,
            dtype=getattr(torch, self.dtype.name),
            **extra,
        )
        with torch.no_grad():
            for name, weight in self.parameters.items():
                kind, suffix = name.split("_", 1)
                first, *others = _TORCH_KINDS[kind]
                getattr(module, f"{first}_{suffix}").copy_(torch.from_numpy(np.array(weight)))
                for other in others:
                    getattr(module, f"{other}_{suffix}").zero_()
        return module


def _listing(names: Mapping[str, Any], limit: int = 8) -> str:
    """The first names, for error messages."""
    shown = [repr(name) for name in list(names)[:limit]]
    return ", ".join(shown) + (f" and {len(names) - limit} more" if len(names) > limit else "") if shown else "none"


def _mode_of(module: Any) -> str:
    """`mode` of a PyTorch recurrent module that can be read; anything else is an error saying what to pass."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    if not callable(getattr(module, "state_dict", None)):
        raise TypeError(f"module_or_state_dict: expected {_SUPPORTED} or a state_dict of one, got {kind}")
    mode = getattr(module, "mode", None)
    if mode == "GRU":
        raise ValueError("module_or_state_dict: gru is not available in this version; " + f"available: {_SUPPORTED}")
    if mode not in _MODES:
        raise TypeError(
            f"module_or_state_dict: expected {_SUPPORTED}, got {kind}; "
            "pass the recurrent layer itself, or a state_dict with prefix="
        )
    return str(mode)


def _agree(nonlinearity: str | None, mode: str) -> str | None:
    """The nonlinearity of a module, refusing one that was given and differs."""
    own = _MODES[mode][1]
    if nonlinearity is not None and nonlinearity != own:
        described = "an LSTM" if own is None else f"an nn.RNN with {own!r}"
        raise ValueError(f"nonlinearity={nonlinearity!r} contradicts the module, which is {described}; omit it")
    return own


def _check_keys(named: Mapping[str, Any], with_prefix_hint: bool) -> tuple[int, bool]:
    """Number of layers and whether bidirectional; every entry must be there and nothing else."""
    if any(key.startswith("weight_hr_") for key in named):
        raise ValueError("proj_size: LSTM with projection is not available in this version; got entries 'weight_hr_l…'")
    unknown = [key for key in named if _KEY.fullmatch(key) is None]
    if unknown:
        hint = "; name the part to read with prefix=" if with_prefix_hint else ""
        raise ValueError(
            f"module_or_state_dict: entries {_listing(dict.fromkeys(unknown))} are not of {_SUPPORTED}{hint}"
        )
    for key, value in named.items():
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            raise TypeError(f"{key}: expected a tensor or an ndarray, got {type(value).__qualname__}")
    matches = [match for key in named if (match := _KEY.fullmatch(key))]
    if not matches:
        raise ValueError(f"module_or_state_dict: no weights in it; expected those of {_SUPPORTED}")
    layers = 1 + max(int(match[2]) for match in matches)
    bidirectional = any(match[3] for match in matches)
    biased = any(match[1].startswith("bias") for match in matches)
    kinds = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if biased else [])
    suffixes = ["", "_reverse"] if bidirectional else [""]
    for layer in range(layers):  # stops at the first hole, so a huge layer number in a key costs nothing
        for suffix in suffixes:
            for kind in kinds:
                if f"{kind}_l{layer}{suffix}" not in named:
                    raise ValueError(f"module_or_state_dict: entry '{kind}_l{layer}{suffix}' is missing")
    if len(named) != layers * len(suffixes) * len(kinds):
        raise ValueError(f"module_or_state_dict: a layer number is written twice in {_listing(named)}")
    return layers, bidirectional


def _sizes(named: Mapping[str, Any]) -> tuple[str, int, int]:
    """Cell, I and H from the shapes of the first layer's weights."""
    shapes = {key: tuple(int(extent) for extent in named[key].shape) for key in ("weight_ih_l0", "weight_hh_l0")}
    for key, shape in shapes.items():
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{key}: expected a matrix, got shape {shape}")
    rows, hidden = shapes["weight_hh_l0"]
    gates, rest = divmod(rows, hidden)
    if gates == 3 and rest == 0:
        raise ValueError("weight_hh_l0: 3·H rows are a GRU's; gru is not available in this version")
    if rest or gates not in _CELL_OF_GATES:
        raise ValueError(
            f"weight_hh_l0: expected (4·H, H) for an LSTM or (H, H) for an nn.RNN, got shape {shapes['weight_hh_l0']}"
        )
    return _CELL_OF_GATES[gates], shapes["weight_ih_l0"][1], hidden


def _to_numpy(value: Any) -> Array:
    """An array from an ndarray or a tensor on any device; types NumPy lacks come as float32."""
    if isinstance(value, np.ndarray):
        return value
    tensor = value.detach().cpu()
    return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())


def _dtype_of(arrays: Mapping[str, Array], named: Mapping[str, Any], dtype: str | None) -> str:
    """The element type asked for, else that of the weights, which must then be one that we compute in."""
    for key, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{key}: expected floating-point weights, got {named[key].dtype}")
    if dtype is not None:
        return dtype  # the constructor checks it
    found = sorted({str(value.dtype).removeprefix("torch.") for value in named.values()})
    if len(found) != 1 or found[0] not in ("float32", "float64"):
        raise ValueError(
            f"dtype: the weights are {' and '.join(found)}; pass dtype='float32' or dtype='float64' to convert them"
        )
    return found[0]
