"""`gptj.export` to AOTInductor: measured in the compiled package, and run without this package."""

import os

import pytest

import gptj
from export_cases import assert_measured, redrawn, run_readme
from gptj.errors import UnsupportedFeature

pytestmark = pytest.mark.frameworks


def test_a_language_model_is_measured_and_writes_ids_without_us(tmp_path):
    source = redrawn(tmp_path / "model", n_layer=1)
    assert_measured(gptj.export(source, tmp_path / "out", to="aoti"))
    assert run_readme(tmp_path / "out").startswith("[torch.Size([1, 3, 96])]")


def test_a_classifier_is_measured_in_half_precision(tmp_path):
    source = redrawn(tmp_path / "model", "sequence_classification", n_layer=1)
    parity = gptj.export(source, tmp_path / "out", to="aoti", dtype="bfloat16").parity
    assert parity["passed"] and parity["own"]["backend"] == "torch"


def test_without_a_compiler_it_is_refused(tmp_path, monkeypatch):
    source = redrawn(tmp_path / "model", n_layer=1)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UnsupportedFeature, match=r"needs a C\+\+ compiler, and g\+\+ is not there"):
        gptj.export(source, tmp_path / "out", to="aoti")
    assert not (tmp_path / "out").exists()
