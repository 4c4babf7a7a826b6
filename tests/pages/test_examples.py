"""The examples run, at a small size: they learn, save, and print what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gptj
from gptj.model.config import GPTJConfig
from models import short_demo
from paths import ROOT

pytestmark = pytest.mark.frameworks

EXAMPLES = ROOT / "examples"
FOUR_DEVICES = "--xla_force_host_platform_device_count=4"
AS_USERS_HAVE_IT = {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}
"""Optax mixes dtypes, which the other tests forbid to the package."""


def run(name, *options, **environment):
    """Run an example in a separate process, and return what it prints."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, options)]
    done = subprocess.run(
        command,
        env={**os.environ, **AS_USERS_HAVE_IT, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def losses(printed, what="loss"):
    """Return the numbers behind a word, in their order."""
    return [float(number) for number in re.findall(rf"{what} (\d+\.\d+)", printed)]


def test_keras_classifies_lines_with_a_model_that_it_saved(tf_backend, tmp_path):
    options = ("--model", short_demo(), "--epochs", 1, "--per-class", 20, "--batch-size", 16)
    printed = run("keras_classification", *options, "--out", tmp_path)
    assert losses(printed, "accuracy")[0] > 0.3  # of nine classes, by chance a ninth
    assert "if len(cakes) > 3:" in printed
    assert (tmp_path / "classifier.keras").is_file()


def test_jax_goes_on_from_a_checkpoint_over_another_mesh(flax_backend, tmp_path):
    options = ("flax_language_model", "--model", short_demo(), "--length", 32)
    options += ("--save-every", 2, "--out", tmp_path)
    first = run(*options, "--steps", 2)
    second = run(*options, "--steps", 3, "--data", 2, XLA_FLAGS=FOUR_DEVICES)
    assert "step 0, held-out" in first and "step 2, held-out" in second
    assert "{'data': 2, 'model': 2}" in second
    before, after = (losses(printed, "held-out loss") for printed in (first, second))
    assert after[0] == pytest.approx(before[1], abs=2e-3)
    assert after[1] < before[0]
    assert gptj.load(tmp_path / "model", backend="flax").config.n_layer == 2


def test_pytorch_learns_where_answers_are(torch_backend, tmp_path):
    printed = run("torch_question_answering", "--steps", 30, "--contexts", 20, "--out", tmp_path)
    assert losses(printed)[-1] < 3  # of a choice among 96 positions, at first 4.6
    assert re.search(r"^\d+ of 4 held-out questions", printed, re.MULTILINE)
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_an_adapter_goes_from_one_framework_to_another(framework, tmp_path):
    options = ("lora_demo", "--model", short_demo(), "--backend", framework.name)
    printed = run(*options, "--epochs", 2, "--rows", 8, "--out", tmp_path)
    first, second = map(float, re.search(r"each epoch (\S+) (\S+)", printed).groups())
    assert second < first
    assert max(map(float, re.findall(r"at most (\S+)", printed))) < 1e-3
    assert "the same text" in printed and "logits are equal, bit for bit" in printed
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"


def test_pytorch_goes_on_from_shards_of_mesh_transformer_jax(torch_backend, tmp_path):
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 8, "rotary_dim": 4, "n_positions": 256}
    shards = gptj.init(GPTJConfig(**sizes), tmp_path / "shards", dtype="bfloat16", format="mesh")
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("api.py", "hub/locations.py", "model/loading.py"):
        shutil.copy(Path(gptj.__file__).parent / name, sources)
    printed = run(
        *("continued_pretraining", "--model", shards, "--sources", sources, "--steps", 4),
        *("--learning-rate", 0.01, "--out", tmp_path),
    )
    before, after = losses(printed, "held-out loss")
    assert after < before
    assert gptj.load(tmp_path / "model", backend="torch").config.n_head == 8


@pytest.mark.parametrize("labels", [0, 2])
def test_a_script_for_transformers_trains_in_pytorch(torch_backend, tmp_path, labels):
    options = ("--model", short_demo(), "--steps", 12, "--labels", labels, "--out", tmp_path)
    printed = run("from_transformers_torch", *options)
    found = losses(printed)
    assert sum(found[-3:]) < sum(found[:3])
    assert ("class" if labels else "text 'def add") in printed
    assert (tmp_path / "tokenizer.json").is_file() or (tmp_path / "vocab.json").is_file()


def test_a_script_for_transformers_trains_in_keras(tf_backend, tmp_path):
    options = ("--model", short_demo(), "--lines", 96, "--epochs", 3, "--out", tmp_path)
    printed = run("from_transformers_keras", *options)
    first, *_, last = losses(printed)
    assert last < first
    assert re.search(r"classes \[\d, \d\]", printed)
    assert gptj.load(tmp_path, backend="tf", head="sequence_classification").config.num_labels == 2


def test_a_script_for_transformers_trains_in_flax(flax_backend, tmp_path):
    options = ("--model", short_demo(), "--steps", 4, "--out", tmp_path)
    printed = run("from_transformers_flax", *options)
    found = losses(printed)
    assert len(found) == 4 and found[-1] < found[0]
    assert "text 'def add" in printed
    assert (tmp_path / "model.safetensors").is_file()


def test_every_example_is_in_the_table_of_the_folder():
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\((\w+\.py)\)", table))
    assert named == {path.name for path in EXAMPLES.glob("*.py")}
