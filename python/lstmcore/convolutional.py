"""The convolutional recurrent layer: `_core.ConvRecurrent`.

Shape letters: T time steps, N sequences, C channels, Y rows and X columns of an image, H hidden channels, G gates,
L layers.
"""

from __future__ import annotations

from . import _core

__all__ = ["ConvRecurrent"]


class ConvRecurrent(_core.ConvRecurrent):
    """A stack of convolutional recurrent layers (ConvLSTM, Shi et al., 2015): forward, backward and streaming step.

    The equations are those of the cell with convolutions in place of W·x and R·h, stride 1, "same" padding with zeros.

    Parameters
    ----------
    cell : {"lstm", "peephole", "gru"}, default "lstm"
        Peepholes are maps: one weight for each hidden channel and pixel, as in the paper. The GRU is the reset-after
        form.
    channels, hidden_channels : int
        C and H.
    height, width : int
        Y and X of the images.
    kernel_size : int, default 3
        Odd; of all convolutions.
    dilation : int, default 1
        Distance of a kernel's taps in pixels.
    num_layers : int, default 1
        L; every layer but the first reads the H channels of the one below.
    dtype : {"float32", "float64"}, default "float32"
        Of weights, inputs, outputs and states.
    seed : int, default 0
        Of the initial weights: W as Glorot & Bengio (2010), R with orthonormal rows over channels and taps together,
        forget bias 1, all else 0.
    n_threads : int or None
        Upper bound; None follows OMP_NUM_THREADS, else all cores. Results do not depend on it. May be set later.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Views of the live weights: "W_l0" (G·H, C, k, k), "R_l0" (G·H, H, k, k), "b_l0" (G·H,); "bR_l0" (G·H,) of
        "gru"; "P_l0" (3, H, Y, X) of "peephole", for i, f and o; then "W_l1", …
    gates : tuple of str
        Order of the row blocks of W, R and b.

    Notes
    -----
    Kernels are correlations, as in PyTorch: tap (0, 0) of ``W[row, channel]`` meets the pixel up and to the left. With
    ``kernel_size=3, dilation=1`` and images of 8 × 8 or more, convolutions are computed by minimal filtering (Winograd
    1980; Lavin & Gray 2016), whose rounding errors in float32 are a few times those of a plain sum.

    Examples
    --------
    >>> import numpy as np, lstmcore
    >>> layer = lstmcore.ConvRecurrent("lstm", channels=1, hidden_channels=8, height=16, width=16)
    >>> y, state = layer.forward(np.ones((2, 5, 1, 16, 16), dtype="float32"))
    >>> y.shape, state["c"].shape
    ((2, 5, 8, 16, 16), (1, 2, 8, 16, 16))
    """
