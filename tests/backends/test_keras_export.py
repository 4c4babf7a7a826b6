"""SavedModels of all heads: `export` writes them, TensorFlow serves them without this package."""

import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("keras")

from gptj.backends import get_backend  # noqa: E402
from gptj.errors import ArgumentError, UnsupportedFeature  # noqa: E402
from gptj.spec.heads import HEADS  # noqa: E402
from models import draw_ids, tiny_model  # noqa: E402
from tolerances import assert_close  # noqa: E402

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

pytestmark = pytest.mark.frameworks

IDS = draw_ids((3, 7), seed=9).astype(np.int32)
MASK = np.array([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [0] * 4 + [1] * 3], np.int32)
FIELDS = {
    "base": ["last_hidden_state"],
    "causal_lm": ["logits"],
    "sequence_classification": ["logits"],
    "question_answering": ["start_logits", "end_logits"],
}
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


def test_an_export_needs_no_code_of_this_package(exported):
    code = (
        "import sys, tensorflow as tf; ids = tf.ones((1, 3), tf.int32); "
        f"loaded = tf.saved_model.load({str(exported)!r}); "
        "print(loaded.generate(ids, ids)['sequences'].shape); assert 'gptj' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 7)", done.stderr[-2_000:]


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


def test_the_signatures_are_printed_unless_told_otherwise(tmp_path, capsys):
    tiny_model("tf", "base").export(tmp_path)
    assert "Endpoint 'serve'" in capsys.readouterr().out


def test_a_signature_of_other_inputs_is_refused(tmp_path):
    wrong = [keras.InputSpec(shape=(None, None), dtype="int32")] * 3
    with pytest.raises(ArgumentError, match="one or two: of input_ids, and of attention_mask"):
        tiny_model("tf").export(tmp_path, input_signature=wrong)


def test_only_what_a_graph_can_do_is_exported(tmp_path):
    with pytest.raises(ArgumentError, match="Inside a compiled function"):
        tiny_model("tf").export(tmp_path, generate={"num_beams": 2, "max_new_tokens": 3})
    with pytest.raises(UnsupportedFeature):
        tiny_model("tf", "base").export(tmp_path, generate=GENERATE)
