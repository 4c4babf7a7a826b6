"""Weights in int8: what the numbers mean, which they are, and how they lie on disk."""

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj.backends import get_backend
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.cli import main
from gptj.errors import ArgumentError, CheckpointError, ConfigError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.params import count_parameters, initial_value, parameter_bytes, parameter_table
from gptj.spec.quantization import QUANTIZERS
from gptj.spec.quantized_tensors import quantized_tensors, stored_value
from gptj.spec.tensors import LazyTensor
from gptj.tools.plan import plan
from installed import FRAMEWORKS
from models import checkpoint_weights
from paths import TINY
from quantized_cases import arrays, configuration, quantized_config

pytestmark = pytest.mark.frameworks

INT8 = np.dtype(np.int8)
QUANTIZER = QUANTIZERS["int8"]
QUANTIZED = {"quantization_config": dict(QUANTIZER.description)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The checkpoint ``weights/tiny`` in int8."""
    return gptj.convert(TINY, tmp_path_factory.mktemp("tiny") / "int8", quantize="int8")


def rounded(weight):
    """Return int8 numbers and scales of (out, in), number by number."""
    scales = [max(map(abs, row)) / np.float32(127) or np.float32(1) for row in weight]
    numbers = [[int(np.rint(w / s)) for w in row] for row, s in zip(weight, scales, strict=True)]
    return np.array(numbers, np.int8), np.array(scales, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_weight_is_rounded_row_by_row(dtype):
    drawn = np.random.Generator(np.random.PCG64(1)).standard_normal((600, 5)).astype(dtype)
    numbers, scales = rounded(drawn.astype(np.float32))
    np.testing.assert_array_equal(QUANTIZER.scales(drawn), scales)
    np.testing.assert_array_equal(QUANTIZER.quantize(drawn, scales), numbers)


def test_halves_are_rounded_to_even_and_the_largest_stays():
    weight = np.array([[127, 0.5, 1.5, -2.5, -126.5]], np.float32)
    assert QUANTIZER.scales(weight).tolist() == [1.0]
    assert QUANTIZER.quantize(weight, QUANTIZER.scales(weight)).tolist() == [[127, 0, 2, -2, -126]]


@pytest.mark.parametrize("value", [0.0, 1e-45])
def test_a_row_without_numbers_that_count_has_the_scale_1(value):
    weight = np.array([[value, 0.0], [2.54, -1.27]], np.float32)
    assert QUANTIZER.scales(weight)[0] == 1.0
    assert QUANTIZER.quantize(weight, QUANTIZER.scales(weight)).tolist() == [[0, 0], [127, -64]]


def test_the_error_is_half_a_scale_at_most():
    weight = np.random.Generator(np.random.PCG64(2)).standard_normal((64, 96)).astype(np.float32)
    scale = QUANTIZER.scales(weight)
    meant = QUANTIZER.dequantize(QUANTIZER.quantize(weight, scale), scale, np.float64)
    error = np.abs(meant - weight)
    assert (error <= scale[:, None] * (0.5 + 1e-5)).all()


def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path):
    config, tensors = checkpoint_weights(TINY)
    name = "transformer.h.1.mlp.fc_in.weight"
    broken = {**tensors, name: LazyTensor.of(np.full(tensors[name].shape, np.nan, np.float32))}
    save_checkpoint(tmp_path / "broken", config, GenerationConfig(), broken)
    with pytest.raises(CheckpointError, match=r"h\.1\.mlp\.fc_in\.weight.* not finite"):
        gptj.convert(tmp_path / "broken", tmp_path / "int8", quantize="int8")
    assert not (tmp_path / "int8").exists()


@pytest.mark.parametrize("head", ["base", "causal_lm", "sequence_classification"])
def test_linear_weights_are_int8_and_all_else_keeps_its_dtype(head):
    table = parameter_table(quantized_config(), head)
    ordinary = parameter_table(GPTJConfig.from_json_file(TINY / "config.json"), head)
    modules = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out", "lm_head")
    for name in ordinary:
        is_int8 = name.endswith(tuple(f"{module}.weight" for module in modules))
        assert table[name].dtype == ("int8" if is_int8 else None)
        assert (f"{name}_scale" in table) == is_int8
    scales = [name for name in table if name.endswith("_scale")]
    assert all(table[name].shape == ordinary[name[:-6]].shape[:1] for name in scales)
    assert len(table) == len(ordinary) + len(scales)


def test_a_tied_head_is_the_word_table_and_stays():
    table = parameter_table(quantized_config(tie_word_embeddings=True))
    assert not any(name.startswith("lm_head.weight") for name in table)
    assert table["transformer.wte.weight"].dtype is None


def test_the_6b_takes_a_quarter_of_float32():
    config = GPTJConfig(**QUANTIZED)
    assert count_parameters(config) == count_parameters(GPTJConfig())
    assert parameter_bytes(config, "causal_lm", 4) < 0.28 * 4 * count_parameters(config)
    assert plan("6B", quantize="int8").weights == parameter_bytes(config, "causal_lm", 4)


def test_new_parameters_are_those_of_an_ordinary_model_rounded():
    config = quantized_config()
    ordinary = GPTJConfig.from_dict(config.to_dict(), quantization_config=None)
    drawn = {
        name: LazyTensor.of(initial_value(parameter, ordinary, 3))
        for name, parameter in parameter_table(ordinary).items()
    }
    table = parameter_table(config)
    for name, tensor in quantized_tensors(drawn, table).items():
        np.testing.assert_array_equal(initial_value(table[name], config, 3), tensor.read())


def test_on_disk_are_int8_numbers_and_float32_scales(folder):
    original, found = arrays(TINY), arrays(folder)
    assert list(found) == sorted(found)
    assert found.keys() == parameter_table(quantized_config()).keys()
    for name, weight in original.items():
        if found[name].dtype == INT8:
            numbers, scales = rounded(weight)
            np.testing.assert_array_equal(found[name], numbers)
            np.testing.assert_array_equal(found[f"{name}_scale"], scales)
        else:
            np.testing.assert_array_equal(found[name], weight)


def test_the_configuration_says_so(folder):
    assert open_checkpoint(folder).config()["quantization_config"] == QUANTIZER.description
    assert configuration(folder).is_quantized
    assert configuration(folder).dtype == "float32"


def test_a_dtype_is_for_what_is_not_quantized(folder, tmp_path):
    gptj.convert(TINY, tmp_path, quantize="int8", dtype="bfloat16", max_shard_size="20KB")
    expected = arrays(folder)
    for name, array in arrays(tmp_path).items():
        fixed = expected[name].dtype == INT8 or name.endswith("_scale")
        wanted = expected[name] if fixed else expected[name].astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(array, wanted)


def test_a_copy_keeps_the_bits(folder, tmp_path):
    gptj.convert(folder, tmp_path / "again")
    gptj.convert(folder, tmp_path / "asked", quantize="int8")
    for copy in (tmp_path / "again", tmp_path / "asked"):
        for name, array in arrays(copy).items():
            np.testing.assert_array_equal(array, arrays(folder)[name])


@pytest.mark.parametrize("options", [{"quantize": "none"}, {"to": "bin"}, {"to": "h5"}], ids=str)
def test_other_forms_hold_what_the_numbers_mean(folder, tmp_path, options):
    gptj.convert(folder, tmp_path, **options)
    assert not configuration(tmp_path).is_quantized
    found, stored = arrays(tmp_path), arrays(folder)
    assert found.keys() == arrays(TINY).keys()
    for name, array in found.items():
        scale = stored.get(f"{name}_scale")
        wanted = stored[name] if scale is None else QUANTIZER.dequantize(stored[name], scale)
        np.testing.assert_array_equal(array, wanted)


def test_an_interrupted_conversion_leaves_what_was_there(folder, tmp_path, monkeypatch):
    gptj.convert(TINY, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    parts = iter(range(5))

    def interrupted(parameter, weight):
        if next(parts, None) is None:
            raise KeyboardInterrupt
        return stored_value(parameter, weight)

    monkeypatch.setattr("gptj.spec.quantized_tensors.stored_value", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gptj.convert(TINY, tmp_path, quantize="int8")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quantize": "int3"}, ArgumentError, "'int3' is not known; accepted are 'int8', 'int4'"),
        ({"quantize": "int8", "to": "h5"}, UnsupportedFeature, "'safetensors' only, not as 'h5'"),
        ({"quantize": "int8", "to": "mesh"}, UnsupportedFeature, "only, not as 'mesh'"),
    ],
    ids=str,
)
def test_what_cannot_be_converted_is_refused(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        gptj.convert(TINY, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_other_ways_to_quantize_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"quant_method 'gptj_int8', 'gptj_int4', found .*'gptq'"):
        GPTJConfig(quantization_config={"quant_method": "gptq", "bits": 4})


def test_weights_that_are_not_int8_are_refused_where_they_should_be(folder, tmp_path):
    tensors = dict(open_checkpoint(folder).tensors)
    name = "transformer.h.0.attn.q_proj.weight"
    tensors[name] = LazyTensor.of(tensors[name].read().astype(np.float32))
    save_checkpoint(tmp_path, configuration(folder), GenerationConfig(), tensors)
    with pytest.raises(CheckpointError, match=r"1 of another dtype: .*is float32, needed is int8"):
        gptj.convert(tmp_path, tmp_path / "copy")
    assert not gptj.inspect(tmp_path).ok


def test_the_file_has_a_name_that_others_do_not_look_for(folder, tmp_path):
    assert {path.name for path in folder.glob("*.safetensors")} == {"gptj_quantized.safetensors"}
    parts = gptj.convert(folder, tmp_path / "parts", max_shard_size="20KB")
    names = sorted(path.name for path in parts.glob("*safetensors*"))
    assert len(names) > 3 and all(name.startswith("gptj_quantized") for name in names)
    assert hash_of(parts) == hash_of(folder)


def hash_of(folder):
    """Return the one hash of all weights."""
    return gptj.inspect(folder).to_dict()["weights_sha256"]


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}], ids=["whole", "shards"])
def test_a_folder_with_the_old_name_opens_and_is_renewed(folder, shards, tmp_path):
    """Earlier versions wrote the usual name, which transformers reads without the scales."""
    old = gptj.convert(folder, tmp_path / "old", **shards)
    for path in old.glob("gptj_quantized*"):
        new = path.rename(path.with_name(path.name.replace("gptj_quantized", "model")))
        if new.suffix == ".json":
            new.write_text(new.read_text().replace("gptj_quantized", "model"))
    assert hash_of(old) == hash_of(folder)
    gptj.convert(old, old)
    assert not list(old.glob("model*"))
    assert hash_of(old) == hash_of(folder)


def test_scales_that_are_missing_are_named(folder, tmp_path):
    tensors = dict(open_checkpoint(folder).tensors)
    del tensors["lm_head.weight_scale"]
    save_checkpoint(tmp_path, configuration(folder), GenerationConfig(), tensors)
    with pytest.raises(CheckpointError, match=r"1 missing: lm_head\.weight_scale"):
        gptj.convert(tmp_path, tmp_path / "copy")


def test_a_backend_without_int8_refuses_it_or_dequantizes_it(folder):
    oracle = get_backend("oracle")
    with pytest.raises(UnsupportedFeature, match="does not have the quantization 'int8'"):
        load_model(oracle, "causal_lm", folder)
    model = load_model(oracle, "causal_lm", folder, quantize="none")
    assert not model.config.is_quantized


def test_inspection_and_plan_tell_of_it(folder):
    found = gptj.inspect(folder)
    assert found.ok
    assert found.to_dict()["quantization"] == "int8"
    assert "weights in int8" in str(found)
    assert "float32 over int8" in str(plan(folder))
    with pytest.raises(UnsupportedFeature, match="Training needs weights that can change"):
        plan(folder, train=True)


def test_the_commands_know_it(tmp_path):
    runner = CliRunner()
    arguments = ["convert", str(TINY), str(tmp_path / "int8"), "--quantize", "int8"]
    assert runner.invoke(main, arguments).exit_code == 0
    assert configuration(tmp_path / "int8").is_quantized
    shown = runner.invoke(main, ["plan", "6B", "--quantize", "int8", "--memory", "16GB"])
    assert (shown.exit_code, "it fits" in shown.stdout) == (0, True)
    shown = runner.invoke(main, ["info"])
    assert shown.stdout.count("quantization: int8") == len([*FRAMEWORKS, "numpy"])
