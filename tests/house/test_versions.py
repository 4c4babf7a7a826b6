"""Version and name of the package: each in one place, and known to a clone not installed."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from gptj.system.versions import DISTRIBUTION, VERSION
from paths import ROOT, SOURCE

pytestmark = pytest.mark.neutral


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Return an environment in which gptj is a folder on the path, and no installed package."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(SOURCE, folder / "gptj", ignore=shutil.ignore_patterns("__pycache__"))
    packages = folder / "packages"
    packages.mkdir()
    for place in {Path(path) for path in sys.path if Path(path).name.endswith("-packages")}:
        for entry in place.iterdir():
            if "gptj" not in entry.name.lower() and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{packages}"}


def run(clone, *arguments):
    """Run Python without its own folder of packages; return what it printed."""
    command = [sys.executable, "-S", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=clone, cwd=clone["PYTHONPATH"].split(":")[0]
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_the_clone_is_not_installed(clone):
    code = f"import importlib.metadata as m; print([*m.distributions(name={DISTRIBUTION!r})])"
    assert run(clone, "-c", code) == "[]"


def test_a_clone_knows_its_version(clone):
    assert run(clone, "-c", "import gptj; print(gptj.__version__)") == VERSION


def test_the_command_line_of_a_clone_shows_its_version(clone):
    assert run(clone, "-m", "gptj", "--version") == f"gptj, version {VERSION}"


def test_the_command_line_of_a_clone_shows_its_help(clone):
    assert "Start with:  gptj generate" in run(clone, "-m", "gptj", "--help")


def test_a_clone_knows_what_installs_an_extra(clone):
    code = "from gptj.system.versions import install_command; print(install_command('tf'))"
    assert run(clone, "-c", code) == "pip install 'gptj-trio[tf]'"


def test_the_installed_package_has_the_same_version():
    try:
        installed = version(DISTRIBUTION)
    except PackageNotFoundError:
        pytest.skip("gptj is not installed")
    assert installed == VERSION


def test_the_name_is_that_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION


def test_the_project_file_states_no_version_of_its_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["dynamic"], "version" in project) == (["version"], False)


def test_the_citation_is_of_this_version():
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {VERSION}" in lines


def test_the_changelog_describes_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{VERSION}]" in text
