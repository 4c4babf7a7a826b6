"""The names of the published examples: where they lead to, and the tokenizer that comes with them.

`published` lets nothing be downloaded.
"""

import numpy as np
import pytest

import gptj
from gptj import hub
from gptj.errors import CheckpointError
from installed import require
from published import (
    CONFIG,
    GPTJ_6B,
    PLACEHOLDER,
    TINY_CLASSIFIER,
    TINY_RANDOM,
    folder_of,
    snapshot,
)

pytestmark = pytest.mark.frameworks

NAMES = [GPTJ_6B, TINY_RANDOM, TINY_CLASSIFIER, PLACEHOLDER]
SENTENCES = ["A kettle whistles.", "Rain."]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_without_a_network(published, name):
    assert hub.locate(name) == folder_of(published, name)


@pytest.mark.parametrize("name", ["eleutherai/gpt-j-6b", "EleutherAI/gpt-j-6b", "6B", "gpt-j-6b"])
@pytest.mark.parametrize("revision", ["main", "float16"])
def test_the_6b_is_found_in_any_spelling(published, name, revision):
    expected = folder_of(published, GPTJ_6B, revision)
    assert hub.locate(name, revision=revision) == expected
    assert hub.locate(f"{name}@{revision}", local_files_only=True) == expected


def test_the_6b_keeps_the_spelling_that_is_cached(published, tmp_path):
    for name in ("EleutherAI/gpt-j-6B", "EleutherAI/gpt-j-6b"):
        folder = snapshot(tmp_path, name)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        assert hub.locate(name, cache_dir=tmp_path) == folder


def test_a_name_that_is_not_cached_says_what_to_run(published, tmp_path):
    with pytest.raises(CheckpointError, match="hf download hf-internal-testing/tiny-random-gptj"):
        hub.locate(TINY_RANDOM, cache_dir=tmp_path)
    with pytest.raises(CheckpointError, match="--revision float16"):
        hub.locate(TINY_RANDOM, revision="float16")


def test_a_cache_of_ones_own_is_used(published, framework, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    options = {"backend": framework.name, "head": "base", "cache_dir": published}
    assert gptj.load(TINY_RANDOM, **options).config.n_embd == CONFIG["n_embd"]
    assert len(gptj.AutoTokenizer.from_pretrained(TINY_RANDOM, cache_dir=published)) == 50400


def test_the_configuration_keeps_the_published_fields(published):
    config = gptj.GPTJConfig.from_pretrained(GPTJ_6B)
    assert {name: getattr(config, name) for name in CONFIG if name != "model_type"} == {
        name: value for name, value in CONFIG.items() if name != "model_type"
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_the_tokenizer_with_the_extra_tokens(published, name):
    tokenizer = gptj.AutoTokenizer.from_pretrained(name)
    assert len(tokenizer) == CONFIG["vocab_size"]
    ids = tokenizer("<|extratoken_1|><|extratoken_143|>").input_ids
    assert ids == [50257, 50399]


@pytest.mark.parametrize(
    ("kind", "framework_name", "module"),
    [
        ("np", None, "numpy"),
        ("pt", "torch", "torch"),
        ("tf", "tf", "tensorflow"),
        ("jax", "flax", "jaxlib"),
    ],
)
def test_a_text_comes_as_tensors_of_every_framework(tokenizer, kind, framework_name, module):
    if framework_name:
        require(framework_name)
    lists = tokenizer(SENTENCES, padding=True)
    batch = tokenizer(SENTENCES, padding=True, return_tensors=kind)
    assert type(batch.input_ids).__module__.split(".")[0] == module
    np.testing.assert_array_equal(np.asarray(batch["input_ids"]), lists["input_ids"])
    np.testing.assert_array_equal(np.asarray(batch.attention_mask), lists["attention_mask"])
    texts = tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True)
    assert texts == SENTENCES
