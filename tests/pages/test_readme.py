"""The README and the pages keep their word: their examples run, the table of heads is complete."""

import re
import tomllib

import pytest

import gptj
from gptj.backends import FRAMEWORKS, get_backend
from gptj.spec.heads import HEADS
from installed import require
from paths import ROOT

pytestmark = pytest.mark.frameworks

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = "deepspeed"
"""A page that says itself that its examples were not run: they take several GPUs."""
PREFIX = {"torch": "", "tf": "TF", "flax": "Flax"}


def examples_of(text):
    """Return the Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def framework_of(example):
    """Return the backend that an example needs."""
    named = re.search(r'backend="(\w+)"', example)
    return named[1] if named else "torch"


EXAMPLES = {
    example: f"{page.stem}-{framework_of(example)}"
    for page in reversed(PAGES)
    for example in examples_of(page.read_text(encoding="utf-8"))
    if page.stem != NOT_RUN
}
"""The first page of every example, which runs once if several pages have it."""


@pytest.mark.parametrize("example", EXAMPLES, ids=EXAMPLES.values())
def test_the_examples_run_and_print(example, promotion, capsys):
    require(framework_of(example))
    exec(compile(example, "example", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_examples_that_cannot_run_here_are_python():
    page = (ROOT / "docs" / f"{NOT_RUN}.md").read_text(encoding="utf-8")
    for example in examples_of(page):
        compile(example, NOT_RUN, "exec")
    assert "not run" in page


def test_the_readme_has_an_example_for_every_backend():
    assert {framework_of(example) for example in examples_of(README)} == set(FRAMEWORKS)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_table_lists_the_heads_that_a_backend_has(name):
    require(name)
    for head in get_backend(name).capabilities.heads:
        row = re.search(rf"^\| `{head}` \|.*$", README, re.MULTILINE)
        assert f"`{PREFIX[name]}{HEADS[head].class_name}`" in row[0]


def test_every_class_of_the_table_is_public():
    named = set(re.findall(r"`((?:TF|Flax)?GPTJ(?:Model|For\w+))`", README))
    assert named <= set(gptj.PUBLIC)


def test_the_continuous_integration_runs_the_readmes_test_command():
    command = re.search(r"^pip install tox && (tox)$", README, re.MULTILINE)[1]
    assert re.search(rf"\b{command}\b", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))


def test_the_extras_that_the_readme_installs_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for named in re.findall(r'"\.\[(\w+)\]"', README):
        assert named in extras["optional-dependencies"]
