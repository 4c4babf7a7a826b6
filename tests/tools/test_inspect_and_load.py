"""`inspect` and `load` agree: a problem is what loading refuses or cannot see, all else a note."""

import json
import logging
import os
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj.checkpoint.adapter_files import write_adapter
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.safetensors import write
from gptj.cli import main
from gptj.errors import GPTJError
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.lora import LoraConfig, new_adapter
from gptj.spec.tensors import LazyTensor
from noting import Noting
from paths import TINY

pytestmark = pytest.mark.neutral

CONFIG = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
TENSORS = dict(open_checkpoint(TINY).tensors)
TRIALS = int(os.environ.get("GPTJ_TRIALS", "60"))


class Wide(Noting):
    """With the dtypes of the frameworks."""

    capabilities = replace(Noting.capabilities, dtypes=("float32", "bfloat16", "float16"))


def array(*shape, value=1.0, dtype="f4"):
    return LazyTensor.of(np.full(shape, value, dtype))


ODD_TENSORS = [
    {},
    {"v_head.summary.weight": array(1, 40, value=np.nan)},
    {"probe.weight": array(3, 40, value=0.0)},
    {"score.weight": array(1, 40)},
    {"transformer.h.0.attn.bias": array(1, 1, 64, 64)},
    {"transformer.h.0.attn.masked_bias": LazyTensor.of(np.float32(-1e9))},
    {"transformer.wte.weight.exp_avg": array(2, value=np.inf)},
    {"transformer.ln_f.bias": array(40, dtype="f8")},
    {"transformer.ln_f.bias": array(40, value=1e300, dtype="f8")},
    {"transformer.ln_f.bias": array(40, dtype="i8")},
    {"transformer.ln_f.bias": array(41)},
    {"transformer.h.0.ln_2.weight": array(40)},
    {"transformer.h.0.attn.q_proj.lora_A.weight": array(2, 40)},
    {"lm_head.bias": None},
    {"transformer.wte.weight": None},
]
ODD_CONFIGS = [
    {},
    None,
    {"n_layer": 5},
    {"n_layer": "2"},
    {"n_layer": "two"},
    {"n_embd": 48},
    {"n_head": None},
    {"vocab_size": 50257},
    {"torch_dtype": "float16"},
    {"torch_dtype": "float64"},
    {"torch_dtype": "float7"},
    {"layer_norm_epsilon": "1e-5"},
    {"rotary_dim": 7},
    {"hidden_act": "relu"},
    {"rope_theta": 5},
    {"tie_word_embeddings": True},
    {"eos_token_id": 50256},
    {"model_type": "gpt2"},
    {"activation_function": "swiglu"},
    {"id2label": {"5": "a"}},
    {"task_specific_params": {"text-generation": {"do_sample": True, "top_k": "x"}}},
]
ODD_OPTIONS = [
    {},
    None,
    {"eos_token_id": [95, 50256]},
    {"suppress_tokens": [50256]},
    {"do_sample": True, "temperature": 0.0},
    {"num_beams": 2, "penalty_alpha": 0.5},
    {"top_p": 7},
    {"max_length": "x"},
    {"repetition_penalty": -1},
    {"stranger": {"a": 1}},
    [],
]
BEYOND_LOADING = (
    "numbers that are nan",
    "numbers that are infinite",
    "is all zero",
    "masks are not causal",
    "generation options make no sense",
)
"""Problems that loading does not see."""


