"""Guessed tokens: they change how often the model is run, and never what it writes."""

from itertools import pairwise

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.generation.assisted import PromptLookup
from models import tiny_model
from scripted import END, VOCAB, Scripted, continued, drawn_table, saying

pytestmark = pytest.mark.neutral


def counting(text):
    """Logits that go on counting 0, 1, 2, 0, 1, 2 ..."""
    return np.where(np.arange(VOCAB) == (text[-1] + 1) % 3, 4.0, 0.0)


@pytest.mark.parametrize(
    ("text", "count", "longest", "expected"),
    [
        ([1, 2, 3, 1, 2], 3, 2, [3, 1, 2]),
        ([1, 2, 3, 1, 2], 1, 2, [3]),
        ([1, 2, 3, 2, 4, 1, 2], 2, 2, [3, 2]),
        ([0, 2, 3, 1, 2, 4, 1, 2], 2, 2, [4, 1]),
        ([0, 2, 3, 1, 2, 4, 1, 2], 2, 1, [3, 1]),
        ([1, 2, 3], 3, 2, []),
        ([3, 3], 3, 2, [3]),
        ([3, 3, 3], 3, 2, [3]),
        ([3], 3, 2, []),
        ([], 3, 2, []),
    ],
)
def test_what_followed_the_longest_end_before_is_drafted(text, count, longest, expected):
    ids = np.array([text], np.int64)
    assert PromptLookup(count, longest)(ids, 9).tolist() == [expected]


def test_no_more_is_drafted_than_may_be_written():
    assert PromptLookup(3, 2)(np.array([[1, 2, 3, 1, 2]]), 2).tolist() == [[3, 1]]
    assert PromptLookup(3, 2)(np.array([[1, 2, 3, 1, 2]]), 0).shape == (1, 0)


def test_all_sequences_draft_as_many_tokens_as_the_shortest():
    ids = np.array([[1, 2, 3, 1, 2], [0, 4, 3, 3, 3]])
    assert PromptLookup(3, 2)(ids, 9).tolist() == [[3], [3]]


def test_right_drafts_from_the_text_save_runs():
    model = Scripted(counting)
    options = {"max_new_tokens": 6, "prompt_lookup_num_tokens": 3}
    assert continued(model, [[0, 1, 2, 0]], **options) == [[1, 2, 0, 1, 2, 0]]
    # 1, 2, 0 are drafted, and 1 follows; then 2 is drafted, and 0 follows
    assert model.runs == [(1, 4 + 3), (1, 1 + 1)]


def test_right_drafts_of_an_assistant_save_runs():
    model, assistant = Scripted(drawn_table(1)), Scripted(drawn_table(1))
    options = {"max_new_tokens": 10, "eos_token_id": None}
    found = continued(model, assistant_model=assistant, num_assistant_tokens=4, **options)
    assert model.runs == [(1, 1 + 4), (1, 1 + 4)]
    assert found == continued(Scripted(drawn_table(1)), **options)


def test_wrong_drafts_cost_no_more_runs_than_no_drafts():
    model = Scripted(saying([0, 1, 2, 3]))
    assistant = Scripted(lambda text: np.eye(VOCAB)[(len(text) + 1) % 4])
    options = {"max_new_tokens": 4, "num_assistant_tokens": 2}
    assert continued(model, assistant_model=assistant, **options) == [[0, 1, 2, 3]]
    assert len(model.runs) == 4


def test_an_assistant_forgets_its_wrong_drafts():
    def careful(text):  # wrong once, and lost in any text that does not count
        counts = all((after - before) % 3 == 1 for before, after in pairwise(text))
        return counting(text) if counts and len(text) != 2 else np.eye(VOCAB)[END]

    model, options = Scripted(counting), {"max_new_tokens": 9, "num_assistant_tokens": 3}
    found = continued(model, assistant_model=Scripted(careful), **options)
    assert found == [[1, 2, 0, 1, 2, 0, 1, 2, 0]]
    assert len(model.runs) == 3  # 2 tokens with the wrong draft, then 4, then 3


def half_right(seed):
    """Return logits of an assistant that agrees with `drawn_table` on about half of the texts."""
    right, wrong = drawn_table(seed), drawn_table(seed + 100)
    return lambda text: (right if sum(text) % 2 else wrong)(text)


MODES = {
    "greedy": {},
    "sampled": {"do_sample": True, "top_k": 0, "seed": 3},
    "filtered": {"do_sample": True, "top_k": 3, "top_p": 0.8, "temperature": 1.5, "seed": 4},
    "processed": {"repetition_penalty": 1.5, "min_length": 6, "no_repeat_ngram_size": 2},
    "several texts": {"do_sample": True, "seed": 5, "num_return_sequences": 3},
    "without end": {"eos_token_id": None},
    "without cache": {"use_cache": False},
    "forced end": {"forced_eos_token_id": 1},
}
PROMPTS = ([[2, 1, 2, 1]], [[2, 1, 2, 1], [0, 3, 0, 3], [1, 1, 1, 1]])


