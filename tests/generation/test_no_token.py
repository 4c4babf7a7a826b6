"""Where a step has no token, every way of generating says so, at that step, in the same words."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from gptj.backends import get_backend
from gptj.errors import ArgumentError, InputError
from gptj.model.config import GPTJConfig
from gptj.spec.tensors import LazyTensor
from models import draw_ids, tiny_config, tiny_model, tiny_weights

pytestmark = pytest.mark.frameworks

PROMPT = draw_ids((1, 4), seed=3)
NEW = 6
GREEDY = {"max_new_tokens": NEW, "eos_token_id": None}
WAYS = {
    "greedy": {},
    "sampled": {"do_sample": True, "seed": 1, "top_k": 5, "top_p": 0.9, "temperature": 1e-3},
    "reference": {"bad_words_ids": [[95]]},
    "outputs": {"return_dict_in_generate": True},
    "contrastive": {"penalty_alpha": 0.0, "top_k": 2},
    "drafts": {"prompt_lookup_num_tokens": 2},
    "without cache": {"use_cache": False},
}


def changed_model(backend, **values):
    """Return the tiny model with values put into weights: name -> (index, value)."""
    weights = dict(tiny_weights())
    for name, (index, value) in values.items():
        name = name.replace("__", ".")
        weights[name] = weights[name].copy()
        weights[name][index] = value
    tensors = {name: LazyTensor.of(weight) for name, weight in weights.items()}
    config = GPTJConfig.from_dict(tiny_config().to_dict())
    options = {"params": tensors, "dtype": "float32", "device": None}
    return get_backend(backend.name).build(config, "causal_lm", **options)


@pytest.fixture
def text(backend):
    """The greedy text of the tiny model."""
    found = backend.to_numpy(tiny_model(backend.name).generate(PROMPT, **GREEDY))
    return found[0, PROMPT.shape[1] :].tolist()


@pytest.fixture
def broken(backend, text):
    """A model that is not a number once it has read a token, and the step at which it has."""
    seen = {*PROMPT[0].tolist()}
    step = next(n for n in range(1, NEW - 1) if text[n] not in {*seen, *text[:n]})
    model = changed_model(backend, transformer__wte__weight=((text[step],), np.nan))
    return model, step + 1


@pytest.mark.parametrize("way", WAYS)
def test_logits_that_are_not_numbers_are_named_at_their_step(broken, way):
    model, step = broken
    match = rf"scores of sequence 0 at step {step} are not numbers: check .* for NaN and infinity"
    with pytest.raises(ArgumentError, match=match):
        model.generate(PROMPT, **GREEDY, **WAYS[way])
    model.generate(PROMPT, **{**GREEDY, "max_new_tokens": step}, **WAYS[way])


def test_beams_that_are_not_numbers_are_named(backend):
    model = changed_model(backend, lm_head__bias=((3,), np.nan))
    with pytest.raises(ArgumentError, match="at step 0 are not numbers"):
        model.generate(PROMPT, num_beams=2, **GREEDY)


def test_the_tokens_before_come_to_a_streamer(broken, text):
    model, step = broken
    seen = []

    class Streamer:
        def put(self, value):
            seen.append(np.asarray(value).reshape(-1).tolist())

        def end(self):
            raise AssertionError("this is no end")

    with pytest.raises(ArgumentError, match="not numbers"):
        model.generate(PROMPT, streamer=Streamer(), **GREEDY)
    assert [token for (token,) in seen[1:]] == text[:step]


def test_the_sequence_is_named(broken, text):
    model, step = broken
    other = [[token for token in range(90) if token not in text][:4]]
    with pytest.raises(ArgumentError, match=f"sequence 1 at step {step} are not numbers"):
        model.generate(np.concatenate((other, PROMPT)), **GREEDY)


BEAMS = {"num_beams": 2, "num_return_sequences": 2}
COPIES = {"do_sample": True, "num_return_sequences": 3}


@pytest.mark.parametrize("options", [{}, {**WAYS["reference"]}, BEAMS, COPIES])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_the_prompt_is_named_whatever_its_batch(framework, options, batch_size):
    """Prompts run by length, some at a time and several times; the caller knows only a list."""
    model = changed_model(framework, transformer__wte__weight=((7,), np.nan))
    prompts = ["1 2 3 4 5", "1 7", "1 2 3", "1 2"]
    reader = SimpleNamespace(
        encode=lambda text: [int(word) for word in text.split()],
        decode=lambda ids, **_: " ".join(map(str, ids)),
    )
    options = {"max_new_tokens": 1, "eos_token_id": None, **options}
    with pytest.raises(ArgumentError, match="scores of prompt 1 at step 0 are not numbers") as seen:
        model.generate_text(prompts, tokenizer=reader, batch_size=batch_size, **options)
    assert pickle.loads(pickle.dumps(seen.value)).place == seen.value.place


@pytest.mark.parametrize("way", ["greedy", "sampled", "reference"])
def test_a_score_of_infinity_is_not_a_number(backend, way):
    model = changed_model(backend, lm_head__bias=((3,), np.inf))
    with pytest.raises(ArgumentError, match="at step 0 are not numbers"):
        model.generate(PROMPT, **GREEDY, **WAYS[way])


@pytest.mark.parametrize("way", ["greedy", "sampled", "reference"])
def test_a_score_of_minus_infinity_forbids_a_token(backend, text, way):
    model = changed_model(backend, lm_head__bias=((text[0],), -np.inf))
    found = backend.to_numpy(model.generate(PROMPT, **GREEDY, **WAYS[way]))
    assert text[0] not in found[0, PROMPT.shape[1] :]


@pytest.mark.parametrize("way", ["greedy", "reference"])
def test_an_end_that_is_the_only_token_and_comes_too_early_is_named(backend, way):
    model = changed_model(backend, lm_head__bias=((slice(1, None),), -np.inf))
    options = {"eos_token_id": 0, "min_new_tokens": 2, "max_new_tokens": 3}
    with pytest.raises(ArgumentError, match="sequence 0 at step 0 leave no token to choose"):
        model.generate(PROMPT, **options, **WAYS[way])


@pytest.mark.parametrize("pad", [-1, 96])
@pytest.mark.parametrize("way", ["greedy", "reference"])
def test_a_pad_token_that_is_none_is_refused_only_where_padding_is_needed(backend, pad, way):
    model = tiny_model(backend.name)

    def new(ids, **options):
        return backend.to_numpy(model.generate(ids, **WAYS[way], **options))[:, ids.shape[1] :]

    prompts = [draw_ids((1, 4), seed=seed) for seed in range(8)]
    texts = [new(prompt, **GREEDY)[0].tolist() for prompt in prompts]
    first, other = next(
        (i, j) for i in range(8) for j in range(8) if texts[i][1] not in (texts[i][0], *texts[j])
    )
    options = {"max_new_tokens": NEW, "eos_token_id": texts[first][1]}
    found = new(prompts[first], pad_token_id=pad, **options)
    np.testing.assert_array_equal(found, new(prompts[first], **options))
    assert found.shape == (1, 2)
    both = np.concatenate((prompts[first], prompts[other]))
    assert new(both, **options).shape == (2, NEW)
    with pytest.raises(ArgumentError, match=r"pad_token_id is no token .* Set it"):
        new(both, pad_token_id=pad, **options)


def test_beams_of_other_lengths_need_a_pad_token(backend):
    model = tiny_model(backend.name)
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 5}
    ends = list(range(0, 90, 3))
    model.generate(PROMPT, eos_token_id=ends, **options)
    with pytest.raises(ArgumentError, match="pad_token_id is no token"):
        model.generate(PROMPT, eos_token_id=ends, pad_token_id=96, **options)


@pytest.mark.parametrize("side", ["left", "middle", "all"])
def test_a_sequence_of_padding_alone_is_refused(backend, side):
    model = tiny_model(backend.name)
    ids, mask = draw_ids((3, 4), seed=1), np.ones((3, 4), np.int64)
    mask[{"left": 0, "middle": 1, "all": slice(None)}[side]] = 0
    row = 1 if side == "middle" else 0
    for options in ({}, {"num_beams": 2}):
        with pytest.raises(InputError, match=f"Sequence {row} is empty: attention_mask is 0"):
            model.generate(ids, attention_mask=mask, max_new_tokens=2, **options)


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-45, 1e-30, 1e-20])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.5}], ids=str)
def test_a_temperature_near_zero_takes_the_likeliest(backend, text, temperature, options):
    given = {"do_sample": True, "seed": 0, "temperature": temperature, **GREEDY, **options}
    found = backend.to_numpy(tiny_model(backend.name).generate(PROMPT, **given))
    assert found[0, PROMPT.shape[1] :].tolist() == text


@pytest.mark.parametrize("name", ["top_p", "typical_p"])
def test_the_least_share_keeps_one_token(backend, text, name):
    given = {"do_sample": True, "seed": 0, name: 1e-300, **GREEDY}
    found = backend.to_numpy(tiny_model(backend.name).generate(PROMPT, **given))
    if name == "top_p":
        assert found[0, PROMPT.shape[1] :].tolist() == text
    expected = tiny_model("oracle").generate(PROMPT, **given)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("temperature", [1e30, 1e39, 1e300])
def test_a_temperature_without_bound_draws_evenly(backend, temperature):
    given = {"do_sample": True, "seed": 0, "top_k": 5, **GREEDY}
    found = tiny_model(backend.name).generate(PROMPT, temperature=temperature, **given)
    expected = tiny_model("oracle").generate(PROMPT, temperature=1e9, **given)
    np.testing.assert_array_equal(backend.to_numpy(found), expected)


def traced(backend, model, **options):
    """Return what a compiled function writes after the prompt and another one."""
    ids, options = np.concatenate((PROMPT, np.full_like(PROMPT, 3))), {**GREEDY, **options}
    if backend.name == "flax":
        import jax

        return np.asarray(jax.jit(lambda ids: model.generate(ids, **options))(ids))
    import tensorflow as tf

    function = tf.function(lambda ids: model.generate(ids, **options), autograph=False)
    return function(tf.constant(ids)).numpy()


@pytest.fixture(params=["tf", "flax"])
def compiling(request):
    """A backend whose loop may be part of a caller's graph."""
    return request.getfixturevalue(f"{request.param}_backend")


def test_in_a_graph_all_tokens_from_that_step_on_are_below_zero(compiling):
    text = traced(compiling, tiny_model(compiling.name))[0, 4:].tolist()
    step = next(n for n in range(1, NEW - 1) if text[n] not in {*PROMPT[0].tolist(), *text[:n], 3})
    broken = changed_model(compiling, transformer__wte__weight=((text[step],), np.nan))
    found = traced(compiling, broken)[:, 4:]
    assert (found < 0).all(axis=0).tolist() == [n > step for n in range(NEW)]
    assert found[0, : step + 1].tolist() == text[: step + 1]


def test_in_a_graph_a_pad_token_that_is_none_is_refused(compiling):
    with pytest.raises(ArgumentError, match="pad_token_id = 96 is no token of the vocabulary"):
        traced(compiling, tiny_model(compiling.name), pad_token_id=96, eos_token_id=5)
