"""The commands that answer texts, once in each framework; all else of them is tested on NumPy."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj.cli import main
from models import load, short_demo
from prediction_cases import CLASSES, TEXTS, save_model

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("models_are_loaded_once")]

PROMPTS = ["import os", "def add(a, b):"]


def printed(framework, *words):
    """Return what a command that succeeds writes to standard output."""
    result = CliRunner().invoke(main, [*map(str, words), "--backend", framework.name])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_a_text_is_the_librarys(framework, how):
    expected = load(framework.name, short_demo()).generate_text(PROMPTS[0], max_new_tokens=8)
    assert printed(framework, "generate", PROMPTS[0], "-n", 8, how) == expected + "\n"


def test_sampled_texts_of_a_file_are_the_librarys(framework, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS), encoding="utf-8")
    lines = printed(framework, "generate", "--file", path, "-n", 8, "--seed", 3, "--json")
    found = [json.loads(line)["text"] for line in lines.splitlines()]
    options = {"do_sample": True, "seed": 3, "strip_prompt": True}
    model = load(framework.name, short_demo())
    assert found == model.generate_text(PROMPTS, max_new_tokens=8, **options)


def test_scores_are_the_librarys(framework):
    lines = printed(framework, "score", *PROMPTS, "--json").splitlines()
    expected = [score.total for score in load(framework.name, short_demo()).score(PROMPTS)]
    np.testing.assert_allclose([json.loads(line)["total"] for line in lines], expected, rtol=1e-5)


def test_predictions_are_the_librarys(framework, tmp_path):
    save_model(tmp_path, CLASSES, num_labels=3)
    lines = printed(framework, "predict", tmp_path, *TEXTS, "--json").splitlines()
    expected = gptj.predict(TEXTS, tmp_path, backend=framework.name)
    assert lines == [json.dumps(one.to_dict()) for one in expected]
