"""Every configuration that a user meets is a ``gptj.GPTJConfig``, and equals its copies."""

import copy
import pickle

import pytest

import gptj
from gptj.spec import config as spec
from gptj.tools.init import resolve_config
from models import tiny_config
from paths import TINY

COPIES = {
    "a copy": copy.copy,
    "a deep copy": copy.deepcopy,
    "a pickle": lambda config: pickle.loads(pickle.dumps(config)),
    "its content": lambda config: gptj.GPTJConfig.from_dict(config.to_dict()),
    "the tools' copy": resolve_config,
}


@pytest.mark.neutral
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_a_public_configuration_that_equals_the_first(how):
    copied = COPIES[how](tiny_config())
    assert type(copied) is gptj.GPTJConfig
    assert copied == tiny_config()


@pytest.mark.neutral
def test_the_specification_and_the_public_class_compare_by_their_fields():
    plain = spec.GPTJConfig.from_json_file(TINY / "config.json")
    assert plain == tiny_config() and tiny_config() == plain
    assert plain != gptj.GPTJConfig()


@pytest.mark.neutral
def test_tools_turn_a_plain_configuration_into_a_public_one():
    plain = spec.GPTJConfig.from_json_file(TINY / "config.json")
    assert type(resolve_config(plain)) is gptj.GPTJConfig


@pytest.mark.neutral
@pytest.mark.parametrize("name", ["demo", TINY])
def test_a_configuration_that_is_read_is_a_public_one(name):
    assert type(gptj.GPTJConfig.from_pretrained(name)) is gptj.GPTJConfig


@pytest.mark.frameworks
def test_a_loaded_model_has_a_public_configuration(backend):
    model = gptj.load(TINY, backend=backend.name)
    assert type(model.config) is gptj.GPTJConfig
    assert model.config == tiny_config()


@pytest.mark.frameworks
def test_a_model_made_from_a_plain_configuration_has_a_public_one(backend):
    plain = spec.GPTJConfig.from_json_file(TINY / "config.json")
    model = gptj.load(TINY, backend=backend.name, config=plain)
    assert type(model.config) is gptj.GPTJConfig


@pytest.mark.frameworks
@pytest.mark.needs("adapters")
def test_a_model_with_an_adapter_keeps_a_public_configuration(framework):
    model = gptj.load(TINY, backend=framework.name)
    model.add_lora(rank=2)
    assert type(model.config) is gptj.GPTJConfig


@pytest.mark.frameworks
def test_a_resized_model_has_a_public_configuration(framework):
    model = gptj.load(TINY, backend=framework.name)
    model.resize_token_embeddings(100)
    assert type(model.config) is gptj.GPTJConfig
    assert model.config.vocab_size == 100


@pytest.mark.frameworks
def test_a_saved_model_has_the_same_public_configuration(framework, tmp_path):
    model = gptj.load(TINY, backend=framework.name)
    model.save_pretrained(tmp_path)
    again = gptj.load(tmp_path, backend=framework.name).config
    assert type(again) is gptj.GPTJConfig
    assert again == model.config


@pytest.mark.frameworks
def test_a_keras_file_brings_a_public_configuration_back(tf_backend, tmp_path):
    import keras

    model = gptj.load(TINY, backend="tf")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").config
    assert type(again) is gptj.GPTJConfig
    assert again == model.config
