"""What generate() returns beside the tokens, and what a caller's own functions receive."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from models import draw_ids, run, tiny_config, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

PROMPT = draw_ids((2, 5), seed=61)
LEFT = np.array([[1] * 5, [0, 0, 1, 1, 1]])
NEW = 4
OPTIONS = {"max_new_tokens": NEW, "eos_token_id": None}
ALL = {
    "return_dict_in_generate": True,
    "output_scores": True,
    "output_logits": True,
    "output_attentions": True,
    "output_hidden_states": True,
}


@pytest.fixture
def model(backend):
    return tiny_model(backend.name)


def test_every_output_is_that_of_the_whole_text(backend, model):
    output = model.generate(PROMPT, LEFT, **ALL, **OPTIONS)
    text = backend.to_numpy(output.sequences)
    mask = np.hstack((LEFT, np.ones((2, NEW), int)))
    wanted = {"output_hidden_states": True, "output_attentions": True}
    whole = run(backend, model, input_ids=text, attention_mask=mask, **wanted)
    states = [backend.to_numpy(layer) for layer in whole.hidden_states]
    for step in range(NEW):
        place = PROMPT.shape[1] - 1 + step
        logits = backend.to_numpy(output.logits[step])
        assert_close(logits, whole.logits[:, place], "float32", f"logits of step {step}")
        found = [backend.to_numpy(layer) for layer in output.hidden_states[step]]
        assert len(found) == tiny_config().n_layer + 1
        for layer, expected in zip(found, states, strict=True):
            assert layer.shape[1] == (PROMPT.shape[1] if step == 0 else 1)
            assert_close(layer[:, -1], expected[:, place], "float32", f"states of step {step}")
        probs = backend.to_numpy(output.attentions[step][0])
        assert probs.shape[-1] == place + 1
        np.testing.assert_allclose(probs[:, :, -1].sum(-1), 1.0, rtol=1e-5)
    assert int(output.past_key_values.length) == PROMPT.shape[1] + NEW - 1


def test_scores_are_what_the_tokens_were_chosen_by(backend, model):
    forbidden = [3, 50]
    options = {**OPTIONS, "suppress_tokens": forbidden, "repetition_penalty": 1.7}
    output = model.generate(PROMPT, LEFT, **ALL, **options)
    text = backend.to_numpy(output.sequences)
    for step, scores in enumerate(backend.to_numpy(each) for each in output.scores):
        np.testing.assert_array_equal(scores.argmax(-1), text[:, PROMPT.shape[1] + step])
        assert (scores[:, forbidden] == -np.inf).all()
        seen = backend.to_numpy(output.logits[step])[0, PROMPT[0, 0]]
        expected = seen * 1.7 if seen < 0 else seen / 1.7
        np.testing.assert_allclose(scores[0, PROMPT[0, 0]], expected, rtol=1e-6)


def test_sampled_scores_show_the_filters(backend, model):
    options = {**OPTIONS, "do_sample": True, "seed": 2, "top_k": 4, "temperature": 0.5}
    output = model.generate(PROMPT, **ALL, **options)
    scores, logits = (backend.to_numpy(each[0]) for each in (output.scores, output.logits))
    kept = np.isfinite(scores)
    assert (kept.sum(-1) == 4).all()
    np.testing.assert_allclose(scores[kept], logits[kept] / 0.5, rtol=1e-6)


def test_renormalized_scores_are_log_probabilities(backend, model):
    options = {**OPTIONS, "do_sample": True, "seed": 2, "top_k": 4, "renormalize_logits": True}
    for scores in model.generate(PROMPT, **ALL, **options).scores:
        np.testing.assert_allclose(np.exp(backend.to_numpy(scores)).sum(-1), 1.0, rtol=1e-5)


def test_what_is_not_asked_for_is_none(backend, model):
    output = model.generate(PROMPT, return_dict_in_generate=True, **OPTIONS)
    assert list(output) == ["sequences", "past_key_values"]
    assert output.scores is output.logits is output.sequences_scores is None
    np.testing.assert_array_equal(
        backend.to_numpy(output[0]), backend.to_numpy(model.generate(PROMPT, **OPTIONS))
    )


def test_the_returned_cache_grows_in_a_plain_forward(backend, model):
    output = model.generate(PROMPT, return_dict_in_generate=True, **OPTIONS)
    text = backend.to_numpy(output.sequences)
    more = np.hstack((text[:, -1:], draw_ids((2, 40), seed=62)))
    found = run(backend, model, input_ids=more, past_key_values=output.past_key_values)
    whole = run(backend, model, input_ids=np.hstack((text[:, :-1], more)))
    assert_close(found.logits, whole.logits[:, -41:], "float32", "logits")


def test_the_origins_of_beams_lead_back_to_their_scores(backend, model):
    options = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0, **OPTIONS}
    output = model.generate(PROMPT, LEFT, **ALL, **options)
    text = backend.to_numpy(output.sequences)[:, PROMPT.shape[1] :]
    origins = backend.to_numpy(output.beam_indices)
    steps = np.stack([backend.to_numpy(each) for each in output.scores])  # (new, B * beams, V)
    sums = steps[np.arange(NEW), origins, text].sum(axis=1)
    np.testing.assert_allclose(backend.to_numpy(output.sequences_scores), sums, rtol=1e-4)


def test_own_functions_receive_tensors_of_the_framework(backend, model):
    kind, seen = type(backend.from_numpy(PROMPT, model)), []

    def ban(input_ids, scores):
        assert isinstance(input_ids, kind) and isinstance(scores, kind)
        seen.append(tuple(input_ids.shape))
        values = backend.to_numpy(scores).copy()
        values[:, :90] = -np.inf
        return backend.from_numpy(values, model)

    def long_enough(input_ids, scores):
        assert isinstance(input_ids, kind) and tuple(scores.shape) == (2, 96)
        return input_ids.shape[1] >= 7

    found = model.generate(
        PROMPT, logits_processor=[ban], stopping_criteria=[long_enough], **OPTIONS
    )
    text = backend.to_numpy(found)
    assert text.shape == (2, 7) and (text[:, 5:] >= 90).all()
    assert seen == [(2, 5), (2, 6)]


def test_a_criterion_per_sequence_ends_sequences(backend, model):
    def first_sequence(input_ids, scores):
        return backend.from_numpy(np.array([True, False]), model)

    options = {**OPTIONS, "pad_token_id": 94}
    found = backend.to_numpy(model.generate(PROMPT, stopping_criteria=[first_sequence], **options))
    free = backend.to_numpy(model.generate(PROMPT, **options))
    assert (found[0, 6:] == 94).all() and found[0, 5] == free[0, 5]
    np.testing.assert_array_equal(found[1], free[1])


def test_a_processor_that_returns_another_shape_is_named(backend, model):
    def wrong(input_ids, scores):
        return scores[:, :5]

    with pytest.raises(ArgumentError, match=r"must return scores of \(2, 96\); .*\(2, 5\)"):
        model.generate(PROMPT, logits_processor=[wrong], **OPTIONS)


def test_own_processors_see_tensors_of_the_framework(framework):
    kinds = []
    model = tiny_model(framework.name)
    example = framework.from_numpy(np.zeros((1, 1)), model)

    def remember(input_ids, scores):
        kinds.extend((isinstance(input_ids, type(example)), isinstance(scores, type(example))))
        return scores

    model.generate(np.array([[5, 6]]), logits_processor=[remember], max_new_tokens=1)
    assert kinds == [True, True]


@pytest.mark.parametrize("normalize", [False, True])
def test_transition_scores_are_those_of_the_tokens(backend, model, normalize):
    options = {**OPTIONS, "repetition_penalty": 1.7}
    output = model.generate(PROMPT, LEFT, **ALL, **options)
    text = backend.to_numpy(output.sequences)[:, PROMPT.shape[1] :]
    found = model.compute_transition_scores(
        output.sequences, output.scores, normalize_logits=normalize
    )
    assert isinstance(found, type(output.scores[0]))
    for step, scores in enumerate(backend.to_numpy(each) for each in output.scores):
        expected = scores[[0, 1], text[:, step]].astype(np.float64)
        if normalize:
            expected -= np.log(np.exp(scores.astype(np.float64)).sum(-1))
        np.testing.assert_allclose(backend.to_numpy(found)[:, step], expected, rtol=1e-5, atol=1e-6)


def test_transition_scores_of_beams_add_up_to_those_of_sequences(backend, model):
    options = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0, **OPTIONS}
    output = model.generate(PROMPT, LEFT, **ALL, **options)
    found = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
    sums = backend.to_numpy(found).sum(axis=1)
    np.testing.assert_allclose(backend.to_numpy(output.sequences_scores), sums, rtol=1e-4)


def test_transition_scores_need_what_belongs_together(backend, model):
    options = {"num_beams": 3, "num_return_sequences": 2, **OPTIONS}
    output = model.generate(PROMPT, **ALL, **options)
    for scores, beams, message in (
        (None, None, r"no scores of any step. Ask for them: .*output_scores=True"),
        (output.scores, None, "4 sequences and 6 rows of scores, with no beam_indices. Give"),
        (output.scores, output.beam_indices[:3], "6 rows of scores, with 3 beam_indices. Give"),
        (output.scores[:2], output.beam_indices, "scores of 2 steps.* but 4 were generated. Give"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.compute_transition_scores(output.sequences, scores, beams)
