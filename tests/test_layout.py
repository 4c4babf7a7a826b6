"""The three backends are built alike: the same files, classes, methods and argument names.

Read from the source, so that no framework is needed. ``TF`` and ``Flax`` in front of a class are
left out, as is ``Torch``; ``forward``, ``call`` and ``__call__`` are one name. How an object is
made (``__init__``, ``setup``, ``build``) is each framework's own, and so is what starts with an
underscore. Every other difference stands in `EXCEPTIONS` with its reason.
"""

import ast
import re
from pathlib import Path

import pytest

BACKENDS = Path(__file__).parent.parent / "gptj" / "backends"
NAMES = ("torch", "tf", "flax")
FILES = (
    "layers",
    "masks",
    "cache",
    "model",
    "heads",
    "losses",
    "params",
    "sampling",
    "decode",
    "capture",
    "backend",
)
FORWARD = {"call": "forward", "__call__": "forward"}
MAKING = {"setup", "build"}

EXTRA_FILES = {}
"""A file that not every backend has -> the reason."""

EXCEPTIONS = {}
"""(file, name) that differs between the backends -> the reason."""


def definitions(backend, file):
    """Return the argument names of every public function, class and method of a file."""
    path = BACKENDS / backend / f"{file}.py"
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = arguments(node)
        elif isinstance(node, ast.ClassDef):
            name = re.sub(r"^(TF|Flax|Torch)(?=[A-Z])", "", node.name)
            found[name] = ()
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            found |= {f"{name}.{FORWARD.get(m.name, m.name)}": arguments(m) for m in methods}
    return {name: args for name, args in found.items() if is_compared(name)}


def is_compared(name):
    last = name.rpartition(".")[2]
    return not last.startswith("_") and not name.startswith("_") and last not in MAKING


def arguments(function):
    """Return the names of a function's arguments, as a caller sees them."""
    given = function.args
    stars = [star for star in (given.vararg, given.kwarg) if star]
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *stars]
    return tuple(argument.arg for argument in every if argument.arg not in ("self", "cls"))


def differences(file):
    """Return the names of a file that are not the same everywhere, with what each backend has."""
    found = {backend: definitions(backend, file) for backend in NAMES}
    names = dict.fromkeys(name for backend in NAMES for name in found[backend])
    return {
        name: {backend: found[backend].get(name) for backend in NAMES}
        for name in names
        if len({found[backend].get(name) for backend in NAMES}) > 1
    }


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_in_every_backend(file):
    missing = [name for name in NAMES if not (BACKENDS / name / f"{file}.py").exists()]
    assert missing == []


def test_a_file_of_one_backend_alone_has_a_reason():
    found = {name: {path.stem for path in (BACKENDS / name).glob("*.py")} for name in NAMES}
    everywhere = set.intersection(*found.values())
    assert {f"{n}/{file}" for n in NAMES for file in found[n] - everywhere} == {*EXTRA_FILES}


@pytest.mark.parametrize("file", FILES)
def test_a_difference_between_the_backends_has_a_reason(file):
    excepted = {name for where, name in EXCEPTIONS if where == file}
    unexplained = {n: has for n, has in differences(file).items() if n not in excepted}
    assert unexplained == {}


@pytest.mark.parametrize(("file", "name"), EXCEPTIONS)
def test_an_exception_is_still_needed(file, name):
    assert name in differences(file)


@pytest.mark.parametrize("file", FILES)
def test_what_is_shared_stands_in_the_same_order(file):
    orders = [definitions(backend, file) for backend in NAMES]
    shared = set.intersection(*(set(order) for order in orders))
    first, *others = ([name for name in order if name in shared] for order in orders)
    assert all(other == first for other in others)
