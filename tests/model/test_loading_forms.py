"""Every published form of one model, in every backend: the logits of its writer."""

import ml_dtypes
import numpy as np
import pytest

import gptj
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.ggml_blocks import QUANTIZED
from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.params import parameter_table
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from models import draw_ids, run
from paths import GOLDEN
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

FORMS = sorted(path.name for path in (GOLDEN / "formats").iterdir() if path.is_dir())
MESH_CONFIG = GPTJConfig(vocab_size=96, n_embd=64, n_layer=11, n_head=8, rotary_dim=4)


def expected(folder):
    with np.load(folder / "expected.npz") as file:
        return np.atleast_2d(file["ids"]), file["logits"]


@pytest.mark.parametrize("form", FORMS)
def test_a_published_form_gives_the_logits_of_its_writer(backend, form):
    ids, logits = expected(GOLDEN / "formats")
    model = load_model(backend, "causal_lm", GOLDEN / "formats" / form, dtype="float32")
    tolerance = "float16_file" if form == "bin_fp16" else "golden"
    assert_close(run(backend, model, input_ids=ids).logits, logits, tolerance, form)


def test_the_originals_shards_give_the_logits_of_its_layers(backend):
    ids, logits = expected(GOLDEN / "mesh")
    model = load_model(backend, "causal_lm", GOLDEN / "mesh", config=MESH_CONFIG)
    assert_close(
        np.reshape(run(backend, model, input_ids=ids).logits, logits.shape), logits, "golden"
    )


def test_the_originals_bfloat16_shards_are_computed_as_they_are(backend, tmp_path):
    """Slim checkpoints are bfloat16; computing in float32 adds nothing to their rounding."""
    dtype = np.dtype(ml_dtypes.bfloat16)
    tensors = {
        name: LazyTensor.of(tensor.read().astype(dtype))
        for name, tensor in open_checkpoint(GOLDEN / "mesh").tensors.items()
    }
    options = GenerationConfig.from_model(MESH_CONFIG)
    save_checkpoint(tmp_path, MESH_CONFIG, options, tensors, format="mesh")
    ids, _ = expected(GOLDEN / "mesh")
    model = load_model(backend, "causal_lm", tmp_path, dtype="float32")
    wanted = forward(MESH_CONFIG, tensors, input_ids=ids).logits
    assert_close(run(backend, model, input_ids=ids).logits, wanted)


@pytest.mark.parametrize("form", ["bin", "msgpack", "h5", "safetensors", "ggml"])
def test_a_model_saves_itself_in_any_form(backend, form, tmp_path):
    source = GOLDEN / "formats" / "safetensors"
    load_model(backend, "causal_lm", source).save_pretrained(tmp_path, format=form)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.form == form
    for name in parameter_table(GPTJConfig.from_dict(checkpoint.config())):
        np.testing.assert_array_equal(
            checkpoint.tensors[name].read(), open_checkpoint(source).tensors[name].read()
        )


@pytest.mark.parametrize("blocks", QUANTIZED)
def test_quantized_ggml_files_give_the_logits_of_their_numbers(backend, blocks, tmp_path):
    config = GPTJConfig(vocab_size=96, n_embd=64, n_layer=1, n_head=4, rotary_dim=8, n_positions=32)
    gptj.init(config, tmp_path / "old")
    gptj.convert(tmp_path / "old", tmp_path / "new", to="ggml", quantize=blocks)
    (tmp_path / "new" / "config.json").unlink()
    model = load_model(backend, "causal_lm", tmp_path / "new")
    ids = draw_ids((2, 7))
    wanted = forward(config, open_checkpoint(tmp_path / "new").tensors, input_ids=ids).logits
    assert_close(run(backend, model, input_ids=ids).logits, wanted)


def test_a_model_that_is_saved_in_ggml_keeps_the_tokens_of_its_file(backend, tmp_path):
    source = GOLDEN / "formats" / "ggml"
    load_model(backend, "causal_lm", source).save_pretrained(tmp_path, format="ggml")
    assert open_checkpoint(tmp_path).vocabulary == open_checkpoint(source).vocabulary
