"""Finished sequences leave the batch, caches grow, and the text stays as it is."""

import numpy as np
import pytest

from gptj.backends import get_backend
from gptj.generation import finished_sequences
from models import tiny_model
from rarely import rarely

pytestmark = pytest.mark.frameworks

ENDS = list(range(40, 61))
"""A part of the vocabulary, so that sequences end at different steps."""
SEQUENCES, NEW = 12, 150
SAMPLED = [{"do_sample": True, "top_k": 0, "seed": seed} for seed in (0, 1, 2)]


@pytest.fixture
def model(backend):
    return tiny_model(backend.name, n_positions=192)


@pytest.fixture
def followed(monkeypatch):
    """Make segments small; return a list that the segments after the first one come into."""
    seen, following = [], finished_sequences.Segments.following

    def follow(self, *arguments):
        seen.append(following(self, *arguments))
        return seen[-1]

    monkeypatch.setattr(finished_sequences, "FIRST_CAPACITY", 64)
    monkeypatch.setattr(finished_sequences, "MIN_STEPS_LEFT", 2)
    monkeypatch.setattr(finished_sequences.Segments, "following", follow)
    return seen


def written(model, **options):
    backend = get_backend(model.backend_name)
    ids = np.arange(SEQUENCES * 5, dtype=np.int32).reshape(SEQUENCES, 5) % 40
    mask = np.ones_like(ids)
    mask[::3, :2] = 0
    ids, mask = (backend.from_numpy(array, model) for array in (ids, mask))
    options = {"eos_token_id": ENDS, "pad_token_id": 3, **options}
    found = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, **options)
    return backend.to_numpy(found["sequences"] if "return_dict_in_generate" in options else found)


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_the_text_is_that_of_the_reference_decoder_which_keeps_all_sequences(
    model, followed, options
):
    found = written(model, **options)
    reference_text = written(model, **options, return_dict_in_generate=True)
    np.testing.assert_array_equal(found, reference_text)
    lengths = (found[:, 5:] != 3).sum(1)
    assert len(set(lengths)) > 2, "all sequences end at once, so this shows nothing"


@pytest.mark.parametrize("options", [{}, SAMPLED[0], *map(rarely, SAMPLED[1:])], ids=str)
def test_a_loop_of_tensorflow_without_xla_writes_the_same_text(
    tf_backend, followed, monkeypatch, options
):
    model = tiny_model("tf", n_positions=192)
    expected = written(model, **options)
    monkeypatch.setattr("gptj.backends.tf.compiled_loop.is_for_xla", lambda model, sequences: False)
    model.functions.compiled.clear()
    np.testing.assert_array_equal(written(model, **options), expected)
    assert followed


@pytest.fixture(params=["tf", "flax"])
def compiled(request):
    """A model whose loop is compiled for its size."""
    request.getfixturevalue(f"{request.param}_backend")
    return tiny_model(request.param, n_positions=192)


def test_the_batch_of_a_compiled_loop_becomes_smaller(compiled, followed):
    written(compiled, **SAMPLED[0])
    sizes = [segment.sequences for segment in followed]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] <= SEQUENCES // 4


def test_the_cache_of_a_compiled_loop_grows(compiled, followed):
    found = written(compiled, eos_token_id=None)
    reference_text = written(compiled, eos_token_id=None, return_dict_in_generate=True)
    np.testing.assert_array_equal(found, reference_text)
    rooms = [segment.capacity for segment in followed]
    assert rooms and rooms == sorted(set(rooms))


def test_the_batch_becomes_smaller_in_pytorch(torch_backend):
    model, sizes = tiny_model("torch", n_positions=192), []
    hook = model.transformer.register_forward_hook(
        lambda module, args, output: sizes.append(output.last_hidden_state.shape[0])
    )
    written(model, **SAMPLED[0])
    hook.remove()
    assert sizes[0] == SEQUENCES and sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= SEQUENCES // 2
