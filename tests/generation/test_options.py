"""The options of generate(): their checks, their lengths and their files."""

import json
import re

import numpy as np
import pytest

from gptj.contract.decoding import NO_PAD
from gptj.errors import ArgumentError, ConfigError, SequenceTooLong
from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig

pytestmark = pytest.mark.neutral

CONFIG = GPTJConfig(
    vocab_size=96, n_positions=64, n_embd=8, n_layer=1, n_head=1, rotary_dim=4, eos_token_id=95
)


def plan(prompt_length=10, **options):
    return make_plan(GenerationConfig.from_model(CONFIG).updated(**options), prompt_length, CONFIG)


@pytest.mark.parametrize(
    ("options", "new_tokens"),
    [
        ({}, 20),
        ({"max_new_tokens": 3}, 3),
        ({"max_length": 15}, 5),
        ({"max_length": 20}, 10),
        ({"max_new_tokens": 3, "max_length": 20}, 3),
        ({"max_new_tokens": 54}, 54),
        ({"max_length": 64}, 54),
    ],
    ids=str,
)
def test_the_length_follows_from_the_options(options, new_tokens):
    assert plan(**options).max_new_tokens == new_tokens


def test_the_default_length_is_cut_to_the_context():
    assert plan(prompt_length=60).max_new_tokens == 4


@pytest.mark.parametrize(
    ("length", "options", "most"),
    [(10, {"max_new_tokens": 55}, 54), (10, {"max_length": 65}, 54), (64, {}, 0)],
)
def test_more_than_the_context_says_how_much_is_left(length, options, most):
    with pytest.raises(SequenceTooLong, match=f"n_positions = 64. .* ask for at most {most}"):
        plan(prompt_length=length, **options)


@pytest.mark.parametrize("max_length", [9, 10])
def test_a_prompt_as_long_as_max_length_leaves_nothing_to_write(max_length):
    with pytest.raises(ArgumentError, match="The prompt has 10 tokens, which leaves nothing"):
        plan(max_length=max_length)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 2.0),
        ("max_new_tokens", True),
        ("max_length", "20"),
        ("max_length", 0),
        ("min_new_tokens", -1),
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("temperature", "0.7"),
        ("temperature", None),
        ("top_k", -1),
        ("top_k", 5.5),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", "0.9"),
        ("seed", 1.5),
        ("eos_token_id", 95.0),
        ("eos_token_id", [1, True]),
        ("eos_token_id", "<|endoftext|>"),
        ("pad_token_id", "0"),
    ],
)
def test_an_impossible_option_is_named(option, value):
    found = re.escape(repr(value))
    with pytest.raises(ArgumentError, match=f"make no sense: {option} must be .*; found {found}"):
        plan(do_sample=True, **{option: value})


def test_every_impossible_option_is_named():
    with pytest.raises(ArgumentError, match=r"max_new_tokens must .*; temperature .*; top_p .*"):
        plan(max_new_tokens=0, temperature=-1, top_p=2, do_sample=True)


@pytest.mark.parametrize(
    ("option", "nearest"), [("max_tokens", "max_new_tokens"), ("temprature", "temperature")]
)
def test_an_unknown_option_suggests_the_nearest(option, nearest):
    with pytest.raises(ArgumentError, match=f"no option '{option}'. Did you mean '{nearest}'"):
        plan(**{option: 1})


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("top_k", 0, 96),
        ("top_k", np.int64(5), 5),
        ("temperature", 2, 2.0),
        ("temperature", np.float32(0.5), 0.5),
        ("seed", np.int32(3), 3),
        ("seed", -1, -1),
        ("pad_token_id", np.int64(4), 4),
    ],
)
def test_a_plan_holds_plain_numbers(option, value, found):
    held = getattr(plan(**{option: value}), option)
    assert (held, type(held)) == (found, type(found))


@pytest.mark.parametrize(
    ("value", "ids"), [(7, (7,)), ([7, 8], (7, 8)), ((np.int64(7),), (7,)), ([], ())], ids=str
)
def test_the_end_tokens_of_a_plan_are_a_tuple(value, ids):
    assert plan(eos_token_id=value).eos_token_ids == ids


def test_the_end_token_comes_from_the_model_when_it_is_not_given():
    assert plan(eos_token_id=None).eos_token_ids == ()
    assert plan().eos_token_ids == (95,)


@pytest.mark.parametrize(
    ("options", "pad"),
    [
        ({"pad_token_id": 3}, 3),
        ({"eos_token_id": [7, 8]}, 7),
        ({"eos_token_id": None}, 0),
    ],
    ids=str,
)
def test_the_end_token_pads_when_there_is_no_pad_token(options, pad):
    assert plan(**options).pad_token_id == pad


@pytest.mark.parametrize("pad", [-1, 96, 10**30])
def test_a_pad_token_that_is_none_is_marked(pad):
    assert plan(pad_token_id=pad).pad_token_id == NO_PAD


@pytest.mark.parametrize(
    ("ends", "known"),
    [(96, ()), (-1, ()), ([96], ()), ([95, 96], (95,)), ([-1, 3, 10**30], (3,))],
    ids=str,
)
def test_an_end_token_outside_the_vocabulary_ends_nothing(ends, known):
    found = plan(eos_token_id=ends)
    assert found.eos_token_ids == known
    assert found.pad_token_id == (known[0] if known else 0)


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-45, 1e-300, 1e-31])
def test_a_temperature_of_nothing_is_greedy(temperature):
    assert not plan(do_sample=True, temperature=temperature).do_sample
    assert plan(do_sample=True, temperature=1e-30).do_sample


@pytest.mark.parametrize("temperature", [1e39, 1e300, 10**400])
def test_a_temperature_that_float32_cannot_hold_is_the_most_that_matters(temperature):
    assert plan(do_sample=True, temperature=temperature).temperature == 1e30


@pytest.mark.parametrize("name", ["top_p", "typical_p"])
def test_a_share_that_float32_cannot_hold_is_the_least_that_it_can(name):
    assert np.float32(getattr(plan(do_sample=True, **{name: 1e-300}), name)) > 0


def test_a_draw_without_seed_is_fresh():
    assert plan().seed != plan().seed


def test_changing_options_leaves_the_first_ones_alone():
    options = GenerationConfig()
    options.updated(top_k=3)
    assert options.top_k == 50


def test_options_survive_a_file_with_keys_of_others(tmp_path):
    content = {"_from_model_config": True, "bos_token_id": 1, "top_k": 7, "num_beams": 4}
    GenerationConfig.from_dict(content).save_pretrained(tmp_path)
    text = (tmp_path / "generation_config.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert GenerationConfig.from_folder(tmp_path, CONFIG).top_k == 7


def test_a_folder_without_options_takes_those_of_the_model(tmp_path):
    assert GenerationConfig.from_folder(tmp_path, CONFIG) == GenerationConfig.from_model(CONFIG)


def test_options_that_are_no_json_name_the_file(tmp_path):
    (tmp_path / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"generation_config\.json is not valid JSON"):
        GenerationConfig.from_folder(tmp_path, CONFIG)
