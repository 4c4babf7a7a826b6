"""Text while it is written: whole characters, no sooner and no later than they are there."""

import queue
from threading import Thread

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.generation.streaming import GrowingText, TextIteratorStreamer, TextStreamer
from gptj.generation.text import text_pieces
from scripted import Pieces, Scripted, continued, saying

pytestmark = pytest.mark.neutral

LETTERS = Pieces("a", "b", "c", "d", "<end>")
E_ACUTE = "é".encode()
EURO = "€".encode()
BYTES = Pieces(E_ACUTE[:1], E_ACUTE[1:], EURO[:2], EURO[2:], b"\xa9a" + EURO[:1], b"z", "<end>")


class Lines(TextStreamer):
    """A text streamer that keeps what it is given to write."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.written = []

    def write(self, piece):
        self.written.append(piece)


def fed(streamer, prompt, tokens):
    """Tell a streamer what generate() would; return the streamer."""
    streamer.put(np.array([prompt]))
    for token in tokens:
        streamer.put(np.array([token]))
    streamer.end()
    return streamer


@pytest.mark.parametrize(
    ("skip", "shown"), [(False, ["ab", "c", "d", "\n"]), (True, ["c", "d", "\n"])]
)
def test_a_text_streamer_writes_the_prompt_and_each_token(skip, shown):
    streamer = fed(Lines(LETTERS, skip_prompt=skip), [0, 1], [2, 3])
    assert [piece for piece in streamer.written if piece] == shown


@pytest.mark.parametrize(("skip", "shown"), [(False, "a<end>\n"), (True, "a\n")])
def test_arguments_of_decode_reach_the_tokenizer(skip, shown):
    streamer = fed(Lines(LETTERS, skip_prompt=True, skip_special_tokens=skip), [1], [0, 4])
    assert "".join(streamer.written) == shown


def test_a_text_streamer_writes_to_standard_output(capsys):
    fed(TextStreamer(LETTERS), [0], [1, 2])
    assert capsys.readouterr().out == "abc\n"


def test_a_text_streamer_refuses_several_sequences():
    with pytest.raises(ValueError, match="follows one sequence; found 2"):
        TextStreamer(LETTERS).put(np.array([[0], [1]]))


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        ([0, 1, 5], ["", "é", "z", ""]),
        ([2, 3], ["", "€", ""]),
        ([0, 4, 5], ["", "", "éa\ufffdz", ""]),
        ([0, 1, 0, 1], ["", "é", "", "é", ""]),
        ([5, 0], ["z", "", "\ufffd"]),
        ([0, 5], ["", "\ufffdz", ""]),
        ([], [""]),
    ],
)
def test_a_character_of_several_bytes_comes_whole(tokens, shown):
    text = GrowingText(BYTES)
    assert [*(text.add([token]) for token in tokens), text.rest()] == shown


@pytest.mark.parametrize("seed", range(5))
def test_the_pieces_of_a_text_are_the_text(seed):
    tokens = np.random.Generator(np.random.PCG64(seed)).integers(0, 6, 30).tolist()
    text = GrowingText(BYTES)
    assert "".join([*(text.add([token]) for token in tokens), text.rest()]) == BYTES.decode(tokens)


def test_an_iterator_streamer_yields_the_pieces_from_another_thread():
    streamer = TextIteratorStreamer(LETTERS, skip_prompt=True, timeout=10)
    model, options = Scripted(saying([2, 3, 1])), {"max_new_tokens": 3, "streamer": streamer}
    thread = Thread(target=continued, args=(model,), kwargs=options)
    thread.start()
    found = list(streamer)
    thread.join()
    assert found == ["c", "d", "b"]


def test_an_iterator_streamer_writes_no_empty_pieces_and_no_line_end():
    streamer = fed(TextIteratorStreamer(BYTES), [5], [0, 1, 5])
    assert list(streamer) == ["z", "é", "z"]


def test_an_iterator_streamer_gives_up_after_its_timeout():
    streamer = TextIteratorStreamer(LETTERS, timeout=0.01)
    streamer.put(np.array([[0]]))
    found = iter(streamer)
    assert next(found) == "a"
    with pytest.raises(queue.Empty):
        next(found)


class Witness:
    """A streamer that notes how often the model had been run when it got something."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def put(self, value):
        self.seen.append((value.tolist(), len(self.model.runs)))

    def end(self):
        self.seen.append(("end", len(self.model.runs)))


