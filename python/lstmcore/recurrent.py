"""The recurrent layer: `_core.Recurrent`, and its exchange of weights with PyTorch, Keras and ONNX (`interchange`).

Shape letters: T time steps, N sequences, I input features, H hidden units, P width of h (H without projection),
G gates, L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from . import _core

__all__ = ["Recurrent"]


class Recurrent(_core.Recurrent):
    """A stack of recurrent layers with forward, backward and streaming step.

    Parameters
    ----------
    cell : str, default "lstm"
        One of `lstmcore.cells()`.
    input_size, hidden_size : int
        I and H.
    num_layers : int, default 1
        L; every layer but the first reads all D·P outputs of the one below.
    bidirectional : bool, default False
        Whether a second set of weights reads each sequence from its end; outputs are concatenated (D = 2).
    dropout : float in [0, 1), default 0.0
        On the outputs of every layer but the last, in passes with ``training=True`` (Zaremba et al., 2014).
    variational_dropout : float in [0, 1), default 0.0
        On each layer's input and on h where it enters R, one mask a sequence for all its steps, with ``training=True``
        (Gal & Ghahramani, 2016).
    recurrent_dropout : float in [0, 1), default 0.0
        On the candidate of each step, with ``training=True`` (Semeniuta, Severyn & Barth, 2016).
    zoneout_hidden, zoneout_cell : float in [0, 1), default 0.0
        Probability that a unit's h, or its other states, keep their value of the step before; outside training their
        expectation (Krueger et al., 2017).
    learn_initial_state : bool, default False
        Adds parameters "h0_l0", … that sequences start from where no state is given.
    dtype : {"float32", "float64"}, default "float32"
        Of weights, inputs, outputs and states.
    precision : {None, "bfloat16"}, default None
        "bfloat16": what the products of weights with inputs, states and gradients read is rounded to 8 significant
        bits; sums, states and the weights themselves stay float32 (docs/bfloat16.md). Not with dtype "float64", the
        cells "mlstm" and "xlstm", and gates that feed back. None, or the name of the dtype: nothing is rounded.
    seed : int, default 0
        Of the initial weights and of dropout.
    n_threads : int or None
        Upper bound; None follows OMP_NUM_THREADS, else all cores. Results do not depend on it.
    **cell_options
        Options of the cell, e.g. ``nonlinearity="relu"`` for "elman"; see `lstmcore.cells()`.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Views of the live weights: "W_l0" (G·H, I), "R_l0" (G·H, P), "b_l0" (G·H,), then what else the cell has
        (docs/cells.md), "W_l0_reverse", … and "W_l1", …
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
        **regularisers: Any,
    ) -> Recurrent:
        """A layer with the weights of a PyTorch layer; PyTorch itself is not needed for a dict of NumPy arrays.

        Parameters
        ----------
        module_or_state_dict : torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN or mapping of str to tensor or ndarray
            Sizes, layers, directions and projection are read from the weights, and so is the cell: four gates are an
            LSTM, three a GRU, one an RNN. ``bias=False`` becomes a bias of zeros, and ``batch_first`` does not matter:
            it says how PyTorch reads its input, ours is always (N, T, I).
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
        **regularisers
            variational_dropout, recurrent_dropout, zoneout_hidden, zoneout_cell or learn_initial_state, for the
            constructor.

        Raises
        ------
        TypeError
            When what came is neither a supported module nor a mapping.
        ValueError
            For missing, unknown or wrongly shaped entries, and for arguments that contradict the weights.
        """
        from .interchange import torch

        return torch.read(
            cls,
            module_or_state_dict,
            prefix=prefix,
            nonlinearity=nonlinearity,
            dropout=dropout,
            dtype=dtype,
            seed=seed,
            n_threads=n_threads,
            regularisers=regularisers,
        )

    def to_torch(self) -> Any:
        """A torch.nn.LSTM, torch.nn.GRU or torch.nn.RNN with these weights and ``batch_first=True``.

        PyTorch has two biases for each gate. A GRU's are ours, `b` and `bR`; elsewhere our bias goes into ``bias_ih``,
        zeros into ``bias_hh``. Dropout is kept. Later changes on one side do not reach the other.

        Raises
        ------
        ImportError
            Without PyTorch.
        ValueError
            For a cell, an option or a regulariser that PyTorch does not have.
        """
        from .interchange import torch

        return torch.write(self)

    @classmethod
    def from_keras(
        cls,
        layer_or_config: Any,
        weights: Sequence[Any] | None = None,
        *,
        dropout: float = 0.0,
        dtype: str | None = None,
        seed: int = 0,
        n_threads: int | None = None,
        **regularisers: Any,
    ) -> Recurrent:
        """A layer with the weights of Keras layers; Keras itself is not needed for configs and arrays.

        Parameters
        ----------
        layer_or_config : Keras layer, dict, or list of either
            LSTM, GRU (reset_after True or False), SimpleRNN (tanh or relu), or Bidirectional (merge_mode "concat")
            around one of them; a list is a stack from bottom to top, all alike. A layer is anything that has
            ``get_config()`` and ``get_weights()``, of any Keras version or backend; a dict is what ``get_config()`` or
            ``keras.layers.serialize()`` returned.
        weights : list of ndarray, optional
            What ``get_weights()`` returned; for a list of layers, a list of such lists. Needed with configs.
        dropout : float, default 0.0
            Between the layers of a stack; in Keras that is a layer of its own.
        dtype, seed, n_threads
            As in `from_torch`.
        **regularisers
            As in `from_torch`. Keras' ``dropout`` (on the input) and ``recurrent_dropout`` (on h) keep one mask for
            all steps: where all layers have one rate for both, it becomes ``variational_dropout``, unless that is
            given here.

        Raises
        ------
        TypeError
            When what came is not one of the layers above.
        ValueError
            For activations other than tanh and sigmoid (relu in SimpleRNN), ``go_backwards``, ``stateful``, other merge
            modes, rates of dropout that differ, layers of a stack that differ, inner layers without return_sequences,
            and weights that are missing or wrongly shaped.

        Notes
        -----
        Outputs of all steps come back whether ``return_sequences`` is set or not, and past the length of a sequence
        they are zero, where Keras repeats the last. Regularizers, constraints and initializers are not taken over.
        """
        from .interchange import keras

        return keras.read(
            cls,
            layer_or_config,
            weights,
            dropout=dropout,
            dtype=dtype,
            seed=seed,
            n_threads=n_threads,
            regularisers=regularisers,
        )

    @classmethod
    def from_onnx(
        cls,
        model: Any,
        node: str | Sequence[str] | None = None,
        *,
        weights: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        dtype: str | None = None,
        seed: int = 0,
        n_threads: int | None = None,
        **regularisers: Any,
    ) -> Recurrent:
        """A layer with the weights of nodes LSTM, GRU or RNN of an ONNX model. Needs the onnx package.

        Parameters
        ----------
        model : path, bytes or onnx.ModelProto
            Weights in external files need a path.
        node : str or list of str, optional
            Names of the nodes to read, or of one of their outputs; default: all in the graph. Several nodes have to be
            one chain, each reading output Y of the one before through nothing but Transpose, Reshape, Squeeze,
            Unsqueeze and Identity, and become one stack.
        weights : dict of str to ndarray, optional
            Values of graph inputs, by name, where the model's weights are such.
        dropout, dtype, seed, n_threads, **regularisers
            As in `from_keras`.

        Raises
        ------
        ImportError
            Without the onnx package.
        TypeError
            When `model` is none of the above.
        ValueError
            For bytes that are no ONNX model, nodes that are not one chain of like layers, direction "reverse", clip,
            activations that the cells do not have, weights that are not constant, and tensors of wrong shape.
        OSError
            When the file cannot be read.

        Notes
        -----
        An LSTM with input P becomes "peephole", with input_forget=1 variant "CIFG", with an identity (Affine, alpha 1,
        beta 0) in place of a tanh variant "NIAF" or "NOAF"; a GRU with linear_before_reset=0 is
        ``reset_after=False``. What the model is given when it runs is given to `forward` instead: X and initial states
        (N, …) first whatever the layout says, sequence_lens as `lengths`. A constant initial state other than zero
        becomes parameters (``learn_initial_state``).
        """
        from .interchange import onnx_import

        return onnx_import.read(
            cls,
            model,
            node,
            weights,
            dropout=dropout,
            dtype=dtype,
            seed=seed,
            n_threads=n_threads,
            regularisers=regularisers,
        )

    def to_onnx(
        self,
        path: str | PathLike[str] | None = None,
        *,
        lengths: bool = False,
        initial_state: bool = False,
        opset: int = 14,
    ) -> Any:
        """An onnx.ModelProto with one node LSTM, GRU or RNN a layer, checked by onnx.checker. Needs the onnx package.

        Inputs are x (N, T, I), with `lengths` also lengths (N,) of int32, and with `initial_state` also h_0 and, for an
        LSTM, c_0 (L·D, N, H); outputs are y (N, T, D·H), h_n and c_n (L·D, N, H). N and T are free.

        Parameters
        ----------
        path : path, optional
            Where to write the model to as well.
        lengths, initial_state : bool, default False
            Whether the model takes them. ONNX has no optional inputs of a model.
        opset : int, default 14
            Version of ONNX's operators, 14 or newer.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            Without the onnx package.
        ValueError
            For a cell, an option or a regulariser that ONNX does not have, and for weights above 2 GiB.

        Notes
        -----
        A gate that a variant lacks ("NIG", "NFG", "NOG") is written with weights of 0 and a bias that keeps it at 1, so
        `from_onnx` returns variant "vanilla"; "indrnn" is written as an RNN with a diagonal R. Dropout of all kinds,
        which does nothing in inference, is left out. onnxruntime runs these ops in float32 only.
        """
        from .interchange import onnx_export

        return onnx_export.write(self, path, lengths=lengths, initial_state=initial_state, opset=opset)
