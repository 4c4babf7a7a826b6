"""Folders with a file that is not what its name says: one error each, which says what is there."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import time
import zipfile
from dataclasses import asdict
from functools import partial

import pytest

import gptj
from gptj.checkpoint import pytorch_bin_writer, safetensors
from gptj.checkpoint.adapter_files import read_adapter, write_adapter
from gptj.checkpoint.adapter_folder import open_adapter
from gptj.checkpoint.formats import FORMATS
from gptj.checkpoint.optimizer_file import read_optimizer
from gptj.checkpoint.saving import ACCEPTED
from gptj.errors import GPTJError
from gptj.model.loading import load_model
from gptj.spec.lora import LoraConfig, new_adapter
from gptj.spec.tensors import LazyTensor
from gptj.tokenizer import GPTJTokenizer
from gptj.training import run_log
from gptj.training.checkpoints import TrainingProgress, read_progress
from noting import Noting
from weight_files import CONFIG, TENSORS, save

pytestmark = pytest.mark.neutral

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4665e9c39d8a3c2e2a5b3ad8a5b4a4a8fbb1f3d1f7d5d2b3a7a5b6c7d8e9f0a1\n"
    b"size 24207819307\n"
)
S3 = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
PAGE = b"<!DOCTYPE html>\n<html>\n<head><title>EleutherAI/gpt-j-6b at main</title></head></html>"


def packed(content):
    """Return a zip of a folder that holds a file of this content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/config.json", "{}")
        archive.writestr("model/weights", content)
    return file.getvalue()


def tarred(content):
    """Return a tar archive of a file of this content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("model/weights")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def folder_instead(path):
    path.unlink()
    path.mkdir()


def broken_link(path):
    path.unlink()
    path.symlink_to("../../blobs/4665e9c39d8a")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def unfinished(path):
    """Leave the first half, with the state of the program that was fetching the file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    path.with_name(f"{path.name}.aria2").write_bytes(b"\0\1")


def written(make):
    """Return a shape that writes what is made of the file's content."""
    return lambda path: path.write_bytes(make(path.read_bytes()))


DAMAGED = (
    r"damaged|cut short|not a|cannot|not valid|do not fit|does not fit|lacks|Merge|its pickle has"
)

