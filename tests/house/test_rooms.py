"""Which room may import which: one order, and no circle; and no backend imports another."""

from functools import cache

import pytest

from modules import FILES, FRAMEWORKS, OWN_FRAMEWORKS, backend_of, imported_by, room_of
from paths import SOURCE

pytestmark = pytest.mark.neutral

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
    "diagnosis",
    "parity",
    "exporting",
    "bench",
    "integrations",
    "cli",
)
"""The rooms of the house, from the ground up: a room imports only rooms before it."""

ENTRANCES = ("", "__main__", "pretrained")
"""Modules that only lead to others: ``gptj`` itself, ``python -m gptj`` and a documented path."""


@cache
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


@pytest.mark.parametrize("module", [n for n in FILES if backend_of(n).startswith("backends")])
def test_a_backend_imports_no_other_backend(module):
    found = {backend_of(name) for name in imported_by(FILES[module])}
    assert found <= {"", backend_of(module)}
