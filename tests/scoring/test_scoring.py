"""model.score: held against the oracle's own log-softmax, on every backend."""

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
    UnsupportedFeature,
)
from gptj.scoring import windows as cutting
from gptj.scoring.perplexity import Score
from gptj.scoring.score_requests import ScoreRequest
from gptj.scoring.token_log_probs import log_probs
from gptj.tokenizer import GPTJTokenizer
from models import draw_ids, oracle, run, tiny_config, tiny_model
from tolerances import assert_close

IDS = draw_ids((60,), seed=31).tolist()
LONG = draw_ids((150,), seed=32).tolist()
CONTEXT = tiny_config().n_positions
END = tiny_config().bos_token_id


def log_softmax(ids):
    """Return the oracle's log-probabilities of every next token, (T, V), in float64."""
    logits = np.asarray(oracle(input_ids=np.array([ids])).logits[0], np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def expected(ids, first=1):
    """Return the oracle's log-probabilities of ids[first:], each given all before it."""
    every = log_softmax(ids[:-1])
    return [every[place - 1, ids[place]] for place in range(first, len(ids))]


def watch(monkeypatch, backend):
    """Return a list that gets the shape of the logits of every forward pass."""
    shapes, forward = [], backend.forward

    def watched(model, **inputs):
        output = forward(model, **inputs)
        shapes.append(tuple(output.logits.shape))
        return output

    monkeypatch.setattr(backend, "forward", watched, raising=False)
    return shapes


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


def test_every_token_but_the_first_has_the_oracles_log_probability(backend):
    found = tiny_model(backend.name).score(IDS[:20])
    assert found.token_ids == tuple(IDS[1:20])
    assert len(found.tokens) == len(found.logprobs) == 19
    assert_close(found.logprobs, expected(IDS[:20]), "float32", "log-probabilities")
    assert found.total == pytest.approx(sum(expected(IDS[:20])), abs=1e-3)
    assert found.mean == pytest.approx(found.total / 19)


def test_bos_scores_the_first_token_too(backend):
    found = tiny_model(backend.name).score(IDS[:15], bos=True)
    assert found.token_ids == tuple(IDS[:15])
    assert_close(found.logprobs, expected([END, *IDS[:15]]), "float32", "log-probabilities")


def test_a_text_in_a_batch_has_the_scores_that_it_has_alone(backend):
    model = tiny_model(backend.name)
    texts = [IDS[:length] for length in (9, 7, 30, 20, 6)]
    together = model.score(texts, batch_size=3)
    assert [len(score.logprobs) for score in together] == [8, 6, 29, 19, 5]
    for text, score in zip(texts, together, strict=True):
        assert_close(score.logprobs, expected(text), "float32", "in a batch")
    for text, score in list(zip(texts, together, strict=True))[2:]:
        assert_close(score.logprobs, model.score(text).logprobs, "float32", "alone")


def test_a_text_longer_than_a_pass_has_the_same_scores(backend, monkeypatch):
    monkeypatch.setattr(cutting, "LOGITS_BYTES", 16 * 2 * 96 * 4)
    monkeypatch.setattr(cutting, "TOKENS_AT_ONCE", 16)
    shapes = watch(monkeypatch, backend)
    long, short = tiny_model(backend.name).score([IDS, IDS[:25]])
    assert len(shapes) == 4
    assert {shape[:2] for shape in shapes} == {(2, 16)}
    assert_close(long.logprobs, expected(IDS), "float32", "in four passes")
    assert_close(short.logprobs, expected(IDS[:25]), "float32", "in two of them")


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


def test_perplexity_is_that_of_the_models_own_loss(backend):
    model = tiny_model(backend.name)
    ids = np.array([IDS[:20]])
    loss = float(run(backend, model, input_ids=ids, labels=ids).loss)
    assert model.score(IDS[:20]).perplexity == pytest.approx(math.exp(loss), rel=1e-4)


def test_a_continuation_has_what_it_adds_to_the_total(backend, monkeypatch):
    shapes = watch(monkeypatch, backend)
    choices = [IDS[50:53], IDS[53:54], IDS[54:58]]
    found = tiny_model(backend.name).score(IDS[:20], continuations=choices)
    for choice, score in zip(choices, found, strict=True):
        added = sum(expected(IDS[:20] + choice)) - sum(expected(IDS[:20]))
        assert score.token_ids == tuple(choice)
        assert score.total == pytest.approx(added, abs=1e-3)
    assert [shape[:2] for shape in shapes] == [(3, 8)]  # logits of the continuations alone


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


def in_windows(ids, stride, first=1):
    """Return the oracle's log-probabilities of ids[first:], window by window."""
    found = []
    while first < len(ids):
        end = max(CONTEXT + 1, first + stride)
        window = ids[:end][-CONTEXT - 1 :]
        found += expected(window, len(window) - len(ids[first:end]))
        first = end
    return found


@pytest.mark.parametrize("stride", [20, CONTEXT])
def test_a_long_text_is_scored_in_windows_that_overlap(backend, stride):
    found = tiny_model(backend.name).score(LONG, stride=stride)
    assert found.token_ids == tuple(LONG[1:])
    assert_close(found.logprobs, in_windows(LONG, stride), "float32", "in windows")


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


def test_what_greedy_decoding_writes_is_greedy_and_nothing_else_is(backend):
    written = IDS[:8]
    for _ in range(3):
        written = [*written, int(log_softmax(written)[-1].argmax())]
    other = [*written[:-2], (written[-2] + 1) % 90, written[-1]]
    found = tiny_model(backend.name).score(IDS[:8], continuations=[written[8:], other[8:]])
    assert [score.is_greedy for score in found] == [True, False]


def test_of_equal_logits_the_lower_id_is_the_likeliest():
    found, greedy = log_probs(np.zeros((2, 4), np.float32), np.array([0, 3]))
    np.testing.assert_allclose(found, [-math.log(4)] * 2)
    assert greedy.tolist() == [True, False]


def test_logits_of_any_size_have_log_probabilities():
    found, _ = log_probs(np.array([[1e30, -1e30], [1e4, 1e4]], np.float32), np.array([0, 1]))
    np.testing.assert_allclose(found, [0.0, -math.log(2)])


def test_tensors_of_the_framework_and_arrays_are_rows_of_ids(framework):
    model = tiny_model(framework.name)
    rows = np.array([IDS[:6], IDS[6:12]])
    expected_scores = model.score(rows.tolist())
    assert model.score(rows) == expected_scores
    assert model.score(framework.from_numpy(rows, model)) == expected_scores
    assert model.score([list(row) for row in rows]) == expected_scores
    assert model.score(rows[0]).token_ids == tuple(IDS[1:6])


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
    "a row of ids alone": (("ab",), {"continuations": [1, 2]}, ArgumentError, r"must be a list"),
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


@pytest.mark.parametrize("head", ["base", "question_answering"])
def test_a_model_without_a_language_head_scores_nothing(backend, head):
    changes = {"num_labels": 2} if head == "question_answering" else {}
    with pytest.raises(UnsupportedFeature, match=f"language-model head.*{head!r}"):
        tiny_model(backend.name, head, **changes).score("ab")


def test_a_classifier_keeps_the_layer_that_is_called_score(backend):
    model = tiny_model(backend.name, "sequence_classification")
    if backend.name in ("torch", "tf"):  # the others hold their layers elsewhere
        assert type(model.score).__name__ == "Linear"
    else:
        with pytest.raises(AttributeError, match=r"no method score\(\): its head has a layer"):
            _ = model.score
