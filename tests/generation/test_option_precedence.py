"""Which option wins where a call, a model's file and its old configuration speak of the same."""

import json
import logging
import os

import numpy as np
import pytest

from gptj.errors import ArgumentError, ConfigError, GPTJError
from gptj.generation.option_precedence import settled
from gptj.generation.option_sources import option_sources
from gptj.generation.options import GenerationConfig, option_names
from scripted import END, Pieces, Scripted, continued, drawn_table, small_config

pytestmark = pytest.mark.neutral

LETTERS = Pieces("a", "b", "c", "d", "<end>")


def with_file(content, logits=None, **config):
    """Return a model with the options of a file."""
    model = Scripted(logits or drawn_table(3), **config)
    model.generation_config = GenerationConfig.from_dict(content)
    return model


def plain(**options):
    return continued(Scripted(drawn_table(3)), **options)


GIVING_WAY = [
    # file, keywords, the same as these keywords alone
    ({"do_sample": False, "temperature": 0.0, "top_k": 1}, {}, {}),
    ({"do_sample": True, "temperature": 0.0}, {}, {}),
    ({"do_sample": True, "temperature": 1e-300, "top_k": 0}, {}, {}),
    ({"num_return_sequences": 3}, {}, {}),
    ({"num_beams": 2, "penalty_alpha": 0.5}, {}, {"num_beams": 2}),
    ({"num_beams": 2}, {"penalty_alpha": 0.5}, {"penalty_alpha": 0.5}),
    ({"penalty_alpha": 0.5}, {"num_beams": 2}, {"num_beams": 2}),
    ({"penalty_alpha": 0.5, "prompt_lookup_num_tokens": 2}, {}, {"penalty_alpha": 0.5}),
    (
        {"penalty_alpha": 0.5, "do_sample": True, "seed": 1},
        {},
        {"do_sample": True, "seed": 1},
    ),
    (
        {"penalty_alpha": 0.5},
        {"do_sample": True, "seed": 1},
        {"do_sample": True, "seed": 1},
    ),
    ({"do_sample": True}, {"penalty_alpha": 0.5}, {"penalty_alpha": 0.5}),
    ({"penalty_alpha": 0.5, "do_sample": True, "temperature": 0}, {}, {}),
    ({"penalty_alpha": 0.5, "top_k": 0}, {}, {}),
    ({"penalty_alpha": 0.5, "top_k": 0}, {"top_k": 3}, {"penalty_alpha": 0.5, "top_k": 3}),
    (
        {"num_beams": 2, "num_beam_groups": 2, "do_sample": True, "seed": 1},
        {},
        {"num_beams": 2, "do_sample": True, "seed": 1},
    ),
    ({"max_new_tokens": 9}, {"max_length": 3}, {"max_new_tokens": 2}),
    ({"max_length": 3}, {"max_new_tokens": 6}, {"max_new_tokens": 6}),
    ({"max_new_tokens": 6, "max_length": 2}, {}, {"max_new_tokens": 6}),
    ({"min_new_tokens": 9}, {"min_length": 1}, {}),
    ({"eos_token_id": 5}, {}, {"eos_token_id": None}),
    ({"eos_token_id": [50256, 4, -1]}, {}, {}),
    ({"pad_token_id": -1}, {}, {}),
    ({"pad_token_id": 5}, {}, {}),
]


@pytest.mark.parametrize(("file", "given", "same"), GIVING_WAY, ids=str)
def test_an_option_that_gives_way_leaves_the_text_as_without_it(file, given, same):
    assert continued(with_file(file), **given) == plain(**same)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_return_sequences": 2}, "2 greedy texts would be equal"),
        ({"num_return_sequences": 2, "do_sample": True, "temperature": 0}, "texts would be equal"),
        ({"num_beams": 2, "penalty_alpha": 0.5}, "exclude each other"),
        ({"do_sample": True, "penalty_alpha": 0.5}, "search without drawing"),
        ({"num_beams": 2, "num_return_sequences": 3}, "more than num_beams"),
        ({"max_length": 1}, "leaves nothing to write"),
    ],
    ids=str,
)
def test_a_caller_who_says_two_things_is_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        plain(**given)


SAID = [
    ({}, {"temperature": 0.5}, "generate(): temperature has no effect here."),
    ({}, {"do_sample": True, "temperature": 0, "top_p": 0.5}, "generate(): top_p has no effect he"),
    ({"temperature": 0.5}, {}, None),
    ({}, {"do_sample": True, "temperature": 0.0}, None),
    ({"num_return_sequences": 3}, {}, "generate(): the model's own num_return_sequences gives way"),
    ({}, {"eos_token_id": [7, 4, 50256]}, "generate(): eos_token_id 7, 50256 is not in the vocab"),
    ({"eos_token_id": 5}, {}, "generate(): eos_token_id 5 is not in the vocabulary of 5 tokens an"),
    ({}, {"max_length": 3, "max_new_tokens": 2}, "generate(): max_length has no effect here."),
    ({"max_new_tokens": 2}, {"max_length": 3}, None),
]


