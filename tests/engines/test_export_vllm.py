"""`gptj.export` to vLLM, which is not installed beside the others: what transformers reads of it.

vLLM itself was tried by hand; ``docs/export.md`` has the numbers.
"""

import json

import numpy as np
import pytest

import gptj
from export_cases import redrawn
from models import draw_ids, short_demo

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.frameworks


def test_a_tied_model_is_written_untied_and_computes_the_same(tmp_path):
    source = redrawn(tmp_path / "model", tie_word_embeddings=True)
    parity = gptj.export(source, tmp_path / "out", to="vllm").parity
    assert not parity["measured"] and "vllm is not installed" in parity["reason"]
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert content["tie_word_embeddings"] is False and content["torch_dtype"] == "float32"
    ids = draw_ids((2, 9), seed=3)
    found = transformers.GPTJForCausalLM.from_pretrained(tmp_path / "out")(torch.tensor(ids)).logits
    expected = gptj.load(source, backend="numpy")(ids).logits
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=5e-5)


def test_the_page_of_the_folder_says_the_dtype(tmp_path):
    gptj.export(short_demo(), tmp_path / "out", to="vllm", dtype="bfloat16")
    assert "vllm serve . --dtype bfloat16" in (tmp_path / "out" / "README.md").read_text()
