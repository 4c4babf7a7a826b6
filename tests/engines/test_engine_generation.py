"""What engines write: the tokens of the reference decoder, of another system and of NumPy."""

import json

import numpy as np
import pytest

import gptj
from engine_cases import PROMPTS, REQUESTS
from gptj.backends import get_backend
from models import DEMO, load
from paths import GOLDEN

pytestmark = pytest.mark.frameworks

CASES = json.loads((GOLDEN / "generation.json").read_text(encoding="utf-8"))


def describe(case):
    kept = ("max_new_tokens", "pad_token_id")
    return ",".join(f"{k}={v}" for k, v in case["options"].items() if k not in kept)


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_tokens_equal_those_of_another_system(engine, case):
    model = load(engine.name, GOLDEN / case["checkpoint"] / "checkpoint")
    found = model.generate(
        np.array(case["input_ids"]), np.array(case["attention_mask"]), **case["options"]
    )
    np.testing.assert_array_equal(found, case["sequences"])


@pytest.mark.parametrize("batch_size", [1, 12])
def test_greedy_texts_equal_those_of_numpy(engine, batch_size):
    options = {"max_new_tokens": 16, "do_sample": False}
    found = load(engine.name, DEMO).generate_text(PROMPTS, batch_size=batch_size, **options)
    assert found == load("numpy", DEMO).generate_text(PROMPTS, batch_size=12, **options)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_tokens_of_every_mode_equal_those_of_numpy(engine, request_):
    tokenizer = gptj.load_tokenizer("demo")
    batch = tokenizer(list(PROMPTS[:3]), padding=True, return_tensors="np")
    options = {"max_new_tokens": 10, "do_sample": False, **request_}
    found = load(engine.name, DEMO).generate(**batch, **options)
    expected = load("numpy", DEMO).generate(**batch, **options)
    np.testing.assert_array_equal(found, expected)


def test_a_stream_is_the_text_in_pieces(engine):
    model, options = load(engine.name, DEMO), {"max_new_tokens": 12, "do_sample": False}
    pieces = [*model.stream_text(PROMPTS[0], **options)]
    assert len(pieces) > 1
    whole = load("numpy", DEMO).generate_text(PROMPTS[0], strip_prompt=True, **options)
    assert "".join(pieces) == whole


def test_a_stream_may_be_left_early(engine):
    model, options = load(engine.name, DEMO), {"max_new_tokens": 200, "do_sample": False}
    pieces = model.stream_text(PROMPTS[0], **options)
    first = next(pieces)
    pieces.close()
    assert next(model.stream_text(PROMPTS[0], **options)) == first


def test_scores_equal_those_of_numpy(engine):
    found, expected = (load(n, DEMO).score(PROMPTS[:4]) for n in (engine.name, "numpy"))
    for one, true in zip(found, expected, strict=True):
        assert one.token_ids == true.token_ids
        np.testing.assert_allclose(one.logprobs, true.logprobs, rtol=0, atol=2e-5)


def test_a_model_is_saved_as_it_was_loaded(engine, tmp_path):
    load(engine.name, DEMO).save_pretrained(tmp_path / "model")
    inputs = np.array([[1, 2, 3]])
    found = gptj.load(tmp_path / "model", backend="numpy")(inputs).logits
    np.testing.assert_array_equal(found, load("numpy", DEMO)(inputs).logits)


def test_a_vocabulary_of_another_size_is_used(engine):
    model = gptj.load(GOLDEN / "causal_lm" / "checkpoint", backend=engine.name)
    size = model.config.vocab_size + 8
    model.resize_token_embeddings(size)
    other = gptj.load(GOLDEN / "causal_lm" / "checkpoint", backend="numpy")
    other.resize_token_embeddings(size)
    ids = np.array([[size - 1, 3, size - 8]])
    np.testing.assert_allclose(model(ids).logits, other(ids).logits, rtol=0, atol=2e-5)


def test_an_engine_says_what_it_is(engine):
    assert get_backend(engine.name).versions().keys() == {engine.name}
    assert engine.devices()[0].lower() == "cpu"
    assert engine.kernels()["float32"]
