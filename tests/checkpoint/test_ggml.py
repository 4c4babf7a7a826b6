"""ggml files: blocks as gguf has them, forged headers, tokens, and what the form cannot hold."""

import json
import shutil
import struct
import time
import tracemalloc

import numpy as np
import pytest

import gptj
from gptj.checkpoint import ggml_file
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.ggml_blocks import QUANTIZED, TYPES, dequantized, quantized
from gptj.checkpoint.ggml_vocabulary import token_bytes
from gptj.errors import ArgumentError, CheckpointError, TokenizerError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.lookup import find_tokenizer
from paths import GOLDEN
from weight_files import CONFIG, TENSORS, read_all, save

pytestmark = pytest.mark.neutral

SOURCE = GOLDEN / "formats" / "ggml"
SIZES = (16, 8, 16, 8, 1, 2)  # of the model of `weight_files`
MAGIC = b"lmgg"
TOKENS = [b"%d" % index for index in range(16)]


def integers(*values):
    return struct.pack(f"<{len(values)}i", *values)


def header(sizes=SIZES, ftype=0, count=16, tokens=TOKENS):
    listed = b"".join(integers(len(token)) + token for token in tokens)
    return MAGIC + integers(*sizes, ftype, count) + listed


def tensor(name, array, code=0):
    start = integers(array.ndim, len(name), code, *array.shape[::-1])
    return start + name.encode() + array.tobytes()


ALL = b"".join(tensor(name, t.read()) for name, t in TENSORS.items())
BIAS = tensor("lm_head.bias", TENSORS["lm_head.bias"].read())
END = integers(1, 4, 0)  # of a tensor's header, before its shape


def write(folder, content, name="ggml-model.bin"):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("name", QUANTIZED)
def test_blocks_are_those_of_gguf(name):
    with np.load(GOLDEN / "ggml" / "blocks.npz") as file:
        golden = dict(file)
    kind = TYPES[name]
    made = np.concatenate(list(quantized(golden["numbers"], kind, "x")))
    assert made.tobytes() == golden[f"{name} blocks"].tobytes()
    for blocks in (f"{name} blocks", f"{name} other"):
        found = dequantized(golden[blocks].view(kind.stored), kind)
        assert found.tobytes() == golden[blocks.replace("blocks", "").strip() + " read"].tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("name", QUANTIZED)
def test_numbers_that_no_block_holds_are_refused(name, value):
    numbers = np.ones((2, 64), np.float32)
    numbers[1, 3] = value
    with pytest.raises(CheckpointError, match=r"lm_head\.weight holds"):
        list(quantized(numbers, TYPES[name], "lm_head.weight"))


@pytest.mark.parametrize("name", QUANTIZED)
def test_numbers_too_small_for_a_scale_become_zero(name):
    numbers = np.full((1, 32), 1e-44, np.float32)
    (blocks,) = quantized(numbers, TYPES[name], "x")
    assert not dequantized(blocks, TYPES[name]).any()


