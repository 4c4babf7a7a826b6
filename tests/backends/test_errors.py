"""Bad input: one clear error of the package's own, the same from every backend."""

import numpy as np
import pytest

import gptj
from gptj.errors import (
    ArgumentError,
    CheckpointError,
    GPTJError,
    InputError,
    SequenceTooLong,
    TokenOutOfRange,
    UnsupportedFeature,
)
from models import draw_ids, tiny_model
from paths import TINY

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 5), vocab=60)


def embeds(*shape):
    return np.zeros(shape, np.float32)


def with_token(value):
    ids = IDS.copy()
    ids[1, 2] = value
    return ids


BAD_CALLS = {
    "id above the vocabulary": (
        {"input_ids": with_token(96)},
        TokenOutOfRange,
        "input_ids holds 96 at row 1, column 2; the vocabulary has 0 to 95",
    ),
    "negative id": ({"input_ids": with_token(-1)}, TokenOutOfRange, "input_ids holds -1"),
    "token type out of range": (
        {"input_ids": IDS, "token_type_ids": with_token(500)},
        TokenOutOfRange,
        "token_type_ids holds 500",
    ),
    "position out of range": (
        {"input_ids": IDS, "position_ids": with_token(64)},
        TokenOutOfRange,
        "position_ids holds 64 at row 1, column 2; the context has 0 to 63",
    ),
    "too many tokens": (
        {"input_ids": draw_ids((1, 65))},
        SequenceTooLong,
        r"65 tokens .* at most n_positions = 64",
    ),
    "no input": ({}, ArgumentError, "exactly one of input_ids and inputs_embeds; found neither"),
    "two inputs": (
        {"input_ids": IDS, "inputs_embeds": embeds(2, 5, 40)},
        ArgumentError,
        "exactly one of input_ids and inputs_embeds; found both",
    ),
    "flat ids": ({"input_ids": IDS[0]}, InputError, r"must be \(batch, length\); found shape \(5,"),
    "float ids": (
        {"input_ids": IDS.astype(np.float32)},
        InputError,
        "input_ids must hold integers; found .*float32",
    ),
    "empty prompt": ({"input_ids": IDS[:, :0]}, InputError, "The input is empty"),
    "narrow embeddings": (
        {"inputs_embeds": embeds(2, 5, 39)},
        InputError,
        r"must be \(batch, length, 40\); found shape \(2, 5, 39\)",
    ),
    "short mask": (
        {"input_ids": IDS, "attention_mask": np.ones((2, 4), int)},
        InputError,
        r"attention_mask must be \(batch, keys\) = \(2, 5\).* found shape \(2, 4\)",
    ),
    "mask of another batch": (
        {"input_ids": IDS, "attention_mask": np.ones((3, 5), int)},
        InputError,
        r"found shape \(3, 5\)",
    ),
    "mask with three axes": (
        {"input_ids": IDS, "attention_mask": np.ones((2, 1, 5), int)},
        InputError,
        r"found shape \(2, 1, 5\)",
    ),
    "positions of another length": (
        {"input_ids": IDS, "position_ids": np.zeros((2, 4), int)},
        InputError,
        "position_ids must be",
    ),
    "head mask of another model": (
        {"input_ids": IDS, "head_mask": np.ones(5, np.float32)},
        InputError,
        r"head_mask must be \(n_head,\) = \(4,\)",
    ),
    "labels of another shape": (
        {"input_ids": IDS, "labels": IDS[:, :4]},
        InputError,
        r"labels must be \(batch, length\) = \(2, 5\)",
    ),
    "label out of range": (
        {"input_ids": IDS, "labels": with_token(96)},
        TokenOutOfRange,
        "labels holds 96",
    ),
    "labels with few logits": (
        {"input_ids": IDS, "labels": IDS, "logits_to_keep": 1},
        ArgumentError,
        "labels need the logits of every position",
    ),
}


def call(backend, **inputs):
    """Call a model as a user does."""
    model = tiny_model(backend.name)
    tensors = {
        name: backend.from_numpy(value, model) if isinstance(value, np.ndarray) else value
        for name, value in inputs.items()
    }
    return model(**tensors)


@pytest.mark.parametrize("bad", BAD_CALLS)
def test_a_bad_call_is_refused_with_a_clear_message(backend, bad):
    inputs, kind, message = BAD_CALLS[bad]
    with pytest.raises(kind, match=message) as raised:
        call(backend, **inputs)
    assert isinstance(raised.value, GPTJError)


def test_a_sequence_that_outgrows_the_context_with_its_cache_is_refused(backend):
    cache = call(backend, input_ids=draw_ids((1, 60)), use_cache=True).past_key_values
    with pytest.raises(SequenceTooLong, match=r"65 tokens \(60 of them in the cache\)"):
        call(backend, input_ids=draw_ids((1, 5)), past_key_values=cache)


