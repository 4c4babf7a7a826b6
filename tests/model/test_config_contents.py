"""A ``config.json`` as people have them: nulls, numbers in text, two generations of names."""

import json
import random

import pytest

from gptj.errors import ConfigError
from gptj.model.config import GPTJConfig
from gptj.spec.config_content import MAY_BE_NONE
from gptj.spec.config_names import ALIASES
from published import PUBLISHED

pytestmark = pytest.mark.neutral

KEYS = sorted({*GPTJConfig().to_dict(), *PUBLISHED, *ALIASES, "dtype", "id2label", "label2id"})
KEYS += ["num_labels", "problem_type", "pad_token_id", "_name_or_path", "architectures"]


@pytest.mark.parametrize("key", KEYS)
def test_null_stands_for_the_default(key, caplog):
    found = GPTJConfig.from_dict({key: None})
    field = ALIASES.get(key, key)
    expected = {} if field not in MAY_BE_NONE else {field: None}
    assert found.to_dict() | {key: 0} == GPTJConfig(**expected).to_dict() | {key: 0}
    # no tensor tells the number of heads
    assert len(caplog.records) == (key in ("n_head", "num_attention_heads"))


@pytest.mark.parametrize(
    ("content", "field", "value"),
    [
        ({"n_layer": "28"}, "n_layer", 28),
        ({"n_layer": " 3 "}, "n_layer", 3),
        ({"n_embd": 4096.0}, "n_embd", 4096),
        ({"hidden_size": "4096.0"}, "n_embd", 4096),
        ({"vocab_size": 5e4}, "vocab_size", 50_000),
        ({"rotary_dim": "32"}, "rotary_dim", 32),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon", 1e-5),
        ({"attn_pdrop": "0.1"}, "attn_pdrop", 0.1),
        ({"use_cache": "false"}, "use_cache", False),
        ({"tie_word_embeddings": "False"}, "tie_word_embeddings", False),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings", True),
        ({"eos_token_id": "50256"}, "eos_token_id", 50256),
        ({"eos_token_id": [50256.0, "7"]}, "eos_token_id", [50256, 7]),
        ({"pad_token_id": 3.0}, "pad_token_id", 3),
        ({"torch_dtype": "float64"}, "dtype", "float32"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "num_labels": 5}, "num_labels", 3),
        (
            {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}},
            "label2id",
            {"a": 0, "b": 1},
        ),
    ],
    ids=str,
)
def test_what_is_clear_is_taken_and_a_warning_says_so(content, field, value, caplog):
    found = getattr(GPTJConfig.from_dict(content), field)
    assert (found, type(found)) == (value, type(value))
    assert caplog.records
    assert all("config.json" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "content",
    [
        {"dtype": "bfloat16", "torch_dtype": "bfloat16"},
        {"dtype": "bfloat16", "torch_dtype": None},
        {"n_layer": None, "num_hidden_layers": 5},
        {"num_hidden_layers": 5, "n_layer": 5},
        {"torch_dtype": "auto"},
        {"dtype": "torch.float16"},
        {"_name_or_path": "", "transformers_version": "5.0.0"},
        {"id2label": None, "label2id": None, "num_labels": 4},
        {"id2label": None, "label2id": {"a": 0, "b": 1, "c": 2}},
        {"id2label": ["a", "b"]},
        {"num_labels": 3, "id2label": {"0": "a", "1": "b", "2": "c"}},
        {"hidden_act": "gelu_new", "intermediate_size": 16384},
        {"model_type": None},
        {"model_type": ""},
    ],
    ids=str,
)
def test_what_agrees_is_taken_in_silence(content, caplog):
    GPTJConfig.from_dict(content)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ({"hidden_act": "relu"}, "hidden_act = 'relu', which GPT-J never reads"),
        ({"intermediate_size": 64}, "its n_inner is 16384"),
        ({"hidden_dropout_prob": 0.1}, "its resid_pdrop is 0.0"),
        ({"hidden_act": "gelu_new", "intermediate_size": 16384}, None),
        ({"rope_theta": 5e5}, "rotary positions with 500000.0, which GPT-J does not have"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "rotary positions with 500000.0"),
        ({"rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"}}, None),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rotary positions with {'factor'"),
        ({"rope_scaling": None, "rope_theta": 10_000}, None),
    ],
    ids=str,
)
def test_other_models_names_of_a_field_are_told_where_they_differ(content, note, tmp_path, caplog):
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    GPTJConfig.from_pretrained(tmp_path)
    assert [note in record.getMessage() for record in caplog.records] == [True] * bool(note)


