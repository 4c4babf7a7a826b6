"""generate(): greedy and sampled text, alike from compiled loops and the reference decoder."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement import DRIVEN, Steps, assert_same_tokens
from gptj.backends import get_backend
from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from installed import FRAMEWORKS, PLUGGED_IN
from models import checkpoint_weights, draw_ids, load, tiny_config, tiny_model, tiny_weights
from paths import GOLDEN
from rarely import rarely

pytestmark = pytest.mark.frameworks

PROMPT = draw_ids((3, 7), seed=11)
LEFT = np.array([[1] * 7, [0] * 3 + [1] * 4, [0] * 5 + [1] * 2])


def written(backend, model, ids=PROMPT, mask=None, **options):
    """Return the new tokens of the model's own choice of loop."""
    tokens = backend.to_numpy(model.generate(ids, mask, **options))
    np.testing.assert_array_equal(tokens[:, : ids.shape[1]], ids)
    return tokens[:, ids.shape[1] :]


def driven(backend, model, ids=PROMPT, mask=None, **options):
    """Return the new tokens of the reference decoder."""
    return written(backend, model, ids, mask, **DRIVEN, **options)


def streamed(backend, model, ids=PROMPT, mask=None, **options):
    """Return the new tokens as a streamer gets them."""
    streamer = Steps()
    tokens = written(backend, model, ids, mask, streamer=streamer, **options)
    prompt, *steps = streamer.steps
    np.testing.assert_array_equal(prompt, ids)
    np.testing.assert_array_equal(np.stack(steps, axis=1), tokens)
    assert streamer.ended
    return tokens


WAYS = {"loop": written, "stream": streamed, "reference_decoder": driven}


def plan_of(**options):
    """Return the plan that these options make for the tiny model and the prompt."""
    settings_ = GenerationConfig.from_model(tiny_config()).updated(**options)
    return make_plan(settings_, PROMPT.shape[1], tiny_config())


@pytest.mark.parametrize("name", ["causal_lm", "causal_lm_tied"])
def test_greedy_text_equals_that_of_another_system(backend, name):
    model = load(backend.name, GOLDEN / name / "checkpoint")
    content = json.loads((GOLDEN / name / "case.json").read_text())
    arrays = np.load(GOLDEN / name / "case.npz")
    call = content["generate"][0]
    ids, mask = arrays["in." + call["input_ids"]], arrays["in." + call["attention_mask"]]
    options = {"max_new_tokens": call["max_new_tokens"], "pad_token_id": call["pad_token_id"]}
    for write in WAYS.values():
        found = write(backend, model, ids, mask, **options)
        np.testing.assert_array_equal(found, arrays["gen0"][:, ids.shape[1] :])


SAMPLINGS = {
    "greedy": {},
    "top k by default": {"do_sample": True},
    "whole vocabulary": {"do_sample": True, "top_k": 0},
    "nucleus": {"do_sample": True, "top_k": 0, "top_p": 0.8},
    "all filters": {"do_sample": True, "top_k": 30, "top_p": 0.7, "temperature": 0.7},
    "hot": {"do_sample": True, "top_k": 0, "temperature": 1.7, "min_new_tokens": 5},
}
RARELY = ("whole vocabulary", "nucleus")


@pytest.mark.parametrize("sampling", [rarely(one) if one in RARELY else one for one in SAMPLINGS])
@pytest.mark.parametrize("mask", [None, LEFT], ids=["whole", "left"])
def test_every_loop_writes_what_the_plugged_in_oracle_writes(framework, sampling, mask):
    options = {"max_new_tokens": 15, "seed": 1234, **SAMPLINGS[sampling]}
    oracle = get_backend(PLUGGED_IN)
    expected = written(oracle, tiny_model(PLUGGED_IN), PROMPT, mask, **options)
    model, plan = tiny_model(framework.name), plan_of(**options)
    for write in WAYS.values():
        found = write(framework, model, PROMPT, mask, **options)
        assert_same_tokens(found, expected, plan, tiny_config(), tiny_weights(), PROMPT, mask)


@pytest.mark.slow  # the random requests of `test_generation_agreement` tell nearly as much
@pytest.mark.parametrize("name", FRAMEWORKS)
@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    temperature=st.floats(0.3, 2.0),
    top_k=st.sampled_from([0, 1, 5, 50]),
    top_p=st.floats(0.2, 1.0),
)
def test_all_ways_agree_for_random_settings(name, seed, temperature, top_k, top_p):
    backend, model = get_backend(name), tiny_model(name)
    options = {
        "do_sample": True,
        "seed": seed,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "max_new_tokens": 6,
    }
    first, *others = (write(backend, model, PROMPT, LEFT, **options) for write in WAYS.values())
    plan = plan_of(**options)
    for other in others:
        assert_same_tokens(first, other, plan, tiny_config(), tiny_weights(), PROMPT, LEFT)


