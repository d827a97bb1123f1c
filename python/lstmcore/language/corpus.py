"""Texts as codes of symbols, in memory or, where there are many, in a temporary file. NumPy only.

A corpus is one stream: END, the symbols of the first document, END, those of the second, …, END. What is predicted at
position i is the symbol at i + 1, so that of D documents with S symbols together there are S + D predictions, and every
document begins after an END.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "END",
    "NAMES",
    "UNKNOWN",
    "WORDS",
    "Contexts",
    "Corpus",
    "Vocabulary",
    "read_corpus",
    "read_documents",
    "symbols_of",
]

Array = NDArray[Any]
Codes = NDArray[np.int32]
Tokenizer = Callable[[str], Iterable[str]]

#: Codes of the two symbols that every vocabulary begins with, and their names.
END, UNKNOWN = 0, 1
NAMES = ("<eod>", "<unk>")

#: What tokens are where no tokenizer is given: words, and everything else that is not a space.
WORDS = r"\w+|[^\w\s]"

# Symbols that stay in memory (16 MB); more go to a file. Text is read in pieces, and read back in blocks, of so many
# symbols for all lanes together.
_IN_MEMORY, _PIECE, _BLOCKS = 1 << 22, 1 << 18, 1 << 20
# Provisional number of END: of characters, whose numbers are those of Unicode, and of tokens.
_LAST_CHARACTER, _END_TOKEN = 0x110000, 0


class Vocabulary:
    """The symbols that have a code of their own: END, UNKNOWN, then `labels`."""

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = [*NAMES, *labels]
        self._codes = {label: code for code, label in enumerate(self.labels)}

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: str) -> bool:
        return label in self._codes

    def code(self, label: str) -> int:
        """UNKNOWN for symbols that it does not have."""
        return self._codes.get(label, UNKNOWN)

    def text(self, codes: Codes, unit: str) -> Any:
        """What `generate` returns: one str of characters, or a list of tokens."""
        labels = [self.labels[code] for code in codes.tolist()]
        return "".join(labels) if unit == "character" else labels


class _Store:
    """Numbers one after another; beyond a limit in a file without a name, which ends with this object."""

    def __init__(self) -> None:
        self._parts: list[Array] = []
        self._held = 0
        self._file: Any = None
        self.length = 0

    def append(self, numbers: Array) -> None:
        self._parts.append(numbers.astype(np.uint32))
        self._held += len(numbers)
        self.length += len(numbers)
        if self._file is not None or self._held > _IN_MEMORY:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="lstmcore-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        for part in self._parts:
            part.tofile(self._file)
        self._file.flush()
        self._parts, self._held = [], 0

    @property
    def on_disk(self) -> bool:
        return self._file is not None

    def all(self) -> Array:
        return np.concatenate(self._parts)

    def read(self, start: int, stop: int) -> Array:
        if self._file is None:
            return self.all()[start:stop]
        data = os.pread(self._file.fileno(), 4 * (stop - start), 4 * start)
        return np.frombuffer(data, dtype=np.uint32)


class Corpus:
    """The stream of codes. Made by `read_corpus`; `encode` makes it readable.

    Attributes
    ----------
    ends : (D,) int64
        Position of the END of each document.
    characters : int
        Of the text that it came from; 0 where that was no text.
    """

    def __init__(self, store: _Store, names: list[str] | None, ends: list[int], characters: int) -> None:
        self._store = store
        self._names = names  # of tokens by number; None: numbers are characters
        self.ends = np.array(ends, dtype=np.int64)
        self.characters = characters
        self._codes: Array | None = None
        self._table: Codes | None = None

    @property
    def predictions(self) -> int:
        return self._store.length - 1 if self._codes is None else len(self._codes) - 1

    @property
    def in_memory(self) -> bool:
        return not self._store.on_disk

    def counts(self) -> dict[str, int]:
        """How often each symbol occurs, without END."""
        size = _LAST_CHARACTER + 1 if self._names is None else len(self._names)
        total = np.zeros(size, dtype=np.int64)
        for numbers in self._blocks():
            found = np.bincount(numbers)
            total[: len(found)] += found
        end = _LAST_CHARACTER if self._names is None else _END_TOKEN
        total[end] = 0
        return {self._name(int(number)): int(total[number]) for number in np.flatnonzero(total)}

    def encode(self, vocabulary: Vocabulary) -> None:
        """Decides what `read` gives."""
        if self._names is None:
            table = np.full(_LAST_CHARACTER + 1, UNKNOWN, dtype=np.int32)
            for code, label in enumerate(vocabulary.labels):
                if len(label) == 1:
                    table[ord(label)] = code
            table[_LAST_CHARACTER] = END
        else:
            table = np.array([vocabulary.code(name) for name in self._names], dtype=np.int32)
            table[_END_TOKEN] = END
        self._table = table
        if self.in_memory:
            small = np.min_scalar_type(len(vocabulary) - 1)
            self._codes = table.astype(small)[self._store.all()]

    def read(self, start: int, stop: int) -> Codes:
        """Codes at positions start … stop − 1."""
        if self._codes is not None:
            return self._codes[start:stop].astype(np.int32)
        assert self._table is not None
        return self._table[self._store.read(start, stop)]

    def windows(self, starts: NDArray[np.int64], length: int) -> Codes | None:
        """(len(starts), length) codes from each of these positions on; None where the text is not in memory."""
        if self._codes is None:
            return None
        found: Codes = self._codes[starts[:, None] + np.arange(length)].astype(np.int32)
        return found

    def reader(self, places: int = 1) -> Callable[[int, int], Codes]:
        """`read` for one of several places that move on: a file is read in blocks."""
        if self._codes is not None:
            return self.read
        block: Codes = np.empty(0, dtype=np.int32)
        first = 0

        def read(start: int, stop: int) -> Codes:
            nonlocal block, first
            if start < first or stop > first + len(block):
                first = start
                block = self.read(start, min(self.predictions + 1, max(stop, start + _BLOCKS // places)))
            return block[start - first : stop - first]

        return read

    def documents(self, order: NDArray[np.int64]) -> Corpus:
        """Those documents, in this order, of a corpus in memory that is encoded."""
        assert self._codes is not None
        starts = np.concatenate([[0], self.ends[:-1]]) + 1
        lengths = self.ends[order] - starts[order] + 1
        ends = np.cumsum(lengths)
        positions = np.repeat(starts[order] - (ends - lengths), lengths) + np.arange(ends[-1])
        chosen = Corpus(self._store, self._names, ends.tolist(), 0)
        chosen._codes = np.concatenate([self._codes[:1], self._codes[positions]])
        return chosen

    def part(self, start: int, stop: int) -> Corpus:
        """Predictions start … stop − 1 as a corpus of their own, encoded as this one; its documents are not known."""
        return _Part(self, start, stop)

    def _blocks(self) -> Iterator[Array]:
        if not self._store.on_disk:
            yield self._store.all()
            return
        for start in range(0, self._store.length, _PIECE):
            yield self._store.read(start, min(start + _PIECE, self._store.length))

    def _name(self, number: int) -> str:
        return chr(number) if self._names is None else self._names[number]


class _Part(Corpus):
    def __init__(self, whole: Corpus, start: int, stop: int) -> None:
        super().__init__(whole._store, whole._names, [], 0)
        self._whole, self._start, self._count = whole, start, stop - start

    @property
    def predictions(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> Codes:
        return self._whole.read(self._start + start, self._start + stop)

    def reader(self, places: int = 1) -> Callable[[int, int], Codes]:
        read = self._whole.reader(places)
        return lambda start, stop: read(self._start + start, self._start + stop)


class Contexts(NamedTuple):
    """N texts whose next symbol is asked for: a `_layer_network.Samples`."""

    codes: list[NDArray[np.int32]]  #: each with at least one symbol

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(item) for item in self.codes], dtype=np.int64)

    @property
    def features(self) -> int:
        return 1

    def subset(self, indices: NDArray[np.int64]) -> Contexts:
        return Contexts([self.codes[n] for n in indices.tolist()])


def read_corpus(X: Any, name: str, unit: str, tokenizer: str | Tokenizer | None) -> Corpus:
    """X as users hold it: texts, lists of tokens, paths, open files. Errors name the argument and the document."""
    store = _Store()
    ends: list[int] = []
    numbers: dict[str, int] = {"": _END_TOKEN}
    end = np.array([_LAST_CHARACTER if unit == "character" else _END_TOKEN], dtype=np.uint32)
    store.append(end)
    characters = 0
    tokenize = _tokenizer(tokenizer)
    for document, where in read_documents(X, name, unit == "token" and tokenizer is None):
        for piece in _pieces(document, where, unit):
            if isinstance(piece, str):
                characters += len(piece)
            if unit == "character":
                store.append(_characters(piece, where))
                continue
            tokens = tokenize(piece) if isinstance(piece, str) else piece
            store.append(np.array([_number(token, numbers, where) for token in tokens], dtype=np.uint32))
        ends.append(store.length)
        store.append(end)
    if store.length == len(ends) + 1:
        raise ValueError(f"{name} is empty: it has no {unit}. Pass text, a list of texts, or a pathlib.Path to a file.")
    return Corpus(store, None if unit == "character" else list(numbers), ends, characters)


def symbols_of(text: Any, name: str, unit: str, tokenizer: str | Tokenizer | None, vocabulary: Vocabulary) -> Codes:
    """Codes of one short text or list of tokens, which may be empty."""
    if unit == "character":
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected text, got {type(text).__name__}. The model reads characters.")
        labels: Iterable[Any] = text
    elif isinstance(text, str):
        labels = _tokenizer(tokenizer)(text)
    elif isinstance(text, (list, tuple, np.ndarray)):
        labels = text
    else:
        raise TypeError(f"{name}: expected text or a list of tokens, got {type(text).__name__}")
    codes = []
    for label in labels:
        if not isinstance(label, str):
            raise TypeError(f"{name}: expected tokens that are text, got {label!r}. Use str(token).")
        codes.append(vocabulary.code(str(label)))
    return np.array(codes, dtype=np.int32)


def read_documents(X: Any, name: str, words: bool) -> Iterator[tuple[Any, str]]:
    """Each document (text, path, open file, or list of tokens) and how errors call it. words: what texts are cut to."""
    if X is None or isinstance(X, (bytes, bytearray, dict, set, int, float)):
        raise TypeError(f"{name}: expected text, {_FORMS}, got {type(X).__name__}." + _hint(X))
    if isinstance(X, str):
        _refuse_path(X, name)
        yield X, name
        return
    if isinstance(X, os.PathLike) or hasattr(X, "read"):
        yield X, name
        return
    if isinstance(X, np.ndarray):
        if X.ndim == 0 or X.dtype.kind not in "UTO":
            raise ValueError(
                f"{name}: expected text, {_FORMS}, got an array of dtype {X.dtype} with {X.ndim} dimensions. Numbers "
                "have no next symbol: to go on with series of numbers use SequenceForecaster."
            )
    elif hasattr(X, "columns"):
        raise TypeError(f"{name}: expected texts, got a table. Pass one column: table['text'].")
    elif not isinstance(X, Iterable):
        raise TypeError(f"{name}: expected text, {_FORMS}, got {type(X).__name__}.")
    for n, item in enumerate(X):
        where = f"{name}[{n}]"
        if words and isinstance(X, (list, tuple)) and _looks_like_tokens(X):
            raise ValueError(
                f"{name} looks like the tokens of one document, which go into a list of documents: [{name}]."
            )
        yield item, where


_FORMS = "a list of texts or of lists of tokens, a pathlib.Path or an open file"


def _hint(X: Any) -> str:
    return " Decode it first: X.decode('utf-8')." if isinstance(X, (bytes, bytearray)) else ""


def _looks_like_tokens(X: Any) -> bool:
    """Not a text among them with a space: one document that was cut into words."""
    return len(X) > 1 and all(isinstance(item, str) and len(item.split()) <= 1 for item in X)


def _refuse_path(text: str, name: str) -> None:
    """A name of a file is a text too, but hardly ever one to learn from."""
    if len(text) < 1024 and "\n" not in text and os.path.isfile(text):
        raise ValueError(
            f"{name} is the text {text!r}, which is the name of a file. To read the file pass pathlib.Path({text!r})."
        )


def _pieces(document: Any, where: str, unit: str) -> Iterator[Any]:
    """Text in pieces, none of which ends within a word; or tokens."""
    if isinstance(document, str):
        yield from _file_pieces(io.StringIO(document, newline=""), where)
    elif isinstance(document, os.PathLike):
        with open(document, encoding="utf-8") as file:
            yield from _file_pieces(file, f"{where}, {os.fspath(document)!r}")
    elif hasattr(document, "read"):
        yield from _file_pieces(document, where)
    elif unit == "token" and isinstance(document, (list, tuple, np.ndarray)):
        yield document
    elif isinstance(document, (list, tuple)):
        raise TypeError(f"{where}: expected text, got a list. For lists of tokens use unit='token'.")
    else:
        expected = "text" if unit == "character" else "text or a list of tokens"
        raise TypeError(f"{where}: expected {expected}, got {type(document).__name__}.{_hint(document)}")


def _file_pieces(file: Any, where: str) -> Iterator[str]:
    rest = ""
    while True:
        try:
            piece = file.read(_PIECE)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where} is not UTF-8 text ({error}). Open it yourself and pass the file: open(path, encoding=…)."
            ) from error
        if not isinstance(piece, str):
            raise TypeError(f"{where}: expected a file open for text, got {type(piece).__name__}. Open it without 'b'.")
        if not piece:
            break
        piece = rest + piece
        cut = max(piece.rfind(" "), piece.rfind("\n")) + 1 or len(piece)
        rest = piece[cut:]
        yield piece[:cut]
    if rest:
        yield rest


def _tokenizer(tokenizer: str | Tokenizer | None) -> Tokenizer:
    if tokenizer is None:
        tokenizer = WORDS
    if isinstance(tokenizer, str):
        return re.compile(tokenizer).findall
    return tokenizer


def _characters(text: str, where: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


def _number(token: Any, numbers: dict[str, int], where: str) -> int:
    if not isinstance(token, str) or not token:
        raise TypeError(
            f"{where}: expected tokens that are text and not empty, got {token!r}. Use str(token) for numbers."
        )
    return numbers.setdefault(str(token), len(numbers))
