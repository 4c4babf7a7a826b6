"""Adapters as files: those that PEFT wrote, those that it reads, and what is wrong with others.

``tests/golden/lora`` holds adapters with drawn weights that PEFT 0.21.2 wrote, for checkpoints of
``tests/golden``, and what transformers 4.56.2 computed with each of them in PyTorch, in float32.
"""

import json
import shutil

import numpy as np
import pytest

import gptj
from gptj.backends import get_backend
from gptj.checkpoint import pytorch_bin_writer, safetensors
from gptj.checkpoint.adapter_files import read_adapter, write_adapter
from gptj.errors import ArgumentError, CheckpointError
from gptj.spec.lora import LoraConfig
from gptj.spec.tensors import LazyTensor
from installed import FRAMEWORKS
from lora_cases import IDS, adapted, drawn, plain, small_config
from models import run
from paths import GOLDEN
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

PEFT = {
    "patterns": ("causal_lm", "causal_lm"),
    "language_model_head": ("causal_lm", "causal_lm"),
    "classes": ("seqcls_single", "sequence_classification"),
    "answers": ("qa", "question_answering"),
}
FILE = "adapter_model.safetensors"
FIELDS = {
    "r": 3,
    "lora_alpha": 6,
    "lora_dropout": 0.1,
    "target_modules": ["q_proj", "fc_in"],
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "use_rslora": True,
    "use_dora": False,
}
LORA = LoraConfig(rank=3, alpha=6, dropout=0.1, targets=("q_proj", "fc_in"), use_rslora=True)


@pytest.mark.parametrize("case", PEFT)
def test_an_adapter_of_pefts_gives_its_outputs(framework, case):
    base, head = PEFT[case]
    model = gptj.load(GOLDEN / base / "checkpoint", backend=framework.name, head=head)
    gptj.load_lora(model, GOLDEN / "lora" / case)
    arrays = dict(np.load(GOLDEN / "lora" / case / "expected.npz"))
    inputs = {name: arrays.pop(name) for name in ("input_ids", "attention_mask")}
    found = run(framework, model, **inputs)
    for name, expected in arrays.items():
        assert_close(found[name], expected, "golden", name)


@pytest.mark.parametrize("case", ["patterns", "classes", "answers"])
def test_what_was_read_is_written_again_as_it_was(framework, case, tmp_path):
    base, head = PEFT[case]
    model = gptj.load(GOLDEN / base / "checkpoint", backend=framework.name, head=head)
    model.load_lora(GOLDEN / "lora" / case).save_lora(tmp_path)
    old, new = (safetensors.read(f / FILE) for f in (GOLDEN / "lora" / case, tmp_path))
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[name].read(), new[name].read()) for name in old)
    assert read_adapter(tmp_path, model.config, head)[0] == model.lora


def test_an_adapter_of_one_framework_serves_in_the_others(framework, tmp_path):
    model = adapted(framework.name, LORA)
    model.save_lora(tmp_path)
    expected = run(framework, model, input_ids=IDS).logits
    for name in FRAMEWORKS:
        other = plain(name).load_lora(tmp_path)
        assert other.lora == read_adapter(tmp_path, small_config(), "causal_lm")[0]
        assert_close(run(get_backend(name), other, input_ids=IDS).logits, expected, "float32", name)


def test_a_merged_adapter_is_saved_as_it_was(framework, tmp_path):
    model = adapted(framework.name, LORA)
    model.save_lora(tmp_path / "before")
    model.merge_lora().save_lora(tmp_path / "after")
    before, after = (tmp_path / name / FILE for name in ("before", "after"))
    assert before.read_bytes() == after.read_bytes()


@pytest.fixture
def saved(tmp_path):
    """A folder with the adapter `LORA` of a tiny model."""
    tensors = {name: LazyTensor.of(array) for name, array in drawn(LORA).items()}
    write_adapter(tmp_path, LORA, "causal_lm", tensors, "owner/gptj")
    return tmp_path


