"""The help of every command: short summaries, examples that fit a terminal, no bare option."""

import click
import pytest
from click.testing import CliRunner

from gptj.cli import main

pytestmark = pytest.mark.neutral

COMMANDS = sorted(main.commands)
WIDTH = 80


def shown(*command):
    """Return the lines that a call prints on a terminal of 80 columns."""
    result = CliRunner().invoke(main, [*command, "--help"], terminal_width=WIDTH)
    assert result.exit_code == 0
    return result.stdout.splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_fits_its_line(name):
    line = next(line for line in shown() if line.strip().startswith(f"{name} "))
    assert line.endswith(".") and not line.endswith("...")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_examples_of_itself(name):
    assert any(line.strip().startswith(f"gptj {name}") for line in shown(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_terminal(name):
    assert [line for line in shown(name) if len(line) > WIDTH] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    options = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []
