"""From one form to another, and new checkpoints, from Python and from the command line."""

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.cli import main
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor
from models import DEMO
from paths import GOLDEN, TINY

pytestmark = pytest.mark.frameworks

FORMATS = GOLDEN / "formats"
MESH_CONFIG = GPTJConfig(vocab_size=96, n_embd=64, n_layer=11, n_head=8, rotary_dim=4)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def arrays(folder):
    return {name: tensor.read() for name, tensor in open_checkpoint(folder).tensors.items()}


def configuration(folder):
    return GPTJConfig.from_dict(open_checkpoint(folder).config())


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("to", ["safetensors", "bin", "msgpack", "h5", "ggml"])
def test_a_conversion_keeps_weights_and_configuration(to, tmp_path):
    gptj.convert(FORMATS / "bin_sharded", tmp_path / "new", to=to)
    assert_equal(arrays(tmp_path / "new"), arrays(FORMATS / "safetensors"))
    assert configuration(tmp_path / "new") == GPTJConfig.from_json_file(
        FORMATS / "bin_sharded" / "config.json"
    )


def test_the_originals_shards_need_a_configuration_or_are_guessed(tmp_path, caplog):
    gptj.convert(GOLDEN / "mesh", tmp_path / "guessed")
    assert "n_head = 16, n_positions = 2048, " in caplog.text
    assert "put a config.json there, or name one by config=" in caplog.text
    assert configuration(tmp_path / "guessed").n_layer == 11
    gptj.convert(GOLDEN / "mesh", tmp_path / "new", config=MESH_CONFIG)
    assert configuration(tmp_path / "new").n_layer == 11


def test_the_originals_shards_come_back(tmp_path):
    gptj.convert(GOLDEN / "mesh", tmp_path / "1", config=MESH_CONFIG)
    gptj.convert(tmp_path / "1", tmp_path / "2", to="mesh")
    assert names(tmp_path / "2" / "step_0") == [f"shard_{core}" for core in range(8)]
    assert_equal(arrays(tmp_path / "2"), arrays(tmp_path / "1"))


def test_the_6b_is_known_by_its_shapes(tmp_path, caplog):
    table = parameter_table(GPTJConfig())
    checkpoint = open_checkpoint(FORMATS / "safetensors")
    no_bytes = np.broadcast_to(np.float16(0), (1,))
    tensors = {
        name: LazyTensor(p.shape, np.dtype(np.float16), lambda: no_bytes)
        for name, p in table.items()
    }
    unknown = type(checkpoint)(tmp_path, "bin", [], tensors)
    assert GPTJConfig.from_dict(unknown.config()) == GPTJConfig()
    assert caplog.records == []
    del tensors["lm_head.bias"]
    assert unknown.config()["n_head"] == 16
    assert "has no config.json: its sizes follow from its tensors; n_head = 16" in caplog.text


def test_the_sums_over_shards_are_rounded_once(tmp_path):
    """Eight bfloat16 numbers whose sum, rounded at each step, would be another."""
    config = GPTJConfig(vocab_size=96, n_embd=64, n_layer=1, n_head=8, rotary_dim=4)
    dtype = np.dtype(ml_dtypes.bfloat16)
    tensors = {
        name: LazyTensor.of(initial_value(p, config).astype(dtype))
        for name, p in parameter_table(config).items()
    }
    save_checkpoint(tmp_path, config, GenerationConfig(), tensors, format="mesh")
    parts = np.random.Generator(np.random.PCG64(3)).standard_normal((8, 64)).astype(dtype)
    for core, part in enumerate(parts):
        folder = tmp_path / "step_0" / f"shard_{core}"
        # two of the embedding, then ten of the layer, of which it is the seventh
        path, key, _ = leaves_of(folder)[2 + 6]
        np.savez(path, **dict(np.load(path)) | {key: part.view("V2")})
    found = open_checkpoint(tmp_path).tensors["transformer.h.0.mlp.fc_out.bias"].read()
    expected = parts.astype(np.float32).sum(0).astype(dtype)
    np.testing.assert_array_equal(found, expected)
    assert (found != np.add.reduce(parts, 0, dtype)).any()


def leaves_of(folder):
    """Return file, key and array of every leaf of a shard, in order."""
    files = sorted(folder.glob("*.npz"), key=lambda path: int(path.stem))
    contents = [(path, dict(np.load(path))) for path in files]
    return [(path, key, array) for path, content in contents for key, array in content.items()]


def test_a_full_checkpoint_is_read_from_its_end(tmp_path):
    """Adam's moments come before the parameters, in the same order and shapes."""
    full = tmp_path / "step_1"
    for core in range(8):
        source = GOLDEN / "mesh" / "step_1" / f"shard_{core}"
        *params, step = (array for _, _, array in leaves_of(source))
        moments = [leaf + 1 for leaf in params]
        everything = [np.array(7), *moments, *moments, np.array(7), *params, step]
        target = full / f"shard_{core}"
        target.mkdir(parents=True)
        for index, group in enumerate(np.array_split(np.arange(len(everything)), 16)):
            np.savez(target / f"{index}.npz", *[everything[place] for place in group])
    assert_equal(arrays(full), arrays(GOLDEN / "mesh"))


def test_a_dtype_is_rounded_to(tmp_path):
    gptj.convert(FORMATS / "h5", tmp_path, dtype="bfloat16")
    expected = arrays(FORMATS / "safetensors")
    assert_equal(arrays(tmp_path), {n: a.astype(ml_dtypes.bfloat16) for n, a in expected.items()})
    assert configuration(tmp_path).dtype == "bfloat16"


