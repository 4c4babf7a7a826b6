"""`gptj.export` to TensorFlow, LiteRT and JAX: measured there, and run without this package."""

import pytest

import gptj
from export_cases import assert_measured, redrawn, run_readme
from gptj.spec.heads import HEADS
from models import short_demo

pytestmark = pytest.mark.frameworks

TARGETS = ("saved_model", "litert", "stablehlo")
OTHER_HEADS = [head for head in HEADS if head != "causal_lm"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_language_model_is_measured_and_writes_text_without_us(target, tmp_path):
    exported = gptj.export(short_demo(), tmp_path / "out", to=target)
    assert_measured(exported)
    assert run_readme(tmp_path / "out").splitlines()[-1]


@pytest.mark.parametrize("head", OTHER_HEADS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_other_head_is_measured(target, head, tmp_path):
    source = redrawn(tmp_path / "model", head, n_layer=1)
    assert_measured(gptj.export(source, tmp_path / "out", to=target), texts=False)


@pytest.mark.parametrize("target", ["saved_model", "stablehlo"])
def test_half_precision_is_as_near_as_our_own(target, tmp_path):
    source = redrawn(tmp_path / "model", n_layer=1)
    parity = gptj.export(source, tmp_path / "out", to=target, dtype="bfloat16").parity
    assert parity["own"] and parity["error"]["max"] <= 4 * parity["own"]["max"]


def test_stablehlo_has_a_cache(tmp_path):
    source = redrawn(tmp_path / "model", n_layer=1)
    parity = gptj.export(source, tmp_path / "out", to="stablehlo").parity
    assert parity["not_run"] == {}