def test_a_seed_repeats_and_another_seed_differs(backend):
    model = tiny_model(backend.name)
    options = {"do_sample": True, "top_k": 0, "max_new_tokens": 12}
    first, again, other = (written(backend, model, seed=s, **options) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_seed_draws_a_new_text_every_time(backend):
    model = tiny_model(backend.name)
    options = {"do_sample": True, "top_k": 0, "max_new_tokens": 12}
    first, second = (written(backend, model, **options) for _ in range(2))
    assert not np.array_equal(first, second)  # one of them may even be shorter


def greedy_token(backend, model, step):
    """Return what the first sequence writes at one step."""
    return int(written(backend, model, max_new_tokens=step + 1, eos_token_id=None)[0, step])


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_a_sequence_that_ended_is_filled_and_all_sequences_end_the_text(backend, write):
    model = tiny_model(backend.name)
    free = written(backend, model, max_new_tokens=10, eos_token_id=None)
    end = int(free[0, 3])
    found = write(backend, model, max_new_tokens=10, eos_token_id=end, pad_token_id=94)
    for row, text in zip(found, free, strict=True):
        stops = np.flatnonzero(text == end)
        length = min(stops[0] + 1 if len(stops) else 10, found.shape[1])
        np.testing.assert_array_equal(row[:length], text[:length])
        assert (row[length:] == 94).all()
    alone = write(backend, model, PROMPT[:1], max_new_tokens=10, eos_token_id=[end, 93])
    assert alone.shape[1] == np.flatnonzero(free[0] == end)[0] + 1


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_no_sequence_ends_before_min_new_tokens(backend, write):
    model = tiny_model(backend.name)
    end = greedy_token(backend, model, 0)
    found = write(backend, model, max_new_tokens=8, min_new_tokens=4, eos_token_id=end)
    assert found.shape[1] >= 5 or (found[:, :4] != end).all()
    assert (found[:, :4] != end).all()


def test_lengths_are_counted_as_users_know_them(backend):
    model = tiny_model(backend.name)
    open_end = {"eos_token_id": None}
    assert written(backend, model, **open_end).shape[1] == 20
    assert written(backend, model, max_length=12, **open_end).shape[1] == 5
    assert written(backend, model, max_length=12, max_new_tokens=3, **open_end).shape[1] == 3
    long = draw_ids((1, 60), seed=4)
    assert written(backend, model, long, **open_end).shape[1] == 4  # the context has 64


def test_a_streamer_has_a_token_before_the_next_is_computed(backend):
    class Enough(Exception):
        pass

    class Impatient(Steps):
        def put(self, tokens):
            super().put(tokens)
            if len(self.steps) == 4:
                raise Enough

    model, streamer = tiny_model(backend.name), Impatient()
    with pytest.raises(Enough):
        written(backend, model, max_new_tokens=40, streamer=streamer, eos_token_id=None)
    free = written(backend, model, max_new_tokens=3, eos_token_id=None)
    np.testing.assert_array_equal(np.stack(streamer.steps[1:], axis=1), free)


def test_generation_options_beside_a_checkpoint_are_the_defaults(backend, tmp_path):
    model = tiny_model(backend.name)
    model.save_pretrained(tmp_path)
    GenerationConfig(max_new_tokens=5, eos_token_id=3).save_pretrained(tmp_path)
    loaded = load(backend.name, tmp_path)
    assert loaded.generation_config.max_new_tokens == 5
    assert loaded.generation_config.eos_token_id == 3
    assert written(backend, loaded, PROMPT[:1], min_new_tokens=5).shape[1] == 5


def test_generating_leaves_no_trace_on_the_model(backend):
    model = tiny_model(backend.name)
    before = model.config.to_dict()
    written(backend, model, max_new_tokens=3, do_sample=True)
    assert model.config.to_dict() == before


def test_full_vocabulary_sampling_of_the_demo_model_agrees_with_the_oracle(framework):
    from models import DEMO

    config, weights = checkpoint_weights(DEMO)
    prompt = np.array([[4299, 12900, 7, 77, 2599]])
    options = {"do_sample": True, "top_k": 0, "seed": 5, "max_new_tokens": 12}
    model, oracle = load(framework.name, DEMO), get_backend(PLUGGED_IN)
    expected = written(oracle, load(PLUGGED_IN, DEMO), prompt, **options)
    plan = make_plan(GenerationConfig.from_model(config).updated(**options), 5, config)
    for write in WAYS.values():
        found = write(framework, model, prompt, **options)
        assert_same_tokens(found, expected, plan, config, weights, prompt)


def test_the_other_sequences_of_a_batch_do_not_change_a_sampled_sequence(backend):
    model = tiny_model(backend.name)
    options = {"do_sample": True, "top_k": 0, "seed": 6, "max_new_tokens": 8, "eos_token_id": None}
    others = np.vstack((PROMPT[:2], draw_ids((1, 7), seed=12)))
    first, second = (written(backend, model, ids, **options) for ids in (PROMPT, others))
    np.testing.assert_array_equal(first[:2], second[:2])
