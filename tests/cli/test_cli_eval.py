"""``gptj eval`` where lm-eval is not installed."""

import importlib.util
import sys

import pytest
from click.testing import CliRunner

from gptj.cli import main

pytestmark = pytest.mark.neutral

find_spec = importlib.util.find_spec


def test_without_lm_eval_one_line_says_what_installs_it(monkeypatch):
    def found(name, package=None):
        return None if name == "lm_eval" else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.delitem(sys.modules, "gptj.integrations.lm_eval", raising=False)
    result = CliRunner().invoke(main, ["eval", "demo", "--tasks", "lambada_openai"])
    assert result.exit_code == 1
    assert result.stderr == (
        "gptj: Evaluating needs lm-eval, which is not installed. Install it with: "
        "pip install 'gptj-trio[eval]'.\n"
    )


def test_no_task_is_refused_before_anything_is_imported():
    result = CliRunner().invoke(main, ["eval", "demo", "--tasks", " , "])
    assert result.exit_code == 2
    assert "--tasks names no task" in result.stderr
