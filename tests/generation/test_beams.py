"""Beam search, held against all texts there are, and against the plainest way to write it."""

from itertools import product

import numpy as np
import pytest

from gptj.errors import ArgumentError
from scripted import END, VOCAB, Pieces, Scripted, continued, drawn_table

pytestmark = pytest.mark.neutral

PROMPT = (2,)


def log_probs(logits, text):
    values = np.asarray(logits(text), np.float64)
    return values - np.log(np.exp(values).sum())


def score_of(logits, new, prompt=PROMPT):
    """Return the sum of a text's log-probabilities."""
    return sum(log_probs(logits, prompt + new[:i])[token] for i, token in enumerate(new))


def all_texts(vocab, length):
    """Return every text that ends by its first end token or by its length."""
    ends, others = vocab - 1, range(vocab - 1)
    whole = list(product(others, repeat=length))
    return whole + [(*start, ends) for n in range(length) for start in product(others, repeat=n)]


def best_of_all(logits, vocab, length, penalty, prompt=PROMPT):
    """Return (score, text) of every text there is, the best first."""
    texts = all_texts(vocab, length)
    scored = [(score_of(logits, text, prompt) / len(text) ** penalty, text) for text in texts]
    return sorted(scored, reverse=True)


def plain_search(logits, beams, length, penalty, early, prompt=PROMPT):
    """Return (score, text) of finished texts: beam search with lists, for one prompt."""
    running, finished, improvable = [(0.0, ())], [], True
    for step in range(1, length + 1):
        grown = [
            (score + value, (*text, token))
            for score, text in running
            for token, value in enumerate(log_probs(logits, prompt + text))
        ]
        ranked = sorted(grown, reverse=True)[: 2 * beams]
        is_over = [text[-1] == END or step == length for _, text in ranked]
        if improvable:
            ended = [one for one, over in zip(ranked[:beams], is_over, strict=False) if over]
            finished += [(score / step**penalty, text) for score, text in ended]
            finished = sorted(finished, reverse=True)[:beams]
        running = [one for one, over in zip(ranked, is_over, strict=True) if not over][:beams]
        if not running or (early is True and len(finished) == beams):
            break
        reach = length if early == "never" and penalty > 0 else step
        if len(finished) == beams and running[0][0] / reach**penalty <= finished[-1][0]:
            improvable = False
            break
    return finished


def searched(model, ids=(PROMPT,), **options):
    """Return what beam search returns: new tokens without padding, and their scores."""
    found = model.generate(
        np.array(ids), return_dict_in_generate=True, output_scores=True, **options
    )
    new = found.sequences[:, len(ids[0]) :]
    lengths = (found.beam_indices >= 0).sum(axis=1)
    texts = [tuple(row[:n].tolist()) for row, n in zip(new, lengths, strict=True)]
    return texts, found.sequences_scores


@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("seed", range(3))
def test_beams_wide_enough_for_every_text_find_the_best_of_all(seed, penalty):
    logits = drawn_table(seed, vocab=4)
    options = {"max_new_tokens": 4, "early_stopping": "never", "length_penalty": penalty}
    # 27 texts run before the last step, with 4 continuations each
    texts, scores = searched(
        Scripted(logits, vocab=4), num_beams=108, num_return_sequences=5, **options
    )
    expected = best_of_all(logits, 4, 4, penalty)[:5]
    assert texts == [text for _, text in expected]
    np.testing.assert_allclose(scores, [score for score, _ in expected], rtol=1e-5)


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("penalty", [1.0, 0.0, 3.0, -1.0])
@pytest.mark.parametrize("beams", [2, 3])
def test_a_search_equals_the_plainest_one(beams, penalty, early):
    for seed in range(8):
        logits = drawn_table(seed)
        options = {"early_stopping": early, "length_penalty": penalty, "max_new_tokens": 6}
        texts, scores = searched(
            Scripted(logits), num_beams=beams, num_return_sequences=beams, **options
        )
        expected = plain_search(logits, beams, 6, penalty, early)
        assert texts == [text for _, text in expected]
        np.testing.assert_allclose(scores, [score for score, _ in expected], rtol=1e-5)


