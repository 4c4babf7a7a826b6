"""Padding never changes what a row means, on either side, in any backend."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptj.backends import get_backend
from installed import FRAMEWORKS, PLUGGED_IN
from models import draw_ids, run, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

ROW = draw_ids((1, 9), seed=5)


def padded(count, side):
    """Return the row with `count` tokens of padding, its mask, and where the row is in it."""
    noise = draw_ids((1, count), seed=6)
    zeros, ones = np.zeros((1, count), int), np.ones_like(ROW)
    if side == "left":
        return np.hstack((noise, ROW)), np.hstack((zeros, ones)), slice(count, None)
    return np.hstack((ROW, noise)), np.hstack((ones, zeros)), slice(None, ROW.shape[1])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_a_padded_sequence_equals_its_unpadded_self(backend, side, count):
    model = tiny_model(backend.name)
    ids, mask, place = padded(count, side)
    alone = run(backend, model, input_ids=ROW).logits
    found = run(backend, model, input_ids=ids, attention_mask=mask).logits[:, place]
    assert_close(found, alone, "float32", "logits")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_sequence_in_a_batch_equals_the_sequence_alone(backend, side):
    model = tiny_model(backend.name)
    ids, mask, place = padded(4, side)
    ids = np.vstack((draw_ids((2, 13), seed=8), ids))
    mask = np.vstack((np.ones((2, 13), int), mask))
    alone = run(backend, model, input_ids=ROW).logits[0]
    found = run(backend, model, input_ids=ids, attention_mask=mask).logits[2, place]
    assert_close(found, alone, "float32", "logits")


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_the_text(backend, side):
    model = tiny_model(backend.name)
    ids, mask, _ = padded(6, side)
    alone = backend.to_numpy(model.generate(ROW, max_new_tokens=12, eos_token_id=None))
    text = backend.to_numpy(model.generate(ids, mask, max_new_tokens=12, eos_token_id=None))
    np.testing.assert_array_equal(text[:, -12:], alone[:, -12:])


@pytest.mark.parametrize("name", [*FRAMEWORKS, PLUGGED_IN])
@settings(max_examples=8, deadline=None)
@given(bits=st.lists(st.booleans(), min_size=9, max_size=9))
def test_what_is_masked_never_moves_what_is_attended(name, bits):
    backend, mask = get_backend(name), np.array([bits], int)
    model = tiny_model(name)
    other = np.where(mask != 0, ROW, draw_ids((1, 9), seed=7))
    first, second = (
        run(backend, model, input_ids=ids, attention_mask=mask).logits for ids in (ROW, other)
    )
    kept = mask != 0
    np.testing.assert_array_equal(first[kept], second[kept])


def loss(backend, ids, mask, labels):
    output = run(
        backend, tiny_model(backend.name), input_ids=ids, attention_mask=mask, labels=labels
    )
    return float(output.loss)


def test_the_first_token_after_padding_is_learnt_from_a_pad_unless_it_is_ignored(backend):
    alone = loss(backend, ROW, np.ones_like(ROW), ROW)
    for side in ("right", "left"):
        ids, mask, place = padded(4, side)
        labels = np.where(mask != 0, ids, -100)
        if side == "left":
            assert abs(loss(backend, ids, mask, labels) - alone) > 1e-2  # as transformers has it
            labels[:, place.start] = -100
        assert_close(loss(backend, ids, mask, labels), alone, "float32", side)
