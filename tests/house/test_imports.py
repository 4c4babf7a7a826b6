"""Who imports whom: frameworks stay out until a backend is asked for."""

import ast
import subprocess
import sys

import pytest

from paths import SOURCE

pytestmark = pytest.mark.frameworks

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax", "optax", "optree", "transformers")
OWN_FRAMEWORKS = {
    "backends.torch": {"torch"},
    "backends.tf": {"tensorflow", "keras", "optree"},
    "backends.flax": {"jax", "flax", "optax"},
}
LIMIT = 0.2  # seconds that importing gptj may take

ROOMS = (
    "errors",
    "system",
    "spec",
    "contract",
    "generation",
    "checkpoint",
    "hub",
    "tokenizer",
    "scoring",
    "datasets",
    "model",
    "backends",
    "api",
    "tools",
    "prediction",
    "training",
    "parity",
    "bench",
    "cli",
)
"""The rooms of the house, from the ground up: a room imports only rooms before it."""

ENTRANCES = ("", "__main__", "pretrained")
"""Modules that only lead to others: ``gptj`` itself, ``python -m gptj`` and a documented path."""

FILES = {
    ".".join(("gptj", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(SOURCE.rglob("*.py"))
}
"""Every module of the package -> its file."""


def room_of(module):
    """Return the room that a module belongs to: ``gptj.backends.tf.cache`` -> ``backends``."""
    return ".".join(module.split(".")[1:2])


def backend_of(module):
    """Return the framework's part of the backends that a module is in, or nothing."""
    inside = ".".join(module.split(".")[1:3])
    return inside if inside in OWN_FRAMEWORKS else ""


def imported_by(path):
    """Return the full names of the modules that a file imports, on whatever level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # what is imported may be a module itself
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & FILES.keys()) or {node.module}
    return found


NEUTRAL_MODULES = [name for name in FILES if not backend_of(name) and room_of(name) != "__main__"]


def run(code):
    """Run code in a fresh interpreter, and return what it printed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def frameworks_after(modules):
    imports = "; ".join(f"import {module}" for module in modules)
    code = f"{imports}; import sys; print(*(n for n in {FRAMEWORKS} if n in sys.modules))"
    return run(code).split()


def test_importing_gptj_loads_no_framework():
    assert frameworks_after(["gptj"]) == []


def test_importing_every_neutral_module_loads_no_framework():
    assert {"gptj.cli", "gptj.model.pretrained", "gptj.tokenizer"} < set(NEUTRAL_MODULES)
    assert frameworks_after(NEUTRAL_MODULES) == []


def test_importing_gptj_is_fast():
    code = "import time; t = time.perf_counter(); import gptj; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(5)) < LIMIT


def test_the_public_names_are_there_before_they_are_imported():
    listed = run("import gptj; print(*dir(gptj))").split()
    assert {"load", "load_tokenizer", "GPTJConfig", "GPTJForCausalLM", "__version__"} <= {*listed}


def test_a_wrong_public_name_suggests_the_nearest():
    import gptj

    with pytest.raises(
        AttributeError, match=r"no attribute 'GPTJConfg'. Did you mean 'GPTJConfig'"
    ):
        _ = gptj.GPTJConfg


def arrows():
    """Return which room imports which, lazy imports and those for types alone included."""
    found = {}
    for module, path in FILES.items():
        room = room_of(module)
        if room not in ENTRANCES:
            targets = {room_of(name) for name in imported_by(path) if name.split(".")[0] == "gptj"}
            found.setdefault(room, set()).update(targets - {room})
    return found


def circles(graph):
    """Return the rooms that can be reached from themselves."""

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            for target in graph.get(waiting.pop(), set()) - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    return {room for room in graph if room in reached(room)}


def test_no_two_rooms_import_each_other():
    assert circles(arrows()) == set()


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}


def test_every_room_has_its_place():
    assert sorted(arrows()) == sorted(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room):
    before = ROOMS[: ROOMS.index(room)]
    assert arrows()[room] <= {*before}


def test_at_most_seven_files_are_beside_the_rooms():
    assert len([path for path in SOURCE.iterdir() if path.is_file()]) <= 7


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_no_framework_but_its_own(module):
    found = {name.split(".")[0] for name in imported_by(FILES[module])} & {*FRAMEWORKS}
    assert found <= OWN_FRAMEWORKS.get(backend_of(module), set())


@pytest.mark.parametrize("module", [name for name in FILES if backend_of(name)])
def test_a_backend_imports_no_other_backend(module):
    found = {backend_of(name) for name in imported_by(FILES[module])}
    assert found <= {"", backend_of(module)}
