"""Every backend against the oracle: what it returns, for every argument, head and variant."""

from itertools import product

import numpy as np
import pytest

from golden_cases import golden_cases
from gptj.spec.config_checks import ACTIVATIONS
from gptj.spec.heads import HEADS
from gptj.spec.reference import forward
from models import (
    ALL_FIELDS,
    DEMO,
    checkpoint_weights,
    draw_ids,
    load,
    oracle,
    run,
    tiny_config,
    tiny_model,
)
from rarely import often
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

BATCH, LENGTH = 3, 11
IDS = draw_ids((BATCH, LENGTH))
GENERATOR = np.random.Generator(np.random.PCG64(1))
LEFT = np.array([[0] * n + [1] * (LENGTH - n) for n in (0, 3, 7)])
RIGHT = LEFT[:, ::-1].copy()
HOLES = np.array([[1] * 11, [0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1]])
LABELS = np.where(GENERATOR.random((BATCH, LENGTH)) < 0.3, -100, IDS)
ADDITIVE = np.where(
    np.tril(GENERATOR.random((BATCH, 1, LENGTH, LENGTH)) < 0.8) | np.eye(LENGTH, dtype=bool),
    GENERATOR.standard_normal((BATCH, 1, LENGTH, LENGTH)),
    -np.inf,
).astype(np.float32)

CALLS = {
    "ids alone": {"input_ids": IDS},
    "left padding": {"input_ids": IDS, "attention_mask": LEFT},
    "right padding": {"input_ids": IDS, "attention_mask": RIGHT},
    "holes in the mask": {"input_ids": IDS, "attention_mask": HOLES},
    "additive mask": {"input_ids": IDS, "attention_mask": ADDITIVE},
    "positions": {"input_ids": IDS, "position_ids": GENERATOR.integers(0, 64, (BATCH, LENGTH))},
    "one row of positions": {"input_ids": IDS, "position_ids": np.arange(5, 5 + LENGTH)[None]},
    "token types": {"input_ids": IDS, "token_type_ids": draw_ids((BATCH, LENGTH), 2)},
    "head mask": {"input_ids": IDS, "head_mask": GENERATOR.random(4).astype(np.float32)},
    "head mask per layer": {
        "input_ids": IDS,
        "attention_mask": LEFT,
        "head_mask": GENERATOR.random((2, 4)).astype(np.float32),
    },
    "embeddings": {
        "inputs_embeds": GENERATOR.standard_normal((BATCH, LENGTH, 40)).astype(np.float32),
        "attention_mask": RIGHT,
    },
}
OFTEN = [
    *((call, "causal_lm") for call in CALLS),
    *product(("left padding", "right padding", "head mask per layer", "embeddings"), HEADS),
]
"""All heads share the blocks, so most calls of all but one are for `slow`."""
VARIANTS = {
    "tied": {"tie_word_embeddings": True},
    "whole head rotated": {"rotary_dim": None},
    "default inner width": {"n_inner": None},
    "another epsilon": {"layer_norm_epsilon": 1e-3},
    **{f"activation {name}": {"activation_function": name} for name in ACTIVATIONS},
}


def attended(call):
    """Return which positions of a call mean anything, (B, T)."""
    mask = call.get("attention_mask")
    return np.ones((BATCH, LENGTH), bool) if mask is None or mask.ndim == 4 else mask != 0


def compare(output, expected, kept, head="causal_lm"):
    """Compare every field at the attended positions; a classification has no axis of those."""
    for name in ("last_hidden_state", "logits", "start_logits", "end_logits"):
        if name in expected:
            rows = ... if head == "sequence_classification" else kept
            assert_close(output[name][rows], expected[name][rows], "float32", name)
    for layer, (found, true) in enumerate(
        zip(output.hidden_states, expected.hidden_states, strict=True)
    ):
        assert_close(found[kept], true[kept], "float32", f"hidden_states[{layer}]")
    for layer, (found, true) in enumerate(zip(output.attentions, expected.attentions, strict=True)):
        rows = np.broadcast_to(kept[:, None], found.shape[:3])
        assert_close(found[rows], true[rows], "float32", f"attentions[{layer}]")


@pytest.mark.parametrize(("call", "head"), often(product(CALLS, HEADS), OFTEN))
def test_every_field_equals_the_oracle(backend, head, call):
    model = tiny_model(backend.name, head)
    output = run(backend, model, **CALLS[call], **ALL_FIELDS)
    compare(output, oracle(head, **CALLS[call]), attended(CALLS[call]), head)


@pytest.mark.parametrize("call", ["ids alone", "left padding", "additive mask", "token types"])
def test_the_fused_path_equals_the_oracle(backend, call):
    output = run(backend, tiny_model(backend.name), **CALLS[call])
    kept = attended(CALLS[call])
    expected = oracle(**CALLS[call])
    assert_close(output.logits[kept], expected.logits[kept], "float32", "logits")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_the_configuration_equals_the_oracle(backend, variant):
    model = tiny_model(backend.name, **VARIANTS[variant])
    expected = oracle(changes=VARIANTS[variant].items(), **CALLS["left padding"])
    output = run(backend, model, **CALLS["left padding"], **ALL_FIELDS)
    compare(output, expected, LEFT != 0)


