"""Options of the reference decoder: their values, which have no effect together, their files."""

import json
import logging
import re

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.generation.decode_plan import make_plan
from gptj.generation.decoder_choice import needs_reference_decoder
from gptj.generation.option_checks import warn_unused
from gptj.generation.options import GenerationConfig
from scripted import (
    END,
    Scripted,
    continued,
    drawn_table,
    options_and_plan,
    saying,
    small_config,
)

pytestmark = pytest.mark.neutral

TOKEN = "a token id from 0 to 4"
IMPOSSIBLE = [
    ("min_length", -1, "an integer from 0"),
    ("min_length", 1.5, "an integer from 0"),
    ("max_time", 0, "seconds above 0"),
    ("max_time", "1", "seconds above 0"),
    ("max_time", float("nan"), "seconds above 0"),
    ("stop_strings", "", "a text that is not empty"),
    ("stop_strings", ["a", ""], "a text that is not empty"),
    ("stop_strings", [1], "a text that is not empty"),
    ("stop_strings", 5, "a text that is not empty"),
    ("truncation", "right", "None, 'left' or 'sliding_window'"),
    ("min_p", 1.1, "in [0, 1]"),
    ("min_p", -0.1, "in [0, 1]"),
    ("typical_p", 0, "in (0, 1]"),
    ("typical_p", 1.01, "in (0, 1]"),
    ("typical_p", None, "in (0, 1]"),
    ("do_sample", "no", "a bool"),
    ("filter_order", "top_p_first", "'temperature_first' or 'filters_first'"),
    ("repetition_penalty", 0, "a number above 0"),
    ("repetition_penalty", 1e39, "a number above 0 that float32 can hold"),
    ("sequence_bias", {(1,): float("nan")}, "a mapping from tuples to numbers"),
    ("repetition_penalty", True, "a number above 0"),
    ("no_repeat_ngram_size", -1, "an integer from 0"),
    ("no_repeat_ngram_size", 2.0, "an integer from 0"),
    ("num_beams", 0, "a positive integer"),
    ("num_beams", 2.5, "a positive integer"),
    ("num_beam_groups", 2, "a divisor of num_beams"),
    ("num_beam_groups", 0, "a divisor of num_beams"),
    ("diversity_penalty", -1.0, "a number from 0"),
    ("length_penalty", "long", "a number"),
    ("early_stopping", "always", "a bool or 'never'"),
    ("early_stopping", 1, "a bool or 'never'"),
    ("num_return_sequences", 0, "a positive integer"),
    ("forced_eos_token_id", 5, TOKEN),
    ("suppress_tokens", [1, 5], TOKEN),
    ("begin_suppress_tokens", -1, TOKEN),
    ("bad_words_ids", [[]], f"a list of lists, each item {TOKEN}"),
    ("bad_words_ids", [[1, 5]], f"a list of lists, each item {TOKEN}"),
    ("bad_words_ids", [1], f"a list of lists, each item {TOKEN}"),
    ("sequence_bias", 5, "a mapping from tuples to numbers"),
    ("sequence_bias", {(): 1.0}, "a mapping from tuples to numbers"),
    ("sequence_bias", {(5,): 1.0}, "a mapping from tuples to numbers"),
    ("sequence_bias", {(1,): "much"}, "a mapping from tuples to numbers"),
    ("sequence_bias", [[1, 2.0]], "a mapping from tuples to numbers"),
    ("penalty_alpha", 1.5, "in [0, 1]"),
    ("prompt_lookup_num_tokens", 0, "a positive integer"),
    ("max_matching_ngram_size", 0, "a positive integer"),
]


READ_BY = {
    "min_p": {"do_sample": True},
    "typical_p": {"do_sample": True},
    "filter_order": {"do_sample": True},
    "num_beam_groups": {"num_beams": 3},
    "length_penalty": {"num_beams": 3},
    "early_stopping": {"num_beams": 3},
    "diversity_penalty": {"num_beams": 4, "num_beam_groups": 2},
    "max_matching_ngram_size": {"prompt_lookup_num_tokens": 2},
}
"""An option that not all modes read -> what chooses one that does."""


@pytest.mark.parametrize(
    ("option", "value", "accepted"), IMPOSSIBLE, ids=[f"{n}={v!r}" for n, v, _ in IMPOSSIBLE]
)
def test_an_impossible_value_says_what_was_found_and_what_is_accepted(option, value, accepted):
    expected = f"make no sense: .*{option} must be {re.escape(accepted)}.*; found "
    with pytest.raises(ArgumentError, match=expected + re.escape(repr(value))):
        options_and_plan(**READ_BY.get(option, {}), **{option: value})


def test_the_draft_length_is_checked_beside_an_assistant():
    options = GenerationConfig(num_assistant_tokens=0)
    make_plan(options, 1, small_config())
    with pytest.raises(ArgumentError, match="num_assistant_tokens must be a positive integer"):
        make_plan(options, 1, small_config(), has_assistant=True)