@pytest.mark.parametrize("ids", PROMPTS, ids=["one", "three"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drafter", ["text", "assistant"])
def test_drafts_do_not_change_the_text(drafter, mode, ids):
    for seed in range(3):
        options = {"max_new_tokens": 12, "pad_token_id": 0, **MODES[mode]}
        expected = continued(Scripted(drawn_table(seed)), ids, **options)
        if drafter == "text":
            options["prompt_lookup_num_tokens"] = 3
        else:
            options["assistant_model"] = Scripted(half_right(seed))
        assert continued(Scripted(drawn_table(seed)), ids, **options) == expected


def test_drafts_do_not_change_the_text_of_padded_prompts():
    ids, mask = np.array([[0, 0, 2, 1], [3, 1, 3, 1]]), np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    options = {"max_new_tokens": 8, "pad_token_id": 0}
    expected = Scripted(drawn_table(2)).generate(ids, mask, **options).tolist()
    for drafter in (
        {"assistant_model": Scripted(half_right(2))},
        {"prompt_lookup_num_tokens": 2},
    ):
        found = Scripted(drawn_table(2)).generate(ids, mask, **options, **drafter)
        assert found.tolist() == expected


def test_drafts_do_not_change_a_text_longer_than_the_context():
    options = {"max_new_tokens": 30, "truncation": "sliding_window", "eos_token_id": None}
    expected = continued(Scripted(drawn_table(3), n_positions=12), [[2, 1]], **options)
    for drafter in (
        {"assistant_model": Scripted(half_right(3), n_positions=12)},
        {"prompt_lookup_num_tokens": 3},
    ):
        model = Scripted(drawn_table(3), n_positions=12)
        assert continued(model, [[2, 1]], **options, **drafter) == expected


def test_drafts_do_not_change_the_text_of_a_real_model():
    model, ids = tiny_model("oracle"), np.array([[7, 8, 9, 7, 8]])
    options = {"max_new_tokens": 12, "eos_token_id": None}
    expected = model.generate(ids, **options)
    looked_up = model.generate(ids, prompt_lookup_num_tokens=3, **options)
    assisted = model.generate(ids, assistant_model=tiny_model("oracle"), **options)
    np.testing.assert_array_equal(looked_up, expected)
    np.testing.assert_array_equal(assisted, expected)


def test_a_text_ends_where_a_draft_token_is_the_end():
    model, assistant = Scripted(saying([1, 2])), Scripted(saying([1, 2]))
    options = {"max_new_tokens": 9, "num_assistant_tokens": 5}
    assert continued(model, assistant_model=assistant, **options) == [[1, 2, END]]


def test_every_step_has_scores():
    model, assistant = Scripted(drawn_table(1)), Scripted(half_right(1))
    options = {"max_new_tokens": 7, "eos_token_id": None, "output_scores": True}
    options |= {"return_dict_in_generate": True}
    plain, assisted = (
        model.generate(np.array([[2]]), **options, **more)
        for more in ({}, {"assistant_model": assistant})
    )
    np.testing.assert_array_equal(assisted.scores, plain.scores)


class Steps:
    """A streamer that remembers."""

    def __init__(self):
        self.seen = []

    def put(self, value):
        self.seen.append(value.tolist())

    def end(self):
        self.seen.append("end")


def test_a_streamer_hears_of_draft_tokens_one_by_one():
    streamer, assistant = Steps(), Scripted(saying([1, 2, 3]))
    options = {"assistant_model": assistant, "streamer": streamer, "max_new_tokens": 3}
    continued(Scripted(saying([1, 2, 3])), **options)
    assert streamer.seen == [[[0]], [1], [2], [3], "end"]


def test_an_assistant_of_another_vocabulary_is_refused():
    with pytest.raises(ArgumentError, match="assistant_model has 6 tokens, the model 5: they must"):
        continued(Scripted(counting), assistant_model=Scripted(counting, vocab=6))


class Elsewhere(Scripted):
    """A model of another backend."""

    backend_name = "elsewhere"


@pytest.mark.parametrize("assistant", [Elsewhere(counting), "distil"], ids=["model", "name"])
def test_an_assistant_of_another_backend_is_refused(assistant):
    expected = f"of the same backend, 'oracle'; found {type(assistant).__name__}"
    with pytest.raises(ArgumentError, match=expected):
        continued(Scripted(counting), assistant_model=assistant)


def test_an_assistant_needs_tokens():
    model = tiny_model("oracle")
    embeds = np.zeros((1, 2, model.config.n_embd), np.float32)
    with pytest.raises(ArgumentError, match="assistant_model needs input_ids, not inputs_embeds"):
        model.generate(inputs_embeds=embeds, assistant_model=model, max_new_tokens=2)


@pytest.mark.parametrize("mode", [{"num_beams": 2}, {"penalty_alpha": 0.5}], ids=str)
def test_an_assistant_and_another_search_exclude_each_other(mode):
    with pytest.raises(ArgumentError, match="assistant_model"):
        continued(Scripted(counting), assistant_model=Scripted(counting), top_k=2, **mode)
