"""What type checkers see of the public names, and of programs that use them."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gptj
from paths import ROOT, TESTS

pytestmark = pytest.mark.neutral

PACKAGE = Path(gptj.__file__).parent
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
USERS = TESTS / "users"
MYPY = (sys.executable, "-m", "mypy")

SETTINGS = """[mypy]
strict = True
[mypy-gptj.*]
follow_imports = silent
[mypy-torch.*,tensorflow.*,keras.*,jax.*,flax.*,optax.*,optree.*]
follow_imports = skip
"""
"""The result is the same with frameworks and without: none of them is looked into."""


def imported_by_stub():
    """Return every name of the stub -> the module that it comes from, and its name there."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in STUB.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }


def listed_by_stub():
    """Return what is in ``__all__``."""
    (names,) = (node.value for node in STUB.body if isinstance(node, ast.Assign))
    return ast.literal_eval(names)


def mistakes_expected():
    """Return line and code of every mistake that a comment announces."""
    lines = (USERS / "wrong.py").read_text(encoding="utf-8").splitlines()
    codes = [re.search(r"# error: (\S+)", line) for line in lines]
    return {("wrong.py", number, code[1]) for number, code in enumerate(codes, 1) if code}


def mistakes_found(folder):
    """Return file, line and code of every mistake that mypy finds in the users' programs."""
    settings = folder / "mypy.ini"
    settings.write_text(SETTINGS, encoding="utf-8")
    installed = PACKAGE.parent.name in ("site-packages", "dist-packages")
    where = {} if installed else {"MYPYPATH": str(PACKAGE.parent)}
    cache = ROOT / ".mypy_cache" / "users"
    found = subprocess.run(
        [*MYPY, "--config-file", settings, "--cache-dir", cache, "right.py", "wrong.py"],
        cwd=USERS,
        env=os.environ | where,
        capture_output=True,
        text=True,
    )
    assert not found.stderr
    errors = re.findall(r"^(\S+):(\d+): error: .*\[(.+)\]$", found.stdout, re.MULTILINE)
    return {(file, int(line), code) for file, line, code in errors}


def test_the_stub_has_the_public_names_and_no_others():
    assert imported_by_stub().keys() == gptj.PUBLIC.keys()


def test_the_stub_lists_the_public_names():
    assert sorted(listed_by_stub()) == sorted(gptj.__all__)


@pytest.mark.parametrize("name", gptj.PUBLIC)
def test_the_stub_takes_a_name_from_the_module_that_defines_it(name):
    module, _, other_name = gptj.PUBLIC[name].partition(":")
    assert imported_by_stub()[name] == (module, other_name or name)


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").is_file()


def test_mypy_finds_the_mistakes_of_users_and_nothing_else(tmp_path):
    pytest.importorskip("mypy")
    assert mistakes_found(tmp_path) == mistakes_expected()
