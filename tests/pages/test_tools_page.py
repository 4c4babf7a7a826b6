"""``docs/tools.md`` names what the environments of tools test, and no more."""

import re

import pytest

from paths import ROOT
from tool_pages import ENVIRONMENTS, PAGE, examples, versions_of

pytestmark = pytest.mark.neutral

TESTED = {
    name: version
    for folder in ENVIRONMENTS.values()
    for name, version in versions_of(folder).items()
}


def test_the_page_names_the_versions_that_are_tested():
    named = dict(re.findall(r"^\| ([\w-]+) \| (\d[\d.]*) \|", PAGE, re.MULTILINE))
    assert named == TESTED


def test_the_versions_are_those_of_the_constraints():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", text, re.MULTILINE))
    assert TESTED.items() <= pinned.items()


def test_every_example_of_the_page_is_run_by_an_environment():
    assert PAGE.count("```python") == sum(len(examples(word)) for word in ENVIRONMENTS) > 0
