"""Checkpoints as other programs leave them give the logits of the model, in every backend."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from gptj.checkpoint import safetensors
from gptj.checkpoint.folder import open_checkpoint
from gptj.cli import main
from gptj.model.loading import load_model
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from models import draw_ids, run, tiny_config
from paths import TINY
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

CONFIG = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
TENSORS = {name: t.read() for name, t in open_checkpoint(TINY).tensors.items()}
EXTRA = {"v_head.summary.weight": np.ones((1, 40), "f4"), "score.weight": np.ones((2, 40), "f4")}

CASES = {
    "heads of others": (TENSORS | EXTRA, {}, {}),
    "a prefix": ({f"module._orig_mod.{name}": a for name, a in TENSORS.items()}, {}, {}),
    "float64": ({n: a.astype("f8") for n, a in TENSORS.items()}, {"torch_dtype": "float64"}, {}),
    "other sizes": (TENSORS, {"n_layer": 28, "n_inner": None, "vocab_size": "50400"}, {}),
    "a tie that is none": (TENSORS, {"tie_word_embeddings": True}, {}),
    "nulls": (TENSORS, {"id2label": None, "torch_dtype": None, "n_ctx": None}, {}),
    "no configuration": (TENSORS, None, {"n_head": 4, "rotary_dim": 10, "n_positions": 2048}),
}


@pytest.fixture(params=CASES)
def folder(request, tmp_path):
    """Return a folder, and what its configuration changes of the tiny model's."""
    arrays, changes, expected = CASES[request.param]
    tensors = {name: LazyTensor.of(np.ascontiguousarray(a)) for name, a in arrays.items()}
    safetensors.write(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    if changes is not None:
        text = json.dumps(CONFIG | changes)
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    return tmp_path, expected


def test_the_logits_are_those_of_the_model(backend, folder):
    path, changes = folder
    model = load_model(backend, "causal_lm", path)
    ids = draw_ids((2, 7))
    weights = {name: LazyTensor.of(array) for name, array in TENSORS.items()}
    expected = forward(tiny_config(**changes), weights, head="causal_lm", input_ids=ids)
    assert_close(run(backend, model, input_ids=ids).logits, expected.logits, "float32")


def test_the_command_line_opens_them_too(folder):
    path, changes = folder
    result = CliRunner().invoke(main, ["inspect", str(path), "--json"])
    found = json.loads(result.stdout)
    assert found["missing"] == found["unexpected"] == found["misshapen"] == []
    assert found["config"]["n_layer"] == 2
    assert found["config"]["n_head"] == changes.get("n_head", CONFIG["n_head"])
