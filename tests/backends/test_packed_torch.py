"""Sequences that a trainer packs into one row: each is computed as alone."""

import numpy as np
import pytest

from gptj.errors import ArgumentError, InputError
from models import draw_ids, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

LENGTHS = (3, 6, 1, 4)
BOUNDARIES = [0, 3, 9, 10, 14]
IDS = draw_ids((1, 14), seed=61)
LABELS = IDS.copy()
LABELS[0, BOUNDARIES[:-1]] = -100  # what follows another sequence


@pytest.mark.parametrize("places", [None, np.concatenate([np.arange(n) for n in LENGTHS])[None]])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_each_sequence_has_the_logits_that_it_has_alone(torch_backend, places, implementation):
    model = tiny_model("torch")
    model.transformer.attn_implementation = implementation
    packed = model(IDS, cu_seq_lens_q=BOUNDARIES, position_ids=places).logits[0]
    model.transformer.attn_implementation = "sdpa"
    for start, length in zip(BOUNDARIES[:-1], LENGTHS, strict=True):
        alone = model(IDS[:, start : start + length]).logits[0].detach().numpy()
        found = packed[start : start + length].detach().numpy()
        assert_close(found, alone, "float32", "output")


def test_the_loss_is_that_of_the_sequences(torch_backend):
    model = tiny_model("torch")
    beside = {"cu_seq_lens_k": BOUNDARIES, "max_length_q": 6, "max_length_k": 6}
    packed = model(IDS, labels=LABELS, cu_seq_lens_q=BOUNDARIES, **beside).loss
    parts = [IDS[:, start : start + n] for start, n in zip(BOUNDARIES[:-1], LENGTHS, strict=True)]
    alone = [model(part, labels=part, num_items_in_batch=10).loss.item() for part in parts]
    assert_close(packed.item(), sum(alone), "float32", "loss")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cu_seq_lens_q": [0, 3, 9]}, InputError, r"must rise from 0 .* found \[0, 3, 9\]"),
        ({"cu_seq_lens_q": [0, 9, 3, 14]}, InputError, "must rise from 0 to the number of tokens"),
        ({"cu_seq_lens_k": [0, 14]}, InputError, "cu_seq_lens_k must be the same"),
        ({"attention_mask": np.ones((1, 14))}, ArgumentError, "and an attention_mask"),
        ({"cu_seq_lens": [0, 14]}, ArgumentError, "no argument 'cu_seq_lens'. Did you mean"),
        ({"input_ids": np.repeat(IDS, 2, 0)}, InputError, r"for inputs of shape \(2, 14\)"),
    ],
    ids=["short", "falling", "keys", "mask", "name", "batch"],
)
def test_what_is_no_row_of_packed_sequences_is_refused(torch_backend, changes, error, message):
    inputs = {"input_ids": IDS, "cu_seq_lens_q": BOUNDARIES, **changes}
    with pytest.raises(error, match=message):
        tiny_model("torch")(**inputs)


def test_sizes_without_boundaries_are_refused(torch_backend):
    with pytest.raises(ArgumentError, match="need their boundaries, cu_seq_lens_q"):
        tiny_model("torch", "base")(IDS, max_length_q=6)