def test_the_rules_of_stopping_differ_in_how_long_they_search():
    runs = {}
    for early in (True, False, "never"):
        models = [Scripted(drawn_table(seed)) for seed in range(8)]
        for model in models:
            continued(model, (PROMPT,), num_beams=2, early_stopping=early, max_new_tokens=10)
        runs[early] = sum(len(model.runs) for model in models)
    assert runs[True] < runs[False] < runs["never"]


def test_a_greater_length_penalty_prefers_longer_texts():
    short, long = (
        len(continued(Scripted(drawn_table(1)), (PROMPT,), num_beams=3, length_penalty=p)[0])
        for p in (-3.0, 5.0)
    )
    assert short < long


def test_beams_see_further_than_greedy_text():
    # token 0 is likelier at first, but what follows token 1 is certain
    table = {(2,): [3, 2, 0, 0], (2, 1): [0, 20, 0, 0]}
    model = Scripted(lambda text: table.get(text, [0, 0, 0, 0]), vocab=4)
    options = {"max_new_tokens": 2, "eos_token_id": None}
    assert continued(model, (PROMPT,), **options)[0][0] == 0
    assert continued(model, (PROMPT,), num_beams=2, **options) == [[1, 1]]


def test_a_prompt_finds_the_same_alone_and_in_a_batch():
    model = Scripted(drawn_table(3))
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5, "pad_token_id": 0}
    both = searched(model, ((2, 1), (3, 0)), **options)
    alone = [searched(model, (prompt,), **options) for prompt in ((2, 1), (3, 0))]
    assert both[0] == alone[0][0] + alone[1][0]
    np.testing.assert_array_equal(both[1], np.concatenate([alone[0][1], alone[1][1]]))


def test_padding_moves_nothing():
    model, mask = Scripted(drawn_table(3)), np.array([[0, 0, 1], [1, 1, 1]])
    options = {"num_beams": 3, "max_new_tokens": 5, "pad_token_id": 0}
    found = model.generate(np.array([[0, 0, 2], [2, 1, 3]]), mask, **options)
    alone = continued(model, ((2,),), **options)[0]
    assert found[0, 3 : 3 + len(alone)].tolist() == alone


def test_texts_of_a_prompt_are_side_by_side_and_padded_to_the_longest():
    model = Scripted(drawn_table(5))
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6}
    ids = np.array([[2], [1]])
    found = model.generate(ids, pad_token_id=3, **options)
    assert found[:, 0].tolist() == [2, 2, 2, 1, 1, 1]
    texts, _ = searched(model, ((2,), (1,)), pad_token_id=3, **options)
    width = max(map(len, texts))
    assert found[:, 1:].tolist() == [[*text, *[3] * (width - len(text))] for text in texts]