def test_a_sequence_that_outgrows_its_preallocated_cache_is_refused(backend):
    cache = backend.init_cache(tiny_model(backend.name), 1, 8)
    with pytest.raises(SequenceTooLong, match="the cache was made for 8"):
        call(backend, input_ids=draw_ids((1, 9)), past_key_values=cache)


DRAWN = {"do_sample": True}

BAD_REQUESTS = {
    "unknown option": ({"max_new_token": 3}, ArgumentError, "Did you mean 'max_new_tokens'"),
    "no new tokens": ({"max_new_tokens": 0}, ArgumentError, "max_new_tokens must be a positive"),
    "temperature below zero": ({"temperature": -1, **DRAWN}, ArgumentError, "temperature must be"),
    "negative top_k": ({"top_k": -1, **DRAWN}, ArgumentError, "top_k must be"),
    "top_p of zero": ({"top_p": 0.0, **DRAWN}, ArgumentError, r"top_p must be in \(0, 1\]"),
    "end token of text": ({"eos_token_id": "x"}, ArgumentError, "eos_token_id must be"),
    "max_length too short": ({"max_length": 5}, ArgumentError, "leaves nothing to write"),
    "too many new tokens": ({"max_new_tokens": 60}, SequenceTooLong, "ask for at most 59"),
}


@pytest.mark.parametrize("bad", BAD_REQUESTS)
def test_a_bad_request_to_generate_is_refused(backend, bad):
    options, kind, message = BAD_REQUESTS[bad]
    with pytest.raises(kind, match=message):
        tiny_model(backend.name).generate(IDS, **options)


def test_generate_refuses_an_empty_prompt_and_a_bad_mask(backend):
    model = tiny_model(backend.name)
    with pytest.raises(InputError, match="The input is empty"):
        model.generate(IDS[:, :0])
    with pytest.raises(InputError, match="attention_mask must be"):
        model.generate(IDS, np.ones((2, 4), int))
    with pytest.raises(TokenOutOfRange, match="holds 96"):
        model.generate(with_token(96))
    with pytest.raises(ArgumentError, match="needs input_ids"):
        model.generate()


def test_a_model_without_a_head_cannot_generate(backend):
    with pytest.raises(UnsupportedFeature, match="needs a language-model head"):
        tiny_model(backend.name, "base").generate(IDS)


BAD_LOADS = {
    "unknown head": ({"head": "casual_lm"}, ArgumentError, "Did you mean 'causal_lm'"),
    "unknown dtype": ({"dtype": "float8"}, UnsupportedFeature, "does not have the dtype 'float8'"),
    "unknown argument": ({"revison": "x"}, ArgumentError, "Loading has no argument 'revison'"),
    "unknown device": ({"device": "quantum"}, ArgumentError, "has no device 'quantum'"),
    "other sizes": ({"n_embd": 48}, CheckpointError, r"transformer\.wte\.weight is \(96, 40\)"),
    "more layers": ({"n_layer": 3}, CheckpointError, r"missing: .*h\.2\.attn\.k_proj\.weight"),
    "fewer layers": ({"n_layer": 1}, CheckpointError, r"unexpected: .*h\.1\.attn\.k_proj\.weight"),
}


@pytest.mark.parametrize("bad", BAD_LOADS)
def test_a_bad_load_is_refused(framework, bad):
    options, kind, message = BAD_LOADS[bad]
    with pytest.raises(kind, match=message):
        gptj.load(TINY, backend=framework.name, **options)


def test_an_unknown_backend_is_refused_with_the_nearest_name():
    with pytest.raises(ArgumentError, match=r"Unknown backend 'tensorflw'\. Did you mean"):
        gptj.load(backend="tensorflw")


def test_an_unknown_public_name_is_refused_with_the_nearest_name():
    with pytest.raises(AttributeError, match="Did you mean 'GPTJForCausalLM'"):
        _ = gptj.GPTJForCausalML


@pytest.mark.parametrize("head", ["base", "causal_lm", "sequence_classification"])
@pytest.mark.parametrize("found", ["mask", "tuple"])
def test_what_is_no_cache_is_refused_by_name(backend, head, found):
    model = tiny_model(backend.name, head)
    keys = backend.from_numpy(np.ones((2, 4, 3, 10), np.float32))
    given = backend.from_numpy(np.ones_like(IDS)) if found == "mask" else ((keys, keys),) * 2
    with pytest.raises(ArgumentError, match=r"past_key_values is a \w+; accepted is the past"):
        model(backend.from_numpy(IDS), past_key_values=given)


@pytest.mark.parametrize("head", ["base", "causal_lm", "sequence_classification"])
def test_a_mask_in_the_place_of_the_cache_is_told_its_name(torch_backend, head):
    import torch

    ids = torch.as_tensor(IDS)
    with pytest.raises(TypeError, match=r"second argument: .* attention_mask=mask"):
        tiny_model("torch", head)(ids, torch.ones_like(ids))
