"""What GPTJConfig refuses, and what it says."""

import pytest

from gptj.errors import ConfigError, GPTJError
from gptj.model.config import GPTJConfig

pytestmark = pytest.mark.neutral


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("n_layers", "'n_layers'. Did you mean 'n_layer'"),
        ("hiden_size", "'hiden_size'. Did you mean 'hidden_size'"),
        ("num_label", "'num_label'. Did you mean 'num_labels'"),
        ("intermediate_size", "'intermediate_size': GPT-J calls it 'n_inner'"),
        ("hidden_act", "'hidden_act': GPT-J calls it 'activation_function'"),
        ("hidden_dropout_prob", "GPT-J calls it 'resid_pdrop'"),
        ("zzz", "has no field 'zzz'.$"),
    ],
)
def test_an_unknown_argument_suggests_what_was_meant(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        GPTJConfig(**{name: 1})
    assert isinstance(caught.value, GPTJError)
    assert isinstance(caught.value, ValueError)


def test_every_unknown_argument_is_named():
    with pytest.raises(ConfigError, match=r"'n_layers'.* Nor 'hidden_act'"):
        GPTJConfig(n_layers=2, hidden_act="gelu")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_layer": 0}, "n_layer must be a positive integer, found 0"),
        ({"n_embd": -4}, "n_embd must be a positive integer, found -4"),
        ({"vocab_size": 2.5}, "vocab_size must be a positive integer, found 2.5"),
        ({"n_head": "16"}, "n_head must be a positive integer, found '16'"),
        ({"n_positions": True}, "n_positions must be a positive integer, found True"),
        ({"n_inner": 0}, "n_inner must be a positive integer, found 0"),
        ({"n_embd": 100, "n_head": 16}, r"n_embd \(100\) must be a multiple of n_head \(16\)"),
        ({"rotary_dim": 7}, "rotary_dim must be even and between 2 and the head width 256"),
        ({"rotary_dim": 258}, "the head width 256, found 258"),
        ({"rotary_dim": 0}, "rotary_dim must be None or an integer, found 0"),
        ({"rotary_dim": "64"}, "rotary_dim must be None or an integer, found '64'"),
        ({"n_embd": 12, "n_head": 4, "rotary_dim": None}, "the head width 3, found None"),
        ({"resid_pdrop": 1.0}, r"resid_pdrop must be in \[0, 1\), found 1.0"),
        ({"embd_pdrop": -0.1}, r"embd_pdrop must be in \[0, 1\), found -0.1"),
        ({"attn_pdrop": "0.1"}, r"attn_pdrop must be in \[0, 1\), found '0.1'"),
        ({"attn_pdrop": float("nan")}, r"attn_pdrop must be in \[0, 1\), found nan"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon must be a number above 0, found 0"),
        ({"initializer_range": None}, "initializer_range must be a number above 0, found None"),
        ({"activation_function": "gelu_"}, "must be one of 'gelu', 'gelu_new', .* found 'gelu_'"),
        ({"problem_type": "ranking"}, "problem_type must be None or one of .* found 'ranking'"),
    ],
    ids=str,
)
def test_an_impossible_value_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        GPTJConfig(**values)


def test_every_impossible_value_is_named():
    with pytest.raises(ConfigError, match=r"n_layer .*; n_head .*; resid_pdrop .*; problem_type"):
        GPTJConfig(n_layer=0, n_head=0, resid_pdrop=2, problem_type="x")


def test_validation_can_be_repeated_after_a_change():
    config = GPTJConfig()
    config.rotary_dim = 63
    with pytest.raises(ConfigError, match="rotary_dim must be even"):
        config.validate()
