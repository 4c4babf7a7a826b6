"""Annotations say something: only a small share of them is a bare ``Any``."""

import ast

import pytest

from paths import SOURCE

pytestmark = pytest.mark.neutral

LIMIT = 3  # percent of all annotations
FILES = sorted(SOURCE.rglob("*.py"))


def annotations(tree):
    """Return the annotations of arguments, results and assignments."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
    return [annotation for annotation in found if annotation is not None]


def is_any(node):
    return isinstance(node, ast.Name) and node.id == "Any"


def trees():
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def test_few_annotations_are_any():
    found = [annotation for tree in trees().values() for annotation in annotations(tree)]
    share = 100 * sum(map(is_any, found)) / len(found)
    assert share <= LIMIT, f"{share:.2f} percent of {len(found)} annotations are Any"


def test_no_other_name_hides_an_any():
    hidden = [
        f"{path.relative_to(SOURCE)}: {ast.unparse(node)}"
        for path, tree in trees().items()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and is_any(node.value)
    ]
    assert not hidden
