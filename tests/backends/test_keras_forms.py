"""What only Keras has: its forms of input, its files, its training loop, its policies."""

import os
import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import gptj  # noqa: E402
from gptj.backends import get_backend  # noqa: E402
from gptj.errors import ArgumentError, TokenOutOfRange, UnsupportedFeature  # noqa: E402
from gptj.spec.config import GPTJConfig  # noqa: E402
from paths import TINY  # noqa: E402

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

from gptj.backends.tf.heads import TFGPTJForCausalLM, TFGPTJModel  # noqa: E402

pytestmark = pytest.mark.frameworks

CONFIG = GPTJConfig(
    vocab_size=96,
    n_positions=64,
    n_embd=40,
    n_layer=2,
    n_head=4,
    rotary_dim=6,
    initializer_range=0.3,
)
IDS = np.random.default_rng(0).integers(0, 96, (2, 7))
MASK = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])


@pytest.fixture(scope="module")
def model():
    return TFGPTJForCausalLM(CONFIG, seed=1)


@pytest.fixture(scope="module")
def expected(model):
    return model(input_ids=tf.constant(IDS), attention_mask=tf.constant(MASK)).logits.numpy()


@pytest.mark.parametrize(
    "given",
    [
        [IDS, MASK],
        [IDS, None, MASK],
        (tf.constant(IDS), tf.constant(MASK)),
        {"input_ids": IDS, "attention_mask": MASK},
        {"input_ids": IDS.tolist(), "attention_mask": MASK.tolist()},
    ],
    ids=["list", "list with the cache's place", "tuple of tensors", "dict", "dict of lists"],
)
def test_every_form_of_input_gives_the_same_logits(model, expected, given):
    np.testing.assert_array_equal(model(given).logits, expected)


def test_one_tensor_is_the_input_ids(model):
    by_name = model(input_ids=IDS).logits.numpy()
    np.testing.assert_array_equal(model(IDS).logits, by_name)
    np.testing.assert_array_equal(model(IDS.tolist()).logits, by_name)


def test_an_unknown_input_is_named_with_the_nearest_one(model):
    with pytest.raises(ArgumentError, match=r"'attention_maks'.*Did you mean 'attention_mask'"):
        model({"input_ids": IDS, "attention_maks": MASK})


def test_errors_keep_their_type_through_keras(model):
    wrong = np.full((1, 3), 96)
    with pytest.raises(TokenOutOfRange, match="96 at row 0, column 0"):
        model(wrong)
    with pytest.raises(ArgumentError, match="exactly one of"):
        tf.function(lambda: model(attention_mask=MASK))()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_give_the_eager_logits(model, expected, jit_compile):
    compiled = tf.function(model, jit_compile=jit_compile)
    output = compiled(input_ids=tf.constant(IDS), attention_mask=tf.constant(MASK))
    np.testing.assert_allclose(output.logits, expected, atol=5e-5)
    step = compiled(
        input_ids=tf.constant(IDS[:, :1]),
        past_key_values=output.past_key_values,
        attention_mask=tf.ones((2, 8), tf.int32),
    )
    assert step.past_key_values.length == 8


def test_a_graph_clamps_ids_that_nobody_could_check(model):
    ids = tf.constant([[-5, 3, 4_000]])
    assert np.isfinite(tf.function(lambda x: model(x).logits)(ids)).all()


def test_a_functional_model_saves_and_reloads(model, expected, tmp_path):
    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = keras.Input((None,), dtype="int32", name="mask")
    probs = keras.layers.Softmax()(model({"input_ids": ids, "attention_mask": mask}).logits)
    functional = keras.Model([ids, mask], probs)
    functional.save(tmp_path / "functional.keras")
    reloaded = keras.models.load_model(tmp_path / "functional.keras")
    for one in (functional, reloaded):
        np.testing.assert_allclose(one([IDS, MASK]), tf.nn.softmax(expected), atol=1e-5)


def test_a_model_saves_and_reloads_in_the_keras_format(model, expected, tmp_path):
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert reloaded.config == model.config
    np.testing.assert_array_equal(reloaded([IDS, MASK]).logits, expected)


def test_variables_have_the_canonical_paths():
    tied = GPTJConfig.from_dict(CONFIG.to_dict(), tie_word_embeddings=True)
    model = TFGPTJForCausalLM(tied, name="lm")
    paths = [variable.path for variable in model.weights]
    assert "lm/transformer/h/1/attn/q_proj/kernel" in paths
    assert "lm/transformer/ln_f/gamma" in paths
    assert [path for path in paths if "lm_head" in path] == ["lm/lm_head/bias"]


