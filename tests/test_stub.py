"""The stub and the docstrings of the compiled core say what it has; objects that are not whole say so too."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from border import H, X, make_layer
from lstmcore import _core

# --- the stub says what the module has -------------------------------------------------------------------------------

STUB = ast.parse((Path(_core.__file__).parent / "_core.pyi").read_text(encoding="utf-8"))


def public(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    named = (ast.ClassDef, ast.FunctionDef)
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, named) and not node.name.startswith("_"):
            found.setdefault(node.name, node)  # of a property, the getter and not its setter
    return found


def test_stub_names_everything_and_nothing_else() -> None:
    assert set(public(STUB.body)) == {name for name in vars(_core) if not name.startswith("_")}
    for name, node in public(STUB.body).items():
        if isinstance(node, ast.ClassDef) and name != "ModelFileError":
            assert set(public(node.body)) == {n for n in vars(getattr(_core, name)) if not n.startswith("_")}, name


def stub_functions() -> dict[str, ast.FunctionDef]:
    functions = {}
    for name, node in public(STUB.body).items():
        if isinstance(node, ast.FunctionDef):
            functions[name] = node
        elif isinstance(node, ast.ClassDef):
            for inner, function in public(node.body).items():
                decorators = {ast.unparse(d) for d in function.decorator_list}  # type: ignore[attr-defined]
                if isinstance(function, ast.FunctionDef) and not decorators & {"property", f"{inner}.setter"}:
                    functions[f"{name}.{inner}"] = function
    return functions


@pytest.mark.parametrize("name", sorted(stub_functions()))
def test_stub_and_text_signatures_agree(name: str) -> None:
    function = stub_functions()[name]
    target: Any = _core
    for part in name.split("."):
        target = getattr(target, part)
    signature = inspect.signature(target)
    assert list(signature.parameters) == [argument.arg for argument in function.args.args]
    defaults = [p.default for p in signature.parameters.values() if p.default is not p.empty]
    assert defaults == [ast.literal_eval(default) for default in function.args.defaults]


def test_signatures_are_what_the_module_takes() -> None:
    state = make_layer().init_state(2)
    y, after, _ = make_layer().forward(x=X, state=state, lengths=[5, 2], training=True)
    assert y.shape == (2, 5, H)
    assert after.keys() == state.keys()
    make_layer().step(x=X[:, 0], state=state)
    with pytest.raises(TypeError):
        make_layer().forward(X, hidden=state)


def test_every_docstring_has_content() -> None:
    for name, node in public(STUB.body).items():
        target = getattr(_core, name)
        assert target.__doc__, name
        if isinstance(node, ast.ClassDef) and name != "ModelFileError":
            for inner in public(node.body):
                doc = getattr(target, inner).__doc__
                assert doc, f"{name}.{inner}"
                assert "--\n\n" not in doc, f"{name}.{inner}: its text signature was not understood"


# --- objects that are not whole --------------------------------------------------------------------------------------


def use(target: Any, attribute: str) -> None:
    """Reads an attribute, and calls it if it is a method."""
    value = getattr(target, attribute)
    value(*[None] * len(inspect.signature(value).parameters))


@pytest.mark.parametrize(
    "name",
    [
        "Recurrent",
        "ConvRecurrent",
        "Model",
        "Tape",
        "ConvTape",
        "Gradients",
        "Sequences",
        "StreamState",
        "Trainer",
        "Optimiser",
    ],
)
def test_objects_without_init_are_errors(name: str) -> None:
    type_ = getattr(_core, name)
    empty = type_.__new__(type_)
    for attribute in public(next(n for n in STUB.body if isinstance(n, ast.ClassDef) and n.name == name).body):
        if isinstance(vars(type_)[attribute], staticmethod):
            continue
        with pytest.raises(TypeError, match=r"has not run on this object"):
            use(empty, attribute)
    with pytest.raises(TypeError, match=r"has not run on this object"):
        repr(empty)


def test_subclasses() -> None:
    class Early(_core.Recurrent):
        def __init__(self) -> None:
            _ = self.gates

    class Never(_core.Recurrent):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match=r"has not run on this object"):
        Early()
    with pytest.raises(TypeError, match=r"__init__\(\) must be called"):
        Never()
    for final in (_core.Tape, _core.Gradients, _core.Sequences, _core.StreamState, _core.Trainer, _core.Optimiser):
        with pytest.raises(TypeError, match=r"not an acceptable base type"):
            type("Derived", (final,), {})