@pytest.mark.parametrize("of", ["ids", "text", "stream"])
@pytest.mark.parametrize(("file", "given", "said"), SAID, ids=str)
def test_what_has_no_effect_is_said_once(caplog, file, given, said, of):
    model = with_file(file)
    with caplog.at_level(logging.WARNING, "gptj"):
        if of == "ids":
            continued(model, **given)
        elif of == "text":
            model.generate_text(["a", "bc", "d"], tokenizer=LETTERS, batch_size=1, **given)
        else:
            list(model.stream_text("a", tokenizer=LETTERS, **given))
    assert [message[: len(said or "")] for message in caplog.messages] == ([said] if said else [])


def test_a_pad_token_that_is_none_is_not_needed_for_texts():
    model = with_file({"pad_token_id": 5}, lambda ids: np.eye(5)[END if ids[0] == 1 else 2])
    options = {"tokenizer": LETTERS, "strip_prompt": True, "max_new_tokens": 3}
    assert model.generate_text(["b", "ca"], **options) == ["", "ccc"]
    with pytest.raises(ArgumentError, match=r"Sequence 0 has ended before step 1 .* Set it"):
        model.generate(np.array([[1], [2]]), max_new_tokens=3)
    with pytest.raises(ArgumentError, match="Sequence 1 has ended before step 1"):
        model.generate(np.array([[2], [1]]), max_new_tokens=3, penalty_alpha=0.0)


OLD = {
    "max_length": 6,
    "repetition_penalty": 1.9,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[1]],
    "min_length": 3,
    "num_beams": 2,
}


def old_config(**content):
    return small_config().from_dict({**small_config().to_dict(), **content})


@pytest.mark.parametrize("names", [[name] for name in OLD] + [list(OLD)], ids=str)
def test_options_in_an_old_configuration_are_used(tmp_path, names):
    content = {name: OLD[name] for name in names}
    read = GenerationConfig.from_folder(tmp_path, old_config(**content))
    assert read.changed() == {"bos_token_id": END, "eos_token_id": END, **content}
    model = Scripted(drawn_table(3))
    model.config = old_config(**content)
    assert continued(model) == plain(**content)
    model.generation_config = read
    assert continued(model) == plain(**content)


def test_a_file_of_its_own_wins_over_an_old_configuration(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"top_k": 3}', encoding="utf-8")
    read = GenerationConfig.from_folder(tmp_path, old_config(**OLD))
    assert read.changed() == {"top_k": 3, "bos_token_id": END, "eos_token_id": END}


def test_fields_of_the_configuration_are_no_options():
    config = old_config(use_cache=False, output_hidden_states=True, output_attentions=True)
    assert GenerationConfig.from_model(config).changed() == {
        "bos_token_id": END,
        "eos_token_id": END,
    }


def test_a_prefix_stands_before_every_prompt_and_is_not_shown():
    model = Scripted(lambda ids: np.eye(5)[(2 * ids[0] + len(ids)) % 4])
    options = {"tokenizer": LETTERS, "max_new_tokens": 3}
    expected = model.generate_text("cab", **options)[2:]
    model.config = old_config(prefix="ca")
    assert model.generate_text("b", **options) == expected
    assert "b" + "".join(model.stream_text("b", **options)) == expected
    assert model.generate_text("b", tokenizer=LETTERS, max_length=4) == expected
    tasks = {"text-generation": {"prefix": "dd"}}
    model.config = old_config(prefix="ca", task_specific_params=tasks)
    assert model.generate_text("b", **options) != expected


@pytest.mark.parametrize(
    "content",
    [
        {"prefix": 5},
        {"task_specific_params": {"text-generation": "long"}},
    ],
    ids=str,
)
def test_a_configuration_of_other_kinds_is_named(content):
    model = Scripted(drawn_table(0))
    model.config = old_config(**content)
    with pytest.raises(ArgumentError, match=f"{next(iter(content))}.* must be"):
        model.generate_text("a", tokenizer=LETTERS)


def test_a_configuration_with_a_list_of_tasks_is_refused():
    with pytest.raises(ConfigError, match=r"task_specific_params must be an object, found \[1\]"):
        old_config(task_specific_params=[1])


def test_the_source_of_each_option_is_known(tmp_path):
    config = old_config(
        top_k=4,
        prefix="a",
        task_specific_params={"text-generation": {"top_p": 0.5, "top_k": 9}},
    )
    end = {"value": END, "from": "config.json"}
    task = "config.json, task_specific_params, for text alone"
    expected = {
        "top_k": {"value": 4, "from": "config.json"},
        "bos_token_id": end,
        "eos_token_id": end,
        "top_p": {"value": 0.5, "from": task},
        "prefix": {"value": "a", "from": "config.json"},
    }
    assert option_sources(tmp_path, config) == expected
    content = {"num_beams": 2, "top_k": None, "eos_token_id": 3, "stranger": 1}
    (tmp_path / "generation_config.json").write_text(json.dumps(content), encoding="utf-8")
    own = "generation_config.json"
    del expected["top_k"]
    expected |= {
        "num_beams": {"value": 2, "from": own},
        "eos_token_id": {"value": 3, "from": own},
        "top_k": {"value": 9, "from": task},
    }
    assert option_sources(tmp_path, config) == expected