def test_a_streamer_hears_of_a_token_before_the_next_is_computed():
    model = Scripted(saying([2, 1, 3]))
    witness = Witness(model)
    continued(model, [[0]], streamer=witness, max_new_tokens=3)
    assert witness.seen == [([[0]], 0), ([2], 1), ([1], 2), ([3], 3), ("end", 3)]


def test_stream_text_yields_a_token_before_the_next_is_computed():
    model = Scripted(saying([2, 1, 3]))
    stream = model.stream_text("a", tokenizer=LETTERS, max_new_tokens=3)
    assert [(piece, len(model.runs)) for piece in stream] == [("c", 1), ("b", 2), ("d", 3)]


def test_stream_text_computes_nothing_before_it_is_asked():
    model = Scripted(saying([2, 1, 3]))
    model.stream_text("a", tokenizer=LETTERS)
    assert model.runs == []


@pytest.mark.parametrize("option", ["num_beams", "num_return_sequences"])
def test_stream_text_refuses_several_texts_at_once(option):
    model = Scripted(saying([]))
    with pytest.raises(ArgumentError, match=r"stream_text shows one text while .* generate_text"):
        model.stream_text("a", tokenizer=LETTERS, do_sample=True, **{option: 2})


def test_stream_text_ends_before_the_end_token():
    model = Scripted(saying([2, 1]))
    assert list(model.stream_text("a", tokenizer=LETTERS)) == ["c", "b"]


def streamed(tokens, stops, tokenizer=LETTERS):
    """Return the pieces of a text with stop strings."""
    return list(text_pieces(tokens, tokenizer, stops))


@pytest.mark.parametrize(
    ("tokens", "stops", "shown"),
    [
        ([0, 1, 2], [], ["a", "b", "c"]),
        ([0, 1, 2, 3], ["bc"], ["a"]),
        ([0, 1, 3, 2], ["bc"], ["a", "bd", "c"]),
        ([0, 1], ["bc"], ["a", "b"]),
        ([0, 0, 0, 1], ["aab"], ["a"]),
        ([0, 0, 3], ["aab"], ["aad"]),
        ([0, 1, 2, 3], ["abd", "c"], ["ab"]),
        ([0], ["a"], []),
        ([], ["a"], []),
    ],
)
def test_the_beginning_of_a_stop_string_is_held_back(tokens, stops, shown):
    assert streamed(tokens, stops) == shown


def test_a_stop_string_inside_a_token_cuts_the_token():
    assert streamed([0, 1], ["y"], Pieces("a", "xyz", "<end>")) == ["a", "x"]


def test_a_stop_string_may_be_a_character_of_several_bytes():
    assert streamed([5, 0, 1, 5], ["é"], BYTES) == ["z"]


def test_half_a_character_at_the_end_is_shown_as_such():
    assert streamed([5, 0], [], BYTES) == ["z", "\ufffd"]


@pytest.mark.parametrize("seed", range(20))
def test_stream_text_and_generate_text_write_the_same(seed):
    # over a, b, c, d: stop strings begin often, and sometimes they are completed
    tokens = np.random.Generator(np.random.PCG64(seed)).integers(0, 3, 20).tolist()
    options = {"tokenizer": LETTERS, "stop_strings": ["abc", "cc", "aaaa"], "max_new_tokens": 20}
    text = "".join(LETTERS.pieces[token].decode() for token in tokens)
    expected = text[: min(len(text), *(text.find(s) % 99 for s in ("abc", "cc", "aaaa")))]
    model = Scripted(saying(tokens))
    assert "".join(model.stream_text("a", **options)) == expected
    assert model.generate_text("a", strip_prompt=True, **options) == expected
