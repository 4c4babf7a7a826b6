"""Half precision is judged beside this package's own model in the same dtype."""

import pytest

from export_cases import redrawn
from gptj.exporting import proof
from gptj.exporting.cases import Case, expected
from gptj.exporting.source import open_source
from models import draw_ids

pytestmark = pytest.mark.frameworks


def test_the_error_of_our_own_model_is_that_of_rounding(backend, tmp_path, monkeypatch):
    if "bfloat16" not in backend.capabilities.dtypes or backend.name not in proof.FRAMEWORKS:
        pytest.skip("no half precision")
    monkeypatch.setattr(proof, "FRAMEWORKS", {backend.name: None})
    source = open_source(redrawn(tmp_path, n_layer=1), None, "bfloat16", None, {})
    ids = draw_ids((2, 6), seed=5)
    cases = [Case("two sequences", ids, ids * 0 + 1)]
    own = proof.own_error(source, cases, expected(source, cases))
    assert own["backend"] == backend.name and 1e-3 < own["max"] < 0.25
