"""CTranslate2: the form of its folder, its own decode loop, and what it must not pass over."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ctranslate2")

import ctranslate2

from engine_cases import IDS
from gptj.backends import get_backend
from gptj.backends.ctranslate2.conversion import fitted_vocabulary, write_model
from gptj.errors import UnsupportedFeature
from gptj.generation.no_token import NoToken
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from models import oracle, run, tiny_config, tiny_model, tiny_weights
from paths import GOLDEN
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

BACKEND = get_backend("ctranslate2")


def lazy(weights):
    return {name: LazyTensor.of(array) for name, array in weights.items()}


def written(folder, tokens=None, quantization=None, **changes):
    """Write a variant of the tiny model, and return its generator."""
    config, params = tiny_config(**changes), lazy(tiny_weights(**changes))
    write_model(folder, config, params, tokens or {}, quantization=quantization)
    return ctranslate2.Generator(str(folder), compute_type=quantization or "float32")


def logits(generator, ids):
    view, lengths = ids.astype(np.int32), np.full(len(ids), ids.shape[1], np.int32)
    views = (ctranslate2.StorageView.from_array(array) for array in (view, lengths))
    return np.asarray(generator.forward_batch(*views))


def test_tied_weights_are_stored_once(tmp_path):
    sizes = []
    for name, tied in (("tied", True), ("untied", False)):
        (tmp_path / name).mkdir()
        written(tmp_path / name, tie_word_embeddings=tied)
        sizes.append((tmp_path / name / "model.bin").stat().st_size)
    config = tiny_config()
    gap = sizes[1] - sizes[0] - config.vocab_size * config.n_embd * 4
    assert abs(gap) < 200  # bytes of names


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_keep_their_dtype(tmp_path, dtype):
    config, weights = tiny_config(), tiny_weights()
    halved = {name: array.astype(np.dtype(dtype)) for name, array in weights.items()}
    write_model(tmp_path, config, lazy(halved), {})
    itemsize = (tmp_path / "model.bin").stat().st_size / sum(a.size for a in weights.values())
    assert 2.0 < itemsize < 2.2
    found = logits(ctranslate2.Generator(str(tmp_path), compute_type="float32"), IDS)
    widened = {name: array.astype(np.float64) for name, array in halved.items()}
    expected = forward(config, widened, input_ids=IDS).logits
    assert_close(found, expected, "engine", "logits")


def test_int8_is_close(tmp_path):
    """As close as eight bits for weights and activations are: see the distance of one row."""
    found = logits(written(tmp_path, quantization="int8"), IDS)
    expected = oracle(input_ids=IDS).logits
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert 1e-4 < error < 0.3


def test_epsilon_and_special_tokens_are_in_the_configuration(tmp_path):
    written(tmp_path, {2: "c"}, layer_norm_epsilon=0.01, eos_token_id=2)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["layer_norm_epsilon"] == 0.01
    assert {config[f"{kind}_token"] for kind in ("bos", "eos", "unk")} == {"c"}


def test_the_vocabulary_has_a_name_for_every_row():
    assert fitted_vocabulary({0: "a", 1: "b", 2: "c"}, 2) == ["a", "b"]
    assert fitted_vocabulary({0: "a", 2: "c"}, 4) == ["a", "<|row_1|>", "c", "<|row_3|>"]
    tokens = {0: "<|row_1|>", 1: "<|row_2|>"}
    assert fitted_vocabulary(tokens, 3) == [*tokens.values(), "<<|row_2|>>"]


@pytest.mark.parametrize("name", ["lm_head.bias", "lm_head.weight"])
def test_a_head_that_is_not_all_numbers_is_refused(tmp_path, name):
    weights = {**tiny_weights(), name: tiny_weights()[name].copy()}
    weights[name][5] = np.nan
    with pytest.raises(UnsupportedFeature, match=f"{name} holds NaN"):
        write_model(tmp_path, tiny_config(), lazy(weights), {})


@pytest.mark.parametrize("is_streamed", [False, True])
def test_logits_that_are_not_numbers_are_refused(is_streamed):
    weights = {**tiny_weights(), "transformer.ln_f.bias": np.full(40, np.inf, np.float32)}
    model = BACKEND.build(tiny_config(), "causal_lm", params=lazy(weights))
    options = {"streamer": Noting()} if is_streamed else {}
    with pytest.raises(NoToken, match="not numbers"):
        model.generate(IDS[:1], max_new_tokens=2, do_sample=False, **options)


class Noting:
    """A streamer that keeps what it gets."""

    def __init__(self):
        self.tokens = []

    def put(self, value):
        self.tokens.append(np.asarray(value))

    def end(self):
        pass


PROMPTS = {
    "one length": [6, 6, 6],
    "several lengths": [9, 2, 5],
    "one token beside others": [1, 7, 1, 4],
    "one token each": [1, 1],
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("lengths", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("fewest", [0, 3])
def test_its_loop_writes_what_the_reference_decoder_does(lengths, side, fewest):
    """Decoded at once and streamed, with ends, padding and a least length."""
    model, other = tiny_model("ctranslate2"), tiny_model("numpy")
    width = max(lengths)
    places = np.arange(width)
    place = width - 1 - places if side == "left" else places
    mask = (place[None] < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.Generator(np.random.PCG64(3)).integers(0, 95, mask.shape)
    free = other.generate(ids, mask, max_new_tokens=9, do_sample=False, eos_token_id=None)
    ends = [int(free[0, width + 2]), int(free[-1, width + 5])]
    options = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": ends, "pad_token_id": 7}
    options["min_new_tokens"] = fewest
    expected = other.generate(ids, mask, **options)
    np.testing.assert_array_equal(model.generate(ids, mask, **options), expected)
    streamer = Noting()
    np.testing.assert_array_equal(model.generate(ids, mask, streamer=streamer, **options), expected)
    assert len(streamer.tokens) > 1


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_least_length_beyond_the_greatest_is_the_greatest(is_streamed):
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    free = tiny_model("numpy").generate(IDS[:1], **options)
    options |= {"eos_token_id": int(free[0, -2]), "min_new_tokens": 5}
    expected = tiny_model("numpy").generate(IDS[:1], **options)
    streamer = {"streamer": Noting()} if is_streamed else {}
    found = tiny_model("ctranslate2").generate(IDS[:1], **options, **streamer)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == free.shape


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_text_for_which_no_token_is_left_is_refused(is_streamed):
    every = list(range(tiny_config().vocab_size))
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": every, "min_new_tokens": 1}
    streamer = {"streamer": Noting()} if is_streamed else {}
    with pytest.raises(NoToken, match="no token"):
        tiny_model("ctranslate2").generate(IDS[:1], **options, **streamer)


STREAMING = """
import sys, gptj

