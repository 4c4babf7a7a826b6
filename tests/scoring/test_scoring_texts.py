"""What is scored of a text: windows, passes, continuations, and refusals."""

import json
import math

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gptj.errors import (
    ArgumentError,
    InputError,
    SequenceTooLong,
    TokenOutOfRange,
)
from gptj.scoring import windows as cutting
from gptj.scoring.perplexity import Score
from gptj.scoring.score_requests import ScoreRequest
from gptj.scoring.token_log_probs import log_probs
from gptj.tokenizer import GPTJTokenizer
from models import tiny_model
from score_cases import CONTEXT, END, IDS, LONG, expected, in_windows, watch
from tolerances import assert_close

pytestmark = pytest.mark.neutral


@pytest.fixture
def words():
    """A tokenizer of 96 tokens: letters, a blank, and a few words that start with one."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ", "Ċ"]
    merges = [("Ġ", "a"), ("Ġa", "b"), ("a", "b"), ("Ġ", "c")]
    tokens = [*letters, *("".join(pair) for pair in merges)]
    tokens += [f"unused{number}" for number in range(END - len(tokens))] + ["<|endoftext|>"]
    bpe = Tokenizer(models.BPE({token: id_ for id_, token in enumerate(tokens)}, merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return GPTJTokenizer(bpe)


@pytest.mark.parametrize("batch", [1, 3, 8, 32])
@pytest.mark.parametrize(("width", "scored"), [(2048, 2048), (2048, 4), (100, 33), (1, 1)])
def test_the_logits_of_a_pass_stay_under_their_limit(batch, width, scored):
    found = list(cutting.passes(width, scored, batch, 50400))
    assert [now.start for now in found] == [0, *(now.stop for now in found[:-1])]
    assert found[-1].stop == width
    assert all(batch * now.keep * 50400 * 4 <= 2**27 for now in found)
    kept = {place for now in found for place in range(now.stop - now.keep, now.stop)}
    assert kept >= set(range(width - scored, width))
    assert all(now.keep >= 1 for now in found)


def test_every_text_may_have_continuations_of_its_own():
    model = tiny_model("oracle")
    alike = model.score([IDS[:4], IDS[4:7]], continuations=[IDS[8:9], IDS[9:11]])
    own = model.score([IDS[:4], IDS[4:7]], continuations=[[IDS[8:9]], [IDS[8:9], IDS[9:11]]])
    assert [len(scores) for scores in alike] == [2, 2]
    assert own == [alike[0][:1], alike[1]]
    np.testing.assert_allclose(alike[1][1].logprobs, expected(IDS[4:7] + IDS[9:11], 3), atol=1e-4)


def test_blanks_at_the_end_of_a_text_go_over_to_its_continuation(words):
    model = tiny_model("oracle")
    apart = model.score("cab ", continuations=["ab"], tokenizer=words)[0]
    joined = model.score("cab", continuations=[" ab"], tokenizer=words)[0]
    assert apart.tokens == joined.tokens == ("Ġab",)
    assert apart.logprobs == joined.logprobs
    assert (apart.text, apart.byte_count) == ("ab", 2)
    ids = words.encode("cab ab")
    assert_close(joined.logprobs, expected(ids, len(ids) - 1), "float32", "continuation")


def test_a_token_across_the_border_is_scored_and_not_lost(words):
    found = tiny_model("oracle").score("ca", continuations=["b"], tokenizer=words)[0]
    assert found.tokens == ("ab",)
    assert_close(found.logprobs, expected(words.encode("cab"), 1), "float32", "continuation")


def test_a_continuation_may_follow_nothing_but_the_start(words):
    found = tiny_model("oracle").score("", continuations=["cab"], tokenizer=words, bos=True)[0]
    assert_close(found.logprobs, expected([END, *words.encode("cab")]), "float32", "continuation")


def test_a_continuation_of_a_long_text_sees_its_end():
    found = tiny_model("oracle").score(LONG[:140], continuations=[LONG[140:143]], stride=8)[0]
    assert_close(found.logprobs, in_windows(LONG[:143], 8, first=140), "float32", "in windows")


@pytest.mark.parametrize("length", [3, 11, 12, 40, 41, 100])
@pytest.mark.parametrize("stride", [1, 4, 10])
def test_windows_score_every_token_once_with_enough_before_it(length, stride):
    request = ScoreRequest("", tuple(range(length)), 2, 0)
    scored = []
    for window in cutting.windows([request], 10, stride):
        assert len(window.ids) <= 11
        for place in range(len(window.ids) - window.scored, len(window.ids)):
            scored.append(window.ids[place])
            assert place >= min(window.ids[place], 10 - stride + 1)
    assert scored == list(range(2, length))


def test_a_stride_changes_nothing_for_a_text_that_fits():
    model, fits = tiny_model("oracle"), LONG[: CONTEXT + 1]
    assert model.score(fits, stride=5) == model.score(fits)
    assert_close(model.score(fits).logprobs, expected(fits))


def test_of_equal_logits_the_lower_id_is_the_likeliest():
    found, greedy = log_probs(np.zeros((2, 4), np.float32), np.array([0, 3]))
    np.testing.assert_allclose(found, [-math.log(4)] * 2)
    assert greedy.tolist() == [True, False]


def test_logits_of_any_size_have_log_probabilities():
    found, _ = log_probs(np.array([[1e30, -1e30], [1e4, 1e4]], np.float32), np.array([0, 1]))
    np.testing.assert_allclose(found, [0.0, -math.log(2)])


def test_the_tokenizer_is_that_of_the_folder_which_the_model_came_from(
    words, tmp_path, monkeypatch
):
    words.save_pretrained(tmp_path)
    model = tiny_model("oracle")
    monkeypatch.setattr(model, "source_folder", tmp_path, raising=False)
    assert model.score("cab ab").tokens == ("ab", "Ġab")


def test_bytes_are_those_of_what_was_scored(words):
    model = tiny_model("oracle")
    assert model.score("cab ab", tokenizer=words).byte_count == 5
    assert model.score("cab ab", tokenizer=words, bos=True).byte_count == 6
    assert model.score(words.encode("cab ab"), tokenizer=words).byte_count == 5
    assert model.score("cab", continuations=[" ab"], tokenizer=words)[0].byte_count == 3


def scored(*logprobs):
    """Return a score with these log-probabilities and nothing of interest besides."""
    return Score("ab", (1,) * len(logprobs), ("a",) * len(logprobs), logprobs, False, 4)


def test_a_score_follows_from_its_log_probabilities():
    score = scored(-1.0, -2.0)
    assert (score.total, score.mean, score.per_byte) == (-3.0, -1.5, -0.75)
    assert score.perplexity == pytest.approx(math.exp(1.5))


def test_a_perplexity_beyond_all_numbers_is_infinite_and_none_in_json():
    score = scored(-1e4, -1e4)
    assert score.perplexity == math.inf
    content = json.loads(json.dumps(score.to_dict(), allow_nan=False))
    assert (content["perplexity"], content["total"]) == (None, -2e4)


WRONG = {
    "empty text": ((["ca", ""],), {}, InputError, r"Text 1 is empty"),
    "no ids": (([],), {}, InputError, r"Text 0 is empty"),
    "one token": (("a",), {}, InputError, r"a single token, 'a'.*bos=True"),
    "no text": ((7,), {}, ArgumentError, r"texts must be a string, a list.*found 7"),
    "half a text": ((["a", 2.5],), {}, ArgumentError, r"number 1 is 2\.5"),
    "empty continuation": (("ab",), {"continuations": ["c", ""]}, InputError, r"text 0 is empty"),
    "nothing to continue": ((" ",), {"continuations": ["c"]}, InputError, r"something to continue"),
    "one continuation": (("ab",), {"continuations": "c"}, ArgumentError, r"must be a list.*'c'"),
    "no continuations": (("ab",), {"continuations": []}, ArgumentError, r"must be a list"),
    "a list of ids alone": (("ab",), {"continuations": [1, 2]}, ArgumentError, r"must be a list"),
    "list and string": (("ab",), {"continuations": [["c"], "a"]}, ArgumentError, r"must be a list"),
    "lists": (
        (["ab", "c"],),
        {"continuations": [["a"], ["b"], ["c"]]},
        ArgumentError,
        r"3 lists for 2 texts",
    ),
    "mixed": (("ab",), {"continuations": [[1]]}, ArgumentError, r"strings, or token ids, alike"),
    "other vocabulary": (([[5, 96]],), {}, TokenOutOfRange, r"id 96; .* has 0 to 95"),
    "negative id": (([[5, -1]],), {}, TokenOutOfRange, r"id -1"),
    "too long": ((LONG,), {}, SequenceTooLong, r"150 tokens.*n_positions = 64.*stride=32"),
    "batch size": (("ab",), {"batch_size": 0}, ArgumentError, r"batch_size must be 1 or more"),
    "stride 0": (("ab",), {"stride": 0}, ArgumentError, r"stride must be None or 1 to .* = 64"),
    "stride 65": (("ab",), {"stride": 65}, ArgumentError, r"found 65"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_come_before_any_kernel(wrong, words, monkeypatch):
    from gptj_oracle import BACKEND

    shapes = watch(monkeypatch, BACKEND)
    arguments, options, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        tiny_model("oracle").score(*arguments, tokenizer=words, **options)
    assert shapes == []


def test_bos_needs_a_token_in_the_configuration():
    with pytest.raises(ArgumentError, match="bos_token_id is None"):
        tiny_model("oracle", bos_token_id=None).score([1, 2], bos=True)
