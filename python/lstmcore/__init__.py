"""Recurrent networks of the LSTM family: a C++ engine with scikit-learn-style estimators.

``import lstmcore`` loads NumPy and the compiled core. What needs scikit-learn, pandas or matplotlib loads on first use:

- `SequenceClassifier`, `SequenceRegressor`: estimators for whole sequences (scikit-learn).
- `SequenceForecaster`: how series go on; `backtest`: how well it would have forecast the past (scikit-learn).
- `SequenceTagger`: a label for every step, by softmax or conditional random field (scikit-learn).
- `SequenceAnomalyDetector`: sequences and steps that do not go on as normal ones do (scikit-learn).
- `SequenceEncoder`: sequences to features, learnt without labels, for a `Pipeline` (scikit-learn).
- `SequenceTranscriber`: a shorter sequence of labels, without alignment, by CTC (scikit-learn).
- `LanguageModel`: the next character or token of a text; generates texts (scikit-learn).
- `SequenceTranslator`: another sequence of any length, by encoder and decoder with attention (scikit-learn).
- `TreeClassifier`, `TreeRegressor`: estimators for trees and their nodes.
- `FrameForecaster`: the next frames of image sequences (scikit-learn).
- `load(path)`: the estimator in a model file; `load_model(path)`: its network alone, for NumPy.
- `QuantizedModel`: a trained network in integers, as a microcontroller runs it; `quantize` of the estimators makes one.
- `Recurrent`: the layer itself, with forward, backward and streaming step.
- `ConvRecurrent`: the same over sequences of images; `TreeRecurrent`: the tree-LSTM, forward and backward.
- `BlockPruning`: callback that prunes while training.
- `gradient_flow`, `gate_statistics`: what happens inside a network over time.
- `converters`, `datasets`, `diagnostics`, `metrics`, `plotting`: submodules.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from ._core import ModelFileError, __version__, build_info, cells

if TYPE_CHECKING:
    from . import converters, datasets, diagnostics, metrics, plotting
    from ._backtest import backtest
    from ._fitting import EpochInfo
    from .classifier import SequenceClassifier
    from .convolutional import ConvRecurrent
    from .diagnostics import gate_statistics, gradient_flow
    from .edge.quantized_model import QuantizedModel
    from .forecaster import SequenceForecaster
    from .frames import FrameForecaster
    from .language.estimator import LanguageModel
    from .model import Model, load_model
    from .persistence import load
    from .pruning import BlockPruning
    from .recurrent import Recurrent
    from .regressor import SequenceRegressor
    from .tagger import SequenceTagger
    from .transcriber import SequenceTranscriber
    from .translation.translator import SequenceTranslator
    from .tree_classifier import TreeClassifier
    from .tree_layer import TreeRecurrent
    from .tree_regressor import TreeRegressor
    from .unsupervised.anomaly_detector import SequenceAnomalyDetector
    from .unsupervised.encoder import SequenceEncoder

__all__ = [
    "BlockPruning",
    "ConvRecurrent",
    "EpochInfo",
    "FrameForecaster",
    "LanguageModel",
    "Model",
    "ModelFileError",
    "QuantizedModel",
    "Recurrent",
    "SequenceAnomalyDetector",
    "SequenceClassifier",
    "SequenceEncoder",
    "SequenceForecaster",
    "SequenceRegressor",
    "SequenceTagger",
    "SequenceTranscriber",
    "SequenceTranslator",
    "TreeClassifier",
    "TreeRecurrent",
    "TreeRegressor",
    "__version__",
    "backtest",
    "build_info",
    "cells",
    "converters",
    "datasets",
    "diagnostics",
    "gate_statistics",
    "get_cmake_dir",
    "get_include",
    "gradient_flow",
    "load",
    "load_model",
    "metrics",
    "plotting",
]

# Name → module that has it (None: the name is a module itself).
_LAZY = {
    "BlockPruning": "pruning",
    "ConvRecurrent": "convolutional",
    "EpochInfo": "_fitting",
    "FrameForecaster": "frames",
    "LanguageModel": "language.estimator",
    "Model": "model",
    "QuantizedModel": "edge.quantized_model",
    "Recurrent": "recurrent",
    "SequenceClassifier": "classifier",
    "SequenceEncoder": "unsupervised.encoder",
    "SequenceForecaster": "forecaster",
    "SequenceRegressor": "regressor",
    "SequenceTagger": "tagger",
    "SequenceAnomalyDetector": "unsupervised.anomaly_detector",
    "SequenceTranscriber": "transcriber",
    "SequenceTranslator": "translation.translator",
    "TreeClassifier": "tree_classifier",
    "TreeRecurrent": "tree_layer",
    "TreeRegressor": "tree_regressor",
    "backtest": "_backtest",
    "converters": None,
    "datasets": None,
    "diagnostics": None,
    "gate_statistics": "diagnostics",
    "gradient_flow": "diagnostics",
    "load": "persistence",
    "load_model": "model",
    "metrics": None,
    "plotting": None,
}


def __getattr__(name: str) -> Any:
    """Loads what `_LAZY` names, once (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'lstmcore' has no attribute {name!r}")
    home = _LAZY[name]
    try:
        module = importlib.import_module(f".{home or name}", __name__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sklearn":
            raise
        raise ModuleNotFoundError(
            f"lstmcore.{name} needs scikit-learn 1.6 or newer: pip install scikit-learn", name=error.name
        ) from error
    value = module if home is None else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def get_include() -> str:
    """Folder to give to a C++ compiler with -I for ``#include <lstmcore/…>``."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def get_cmake_dir() -> str:
    """Folder of lstmcoreConfig.cmake, for ``cmake -Dlstmcore_DIR=…`` and ``find_package(lstmcore)``."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib", "cmake", "lstmcore")
