"""Question answering: windows cover contexts, and positions lead back to the answer's text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gptj
from corpora import END, tokenizer, write_lines
from gptj.datasets import DataError
from gptj.errors import ArgumentError, SequenceTooLong
from gptj.model.config import GPTJConfig

pytestmark = pytest.mark.neutral

CONTEXT = "Die Brücke über den Fluß wurde 1899 für 🎉 und 日本 gebaut, sagt man."
WORDS = st.lists(
    st.sampled_from(["Brücke", "a", "🎉", "日本語", "1899", "naïve", "👩‍👩‍👧", "it", "x\u0301y"]),
    min_size=1,
    max_size=40,
)


def line(answer=None, context=CONTEXT, question="Where?", start=None):
    """Return a line in SQuAD's form; without an answer if there is none."""
    place = context.find(answer) if answer and start is None else start
    answers = {"text": [answer] if answer else [], "answer_start": [place] if answer else []}
    return {"question": question, "context": context, "answers": answers}


def load(folder, lines, **options):
    path = write_lines(folder / "lines.jsonl", lines)
    given = {"length": 64, "stride": 2, "cache_dir": folder / "cache", **options}
    return gptj.question_dataset(path, tokenizer(), **given)


def positions(example):
    return int(example["start_positions"]), int(example["end_positions"])


def test_examples_by_hand(tmp_path):
    # "Who?" is 8241 30, "Ann met Bob." is 18858 1138 5811 13
    (example,) = load(tmp_path, [line("Bob", "Ann met Bob.", "Who?")], length=8)
    assert example["input_ids"].tolist() == [8241, 30, 18858, 1138, 5811, 13, END, END]
    assert example["attention_mask"].tolist() == [1] * 6 + [0] * 2
    assert positions(example) == (4, 4)
    assert example["start_positions"].dtype == np.int32


@pytest.mark.parametrize("answer", ["Brücke", "den Fluß", "1899", "🎉", "日本", "Die", "man."])
def test_positions_lead_back_to_the_answer(tmp_path, answer):
    dataset = load(tmp_path, [line(answer)])
    assert dataset.answer_text(0, *positions(dataset[0])) == answer


def test_a_part_of_a_token_is_answered_by_the_whole_token(tmp_path):
    dataset = load(tmp_path, [line("ann", "Ann met Hannes.", start=9)])
    assert "ann" in dataset.answer_text(0, *positions(dataset[0]))