WITHOUT_EFFECT = [
    {"temperature": 0.0, "top_k": 1},
    {"temperature": -1, "top_k": -5, "top_p": 7.0, "min_p": -3, "typical_p": float("nan")},
    {"filter_order": "other", "length_penalty": float("inf"), "early_stopping": "now"},
    {"num_beam_groups": 3, "diversity_penalty": -1.0, "max_matching_ngram_size": 0},
    {"num_assistant_tokens": -1, "max_length": -1, "max_new_tokens": 3},
    {"min_new_tokens": -1, "min_length": -1, "eos_token_id": None},
    {"temperature": 10**400, "top_p": 10**400, "min_p": -(10**400)},
]


@pytest.mark.parametrize("options", WITHOUT_EFFECT, ids=str)
def test_a_value_without_effect_is_never_refused(options):
    wanted = {name: value for name, value in options.items() if name in ("max_new_tokens",)}
    wanted |= {"eos_token_id": None} if "eos_token_id" in options else {}
    model = Scripted(drawn_table(5))
    assert continued(model, **{"max_new_tokens": 4, **options}) == continued(
        model, **{"max_new_tokens": 4, **wanted}
    )


@pytest.mark.parametrize("option", ["temperature", "top_p", "top_k", "length_penalty"])
def test_a_value_without_effect_has_its_type(option):
    with pytest.raises(ArgumentError, match=f"{option} must be .*; found 'x'"):
        options_and_plan(**{option: "x"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2, "num_return_sequences": 3}, "3 is more than num_beams = 2: ask for as"),
        ({"num_return_sequences": 2}, "2 greedy texts would be equal: set do_sample=True"),
        ({"num_beams": 2, "penalty_alpha": 0.5}, "num_beams and penalty_alpha exclude each other"),
        (
            {"num_beams": 2, "prompt_lookup_num_tokens": 2},
            "num_beams and prompt_lookup_num_tokens exclude each other",
        ),
        (
            {"penalty_alpha": 0.5, "prompt_lookup_num_tokens": 2},
            "penalty_alpha and prompt_lookup_num_tokens exclude each other",
        ),
        ({"penalty_alpha": 0.5, "do_sample": True}, "penalty_alpha is a search without drawing"),
        (
            {"num_beams": 2, "num_beam_groups": 2, "do_sample": True},
            "num_beam_groups is a search without drawing",
        ),
    ],
    ids=str,
)
def test_modes_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        options_and_plan(**options)


ACCEPTED = {
    "stop_strings": ["ab", "c"],
    "suppress_tokens": 3,
    "sequence_bias": [[[1, 2], -1.0]],
    "min_p": 0.0,
    "length_penalty": -1.0,
    "num_beam_groups": 1,
    "early_stopping": "never",
    "eos_token_id": [1, 2],
}


@pytest.mark.parametrize("option", ACCEPTED)
def test_what_may_be_said_in_several_forms_is_accepted(option):
    settings, _ = options_and_plan(**{option: ACCEPTED[option]})
    assert getattr(settings, option) == ACCEPTED[option]


def test_a_plan_takes_over_what_a_loop_needs():
    _, plan = options_and_plan(
        min_length=3, min_p=0.25, typical_p=0.5, filter_order="filters_first", num_beams=2
    )
    found = (plan.min_length, plan.min_p, plan.typical_p, plan.filters_first, plan.min_candidates)
    assert found == (3, 0.25, 0.5, True, 2)


def test_min_length_is_nothing_beside_min_new_tokens():
    _, plan = options_and_plan(min_length=3, min_new_tokens=1)
    assert plan.min_length == 0


@pytest.mark.parametrize(("ends", "least"), [(None, 2), (1, 2), ([1, 2], 3), ([1, 2, 3], 4)])
def test_beams_keep_one_candidate_more_than_there_are_ends(ends, least):
    assert options_and_plan(num_beams=2, eos_token_id=ends)[1].min_candidates == least


@pytest.mark.parametrize(
    ("options", "is_needed"),
    [
        ({}, False),
        ({"do_sample": True, "top_k": 3, "top_p": 0.5, "temperature": 2.0, "seed": 1}, False),
        ({"min_new_tokens": 2, "max_new_tokens": 3, "num_return_sequences": 2}, False),
        ({"min_length": 2}, True),
        ({"sequence_bias": {(1,): 1.0}}, True),
        ({"forced_eos_token_id": 0}, True),
        ({"suppress_tokens": 0}, True),
        ({"num_beams": 2}, True),
        ({"use_cache": False}, True),
        ({"return_dict_in_generate": True}, True),
        ({"filter_order": "filters_first"}, True),
    ],
    ids=str,
)
def test_the_reference_decoder_is_needed_for_what_no_other_loop_has(options, is_needed):
    assert needs_reference_decoder(GenerationConfig(**options)) is is_needed


