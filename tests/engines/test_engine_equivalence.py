"""Every engine against the oracle: outputs for masks, heads and variants, caches, losses."""

import numpy as np
import pytest

from engine_cases import BATCH, CALLS, ENGINES, IDS, LEFT, LENGTH, RIGHT, attended
from gptj.backends import get_backend
from gptj.errors import ArgumentError, SequenceTooLong, UnsupportedFeature
from gptj.spec.config_checks import ACTIVATIONS
from models import oracle, run, tiny_config, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

VARIANTS = {
    "tied": {"tie_word_embeddings": True},
    "whole head rotated": {"rotary_dim": None},
    "one pair rotated": {"rotary_dim": 2},
    "default inner width": {"n_inner": None},
    "a single head": {"n_head": 1},
    "another epsilon": {"layer_norm_epsilon": 0.01},
    **{f"activation {name}": {"activation_function": name} for name in ACTIVATIONS},
}
HEADS = [(name, head) for name in ENGINES for head in get_backend(name).capabilities.heads]
OUTPUTS = ("last_hidden_state", "logits", "start_logits", "end_logits")

TARGETS = {
    "causal_lm": {"labels": np.where(RIGHT != 0, IDS, -100)},
    "sequence_classification": {"labels": np.array([1, 0, 1])},
    "question_answering": {
        "start_positions": np.array([1, 2, 3]),
        "end_positions": np.array([4, 2, 9]),
    },
}


def compare(output, expected, kept, head):
    """Compare the outputs of a head at the attended positions."""
    found = [name for name in OUTPUTS if name in expected]
    assert found == [name for name in OUTPUTS if name in output]
    for name in found:
        rows = ... if head == "sequence_classification" else kept
        assert output[name].dtype == np.float32
        assert_close(output[name][rows], expected[name][rows], "engine", name)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("name", "head"), HEADS)
def test_every_head_equals_the_oracle(name, head, call):
    output = run(get_backend(name), tiny_model(name, head), **CALLS[call])
    compare(output, oracle(head, **CALLS[call]), attended(CALLS[call]), head)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_the_configuration_equals_the_oracle(engine, variant):
    changes, call = VARIANTS[variant], CALLS["left padding"]
    output = run(engine, tiny_model(engine.name, **changes), **call)
    compare(output, oracle(changes=changes.items(), **call), LEFT != 0, "causal_lm")


@pytest.mark.parametrize(("name", "head"), [case for case in HEADS if case[1] in TARGETS])
def test_losses_equal_the_oracle(name, head):
    inputs = {"input_ids": IDS, "attention_mask": RIGHT, **TARGETS[head]}
    output = run(get_backend(name), tiny_model(name, head), **inputs)
    assert_close(output.loss, np.asarray(oracle(head, **inputs).loss), "engine", "loss")


@pytest.mark.parametrize("keep", [1, 4, np.array([0, 5, 10])], ids=["last", "four", "chosen"])
def test_only_the_logits_that_are_asked_for_are_returned(engine, keep):
    whole = oracle(input_ids=IDS).logits
    expected = whole[:, keep] if isinstance(keep, np.ndarray) else whole[:, -keep:]
    found = run(engine, tiny_model(engine.name), input_ids=IDS, logits_to_keep=keep).logits
    assert_close(found, expected, "engine", "logits")


@pytest.mark.parametrize("is_preallocated", [False, True])
def test_token_by_token_equals_the_oracle(engine, is_preallocated):
    model = tiny_model(engine.name)
    cache = engine.init_cache(model, BATCH, LENGTH) if is_preallocated else None
    found = []
    for start, stop in [(0, 5), *((place, place + 1) for place in range(5, LENGTH))]:
        mask = LEFT if is_preallocated else LEFT[:, :stop]  # of the whole cache, or what is filled
        inputs = {"input_ids": IDS[:, start:stop], "attention_mask": mask, "use_cache": True}
        output = run(engine, model, past_key_values=cache, **inputs)
        cache = output.past_key_values
        assert cache.length == stop
        found.append(output.logits)
    expected = oracle(input_ids=IDS, attention_mask=LEFT).logits
    kept = LEFT != 0
    assert_close(np.hstack(found)[kept], expected[kept], "engine", "logits")


def continued(engine, cache, rows, mask=None):
    """Return the logits of the last three tokens of some sequences, after a cache."""
    inputs = {"input_ids": IDS[rows, -3:], "attention_mask": mask}
    given = {name: value for name, value in inputs.items() if value is not None}
    return run(engine, tiny_model(engine.name), past_key_values=cache, **given).logits


