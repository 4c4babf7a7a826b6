"""Every published form of one model, read and written, and each turned into each other."""

import json
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from array_layouts import in_other_order, read_only
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.formats import FORMATS
from gptj.checkpoint.saving import ACCEPTED, save_checkpoint
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from paths import GOLDEN
from tolerances import assert_close

pytestmark = pytest.mark.neutral

FORMS = sorted(path.name for path in (GOLDEN / "formats").iterdir() if path.is_dir())
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
SPECIAL = (-0.0, np.inf, -np.inf, 1e-7)
CONFIG = GPTJConfig(
    vocab_size=96, n_positions=64, n_embd=64, n_layer=12, n_head=8, rotary_dim=4, num_labels=2
)
"""Twelve layers, since the original sorts their numbers as text."""


def golden(form):
    with np.load(GOLDEN / "formats" / "expected.npz") as file:
        return open_checkpoint(GOLDEN / "formats" / form), dict(file)


def drawn(head, dtype="float32"):
    """Weights of which no bit pattern is like another; some have no plain value."""
    tensors = {}
    for name, parameter in parameter_table(CONFIG, head).items():
        array = 0.3 * initial_value(parameter, CONFIG, seed=9) / CONFIG.initializer_range
        array.flat[: len(SPECIAL)] = SPECIAL[: array.size]
        tensors[name] = LazyTensor.of(array.astype(DTYPES[dtype]))
    return tensors


def save(folder, tensors, form, **options):
    save_checkpoint(folder, CONFIG, GenerationConfig(), tensors, format=form, **options)
    return folder


def wide(tensor):
    return LazyTensor.of(tensor.read().astype(np.float32))


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype)
        assert found[name].read().tobytes() == tensor.read().tobytes(), name


@pytest.mark.parametrize("form", FORMS)
def test_a_published_form_gives_the_logits_of_its_writer(form):
    checkpoint, expected = golden(form)
    config = GPTJConfig.from_dict(checkpoint.config())
    output = forward(config, checkpoint.tensors, input_ids=expected["ids"])
    tolerance = "float16_file" if form == "bin_fp16" else "golden"
    assert_close(output.logits, expected["logits"], tolerance, form)


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_hold_the_same_bits(form):
    tensors, expected = golden(form)[0].tensors, golden("safetensors")[0].tensors
    if form == "bin_fp16":
        expected = {n: LazyTensor.of(t.read().astype(np.float16)) for n, t in expected.items()}
    assert_same_bits(tensors, dict(expected))


@pytest.mark.parametrize("form", FORMS)
def test_a_form_says_what_it_is(form):
    assert golden(form)[0].form == form.partition("_")[0]


def test_the_original_gives_the_logits_of_its_own_layers():
    checkpoint = open_checkpoint(GOLDEN / "mesh")
    with np.load(GOLDEN / "mesh" / "expected.npz") as file:
        ids, logits = np.atleast_2d(file["ids"]), file["logits"]
    config = GPTJConfig(vocab_size=96, n_embd=64, n_layer=11, n_head=8, rotary_dim=4)
    output = forward(config, checkpoint.tensors, input_ids=ids)
    assert_close(output.logits.reshape(logits.shape), logits, "golden")


@pytest.mark.parametrize(("first", "second"), list(product(FORMATS, FORMATS)))
@pytest.mark.parametrize("size", ["5GB", "300KB"])
def test_every_form_turns_into_every_other_and_back(first, second, size, tmp_path):
    expected = drawn("causal_lm")
    one = open_checkpoint(save(tmp_path / "1", expected, first, max_shard_size=size))
    two = open_checkpoint(save(tmp_path / "2", one.tensors, second))
    three = open_checkpoint(save(tmp_path / "3", two.tensors, first, max_shard_size=size))
    assert_same_bits(three.tensors, expected)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ACCEPTED)
