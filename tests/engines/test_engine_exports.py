"""Exports for engines: measured, and run by the lines of their own page, without this package."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from engine_cases import ENGINES
from export_cases import redrawn, run_readme
from gptj.exporting.export import export
from gptj.exporting.table import TARGETS
from gptj.parity.report import parity
from models import DEMO, load
from paths import TINY

pytestmark = pytest.mark.frameworks

FORMS = [
    ("openvino", {}),
    ("openvino", {"dtype": "bfloat16"}),
    ("openvino", {"head": "sequence_classification"}),
    ("openvino", {"head": "question_answering"}),
    ("openvino", {"head": "base"}),
    ("ctranslate2", {}),
    ("ctranslate2", {"dtype": "float16"}),
    ("ctranslate2", {"quantize": "int8"}),
]


@pytest.mark.parametrize(("target", "options"), [f for f in FORMS if f[0] in ENGINES], ids=str)
def test_what_is_written_is_measured_and_right(target, options, tmp_path):
    has_head = "head" in options
    source = redrawn(tmp_path / "source", options["head"]) if has_head else TINY
    done = export(source, tmp_path / "model", to=target, **options)
    assert done.parity["measured"] and done.parity["passed"]
    if not options:
        assert 0 < done.parity["error"]["max"] < 2e-5
        assert done.parity["texts"]["equal"] == done.parity["texts"]["of"]
    assert json.loads((tmp_path / "model" / "parity.json").read_text()) == done.parity


@pytest.mark.parametrize("target", ENGINES)
def test_the_page_of_a_folder_has_a_program_of_ten_lines_that_writes_the_text(target, tmp_path):
    export(DEMO, tmp_path / "model", to=target)
    page = (tmp_path / "model" / "README.md").read_text()
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    assert len([line for line in program.splitlines() if line]) <= 10
    assert "gptj" not in program
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "model",
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    options = {"max_new_tokens": 20, "do_sample": False, "strip_prompt": True}
    expected = load("numpy", DEMO).generate_text("def fibonacci(n):", **options)
    assert found.rstrip("\n").removeprefix("def fibonacci(n):") == expected.rstrip("\n")


@pytest.mark.parametrize("target", [*ENGINES, "onnx"])
def test_the_program_of_a_model_without_a_tokenizer_runs(target, tmp_path):
    for name in [target, *TARGETS[target].runtime]:
        pytest.importorskip(name)
    export(TINY, tmp_path / "model", to=target)
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None}
    expected = load("numpy", TINY).generate(np.array([[1, 2, 3]]), **options)[0].tolist()
    written = json.loads(run_readme(tmp_path / "model"))
    begin = 3 if target == "ctranslate2" else 0  # it returns what is new, up to the end token
    assert len(written) >= 12 and written == expected[begin:][: len(written)]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_a_target_that_says_what_runs_it(name):
    assert TARGETS[name].runtime == {name: name}


def test_a_report_compares_engines_with_the_oracle():
    report = parity(TINY, backends=["numpy", *ENGINES])
    assert report.passed
    for name in ENGINES:
        (module,) = report.content["runs"]["float32"]["backends"][name]["modules"]
        assert module["name"] == "lm_head" and 0 < module["max"] <= module["limit"]
