"""What `gptj inspect` says of whole and of broken checkpoints."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.cli import main
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.tensors import LazyTensor
from noting import Noting
from paths import GOLDEN, TINY

pytestmark = pytest.mark.frameworks

FORMATS = GOLDEN / "formats"
CONFIG = GPTJConfig.from_json_file(TINY / "config.json")


def altered(folder, format="safetensors", **changes):
    """Save the tiny model with some tensors replaced, added, or, for None, left out."""
    tensors = dict(open_checkpoint(TINY).tensors)
    for name, array in changes.items():
        if array is None:
            del tensors[name]
        else:
            tensors[name] = LazyTensor.of(np.asarray(array))
    save_checkpoint(folder, CONFIG, GenerationConfig(), tensors, format=format)
    return folder


def problems(folder):
    return gptj.inspect(folder).to_dict()["problems"]


def filled(name, value, place=...):
    array = np.array(open_checkpoint(TINY).tensors[name].read())
    array[place] = value
    return {name: array}


def buffers(mask):
    return {
        f"transformer.h.{layer}.attn.{name}": array
        for layer in range(CONFIG.n_layer)
        for name, array in (("bias", mask[None, None]), ("masked_bias", np.float32(-1e9)))
    }


CAUSAL = np.tri(CONFIG.n_positions, dtype=bool)
PREFIX = np.ones_like(CAUSAL)


def test_nothing_is_wrong_with_the_tiny_model():
    found = gptj.inspect(TINY)
    assert found.ok
    assert str(found).endswith("nothing is wrong")


def test_every_form_has_the_same_hashes():
    forms = [path for path in FORMATS.iterdir() if path.is_dir() and path.name != "bin_fp16"]
    assert len({gptj.inspect(form).to_dict()["weights_sha256"] for form in forms}) == 1
    other = gptj.inspect(FORMATS / "bin_fp16").to_dict()
    assert other["weights_sha256"] != gptj.inspect(FORMATS / "bin").to_dict()["weights_sha256"]


@pytest.mark.parametrize(
    ("form", "kind", "dialect"),
    [("bin", "bin", "pt"), ("h5_sharded", "h5", "tf"), ("msgpack", "msgpack", "flax")],
)
def test_form_and_dialect_are_reported(form, kind, dialect):
    found = gptj.inspect(FORMATS / form).to_dict()
    assert (found["form"], found["dialect"], found["head"]) == (kind, dialect, "causal_lm")


def test_sizes_and_dtypes_are_reported():
    found = gptj.inspect(FORMATS / "bin_fp16").to_dict()
    assert (found["parameters"], found["bytes"]) == (56_131, 2 * 56_131)
    tensor = found["tensors"]["lm_head.weight"]
    assert (tensor["shape"], tensor["dtype"], tensor["nan"]) == ([211, 40], "float16", 0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lm_head.bias": None}, r"1 tensors missing: 'lm_head\.bias'"),
        ({"transformer.h.0.ln_2.weight": np.ones(3)}, r"1 tensors unexpected: '.*\.ln_2\.weight'"),
        ({"lm_head.bias": np.ones(5, "f4")}, r"another shape: 'lm_head\.bias is \(5,\), needed is"),
        (filled("lm_head.weight", np.nan, (3, 4)), r"lm_head\.weight holds 1 numbers that are nan"),
        (filled("lm_head.bias", -np.inf, 7), r"lm_head\.bias holds 1 numbers that are infinite"),
        (filled("transformer.ln_f.weight", 0), r"transformer\.ln_f\.weight is all zero"),
        (buffers(PREFIX), r"2 masks are not causal, from transformer\.h\.0\.attn\.bias on"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_is_named(changes, problem, tmp_path):
    import re

    found = problems(altered(tmp_path, **changes))
    assert any(re.search(problem, line) for line in found), found


def test_causal_masks_of_old_files_are_no_problem(tmp_path):
    found = gptj.inspect(altered(tmp_path, "bin", **buffers(CAUSAL)))
    assert found.ok
    assert "4 old buffers" in str(found)


def test_loading_drops_causal_masks_in_silence_and_tells_of_others(tmp_path, caplog):
    load_model(Noting(), "causal_lm", altered(tmp_path / "1", **buffers(CAUSAL)))
    assert caplog.text == ""
    load_model(Noting(), "causal_lm", altered(tmp_path / "2", **buffers(PREFIX)))
    assert "trained with masks that are not causal" in caplog.text


def test_a_tokenizer_larger_than_the_vocabulary_is_a_problem(tmp_path):
    gptj.load_tokenizer("demo").save_pretrained(altered(tmp_path))
    assert "The tokenizer has 50400 tokens, the vocabulary only 96." in problems(tmp_path)


def test_damaged_numbers_are_named_where_the_form_has_checksums(tmp_path):
    path = altered(tmp_path, "bin") / "pytorch_model.bin"
    content = bytearray(path.read_bytes())
    array = open_checkpoint(TINY).tensors["transformer.wte.weight"].read()
    content[content.index(array.tobytes()) + 5] ^= 8
    path.write_bytes(content)
    (problem,) = [line for line in problems(tmp_path) if "wte" in line]
    assert "transformer.wte.weight cannot be read" in problem
    assert "has the checksum" in problem


def test_a_file_that_is_not_what_the_hub_has_is_a_problem(tmp_path):
    snapshot, blobs = tmp_path / "snapshots" / "0", tmp_path / "blobs"
    altered(snapshot)
    blobs.mkdir()
    (snapshot / "model.safetensors").rename(blobs / ("0" * 64))
    (snapshot / "model.safetensors").symlink_to(blobs / ("0" * 64))
    assert any("is not what the hub has" in line for line in problems(snapshot))


def test_a_checkpoint_without_configuration_is_still_looked_through(tmp_path):
    (altered(tmp_path) / "config.json").unlink()
    found = gptj.inspect(tmp_path)
    assert len(found.to_dict()["tensors"]) == len(open_checkpoint(TINY).tensors)
    assert "has no config.json: its sizes follow" in found.to_dict()["notes"][0]


def test_the_command_prints_a_table_or_json(tmp_path):
    result = CliRunner().invoke(main, ["inspect", str(FORMATS / "h5")])
    assert result.exit_code == 0
    assert "transformer.h.*.attn.q_proj.weight    2 of  40 x 40" in result.stdout
    altered(tmp_path, **{"lm_head.bias": None})
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["missing"] == ["lm_head.bias"]
