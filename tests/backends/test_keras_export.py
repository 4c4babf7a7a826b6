"""Exports: TensorFlow serves SavedModels without this package; what no file can be is refused."""

import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("keras")

from exported_cases import FIELDS, IDS, MASK  # noqa: E402
from gptj.backends import get_backend  # noqa: E402
from gptj.backends.tf import conversion  # noqa: E402
from gptj.backends.tf.heads import TFGPTJForCausalLM  # noqa: E402
from gptj.errors import ArgumentError, BackendUnavailable, UnsupportedFeature  # noqa: E402
from gptj.spec.heads import HEADS  # noqa: E402
from models import tiny_config, tiny_model  # noqa: E402
from quantized_cases import quantized_model  # noqa: E402
from tolerances import assert_close  # noqa: E402

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

pytestmark = pytest.mark.frameworks

GENERATE = {"max_new_tokens": 4, "eos_token_id": None}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a causal LM that generates."""
    folder = tmp_path_factory.mktemp("exported")
    tiny_model("tf").export(folder, verbose=False, generate=GENERATE)
    return folder


@pytest.mark.parametrize("head", HEADS)
def test_an_export_serves_the_outputs_of_the_model(head, tmp_path):
    model = tiny_model("tf", head)
    model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    for ids, mask in ((IDS, MASK), (IDS[:1, :3], MASK[:1, :3])):
        expected = model(ids, attention_mask=mask)
        found = loaded.serve(ids, mask)
        assert sorted(found) == sorted(FIELDS[head])
        for name in FIELDS[head]:
            kept = ... if head == "sequence_classification" else mask != 0
            assert_close(found[name].numpy()[kept], expected[name].numpy()[kept], name=name)


def test_the_signatures_have_names_for_tensorflow_serving(exported):
    loaded = tf.saved_model.load(exported)
    assert {*loaded.signatures} == {"serve", "serving_default", "generate"}
    given = {"input_ids": tf.constant(IDS), "attention_mask": tf.constant(MASK)}
    found = loaded.signatures["serving_default"](**given)
    assert_close(found["logits"], loaded.serve(**given)["logits"])


def test_an_exported_model_generates_from_prompts_of_any_shape(exported):
    loaded, model = tf.saved_model.load(exported), tiny_model("tf")
    for ids, mask in ((IDS, MASK), (IDS[:1, :3], MASK[:1, :3])):
        found = loaded.generate(ids, mask)["sequences"]
        np.testing.assert_array_equal(found, model.generate(ids, mask, **GENERATE))


def test_an_export_needs_no_code_of_this_package(exported, tmp_path):
    for head in HEADS:
        tiny_model("tf", head).export(tmp_path / head)
    np.savez(tmp_path / "inputs.npz", ids=IDS, mask=MASK)
    where = {"folder": str(tmp_path), "texts": str(exported), "heads": [*HEADS]}
    code = f"where = {where!r}\n{ELSEWHERE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    found = np.load(tmp_path / "found.npz")
    expected = tiny_model("tf").generate(IDS, MASK, **GENERATE)
    np.testing.assert_array_equal(found["text"], expected)
    for head in HEADS:
        output = tiny_model("tf", head)(IDS, attention_mask=MASK)
        for name in FIELDS[head]:
            assert_close(found[f"{head}-{name}"], output[name], "exported", name=f"{head} {name}")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "PACKAGES", {"onnx": ("onnx_of_nobody",)})
    with pytest.raises(BackendUnavailable, match="needs 'onnx_of_nobody': pip install onnx_of_no"):
        tiny_model("tf").export(tmp_path / "model.onnx", "onnx")


ELSEWHERE = """
import sys
import numpy as np
import tensorflow as tf

given = np.load(where["folder"] + "/inputs.npz")
inputs = given["ids"], given["mask"]
loaded = tf.saved_model.load(where["texts"])
found = {"text": loaded.generate(*inputs)["sequences"]}
for head in where["heads"]:
    loaded = tf.saved_model.load(where["folder"] + "/" + head)
    found |= {f"{head}-{name}": value for name, value in loaded.serve(*inputs).items()}
