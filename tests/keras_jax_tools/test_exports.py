"""Exports in the runtimes that they are for: ONNX Runtime, OpenVINO and LiteRT have our numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from exported_cases import IDS, MASK, RUNTIMES, SHAPES, assert_agrees, litert, through
from gptj.spec.heads import HEADS
from models import tiny_model
from quantized_cases import quantized_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

NAMES = ["input_ids", "attention_mask"]
formats = pytest.mark.parametrize("format", RUNTIMES)
FIXED = {"fixed": (IDS[:2, :5], np.ones((2, 5), np.int32))}


def spec(*shape):
    return keras.InputSpec(shape=shape, dtype="int32")


@formats
@pytest.mark.parametrize("head", HEADS)
def test_a_runtime_has_the_outputs_of_the_model_by_name(format, head, tmp_path, capsys):
    model = tiny_model("tf", head)
    run, names = through(format, model, tmp_path)
    assert names == NAMES
    assert_agrees(run, model, head)
    assert capsys.readouterr().out == ""


@formats
def test_an_adapter_is_exported_with_the_model(format, tmp_path):
    plain = tiny_model("tf", n_layer=1)
    model = type(plain).from_config(plain.get_config()).add_lora(rank=2)
    for matrix in model.trainable_variables:
        matrix.assign(np.full(matrix.shape, 0.2))
    run, _ = through(format, model, tmp_path)
    assert_agrees(run, model)


@formats
def test_an_int8_model_is_exported_for_any_shape(format, tmp_path):
    model = quantized_model("tf", n_layer=1)
    run, _ = through(format, model, tmp_path)
    assert_agrees(run, model)


@formats
def test_a_tied_model_is_exported_for_ids_alone_and_one_shape(format, tmp_path):
    model = tiny_model("tf", n_layer=1, tie_word_embeddings=True)
    run, names = through(format, model, tmp_path, input_signature=[spec(2, 5)])
    assert names == ["input_ids"]
    assert_agrees(lambda ids, mask: run(ids), model, shapes=FIXED)


@formats
def test_a_functional_model_around_ours_is_exported(format, tmp_path):
    model = tiny_model("tf", n_layer=1)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in NAMES}
    around = keras.Model([*inputs.values()], keras.layers.Softmax()(model(inputs).logits))
    around([IDS, MASK])  # Keras converts to ONNX only what it has seen called
    run, _ = through(format, around, tmp_path, verbose=False)
    for ids, mask in SHAPES.values():
        (found,) = run(ids, mask).values()
        assert_close(found[mask != 0], around([ids, mask]).numpy()[mask != 0], "exported")


def test_onnx_takes_the_version_of_its_operators(tmp_path):
    import onnx

    tiny_model("tf", n_layer=1).export(tmp_path / "m.onnx", format="onnx", opset_version=17)
    (operators,) = {
        entry.version for entry in onnx.load(tmp_path / "m.onnx").opset_import if not entry.domain
    }
    assert operators == 17


GREEDY = {"max_new_tokens": 4, "eos_token_id": None}
SAMPLED = {"do_sample": True, "seed": 3, "top_k": 20, "top_p": 0.9, "temperature": 0.8}
TEXTS = {"greedy": GREEDY, "sampled": {**GREEDY, **SAMPLED}}


@pytest.mark.parametrize("options", TEXTS.values(), ids=TEXTS)
def test_litert_writes_the_text_of_the_model_with_its_own_operators(options, tmp_path):
    model = tiny_model("tf", n_layer=1)
    model.export(tmp_path, generate=options)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=["generate"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    (tmp_path / "text.tflite").write_bytes(converter.convert())
    run, _ = litert(str(tmp_path / "text.tflite"), "generate")
    for ids, mask in ((IDS, MASK), (IDS[:1, :3], MASK[:1, :3])):
        expected = model.generate(ids, mask, **options)
        np.testing.assert_array_equal(run(ids, mask)["sequences"], expected)