def test_numbers_that_a_dtype_cannot_hold_are_refused(tmp_path):
    tensors = dict(open_checkpoint(FORMATS / "safetensors").tensors)
    tensors["lm_head.bias"] = LazyTensor.of(np.full(211, 7e4, np.float32))
    config = GPTJConfig.from_json_file(FORMATS / "safetensors" / "config.json")
    save_checkpoint(tmp_path / "large", config, GenerationConfig(), tensors)
    with pytest.raises(CheckpointError, match=r"bias holds 70000\.0, which float16 cannot"):
        gptj.convert(tmp_path / "large", tmp_path / "small", dtype="float16")
    assert not (tmp_path / "small").exists()


def test_the_tokenizer_comes_along(tmp_path):
    gptj.convert(DEMO, tmp_path / "demo", to="bin")
    assert len(gptj.load_tokenizer(tmp_path / "demo")) == 50_400
    assert "tokenizer.json" in names(tmp_path / "demo")
    gptj.convert(FORMATS / "bin", tmp_path / "small")
    assert "tokenizer.json" not in names(tmp_path / "small")


def test_another_form_can_be_put_beside_the_first(tmp_path):
    gptj.convert(FORMATS / "bin", tmp_path)
    gptj.convert(tmp_path, tmp_path, to="msgpack")
    assert {"model.safetensors", "flax_model.msgpack"} <= set(names(tmp_path))
    with pytest.raises(CheckpointError, match="another form"):
        gptj.convert(TINY, tmp_path, to="msgpack")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "gguf"}, ArgumentError, "no format 'gguf'"),
        ({"dtype": "int8"}, ArgumentError, "no dtype 'int8' here; accepted are 'float32'"),
        ({"to": "h5", "dtype": "bfloat16"}, UnsupportedFeature, "'h5' cannot hold bfloat16"),
        ({"to": "mesh"}, UnsupportedFeature, "cannot hold 4 heads, not a multiple of 8 and 211"),
        ({"config": "nowhere.json"}, ArgumentError, r"no configuration 'nowhere\.json'"),
        ({"max_shard_size": "big"}, ArgumentError, "'big' is not a size"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    options, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        gptj.convert(FORMATS / "safetensors", tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("head", HEADS)
def test_a_new_checkpoint_is_what_every_backend_draws(head, tmp_path):
    config = GPTJConfig.from_json_file(TINY / "config.json", num_labels=2)
    gptj.init(config, tmp_path, head=head, seed=5, max_shard_size="40KB")
    table = parameter_table(config, head)
    assert_equal(arrays(tmp_path), {n: initial_value(p, config, 5) for n, p in table.items()})
    assert open_checkpoint(tmp_path).config()["architectures"] == [HEADS[head].class_name]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("7B", {}, "no configuration '7B'; accepted are '6B'"),
        (GPTJConfig(), {"dtype": "float8"}, "no dtype 'float8'"),
        (GPTJConfig(), {"head": "masked_lm"}, "masked_lm"),
    ],
)
def test_a_new_checkpoint_needs_what_is_known(config, options, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        gptj.init(config, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_command_converts(tmp_path):
    result = run("convert", FORMATS / "bin", tmp_path / "new", "--to", "msgpack")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "gptj.load(" in result.stderr
    assert_equal(arrays(tmp_path / "new"), arrays(FORMATS / "safetensors"))


def test_the_command_takes_a_configuration(tmp_path):
    (tmp_path / "c.json").write_text(MESH_CONFIG.to_json_string(), encoding="utf-8")
    source = GOLDEN / "mesh" / "step_1"
    assert run("convert", source, tmp_path / "new", "--config", tmp_path / "c.json").exit_code == 0
    assert_equal(arrays(tmp_path / "new"), arrays(GOLDEN / "mesh"))


def test_the_command_makes_a_new_checkpoint(tmp_path):
    result = run("init", tmp_path / "new", "--config", TINY, "--dtype", "bfloat16", "--seed", 3)
    assert result.exit_code == 0
    assert configuration(tmp_path / "new").dtype == "bfloat16"


def test_wrong_calls_end_with_2_and_bad_files_with_1(tmp_path):
    assert run("convert", FORMATS / "bin", tmp_path / "new", "--to", "gguf").exit_code == 2
    assert run("convert", tmp_path / "nothing", tmp_path / "new").exit_code == 1
    assert run("init", tmp_path / "new").exit_code == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loop", "Too many levels"),
        ("dangling", "is a link to nowhere"),
        ("x" * 256, "File name too long"),
        ("a\0b", "cannot hold the character NUL"),
        ("loop/model", "Too many levels"),
    ],
)
def test_a_target_that_is_no_folder_is_one_line(name, message, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match=f"^Cannot save into .*{message}"):
        gptj.convert(TINY, tmp_path / name)
    assert names(tmp_path) == ["dangling", "loop"]


@pytest.mark.parametrize("to", ["safetensors", "bin"])
def test_the_source_may_be_the_target(to, tmp_path):
    gptj.convert(TINY, tmp_path / "model", max_shard_size="60KB")
    gptj.convert(tmp_path / "model", tmp_path / "model", to=to)
    found = names(tmp_path / "model")
    assert ("model.safetensors.index.json" in found) == (to == "bin")
    assert gptj.inspect(tmp_path / "model").ok
    assert not [name for name in names(tmp_path) if name.startswith(".")]
