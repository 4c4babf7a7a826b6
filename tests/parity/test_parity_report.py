"""`gptj parity`: what agrees passes, and damage is found where it is."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj.cli import main
from gptj.errors import ArgumentError
from gptj.parity.compare import difference, kl_divergence
from gptj.parity.report import parity
from gptj.spec.heads import HEADS
from gptj.spec.tensors import LazyTensor
from installed import FRAMEWORKS
from paths import TINY

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(not FRAMEWORKS, reason="no framework is installed"),
]


@pytest.fixture(scope="module")
def report():
    return parity(TINY)


def test_a_model_card_has_a_row_for_each_backend(report, tmp_path):
    report.save_card(tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    for name, result in report.to_dict()["runs"]["float32"]["backends"].items():
        (row,) = re.findall(rf"^\| float32 \| {name} \| (\S+) \| (\S+) \|$", card, re.MULTILINE)
        output = next(n["max"] for n in result["modules"] if n["name"] == "lm_head")
        assert float(row[1]) == pytest.approx(output, rel=0.1)
    report.save_badge(tmp_path / "badge.json")
    assert json.loads((tmp_path / "badge.json").read_text())["message"] == "passes in float32"


def test_a_sound_checkpoint_passes(report):
    assert report.passed
    assert str(report).startswith("PASS: ")
    for result in report.to_dict()["runs"]["float32"]["backends"].values():
        assert result["first"] is None
        assert result["next_token"]["top1"] == 1.0
        assert result["loss"]["max"] <= result["loss"]["limit"]
        assert len(result["gradients"]["parameters"]) > 20
        assert len(result["modules"]) > 20


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_compared(head):
    assert parity(TINY, backends=FRAMEWORKS[:1], head=head).passed


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_compared_with_weights_of_that_precision(dtype):
    assert parity(TINY, backends=FRAMEWORKS[:1], dtypes=[dtype]).passed


def test_a_plugged_in_backend_is_compared():
    assert parity(TINY, backends=["oracle"]).passed


DAMAGE = {
    "transformer.h.1.attn.k_proj.weight": "layer 1, attn.k_proj",
    "transformer.h.0.mlp.fc_out.bias": "layer 0, mlp.fc_out",
    "transformer.ln_f.weight": "ln_f",
    "lm_head.bias": "lm_head",
}


def damage(monkeypatch, backend, name):
    """Make one backend build models with one wrong number in one tensor."""
    build = backend.build

    def damaged(config, head, *, params, **options):
        wrong = np.array(params[name].read())
        wrong.flat[3] += 0.5
        return build(config, head, params={**params, name: LazyTensor.of(wrong)}, **options)

    monkeypatch.setattr(backend, "build", damaged)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_tensor_of_one_backend_is_reported_at_its_place(framework, monkeypatch, name):
    damage(monkeypatch, framework, name)
    report = parity(TINY, backends=[framework.name])
    assert not report.passed
    first = report.to_dict()["runs"]["float32"]["backends"][framework.name]["first"]
    assert first["name"] == name.rpartition(".")[0]
    assert f"{framework.name} in float32 is first off at {DAMAGE[name]}:" in str(report)


def test_the_command_ends_with_1_for_damage(framework, monkeypatch, tmp_path):
    damage(monkeypatch, framework, "lm_head.bias")
    page = tmp_path / "page.html"
    options = ["parity", str(TINY), "--backends", framework.name, "--html", str(page)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert result.stdout.startswith("FAIL: ")
    assert 'class="wrong"' in page.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else_and_has_a_picture(report, tmp_path):
    report.save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "PASS" in page
    assert page.count("<polyline") >= 2
    assert not re.search(r"(src|href)\s*=|<script", page)


def test_the_json_is_one_object_with_versions_and_hashes():
    options = ["parity", str(TINY), "--backends", FRAMEWORKS[0], "--json"]
    result = CliRunner().invoke(main, options)
    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert content["passed"] is True
    assert {"gptj", "python", "numpy"} < content["versions"].keys()
    assert len(content["files"]["model.safetensors"]) == 64


def test_what_does_not_fit_is_left_out_and_says_what_it_needs():
    name = FRAMEWORKS[0]
    small = parity(TINY, backends=[name], memory_limit=1000)
    notes = small.to_dict()["runs"]["float32"]["backends"][name]["notes"]
    assert re.match(r"not computed: needs .* GB, 1e-06 GB are free", notes["forward"])
    assert not small.passed
    middle = parity(TINY, backends=[name], memory_limit=400_000)
    found = middle.to_dict()["runs"]["float32"]["backends"][name]
    assert "not computed: needs" in found["notes"]["gradients"]
    assert found["gradients"] is None
    assert middle.passed


BAD = {
    "unknown backend": ({"backends": ["torhc"]}, "Unknown backend 'torhc'. Did you mean 'torch'"),
    "unknown dtype": ({"dtypes": ["float61"]}, "Unknown dtype 'float61'. Did you mean"),
    "unknown head": ({"head": "casual_lm"}, "Unknown head 'casual_lm'. Did you mean"),
    "no backend": ({"backends": []}, "backends is empty"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_request_is_refused(bad):
    options, message = BAD[bad]
    with pytest.raises(ArgumentError, match=message):
        parity(TINY, **options)


def test_the_command_ends_with_2_for_a_bad_request():
    result = CliRunner().invoke(main, ["parity", str(TINY), "--backends", "torhc"])
    assert result.exit_code == 2


@pytest.mark.parametrize("first", ["import gptj", "import gptj, gptj.parity.report"])
def test_the_name_can_be_called_whatever_was_imported_before(first):
    call = f"gptj.parity({str(TINY)!r}, backends=['torhc'])"
    code = f"""
{first}
for _ in range(2):
    try:
        {call}
    except gptj.GPTJError as error:
        print(type(error).__name__)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["ArgumentError"] * 2


def test_divergence_is_zero_for_equal_logits_and_right_for_known_ones():
    logits = np.array([[0.0, 1.0, -2.0]])
    assert kl_divergence(logits, logits)[0] == 0.0
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    expected = (p * np.log(p / q)).sum()
    assert abs(kl_divergence(np.log(p)[None], np.log(q)[None])[0] - expected) < 1e-12


def test_what_is_no_number_differs_infinitely():
    assert difference(np.array([np.nan]), np.array([1.0]))[0] == np.inf
    assert gptj.parity is not None
