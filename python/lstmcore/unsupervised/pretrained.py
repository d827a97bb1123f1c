"""The recurrent layers of a fitted estimator, as an `EncoderNetwork`."""

from __future__ import annotations

from typing import Any

from .._labels import labels_from_json, labels_to_json
from .._layer_network import LayerModel, restore
from .._parameters import network_types
from .._step_network import StepNetwork
from ..model import Model
from .encoder_network import EncoderNetwork

__all__ = ["network_of"]

_KINDS = (
    "SequenceClassifier, SequenceRegressor, SequenceTagger, SequenceTranscriber, SequenceAnomalyDetector, "
    "SequenceEncoder, LanguageModel"
)


def network_of(estimator: Any, layer_mix: str, pooling: str) -> EncoderNetwork:
    """A network that reads as the estimator does, with copies of its weights; ValueError where there is none."""
    if type(estimator).__name__ == "FrozenEstimator":
        estimator = estimator.estimator
    name = type(estimator).__name__
    if not hasattr(estimator, "get_params") or not type(estimator).__module__.startswith("lstmcore"):
        raise TypeError(f"pretrained: expected a fitted estimator of lstmcore, one of {_KINDS}; got {name}")
    if not hasattr(estimator, "model_"):
        raise ValueError(f"pretrained: this {name} is not fitted. Call its fit first.")
    model = estimator.model_
    if isinstance(model, Model) and not hasattr(estimator, "layout_"):
        config, tensors, constants = _of_model(model)
    elif isinstance(model, LayerModel) and {"unit", "vocabulary"} <= set(model.network.config):
        config, tensors, constants = _of_language(model.network)
    elif isinstance(model, LayerModel) and isinstance(model.network, StepNetwork):
        config, tensors, constants = _of_steps(model.network)
    else:
        raise ValueError(
            f"pretrained: {name} has no recurrent layers that read sequences as they are. Use one of {_KINDS}."
        )
    config |= {"task": "none", "outputs": 1, "dropout": 0.0, "variational_dropout": 0.0, "recurrent_dropout": 0.0}
    config |= {"layer_mix": layer_mix, "pooling": pooling}
    shapes, constant_shapes, _ = EncoderNetwork.shapes(config)
    fresh = EncoderNetwork(config)
    # The head is of no use, and of another size.
    parameters = {key: (fresh.parameters if key.startswith("head_") else tensors)[key] for key in shapes}
    network: EncoderNetwork = restore(
        EncoderNetwork, config, parameters, {key: constants.get(key, fresh.constants[key]) for key in constant_shapes}
    )
    return network


def _of_model(model: Model) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    recurrent = model.config["recurrent"]
    for option in ("learn_initial_state", "zoneout_hidden", "zoneout_cell"):
        if recurrent[option]:
            raise ValueError(
                f"pretrained: layers with {option}={recurrent[option]!r} are not supported. Fit without it."
            )
    config = {
        "cell": recurrent["cell"],
        "cell_options": recurrent["cell_options"],
        "inputs": int(recurrent["input_size"]),
        "hidden_size": int(recurrent["hidden_size"]),
        "num_layers": int(recurrent["num_layers"]),
        "bidirectional": bool(recurrent["bidirectional"]),
        "vocabulary": None,
        "embedding_size": None,
        **network_types(recurrent["precision"]),
        "separate": False,
    }
    given = model.core.preprocessing
    return config, model.parameters, {"mean": given["input_mean"], "scale": given["input_scale"]}


def _of_steps(network: StepNetwork) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    known = network.config
    keys = ("cell", "cell_options", "inputs", "hidden_size", "num_layers", "bidirectional", "vocabulary")
    config = {key: known[key] for key in (*keys, "embedding_size", "dtype", "precision") if key in known}
    config["separate"] = bool(known.get("separate", False))
    constants: dict[str, Any] = {
        key: network.constants[key] for key in ("mean", "scale", "rare") if key in network.constants
    }
    return config, dict(network.parameters), constants


def _of_language(network: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Of a LanguageModel, whose first two symbols are the end of a document and the unknown one."""
    known = network.config
    labels = labels_from_json(known["vocabulary"])[2:]
    keys = ("cell", "cell_options", "hidden_size", "num_layers", "dtype", "precision")
    config = {key: known[key] for key in keys if key in known}
    config |= {"inputs": known["embedding_size"], "embedding_size": known["embedding_size"]}
    config |= {"vocabulary": labels_to_json(labels), "bidirectional": False, "separate": False}
    tensors = {**network.parameters, "embedding": network.parameters["embedding"][1:]}
    return config, tensors, {}