def test_a_round_trip_keeps_every_bit(form, dtype, head, tmp_path):
    expected = drawn(head, dtype)
    is_language_model = head == "causal_lm" or form not in ("mesh", "ggml")
    if (dtype == "bfloat16" and form in ("h5", "ggml")) or not is_language_model:
        with pytest.raises(UnsupportedFeature, match="'safetensors'"):
            save(tmp_path, expected, form)
        assert list(tmp_path.iterdir()) == []
        return
    found = open_checkpoint(save(tmp_path, expected, form)).tensors
    if form == "ggml":  # its vectors are always float32, which changes no value
        expected = {n: t if t.shape[1:] else wide(t) for n, t in expected.items()}
    prefix = "transformer." if (form, head) == ("h5", "base") else ""  # as TensorFlow writes it
    assert_same_bits(found, {prefix + name: tensor for name, tensor in expected.items()})


@pytest.mark.parametrize("form", FORMATS)
def test_shards_keep_to_their_size_and_their_index(form, tmp_path):
    expected = drawn("causal_lm")
    save(tmp_path, expected, form, max_shard_size="300KB")
    index = json.loads((tmp_path / FORMATS[form].index).read_text(encoding="utf-8"))
    assert index["metadata"] == {"total_size": sum(t.nbytes for t in expected.values())}
    assert len(index["weight_map"]) == len(expected)
    files = set(index["weight_map"].values())
    assert files == {path.name for path in tmp_path.iterdir() if path.suffix != ".json"}
    assert all((tmp_path / name).stat().st_size < 400_000 for name in files)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_mapped_and_not_read(form, tmp_path):
    tensors = open_checkpoint(save(tmp_path, drawn("causal_lm"), form)).tensors
    array = tensors["transformer.wte.weight"].read()
    while array.base is not None and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


@pytest.mark.parametrize("form", FORMATS)
def test_odd_names_of_shards_are_read(form, tmp_path):
    save(tmp_path, drawn("causal_lm"), form, max_shard_size="300KB")
    index = tmp_path / FORMATS[form].index
    text = index.read_text(encoding="utf-8")
    for path in tmp_path.glob("*-of-*"):
        odd = f"{path.stem}-003{path.suffix}"
        path.rename(tmp_path / odd)
        text = text.replace(path.name, odd)
    index.write_text(text, encoding="utf-8")
    assert_same_bits(open_checkpoint(tmp_path).tensors, drawn("causal_lm"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_weight_file_and_an_index_can_be_opened_by_name(form, tmp_path):
    whole = save(tmp_path / "whole", drawn("causal_lm"), form) / FORMATS[form].whole
    shards = save(tmp_path / "shards", drawn("causal_lm"), form, max_shard_size="300KB")
    assert_same_bits(open_checkpoint(whole).tensors, drawn("causal_lm"))
    index = shards / FORMATS[form].index
    assert_same_bits(open_checkpoint(index).tensors, drawn("causal_lm"))


def test_of_several_forms_the_one_that_maps_best_is_taken(tmp_path):
    for form in ("h5", "msgpack", "bin", "safetensors"):
        save(tmp_path, drawn("causal_lm"), form, beside=True)
        assert open_checkpoint(tmp_path).form == form


def test_weights_of_another_form_are_not_left_beside_new_ones(tmp_path):
    save(tmp_path, drawn("causal_lm"), "bin")
    with pytest.raises(CheckpointError, match=r"another form \('pytorch_model.bin'\)"):
        save(tmp_path, drawn("causal_lm"), "safetensors")


def test_an_unknown_format_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ArgumentError, match=r"no format 'safetensor'\. Did you mean 'safetensors'"):
        save(tmp_path, drawn("causal_lm"), "safetensor")


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = Path(tmp_path / "model.gguf")
    path.write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"those end with '\.safetensors'"):
        open_checkpoint(path)


LAYOUTS = {
    "transposed": lambda array: np.ascontiguousarray(array.T).T,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "reversed": lambda array: array[::-1].copy()[::-1],
    "big-endian": in_other_order,
    "read-only": read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ACCEPTED)
def test_arrays_of_every_layout_come_back_with_their_values(tmp_path, form, layout):
    tensors = drawn("causal_lm")
    given = {name: LazyTensor.of(LAYOUTS[layout](t.read())) for name, t in tensors.items()}
    save(tmp_path, given, form)
    found = open_checkpoint(tmp_path).tensors
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name].read(), tensor.read())
