"""From text to text with the model that ships in the package: whole, in batches and in pieces."""

import logging
from functools import cache

import numpy as np
import pytest

import gptj
from gptj.errors import ArgumentError, SequenceTooLong, TokenizerError, UnsupportedFeature
from gptj.generation.options import GenerationConfig
from installed import PLUGGED_IN
from models import DEMO, load, tiny_model
from scripted import END, Pieces, Scripted, saying

pytestmark = pytest.mark.frameworks

PROMPTS = ("def main():", "import", "class Reader:\n    def")
SHORT = {"max_new_tokens": 6}


@pytest.fixture
def model(torch_backend):
    return load(torch_backend.name, DEMO)


@cache
def tokenizer():
    return gptj.load_tokenizer("demo")


def by_tokens(backend, model, prompt, **options):
    """Return a prompt with what generate() writes, put together by hand."""
    ids = tokenizer().encode(prompt)
    found = backend.to_numpy(model.generate([ids], **options))[0, len(ids) :].tolist()
    return prompt + tokenizer().decode(found)


def test_a_text_for_a_text_is_prompt_and_continuation(torch_backend, model):
    found = model.generate_text(PROMPTS[0], **SHORT)
    assert found == by_tokens(torch_backend, model, PROMPTS[0], **SHORT)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_list_for_a_list_has_each_prompt_in_its_place(model, batch_size):
    found = model.generate_text(PROMPTS, batch_size=batch_size, **SHORT)
    assert found == [model.generate_text(prompt, **SHORT) for prompt in PROMPTS]


def test_a_list_of_one_gives_a_list_of_one(model):
    assert model.generate_text([PROMPTS[1]], **SHORT) == [model.generate_text(PROMPTS[1], **SHORT)]


def test_an_empty_list_gives_an_empty_list(model):
    assert model.generate_text([]) == []


def test_the_prompt_may_be_left_out(model):
    whole = model.generate_text(PROMPTS[0], **SHORT)
    assert model.generate_text(PROMPTS[0], strip_prompt=True, **SHORT) == whole[len(PROMPTS[0]) :]


def test_a_prompt_is_returned_as_it_was_given(model):
    prompt = "# caf\u00e9 \U0001f44d\n\n"
    assert model.generate_text(prompt, max_new_tokens=1).startswith(prompt)


def test_several_texts_per_prompt_are_a_list_each(model):
    options = {"do_sample": True, "seed": 2, "num_return_sequences": 3, "top_k": 0, **SHORT}
    found = model.generate_text(PROMPTS[:2], batch_size=1, **options)
    assert [len(texts) for texts in found] == [3, 3]
    assert all(text.startswith(PROMPTS[i]) for i in range(2) for text in found[i])
    assert len(set(found[0])) > 1
    assert model.generate_text(PROMPTS[0], **options) == found[0]


def test_beams_come_as_texts_the_best_first(model):
    options = {"num_beams": 3, **SHORT}
    both = model.generate_text(PROMPTS[0], num_return_sequences=2, **options)
    assert both[0] == model.generate_text(PROMPTS[0], **options)
    assert both[0] != both[1]


@pytest.mark.parametrize("place", [1, 3])
def test_a_text_ends_before_a_stop_string(model, place):
    text = model.generate_text(PROMPTS[0], strip_prompt=True, **SHORT)
    stop = text[place : place + 2]
    found = model.generate_text(PROMPTS[0], strip_prompt=True, stop_strings=[stop, "\0"], **SHORT)
    assert found == text[: text.index(stop)]


def test_the_end_token_is_not_shown(torch_backend, model):
    ids = tokenizer().encode(PROMPTS[0])
    written = torch_backend.to_numpy(model.generate([ids], **SHORT))[0, len(ids) :]
    end = int(written[3])
    kept = written[: written.tolist().index(end)]
    options = {"eos_token_id": end, "strip_prompt": True, **SHORT}
    assert model.generate_text(PROMPTS[0], **options) == tokenizer().decode(kept.tolist())
    del options["strip_prompt"]
    pieces = model.stream_text(PROMPTS[0], **options)
    assert "".join(pieces) == tokenizer().decode(kept.tolist())


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 3, "top_k": 0}], ids=str)
def test_the_pieces_of_a_stream_are_the_text(model, options):
    pieces = list(model.stream_text(PROMPTS[2], **SHORT, **options))
    whole = model.generate_text(PROMPTS[2], strip_prompt=True, **SHORT, **options)
    assert "".join(pieces) == whole
    assert len(pieces) > 1


def test_generate_of_the_package_takes_a_model(model):
    assert gptj.generate(PROMPTS[1], model, **SHORT) == model.generate_text(PROMPTS[1], **SHORT)


def test_generate_of_the_package_takes_a_name(model):
    found = gptj.generate(PROMPTS[:2], "demo", backend="torch", strip_prompt=True, **SHORT)
    assert found == model.generate_text(PROMPTS[:2], strip_prompt=True, **SHORT)


