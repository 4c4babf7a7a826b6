"""The pages hang together: links lead somewhere, commands exist, the index is complete."""

import re
import shlex

import pytest

import gptj
from gptj.cli import main
from paths import ROOT

pytestmark = pytest.mark.neutral

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
FOLDERS = ("examples", "findings")
ROOT_PAGES = sorted(ROOT.glob("*.md"))
PAGES = [*ROOT_PAGES, *DOCS, *(ROOT / folder / "README.md" for folder in FOLDERS)]


def named(page):
    """Return a page's path from the root, which names its tests."""
    return page.relative_to(ROOT).as_posix()


def links(page):
    """Return the relative links of a page as pairs of a file and an anchor, which may be empty."""
    found = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))
    return [(page.parent / target if target else page, anchor) for target, anchor in found]


def anchors(page):
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def commands(page):
    """Return the calls of ``gptj`` in a page's shell examples, as lists of words."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [part for block in blocks for part in re.split(r"\n|&&", block)]
    calls = [shlex.split(line, comments=True) for line in lines if line.strip().startswith("gptj ")]
    return [call[1 : call.index(">")] if ">" in call else call[1:] for call in calls]


def modules(page):
    """Return the modules of the package that a page names, as paths without an ending."""
    found = re.findall(r"\bgptj((?:\.[a-z_]+)+)", page.read_text(encoding="utf-8"))
    names = [name[1:].split(".") for name in found]
    return [ROOT.joinpath("gptj", *parts) for parts in names if parts[0] not in gptj.PUBLIC]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_links_lead_somewhere(page):
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_commands_have_the_options_that_a_page_gives(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").touch()
    for name, *options in commands(page):
        main.commands[name].make_context(name, options)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_modules_that_a_page_names_exist(page):
    for module in modules(page):
        assert module.is_dir() or module.with_suffix(".py").is_file(), module


def test_the_index_lists_every_page():
    listed = {target for target, _ in links(ROOT / "docs" / "README.md")}
    assert {page for page in DOCS if page.name != "README.md"} <= listed


def test_the_readme_is_one_page():
    assert len(README.read_text(encoding="utf-8").split()) <= 900