ROWS = {
    "another order": [2, 0, 1],
    "fewer": [1],
    "more": [0, 0, 2, 1, 1],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_a_cache_of_chosen_sequences_goes_on_from_them(engine, rows):
    model = tiny_model(engine.name)
    prefill = {"input_ids": IDS[:, :-3], "attention_mask": LEFT[:, :-3], "use_cache": True}
    cache = run(engine, model, **prefill).past_key_values
    expected = oracle(input_ids=IDS, attention_mask=LEFT).logits[rows, -3:]
    found = continued(engine, cache.gather(np.array(rows)), rows, LEFT[rows])
    assert_close(found, expected, "engine", "chosen")


def test_caches_that_are_kept_stay_as_they_were(engine):
    """However many calls go on from one, in whatever order and with whatever sequences."""
    model = tiny_model(engine.name)
    expected = oracle(input_ids=IDS).logits[:, -3:]
    cache = run(engine, model, input_ids=IDS[:, :-3], use_cache=True).past_key_values
    chosen = cache.gather(np.array([1, 1, 0]))
    again, every = chosen.gather(np.array([2, 0])), [0, 1, 2]
    for _ in range(2):
        assert_close(continued(engine, chosen, [1, 1, 0]), expected[[1, 1, 0]], "engine", "chosen")
        assert_close(continued(engine, cache, every), expected, "engine", "first")
        assert_close(continued(engine, again, [0, 1]), expected[[0, 1]], "engine", "again")
    cropped = run(engine, model, input_ids=IDS, use_cache=True).past_key_values.crop(LENGTH - 3)
    assert_close(continued(engine, cropped, every), expected, "engine", "cropped")
    twice = cache.expand(2)
    rows = [0, 0, 1, 1, 2, 2]
    assert_close(continued(engine, twice, rows), expected[rows], "engine", "twice")
    roomy = cache.with_capacity(LENGTH)
    assert_close(continued(engine, roomy, every), expected, "engine", "roomy")
    assert_close(continued(engine, roomy.frozen(), every), expected, "engine", "frozen")


def test_a_cache_that_is_full_is_refused(engine):
    model = tiny_model(engine.name)
    cache = engine.init_cache(model, BATCH, LENGTH - 1)
    with pytest.raises(SequenceTooLong, match="made for 10"):
        run(engine, model, input_ids=IDS, past_key_values=cache)


def test_a_cache_of_another_kind_is_refused(engine):
    with pytest.raises(ArgumentError, match="past_key_values is a tuple"):
        run(engine, tiny_model(engine.name), input_ids=IDS, past_key_values=())


EXTRAS = {
    "inputs_embeds": {"inputs_embeds": np.zeros((BATCH, LENGTH, 40), np.float32)},
    "token_type_ids": {"input_ids": IDS, "token_type_ids": IDS},
    "head_mask": {"input_ids": IDS, "head_mask": np.ones(4, np.float32)},
    r"attention_mask of \(B, 1, T, S\)": {
        "input_ids": IDS,
        "attention_mask": np.ones((BATCH, 1, LENGTH, LENGTH), bool),
    },
    "output_attentions": {"input_ids": IDS, "output_attentions": True},
    "output_hidden_states": {"input_ids": IDS, "output_hidden_states": True},
}


@pytest.mark.parametrize("name", EXTRAS)
def test_what_an_engine_lacks_is_named(engine, name):
    with pytest.raises(UnsupportedFeature, match=f"{engine.name}.*{name}.*numpy"):
        run(engine, tiny_model(engine.name), **EXTRAS[name])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_dtype_is_refused(engine, dtype):
    with pytest.raises(UnsupportedFeature, match=f"{dtype}.*float32"):
        engine.build(tiny_config(), "causal_lm", dtype=dtype)


def test_other_parameters_change_what_is_computed(engine):
    build, changes = engine.build, {"layer_norm_epsilon": 0.01}
    model = build(tiny_config(**changes), "causal_lm", seed=3)
    tensors = engine.dump_params(tiny_model(engine.name, **changes))
    engine.load_params(model, tensors)
    found = run(engine, model, input_ids=IDS).logits
    expected = oracle(changes=changes.items(), input_ids=IDS).logits
    assert_close(found, expected, "engine", "logits")
