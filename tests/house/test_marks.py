"""Every test says whether frameworks matter to it, so that each environment runs what it must."""

import ast

import pytest

from paths import TESTS

pytestmark = pytest.mark.neutral

MARKS = {"neutral", "frameworks"}
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax", "optax"}
FIXTURES = {"backend", "framework", "torch_backend", "tf_backend", "flax_backend"}
TOOLS = ("torch_tools/", "keras_jax_tools/")
HELPERS = TESTS / "helpers"
TOOLS = ("torch_tools/", "keras_jax_tools/")
FILES = {str(path.relative_to(TESTS)): path for path in sorted(TESTS.rglob("test_*.py"))}


def marks_in(node):
    """Return which of the two marks an expression names."""
    return MARKS & {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def functions_of(tree):
    return [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]


def marks_of(tree):
    """Return the marks of a module and of each of its tests."""
    found = [n.value for n in tree.body if isinstance(n, ast.Assign) and names(n) == "pytestmark"]
    of_file = set().union(*map(marks_in, found))
    of_tests = {
        test: set().union(*map(marks_in, test.decorator_list)) for test in functions_of(tree)
    }
    return of_file, of_tests


def names(assignment):
    return getattr(assignment.targets[0], "id", None)


def imported(node):
    """Return the packages that are imported somewhere in a node."""
    found = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in n.names}
        elif isinstance(n, ast.ImportFrom):
            found.add(n.module.partition(".")[0])
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_or_each_of_its_tests_has_one_mark(name):
    of_file, of_tests = marks_of(ast.parse(FILES[name].read_text(encoding="utf-8")))
    if of_file:
        assert len(of_file) == 1 and not any(of_tests.values())
    else:
        assert all(len(marks) == 1 for marks in of_tests.values())


@pytest.mark.parametrize("name", FILES)
def test_what_is_neutral_asks_for_no_framework(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    of_file, of_tests = marks_of(tree)
    neutral = [test for test, marks in of_tests.items() if "neutral" in of_file | marks]
    for test in neutral:
        assert not FIXTURES & {argument.arg for argument in test.args.args}, test.name
    for node in [tree] if "neutral" in of_file else neutral:
        assert not FRAMEWORKS & imported(node)


def skipped_without(tree):
    """Return the packages without which pytest.importorskip leaves out a file."""
    called = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    skips = [n for n in called if getattr(n.func, "attr", None) == "importorskip"]
    return {n.args[0].value.partition(".")[0] for n in skips}


def needed(path):
    """Return the frameworks that reading a file imports, by itself or by a helper."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_the_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = set().union(*map(imported, at_the_top))
    helpers = [HELPERS / f"{name}.py" for name in names]
    return (FRAMEWORKS & names).union(*(needed(one) for one in helpers if one.exists()))


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(TOOLS)])
def test_a_file_is_left_out_without_the_frameworks_that_it_imports(name):
    """The folders of tools are left out as a whole."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    assert not needed(FILES[name]) or FRAMEWORKS & skipped_without(tree)
