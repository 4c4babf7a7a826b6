"""A prompt has one text per seed, whatever stands beside it and however the batches are cut."""

from itertools import permutations

import pytest

from gptj.generation import finished_sequences
from gptj.model.text_batches import sequence_numbers
from letters import LETTERS
from models import tiny_model

pytestmark = pytest.mark.frameworks

PROMPTS = ("import os", "x", "def f")
SAMPLED = {"do_sample": True, "seed": 7, "temperature": 0.4, "top_k": 0, "max_new_tokens": 6}
WAYS = {
    "compiled": {},
    "reference": {"repetition_penalty": 1.1},
    "several": {"num_return_sequences": 2},
    "beams": {"num_beams": 2, "max_new_tokens": 3},
    "drafts": {"prompt_lookup_num_tokens": 2},
}


@pytest.fixture
def model(backend):
    return tiny_model(backend.name)


def written(model, prompts, **options):
    given = {**SAMPLED, **options}
    return model.generate_text(prompts, tokenizer=LETTERS, strip_prompt=True, **given)


@pytest.mark.parametrize("way", WAYS)
def test_a_sampled_text_is_the_same_alone_and_in_any_batch(model, way):
    alone = {prompt: written(model, prompt, **WAYS[way]) for prompt in PROMPTS}
    assert len(set(map(str, alone.values()))) == len(PROMPTS)
    orders = list(permutations(PROMPTS))[1:4]
    for prompts, size in zip(orders, [1, 8, 2], strict=True):
        found = written(model, list(prompts), batch_size=size, **WAYS[way])
        assert dict(zip(prompts, found, strict=True)) == alone


@pytest.mark.parametrize("way", ["compiled", "several"])
def test_copies_of_a_prompt_have_their_own_texts_whatever_the_batch_size(model, way):
    prompts = ["import os", "x", *["import os"] * 3]
    whole = written(model, prompts, **WAYS[way])
    assert len(set(map(str, whole))) == len(prompts)
    for size in (1, 2, 3):
        assert written(model, prompts, batch_size=size, **WAYS[way]) == whole
    assert whole[0] == written(model, "import os", **WAYS[way])


def test_the_texts_of_one_prompt_are_those_of_its_copies(model):
    copies = written(model, ["import os"] * 3)
    assert written(model, "import os", num_return_sequences=3) == copies


def test_finished_sequences_that_leave_the_batch_change_nothing(model, monkeypatch):
    monkeypatch.setattr(finished_sequences, "FIRST_CAPACITY", 16)
    monkeypatch.setattr(finished_sequences, "MIN_STEPS_LEFT", 2)
    prompts = [*PROMPTS, "a = 1", "while True:", "#", "return x", "[1, 2]"]  # eight, then two
    ends = {"eos_token_id": list(range(40, 50)), "max_new_tokens": 24}
    found = written(model, prompts, **ends)
    assert len(set(map(len, found))) > 3
    assert found == [written(model, prompt, **ends) for prompt in prompts]


def test_a_stream_is_the_text(model):
    pieces = model.stream_text("import os", tokenizer=LETTERS, **SAMPLED)
    assert "".join(pieces) == written(model, ["x", "import os"])[1]


def test_draws_without_a_seed_have_a_number_each():
    encoded = [[1], [2], [1]]
    assert sequence_numbers(encoded, is_seeded=True) == [0, 0, 1]
    assert sequence_numbers(encoded, is_seeded=False) == [0, 1, 2]
