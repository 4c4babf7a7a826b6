"""`gptj.export` to ggml: measured in ctransformers, and run without this package."""

import pytest

import gptj
from export_cases import assert_measured, redrawn, run_readme
from gptj.errors import UnsupportedFeature
from models import short_demo

pytest.importorskip("ctransformers")

pytestmark = pytest.mark.frameworks


def test_a_model_is_measured_and_writes_text_without_us(tmp_path):
    exported = gptj.export(short_demo(), tmp_path / "out", to="ggml")
    assert_measured(exported)
    assert [case["batch"] for case in exported.parity["cases"]] == [1, 1]
    assert run_readme(tmp_path / "out").startswith("def fibonacci(n):")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_far_from_their_start_are_within_what_the_engine_rounds(dtype, tmp_path):
    source = redrawn(tmp_path / "model", n_inner=160)
    parity = gptj.export(source, tmp_path / "out", to="ggml", dtype=dtype).parity
    assert parity["passed"] and "float16" in parity["tolerance"]


def test_blocks_are_measured_and_not_judged(tmp_path):
    parity = gptj.export(short_demo(), tmp_path / "out", to="ggml", quantize="q8_0").parity
    assert 0.01 < parity["error"]["max"] < 1 and parity["error"]["limit"] is None


def test_what_the_engine_does_not_compute_is_refused(tmp_path):
    source = redrawn(tmp_path / "model", activation_function="silu")
    with pytest.raises(UnsupportedFeature, match="activation_function = 'silu'"):
        gptj.export(source, tmp_path / "out", to="ggml")
    assert not (tmp_path / "out").exists()
