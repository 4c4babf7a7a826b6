"""How long functions and files may be; ruff measures how complex a function is."""

import ast

import pytest

from paths import ROOT, SOURCE

pytestmark = pytest.mark.neutral

LONGEST_FUNCTION = 60  # lines, the docstring apart
LONGEST_FILE = 300  # lines
STILL_LONGER = {}
"""Files from before the limit was measured -> a limit of each, until it is divided."""

FILES = sorted(path for folder in (SOURCE, ROOT / "benchmarks") for path in folder.rglob("*.py"))


def length(function):
    """Return the number of lines of a function without its docstring."""
    whole = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return whole
    return whole - (function.body[0].end_lineno - function.body[0].lineno + 1)


def lines(path):
    """Return the number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_function_is_too_long():
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": length(node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in found.items() if count > LONGEST_FUNCTION} == {}


def test_no_file_is_too_long():
    found = {path.relative_to(ROOT).as_posix(): lines(path) for path in FILES}
    limits = {name: STILL_LONGER.get(name, LONGEST_FILE) for name in found}
    assert {name: count for name, count in found.items() if count > limits[name]} == {}


def test_a_file_within_the_limit_is_no_exception():
    assert [name for name in STILL_LONGER if lines(ROOT / name) <= LONGEST_FILE] == []
