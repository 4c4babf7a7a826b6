"""The command line: how its commands end, and what they say on standard error."""

import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gptj.cli import main
from installed import FRAMEWORKS
from paths import TINY

pytestmark = pytest.mark.frameworks

FIRST = FRAMEWORKS[0] if FRAMEWORKS else "numpy"
ON_TINY = ["generate", "A", "--model", str(TINY), "--backend", FIRST, "-n", "6"]


def invoke(*arguments, **options):
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


WRONG = {
    "unknown backend": (["--backend", "theano"], 2, "Unknown backend 'theano'"),
    "unknown option": (["--tempratur", "1"], 2, "No such option"),
    "temperature below zero": (["--temperature", "-1"], 2, "temperature must be"),
    "missing model": (["--model", "./no/such/folder"], 1, "no/such/folder"),
    "unknown dtype": (["--dtype", "float7"], 1, "float7"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_are_one_line_with_an_exit_code(wrong):
    options, code, message = WRONG[wrong]
    result = invoke(*ON_TINY, *options)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_info_lists_versions_backends_and_devices():
    result = invoke("info", "--json")
    content = json.loads(result.stdout)
    assert {"torch", "tf", "flax", "oracle"} <= set(content["backends"])
    for name in FRAMEWORKS:
        assert content["backends"][name]["devices"]
        assert content["backends"][name]["versions"]
    table = invoke("info").stdout
    assert all(name in table for name in content["backends"])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_starts_without_a_word_on_standard_error(name):
    command = [sys.executable, "-m", "gptj", "generate", "A", "-m", str(TINY), "-b", name]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    done = subprocess.run(
        [*command, "-n", "2", "--quiet"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert (done.stdout[0], done.stderr) == ("A", "")


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "gptj", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"gptj, version \d+\.\d+\.\d+\n", done.stdout)
    bad = subprocess.run([*command[:3], "bogus"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
