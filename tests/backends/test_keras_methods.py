"""Methods that models inherit from Keras keep their word, or say what does."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import gptj
from gptj.backends import get_backend
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature
from gptj.spec.heads import HEADS
from models import draw_ids, tiny_model
from paths import TINY
from tolerances import assert_close

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

from keras_cases import IDS as BATCH  # noqa: E402
from keras_cases import fresh  # noqa: E402

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 5), seed=6)
OUTPUTS = {
    "causal_lm": "lm_head (Linear) (None, None, 96)",
    "sequence_classification": "score (Linear) (None, 2)",
    "question_answering": "qa_outputs (Linear) (None, None, 2)",
}


def rows(model, **options):
    """Return the rows of a model's summary, without the frames around them."""
    lines = []
    model.summary(print_fn=lines.append, **options)
    text = "\n".join(lines)
    cells = [line.replace("│", " ").split() for line in text.splitlines() if "│" in line]
    return [" ".join(row) for row in cells]


@pytest.mark.parametrize("head", OUTPUTS)
def test_a_summary_has_the_shapes_of_a_head(head):
    model = tiny_model("tf", head)
    transformer, last = rows(model)
    assert transformer.startswith("transformer (TFGPTJModel) (None, None, 40)")
    assert last.startswith(OUTPUTS[head])


def test_a_summary_names_blocks_by_their_place_and_leaves_them_as_they_were():
    model = tiny_model("tf")
    before = [layer.name for layer in model._flatten_layers()]
    found = [row.removeprefix("└ ").split("(None")[0] for row in rows(model, expand_nested=True)]
    names = ["wte (Embedding)", "drop (Dropout)", "h.0 (Block)", "h.1 (Block)", "ln_f (LayerNorm)"]
    assert [name.strip() for name in found[1:6]] == names
    assert [layer.name for layer in model._flatten_layers()] == before
    assert rows(tiny_model("tf", "base"))[0].startswith("wte (Embedding) (None, None, 40)")


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
def test_the_old_form_of_keras_is_refused_before_it_is_written(name, tmp_path):
    with pytest.raises(UnsupportedFeature, match=r"not open the file again.*save\('model.keras'\)"):
        fresh().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantize_says_how_a_model_is_quantized(mode):
    with pytest.raises(UnsupportedFeature, match=r"Keras's own layers.*quantize='int8'"):
        tiny_model("tf").quantize(mode)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_model_around_this_one_says_so_too():
    ids = keras.Input((None,), dtype="int32")
    around = keras.Model(ids, fresh()(ids).logits)
    with pytest.warns(UserWarning, match=r"gptj.load\(folder, backend='tf', quantize='int8'\)"):
        around.quantize("int8")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", ["h5", "safetensors", "bin", "msgpack", "a folder"])
def test_load_weights_reads_checkpoints_of_every_form(form, dtype, tmp_path):
    source = gptj.load(TINY, backend="tf", dtype=dtype)
    model = type(source)(source.config, seed=9, dtype=dtype)
    folder = TINY
    if form != "a folder":
        gptj.load(TINY, backend="tf").save_pretrained(folder := tmp_path, format=form)
    names = {"h5": "tf_model.h5", "bin": "pytorch_model.bin", "msgpack": "flax_model.msgpack"}
    model.load_weights(folder / names.get(form, "" if form == "a folder" else "model.safetensors"))
    np.testing.assert_array_equal(model(IDS).logits, source(IDS).logits)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_load_weights_reads_the_files_of_keras(name, tmp_path):
    source, model = gptj.load(TINY, backend="tf"), tiny_model("tf")
    model = type(model)(source.config, seed=9)
    (source.save_weights if "weights" in name else source.save)(tmp_path / name)
    model.load_weights(tmp_path / name)
    np.testing.assert_array_equal(model(IDS).logits, source(IDS).logits)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_load_weights_leaves_out_no_adapter(name, tmp_path):
    source = fresh().add_lora(4)
    for matrix in source.trainable_variables:
        matrix.assign(np.full(matrix.shape, 0.2))
    (source.save_weights if "weights" in name else source.save)(tmp_path / name)
    model, expected = fresh(), source(BATCH).logits
    before = model(BATCH).logits
    with pytest.raises(ArgumentError, match=r"adapter of rank 4 on 'q_proj', 'v_proj'.*add_lora"):
        model.load_weights(tmp_path / name)
    if name.endswith("h5"):
        model.load_weights(tmp_path / name, skip_mismatch=True)
        np.testing.assert_array_equal(model(BATCH).logits, before)
    model.add_lora(4).load_weights(tmp_path / name)
    np.testing.assert_array_equal(model(BATCH).logits, expected)


def test_load_weights_refuses_what_does_not_fit():
    model = fresh()
    with pytest.raises(CheckpointError, match="shape"):
        model.load_weights(TINY)
    with pytest.raises(ArgumentError, match=r"read.* whole.*'skip_mismatch'.*ignore_mismatched"):
        model.load_weights(TINY, skip_mismatch=True)


@pytest.mark.parametrize("head", HEADS)
def test_the_whole_output_may_be_that_of_a_model_around_this_one(head):
    model, ids = tiny_model("tf", head), keras.Input((None,), dtype="int32")
    expected = model(IDS)
    for around in (keras.Model(ids, model(ids)), keras.Sequential([ids, model])):
        found = around.predict(IDS, verbose=0)
        assert "past_key_values" not in found
        for name in found:
            assert_close(found[name], expected[name])
    assert "past_key_values" not in model(ids)
    if head in ("base", "causal_lm"):
        assert "past_key_values" in model(ids, use_cache=True)


def test_clones_and_json_make_the_same_model():
    model = fresh()
    clone = keras.models.clone_model(model)
    assert_close(clone(BATCH).logits, model(BATCH).logits)  # drawn from the same seed
    copy = keras.models.model_from_json(model.to_json())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(BATCH).logits, model(BATCH).logits)


def test_a_stateless_call_computes_with_the_weights_that_it_is_given():
    model = fresh()
    doubled = [variable * 2 for variable in model.trainable_variables]
    found, _ = model.stateless_call(doubled, model.non_trainable_variables, BATCH)
    for variable in model.trainable_variables:
        variable.assign(variable * 2)
    assert_close(found.logits, model(BATCH).logits)