@pytest.mark.parametrize("penalty", [1.0, 0.5])
def test_beam_indices_lead_back_to_the_scores_of_every_token(penalty):
    found = Scripted(drawn_table(4)).generate(
        np.array([[2], [1]]),
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=5,
        length_penalty=penalty,
        return_dict_in_generate=True,
        output_scores=True,
    )
    new = found.sequences[:, 1:]
    for row, origins in enumerate(found.beam_indices):
        steps = np.flatnonzero(origins >= 0)
        total = sum(found.scores[step][origins[step], new[row, step]] for step in steps)
        assert total / len(steps) ** penalty == pytest.approx(found.sequences_scores[row])
        assert set(origins[steps] // 3) == {row // 3}


def test_groups_with_one_beam_are_greedy_and_avoid_each_other():
    logits, penalty, groups, length = drawn_table(6), 1.5, 3, 4
    texts, totals = [() for _ in range(groups)], np.zeros(groups)
    for _ in range(length):
        chosen = np.zeros(VOCAB)
        for index, text in enumerate(texts):
            values = log_probs(logits, PROMPT + text) - penalty * chosen
            token = int(values.argmax())
            texts[index], totals[index] = (*text, token), totals[index] + values[token]
            chosen[token] += 1
    order = np.argsort(-totals, kind="stable")
    found, scores = searched(
        Scripted(logits),
        num_beams=groups,
        num_beam_groups=groups,
        num_return_sequences=groups,
        diversity_penalty=penalty,
        max_new_tokens=length,
        eos_token_id=None,
    )
    assert found == [texts[index] for index in order]
    np.testing.assert_allclose(scores, totals[order] / length, rtol=1e-5)


def test_groups_without_a_penalty_are_searches_of_their_own():
    options = {"max_new_tokens": 5}
    one, _ = searched(Scripted(drawn_table(7)), num_beams=2, num_return_sequences=2, **options)
    both, _ = searched(
        Scripted(drawn_table(7)), num_beams=4, num_beam_groups=2, num_return_sequences=4, **options
    )
    assert both == [one[0], one[0], one[1], one[1]]


def test_drawn_beams_repeat_with_a_seed_and_differ_without():
    model = Scripted(drawn_table(8))
    options = {"num_beams": 2, "do_sample": True, "top_k": 0, "max_new_tokens": 6}
    first, again, *others = (
        continued(model, (PROMPT,), seed=seed, **options) for seed in (1, 1, 2, 3, 4)
    )
    assert first == again
    assert any(other != first for other in others)


def test_drawn_beams_of_a_cold_model_are_the_best_ones():
    model = Scripted(drawn_table(9))
    options = {"num_beams": 3, "max_new_tokens": 4, "eos_token_id": None}
    cold = {"do_sample": True, "top_k": 0, "temperature": 1e-3, "seed": 1}
    assert continued(model, (PROMPT,), **cold, **options) == continued(model, (PROMPT,), **options)


def test_a_forbidden_token_is_in_no_beam():
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 5}
    texts, _ = searched(Scripted(drawn_table(2)), suppress_tokens=[1, END], **options)
    assert all(not {1, END} & set(text) for text in texts)


def test_a_stop_string_ends_a_beam():
    letters = Pieces("a", "b", "c", "d", "<end>")
    options = {"tokenizer": letters, "stop_strings": ["b"], "eos_token_id": None}
    options |= {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6}
    texts = [
        text for seed in range(5) for text in searched(Scripted(drawn_table(seed)), **options)[0]
    ]
    assert any(1 in text for text in texts)
    assert all(1 not in text[:-1] and (1 in text or len(text) == 6) for text in texts)


def test_a_prompt_is_run_once_for_all_its_beams():
    model = Scripted(drawn_table(2))
    continued(model, ((2, 1), (0, 1)), num_beams=3, max_new_tokens=3, eos_token_id=None)
    assert model.runs == [(2, 2), (6, 1), (6, 1)]


def test_without_a_cache_beams_find_the_same():
    model, options = Scripted(drawn_table(2)), {"num_beams": 3, "max_new_tokens": 5}
    with_cache, without = (
        continued(model, (PROMPT,), use_cache=flag, **options) for flag in (True, False)
    )
    assert with_cache == without


def test_more_end_tokens_than_continuations_end_every_beam():
    everything = list(range(VOCAB))
    found = continued(Scripted(drawn_table(0)), (PROMPT,), num_beams=2, eos_token_id=everything)
    assert found == [[int(np.argmax(drawn_table(0)(PROMPT)))]]


def test_a_streamer_cannot_follow_beams():
    with pytest.raises(ArgumentError, match=r"A streamer cannot follow several beams.* num_beams"):
        continued(Scripted(drawn_table(0)), num_beams=2, streamer=object())
