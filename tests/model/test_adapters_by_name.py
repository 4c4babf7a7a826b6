"""An adapter of the hub, or on the command line, serves like a model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from adapter_cases import FIRST, LORA, adapter_of, load, needs_framework, save_adapter, save_base
from gptj import hub
from gptj.backends import get_backend
from gptj.checkpoint.adapter_files import write_adapter
from gptj.cli import main
from gptj.errors import ArgumentError, CheckpointError
from gptj.model.config import GPTJConfig
from gptj.spec.tensors import LazyTensor
from hub_server import connect, serve
from installed import FRAMEWORKS
from lora_cases import drawn

pytestmark = pytest.mark.frameworks

FILES = {"adapter_config.json", "adapter_model.safetensors"}
Q_PROJ = "transformer.h.0.attn.q_proj.lora_B.weight"
TEXT = "a b c"


@pytest.fixture
def base(tmp_path):
    return save_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path, base):
    return save_adapter(tmp_path / "adapter", base)


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