def change(folder, **fields):
    """Change fields of an adapter's configuration."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def read(folder, head="causal_lm"):
    return read_adapter(folder, small_config(), head)


def test_the_files_have_pefts_names_fields_and_shapes(saved):
    assert {path.name for path in saved.iterdir()} == {FILE, "adapter_config.json"}
    content = json.loads((saved / "adapter_config.json").read_text())
    assert content.items() >= FIELDS.items()
    assert content["base_model_name_or_path"] == "owner/gptj"
    assert content["task_type"] == "CAUSAL_LM"
    tensors = safetensors.read(saved / FILE)
    layer = "base_model.model.transformer.h.0.mlp.fc_in"
    assert tensors[f"{layer}.lora_A.weight"].shape == (3, 40)
    assert tensors[f"{layer}.lora_B.weight"].shape == (small_config().inner_dim, 3)
    assert len(tensors) == 2 * 2


def test_fields_that_say_nothing_new_are_passed_over(saved):
    expected = read(saved)[0]
    change(saved, peft_version="9.9", some_new_field=None, loftq_config={}, inference_mode=False)
    assert read(saved)[0] == expected


def test_an_adapter_in_pickled_form_is_read(saved):
    _, expected, _ = read(saved)
    pytorch_bin_writer.write(saved / "adapter_model.bin", safetensors.read(saved / FILE))
    (saved / FILE).rename(saved / "elsewhere")
    _, found, _ = read(saved)
    assert found.keys() == expected.keys()
    old = safetensors.read(saved / "elsewhere")
    for name, tensor in found.items():
        assert np.array_equal(tensor.read(), old[f"base_model.model.{name}"].read())


def test_an_adapter_of_a_model_with_a_head_fits_the_base_model(saved):
    _, found, _ = read(saved, head="base")
    assert all(name.startswith("h.") for name in found)


@pytest.mark.parametrize(
    "fields",
    [{"target_modules": r".*\.(q_proj|fc_in)"}, {"layers_to_transform": [0]}],
    ids=["a pattern", "some layers"],
)
def test_targets_that_are_no_plain_list_follow_from_the_tensors(saved, fields):
    expected = read(saved)[1]
    change(saved, **fields)
    lora, found, _ = read(saved)
    assert found.keys() == expected.keys()
    assert {name.rpartition(".")[2] for name in lora.targets} == {"q_proj", "fc_in"}


REFUSED = {
    "another method": ({"peft_type": "IA3"}, r"peft_type = 'IA3' \(accepted: 'LORA'\)"),
    "DoRA": ({"use_dora": True}, "asks for what is not done here: use_dora = True. Accepted"),
    "a bias": ({"bias": "all"}, r"bias = 'all' \(accepted: 'none'\)"),
    "two at once": ({"lora_bias": True, "use_qalora": True}, "lora_bias = True; use_qalora = True"),
    "transposed": ({"fan_in_fan_out": True}, "fan_in_fan_out = True"),
    "what changes the base": ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
    "a field of tomorrow": ({"use_novel": {"a": 1}}, "use_novel = {'a': 1}"),
    "a pattern of ranks": (
        {"rank_pattern": {"(a+)+": 2}},
        r"the pattern '\(a\+\)\+' is not the name",
    ),
    "a rank in words": ({"r": "eight"}, "adapter_config.json cannot be used: rank must be"),
    "a list for a rank": ({"r": [10**400]}, "adapter_config.json cannot be used: rank must be"),
    "an alpha without end": ({"lora_alpha": 10**400}, "adapter_config.json cannot be used"),
    "no expression": ({"rank_pattern": {"h.(": 2}}, "is no regular expression"),
    "a list for a pattern": ({"rank_pattern": [3]}, "adapter_config.json cannot be used"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_more_than_lora_is_refused_by_name(saved, case):
    fields, message = REFUSED[case]
    change(saved, **fields)
    with pytest.raises(CheckpointError, match=message):
        read(saved)


@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "transformer.h.0.ln_1.bias", "lm_head.weight"]
)
def test_parameters_of_the_model_itself_are_refused_with_what_to_do(saved, name):
    tensors = dict(safetensors.read(saved / FILE))
    tensors[f"base_model.model.{name}"] = LazyTensor.of(np.zeros((5, 40), np.float32))
    path = saved / "new"
    safetensors.write(path, tensors, {"format": "pt"})
    path.rename(saved / FILE)
    message = rf"of the model itself beside LoRA: \S*{name[-9:]} \(5, 40\)\. .*merge_and_unload"
    with pytest.raises(CheckpointError, match=message):
        read(saved)


def test_an_adapter_of_no_linear_layer_says_what_to_do(saved):
    change(saved, target_modules=["wte"])
    with pytest.raises(CheckpointError, match=r"no linear layer 'wte'.*merge_and_unload"):
        read(saved)


def test_a_folder_without_an_adapter_says_what_is_missing(saved, tmp_path):
    (saved / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"no weights: accepted are adapter_model\.safet"):
        read(saved)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing. Give the folder"):
        read(tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_configuration_is_reported(saved, text):
    (saved / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"is not valid JSON|not a JSON object"):
        read(saved)


def test_every_tensor_that_does_not_fit_is_named_at_once(saved):
    tensors = safetensors.read(saved / FILE)
    start = "base_model.model.transformer.h.0.attn"
    del tensors[f"{start}.q_proj.lora_A.weight"]
    tensors[f"{start}.k_proj.lora_A.weight"] = tensors[f"{start}.q_proj.lora_B.weight"]
    wide = f"{start}.q_proj.lora_B.weight"
    tensors[wide] = tensors[wide].transposed()
    safetensors.write(saved / FILE, tensors, {})
    with pytest.raises(CheckpointError) as caught:
        read(saved)
    for part in (
        "1 missing: transformer.h.0.attn.q_proj.lora_A.weight",
        "1 unexpected: transformer.h.0.attn.k_proj.lora_A.weight",
        "q_proj.lora_B.weight is (3, 40), needed is (40, 3)",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("start", ["module.base_model.model", "base_model.model._orig_mod"])
def test_what_wrappers_put_into_names_is_left_out(saved, start):
    expected = read(saved)[1]
    tensors = safetensors.read(saved / FILE)
    renamed = {n.replace("base_model.model", start): t for n, t in tensors.items()}
    safetensors.write(saved / FILE, renamed, {})
    found = read(saved)[1]
    assert found.keys() == expected.keys()


def test_integers_are_no_adapter(saved):
    tensors = safetensors.read(saved / FILE)
    name = next(iter(tensors))
    tensors[name] = LazyTensor.of(tensors[name].read().astype(np.int8))
    safetensors.write(saved / FILE, tensors, {})
    with pytest.raises(CheckpointError, match=r"in int8; accepted are 'float32'.*another program"):
        read(saved)


def test_a_cut_file_is_reported(saved):
    content = (saved / FILE).read_bytes()
    (saved / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        read(saved)


def test_an_adapter_that_brings_another_head_is_refused(tmp_path, torch_backend):
    shutil.copytree(GOLDEN / "lora" / "language_model_head", tmp_path, dirs_exist_ok=True)
    model = gptj.load(GOLDEN / "causal_lm_silu" / "checkpoint", backend="torch")
    with pytest.raises(CheckpointError, match=r"another lm_head\.\w+, of which it brings"):
        model.load_lora(tmp_path)
    assert model.lora is None


def test_an_adapter_is_not_saved_over_a_file(saved, torch_backend):
    model = adapted("torch", LORA)
    with pytest.raises(CheckpointError, match="it is a file, not a folder"):
        model.save_lora(saved / FILE)


def test_a_second_adapter_is_refused(saved, torch_backend):
    model = adapted("torch", LORA)
    with pytest.raises(ArgumentError, match="has an adapter already"):
        model.load_lora(saved)