@pytest.mark.parametrize("case", golden_cases(), ids=str)
def test_outputs_equal_those_of_another_system(backend, case):
    model = load(backend.name, case.folder, case.head)
    output = run(backend, model, **case.inputs)
    for name, expected in case.expected.items():
        found = case.select(output, name)
        assert_close(found, expected, "golden", name)


@pytest.mark.parametrize("mask", [None, LEFT, RIGHT], ids=["whole", "left", "right"])
def test_the_loss_equals_the_oracle(backend, mask):
    inputs = {"input_ids": IDS, "attention_mask": mask, "labels": LABELS}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    output = run(backend, tiny_model(backend.name), **inputs)
    assert output.loss.shape == ()
    if mask is None:
        assert_close(output.loss, np.asarray(oracle(**inputs).loss), "float32", "loss")
        return
    inputs["labels"] = np.where(mask != 0, LABELS, -100)  # padded rows mean nothing
    output = run(backend, tiny_model(backend.name), **inputs)
    assert_close(output.loss, np.asarray(oracle(**inputs).loss), "float32", "loss")


def test_the_loss_over_the_full_vocabulary_equals_the_oracle(framework):
    config, weights = checkpoint_weights(DEMO)
    ids = draw_ids((2, 100), seed=9, vocab=config.vocab_size)
    expected = forward(config, weights, input_ids=ids, labels=ids).loss
    found = run(framework, load(framework.name, DEMO), input_ids=ids, labels=ids).loss
    assert_close(found, np.asarray(expected), "float32", "loss")


def test_the_loss_without_labels_to_predict_is_zero(backend):
    output = run(backend, tiny_model(backend.name), input_ids=IDS, labels=np.full_like(IDS, -100))
    assert output.loss == 0.0


TARGETS = {
    "causal_lm": {"labels": LABELS},
    "sequence_classification": {"labels": np.array([1, 0, 1])},
    "question_answering": {
        "start_positions": np.array([1, 2, 3]),
        "end_positions": np.array([4, 2, 9]),
    },
}


@pytest.mark.parametrize("head", TARGETS)
def test_logits_and_losses_are_float32_in_every_dtype(framework, head):
    for dtype in framework.capabilities.dtypes:
        model = tiny_model(framework.name, head, dtype=dtype)
        output = run(framework, model, input_ids=IDS, **TARGETS[head])
        names = {"loss", "logits", "start_logits", "end_logits"} & output.keys()
        assert {output[name].dtype for name in names} == {np.dtype(np.float32)}


@pytest.mark.parametrize("keep", [1, 4, np.array([0, 5, 10])], ids=["last", "four", "chosen"])
def test_only_the_logits_that_are_asked_for_are_computed(backend, keep):
    model = tiny_model(backend.name)
    whole = run(backend, model, input_ids=IDS).logits
    expected = whole[:, keep] if isinstance(keep, np.ndarray) else whole[:, -keep:]
    found = run(backend, model, input_ids=IDS, logits_to_keep=keep).logits
    assert_close(found, expected, "float32", "logits")


def test_a_row_that_attends_to_nothing_is_finite(backend):
    mask = LEFT.copy()
    mask[1] = 0
    for fields in ({}, ALL_FIELDS):
        output = run(
            backend, tiny_model(backend.name), input_ids=IDS, attention_mask=mask, **fields
        )
        assert np.isfinite(output.logits).all()
    others = [0, 2]
    expected = oracle(input_ids=IDS, attention_mask=mask).logits
    kept = mask[others] != 0
    assert_close(output.logits[others][kept], expected[others][kept], "float32", "logits")


def test_return_dict_false_gives_the_plain_tuple(backend):
    model, ids = tiny_model(backend.name), backend.from_numpy(IDS)
    output = model(ids, use_cache=False, return_dict=False)
    assert type(output) is tuple
    assert len(output) == 1
    assert output[0].shape == (BATCH, LENGTH, 96)


def test_the_config_sets_the_defaults_of_a_call(backend):
    model = tiny_model(backend.name, output_hidden_states=True, use_cache=False)
    output = model(backend.from_numpy(IDS))
    assert list(output) == ["logits", "hidden_states"]
    assert len(output.hidden_states) == tiny_config().n_layer + 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_as_near_as_its_rounding(framework, dtype):
    model = tiny_model(framework.name, dtype=dtype)
    for fields in ({}, ALL_FIELDS):
        output = run(framework, model, **CALLS["left padding"], **fields)
        expected = oracle(**CALLS["left padding"]).logits
        kept = LEFT != 0
        assert_close(output.logits[kept], expected[kept], dtype, "logits")