def test_options_may_come_as_a_configuration(model):
    options = GenerationConfig(max_new_tokens=3, suppress_tokens=[198])
    found = model.generate_text(PROMPTS[0], generation_config=options)
    assert found == model.generate_text(PROMPTS[0], max_new_tokens=3, suppress_tokens=[198])
    longer = model.generate_text(PROMPTS[0], generation_config=options, **SHORT)
    assert len(longer) > len(found)


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(ArgumentError, match=r"The prompt is empty\. Give some text, or '<\|endof"):
        model.generate_text("")
    with pytest.raises(ArgumentError, match="The prompt is empty"):
        model.generate_text(["a", ""])


def test_an_error_of_one_of_several_prompts_names_it(model):
    long = "x " * 600
    for prompts, kind, match in (
        ([*PROMPTS, ""], ArgumentError, "Prompt 3: The prompt is empty"),
        (["a", "\ud800", "b"], TokenizerError, "Prompt 1: .* half of a surrogate pair"),
        (["a", long, "b"], SequenceTooLong, r"Prompt 1: .* n_positions"),
        (long, SequenceTooLong, r"^(?!Prompt).* n_positions"),
    ):
        with pytest.raises(kind, match=match):
            model.generate_text(prompts, batch_size=2, **SHORT)


def test_an_unknown_option_suggests_the_nearest(model):
    with pytest.raises(ArgumentError, match=r"no option 'max_tokens'\. Did you mean 'max_new_tok"):
        model.generate_text("a", max_tokens=3)


@pytest.mark.parametrize("method", ["generate_text", "stream_text"])
def test_only_a_language_model_continues_texts(method):
    model = tiny_model(PLUGGED_IN, "base")
    with pytest.raises(UnsupportedFeature, match=r"needs a language-model head; .* is 'base'"):
        getattr(model, method)("a", tokenizer=tokenizer())


def test_an_end_token_may_be_turned_off(model):
    options = {"max_new_tokens": 3, "strip_prompt": True, "sequence_bias": {(50256,): 99.0}}
    assert model.generate_text(PROMPTS[0], **options) == ""
    found = model.generate_text(PROMPTS[0], eos_token_id=None, **options)
    assert found == "<|endoftext|>" * 3


def test_every_backend_writes_the_same_text(framework):
    prompts, options = list(PROMPTS[:2]), {"do_sample": True, "seed": 7, "max_new_tokens": 4}
    found = load(framework.name, DEMO).generate_text(prompts, strip_prompt=True, **options)
    expected = load(PLUGGED_IN, DEMO).generate_text(prompts, strip_prompt=True, **options)
    assert found == expected


BLOCK = {"do_sample": True, "top_k": 1, "max_length": 4, "temperature": 0.5}
LETTERS = Pieces("a", "b", "c", "d", "<end>")


def old_model(block=BLOCK):
    """Return a model whose configuration has options as those of 2021 did."""
    return Scripted(saying([1, 2, 3, 1, 2, 3]), task_specific_params={"text-generation": block})


def test_options_of_an_old_configuration_are_for_text_only():
    model = old_model()
    assert model.generate_text("a", tokenizer=LETTERS) == "abcd"  # four tokens in all
    assert "".join(model.stream_text("a", tokenizer=LETTERS)) == "bcd"
    assert model.generate(np.array([[0]])).tolist() == [[0, 1, 2, 3, 1, 2, 3, END]]


def test_a_length_that_is_given_goes_before_that_of_an_old_configuration():
    model = old_model()
    assert model.generate_text("a", tokenizer=LETTERS, max_new_tokens=5) == "abcdbc"
    assert model.generate_text("a", tokenizer=LETTERS, max_length=3) == "abc"
    model.generation_config = GenerationConfig(max_new_tokens=1)
    assert model.generate_text("a", tokenizer=LETTERS) == "ab"


@pytest.mark.parametrize(
    ("block", "options", "expected"),
    [
        ({"no_repeat_ngram_size": 1}, {}, "abcd"),
        ({"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2}, "aaba"),
        ({"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 0}, "aaaa"),
        ({"do_sample": True, "temperature": 1e9, "seed": 4}, {"do_sample": False}, "aaaa"),
        ({"suppress_tokens": [0]}, {"suppress_tokens": None}, "aaaa"),
    ],
    ids=str,
)
def test_given_options_go_before_those_of_an_old_configuration(block, options, expected):
    old = {"text-generation": {"max_length": 4, **block}}
    model = Scripted(lambda ids: np.array([4.0, 3, 2, 1, 0]), task_specific_params=old)
    assert model.generate_text("a", tokenizer=LETTERS, **options) == expected


def test_an_option_that_an_old_configuration_gives_an_effect_is_not_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "gptj"):
        old_model().generate_text("a", tokenizer=LETTERS, top_p=0.5)
    assert caplog.messages == []


def test_another_task_of_an_old_configuration_is_not_for_generation():
    model = Scripted(saying([1, 2]), task_specific_params={"summarization": {"max_length": 2}})
    assert model.generate_text("a", tokenizer=LETTERS) == "abc"
