"""Parameters of LanguageModel: what they may be, what goes together, and the network that they make."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from .._parameters import BFLOAT16, RULES, Rule, check_available, choice, network_types
from .corpus import NAMES
from .network import SOFTMAX, UNITS, LanguageNetwork, default_cutoffs, vocabulary_to_json

__all__ = ["RULES_OF_LANGUAGE", "check_settings", "choose_labels", "network_config"]


def _is_tokenizer(value: Any) -> bool:
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error:
            return False
        return True
    return value is None or callable(value)


def _is_vocabulary(value: Any) -> bool:
    if value is None:
        return True
    texts = isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value)
    return texts and len(set(value)) == len(value) > 0


def _are_cutoffs(value: Any) -> bool:
    if value is None:
        return True
    whole = isinstance(value, (list, tuple)) and all(RULES["hidden_size"].accepts(item) for item in value)
    return whole and len(value) > 0 and all(a < b for a, b in itertools.pairwise(value))


RULES_OF_LANGUAGE: Mapping[str, Rule] = {
    "unit": choice(*UNITS),
    "tokenizer": Rule("None, a callable or a regular expression", _is_tokenizer),
    "documents": choice("separate", "joined"),
    "vocabulary": Rule("None or a list of distinct texts, none of them empty", _is_vocabulary),
    "min_frequency": RULES["hidden_size"],
    "max_vocabulary": RULES["bptt_steps"],
    "embedding_size": RULES["bptt_steps"],
    "tie_weights": RULES["shuffle"],
    "softmax": choice(*SOFTMAX),
    "cutoffs": Rule("None or a list of rising int >= 1", _are_cutoffs),
    "n_samples": RULES["hidden_size"],
    "bptt_steps": RULES["hidden_size"],
}


def check_settings(parameters: Mapping[str, Any]) -> None:
    """Refuses what does not go together, and what this version does not compute."""
    check_available(parameters, precisions=BFLOAT16)
    if parameters["bidirectional"]:
        raise ValueError(
            "bidirectional=True: a layer that reads from the end would read the symbols that a language model is "
            "to predict. Use bidirectional=False, and num_layers for a larger model."
        )
    if parameters["tokenizer"] is not None and parameters["unit"] != "token":
        raise ValueError("tokenizer needs unit='token': characters are not cut up.")
    if parameters["tie_weights"] and parameters["softmax"] == "adaptive":
        raise ValueError(
            "tie_weights=True does not go with softmax='adaptive', whose clusters have weights of their own sizes. "
            "Use softmax='full' or 'sampled'."
        )
    if parameters["cutoffs"] is not None and parameters["softmax"] != "adaptive":
        raise ValueError("cutoffs need softmax='adaptive'.")
    if parameters["vocabulary"] is not None and (
        parameters["max_vocabulary"] is not None or parameters["min_frequency"] != 1
    ):
        raise ValueError("vocabulary goes with min_frequency=1 and max_vocabulary=None: it says all.")


def choose_labels(parameters: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """The vocabulary, by falling frequency, of data in which symbols occur so often; without END and UNKNOWN."""
    if parameters["vocabulary"] is not None:
        labels = [label for label in parameters["vocabulary"] if label not in NAMES]
        if parameters["unit"] == "character" and any(len(label) > 1 for label in labels):
            wrong = next(label for label in labels if len(label) > 1)
            raise ValueError(f"vocabulary has {wrong!r}, and unit='character' reads single characters.")
        if not labels:
            raise ValueError(f"vocabulary has no symbol beside {' and '.join(NAMES)}.")
        return sorted(labels, key=lambda label: -counts.get(label, 0))
    frequent = [
        label for label, count in counts.items() if count >= int(parameters["min_frequency"]) and label not in NAMES
    ]
    if not frequent:
        raise ValueError(f"min_frequency={parameters['min_frequency']}: no symbol of X occurs so often. Lower it.")
    frequent.sort(key=lambda label: (-counts[label], label))
    return frequent[: parameters["max_vocabulary"]]


def network_config(parameters: Mapping[str, Any], labels: list[str]) -> dict[str, Any]:
    """The config of a LanguageNetwork; labels: of all symbols."""
    V = len(labels)
    if parameters["softmax"] == "sampled" and int(parameters["n_samples"]) > V // 2:
        raise ValueError(
            f"n_samples={parameters['n_samples']} for {V} symbols: softmax='sampled' saves nothing with more samples "
            "than half the symbols. Lower n_samples, or use softmax='full'."
        )
    cutoffs: list[int] = []
    if parameters["softmax"] == "adaptive":
        cutoffs = default_cutoffs(V) if parameters["cutoffs"] is None else [int(cut) for cut in parameters["cutoffs"]]
        if cutoffs[-1] >= V:
            raise ValueError(
                f"cutoffs={cutoffs}: the last cluster begins behind the {V} symbols, '<eod>' and '<unk>' included. "
                "Lower cutoffs, or use softmax='full'."
            )
    config = {
        "cell": parameters["cell"],
        "cell_options": dict(parameters["cell_options"] or {}),
        "embedding_size": int(parameters["embedding_size"] or 64),
        "hidden_size": int(parameters["hidden_size"]),
        "num_layers": int(parameters["num_layers"]),
        "dropout": float(parameters["dropout"]),
        "variational_dropout": float(parameters["variational_dropout"]),
        "recurrent_dropout": float(parameters["recurrent_dropout"]),
        "vocabulary": vocabulary_to_json(labels),
        "unit": parameters["unit"],
        "documents": parameters["documents"],
        "tie_weights": bool(parameters["tie_weights"]),
        "softmax": parameters["softmax"],
        "cutoffs": cutoffs,
        **network_types(parameters["precision"]),
    }
    if parameters["tie_weights"] and parameters["embedding_size"] is None:
        # The width of the layers' outputs, which the cell's options decide on.
        config["embedding_size"] = LanguageNetwork.output_width(config)
    return config