np.savez(where["folder"] + "/found.npz", **found)
assert "gptj" not in sys.modules
"""
"""What a process without this package does with exports."""


def test_a_signature_may_be_of_ids_alone_and_of_one_shape(tmp_path):
    model = tiny_model("tf")
    signature = [keras.InputSpec(shape=(2, 5), dtype="int64")]
    model.export(tmp_path, verbose=False, input_signature=signature)
    loaded = tf.saved_model.load(tmp_path)
    ids = IDS[:2, :5].astype(np.int64)
    assert_close(loaded.serve(ids)["logits"], model(ids).logits)
    _, named = loaded.signatures["serve"].structured_input_signature
    assert named["input_ids"].shape == (2, 5)


def test_outputs_of_every_layer_and_the_cache_are_left_out(tmp_path):
    model = tiny_model("tf", output_hidden_states=True, output_attentions=True)
    model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    assert [*loaded.serve(IDS, MASK)] == ["logits"]


def test_a_model_with_an_adapter_is_exported_with_it(tmp_path):
    plain = tiny_model("tf")
    model = type(plain).from_config(plain.get_config()).add_lora(rank=2)
    for matrix in model.trainable_variables:
        matrix.assign(np.full(matrix.shape, 0.2))
    model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    assert_close(loaded.serve(IDS, MASK)["logits"], model([IDS, MASK]).logits)


def test_what_was_written_is_printed_if_that_is_asked_for(tmp_path, capsys):
    model = tiny_model("tf", "base")
    model.export(tmp_path / "silent")
    assert capsys.readouterr().out == ""
    model.export(tmp_path / "printed", verbose=True)
    assert "Endpoint 'serve'" in capsys.readouterr().out


IDS_OF_ANY_SHAPE = keras.InputSpec(shape=(None, None), dtype="int32")
WRONG_SIGNATURES = {
    "three": [IDS_OF_ANY_SHAPE] * 3,
    "nested": [[IDS_OF_ANY_SHAPE, IDS_OF_ANY_SHAPE]],
    "a dict": {"input_ids": IDS_OF_ANY_SHAPE},
    "no shape": [keras.InputSpec(ndim=2, dtype="int32")],
    "one axis": [tf.TensorSpec((None,), tf.int32)],
    "no dtype": [keras.InputSpec(shape=(None, None))],
}


@pytest.mark.parametrize("format", ["tf_saved_model", "onnx"])
@pytest.mark.parametrize("wrong", WRONG_SIGNATURES.values(), ids=WRONG_SIGNATURES)
def test_a_signature_of_other_inputs_is_refused(wrong, format, tmp_path):
    with pytest.raises(ArgumentError, match="one or two, of input_ids, and of attention_mask"):
        tiny_model("tf").export(tmp_path, format, input_signature=wrong)


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("tf_saved_model", {"opset_version": 17}, r"'opset_version'\. It has none\."),
        *(
            ("onnx", {"opset_version": wrong}, rf"integer from 12 to 18; found {wrong!r}\.")
            for wrong in (10, 11, 19, "17", 17.0, True)
        ),
        ("onnx", {"opset_versions": 17}, r"Did you mean 'opset_version'\? It has"),
        ("openvino", {"is_static": True}, r"'openvino' has no option 'is_static'\."),
        ("litert", {"generate": GENERATE}, r"none of 'litert'.*signature_keys=\['generate'\]"),
    ],
)
def test_an_option_that_a_format_does_not_take_is_refused(format, options, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        tiny_model("tf").export(tmp_path, format, **options)


CONVERTED = pytest.mark.parametrize("format", ["onnx", "openvino", "litert"])


@CONVERTED
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_not_converted(format, dtype, tmp_path):
    message = rf"in float32; found '{dtype}'\. Load the model with dtype='float32'"
    with pytest.raises(UnsupportedFeature, match=message):
        tiny_model("tf", dtype=dtype).export(tmp_path / "model", format)
    mixed = TFGPTJForCausalLM(tiny_config(), dtype=f"mixed_{dtype}")
    with pytest.raises(UnsupportedFeature, match=message):
        mixed.export(tmp_path / "model", format)


@CONVERTED
def test_an_int8_model_is_not_converted_for_one_shape(format, tmp_path):
    signature = [keras.InputSpec(shape=(2, 5), dtype="int32")]
    with pytest.raises(ArgumentError, match=rf"Leave a size open for '{format}'"):
        quantized_model("tf").export(tmp_path / "model", format, input_signature=signature)


def test_more_than_a_file_of_onnx_holds_is_not_converted(tmp_path, monkeypatch):
    size = sum(weight.value.numpy().nbytes for weight in tiny_model("tf").weights)
    monkeypatch.setattr(conversion, "MAX_ONNX_BYTES", size - 1)
    with pytest.raises(UnsupportedFeature, match=r"holds 2 GiB; the weights have 0\.0 GiB"):
        tiny_model("tf").export(tmp_path / "model.onnx", "onnx")


def test_only_what_a_graph_can_do_is_exported(tmp_path):
    with pytest.raises(ArgumentError, match="Inside a compiled function"):
        tiny_model("tf").export(tmp_path, generate={"num_beams": 2, "max_new_tokens": 3})
    with pytest.raises(UnsupportedFeature):
        tiny_model("tf", "base").export(tmp_path, generate=GENERATE)
