"""Files whose structure is whole and whose values are strange: what is read, or one error."""

import json
import os
import random
import shutil
import struct
import time

import pytest

import gptj
from gptj.checkpoint.adapter_files import read_adapter, write_adapter
from gptj.checkpoint.adapter_folder import open_adapter
from gptj.errors import GPTJError
from gptj.model.loading import load_model
from gptj.spec.lora import LoraConfig, new_adapter
from noting import Noting
from weight_files import CONFIG, save

pytestmark = pytest.mark.neutral

TRIALS = int(os.environ.get("GPTJ_TRIALS", "60"))
VALUES = [
    *(None, True, 0, -1, 1, 2.5, 1e999, float("nan"), 10**400, 2**62, "9" * 5000),
    *("", "x", "\ud800", "a" * 100_000, [], {}, [[]], {"a": []}, ["pt"], [0] * 50),
]
KEYS = ["\ud800", "", "a" * 9_999, "__metadata__", "format", "content"]


def changed(value, draw):
    """Return a value in which one place, drawn at random, holds something else."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key, copy = draw.choice(list(value)), dict(value)
        fate = draw.random()
        if fate < 0.15:
            del copy[key]
        elif fate < 0.25:
            copy[draw.choice(KEYS)] = draw.choice(VALUES)
        else:
            copy[key] = changed(value[key], draw)
        return copy
    if isinstance(value, list) and value and draw.random() < 0.7:
        index, copy = draw.randrange(len(value)), list(value)
        copy[index] = changed(value[index], draw)
        return copy
    return draw.choice(VALUES)


def mutate(path, draw):
    """Change one value of a JSON file, or of the header of a safetensors file."""
    content = path.read_bytes()
    if path.suffix == ".json":
        path.write_text(json.dumps(changed(json.loads(content), draw)), encoding="utf-8")
        return
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(changed(json.loads(content[8 : 8 + length]), draw)).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def write_tokenizer(folder):
    folder.mkdir()
    end = {"content": "<|endoftext|>"}
    tokens = ["a", "b", "c", "ab", "abc", "<|endoftext|>"]
    contents = {
        "vocab.json": {token: index for index, token in enumerate(tokens)},
        "added_tokens.json": {"<x>": 6},
        "special_tokens_map.json": {"eos_token": "<|endoftext|>"},
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "bos_token": end,
            "model_max_length": 64,
            "padding_side": "left",
            "added_tokens_decoder": {"5": end | {"special": True}},
        },
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\na b\nab c\n", encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    save(root / "safetensors", "safetensors")
    save(root / "sharded", "safetensors", max_shard_size="2KB")
    lora = LoraConfig(rank=2)
    tensors = new_adapter(lora, CONFIG, "causal_lm")
    write_adapter(root / "adapter", lora, "causal_lm", tensors, "base")
    write_tokenizer(root / "tokenizer")
    return root


def read_model(folder):
    for tensor in load_model(Noting(), "causal_lm", folder).params.values():
        if tensor.nbytes < 2**24:
            tensor.read()


def read_lora(folder):
    adapter = open_adapter(folder)
    adapter.head()
    adapter.with_labels(CONFIG.to_dict())
    read_adapter(folder, CONFIG, "causal_lm")


READERS = {
    "safetensors": read_model,
    "sharded": read_model,
    "adapter": read_lora,
    "tokenizer": gptj.load_tokenizer,
}


@pytest.mark.parametrize("kind", READERS)
def test_strange_values_are_read_or_one_error(kind, whole, tmp_path):
    draw = random.Random(11)
    for trial in range(TRIALS):
        folder = shutil.copytree(whole / kind, tmp_path / str(trial))
        files = sorted(path for path in folder.iterdir() if path.suffix != ".txt")
        mutate(draw.choice(files), draw)
        start = time.perf_counter()
        try:
            READERS[kind](folder)
        except GPTJError as error:
            assert len(str(error)) < 3_000
        assert time.perf_counter() - start < 2
        shutil.rmtree(folder)
