"""vLLM: the oracle's logits, NumPy's texts, and what is refused. Run by ``tox -e vllm``."""

import numpy as np
import pytest

pytest.importorskip("vllm")


from engine_cases import CALLS, IDS, LENGTH, PROMPTS, REQUESTS, RIGHT, attended
from gptj.backends import get_backend
from gptj.errors import UnsupportedFeature
from gptj.generation.no_token import NoToken
from gptj.spec.tensors import LazyTensor
from models import DEMO, load, oracle, run, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore"),  # of vLLM's own
]

BACKEND = get_backend("vllm")
WIDE = {"n_embd": 128, "n_head": 4, "rotary_dim": 16}
"""Heads of 32 numbers, the fewest that vLLM has."""


@pytest.mark.parametrize("is_tied", [False, True])
def test_logits_and_loss_equal_the_oracle(is_tied):
    changes = {**WIDE, "tie_word_embeddings": is_tied, "layer_norm_epsilon": 0.01}
    model = tiny_model("vllm", **changes)
    for call in CALLS.values():
        found = run(BACKEND, model, **call).logits
        expected = oracle(changes=changes.items(), **call).logits
        assert_close(found[attended(call)], expected[attended(call)], "engine", "logits")
    given = {"input_ids": IDS, "attention_mask": RIGHT, "labels": np.where(RIGHT != 0, IDS, -100)}
    expected = oracle(changes=changes.items(), **given).loss
    assert_close(run(BACKEND, model, **given).loss, np.asarray(expected), "engine", "loss")


def test_a_call_goes_on_from_an_earlier_one():
    model, expected = tiny_model("vllm", **WIDE), oracle(changes=WIDE.items(), input_ids=IDS).logits
    first = model(IDS[:, :6], use_cache=True)
    second = model(IDS[:, 6:], first.past_key_values, use_cache=True)
    found = np.concatenate((first.logits, second.logits), axis=1)
    assert second.past_key_values.length == LENGTH
    assert_close(found, expected, "engine", "logits")


def test_a_text_as_long_as_the_context_has_logits():
    model = tiny_model("vllm", **WIDE)
    ids = np.resize(IDS, (1, model.config.n_positions))
    expected = oracle(changes=WIDE.items(), input_ids=ids).logits[:, -1:]
    assert_close(model(ids, logits_to_keep=1).logits, expected, "engine", "logits")


@pytest.mark.parametrize("batch_size", [1, 12])
def test_greedy_texts_equal_those_of_numpy(batch_size):
    options = {"max_new_tokens": 16, "do_sample": False}
    found = load("vllm", DEMO).generate_text(PROMPTS, batch_size=batch_size, **options)
    assert found == load("numpy", DEMO).generate_text(PROMPTS, batch_size=12, **options)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_tokens_of_every_mode_equal_those_of_numpy(request_):
    ids = np.array([[4299, 12900, 7, 77], [50256, 50256, 11748, 28686]])
    mask, options = (ids != 50256).astype(np.int64), {"max_new_tokens": 8, "do_sample": False}
    options |= request_
    found = load("vllm", DEMO).generate(ids, mask, **options)
    expected = load("numpy", DEMO).generate(ids, mask, **options)
    np.testing.assert_array_equal(found, expected)


def test_a_stream_that_is_left_early_leaves_no_request():
    model, pieces = load("vllm", DEMO), []
    for piece in model.stream_text(PROMPTS[0], max_new_tokens=30):
        pieces.append(piece)
        if len(pieces) == 2:
            break
    assert not model.engine.model.llm_engine.has_unfinished_requests()


def test_logits_that_are_not_numbers_are_refused():
    weights = {**tiny_weights(**WIDE), "transformer.ln_f.bias": np.full(128, np.inf, np.float32)}
    params = {name: LazyTensor.of(array) for name, array in weights.items()}
    model = BACKEND.build(tiny_config(**WIDE), "causal_lm", params=params)
    with pytest.raises(NoToken, match="not numbers"):
        model.generate(IDS[:1], max_new_tokens=2, do_sample=False)


def test_heads_of_a_width_that_it_lacks_are_refused():
    with pytest.raises(UnsupportedFeature, match="no heads of 10 numbers, only of 32, 64"):
        tiny_model("vllm")


def test_hidden_states_are_refused():
    with pytest.raises(UnsupportedFeature, match="output_hidden_states"):
        tiny_model("vllm", **WIDE)(IDS, output_hidden_states=True)
