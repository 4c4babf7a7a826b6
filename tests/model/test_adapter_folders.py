"""A folder that holds an adapter alone serves like a model."""

import json
import logging
import shutil

import numpy as np
import pytest

import gptj
from adapter_cases import FIRST, LORA, adapter_of, load, needs_framework, save_adapter, save_base
from gptj.backends import get_backend
from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import CheckpointError, UnsupportedFeature
from gptj.model.config import GPTJConfig
from gptj.spec.lora import LoraConfig
from lora_cases import drawn
from models import run
from paths import GOLDEN
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

PEFT = {
    "patterns": ("causal_lm", "causal_lm"),
    "classes": ("seqcls_single", "sequence_classification"),
    "answers": ("qa", "question_answering"),
}
CLASSES = LoraConfig(rank=3, alpha=6, modules_to_save=("score",))


@pytest.fixture
def base(tmp_path):
    return save_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path, base):
    return save_adapter(tmp_path / "adapter", base)


# The model that it belongs to


@needs_framework
@pytest.mark.parametrize("case", PEFT)
def test_an_adapter_of_pefts_is_loaded_with_its_base_and_head(case, tmp_path):
    shutil.copytree(GOLDEN / "lora" / case, tmp_path, dirs_exist_ok=True)
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    fields["base_model_name_or_path"] = str(GOLDEN / PEFT[case][0] / "checkpoint")
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
    model = load(tmp_path)
    assert model.head == PEFT[case][1]
    arrays = dict(np.load(tmp_path / "expected.npz"))
    inputs = {name: arrays.pop(name) for name in ("input_ids", "attention_mask")}
    found = run(get_backend(FIRST), model, **inputs)
    for name, expected in arrays.items():
        assert_close(found[name], expected, "golden", name)


@needs_framework
@pytest.mark.parametrize("written", ["../base", "base", "absolute"])
def test_a_path_is_one_from_the_adapter_or_from_here(written, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = base if written == "absolute" else written
    model = load(save_adapter(tmp_path / "adapter", name))
    assert model.lora == LORA
    assert model.loaded_as == (str(base), None)


@needs_framework
def test_a_preset_is_found_without_its_path(tmp_path):
    load("demo").add_lora().save_lora(tmp_path)
    assert (
        json.loads((tmp_path / "adapter_config.json").read_text()).items()
        >= {
            "base_model_name_or_path": "demo",
            "revision": None,
        }.items()
    )
    assert load(tmp_path).config == load("demo").config


@needs_framework
def test_a_saved_adapter_names_its_base_from_anywhere(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base.parent)
    load("base").add_lora().save_lora("new")
    monkeypatch.chdir("/")
    assert load(tmp_path / "new").loaded_as == (str(base), None)


@needs_framework
def test_what_was_loaded_with_an_adapter_is_saved_with_the_same_base(adapter, tmp_path):
    load(adapter).save_lora(tmp_path / "again")
    names = [
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        for folder in (adapter, tmp_path / "again")
    ]
    assert names[0] == names[1]


NO_BASE = {
    "no name": (None, "adapter_config.json has base_model_name_or_path = None."),
    "no such folder": ("./nowhere", "found: './nowhere' is neither an existing folder"),
    "itself": (".", "'.' is an adapter itself."),
    "no path": ("x" * 5000, "xxx': File name too long."),
}


@pytest.mark.parametrize("case", NO_BASE)
def test_a_base_that_is_not_there_is_named_with_the_way_by_hand(case, tmp_path, monkeypatch):
    monkeypatch.setattr("gptj.model.loading.require_adapters", lambda backend: None)
    name, message = NO_BASE[case]
    save_adapter(tmp_path, name)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    told = str(caught.value)
    assert told.startswith(f"The adapter in {tmp_path} needs the model that it was trained on")
    assert message in told
    assert told.endswith(f"Load it yourself: gptj.load(base).load_lora({str(tmp_path)!r}).")


@needs_framework
def test_a_base_without_weights_is_reported_in_the_same_way(adapter, base):
    (base / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter needs the model .*base holds no weights"):
        load(adapter)


def test_a_backend_without_adapters_says_so_before_it_looks_for_the_base(tmp_path):
    with pytest.raises(
        UnsupportedFeature,
        match=r"The backend 'oracle' has no adapters\. Load .* torch, tf or flax; .*merge_lora",
    ):
        gptj.load(save_adapter(tmp_path, "./nowhere"), backend="oracle")


@needs_framework
def test_a_folder_with_weights_is_a_model_whatever_lies_beside_them(base, tmp_path):
    save_adapter(base, "./nowhere")
    assert load(base).lora is None


def test_where_a_checkpoint_is_needed_an_adapter_alone_is_reported(adapter):
    with pytest.raises(CheckpointError, match=r"holds an adapter and no weights .* merge_lora"):
        open_checkpoint(adapter)


# Heads and labels


@needs_framework
def test_a_head_that_is_asked_for_wins_where_the_adapter_fits_it(adapter):
    model = load(adapter, head="base")
    assert (model.head, model.lora) == ("base", LORA)


@needs_framework
def test_the_class_that_is_asked_for_is_what_one_gets(adapter):
    name = {"torch": "", "tf": "TF", "flax": "Flax"}[FIRST]
    assert getattr(gptj, f"{name}GPTJForCausalLM").from_pretrained(adapter).lora == LORA
    assert getattr(gptj, f"{name}GPTJModel").from_pretrained(adapter).lora == LORA


@needs_framework
def test_a_head_that_does_not_fit_is_refused_before_the_base_is_read(base, tmp_path, monkeypatch):
    save_adapter(tmp_path / "classes", base, CLASSES, "sequence_classification")
    monkeypatch.setattr("gptj.model.loading.match_parameters", None)
    with pytest.raises(CheckpointError, match=r"the head 'causal_lm'.*unexpected: score\.weight"):
        load(tmp_path / "classes", head="causal_lm")


@pytest.mark.parametrize("num_labels", [2, 5])
def test_there_are_as_many_labels_as_the_adapter_has(framework, base, tmp_path, num_labels, caplog):
    head = "sequence_classification"
    save_adapter(tmp_path / "classes", base, CLASSES, head, num_labels=num_labels)
    with caplog.at_level(logging.WARNING, "gptj"):
        model = gptj.load(tmp_path / "classes", backend=framework.name)
    assert (model.head, model.config.num_labels) == (head, num_labels)
    expected = drawn(CLASSES, head, num_labels=num_labels)["score.weight"]
    assert np.array_equal(adapter_of(model)["score.weight"], expected)
    assert caplog.text == ""  # nothing was drawn anew


@needs_framework
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_labels_keep_their_names_through_an_adapter(base, tmp_path, problem):
    names = {0: "bad", 1: "so so", 2: "good"}
    head = "sequence_classification"
    model = load(base, head=head, id2label=names, problem_type=problem)
    model.add_lora().save_lora(tmp_path / "classes")
    config = load(tmp_path / "classes").config
    assert (config.id2label, config.problem_type) == (names, problem)
    assert config.label2id == {"bad": 0, "so so": 1, "good": 2}


@needs_framework
def test_the_labels_of_the_base_stay_where_the_adapter_has_as_many(tmp_path):
    head, names = "sequence_classification", {0: "no", 1: "yes"}
    folder = save_base(tmp_path / "base", head)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"id2label": names}))
    save_adapter(tmp_path / "classes", folder, CLASSES, head)
    assert load(tmp_path / "classes").config.id2label == names
    model = load(tmp_path / "classes", id2label={0: "nein", 1: "ja"})
    assert model.config.id2label == {0: "nein", 1: "ja"}