UNUSED = [
    ({"temperature": 0.5, "seed": 3}, "temperature, seed have"),
    ({"top_k": 3}, "top_k has"),
    ({"min_p": 0.1, "typical_p": 0.5, "top_p": 0.5}, "min_p, typical_p, top_p have"),
    ({"filter_order": "filters_first"}, "filter_order has"),
    ({"length_penalty": 2.0, "early_stopping": True}, "length_penalty, early_stopping have"),
    ({"output_scores": True}, "output_scores has"),
    ({"max_new_tokens": 3, "max_length": 30}, "max_length has"),
    ({"min_new_tokens": 2, "eos_token_id": None}, "min_new_tokens has"),
    ({"min_new_tokens": 2, "min_length": 9}, "min_length has"),
    ({"num_assistant_tokens": 3}, "num_assistant_tokens has"),
    ({"max_matching_ngram_size": 3}, "max_matching_ngram_size has"),
]
ACTIVE = [
    {"temperature": 0.5, "top_k": 3, "seed": 3, "do_sample": True},
    {"temperature": 1.0},
    {"top_k": 3, "penalty_alpha": 0.5},
    {"length_penalty": 2.0, "num_beams": 2},
    {"output_scores": True, "return_dict_in_generate": True},
    {"max_length": 30},
    {"max_matching_ngram_size": 3, "prompt_lookup_num_tokens": 2},
]


def warned(options, has_assistant=False):
    """Report unused options as generate() does."""
    settings = GenerationConfig.from_model(small_config()).updated(**options)
    warn_unused(options, settings, has_assistant)


@pytest.mark.parametrize(("options", "said"), UNUSED, ids=[said for _, said in UNUSED])
def test_options_without_effect_are_named_in_one_line(caplog, options, said):
    with caplog.at_level(logging.WARNING, "gptj"):
        warned(options)
    assert caplog.messages == [f"generate(): {said} no effect here."]


@pytest.mark.parametrize("options", ACTIVE, ids=str)
def test_options_with_an_effect_are_not_warned_of(caplog, options):
    with caplog.at_level(logging.WARNING, "gptj"):
        warned(options)
        warned({"num_assistant_tokens": 2, "max_matching_ngram_size": 3}, has_assistant=True)
    assert caplog.messages == []


def test_options_of_a_model_are_not_warned_of(caplog):
    model = Scripted(saying([1]))
    model.generation_config = GenerationConfig(temperature=0.5, top_k=3)
    with caplog.at_level(logging.WARNING, "gptj"):
        model.generate(np.array([[0]]), max_new_tokens=2)
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING, "gptj"):
        model.generate(np.array([[0]]), max_new_tokens=2, seed=3)
    assert caplog.messages == ["generate(): seed has no effect here."]


def from_file(tmp_path, content):
    (tmp_path / "generation_config.json").write_text(json.dumps(content), encoding="utf-8")
    return GenerationConfig.from_folder(tmp_path, small_config())


def test_a_bias_with_tuples_for_keys_goes_through_a_file(tmp_path):
    bias = {(1,): -2.0, (0, 3): 5.0}
    GenerationConfig(sequence_bias=bias).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
    assert content == {"sequence_bias": [[[1], -2.0], [[0, 3], 5.0]]}
    read, model = GenerationConfig.from_folder(tmp_path, small_config()), Scripted(saying([0, 1]))
    prompts = np.array([[2, 2], [2, 0]])
    found = model.generate(prompts, generation_config=read).tolist()
    # token 1 has 4 - 2 left; after token 0 the bias of 5 for token 3 is more
    assert found == [[2, 2, 1, END], [2, 0, 3, END]]
    assert found == model.generate(prompts, sequence_bias=bias).tolist()


def test_a_null_in_a_file_is_no_entry(tmp_path):
    names = ("temperature", "num_beams", "top_k", "early_stopping", "max_length", "eos_token_id")
    read = from_file(tmp_path, dict.fromkeys(names))
    assert read == GenerationConfig.from_model(small_config())
    make_plan(read, 1, small_config())


def test_unknown_keys_of_a_file_are_kept(tmp_path):
    content = {"transformers_version": "4.1", "renormalize": None, "num_beams": 3}
    read = from_file(tmp_path, content)
    assert (read.num_beams, read.extra) == (3, {k: content[k] for k in list(content)[:2]})
    assert {**read.to_dict(), **content} == read.to_dict()


def test_a_file_holds_only_what_is_not_default():
    options = GenerationConfig(top_k=50, num_beams=4, stop_strings=["x"], early_stopping=True)
    expected = {"num_beams": 4, "stop_strings": ["x"], "early_stopping": True}
    assert options.to_dict() == expected


def test_options_of_a_file_are_used_and_give_way_to_those_of_a_call(tmp_path):
    model = Scripted(saying([0, 1, 2, 3]))
    model.generation_config = from_file(tmp_path, {"suppress_tokens": [0], "max_new_tokens": 2})
    assert model.generate(np.array([[3]])).tolist() == [[3, 1, 1]]
    assert model.generate(np.array([[3]]), suppress_tokens=None).tolist() == [[3, 0, 1]]