class Streamer:
    put = end = lambda *tokens: None

model = gptj.load(sys.argv[1], backend="ctranslate2")
model.generate([[1, 2]], max_new_tokens=3, do_sample=False, streamer=Streamer())
"""


def test_a_program_that_streams_ends_well():
    """Its engine's thread may not outlive the interpreter: see ``decode.py``."""
    folder = GOLDEN / "causal_lm" / "checkpoint"
    subprocess.run([sys.executable, "-c", STREAMING, str(folder)], check=True)


def test_positions_that_are_not_the_masks_are_refused():
    model = tiny_model("ctranslate2")
    run(BACKEND, model, input_ids=IDS, position_ids=np.arange(IDS.shape[1])[None])
    with pytest.raises(UnsupportedFeature, match="position_ids"):
        run(BACKEND, model, input_ids=IDS, position_ids=np.arange(IDS.shape[1])[None] + 1)


def test_a_cache_has_no_keys_and_values():
    output = run(BACKEND, tiny_model("ctranslate2"), input_ids=IDS, use_cache=True)
    assert len(output.past_key_values) == tiny_config().n_layer
    with pytest.raises(UnsupportedFeature, match="the text alone"):
        output.past_key_values[0]


def test_logits_at_padding_are_zero():
    mask = np.ones_like(IDS)
    mask[1] = 0
    mask[2, :4] = 0
    output = run(BACKEND, tiny_model("ctranslate2"), input_ids=IDS, attention_mask=mask)
    assert not output.logits[mask == 0].any()


def test_a_model_is_converted_once(tmp_path):
    options = {"params": lazy(tiny_weights()), "engine_cache": tmp_path}
    for _ in range(2):
        BACKEND.build(tiny_config(), "causal_lm", **options)
        (folder,) = (tmp_path / "ctranslate2").glob("[0-9a-f]*")
        assert (folder / "model.bin").is_file()


def test_labels_right_after_padding_are_refused():
    model, mask = tiny_model("ctranslate2"), np.ones_like(IDS)
    mask[0, :3] = 0
    labels = np.where(mask != 0, IDS, -100)
    with pytest.raises(UnsupportedFeature, match="labels of tokens right after padding"):
        model(IDS, attention_mask=mask, labels=labels)
    labels[0, 3] = -100
    given = {"input_ids": IDS, "attention_mask": mask, "labels": labels}
    assert_close(run(BACKEND, model, **given).loss, oracle(**given).loss, "engine", "loss")