def test_labels_come_from_whichever_key_has_them():
    assert GPTJConfig.from_dict({"id2label": None, "num_labels": 4}).num_labels == 4
    found = GPTJConfig.from_dict({"id2label": None, "label2id": {"a": 0, "b": 1, "c": 2}})
    assert found.id2label == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize(
    "content",
    [
        {"n_layer": "many"},
        {"n_layer": "2.5"},
        {"n_layer": 2.5},
        {"n_layer": [2]},
        {"n_layer": float("nan")},
        {"n_layer": float("inf")},
        {"n_layer": True},
        {"n_layer": "1" * 5000},
        {"n_positions": 10**1000},
        {"vocab_size": 2**40},
        {"n_layer": 10**7},
        {"num_labels": 10**9},
        {"attn_pdrop": "none"},
        {"attn_pdrop": True},
        {"layer_norm_epsilon": 10**400},
        {"layer_norm_epsilon": "1e-5 x"},
        {"use_cache": "maybe"},
        {"use_cache": 2},
        {"tie_word_embeddings": []},
        {"eos_token_id": {}},
        {"eos_token_id": ["x"]},
        {"bos_token_id": "<|endoftext|>"},
        {"activation_function": ["gelu"]},
        {"dtype": {"": "float32"}},
        {"torch_dtype": 16},
        {"id2label": {"a": "b"}},
        {"id2label": {"1": "b"}},
        {"id2label": 3},
        {"label2id": ["a"]},
        {"label2id": {"a": "b"}},
        {"problem_type": ["regression"]},
        {"task_specific_params": "x"},
        {"quantization_config": [1]},
        {"n_layer": 2, "num_hidden_layers": 3},
        {"torch_dtype": "float16", "dtype": "bfloat16"},
    ],
    ids=lambda content: str(content)[:60],
)
def test_what_is_not_clear_is_one_error_that_names_the_key(content):
    with pytest.raises(ConfigError, match="|".join(content)) as caught:
        GPTJConfig.from_dict(content)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "codegen"}, "'codegen'.*split in four parts"),
        ({"model_type": "gpt_neox"}, "GPT-NeoX"),
        ({"model_type": "llama"}, "Llama"),
        ({"model_type": ["gptj"]}, r"type \['gptj'\]"),
        ({"model_type": "x" * 10_000}, "reads 'gptj' only"),
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT-2 has learned positions"),
        ({"model_type": None, "architectures": ["CodeGenForCausalLM"]}, "CodeGen"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_another_family_says_what_it_is(content, message):
    with pytest.raises(ConfigError, match=message) as caught:
        GPTJConfig.from_dict(content)
    assert len(str(caught.value)) < 600


def test_what_the_user_sets_stands_above_what_is_not_clear(caplog):
    assert GPTJConfig.from_dict({"n_layer": "many"}, n_layer=3).n_layer == 3
    assert GPTJConfig.from_dict({"num_hidden_layers": "many"}, n_layer=3).n_layer == 3
    content = {"num_labels": 3, "label2id": {"x": 0, "y": 1, "z": 2}}
    assert GPTJConfig.from_dict(content, id2label={0: "a", 1: "b"}).label2id == {"a": 0, "b": 1}
    assert caplog.records == []


@pytest.mark.parametrize(
    "fields", [{"rotary_dim": None}, {"eos_token_id": None}, {"n_inner": None}]
)
def test_none_where_it_is_a_value_survives_a_file(fields, tmp_path):
    config = GPTJConfig(n_embd=2048, **fields)
    config.save_pretrained(tmp_path)
    assert GPTJConfig.from_pretrained(tmp_path) == config


VALUES = [None, 0, 1, -1, 2.0, "3", "x", "", True, [], {}, [1], {"0": "a"}, 1e400, "\ud800", 10**30]


def test_any_value_under_any_key_is_taken_or_one_error():
    draw = random.Random(3)
    for _ in range(5000):
        keys = draw.sample(KEYS, draw.randint(1, 4))
        content = {key: draw.choice(VALUES) for key in keys}
        try:
            config = GPTJConfig.from_dict(content)
        except ConfigError as error:
            assert len(str(error)) < 1500
        else:
            assert GPTJConfig.from_dict(json.loads(config.to_json_string())) == config
