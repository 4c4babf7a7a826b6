"""push_to_hub uploads what save_pretrained writes, and what was uploaded is loaded again."""

import pytest

import gptj
from gptj.errors import CheckpointError
from hub_server import connect, serve
from models import tiny_config
from paths import TINY

TOKEN = {"token": "writer"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub that takes uploads, which this process takes for the hub."""
    with serve({}, uploads=tmp_path / "uploads") as running:
        connect(monkeypatch, running, tmp_path / "cache")
        yield running


def page(hub, repository, revision="main"):
    return (hub.repositories[repository][revision] / "README.md").read_text(encoding="utf-8")


@pytest.mark.frameworks
def test_a_model_is_uploaded_and_loaded_again(framework, hub):
    model = gptj.load(TINY, backend=framework.name)
    model.add_model_tags(["sft", "trl"])
    info = model.push_to_hub("org/mine", commit_message="First", max_shard_size="100KB", **TOKEN)
    assert info.commit_message == "First"
    again = gptj.load("org/mine", backend=framework.name)
    assert again.name_or_path == again.config.name_or_path == "org/mine"
    assert again.config == model.config
    assert "tags:\n- gptj\n- sft\n- trl\n" in page(hub, "org/mine")


@pytest.mark.neutral
def test_a_configuration_and_a_tokenizer_are_uploaded_into_one_repository(hub):
    tiny_config().push_to_hub("org/parts", **TOKEN)
    gptj.load_tokenizer("demo").push_to_hub("org/parts", **TOKEN)
    assert gptj.GPTJConfig.from_pretrained("org/parts") == tiny_config()
    assert gptj.load_tokenizer("org/parts").encode("import os") == [11748, 28686]
    assert not (hub.repositories["org/parts"]["main"] / "README.md").exists()


@pytest.mark.neutral
def test_a_branch_is_made(hub):
    tiny_config().push_to_hub("org/branches", revision="second", **TOKEN)
    assert gptj.GPTJConfig.from_pretrained("org/branches", revision="second") == tiny_config()


@pytest.mark.neutral
def test_a_page_that_is_there_stays(hub, caplog):
    tiny_config().push_to_hub("org/paged", tags=["first"], **TOKEN)
    before = page(hub, "org/paged")
    tiny_config().push_to_hub("org/paged", tags=["second"], **TOKEN)
    assert page(hub, "org/paged") == before
    assert "org/paged has a page, which stays without the tags ['second']" in caplog.text


@pytest.mark.neutral
@pytest.mark.parametrize(("name", "token"), [("org/x", "reader"), ("no/such/name", "writer")])
def test_a_refusal_says_what_to_do(hub, name, token):
    with pytest.raises(CheckpointError, match=f"Nothing was uploaded to '{name}'.*hf auth login"):
        tiny_config().push_to_hub(name, token=token)
