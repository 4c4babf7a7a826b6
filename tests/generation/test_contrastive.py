"""Contrastive search, held against its formula on the oracle, computed anew for every token."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from models import draw_ids, tiny_config, tiny_model

pytestmark = pytest.mark.neutral

PROMPT = draw_ids((1, 5), seed=3)
OPEN = {"eos_token_id": None}


def generated(ids=PROMPT, mask=None, **options):
    """Return the new tokens of the oracle's model."""
    found = tiny_model("oracle").generate(ids, mask, **options)
    return found[:, ids.shape[1] :].tolist()


def run(text):
    """Return probabilities after a text, (V,), and last hidden states at unit length, (T, E)."""
    output = tiny_model("oracle")(np.array([text]), output_hidden_states=True)
    weights = np.exp(output.logits[0, -1].astype(np.float64))
    states = output.hidden_states[-1][0].astype(np.float64)
    return weights / weights.sum(), states / np.linalg.norm(states, axis=-1, keepdims=True)


def recomputed(prompt, steps, alpha, top_k, forbidden=()):
    """Return what the formula chooses: (1 - alpha) * p - alpha * greatest cosine."""
    text = list(prompt)
    for _ in range(steps):
        probs, states = run(text)
        probs[list(forbidden)] = 0
        probs /= probs.sum()
        allowed = [token for token in np.argsort(-probs) if token not in forbidden]
        merits = {}
        for token in allowed[:top_k]:
            new = run([*text, token])[1][-1]
            merits[int(token)] = (1 - alpha) * probs[token] - alpha * (states @ new).max()
        text.append(max(merits, key=merits.__getitem__))
    return text[len(prompt) :]


@pytest.mark.parametrize(("alpha", "top_k"), [(0.3, 4), (0.6, 4), (0.9, 6), (1.0, 3)])
def test_every_token_is_the_best_by_the_formula(alpha, top_k):
    options = {"penalty_alpha": alpha, "top_k": top_k, "max_new_tokens": 4, **OPEN}
    assert generated(**options) == [recomputed(PROMPT[0], 4, alpha, top_k)]


def test_the_penalty_changes_the_text():
    first, second = (
        generated(penalty_alpha=alpha, top_k=6, max_new_tokens=6, **OPEN) for alpha in (0.0, 0.9)
    )
    assert first != second


@pytest.mark.parametrize("options", [{"penalty_alpha": 0.0}, {"penalty_alpha": 0.9, "top_k": 1}])
def test_without_penalty_or_choice_the_text_is_greedy(options):
    options = {"top_k": 5, "max_new_tokens": 8, **OPEN, **options}
    assert generated(**options) == generated(max_new_tokens=8, **OPEN)


def test_padding_moves_nothing():
    options = {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 4, **OPEN}
    short = draw_ids((1, 3), seed=5)
    ids = np.vstack((PROMPT, np.hstack((np.full((1, 2), 9), short))))
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    alone = [generated(PROMPT, **options)[0], generated(short, **options)[0]]
    assert generated(ids, mask, **options) == alone


def test_without_a_cache_the_text_is_the_same():
    options = {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 3, **OPEN}
    assert generated(use_cache=False, **options) == generated(**options)


def test_a_cache_of_the_prompt_changes_nothing():
    model = tiny_model("oracle")
    cache = model(PROMPT[:, :3], use_cache=True).past_key_values
    options = {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 4, **OPEN}
    try:
        found = generated(past_key_values=cache, **options)
    except ArgumentError as refused:  # either the same text, or a clear refusal
        assert "past_key_values" in str(refused)
    else:
        assert found == generated(**options)


def test_candidates_are_at_most_the_whole_vocabulary():
    options = {"penalty_alpha": 0.6, "max_new_tokens": 1, **OPEN}
    vocab = tiny_config().vocab_size
    assert generated(top_k=vocab + 9, **options) == generated(top_k=vocab, **options)
    assert generated(top_k=0, **options) == generated(top_k=vocab, **options)


def test_a_forbidden_token_is_no_candidate():
    allowed = 2
    forbidden = list(range(allowed, tiny_config().vocab_size))
    options = {"penalty_alpha": 1.0, "top_k": 6, "max_new_tokens": 4, **OPEN}
    found = generated(suppress_tokens=forbidden, **options)
    assert found == [recomputed(PROMPT[0], 4, 1.0, 6, forbidden)]


def test_a_text_beyond_the_context_goes_on():
    ids = draw_ids((1, 62), seed=1)
    options = {"penalty_alpha": 0.6, "top_k": 3, "truncation": "sliding_window", **OPEN}
    try:
        found = generated(ids, max_new_tokens=5, **options)
    except ArgumentError as refused:  # either it is done, or it is refused
        assert "sliding_window" in str(refused)
    else:
        assert len(found[0]) == 5


def test_a_sequence_that_ended_is_filled():
    options = {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 5}
    ids = np.vstack((PROMPT, draw_ids((1, 5), seed=5)))
    free = generated(ids, **options, **OPEN)
    end = free[0][1]
    found = generated(ids, eos_token_id=end, pad_token_id=94, **options)
    assert found[0] == [*free[0][: free[0].index(end) + 1], 94, 94, 94][: len(found[0])]


def test_every_step_has_scores_and_logits():
    names = ("output_scores", "output_logits", "return_dict_in_generate")
    options = {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 3, "suppress_tokens": [1]}
    found = tiny_model("oracle").generate(PROMPT, **options, **dict.fromkeys(names, True), **OPEN)
    assert [len(found[name]) for name in ("scores", "logits")] == [3, 3]
    text = found.sequences[0]
    for step, (scores, logits) in enumerate(zip(found.scores, found.logits, strict=True)):
        expected = tiny_model("oracle")(text[None, : 5 + step]).logits[:, -1]
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        expected[:, 1] = -np.inf
        np.testing.assert_allclose(scores, expected, atol=1e-4)
