"""Damaged checkpoints say what is wrong with them."""

import json

import pytest

from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import CheckpointError
from shards import INDEX, save

pytestmark = pytest.mark.neutral


@pytest.fixture
def sharded(tmp_path):
    return save(tmp_path, "60KB")


def rewrite_index(folder, change):
    path = folder / INDEX
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"none of 'model\.safetensors', .*Found nothing"):
        open_checkpoint(tmp_path)


def test_a_folder_with_other_files_lists_them(tmp_path):
    (tmp_path / "pytorch_model.ckpt").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"Found 'pytorch_model\.ckpt'"):
        open_checkpoint(tmp_path)


def test_a_missing_configuration_is_guessed_and_a_warning_says_what_was_assumed(sharded, caplog):
    (sharded / "config.json").unlink()
    open_checkpoint(sharded).config()
    assert "has no config.json: its sizes follow from its tensors; n_head = 4" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not valid JSON"), ("3", "holds a int, not a JSON object")]
)
def test_a_configuration_that_is_none_is_named(sharded, text, message):
    (sharded / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"config\.json {message}"):
        open_checkpoint(sharded).config()


def test_every_missing_shard_is_named(sharded):
    shards = sorted(sharded.glob("model-*.safetensors"))
    for path in shards[1:3]:
        path.unlink()
    names = "', '".join(path.name for path in shards[1:3])
    with pytest.raises(CheckpointError, match=f"lacks 2 of its {len(shards)} .*: '{names}'"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
def test_an_index_that_names_files_outside_its_folder_is_refused(sharded, file):
    rewrite_index(sharded, lambda content: content["weight_map"].update({"lm_head.bias": file}))
    with pytest.raises(CheckpointError, match="names files outside its folder"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("value", [{}, [], None, {"lm_head.bias": 3}], ids=str)
def test_an_index_without_files_is_refused(sharded, value):
    rewrite_index(sharded, lambda content: content.update(weight_map=value))
    with pytest.raises(CheckpointError, match="has no weight_map"):
        open_checkpoint(sharded)


def test_an_index_that_is_no_json_is_refused(sharded):
    (sharded / INDEX).write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json is not valid JSON"):
        open_checkpoint(sharded)


def test_tensors_that_the_index_promises_in_vain_are_named(sharded):
    def promise(content):
        file = next(iter(content["weight_map"].values()))
        content["weight_map"].update(one=file, two=file)

    rewrite_index(sharded, promise)
    with pytest.raises(CheckpointError, match="not in their files: 'one', 'two'"):
        open_checkpoint(sharded)


def test_a_truncated_shard_is_named(sharded):
    path = sorted(sharded.glob("model-*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=f"{path.name} is damaged or cut short"):
        open_checkpoint(sharded)
