"""Weights in int4: what the numbers mean, how they lie on disk, and what they are refused."""

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import gptj
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.cli import main
from gptj.errors import CheckpointError, ConfigError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.params import count_parameters, parameter_bytes, parameter_table
from gptj.spec.quantization import QUANTIZERS, description_of
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from gptj.tools.plan import plan
from models import draw_ids, run, tiny_config, tiny_weights
from paths import TINY
from quantized_cases import (
    arrays,
    configuration,
    meant_weights,
    quantized_config,
    quantized_weights,
)
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

ROUNDING = QUANTIZERS["int4"]
SIZES = {"n_embd": 128, "n_inner": 256, "n_layer": 1}
INT4 = {"quantize": "int4", **SIZES}
IDS = draw_ids((2, 6), seed=43)
NAME = "transformer.h.0.mlp.fc_out.weight"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A checkpoint of a width that int4 can have, in float32."""
    folder = tmp_path_factory.mktemp("original")
    tensors = {name: LazyTensor.of(weight) for name, weight in tiny_weights(**SIZES).items()}
    save_checkpoint(folder, tiny_config(**SIZES), GenerationConfig(), tensors)
    return folder


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    """The same checkpoint in int4."""
    return gptj.convert(original, tmp_path_factory.mktemp("small") / "int4", quantize="int4")


def rounded(weight):
    """Return bytes and scales of (out, in), number by number."""
    scales = np.empty((len(weight), weight.shape[1] // 128), np.float32)
    stored = np.zeros((len(weight), weight.shape[1] // 2), np.uint8)
    for row, column in np.ndindex(weight.shape):
        group, place = divmod(column, 128)
        largest = np.abs(weight[row, group * 128 : (group + 1) * 128]).max()
        scales[row, group] = largest / np.float32(7) or 1.0
        number = int(np.rint(weight[row, column] / scales[row, group])) + 8
        stored[row, group * 64 + place % 64] |= number << (0 if place < 64 else 4)
    return stored, scales


def group_of(*numbers):
    """Return a weight (1, 128) that begins with these numbers."""
    return np.pad(np.array([numbers], np.float32), ((0, 0), (0, 128 - len(numbers))))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_weight_is_rounded_group_by_group(dtype):
    drawn = np.random.Generator(np.random.PCG64(1)).standard_normal((9, 256)).astype(dtype)
    stored, scales = rounded(drawn.astype(np.float32))
    np.testing.assert_array_equal(ROUNDING.scales(drawn), scales)
    np.testing.assert_array_equal(ROUNDING.quantize(drawn, scales), stored)


def test_many_rows_are_those_of_few():
    drawn = np.random.Generator(np.random.PCG64(2)).standard_normal((600, 128)).astype(np.float32)
    scales = ROUNDING.scales(drawn)
    stored = ROUNDING.quantize(drawn, scales)
    last = drawn[500:]
    np.testing.assert_array_equal(ROUNDING.scales(last), scales[500:])
    np.testing.assert_array_equal(ROUNDING.quantize(last, scales[500:]), stored[500:])
    meant = ROUNDING.dequantize(stored, scales, np.float64)
    assert (np.abs(meant - drawn) <= scales * (0.5 + 1e-5)).all()


def test_halves_are_rounded_to_even_and_zero_and_the_largest_stay():
    weight = group_of(7, 0.5, 1.5, -2.5, -6.5, 0.0)
    scales = ROUNDING.scales(weight)
    assert scales.tolist() == [[1.0]]
    meant = ROUNDING.dequantize(ROUNDING.quantize(weight, scales), scales)
    np.testing.assert_array_equal(meant, group_of(7, 0, 2, -2, -6, 0))


def test_a_group_of_zeros_has_the_scale_1():
    weight = np.concatenate((group_of(0.0), group_of(0.7)), axis=1)
    np.testing.assert_allclose(ROUNDING.scales(weight), [[1.0, 0.1]], rtol=1e-7)
    stored = ROUNDING.quantize(weight, ROUNDING.scales(weight))
    assert (stored[0, :64] == 0x88).all()
    assert stored[0, 64] == 0x8F


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(CheckpointError, match=r"Row 0 holds numbers .* which int4 cannot express"):
        ROUNDING.scales(group_of(np.inf))


def test_sizes_that_are_not_whole_groups_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"n_embd must be a multiple of 128 .* int4, found 40"):
        gptj.convert(TINY, tmp_path / "int4", quantize="int4")
    with pytest.raises(ConfigError, match=r"the MLP's inner width must be .*, found 300; int8"):
        quantized_config("int4", n_embd=128, n_inner=300)
    assert not (tmp_path / "int4").exists()


def test_the_6b_takes_little_more_than_half_of_int8():
    int4, int8 = (GPTJConfig(quantization_config=description_of(name)) for name in ("int4", "int8"))
    assert count_parameters(int4) == count_parameters(int8) == count_parameters(GPTJConfig())
    size = parameter_bytes(int4, "causal_lm", 2)
    assert size < 0.6 * parameter_bytes(int8, "causal_lm", 2)
    assert plan("6B", quantize="int4", dtype="bfloat16").weights == size


def test_on_disk_are_two_numbers_a_byte_and_float32_scales(original, folder):
    expected, found = arrays(original), arrays(folder)
    table = parameter_table(quantized_config(**INT4))
    assert found.keys() == table.keys()
    assert configuration(folder).quantization == "int4"
    assert open_checkpoint(folder).config()["quantization_config"]["group_size"] == 128
    for name, weight in expected.items():
        if f"{name}_scale" not in found:
            np.testing.assert_array_equal(found[name], weight)
    stored, scales = rounded(expected[NAME])
    assert (found[NAME].dtype, scales.shape) == (np.uint8, (128, 2))
    np.testing.assert_array_equal(found[NAME], stored)
    np.testing.assert_array_equal(found[f"{NAME}_scale"], scales)


def test_a_copy_keeps_the_bits(folder, tmp_path):
    gptj.convert(folder, tmp_path / "again")
    gptj.convert(folder, tmp_path / "asked", quantize="int4", dtype="bfloat16")
    expected = arrays(folder)
    for name, array in arrays(tmp_path / "again").items():
        np.testing.assert_array_equal(array, expected[name])
    asked = arrays(tmp_path / "asked")
    np.testing.assert_array_equal(asked[NAME], expected[NAME])
    np.testing.assert_array_equal(asked[f"{NAME}_scale"], expected[f"{NAME}_scale"])


@pytest.mark.parametrize(
    "options", [{"quantize": "none"}, *({"to": to} for to in ("bin", "msgpack", "h5"))], ids=str
)
def test_other_forms_hold_what_the_numbers_mean(folder, tmp_path, options):
    gptj.convert(folder, tmp_path, **options)
    assert not configuration(tmp_path).is_quantized
    found, stored = arrays(tmp_path), arrays(folder)
    assert found.keys() == tiny_weights(**SIZES).keys()
    np.testing.assert_array_equal(
        found[NAME], ROUNDING.dequantize(stored[NAME], stored[f"{NAME}_scale"])
    )


def test_int8_becomes_int4_by_way_of_float32(original, tmp_path):
    gptj.convert(original, tmp_path / "int8", quantize="int8")
    gptj.convert(tmp_path / "int8", tmp_path / "int4", quantize="int4")
    gptj.convert(tmp_path / "int8", tmp_path / "wide", quantize="none")
    wide, found = arrays(tmp_path / "wide")[NAME], arrays(tmp_path / "int4")
    scales = ROUNDING.scales(wide)
    np.testing.assert_array_equal(found[f"{NAME}_scale"], scales)
    np.testing.assert_array_equal(found[NAME], ROUNDING.quantize(wide, scales))


def test_a_backend_without_int4_refuses_it_or_dequantizes_it(framework, folder):
    if "int4" not in framework.capabilities.quantization:
        with pytest.raises(UnsupportedFeature, match=r"'int4'\. It has .* quantize='none'"):
            gptj.load(folder, backend=framework.name)
    model = gptj.load(folder, backend=framework.name, quantize="none")
    assert not model.config.is_quantized
    expected = forward(tiny_config(**SIZES), meant_weights(**INT4), input_ids=IDS)
    assert_close(run(framework, model, input_ids=IDS).logits, expected.logits, "float32")


def test_the_oracle_reads_what_the_numbers_mean():
    config = quantized_config(**INT4)
    found = forward(config, quantized_weights(**INT4), input_ids=IDS).logits
    expected = forward(config, meant_weights(**INT4), input_ids=IDS).logits
    np.testing.assert_array_equal(found, expected)


def test_only_safetensors_holds_them(folder, tmp_path):
    with pytest.raises(UnsupportedFeature, match="int4 weights are written as 'safetensors' only"):
        gptj.convert(folder, tmp_path / "new", quantize="int4", to="bin")


def test_inspection_plan_and_commands_tell_of_it(folder):
    found = gptj.inspect(folder)
    assert found.ok
    assert found.to_dict()["quantization"] == "int4"
    assert found.to_dict()["parameters"] == count_parameters(tiny_config(**SIZES))
    assert "weights in int4, with a scale per 128 numbers of a row" in str(found)
    assert "float32 over int4" in str(plan(folder))
    with pytest.raises(UnsupportedFeature, match="these are int4"):
        plan(folder, train=True)
    shown = CliRunner().invoke(main, ["plan", "6B", "--quantize", "int4", "--memory", "8GB"])
    assert (shown.exit_code, "over int4" in shown.stdout) == (0, True)