@settings(max_examples=40, deadline=None)
@given(WORDS, st.data())
def test_windows_cover_contexts_and_find_every_answer(tmp_path_factory, words, data):
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 2, len(words) - 1)))
    answer, before = " ".join(words[first : last + 1]), " ".join([*words[:first], ""])
    context, length = " ".join(words), data.draw(st.integers(8, 40))
    stride = data.draw(st.integers(0, length - 4))
    folder = tmp_path_factory.mktemp("windows")
    lines = [line(answer, context, start=len(before))]
    dataset = load(folder, lines, length=length, stride=stride)
    expected = tokenizer()(
        "Where?",
        context,
        truncation="only_second",
        max_length=length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    found = [example["input_ids"][example["attention_mask"] == 1].tolist() for example in dataset]
    assert found == expected["input_ids"]
    wanted = spans_of(answer, context, len(before))
    for number, offsets in enumerate(expected["offset_mapping"]):
        place = positions(dataset[number])
        if any(offsets[at : at + len(wanted)] == wanted for at in range(2, len(offsets))):
            assert dataset.answer_text(number, *place) == answer
        else:
            assert place == (length, length)


def spans_of(answer, context, start):
    """Return the characters of every token that holds some of an answer."""
    spans = tokenizer()(context, return_offsets_mapping=True)["offset_mapping"]
    return [span for span in spans if span[1] > start and span[0] < start + len(answer)]


@pytest.mark.parametrize("no_answer, expected", [("ignore", 12), ("first", 0)])
def test_windows_without_the_answer_point_to_one_place(tmp_path, no_answer, expected):
    lines = [line("Die"), line(None)]
    dataset = load(tmp_path, lines, length=12, no_answer=no_answer)
    half = len(dataset) // 2
    assert positions(dataset[0]) == (2, 2)
    assert {positions(dataset[row]) for row in range(1, 2 * half)} == {(expected, expected)}
    assert [dataset.question_of(row) for row in range(2 * half)] == [0] * half + [1] * half
    assert dataset.answer_text(1, expected, expected) == ""


def test_positions_outside_the_context_have_no_text(tmp_path):
    dataset = load(tmp_path, [line("Bob", "Ann met Bob.", "Who?")], length=8)
    assert [dataset.answer_text(0, *place) for place in [(0, 3), (4, 3), (5, 6), (-3, 8)]] == [
        ""
    ] * 4
    assert dataset.answer_text(0, 2, 5) == dataset.answer_text(-1, 2, 5) == "Ann met Bob."


def test_a_question_without_a_word_of_answers_has_no_positions(tmp_path):
    lines = [{"question": "Who?", "context": "Ann."}, {"question": "What?", "context": "Bob."}]
    assert set(load(tmp_path, lines)[0]) == {"input_ids", "attention_mask"}
    with pytest.raises(DataError, match=r"line 2: 'answers' is here, unlike in the lines before"):
        load(tmp_path, [lines[0], line("Die")])


def test_of_several_answers_the_first_is_learned(tmp_path):
    several = line("Die")
    several["answers"] = {"text": ["1899", "Die"], "answer_start": [31, 0]}
    dataset = load(tmp_path, [several])
    assert dataset.answer_text(0, *positions(dataset[0])) == "1899"


def test_a_split_does_not_divide_the_questions_about_one_context(tmp_path):
    lines = [line(context=f"Context {row % 5}.", question=f"Question {row}?") for row in range(15)]
    whole = load(tmp_path, lines)
    train, held = whole.split(0.4, seed=3)
    assert len(train) == 9 and len(held) == 6
    asked = [{part.question_of(row) for row in range(len(part))} for part in (train, held)]
    assert asked[0] | asked[1] == set(range(15))
    assert not {number % 5 for number in asked[0]} & {number % 5 for number in asked[1]}


BAD_ANSWERS = {
    "place": (line("Fluß", start=3), r"'Fluß' does not stand at character 3 .* ' Brü'"),
    "negative": (line("man.", start=-4), "does not stand at character -4"),
    "empty": (line(None) | {"answers": {"text": [""], "answer_start": [0]}}, "the answer '' does"),
    "a string": (line(None) | {"answers": "Die"}, r"must be \{'text': \[...\].*found 'Die'"),
    "lengths": (line(None) | {"answers": {"text": ["Die"], "answer_start": []}}, "one length"),
    "no place": (line(None) | {"answers": {"text": ["Die"]}}, "two lists of one length"),
    "no context": ({"question": "x", "answers": {}}, "there is no field 'context'"),
}


@pytest.mark.parametrize("bad, message", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_is_named_with_its_line(tmp_path, bad, message):
    with pytest.raises(DataError, match=rf"lines\.jsonl, line 2: .*{message}"):
        load(tmp_path, [line("Die"), bad])


def test_a_question_that_leaves_no_room_is_named_with_its_line(tmp_path):
    lines = [line("Die"), line("Die", question="Where is it, and since when has it been there?")]
    with pytest.raises(SequenceTooLong, match=r"lines\.jsonl, line 2: the question has 12 of the"):
        load(tmp_path, lines, length=13)
    short = line(context="Here.", question="Where is it, and since when has it been there?")
    assert len(load(tmp_path, [short], length=14)) == 1  # no second window is needed


def test_arguments_are_checked_before_files():
    with pytest.raises(ArgumentError, match="no_answer must be one of 'ignore', 'first'"):
        gptj.question_dataset("none", length=8, stride=0, no_answer="last")
    with pytest.raises(ArgumentError, match="stride must be from 0 to length - 1 = 7; found 8"):
        gptj.question_dataset("none", length=8, stride=8)
    with pytest.raises(SequenceTooLong, match="n_positions is 64"):
        gptj.question_dataset("none", length=65, config=GPTJConfig(n_positions=64))