FORGED = {
    "another model's header": (header(count=1), "no header of a GPT-J.*GPT-NeoX or LLaMA begin"),
    "an unknown ftype": (header(ftype=2012), "has weights of ftype 2012; gptj reads f32, f16"),
    "a negative ftype": (header(ftype=-1000), "has weights of ftype -1000"),
    "a newer version": (header(ftype=3002), "'q4_0' in blocks of version 3"),
    "too many tokens": (header((2**31 - 1, *SIZES[1:]), count=2**31 - 1), "has 2147483647 tokens"),
    "more tokens than bytes": (header((1000, *SIZES[1:]), count=1000), "cut short"),
    "a negative size": (header((*SIZES[:3], -8, *SIZES[4:])), "its header has n_head = -8"),
    "no whole heads": (
        header((16, 8, 16, 5, 1, 2)) + ALL,
        r"header of no model: .*n_embd \(16\) must be a multiple of n_head \(5\)",
    ),
    "rotary positions beyond a head": (header((*SIZES[:5], 4)) + ALL, "no model: .*found 4"),
    "no layers": (header((*SIZES[:4], 0, 2)), "its header has n_layer = 0"),
    "layers without end": (
        header((*SIZES[:4], 2**31 - 1, 2)) + ALL,
        "n_layer must be at most 65536",
    ),
    "more layers than tensors": (header((*SIZES[:4], 999, 2)) + ALL, "999 layers, and it lacks"),
    "another width": (header((16, 8, 32, 8, 1, 2)) + ALL, r"width of \(16, 32\), .*\(16, 16\)"),
    "half a header": (header()[:20], "the header takes 32 bytes, 16 are left"),
    "a negative token": (header(tokens=[]) + integers(-5), "token 0 has -5 bytes"),
    "a huge token": (header(tokens=[]) + integers(2**31 - 1), "token 0 takes 2147483647 bytes"),
    "a huge name": (header() + integers(1, 2**31 - 1, 0), "name of 2147483647 bytes"),
    "a negative name": (header() + integers(1, -1, 0), "name of -1 bytes"),
    "no axes": (header() + integers(0, 4, 0) + b"name", "a tensor of 0 axes"),
    "many axes": (header() + integers(2**30, 4, 0), "a tensor of 1073741824 axes"),
    "no rows": (header() + END + integers(0) + b"name", r"name has the shape \(0,\)"),
    "negative rows": (header() + END + integers(-4) + b"name", r"name has the shape \(-4,\)"),
    "endless rows": (
        header() + integers(2, 4, 0, 2**31 - 1, 2**31 - 1) + b"name",
        "takes 18446744056529682436 bytes",
    ),
    "an unknown type": (header() + integers(1, 4, 12, 32) + b"name", "name has numbers of type 12"),
    "half a block": (header() + integers(1, 4, 2, 33) + b"name", r"shape \(33,\), in q4_0"),
    "a name twice": (header() + ALL + BIAS, r"lm_head\.bias stands there twice"),
    "bytes after the end": (header() + ALL + b"\0\0\0", "the header of a tensor takes 12 bytes"),
    "a lacking tensor": (header() + ALL[: -len(BIAS)], r"lacks 1 tensors, from lm_head\.bias on"),
    "old blocks": (
        header(ftype=2) + integers(1, 1, 2, 32) + b"x" + bytes(20) + ALL,
        "'q4_0' in blocks of version 0; gptj reads those of version 2",
    ),
    "old blocks among floats": (
        header() + integers(1, 1, 2, 32) + b"x" + bytes(18) + ALL,
        "'q4_0' in blocks of version 0; gptj reads those of version 2",
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_file_is_one_error_before_any_memory(case, tmp_path):
    content, message = FORGED[case]
    path = write(tmp_path, content)
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=message) as caught:
        read_all(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 2**23
    assert time.process_time() - start < 1


def test_what_the_forged_files_are_made_of_is_a_model(tmp_path):
    write(tmp_path, header() + ALL)
    opened = open_checkpoint(tmp_path)
    assert {name: t.read().tobytes() for name, t in opened.tensors.items()} == {
        name: t.read().tobytes() for name, t in TENSORS.items()
    }
    assert opened.vocabulary == TOKENS


@pytest.mark.parametrize(("magic", "name"), [(b"fmgg", "ggmf"), (b"tjgg", "ggjt")])
def test_a_llama_file_is_told_from_a_gptj(magic, name, tmp_path):
    path = write(tmp_path, magic + bytes(99))
    for place in (path, tmp_path):
        with pytest.raises(CheckpointError, match=f"a {name} file of llama.cpp.*hold LLaMA models"):
            open_checkpoint(place)


@pytest.mark.parametrize("name", ["ggml-model-f16.bin", "pygmalion-6b.bin", "gpt4all-j"])
def test_a_file_is_known_by_its_beginning(name, tmp_path):
    path = shutil.copyfile(SOURCE / "ggml-model-f32.bin", tmp_path / name)
    assert open_checkpoint(path).form == "ggml"
    if path.suffix == ".bin":
        assert open_checkpoint(tmp_path).form == "ggml"


def test_a_ggml_file_under_another_forms_name_is_told(tmp_path):
    shutil.copyfile(SOURCE / "ggml-model-f32.bin", tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"it is a ggml file.*Name it ggml-model\.bin"):
        open_checkpoint(tmp_path)


def test_of_several_files_the_user_chooses(tmp_path):
    for name in ("ggml-model-f16.bin", "ggml-model-q4_0.bin"):
        shutil.copyfile(SOURCE / "ggml-model-f32.bin", tmp_path / name)
    with pytest.raises(CheckpointError, match=r"several ggml files; give one of them: .*q4_0\.bin"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path / "ggml-model-f16.bin").form == "ggml"


def test_the_header_is_the_configuration():
    content = open_checkpoint(SOURCE).config()
    with (GOLDEN / "formats" / "safetensors" / "config.json").open(encoding="utf-8") as file:
        expected = GPTJConfig.from_dict(json.load(file))
    found = GPTJConfig.from_dict(content)
    for name in (*ggml_file.SIZES, "inner_dim", "layer_norm_epsilon", "eos_token_id"):
        assert getattr(found, name) == getattr(expected, name), name


def test_the_header_stands_above_a_configuration_beside_it(tmp_path, caplog):
    shutil.copyfile(SOURCE / "ggml-model-f32.bin", tmp_path / "ggml-model.bin")
    beside = {"model_type": "gptj", "n_head": 8, "num_hidden_layers": 28, "eos_token_id": 3}
    (tmp_path / "config.json").write_text(json.dumps(beside), encoding="utf-8")
    config = GPTJConfig.from_dict(open_checkpoint(tmp_path).config())
    assert (config.n_head, config.n_layer, config.rotary_dim, config.eos_token_id) == (4, 2, 6, 3)
    assert "n_head = 8, the ggml file's header has 4, which is used" in caplog.text
    assert "n_layer = 28, the ggml file's header has 2" in caplog.text
    changed = open_checkpoint(tmp_path).config(changes={"n_head": 2})
    assert changed["n_head"] == 2


CHANGES = [
    ({"n_inner": 32}, "n_inner = 32, not 4 x n_embd"),
    ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon = 1e-06, not 1e-05"),
    ({"activation_function": "silu"}, "activation_function = 'silu', not 'gelu_new'"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES)
def test_what_its_programs_would_compute_otherwise_is_refused(changes, message, tmp_path):
    config = GPTJConfig.from_dict(CONFIG.to_dict(), **changes)
    gptj.init(config, tmp_path / "old")
    with pytest.raises(UnsupportedFeature, match=f"'ggml' cannot hold {message}"):
        gptj.convert(tmp_path / "old", tmp_path / "new", to="ggml")
    assert not (tmp_path / "new").exists()


def test_quantized_files_are_written_and_read(tmp_path, caplog):
    config = GPTJConfig(vocab_size=96, n_embd=64, n_layer=1, n_head=4, rotary_dim=8)
    gptj.init(config, tmp_path / "old", dtype="bfloat16")
    expected = open_checkpoint(tmp_path / "old").tensors
    for name in QUANTIZED:
        gptj.convert(tmp_path / "old", tmp_path / name, to="ggml", quantize=name)
        opened = open_checkpoint(tmp_path / name)
        assert f"holds weights in {name}, which are read as float32" in caplog.text
        for key, tensor in expected.items():
            wanted, found = tensor.read().astype(np.float32), opened.tensors[key].read()
            if wanted.ndim == 2:
                (blocks,) = quantized(wanted, TYPES[name], key)
                wanted = dequantized(blocks, TYPES[name])
            np.testing.assert_array_equal(found, wanted)
        assert gptj.inspect(tmp_path / name).ok


def test_blocks_are_for_ggml_and_for_widths_of_whole_blocks(tmp_path):
    save(tmp_path / "old", "bin")
    with pytest.raises(UnsupportedFeature, match="q4_0 weights are written as 'ggml' only"):
        gptj.convert(tmp_path / "old", tmp_path / "new", quantize="q4_0")
    with pytest.raises(UnsupportedFeature, match="int8 weights are written as 'safetensors' only"):
        gptj.convert(tmp_path / "old", tmp_path / "new", to="ggml", quantize="int8")
    with pytest.raises(ArgumentError, match=r"quantize 'q4_K' is not known; .*'q8_0', 'none'"):
        gptj.convert(tmp_path / "old", tmp_path / "new", to="ggml", quantize="q4_K")
    with pytest.raises(UnsupportedFeature, match="cannot hold n_embd = 16 in blocks of 32"):
        gptj.convert(tmp_path / "old", tmp_path / "new", to="ggml", quantize="q4_0")


def test_a_tied_model_is_written_with_both_and_read_tied(tmp_path):
    config = GPTJConfig.from_dict(CONFIG.to_dict(), tie_word_embeddings=True)
    gptj.init(config, tmp_path / "old")
    gptj.convert(tmp_path / "old", tmp_path / "new", to="ggml")
    opened = open_checkpoint(tmp_path / "new")
    assert {"transformer.wte.weight", "lm_head.weight"} <= opened.tensors.keys()
    assert opened.config()["tie_word_embeddings"]


def small(folder, rows):
    """Write a model of so many rows in ggml, and return the folder."""
    config = GPTJConfig(vocab_size=rows, n_embd=4, n_layer=1, n_head=1, rotary_dim=2, n_positions=8)
    tensors = {
        name: LazyTensor.of(initial_value(p, config)) for name, p in parameter_table(config).items()
    }
    gptj.checkpoint.saving.save_checkpoint(folder, config, GenerationConfig(), tensors)
    return folder


def test_rows_beyond_the_tokenizer_get_tokens_unlike_all_others(tmp_path):
    folder = small(tmp_path / "old", 50_410)
    tokenizer = GPTJTokenizer()
    tokenizer.add_tokens(["<|unused_50405|>", "größer"])
    tokenizer.save_pretrained(folder)
    gptj.convert(folder, tmp_path / "new", to="ggml")
    tokens = open_checkpoint(tmp_path / "new").vocabulary
    assert len(tokens) == 50_410
    assert (tokens[0], tokens[184], tokens[220]) == (b"!", b"\xfc", b" ")
    assert (tokens[464], tokens[50_256]) == (b"The", b"<|endoftext|>")
    assert tokens[50_400:50_402] == [b"<|unused_50405|>", "größer".encode()]
    assert tokens[50_405] == b"<|unused_50405|>_"
    assert tokens[50_409] == b"<|unused_50409|>"
    (tmp_path / "new" / "tokenizer.json").unlink()  # the pair has the same tokens
    gptj.convert(tmp_path / "new", tmp_path / "again", to="ggml")
    assert open_checkpoint(tmp_path / "again").vocabulary == tokens


@pytest.mark.parametrize("rows", [50_257, 50_400])
def test_a_file_of_gptjs_tokens_has_gptjs_tokenizer(rows, tmp_path):
    known = token_bytes(GPTJTokenizer().get_vocab())
    tokens = [known[index] for index in range(rows)]
    path = write(tmp_path, header((rows, 8, 4, 1, 1, 2), count=rows, tokens=tokens))
    for found in (gptj.load_tokenizer(path), find_tokenizer(tmp_path)):
        assert len(found) == rows
        assert found.encode(" token <|endoftext|>") == [11_241, 220, 50_256]
    write(tmp_path, header((rows, 8, 4, 1, 1, 2), count=rows, tokens=[*tokens[:-1], b"other"]))
    with pytest.raises(TokenizerError, match="tokens other than GPT-J's"):
        find_tokenizer(tmp_path)


def test_other_tokens_make_no_tokenizer_and_stay_in_the_file(tmp_path, caplog):
    with pytest.raises(TokenizerError, match="holds 211 tokens other than GPT-J's, and no merges"):
        gptj.load_tokenizer(SOURCE)
    gptj.convert(SOURCE, tmp_path, to="ggml", dtype="float16")
    assert "no tokenizer is written" in caplog.text
    assert not list(tmp_path.glob("*token*"))
    found = open_checkpoint(tmp_path)
    assert found.vocabulary == open_checkpoint(SOURCE).vocabulary
    assert found.tensors["lm_head.weight"].dtype == np.float16


def test_the_alphabet_is_undone_only_where_it_was_used():
    assert token_bytes({"Ġé": 0, "▁é": 1}) == {0: b" \xe9", 1: "▁é".encode()}
    assert token_bytes({"é": 0}, is_byte_level=False) == {0: "é".encode()}