def write_folder(folder, tensors, config, options):
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    whole = {name: t for name, t in {**TENSORS, **tensors}.items() if t is not None}
    write(folder / "model.safetensors", whole, {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")
    if options is not None:
        (folder / "generation_config.json").write_text(json.dumps(options), encoding="utf-8")
    return folder


def refusal(folder, head):
    """Return what loading with all numbers refuses, or None."""
    try:
        for tensor in load_model(Wide(), head, folder).params.values():
            tensor.read()
    except GPTJError as error:
        return str(error)
    return None


def check(folder, caplog):
    caplog.clear()
    found = gptj.inspect(folder)
    assert caplog.messages == []  # what loading logs is a note here
    content = found.to_dict()
    problems = [p for p in content["problems"] if not any(b in p for b in BEYOND_LOADING)]
    refused = refusal(folder, content["head"])
    assert bool(problems) == bool(refused), (problems, refused)
    warned = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    if not refused and not any("not causal" in line for line in warned):
        assert len(warned) <= len(content["notes"]), (warned, content["notes"])
        assert all(any(core(line) in note for note in content["notes"]) for line in warned), warned
    return found


def core(line):
    """Return the part of a warning that a note has too."""
    return line.split(", the tensors are in")[0].split(": ")[-1].rstrip(".")


@pytest.mark.parametrize("tensors", ODD_TENSORS, ids=" ".join)
def test_they_agree_on_tensors(tensors, tmp_path, caplog):
    check(write_folder(tmp_path / "model", tensors, {}, {}), caplog)


@pytest.mark.parametrize("case", [({}, c, {}) for c in ODD_CONFIGS], ids=str)
def test_they_agree_on_configurations(case, tmp_path, caplog):
    check(write_folder(tmp_path / "model", *case), caplog)


@pytest.mark.parametrize("case", [({}, {}, o) for o in ODD_OPTIONS], ids=str)
def test_they_agree_on_generation_options(case, tmp_path, caplog):
    check(write_folder(tmp_path / "model", *case), caplog)


def test_they_agree_on_whatever_comes_together(tmp_path, caplog):
    generator = np.random.Generator(np.random.PCG64(7))
    kinds = (ODD_TENSORS, ODD_CONFIGS, ODD_OPTIONS)
    results = set()
    for _ in range(TRIALS):
        case = [kind[generator.integers(len(kind))] for kind in kinds]
        results.add(check(write_folder(tmp_path / "model", *case), caplog).ok)
    assert results == {True, False}


@pytest.mark.parametrize("config", [{"n_layer": "2"}, {"n_layer": "two"}], ids=str)
def test_the_exit_code_is_that_verdict(config, tmp_path):
    folder = write_folder(tmp_path / "model", {}, config, {})
    result = CliRunner().invoke(main, ["inspect", str(folder)])
    assert result.exit_code == (0 if gptj.inspect(folder).ok else 1)


def test_options_without_effect_are_notes(tmp_path):
    options = {"eos_token_id": [95, 50256], "num_beams": 2, "penalty_alpha": 0.5}
    found = gptj.inspect(write_folder(tmp_path / "model", {}, {}, options))
    assert found.ok
    notes = "\n".join(found.to_dict()["notes"])
    assert "eos_token_id 50256 is not in the vocabulary of 96 tokens and ends no text" in notes
    assert "The model's own penalty_alpha gives way to other options" in notes


def test_an_option_that_generate_refuses_is_a_problem(tmp_path):
    found = gptj.inspect(write_folder(tmp_path / "model", {}, {}, {"repetition_penalty": -1}))
    (problem,) = found.to_dict()["problems"]
    assert "repetition_penalty must be a number above 0" in problem
    assert "generation_config.json" in problem


def test_an_adapter_is_inspected_with_its_base(tmp_path):
    write_folder(tmp_path / "model", {}, {}, {})
    tensors = new_adapter(LoraConfig(rank=2), GPTJConfig.from_dict(CONFIG), "causal_lm")
    folder = tmp_path / "adapter"
    write_adapter(folder, LoraConfig(rank=2), "causal_lm", tensors, "../model")
    found = gptj.inspect(folder)
    assert found.ok
    assert "adapter: rank 2, alpha 16, on q_proj, v_proj; 8 tensors." in str(found)
    name = next(iter(tensors))
    bad = tensors | {name: LazyTensor.of(np.full(tensors[name].shape, np.nan, "f4"))}
    write_adapter(folder, LoraConfig(rank=2), "causal_lm", bad, "../model")
    assert gptj.inspect(folder).to_dict()["problems"] == [f"{name} holds 80 numbers that are nan."]
