"""What evaluation harnesses ask, on every backend: held against the oracle's own log-softmax."""

import numpy as np
import pytest

from gptj.errors import ArgumentError, InputError, SequenceTooLong
from gptj.integrations.harness_requests import HarnessRequests
from letters import LETTERS, PREFIX, letters_tokenizer
from models import tiny_model
from score_cases import CONTEXT, END, LONG, expected, in_windows, log_softmax

pytestmark = pytest.mark.frameworks

LONG_TEXT = LETTERS.decode(LONG)
SETTINGS = {"batch_size": 2, "max_length": CONTEXT, "max_gen_toks": 8, "seed": 1234}


def requests(backend, **changes):
    """Return the tiny model as it answers requests."""
    tokenizer = letters_tokenizer()
    return HarnessRequests(tiny_model(backend.name), tokenizer, **{**SETTINGS, **changes})


def likelihoods(backend, *pairs, **changes):
    """Return the answers for pairs of context and continuation."""
    found = dict(requests(backend, **changes).log_likelihoods(pairs))
    return [found[index] for index in range(len(pairs))]


def written(backend, *given, **changes):
    """Return the continuations of contexts with options."""
    found = dict(requests(backend, **changes).continuations(given))
    return [found[index] for index in range(len(given))]


def greedy(ids, count):
    """Return what the oracle finds likeliest after some tokens, one by one."""
    for _ in range(count):
        ids = [*ids, int(log_softmax(ids)[-1].argmax())]
    return ids[-count:]


def test_a_continuation_has_the_oracles_log_probability_in_every_place(backend):
    pairs = [("def f(", "x):"), ("a", "b"), ("import numpy", " as np"), ("xyz", "!")]
    for (context, added), (found, _) in zip(pairs, likelihoods(backend, *pairs), strict=True):
        ids = LETTERS.encode(context + added)
        assert found == pytest.approx(sum(expected(ids, len(context))), abs=1e-3)


def test_what_greedy_decoding_gives_is_called_so(backend):
    likeliest = LETTERS.decode(greedy(LETTERS.encode("abc"), 3))
    other = "a" if likeliest[-1] != "a" else "b"
    answers = likelihoods(backend, ("abc", likeliest), ("abc", likeliest[:-1] + other))
    assert [is_greedy for _, is_greedy in answers] == [True, False]


def test_an_empty_context_is_the_prefix_token_which_no_text_has_twice(backend):
    ids = [END, *LETTERS.encode("os")]
    plain, prefixed = likelihoods(backend, ("", "os"), ("", f"{PREFIX}os"))
    assert plain[0] == pytest.approx(sum(expected(ids)), abs=1e-3)
    assert prefixed == pytest.approx(plain)


def test_blanks_at_the_end_of_a_context_belong_to_what_follows(backend):
    ids = LETTERS.encode("ab  c")
    before, after = likelihoods(backend, ("ab  ", "c"), ("ab", "  c"))
    assert before == pytest.approx(after)
    assert before[0] == pytest.approx(sum(expected(ids, 2)), abs=1e-3)


def test_a_context_of_blanks_alone_is_the_prefix_token_and_they_follow_it(backend):
    ((found, _),) = likelihoods(backend, ("  ", "c"))
    assert found == pytest.approx(sum(expected([END, *LETTERS.encode("  c")])), abs=1e-3)


def test_a_long_context_loses_its_first_tokens_and_a_warning_says_so(backend, caplog):
    ((found, _),) = likelihoods(backend, (LONG_TEXT, "(x)"))
    ids = [*LONG, *LETTERS.encode("(x)")][-CONTEXT - 1 :]
    assert found == pytest.approx(sum(expected(ids, CONTEXT - 2)), abs=1e-3)
    assert f"1 of 1 requests have more than {CONTEXT + 1} tokens" in caplog.text


def test_a_smaller_max_length_reads_less(backend):
    ((found, _),) = likelihoods(backend, ("abcdefgh", "ij"), max_length=4)
    assert found == pytest.approx(sum(expected(LETTERS.encode("fghij"), 3)), abs=1e-3)


def test_a_continuation_that_does_not_fit_is_refused(backend):
    with pytest.raises(SequenceTooLong, match=r"continuation of request 0 has 150 tokens.*max_len"):
        likelihoods(backend, ("a", LONG_TEXT))


