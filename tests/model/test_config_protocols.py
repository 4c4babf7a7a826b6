"""A configuration is read and marked by programs that were written for other libraries' ones."""

import copy

import pytest

from gptj.model.config import GPTJConfig
from models import tiny_config

pytestmark = pytest.mark.neutral


@pytest.mark.parametrize("name", ["n_layer", "hidden_size", "num_labels", "model_type", "prefix"])
def test_a_name_of_the_file_is_in_the_configuration(name):
    assert name in GPTJConfig.from_dict({"n_layer": 3, "prefix": "x"})


@pytest.mark.parametrize("name", ["text_config", "n_layers", "validate", "extra", 3])
def test_another_name_is_not(name):
    assert name not in GPTJConfig()


def test_get_reads_what_is_there_and_else_the_default():
    config = GPTJConfig(n_layer=3)
    assert (config.get("num_hidden_layers"), config.get("text_config", 7)) == (3, 7)
    assert config.get("text_config") is None


def test_iterating_yields_what_can_be_read():
    config = GPTJConfig(max_length=20)
    assert {"n_embd", "max_length", "model_type"} < {*config}
    assert all(hasattr(config, name) for name in config)


def test_the_difference_is_from_the_6b():
    assert GPTJConfig(n_layer=3, n_ctx=8).to_diff_dict() == {
        "model_type": "gptj",
        "n_layer": 3,
        "n_ctx": 8,
    }


def test_the_part_for_text_is_the_whole():
    config = tiny_config()
    assert config.get_text_config() is config.get_text_config(decoder=True) is config


def test_the_class_says_the_type_of_the_model():
    assert GPTJConfig.model_type == GPTJConfig().model_type == "gptj"
    assert GPTJConfig().is_encoder_decoder is False


@pytest.mark.parametrize("name", ["n_ctx", "tokenizer_class", "use_cache", "default_prepend_bos"])
def test_what_a_program_sets_is_an_attribute_of_that_object(name):
    first = GPTJConfig()
    second = copy.deepcopy(first)
    setattr(second, name, 5)
    assert second.__dict__[name] == getattr(second, name) == 5
    assert getattr(first, name, None) != 5


@pytest.mark.parametrize("name", ["_attn_implementation", "_name_or_path", "anything", "d_model"])
def test_what_a_program_sets_besides_the_fields_is_not_saved(name):
    config = GPTJConfig()
    setattr(config, name, "x")
    assert getattr(config, name) == "x"
    assert config.to_dict() == GPTJConfig().to_dict()
    assert config == GPTJConfig()


def test_an_unused_key_that_is_set_is_saved_with_its_value():
    config = GPTJConfig(n_ctx=4)
    config.n_ctx = 8
    assert GPTJConfig.from_dict(config.to_dict()).n_ctx == 8


@pytest.mark.parametrize("key", ["name_or_path", "_name_or_path"])
def test_the_name_is_not_saved_but_that_of_a_file_is_kept(key):
    config = GPTJConfig.from_dict({key: "org/old"})
    assert config.name_or_path == "org/old"
    config.name_or_path = "org/new"
    assert (config.name_or_path, config._name_or_path) == ("org/new", "org/new")
    assert config.to_dict()[key] == "org/old"


def test_a_new_configuration_has_no_name():
    assert (GPTJConfig().name_or_path, GPTJConfig()._name_or_path) == ("", "")
