"""Folders with a file that is not what its name says: one error each, which says what is there."""

import gzip
import io
import lzma
import shutil
import time
import zipfile

import pytest

import gptj
from gptj.checkpoint import safetensors
from gptj.checkpoint.adapter_files import read_adapter, write_adapter
from gptj.checkpoint.optimizer_file import read_optimizer
from gptj.errors import GPTJError
from gptj.model.loading import load_model
from gptj.spec.lora import LoraConfig, new_adapter
from gptj.spec.tensors import LazyTensor
from gptj.tokenizer import GPTJTokenizer
from noting import Noting
from weight_files import CONFIG, TENSORS, save

pytestmark = pytest.mark.neutral

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4665e9c39d8a3c2e2a5b3ad8a5b4a4a8fbb1f3d1f7d5d2b3a7a5b6c7d8e9f0a1\n"
    b"size 24207819307\n"
)
PAGE = b"<!DOCTYPE html>\n<html>\n<head><title>EleutherAI/gpt-j-6b at main</title></head></html>"


def packed(content):
    """Return a zip of a folder that holds a file of this content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/config.json", "{}")
        archive.writestr("model/weights", content)
    return file.getvalue()


SHAPES = {
    "a pointer": (lambda _: POINTER, r"Git LFS pointer to 24207819307 bytes.*lfs pull"),
    "a page": (lambda _: PAGE, r"HTML or XML page with the title 'EleutherAI/gpt-j-6b at main'"),
    "an error in JSON": (
        lambda _: b'{"error":"Repository not found"}',
        r"error message of a server|not a",
    ),
    "an error in text": (lambda _: b"Entry not found", r"error message of a server \('Entry"),
    "nothing": (lambda _: b"", r"it is empty, of 0 bytes"),
    "blanks": (lambda _: b" \n" * 9, r"it is blank, of 18 bytes"),
    "zeros": (lambda old: bytes(max(len(old), 64)), r"full of zeros"),
    "half": (
        lambda old: old[: len(old) // 2],
        r"cut short|damaged|not valid|cannot|fit|lacks|Merge",
    ),
    "gzip": (lambda old: gzip.compress(old[:999]), r"packed by gzip"),
    "xz": (lambda old: lzma.compress(old[:999]), r"packed by xz"),
    "a zip": (lambda old: packed(old[:999]), r"zip"),
    "no UTF-8": (lambda _: b"\xff\xfe{\x00", r"UTF-8|damaged|not a|cut short|cannot"),
    "deep": (lambda _: b'{"a":' * 10_000, r"nests too deeply|damaged|cut short|not a|cannot|Merge"),
    "an endless number": (
        lambda _: b'{"n_layer": ' + b"1" * 9_000 + b"}",
        r"digits|damaged|cut short|not a|cannot|do not fit",
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return one whole folder of every kind."""
    root = tmp_path_factory.mktemp("whole")
    for form in ("safetensors", "bin", "msgpack", "h5", "mesh"):
        save(root / form, form)
    save(root / "sharded", "safetensors", max_shard_size="2KB")
    shutil.copytree(root / "safetensors", root / "tokenizer")
    GPTJTokenizer().save_pretrained(root / "tokenizer")
    shutil.copytree(root / "tokenizer", root / "pair")
    (root / "pair" / "tokenizer.json").unlink()
    lora = LoraConfig(rank=2)
    adapter = new_adapter(lora, CONFIG, "causal_lm")
    write_adapter(root / "adapter", lora, "causal_lm", adapter, "base")
    state = {f"{kind}lm_head.bias": TENSORS["lm_head.bias"] for kind in ("exp_avg.", "exp_avg_sq.")}
    (root / "optimizer").mkdir()
    fields = {"version": "1", "step": "1", "betas": "[0.9, 0.99]", "epsilon": "1e-8"}
    safetensors.write(root / "optimizer" / "optimizer.safetensors", state, fields)
    return root


def read_model(folder):
    model = load_model(Noting(), "causal_lm", folder)
    for tensor in model.params.values():
        assert isinstance(tensor, LazyTensor)
        tensor.read()


READERS = {
    "safetensors": read_model,
    "bin": read_model,
    "msgpack": read_model,
    "h5": read_model,
    "mesh": read_model,
    "sharded": read_model,
    "tokenizer": gptj.load_tokenizer,
    "pair": gptj.load_tokenizer,
    "adapter": lambda folder: read_adapter(folder, CONFIG, "causal_lm"),
    "optimizer": lambda folder: read_optimizer(folder, {"lm_head.bias": (16,)}),
}

CASES = [
    *[
        (form, name)
        for form, name in (
            ("safetensors", "model.safetensors"),
            ("bin", "pytorch_model.bin"),
            ("msgpack", "flax_model.msgpack"),
            ("h5", "tf_model.h5"),
            ("mesh", "step_0/shard_3/1.npz"),
        )
    ],
    *[("safetensors", name) for name in ("config.json", "generation_config.json")],
    ("sharded", "model.safetensors.index.json"),
    ("sharded", "model-00002"),
    ("tokenizer", "tokenizer.json"),
    ("tokenizer", "tokenizer_config.json"),
    ("tokenizer", "special_tokens_map.json"),
    *[("pair", name) for name in ("vocab.json", "merges.txt", "added_tokens.json")],
    *[("adapter", name) for name in ("adapter_config.json", "adapter_model.safetensors")],
    ("optimizer", "optimizer.safetensors"),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_file_that_is_not_what_its_name_says_is_one_error(kind, name, shape, folders, tmp_path):
    folder = shutil.copytree(folders / kind, tmp_path / "copy")
    (path,) = folder.glob(f"{name}*") if name == "model-00002" else [folder / name]
    make, message = SHAPES[shape]
    path.write_bytes(make(path.read_bytes()))
    before = sorted(folder.iterdir())
    start = time.perf_counter()
    with pytest.raises(GPTJError, match=message) as caught:
        READERS[kind](folder)
    assert time.perf_counter() - start < 1
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert sorted(folder.iterdir()) == before
