"""`SymbolModel`: what LanguageModel has as ``model_``, and what `lstmcore.load_model` gives. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._layer_network import LayerModel
from .._parameters import RULES, thread_count
from .._step_model import check_state
from .corpus import END, NAMES, UNKNOWN, Contexts, symbols_of

__all__ = ["State", "SymbolModel"]

Array = NDArray[Any]
State = dict[str, Array]


class SymbolModel(LayerModel):
    """A trained language model; needs NumPy only.

    `outputs` and `predict_proba` give the probabilities (N, V) of what follows N texts, `predict` the most probable
    symbols (N,), `generate` goes on with texts, `step` reads them symbol by symbol.
    """

    network: Any  # a LanguageNetwork, which `read` of the protocol says too little for

    def outputs(self, X: Any, n_jobs: int | None = None) -> Array:
        return self.core.predict(self.contexts(X, n_jobs))

    def contexts(self, X: Any, n_jobs: int | None = None) -> Contexts:
        """X (one text or several) as the network reads it: after an END each."""
        self.network.n_threads = thread_count(n_jobs)
        found = [self._codes(text, f"X[{n}]") for n, text in enumerate(self._texts(X, "X"))]
        return Contexts([np.r_[np.int32(END), codes].astype(np.int32) for codes in found])

    def generate(
        self,
        prompt: Any = "",
        length: int = 200,
        *,
        n_texts: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stop: str | Sequence[Any] | None = None,
        end: bool = True,
        seed: int = 0,
        n_jobs: int | None = None,
    ) -> Any:
        """As `LanguageModel.generate`, with a seed."""
        several = self._are_several(prompt)
        if several and n_texts is not None:
            raise ValueError("n_texts goes with one prompt. Pass one prompt, or leave n_texts out.")
        for name, value in (("n_texts", n_texts), ("top_k", top_k)):
            if value is not None and not RULES["hidden_size"].accepts(value):
                raise ValueError(f"{name}: expected an int >= 1 or None, got {value!r}")
        if not RULES["alpha"].accepts(length) or not isinstance(length, (int, np.integer)):
            raise ValueError(f"length: expected an int >= 0, got {length!r}")
        if not RULES["shuffle"].accepts(end):
            raise ValueError(f"end: expected True or False, got {end!r}")
        network = self.network
        contexts = [self._codes(text, "prompt") for text in (prompt if several else [prompt])] * (n_texts or 1)
        if not contexts:
            raise ValueError("prompt: expected at least one, got an empty list. '' begins a document.")
        first, state = self._before_last(contexts, n_jobs)
        stops = [np.array([END])] if end else []
        stops += [self._codes(text, "stop") for text in self._stops(stop)]
        if not all(len(item) for item in stops):
            raise ValueError("stop: expected texts that are not empty")
        forbidden = [UNKNOWN] if end else [END, UNKNOWN]
        texts, _ = _core.generate(
            network.layer,
            network.parameters["embedding"],
            network.parts(),
            first,
            state,
            int(length),
            temperature,
            int(top_k or 0),
            top_p,
            seed,
            forbidden,
            stops,
        )
        unit = network.config["unit"]
        found = [network.vocabulary.text(codes[codes != END], unit) for codes in texts]
        return found if several or n_texts is not None else found[0]

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Probabilities (V,) of what follows a symbol, or (N, V) for N streams, and the state for the next call.

        x: a symbol, or a list of N; "<eod>" is where a document begins. state: None at the beginning.
        """
        single = isinstance(x, str)
        symbols = [x] if single else x
        if not isinstance(symbols, (list, tuple, np.ndarray)) or not len(symbols):
            raise TypeError(f"x: expected a symbol or a list of symbols, got {x!r}")
        unit = self.network.config["unit"]
        codes = []
        for symbol in symbols:
            if (
                not isinstance(symbol, str)
                or not symbol
                or (unit == "character" and len(symbol) > 1 and symbol not in NAMES)
            ):
                raise ValueError(f"x: expected one {unit} of each stream, got {symbol!r}")
            codes.append(self.network.vocabulary.code(str(symbol)))
        if state is not None:
            check_state(state, len(codes))
        inputs = _core.embed(self.network.parameters["embedding"], np.array(codes, dtype=np.int32))
        h, state = self.network.layer.step(inputs, state)
        probabilities = np.exp(self.network.log_probabilities(h))
        return (probabilities[0] if single else probabilities), state

    def _before_last(self, contexts: list[Array], n_jobs: int | None) -> tuple[Array, State]:
        """The last symbol of each context, which begins with an END, and the states before it."""
        network = self.network
        network.n_threads = thread_count(n_jobs)
        whole = [np.r_[np.int32(END), codes].astype(np.int32) for codes in contexts]
        first = np.array([codes[-1] for codes in whole], dtype=np.int32)
        state = network.init_state(len(whole))
        longer = [n for n, codes in enumerate(whole) if len(codes) > 1]
        if longer:
            read = [whole[n][:-1] for n in longer]
            lengths = np.array([len(codes) for codes in read])
            _, found, _ = network.layer_outputs(np.concatenate(read), lengths, None, training=False)
            for name, value in found.items():
                state[name][:, longer] = value
        return first, state

    def _codes(self, text: Any, name: str) -> Array:
        network = self.network
        return symbols_of(text, name, network.config["unit"], network.tokenizer, network.vocabulary)

    def _are_several(self, X: Any) -> bool:
        """Whether X is a list of texts; of tokens, a list of lists."""
        if isinstance(X, str) or not isinstance(X, (list, tuple, np.ndarray)) or getattr(X, "ndim", 1) == 0:
            return False
        return self.network.config["unit"] == "character" or any(not isinstance(item, str) for item in X)

    def _texts(self, X: Any, name: str) -> list[Any]:
        if self._are_several(X):
            if not len(X):
                raise ValueError(f"{name} is empty: expected at least one text.")
            return list(X)
        return [X]

    def _stops(self, stop: Any) -> list[Any]:
        if stop is None:
            return []
        if isinstance(stop, str):
            return [stop]
        if not isinstance(stop, (list, tuple)):
            raise TypeError(f"stop: expected text, a list of texts or None, got {type(stop).__name__}")
        return list(stop)