SHAPES = {
    "a pointer": (written(lambda _: POINTER), r"Git LFS pointer to 24207819307 bytes.*lfs pull"),
    "an annex": (written(lambda _: b"/annex/objects/MD5E-s9--0cc1.bin\n"), r"annex get"),
    "a page": (written(lambda _: PAGE), r"HTML or XML page with the title 'EleutherAI/gpt-j-6b at"),
    "a page of S3": (written(lambda _: S3), r"HTML or XML page"),
    "an error in JSON": (
        written(lambda _: b'{"error":"Repository not found"}'),
        r"error message of a server|not a",
    ),
    "an error in text": (written(lambda _: b"Entry not found"), r"message of a server \('Entry"),
    "nothing": (written(lambda _: b""), r"it is empty, of 0 bytes"),
    "blanks": (written(lambda _: b" \n" * 9), r"it is blank, of 18 bytes"),
    "zeros": (written(lambda old: bytes(max(len(old), 64))), r"full of zeros"),
    "half": (written(lambda old: old[: len(old) // 2]), DAMAGED),
    "all but the end": (written(lambda old: old[:-2]), DAMAGED),
    "no beginning": (written(lambda old: old[len(old) // 3 + 1 :]), DAMAGED),
    "unfinished": (unfinished, r"a download that has not ended|Merge|lacks"),
    "gzip": (written(lambda old: gzip.compress(old[:999])), r"packed by gzip"),
    "bzip2": (written(lambda old: bz2.compress(old[:999])), r"packed by bzip2"),
    "xz": (written(lambda old: lzma.compress(old[:999])), r"packed by xz"),
    "a zip": (written(lambda old: packed(old[:999])), r"zip"),
    "a tar": (written(lambda old: tarred(old[:999])), r"a tar archive"),
    "no UTF-8": (written(lambda _: b"\xff\xfe{\x00"), r"UTF-16"),
    "UTF-16": (
        written(lambda old: old.decode("latin-1").encode("utf-16")),
        r"text in UTF-16.*iconv",
    ),
    "deep": (written(lambda _: b'{"a":' * 10_000), rf"nests too deeply|{DAMAGED}"),
    "an endless number": (
        written(lambda _: b'{"n_layer": ' + b"1" * 9_000 + b"}"),
        rf"digits|{DAMAGED}",
    ),
    "a folder": (folder_instead, r"is no file, but a folder"),
    "a broken link": (broken_link, r"broken link to '../../blobs/4665e9c39d8a'|lacks"),
    "a pipe": (pipe, r"is no file, but a device or a pipe"),
}
"""What stands in place of a file -> how it comes there, and what the error says."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return one whole folder of every kind."""
    root = tmp_path_factory.mktemp("whole")
    for form in ACCEPTED:
        save(root / form, form)
        if form in FORMATS:
            save(root / f"{form} sharded", form, max_shard_size="2KB")
    shutil.copytree(root / "safetensors", root / "tokenizer")
    GPTJTokenizer().save_pretrained(root / "tokenizer")
    shutil.copytree(root / "tokenizer", root / "pair")
    (root / "pair" / "tokenizer.json").unlink()
    make_adapters(root)
    make_training(root / "training")
    return root


def make_adapters(root):
    """Write an adapter with the labels of its base model beside it, and one in the old form."""
    lora = LoraConfig(rank=2)
    adapter = new_adapter(lora, CONFIG, "causal_lm")
    write_adapter(root / "adapter", lora, "causal_lm", adapter, "../safetensors")
    shutil.copyfile(root / "safetensors" / "config.json", root / "adapter" / "config.json")
    shutil.copytree(root / "adapter", root / "old adapter")
    new = root / "old adapter" / "adapter_model.safetensors"
    pytorch_bin_writer.write(new.with_suffix(".bin"), safetensors.read(new))
    new.unlink()


def make_training(folder):
    """Write what a checkpoint of a training has beside the model, and its log."""
    state = {f"{kind}lm_head.bias": TENSORS["lm_head.bias"] for kind in ("exp_avg.", "exp_avg_sq.")}
    folder.mkdir()
    fields = {"version": "1", "step": "1", "betas": "[0.9, 0.99]", "epsilon": "1e-8"}
    safetensors.write(folder / "optimizer.safetensors", state, fields)
    progress = TrainingProgress(1, "demo", "0", {"seed": 0}, "torch")
    (folder / "training.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    (folder / "log.jsonl").write_text('{"step": 1, "loss": 3.0}\n' * 9, encoding="utf-8")


def read_model(folder):
    model = load_model(Noting(), "causal_lm", folder)
    for tensor in model.params.values():
        assert isinstance(tensor, LazyTensor)
        tensor.read()


def read_alone(folder):
    """Read an adapter as `gptj.load` does, up to the model."""
    folder = open_adapter(folder)
    folder.with_labels(CONFIG.to_dict())
    read_adapter(folder.folder, CONFIG, "causal_lm")


WEIGHTS = {
    "safetensors": "model.safetensors",
    "bin": "pytorch_model.bin",
    "msgpack": "flax_model.msgpack",
    "h5": "tf_model.h5",
}
CASES = [
    *[(read_model, form, name) for form, name in WEIGHTS.items()],
    *[(read_model, f"{form} sharded", f"{name}.index.json") for form, name in WEIGHTS.items()],
    *[
        (read_model, f"{form} sharded", f"{name.split('.')[0]}-00002*")
        for form, name in WEIGHTS.items()
    ],
    (read_model, "mesh", "step_0/shard_3/1.npz"),
    (read_model, "ggml", "ggml-model.bin"),
    *[(read_model, "safetensors", name) for name in ("config.json", "generation_config.json")],
    *[
        (gptj.load_tokenizer, "tokenizer", f"{name}.json")
        for name in ("tokenizer", "tokenizer_config", "special_tokens_map")
    ],
    *[
        (gptj.load_tokenizer, "pair", name)
        for name in ("vocab.json", "merges.txt", "added_tokens.json")
    ],
    *[
        (read_alone, "adapter", name)
        for name in ("adapter_config.json", "adapter_model.safetensors", "config.json")
    ],
    (read_alone, "old adapter", "adapter_model.bin"),
    (partial(read_optimizer, shapes={"lm_head.bias": (16,)}), "training", "optimizer.safetensors"),
    (read_progress, "training", "training.json"),
    (lambda folder: run_log.read(folder / "log.jsonl"), "training", "log.jsonl"),
]
"""How a file is read, the folder that it is from, and its name."""

LEFT_OPEN = {
    ("merges.txt", "all but the end"),  # half of the last merge, or one merge less, is a merge
    ("merges.txt", "an endless number"),
    *[("log.jsonl", shape) for shape in ("nothing", "half", "all but the end", "unfinished")],
}
"""What no reader can tell from a whole file, or from a log that a kill has cut off."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("read", "kind", "name"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_file_that_is_not_what_its_name_says_is_one_error(
    read, kind, name, shape, folders, tmp_path
):
    if (name, shape) in LEFT_OPEN:
        pytest.skip("a whole file may be so")
    folder = shutil.copytree(folders / kind, tmp_path / "copy")
    (path,) = folder.glob(name)
    damage, message = SHAPES[shape]
    damage(path)
    before = sorted(folder.rglob("*"))
    start = time.process_time()
    with pytest.raises(GPTJError, match=message) as caught:
        read(folder)
    assert time.process_time() - start < 1
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert sorted(folder.rglob("*")) == before