VALUES = {
    "do_sample": [True, False, None],
    "temperature": [0, 0.0, 1e-45, 0.7, 1.0, 1e39, None],
    "top_k": [0, 1, 50, None],
    "top_p": [0.0, 1e-300, 0.9, 1, 1.5, None],
    "typical_p": [1.0, 0.5, 2],
    "num_beams": [1, 2, None],
    "num_beam_groups": [1, 2, 3],
    "diversity_penalty": [0.0, 0.5, -1],
    "length_penalty": [1.0, 2, -1.0],
    "early_stopping": [True, False, "never", None],
    "num_return_sequences": [1, 2, 3],
    "penalty_alpha": [None, 0.0, 0.6],
    "repetition_penalty": [1.0, 1.9, None],
    "no_repeat_ngram_size": [0, 2],
    "bad_words_ids": [None, [[1]], [[1, 2], [3]]],
    "max_length": [20, 3, 12, None],
    "max_new_tokens": [None, 4],
    "min_length": [0, 4, None],
    "eos_token_id": [4, 5, -1, 50256, [4, 50256], None],
    "pad_token_id": [None, 0, -1, 5, 50256],
    "bos_token_id": [50256, None],
    "use_cache": [True, False],
    "output_scores": [True, False],
    "transformers_version": ["4.27.0"],
    "_from_model_config": [True],
    "encoder_no_repeat_ngram_size": [0],
    "exponential_decay_length_penalty": [None],
}
SAMPLING = ("temperature", "top_k", "top_p", "typical_p")
BEAMS = ("num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping")
NEVER = ("transformers_version", "_from_model_config", "bos_token_id", "pad_token_id", "stranger")
TRIALS = int(os.environ.get("GPTJ_TRIALS", "150"))


def drawn_file(generator):
    names = [name for name in VALUES if generator.random() < 0.3]
    generator.shuffle(names)
    return {name: VALUES[name][generator.integers(len(VALUES[name]))] for name in names}


def without_effect(content):
    """Return what a greedy or a sampled text does not depend on, worked out from the keys alone."""
    is_greedy = not content.get("do_sample") or content.get("temperature") in (0, 1e-45)
    beams = content.get("num_beams") or 1
    unread = set(NEVER) | {name for name, value in content.items() if value is None}
    if is_greedy:
        unread |= {*SAMPLING, "num_return_sequences"} if beams == 1 else set(SAMPLING)
        if content.get("penalty_alpha") is not None and beams == 1:
            unread -= {"top_k"}
    if content.get("num_return_sequences", 1) > 1:  # some of which may end before others
        unread -= {"pad_token_id"}
    if content.get("do_sample"):
        unread -= {"temperature"}  # which may be what makes it greedy
    return unread if beams > 1 else unread | set(BEAMS)


def result(content, where):
    try:
        if where == "file":
            return continued(with_file(content), [[0, 2, 0]], seed=3)
        model = Scripted(drawn_table(3))
        model.config = old_config(**content)
        return continued(model, [[0, 2, 0]], seed=3)
    except GPTJError as error:
        return str(error)


@pytest.mark.parametrize("where", ["file", "configuration"])
def test_files_drawn_at_random_write_the_text_of_what_has_an_effect(where):
    generator = np.random.Generator(np.random.PCG64(11))
    texts = 0
    for _ in range(TRIALS):
        content = drawn_file(generator)
        if where == "configuration":  # whose own fields these are
            content = {k: v for k, v in content.items() if k not in ("eos_token_id", "use_cache")}
        unread = without_effect(content)
        found = result(content, where)
        read = {name: value for name, value in content.items() if name not in unread}
        assert found == result(read, where), f"{read} of {content}"
        texts += isinstance(found, list)
    assert texts > TRIALS // 2


ODD = ["x", "", [], {}, [[]], -1, 0, 1, 2.5, True, 1e39, float("nan"), 10**400, [1], ["a"], [None]]


def test_odd_values_write_a_text_or_are_an_error_of_the_packages_own():
    generator = np.random.Generator(np.random.PCG64(13))
    names = option_names()
    for _ in range(TRIALS):
        drawn = generator.integers(len(names), size=2)
        content = {names[name]: ODD[generator.integers(len(ODD))] for name in drawn}
        result(content | {"return_dict_in_generate": False}, "file")


def test_do_sample_that_a_models_temperature_makes_greedy_is_said(caplog):
    model = with_file({"temperature": 0.0})
    assert continued(model, do_sample=True) == plain()
    assert caplog.messages == [
        "generate(): do_sample has no effect, as the model's own temperature is 0."
    ]


def test_settling_twice_changes_nothing():
    generator = np.random.Generator(np.random.PCG64(12))
    for _ in range(50):
        first, _ = settled(GenerationConfig.from_dict(drawn_file(generator)), (), 5)
        assert settled(first, (), 5) == (first, [])