@needs_framework
def test_names_for_other_labels_than_the_adapter_has_are_refused(base, tmp_path):
    head = "sequence_classification"
    save_adapter(tmp_path / "classes", base, CLASSES, head, num_labels=3)
    (tmp_path / "classes" / "config.json").write_text('{"id2label": {"0": "a", "1": "b"}}')
    with pytest.raises(CheckpointError, match=r"names 2 labels, but the adapter beside it has 3"):
        load(tmp_path / "classes")


@needs_framework
@pytest.mark.parametrize(
    ("lora", "head"), [(LORA, "causal_lm"), (CLASSES, "sequence_classification")]
)
def test_without_a_task_the_tensors_say_which_head_it_is(base, tmp_path, lora, head):
    save_adapter(tmp_path / "adapter", base, lora, head, like={"task_type": None})
    assert load(tmp_path / "adapter").head == head


@needs_framework
@pytest.mark.parametrize("task", ["TOKEN_CLS", ["CAUSAL_LM"], {}, 3], ids=str)
def test_a_task_that_no_head_is_for_is_refused_unless_a_head_is_named(base, tmp_path, task):
    save_adapter(tmp_path / "adapter", base, like={"task_type": task})
    with pytest.raises(CheckpointError, match=r"task_type = .*; accepted are 'FEATURE"):
        load(tmp_path / "adapter")
    assert load(tmp_path / "adapter", head="causal_lm").lora == LORA


# Configuration and tokenizer


def test_the_configuration_is_that_of_the_base(adapter, base):
    assert GPTJConfig.from_pretrained(adapter) == GPTJConfig.from_pretrained(base)


@needs_framework
@pytest.mark.parametrize("owner", ["adapter", "base"])
def test_the_tokenizer_is_the_adapters_else_that_of_the_base(adapter, base, owner):
    side = {"padding_side": "left"}
    (base / "tokenizer_config.json").write_text(json.dumps(side | {"model_max_length": 77}))
    if owner == "adapter":
        (adapter / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 66}))
    expected = ("right", 66) if owner == "adapter" else ("left", 77)
    tokenizer = gptj.load_tokenizer(adapter)
    assert (tokenizer.padding_side, tokenizer.model_max_length) == expected
    assert load(adapter).source_folder == {"adapter": adapter, "base": base}[owner]


def test_the_tokenizer_of_a_preset_needs_no_files(tmp_path):
    save_adapter(tmp_path, "6B")
    assert len(gptj.load_tokenizer(tmp_path, padding_side="left")) == 50400
