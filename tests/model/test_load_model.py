"""Loading, with a backend that only notes what it is asked to build."""

import ml_dtypes
import numpy as np
import pytest

from gptj.checkpoint.saving import save_checkpoint
from gptj.errors import ArgumentError, ConfigError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor
from noting import Noting

pytestmark = pytest.mark.frameworks

CONFIG = GPTJConfig(vocab_size=32, n_positions=16, n_embd=8, n_layer=1, n_head=2, rotary_dim=4)


def save(folder, config=CONFIG, dtype=np.float32, head="causal_lm", **options):
    table = parameter_table(config, head).values()
    tensors = {p.name: LazyTensor.of(initial_value(p, config).astype(dtype)) for p in table}
    save_checkpoint(folder, config, GenerationConfig(**options), tensors)
    return folder


@pytest.fixture
def load(tmp_path):
    """A function that loads a small checkpoint."""
    save(tmp_path, top_k=7)
    return lambda head="causal_lm", **options: load_model(Noting(), head, tmp_path, **options)


def test_every_parameter_of_the_head_is_handed_on(load):
    assert list(load().params) == list(parameter_table(CONFIG))
    assert list(load("base").params) == list(parameter_table(CONFIG, "base"))


def test_the_generation_options_beside_the_weights_are_the_defaults(load):
    options = load().generation_config
    assert (options.top_k, options.eos_token_id) == (7, 50256)


def test_a_file_alone_is_loaded_with_the_configuration_beside_it(tmp_path):
    model = load_model(Noting(), "causal_lm", save(tmp_path) / "model.safetensors")
    assert model.config == CONFIG


def test_fields_of_the_configuration_stand_above_the_file(load):
    config = load("sequence_classification", num_labels=5, resid_pdrop=0.1).config
    assert (config.num_labels, config.resid_pdrop) == (5, 0.1)


def test_a_configuration_of_ones_own_takes_the_place_of_the_file(load):
    own = GPTJConfig.from_dict(CONFIG.to_dict(), layer_norm_epsilon=1e-6)
    assert load(config=own).config == own


def test_fields_stand_above_a_configuration_of_ones_own_which_stays(load):
    own = GPTJConfig.from_dict(CONFIG.to_dict())
    assert load(config=own, attn_pdrop=0.5).config.attn_pdrop == 0.5
    assert own == CONFIG


@pytest.mark.parametrize(
    ("configured", "stored", "options", "expected"),
    [
        (None, np.float32, {}, "float32"),
        (None, ml_dtypes.bfloat16, {}, "bfloat16"),
        ("bfloat16", np.float32, {}, "bfloat16"),
        ("bfloat16", np.float32, {"dtype": "float32"}, "float32"),
        ("bfloat16", np.float32, {"torch_dtype": np.float32}, "float32"),
        ("bfloat16", np.float32, {"torch_dtype": "auto"}, "bfloat16"),
        (None, np.float32, {"dtype": None}, "float32"),
    ],
)
@pytest.mark.parametrize("head", ["base", "causal_lm"])
def test_the_dtype_is_that_asked_for_or_configured_or_stored(
    tmp_path, head, configured, stored, options, expected
):
    config = GPTJConfig.from_dict(CONFIG.to_dict(), dtype=configured)
    save(tmp_path, config, stored)
    assert load_model(Noting(), head, tmp_path, **options).dtype == expected


def test_options_of_the_backend_and_device_are_handed_on(load):
    model = load(device="cpu:1", attn_implementation="eager")
    assert (model.device, model.options) == ("cpu:1", {"attn_implementation": "eager"})


@pytest.mark.parametrize("option", ["low_cpu_mem_usage", "from_tf", "trust_remote_code"])
def test_arguments_that_only_others_need_have_no_effect(load, option):
    assert load(**{option: True}).options == {}


@pytest.mark.parametrize(
    ("option", "nearest"),
    [("n_layers", "n_layer"), ("atn_implementation", "attn_implementation"), ("tok", None)],
)
def test_an_unknown_argument_suggests_the_nearest(load, option, nearest):
    hint = f" Did you mean '{nearest}'" if nearest else " Accepted are the fields"
    with pytest.raises(ArgumentError, match=f"Loading has no argument '{option}'.{hint}"):
        load(**{option: 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "question_answering"}, "does not have the head 'question_answering'. It has"),
        ({"dtype": "float16"}, "does not have the dtype 'float16'. It has 'float32', 'bfloat16'"),
        ({"dtype": "bfloat61"}, "the dtype 'bfloat61'. Did you mean 'bfloat16'"),
    ],
    ids=str,
)
def test_what_the_backend_lacks_is_refused_with_what_it_has(load, options, message):
    with pytest.raises(UnsupportedFeature, match=f"The backend 'noting' .*{message}"):
        load(**options)


def test_another_model_type_is_refused(load, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neo"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="a model of type 'gpt_neo'; gptj reads 'gptj' only"):
        load()
