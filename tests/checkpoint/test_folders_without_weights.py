"""Folders and files that hold no weights, or strange structures: what there is, and what to do."""

import json
import os
import shutil
import struct

import pytest

import gptj
from gptj.checkpoint.folder import open_checkpoint
from gptj.errors import CheckpointError, ConfigError
from gptj.model.loading import load_model
from noting import Noting
from paths import TINY
from weight_files import save

pytestmark = pytest.mark.neutral


def load(path):
    return load_model(Noting(), "causal_lm", path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors.incomplete", "a download that has not ended, of 7 bytes.*hf download"),
        ("model.safetensors.aria2", "a download that has not ended"),
        ("pytorch_model.bin.part", "a download that has not ended"),
        ("model.zip", "Unpack 'model.zip' first"),
        ("model.tar.gz", "Unpack 'model.tar.gz' first"),
        ("ggml-model.gguf", "GGUF is llama.cpp's form"),
        ("last.ckpt", "name a file of PyTorch pytorch_model.bin"),
        ("my-weights.safetensors", "If 'my-weights.safetensors' holds the weights, give that"),
        ("model-00001-of-00002.safetensors", "is one of several weight files, whose index is"),
        ("tokenizer.json", r"It holds a tokenizer: gptj\.load_tokenizer"),
        ("vocab.json", r"It holds a tokenizer: gptj\.load_tokenizer"),
    ],
)
def test_a_folder_without_weights_says_what_it_holds(name, message, tmp_path):
    (tmp_path / name).write_bytes(b"content")
    with pytest.raises(CheckpointError, match=f"holds no weights that gptj reads.*{message}"):
        load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_of_many_files_is_not_listed_whole(tmp_path):
    for index in range(500):
        (tmp_path / f"{index:03}.txt").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"'011\.txt' and 488 more\.$"):
        load(tmp_path)


def test_a_file_beside_its_downloads_leftover_is_not_read(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "copy")
    (folder / "model.safetensors.aria2").write_bytes(b"state")
    assert load(folder)  # the file itself is whole
    (folder / "model.safetensors").write_bytes(bytes(1000))
    with pytest.raises(CheckpointError, match="a download that has not ended"):
        load(folder)


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("bin", "model.safetensors", "is not a safetensors file: it is a zip file"),
        ("h5", "model.safetensors", "is not a safetensors file: it is an HDF5 file"),
        ("h5", "flax_model.msgpack", "is not a Flax checkpoint: it is an HDF5 file"),
        ("h5", "pytorch_model.bin", "is not a PyTorch checkpoint: it is an HDF5 file"),
        ("bin", "tf_model.h5", "is not an HDF5 file: it is a zip file"),
        ("safetensors", "pytorch_model.bin", "is not a PyTorch checkpoint: it is a safetensors"),
        ("safetensors", "flax_model.msgpack", "is not a Flax checkpoint: it is a safetensors"),
        ("safetensors", "tf_model.h5", "is not an HDF5 file: it is a safetensors"),
    ],
)
def test_a_form_under_another_name_is_told(form, name, message, tmp_path):
    folder = save(tmp_path, form)
    (source,) = [path for path in folder.iterdir() if path.suffix != ".json"]
    source.rename(folder / name)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_snapshot_of_the_hub_names_its_repository(tmp_path):
    snapshot = tmp_path / "models--EleutherAI--gpt-j-6b" / "snapshots" / "abc"
    shutil.copytree(TINY, snapshot)
    (snapshot / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"hf download EleutherAI/gpt-j-6b model\.safetensors"
    ):
        load(snapshot)


def with_header(folder, header):
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    return folder


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' * 20_000,
        b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 16]}}',
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1e999]}}',
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, NaN]}}',
        b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 16]}}',
        {"a": ENTRY | {"shape": [0, 2**62]}},
        {"a": ENTRY | {"shape": ["4"]}},
        {"a": ENTRY | {"shape": [4.0]}},
        {"a": ENTRY | {"shape": [True] * 4}},
        {"a": ENTRY | {"shape": [1] * 1000}},
        {"a": ENTRY | {"dtype": ["F32"]}},
        {"a": ENTRY | {"data_offsets": {"0": 1}}},
        {"a": ENTRY | {"data_offsets": [0, 8, 16]}},
        {"a" * 100_000: ENTRY | {"dtype": "F33"}},
        {"a": [[[[]]]]},
        {"__metadata__": {"format": ["pt"]}, "a": ENTRY},
        {"__metadata__": {"format": {}}, "a": ENTRY},
        {"__metadata__": [], "a": ENTRY},
    ],
    ids=lambda header: str(header)[:50],
)
def test_a_header_of_strange_values_is_one_error(header, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load(with_header(tmp_path, header))
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\ud800", "x" * 255 + ".bin"], ids=len)
def test_an_index_that_names_what_no_folder_can_hold_is_one_error(name, tmp_path):
    folder = save(tmp_path, "safetensors", max_shard_size="2KB")
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["weight_map"]["lm_head.bias"] = name
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json names files that no|lacks 1 of its"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a loop"])
def test_what_is_no_file_is_one_error_at_once(kind, name, tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "copy")
    (folder / name).unlink()
    if kind == "a folder":
        (folder / name).mkdir()
    elif kind == "a pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(folder / name)
    if kind == "a loop" and name != "model.safetensors":
        return  # a link to nothing is no file: there is none
    with pytest.raises((CheckpointError, ConfigError), match=r"is no file|holds no weights"):
        load(folder)


def test_a_command_ends_with_one_line(tmp_path):
    from click.testing import CliRunner

    from gptj.cli import main

    folder = shutil.copytree(TINY, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"<html><title>x</title>")
    result = CliRunner().invoke(main, ["inspect", str(folder)])
    assert result.exit_code == 1
    assert "an HTML or XML page with the title 'x'" in result.output
    assert "Traceback" not in result.output


def test_a_tokenizer_alone_is_still_read(tmp_path):
    gptj.load_tokenizer("demo").save_pretrained(tmp_path)
    assert len(gptj.load_tokenizer(tmp_path)) == 50400
    with pytest.raises(CheckpointError, match="It holds a tokenizer"):
        open_checkpoint(tmp_path)