def test_the_prefix_token_alone_cannot_be_scored(backend):
    with pytest.raises(InputError, match=r"Request 1 has no context.*nothing to score"):
        likelihoods(backend, ("a", "b"), ("", PREFIX))


@pytest.mark.parametrize("length", [CONTEXT, 20])
def test_a_whole_text_is_scored_in_windows_that_do_not_overlap(backend, length):
    found = dict(
        requests(backend, max_length=length).rolling_log_likelihoods(["abc", "", LONG_TEXT])
    )
    assert found[0] == pytest.approx(sum(expected([END, *LETTERS.encode("abc")])), abs=1e-3)
    assert found[1] == 0
    windows = {CONTEXT: lambda ids: in_windows(ids, CONTEXT), 20: short_windows}[length]
    assert found[2] == pytest.approx(sum(windows([END, *LONG])), abs=1e-2)


def short_windows(ids):
    """Return the oracle's log-probabilities in windows of 20 tokens, the last one a full one."""
    found = expected(ids[:21])
    for first in range(21, len(ids), 20):
        stop = min(first + 20, len(ids))
        found += expected(ids[stop - 21 : stop], 21 - (stop - first))
    return found


def test_a_text_continues_greedily_up_to_the_first_of_its_stop_strings(backend):
    whole = LETTERS.decode(greedy(LETTERS.encode("def "), 8))
    free, stopped, short = written(
        backend,
        ("def ", {"until": []}),
        ("def ", {"until": ["", whole[3:5]]}),
        ("def ", {"until": "\n", "max_new_tokens": 2}),
    )
    assert free == whole.split("<end>")[0]
    assert stopped == whole[: whole.index(whole[3:5])]
    assert short == whole[:2]


def test_a_long_context_of_a_text_leaves_room_for_what_is_written(backend, caplog):
    (found,) = written(backend, (LONG_TEXT, {"max_gen_toks": 4}))
    assert found == LETTERS.decode(greedy(LONG[-CONTEXT + 4 :], 4)).split("<end>")[0]
    assert f"1 of 1 requests have more than {CONTEXT - 4} tokens" in caplog.text


def test_an_empty_context_of_a_text_is_the_prefix_token(backend):
    (found,) = written(backend, ("", {"max_gen_toks": 4}))
    assert found == LETTERS.decode(greedy([END], 4)).split("<end>")[0]


def test_samples_are_repeatable_and_copies_of_a_request_differ(backend):
    given = ("abc", {"do_sample": True, "temperature": 1.5, "max_gen_toks": 8})
    first, second, other = written(backend, given, given, ("xy", given[1]))
    assert first != second
    assert written(backend, ("xy", given[1]), given, given, batch_size=3) == [other, first, second]
    assert written(backend, given, seed=5) != [first]


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {"do_sample": False}),
        ({"temperature": 0.0}, {"do_sample": False}),
        ({"temperature": 0.7}, {"do_sample": True, "temperature": 0.7, "seed": 1234}),
        ({"do_sample": False, "temperature": 0.7}, {"do_sample": False}),
        ({"do_sample": True}, {"do_sample": True, "seed": 1234}),
        ({"do_sample": False, "num_beams": 2}, {"do_sample": False, "num_beams": 2}),
    ],
    ids=str,
)
def test_a_task_samples_where_it_says_so_or_has_a_temperature(backend, given, options):
    complete = {"max_new_tokens": 8, "stop_strings": None, **options}
    assert requests(backend).generation_options(given) == complete


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_length": 9}, "tasks say max_gen_toks"),
        ({"max_gen_toks": CONTEXT}, f"no room for max_gen_toks = {CONTEXT}"),
        ({"top_pp": 0.5}, "top_pp"),
        ({"num_return_sequences": 2}, "leave out num_return_sequences"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_honoured_is_refused_by_its_name(backend, given, message):
    with pytest.raises(ArgumentError, match=message):
        written(backend, ("abc", given))


def test_no_request_has_no_answer(backend):
    assert likelihoods(backend) == []
    assert written(backend) == []
    assert np.sum(list(requests(backend).rolling_log_likelihoods([]))) == 0