@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("labels", {"jit_compile": True}),
        ("labels", {"run_eagerly": True}),
        ("y", {"jit_compile": False}),
        ("y and a loss", {"jit_compile": False}),
    ],
    ids=["labels, compiled", "labels, eager", "y", "y and a loss"],
)
def test_fit_lowers_the_loss(form, how):
    model = TFGPTJForCausalLM(GPTJConfig.from_dict(CONFIG.to_dict(), n_layer=1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=loss if form == "y and a loss" else None,
        metrics=[keras.metrics.SparseCategoricalAccuracy()] if form == "y and a loss" else None,
        **how,
    )
    x = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
    y = np.concatenate((IDS[:, 1:], np.full((2, 1), -100)), axis=1)
    if form == "labels":
        x, y = {**x, "labels": IDS}, None
    first = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    own = float(model(IDS, labels=IDS).loss)
    history = model.fit(x, y, epochs=3, verbose=0).history
    np.testing.assert_allclose(first, own, rtol=1e-4)
    assert history["loss"][-1] < first - 0.5


def test_predict_joins_batches_and_returns_no_cache(model, expected):
    x = {"input_ids": IDS, "attention_mask": MASK, "labels": IDS}
    output = model.predict(x, batch_size=1, verbose=0)
    assert list(output) == ["logits"]
    np.testing.assert_allclose(output.logits, expected, atol=5e-5)


@pytest.mark.parametrize(
    ("policy", "variables", "computed"),
    [
        ("bfloat16", "bfloat16", "bfloat16"),
        ("mixed_bfloat16", "float32", "bfloat16"),
        ("mixed_float16", "float32", "float16"),
    ],
)
def test_a_policy_leaves_logits_and_rotation_in_float32(policy, variables, computed):
    model = TFGPTJForCausalLM(CONFIG, dtype=policy)
    additive = np.where(MASK, 0.0, -1e30)[:, None, None].repeat(7, axis=2)  # too low for float16
    output = model(input_ids=IDS, attention_mask=additive, output_hidden_states=True)
    assert {variable.dtype for variable in model.weights} == {variables}
    assert output.hidden_states[-1].dtype == computed
    assert output.logits.dtype == tf.float32
    assert np.isfinite(output.logits).all()
    assert model.transformer.rotary(tf.constant([[3]]))[0].dtype == tf.float32


@pytest.fixture
def policy(request):
    """Set a dtype policy for all models, and bring back the one from before."""
    before = keras.config.dtype_policy()
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"], indirect=True
)
def test_the_policy_of_all_models_is_that_of_a_loaded_one(policy, caplog):
    with caplog.at_level("INFO", "gptj"):
        loaded = gptj.load(TINY, backend="tf")
    assert f"is loaded in {policy}; dtype='float32'" in caplog.text
    others = {
        "by its class": gptj.TFGPTJForCausalLM.from_pretrained(TINY),
        "new": TFGPTJModel.from_config(CONFIG),
        "made": TFGPTJModel(CONFIG),
        "in int8": gptj.load(TINY, backend="tf", quantize="int8"),
    }
    for name, model in {"loaded": loaded, **others}.items():
        assert model.dtype_policy.name == policy, name
    asked = gptj.load(TINY, backend="tf", dtype="float32")
    assert {variable.dtype for variable in asked.weights} == {"float32"}


@pytest.mark.parametrize("policy", ["float64"], indirect=True)
def test_a_policy_of_all_models_that_is_not_here_is_refused(policy):
    with pytest.raises(UnsupportedFeature, match=r"'float64', which is set for all.*dtype="):
        gptj.load(TINY, backend="tf")
    assert gptj.load(TINY, backend="tf", dtype="bfloat16").dtype_policy.name == "bfloat16"
    with pytest.raises(UnsupportedFeature, match=r"not have the dtype 'float64'.*set_dtype_policy"):
        TFGPTJModel(CONFIG)
    assert TFGPTJModel(CONFIG, dtype="float32").dtype_policy.name == "float32"


def test_dropout_follows_the_training_argument():
    config = GPTJConfig.from_dict(CONFIG.to_dict(), resid_pdrop=0.5, attn_pdrop=0.5, embd_pdrop=0.5)
    model = TFGPTJModel(config)
    calm = model(IDS).last_hidden_state.numpy()
    np.testing.assert_array_equal(model(IDS, training=False).last_hidden_state, calm)
    output = model(IDS, training=True)
    assert np.abs(output.last_hidden_state - calm).max() > 0.1
    assert output.past_key_values is None


def test_modules_are_captured_in_a_graph(model):
    name = "transformer.h.0.mlp.fc_out"

    @tf.function
    def run(ids):
        output, captured = BACKEND.capture(model, [name], input_ids=ids)
        return output.logits, captured[name]

    _, inside = run(tf.constant(IDS))
    _, outside = BACKEND.capture(model, [name], input_ids=tf.constant(IDS))
    np.testing.assert_allclose(inside, outside[name], atol=5e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_generate_inside_a_graph_has_full_width(model, jit_compile):
    options = {"max_new_tokens": 6, "eos_token_id": 5, "pad_token_id": 9, "seed": 3}
    eager = model.generate(IDS, MASK, do_sample=True, **options).numpy()

    @tf.function(jit_compile=jit_compile)
    def run(ids, mask):
        return model.generate(ids, mask, do_sample=True, **options)

    inside = run(tf.constant(IDS), tf.constant(MASK)).numpy()
    assert inside.shape == (2, 13)
    np.testing.assert_array_equal(inside[:, : eager.shape[1]], eager)
    assert (inside[:, eager.shape[1] :] == 9).all()


def test_keras_on_another_framework_is_a_clear_error():
    code = "import gptj; gptj.load('demo', backend='tf')"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "BackendUnavailable" in done.stderr
    assert "KERAS_BACKEND=tensorflow" in done.stderr
