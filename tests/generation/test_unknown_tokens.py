"""Token ids of a file that the model cannot write: left out with one warning, and no error."""

import json

import pytest

from gptj.errors import ArgumentError, ConfigError
from gptj.generation.options import GenerationConfig
from gptj.generation.unknown_tokens import known_tokens
from gptj.model.config import GPTJConfig
from scripted import Scripted, continued, drawn_table

pytestmark = pytest.mark.neutral

CASES = [
    # what a file of a model with a larger vocabulary says, and what is left of it for 5 tokens
    ("suppress_tokens", [1, 50256], [1]),
    ("suppress_tokens", 50256, None),
    ("begin_suppress_tokens", [220, 50256], None),
    ("forced_eos_token_id", 50256, None),
    ("forced_eos_token_id", [2, 50256], [2]),
    ("bad_words_ids", [[1, 2], [50256], [3, 50256]], [[1, 2]]),
    ("bad_words_ids", [[50256]], None),
    ("sequence_bias", [[[1, 2], -5.0], [[50256], 9.0]], [[[1, 2], -5.0]]),
    ("sequence_bias", [[[50256, 1], 1.0]], None),
    ("suppress_tokens", [-1], None),
]


def with_file(**content):
    model = Scripted(drawn_table(3))
    model.generation_config = GenerationConfig.from_dict(content)
    return model


@pytest.mark.parametrize(("name", "found", "left"), CASES, ids=str)
def test_a_files_unknown_ids_are_left_out_with_one_warning(name, found, left, caplog):
    expected = continued(Scripted(drawn_table(3)), **{name: left})
    assert continued(with_file(**{name: found})) == expected
    (said,) = caplog.messages
    assert said.startswith(f"generate(): {name} ")
    assert said.endswith(" is not in the vocabulary of 5 tokens and has no effect.")


@pytest.mark.parametrize(("name", "found", "left"), CASES, ids=str)
def test_a_callers_unknown_ids_are_refused(name, found, left):
    with pytest.raises(ArgumentError, match=rf"{name} must be .*token id from 0 to 4"):
        continued(Scripted(drawn_table(3)), **{name: found})


def test_a_warning_lists_some_ids_of_many(caplog):
    continued(with_file(suppress_tokens=list(range(100, 200)), eos_token_id=60))
    assert caplog.messages == [
        "generate(): eos_token_id 60; suppress_tokens 100, 101, 102, 103 and 96 more is not in "
        "the vocabulary of 5 tokens and has no effect."
    ]


def test_ids_that_are_known_stay_as_they_are():
    options = GenerationConfig(suppress_tokens=[1], sequence_bias={(1, 2): 3.0}, eos_token_id=2)
    assert known_tokens(options, (), 5) == options


WRONG = [
    {"bad_words_ids": [1, 50256]},
    {"bad_words_ids": "no"},
    {"suppress_tokens": ["a"]},
    {"sequence_bias": [[["a"], 1.0]]},
    {"do_sample": "yes"},
    {"repetition_penalty": "1.9"},
    {"max_new_tokens": "12"},
    {"num_beams": 10**400},
    {"stop_strings": 5},
]


@pytest.mark.parametrize("content", WRONG, ids=str)
def test_a_files_value_of_another_type_is_refused_by_the_files_name(content, tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps(content), encoding="utf-8")
    model = Scripted(drawn_table(3))
    model.generation_config = GenerationConfig.from_folder(tmp_path, GPTJConfig())
    (name,) = content
    with pytest.raises(
        ConfigError, match=rf"{name} must be .* in .*generation_config\.json\. Corr"
    ):
        continued(model)
    model.generation_config = model.generation_config.updated(
        **{name: 5 if name == "sequence_bias" else {}}
    )
    with pytest.raises(ArgumentError, match=f"{name} must be (?!.*generation_config)"):
        continued(model)


def test_a_value_of_an_old_configuration_is_refused_by_its_name():
    model = Scripted(drawn_table(3))
    config = GPTJConfig.from_dict({**model.config.to_dict(), "repetition_penalty": "much"})
    model.generation_config = GenerationConfig.from_model(config)
    with pytest.raises(ConfigError, match=r"found 'much' in config\.json\. Correct the file"):
        continued(model)


@pytest.mark.parametrize(
    "name", ["num_beams", "num_return_sequences", "max_new_tokens", "max_length", "min_new_tokens"]
)
@pytest.mark.parametrize(
    "number", [10**400, 2**63, 2**31, 10**5000], ids=["400", "63", "31", "5000"]
)
def test_a_number_too_large_is_one_clear_error(name, number):
    with pytest.raises(
        ArgumentError, match=rf"{name} must be .*(below 2\*\*31|up to 65536)"
    ) as error:
        continued(Scripted(drawn_table(3)), eos_token_id=4, do_sample=True, **{name: number})
    assert len(str(error.value)) < 400
