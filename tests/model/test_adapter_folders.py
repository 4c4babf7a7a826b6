"""A folder, or a repository of the hub, that holds an adapter alone serves like a model."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj import hub
from gptj.backends import get_backend
from gptj.checkpoint.adapter_files import write_adapter
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.cli import main
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.tensors import LazyTensor
from hub_server import connect, serve
from installed import FRAMEWORKS
from lora_cases import drawn, small_config, small_weights
from models import run
from paths import GOLDEN
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

FIRST = FRAMEWORKS[0] if FRAMEWORKS else "oracle"
needs_framework = pytest.mark.skipif(not FRAMEWORKS, reason="no framework has adapters")

PEFT = {
    "patterns": ("causal_lm", "causal_lm"),
    "classes": ("seqcls_single", "sequence_classification"),
    "answers": ("qa", "question_answering"),
}
FILES = {"adapter_config.json", "adapter_model.safetensors"}
LORA = LoraConfig(rank=3, alpha=6)
CLASSES = LoraConfig(rank=3, alpha=6, modules_to_save=("score",))
Q_PROJ = "transformer.h.0.attn.q_proj.lora_B.weight"
TEXT = "a b c"


def save_base(folder, head="causal_lm", **changes):
    """Write the tiny base model of ``lora_cases``."""
    config = GPTJConfig.from_dict(small_config(**changes).to_dict())
    tensors = {n: LazyTensor.of(w) for n, w in small_weights(head, **changes).items()}
    save_checkpoint(folder, config, GenerationConfig(), tensors)
    return folder


def save_adapter(folder, base, lora=LORA, head="causal_lm", *, like=None, **changes):
    """Write an adapter of drawn values for a base of that name; `like` changes its fields."""
    tensors = {n: LazyTensor.of(w) for n, w in drawn(lora, head, **changes).items()}
    write_adapter(folder, lora, head, tensors, None if base is None else str(base))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (like or {})))
    return folder


@pytest.fixture
def base(tmp_path):
    return save_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path, base):
    return save_adapter(tmp_path / "adapter", base)


def load(folder, **options):
    """Load a name with the first framework."""
    return gptj.load(folder, backend=FIRST, **options)


def adapter_of(model):
    """Return the adapter of a model as arrays."""
    dumped = get_backend(model.backend_name).dump_adapter(model)
    return {name: tensor.read() for name, tensor in dumped.items()}


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
    "no such folder": ("./nowhere", "'./nowhere': './nowhere' is neither an existing folder"),
    "itself": (".", "'.' is an adapter itself."),
    "no path": ("x" * 5000, "x': "),
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
def test_a_base_without_weights_is_told_of_in_the_same_way(adapter, base):
    (base / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter needs the model .*base holds no weights"):
        load(adapter)


def test_a_backend_without_adapters_says_so_before_it_looks_for_the_base(tmp_path):
    with pytest.raises(UnsupportedFeature, match="The backend 'oracle' has no adapters"):
        gptj.load(save_adapter(tmp_path, "./nowhere"), backend="oracle")


@needs_framework
def test_a_folder_with_weights_is_a_model_whatever_lies_beside_them(base, tmp_path):
    save_adapter(base, "./nowhere")
    assert load(base).lora is None


def test_where_a_checkpoint_is_needed_an_adapter_alone_is_told_of(adapter):
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
def test_a_task_that_no_head_is_for_is_refused_unless_a_head_is_named(base, tmp_path):
    save_adapter(tmp_path / "adapter", base, like={"task_type": "TOKEN_CLS"})
    with pytest.raises(CheckpointError, match=r"task_type = 'TOKEN_CLS'; accepted are 'FEATURE"):
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


# The hub


@pytest.fixture
def served(tmp_path, base, monkeypatch):
    """A hub with a base in two revisions, an adapter of one of them, and both in one repository."""
    old = save_base(tmp_path / "old", n_positions=16)
    adapter = save_adapter(tmp_path / "remote", "org/base", like={"revision": "old"})
    both = shutil.copytree(old, tmp_path / "both")
    save_adapter(both, "org/base")
    for folder in (adapter, both):
        (folder / "README.md").write_text("about")
    revisions = {"main": both, "v1": adapter}
    repositories = {"org/base": {"main": base, "old": old}, "org/adapter": revisions}
    with serve(repositories) as running:
        connect(monkeypatch, running, tmp_path / "cache")
        yield running


@needs_framework
def test_an_adapter_of_the_hub_comes_with_the_revision_of_its_base(served):
    model = load("org/adapter@v1")
    assert (model.lora, model.config.n_positions) == (LORA, 16)
    assert model.loaded_as == ("org/base", "old")
    small = ["config.json", "generation_config.json"]
    assert served.fetched == sorted([*FILES, *small, "model.safetensors"])
    served.log.clear()
    assert load("org/adapter@v1", local_files_only=True).lora == LORA
    assert served.log == []


@needs_framework
def test_an_adapter_saved_again_names_the_revision_of_its_base(served, tmp_path):
    load("org/adapter@v1").save_lora(tmp_path / "again")
    fields = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert (fields["base_model_name_or_path"], fields["revision"]) == ("org/base", "old")


def test_configuration_and_tokenizer_of_an_adapter_of_the_hub_need_no_weights(served):
    assert GPTJConfig.from_pretrained("org/adapter@v1").n_positions == 16
    gptj.load_tokenizer("org/adapter@v1")
    assert not [name for name in served.fetched if name.endswith(".safetensors")]


@needs_framework
@pytest.mark.parametrize(
    ("name", "options"),
    [("org/adapter@v1", {}), ("org/adapter", {"revision": "v1"}), ("org/adapter", {})],
    ids=str,
)
def test_only_the_two_files_of_an_adapter_are_fetched_into_a_model(served, base, name, options):
    model = load(base).load_lora(name, **options)
    assert np.array_equal(adapter_of(model)[Q_PROJ], drawn(LORA)[Q_PROJ])
    assert served.fetched == sorted(FILES)


def test_a_repository_without_an_adapter_is_refused_by_its_files(served):
    with pytest.raises(CheckpointError) as caught:
        hub.locate_adapter("org/base")
    told = "no weights to read ('adapter_model.safetensors', 'adapter_model.bin'). It has 'config"
    assert told in str(caught.value)
    assert served.fetched == []


def test_an_adapter_that_is_nowhere_is_refused_with_what_to_run(served):
    with pytest.raises(CheckpointError, match="hf download org/adapter --revision v1"):
        hub.locate_adapter("org/adapter@v1", local_files_only=True)
    with pytest.raises(ArgumentError, match="forbids the download"):
        hub.locate_adapter("org/adapter", local_files_only=True, force_download=True)


# The command line


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """An adapter of the demo model that changes what it writes, and the text that it writes."""
    if not FRAMEWORKS:
        pytest.skip("no framework has adapters")
    folder = tmp_path_factory.mktemp("spoken")
    model = load("demo").add_lora(2)
    tensors = get_backend(FIRST).dump_adapter(model)
    generator = np.random.Generator(np.random.PCG64(5))
    values = {
        name: LazyTensor.of((0.3 * generator.standard_normal(t.shape)).astype(np.float32))
        for name, t in tensors.items()
    }
    write_adapter(folder, model.lora, "causal_lm", values, "demo")
    written = load("demo").load_lora(folder).generate_text(TEXT, max_new_tokens=6)
    assert written != load("demo").generate_text(TEXT, max_new_tokens=6)
    return folder, written


def printed(*words):
    result = CliRunner().invoke(main, [*map(str, words), "-b", FIRST])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_generates_with_an_adapter(spoken):
    folder, written = spoken
    assert printed("generate", TEXT, "-n", 6, "--model", folder) == written + "\n"


def test_the_command_scores_with_an_adapter(spoken):
    folder, _ = spoken
    found = json.loads(printed("score", TEXT, "--json", "--model", folder))
    expected = load(folder).score(TEXT)
    np.testing.assert_allclose(found["logprobs"], expected.logprobs, rtol=1e-6)


def test_the_command_plans_for_the_base_of_an_adapter(spoken):
    folder, _ = spoken
    arguments = ["plan", str(folder), "--backend", "torch", "--json"]
    found = json.loads(CliRunner().invoke(main, arguments).stdout)
    assert found["weights"] == gptj.plan("demo", backend="torch").weights


def test_text_from_text_takes_an_adapter_for_a_model(spoken):
    folder, written = spoken
    assert gptj.generate(TEXT, str(Path(folder)), backend=FIRST, max_new_tokens=6) == written
