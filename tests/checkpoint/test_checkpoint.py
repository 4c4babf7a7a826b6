"""Checkpoint folders: one file or shards, and saves that never leave half a checkpoint."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.errors import ArgumentError, CheckpointError
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.byte_sizes import parse_size
from gptj.spec.tensors import LazyTensor
from gptj.system.atomic import replacing
from shards import ARRAYS, CONFIG, INDEX, save

pytestmark = pytest.mark.neutral

TOTAL = sum(array.nbytes for array in ARRAYS.values())
ONE_FILE = ["config.json", "generation_config.json", "model.safetensors"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_whole(folder, arrays=ARRAYS):
    found = open_checkpoint(folder).tensors
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].read(), array)


@pytest.fixture
def sharded(tmp_path):
    return save(tmp_path / "sharded", "60KB")


def test_a_small_model_is_one_file(tmp_path):
    assert names(save(tmp_path / "new" / "folder")) == ONE_FILE


@pytest.mark.parametrize("size", ["5GB", "60KB", 1], ids=str)
def test_what_is_saved_comes_back(tmp_path, size):
    assert_whole(save(tmp_path, size))


def test_the_configuration_comes_back(tmp_path):
    assert GPTJConfig.from_dict(open_checkpoint(save(tmp_path)).config()) == CONFIG


def test_a_weight_file_alone_finds_the_configuration_beside_it(tmp_path):
    checkpoint = open_checkpoint(save(tmp_path) / "model.safetensors")
    assert checkpoint.config() == CONFIG.to_dict()
    assert checkpoint.tensors.keys() == ARRAYS.keys()


def test_no_shard_is_larger_than_asked(sharded):
    for path in sharded.glob("*.safetensors"):
        assert sum(array.nbytes for array in load_file(path).values()) <= 60_000


def test_shards_are_numbered_from_one(sharded):
    shards = [path.name for path in sorted(sharded.glob("*.safetensors"))]
    count = len(shards)
    assert count > 2
    assert shards == [f"model-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)]


def test_the_index_names_every_tensor_and_their_size(sharded):
    index = json.loads((sharded / INDEX).read_text(encoding="utf-8"))
    assert index["metadata"] == {"total_size": TOTAL}
    assert index["weight_map"].keys() == ARRAYS.keys()
    for name, file in index["weight_map"].items():
        assert name in load_file(sharded / file)


def test_a_tensor_above_the_limit_has_a_file_of_its_own(tmp_path):
    save(tmp_path, 1)
    assert len(list(tmp_path.glob("model-*.safetensors"))) == len(ARRAYS)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (5_000, 5_000),
        ("5000", 5_000),
        ("500MB", 500 * 10**6),
        ("5gb", 5 * 10**9),
        ("1.5 GB", 1_500_000_000),
        ("2GiB", 2 * 2**30),
        ("3KiB", 3 * 2**10),
        (" 7 B ", 7),
    ],
)
def test_a_size_may_have_units(size, count):
    assert parse_size(size, "max_shard_size") == count


@pytest.mark.parametrize("size", ["", "GB", "5 parsecs", "-5GB", 0, -1, "0MB", "1e9", None])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ArgumentError, match="is not a size; accepted are bytes as a number"):
        parse_size(size, "max_shard_size")


def test_a_save_in_one_file_removes_the_shards_of_an_earlier_one(sharded):
    assert names(save(sharded)) == ONE_FILE


def test_a_save_in_shards_removes_those_of_an_earlier_one(sharded):
    save(sharded, "30KB")
    assert_whole(sharded)
    index = json.loads((sharded / INDEX).read_text(encoding="utf-8"))
    assert {path.name for path in sharded.glob("*.safetensors")} == {*index["weight_map"].values()}


def test_a_save_in_shards_removes_the_one_file_of_an_earlier_one(tmp_path):
    save(save(tmp_path), "60KB", {name: 2 * array for name, array in ARRAYS.items()})
    assert_whole(tmp_path, {name: 2 * array for name, array in ARRAYS.items()})


def test_files_of_others_stay(tmp_path):
    for name in ("model-notes.safetensors.txt", "adapter.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    before = names(tmp_path)
    assert names(save(tmp_path)) == sorted([*before, *ONE_FILE])


def test_a_checkpoint_can_be_saved_over_itself_while_it_is_mapped(tmp_path):
    tensors = open_checkpoint(save(tmp_path)).tensors
    save_checkpoint(tmp_path, CONFIG, GenerationConfig(), tensors, max_shard_size="60KB")
    assert_whole(tmp_path)


def failing(name):
    def load():
        raise RuntimeError("the disk is gone")

    return LazyTensor(ARRAYS[name].shape, ARRAYS[name].dtype, load)


@pytest.mark.parametrize("old", ["5GB", "60KB"])
@pytest.mark.parametrize("new", ["5GB", "60KB"])
def test_a_save_that_fails_leaves_the_old_checkpoint_as_it_was(tmp_path, old, new):
    before = contents(save(tmp_path, old))
    tensors = {name: LazyTensor.of(2 * array) for name, array in ARRAYS.items()}
    tensors["lm_head.bias"] = failing("lm_head.bias")  # the last one
    with pytest.raises(RuntimeError, match="the disk is gone"):
        save_checkpoint(tmp_path, CONFIG, GenerationConfig(), tensors, max_shard_size=new)
    assert contents(tmp_path) == before


def test_weights_take_their_place_before_the_files_that_name_them(tmp_path, monkeypatch):
    moved = []
    replace = Path.replace

    def note(path, target):
        if target.parent == tmp_path:
            moved.append(target.suffix)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", note)
    save(tmp_path, "60KB")
    assert moved == sorted(moved, key=[".safetensors", ".json"].index)
    assert set(moved) == {".safetensors", ".json"}


def test_a_file_is_no_folder_to_save_into(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"Cannot save into .*file: it is a file"):
        save(tmp_path / "file")


def test_a_new_file_has_the_permissions_of_the_process(tmp_path):
    mask = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
