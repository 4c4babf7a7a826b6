"""GPTJConfig: fields, aliases and labels."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest

from gptj.errors import ConfigError
from gptj.model.config import GPTJConfig
from gptj.spec.config import dtype_name
from gptj.spec.config_checks import ACTIVATIONS

pytestmark = pytest.mark.neutral

DEFAULTS = {
    "vocab_size": 50400,
    "n_positions": 2048,
    "n_embd": 4096,
    "n_layer": 28,
    "n_head": 16,
    "rotary_dim": 64,
    "n_inner": None,
    "activation_function": "gelu_new",
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "tie_word_embeddings": False,
    "return_dict": True,
    "output_hidden_states": False,
    "output_attentions": False,
    "num_labels": 2,
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "problem_type": None,
    "pad_token_id": None,
    "dtype": None,
    "head_dim": 256,
    "inner_dim": 16384,
    "rotated_dim": 64,
}
ALIASES = {
    "max_position_embeddings": ("n_positions", 512),
    "hidden_size": ("n_embd", 1024),
    "num_attention_heads": ("n_head", 8),
    "num_hidden_layers": ("n_layer", 3),
    "torch_dtype": ("dtype", "bfloat16"),
}


class Named:
    """A dtype that, like PyTorch's, has no name but its text."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_is_the_6b(name):
    assert getattr(GPTJConfig(), name) == DEFAULTS[name]


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_can_be_read(alias):
    field, _ = ALIASES[alias]
    assert getattr(GPTJConfig(), alias) == getattr(GPTJConfig(), field)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_can_be_set(alias):
    config = GPTJConfig()
    field, value = ALIASES[alias]
    setattr(config, alias, value)
    assert getattr(config, field) == value


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_an_argument(alias):
    field, value = ALIASES[alias]
    assert getattr(GPTJConfig(**{alias: value}), field) == value


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activations_that_all_frameworks_share_are_accepted(activation):
    assert GPTJConfig(activation_function=activation).activation_function == activation


def test_no_rotary_dim_rotates_the_whole_head():
    assert GPTJConfig(rotary_dim=None).rotated_dim == 256


def test_the_width_of_the_mlp_can_be_chosen():
    assert GPTJConfig(n_inner=112).inner_dim == 112


def test_several_end_tokens_are_accepted():
    assert GPTJConfig(eos_token_id=[7, 8]).eos_token_id == [7, 8]


def test_num_labels_names_the_labels():
    config = GPTJConfig(num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_setting_num_labels_renames_them():
    config = GPTJConfig(id2label={0: "bad", 1: "good"})
    config.num_labels = 1
    assert (config.id2label, config.label2id) == ({0: "LABEL_0"}, {"LABEL_0": 0})


def test_id2label_gives_the_other_two():
    config = GPTJConfig(id2label={"0": "bad", "1": "fair", "2": "good"})
    assert config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert config.label2id == {"bad": 0, "fair": 1, "good": 2}
    assert config.num_labels == 3


def test_label2id_gives_the_other_two():
    config = GPTJConfig(label2id={"bad": 0, "fair": 1, "good": 2})
    assert config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert config.num_labels == 3


@pytest.mark.parametrize(
    "labels",
    [{"id2label": {0: "a", 1: "b", 2: "c"}}, {"label2id": {"a": 0, "b": 1, "c": 2}}],
    ids=lambda labels: next(iter(labels)),
)
def test_num_labels_must_agree_with_the_names(labels):
    (name,) = labels
    with pytest.raises(ConfigError, match=f"num_labels is 5, but {name} names 3 labels"):
        GPTJConfig(num_labels=5, **labels)
    assert GPTJConfig(num_labels=3, **labels).id2label[1] == "b"


@pytest.mark.parametrize("count", [0, -1, 2.0, "3", True])
def test_num_labels_must_be_a_positive_integer(count):
    with pytest.raises(ConfigError, match="num_labels must be a positive integer"):
        GPTJConfig().num_labels = count


def test_labels_are_not_shared_between_configurations():
    GPTJConfig().id2label[0] = "changed"
    assert GPTJConfig().id2label[0] == "LABEL_0"


@pytest.mark.parametrize(
    "problem_type", ["regression", "single_label_classification", "multi_label_classification"]
)
def test_the_three_problem_types_are_accepted(problem_type):
    assert GPTJConfig(problem_type=problem_type).problem_type == problem_type


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float16", "float16"),
        ("torch.bfloat16", "bfloat16"),
        (np.float32, "float32"),
        (np.dtype(np.float16), "float16"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (Named("torch.float16"), "float16"),
        (None, None),
    ],
    ids=str,
)
def test_a_dtype_may_be_an_object(dtype, name):
    assert dtype_name(dtype) == name
    assert GPTJConfig(dtype=dtype).dtype == name
    assert GPTJConfig(torch_dtype=dtype).dtype == name


def test_fields_can_be_set_later():
    config = GPTJConfig()
    config.pad_token_id = 50256
    assert GPTJConfig.from_dict(config.to_dict()).pad_token_id == 50256


@pytest.mark.parametrize(
    "clone",
    [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_equal(clone):
    config = GPTJConfig(n_layer=3, num_labels=4, max_length=20)
    assert clone(config) == config
    assert clone(config).max_length == 20


def test_configurations_of_other_sizes_differ():
    assert GPTJConfig(n_layer=3) != GPTJConfig(n_layer=4)


def test_an_unknown_attribute_suggests_the_nearest():
    with pytest.raises(AttributeError, match=r"has no field 'n_layers'. Did you mean 'n_layer'"):
        _ = GPTJConfig().n_layers
