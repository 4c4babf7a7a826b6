"""The three backends are built alike: the same files, classes, functions, arguments and returns.

Read from the source, so that no framework is needed. ``TF``, ``Flax`` and ``Torch`` in front of a
class are left out; ``forward``, ``call`` and ``__call__`` are one name, and a Linen ``...Module``
is compared with the model of the others. Private names count like public ones, and the frameworks'
tensors are one type. How an object is made (``__init__``, ``setup``, ``build``) is each framework's
own. Every other difference stands in ``sibling_files`` or ``sibling_differences`` with
its reason.
"""

import ast
import re

import pytest

from paths import SOURCE
from sibling_differences import EXCEPTIONS
from sibling_files import EXTRA_FILES, OWN_ARGUMENTS, RENAMED, WRAPPERS

pytestmark = pytest.mark.frameworks

BACKENDS = SOURCE / "backends"
NAMES = ("torch", "tf", "flax")
FILES = (
    "__init__",
    "layers",
    "quantized_linear",
    "rotary",
    "attention",
    "mlp",
    "block",
    "masks",
    "cache",
    "pretrained",
    "model",
    "causal_lm",
    "sequence_classification",
    "question_answering",
    "heads",
    "losses",
    "params",
    "pytrees",
    "sampling",
    "decode",
    "capture",
    "gradients",
    "lora",
    "optimizer",
    "trainer",
    "kernels/__init__",
    "kernels/linear",
    "kernels/half_precision",
    "kernels/int8",
    "kernels/int8_limbs",
    "backend",
)
FORWARD = {"call": "forward", "__call__": "forward"}
MAKING = {"__init__", "setup", "build"}
TYPES = {
    "Tensor": r"(torch\.|tf\.|keras\.)?(Keras)?Tensor|(jax\.|jnp\.)?Array",
    "DType": r"torch\.dtype|tf\.DType|DTypeLike",
    "Length": r"int \| Tensor|Length",
}
"""Word for a type -> what the frameworks call it, as a pattern."""


def definitions(backend, file):
    """Return arguments and returned type of every function, class and method of a file."""
    path = BACKENDS / backend / f"{file}.py"
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = signature(node, backend)
        elif isinstance(node, ast.ClassDef):
            name = class_name(node.name)
            found.setdefault(name, ())
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            for method in methods:
                inside = FORWARD.get(method.name, method.name)
                if inside == "forward" and node.name in WRAPPERS:
                    continue
                found[f"{name}.{inside}"] = signature(method, backend)
    return {name: has for name, has in found.items() if name.rpartition(".")[2] not in MAKING}


def class_name(name):
    """Return a class's name without the framework's: ``FlaxGPTJModule`` -> ``GPTJModel``."""
    bare = re.sub(r"^(TF|Flax|Torch)(?=[A-Z])", "", name)
    return "GPTJModel" if bare == "GPTJModule" else bare.removesuffix("Module")


def signature(function, backend):
    """Return a function's sorted argument names, and the type that it returns."""
    return arguments(function, backend), returned(function)


def arguments(function, backend):
    """Return the names of a function's arguments, without those of one framework alone, sorted."""
    given = function.args
    stars = [star for star in (given.vararg, given.kwarg) if star]
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *stars]
    names = [RENAMED.get((backend, argument.arg), (argument.arg,))[0] for argument in every]
    dropped = {"self", "cls", *OWN_ARGUMENTS[backend]}
    return tuple(sorted(name for name in names if name not in dropped))


def returned(function):
    """Return the type that a function is said to return, in words that name no framework."""
    text = ast.unparse(function.returns) if function.returns else ""
    text = re.sub(r"['\"]", "", text)
    for word, pattern in TYPES.items():
        text = re.sub(rf"(?<![\w.])({pattern})(?!\w)", word, text)
    return re.sub(r"\w+", lambda match: class_name(match[0]), text)


def differences(file):
    """Return the names of a file that are not the same everywhere, with what each backend has."""
    found = {backend: definitions(backend, file) for backend in NAMES}
    names = dict.fromkeys(name for backend in NAMES for name in found[backend])
    return {
        name: {backend: found[backend].get(name) for backend in NAMES}
        for name in names
        if len({found[backend].get(name) for backend in NAMES}) > 1
    }


def stems(folder):
    """Return the files of a backend without their suffix: ``kernels/int8``."""
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py")}


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_in_every_backend(file):
    missing = [name for name in NAMES if not (BACKENDS / name / f"{file}.py").exists()]
    assert missing == []


def test_every_file_of_all_backends_is_compared():
    assert set.intersection(*(stems(BACKENDS / name) for name in NAMES)) == {*FILES}


def test_a_file_of_one_backend_alone_has_a_reason():
    found = {name: stems(BACKENDS / name) for name in NAMES}
    everywhere = set.intersection(*found.values())
    assert {f"{n}/{file}" for n in NAMES for file in found[n] - everywhere} == {*EXTRA_FILES}


@pytest.mark.parametrize("file", FILES)
def test_a_difference_between_the_backends_has_a_reason(file):
    excepted = EXCEPTIONS.get(file, {})
    assert {name: has for name, has in differences(file).items() if name not in excepted} == {}


@pytest.mark.parametrize("file", EXCEPTIONS)
def test_an_exception_is_still_needed(file):
    assert EXCEPTIONS[file].keys() - differences(file) == set()


@pytest.mark.parametrize("file", FILES)
def test_what_is_shared_stands_in_the_same_order(file):
    orders = [definitions(backend, file) for backend in NAMES]
    shared = set.intersection(*(set(order) for order in orders))
    first, *others = ([name for name in order if name in shared] for order in orders)
    assert all(other == first for other in others)
